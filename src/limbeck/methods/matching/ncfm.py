"""NCFM: matches the characteristic function of each modality, modulus and phase, in its root form."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from torch import Tensor
from torch.optim import Optimizer

from limbeck.constraints import Count, Ge, NotNegative, Share
from limbeck.core import Method, Problem, Synthetic, learned_pairs
from limbeck.data.augment import Augment
from limbeck.methods.matching._row_adam import RowAdam, rates
from limbeck.methods.matching._targets import UNBANKED, Laws
from limbeck.methods.matching._views import AUGMENTED, Views
from limbeck.objectives.characteristic import root_distance
from limbeck.objectives.selection import Init, rule

__all__ = ["NCFM"]


@dataclass(frozen=True)
class NCFM(Method):
    """Matches the characteristic function of each modality by itself: the parent of `imagebind_dc`, blind to what ties modalities.

        L = sum_c sum_m mean_k sqrt(a (|Phi_S| - |Phi_T|)^2 + 2 (1 - a) (|Phi_S| |Phi_T| - Re Phi_S conj(Phi_T)))(t_k)

    The modulus of Phi tells how the vectors are spread, its phase where they lie. The space is frozen, and real samples are encoded
    once. The published method works on images, draws networks between a random and a trained state, and adds a step of
    cross-entropy through a trained one; its learned frequencies, which its own configurations leave off, are not here.

    Args:
        steps: number of steps.
        frequencies: K Gaussian frequencies.
        bank: sets of frequencies that are drawn once and used in turn, at which the real functions are computed once, over all
            real pairs; 0 draws anew at each step.
        batch: real pairs a class and step, at most, where there is no bank.
        scale: of the frequencies, in units of 1 / (median distance of real embeddings).
        amplitude: a, the weight of the modulus; the phase has 1 - a.
        lr: learning rate (RowAdam), in units of the range of a modality. Larger ones make images that no other encoder can read;
            plain vectors take 0.01 and more.
        lr_text: learning rate of the text embeddings.
        init: which real pairs to start from: random, herding, kcenter, prototypes or kmeans.
        augment: Siamese operations to draw from, for images alone; empty for none.
        views: augmented views of the real images that are encoded and kept.
        per_class: match class by class; by default where the source is labelled and has no text.

    Paper: Wang et al., Dataset distillation with neural characteristic function, CVPR 2025, arXiv 2502.20653.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> len(lb.distill(problem, NCFM(steps=2, frequencies=64)))
        4
    """

    pools = "drawn"

    steps: Count = 100
    frequencies: Count = 1024
    bank: Annotated[int, Ge(0)] = 8
    batch: Annotated[Count, UNBANKED] = 4096
    scale: Annotated[float, Ge(1e-6)] = 1.0
    amplitude: Share = 0.5
    lr: NotNegative = 0.001
    lr_text: NotNegative = 0.01
    init: Init = "random"
    augment: Augment = ()
    views: Annotated[Count, AUGMENTED] = 8
    per_class: bool | None = None

    @property
    def learns_text(self) -> bool:
        """Text is an embedding."""
        return True

    def rate(self, t: int) -> float:
        """Cosine decay to zero."""
        return self.cosine(t)

    def start(self, problem: Problem) -> Synthetic:
        """Real pairs, all of whose modalities are learned."""
        synthetic = learned_pairs(problem, rule(self.init), self.per_class)
        self._laws.warn_of_noise(problem, len(synthetic), self.per_class)
        return synthetic

    def prepares(self, problem: Problem) -> tuple[float, int]:
        """Those of the augmented views."""
        return self._laws.views.cost(problem, self.steps)

    def optimizer(self, synthetic: Synthetic) -> Optimizer:
        """Adam that leaves a class without a gradient alone."""
        return RowAdam(rates(synthetic, self.lr, self.lr_text))

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | Tensor]:
        """Encodes the synthetic samples, and compares their laws with those of the real data, group by group."""
        look = self._laws.at(problem, t)
        distance = partial(root_distance, alpha=self.amplitude, beta=1 - self.amplitude)
        terms = dict.fromkeys(problem.modalities, torch.zeros((), device=problem.device))
        groups = list(look.groups(synthetic, self.per_class))
        for group in groups:
            for name, value in look.terms(group, distance).items():
                terms[name] = terms[name] + value / len(groups)
        loss = torch.stack([*terms.values()]).sum()
        loss.backward()
        return {"loss": loss.detach(), **{name: value.detach() for name, value in terms.items()}}

    @property
    def _laws(self) -> Laws:
        return Laws(self.frequencies, self.bank, self.batch, Views(self.augment, self.views), self.scale)
