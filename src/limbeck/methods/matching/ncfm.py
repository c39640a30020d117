"""NCFM: matches the characteristic function of each modality, modulus and phase, in its root form."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from limbeck.constraints import Count, Share
from limbeck.core import Problem, Synthetic
from limbeck.methods.matching._characteristic import CharacteristicMatching
from limbeck.methods.matching._targets import CharacteristicTargets
from limbeck.methods.matching._views import Views
from limbeck.objectives.characteristic import root_distance

__all__ = ["NCFM"]


@dataclass(frozen=True)
class NCFM(CharacteristicMatching):
    """Matches the characteristic function of each modality by itself: the parent of `imagebind_dc`, blind to what ties modalities.

        L = sum_c sum_m mean_k sqrt(a (|Phi_S| - |Phi_T|)^2 + 2 (1 - a) (|Phi_S| |Phi_T| - Re Phi_S conj(Phi_T)))(t_k)

    The modulus of Phi tells how the vectors are spread, its phase where they lie. The space is frozen, and real samples are encoded
    once. The published method works on images, draws networks between a random and a trained state, and adds a step of
    cross-entropy through a trained one; its learned frequencies, which its own configurations leave off, are not here.

    Args:
        frequencies: K Gaussian frequencies, 1 or more.
        amplitude: a, the weight of the modulus; the phase has 1 - a.
        steps, lr, lr_text, init, per_class, bank, batch, scale, augment, views: see `imagebind_dc`.

    Paper: Wang et al., Dataset distillation with neural characteristic function, CVPR 2025, arXiv 2502.20653.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> len(lb.distill(problem, NCFM(steps=2, frequencies=64)))
        4
    """

    frequencies: Count = 1024
    amplitude: Share = 0.5

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | Tensor]:
        """Encodes the synthetic samples, and compares their characteristic functions with those of the real data, group by group."""
        matching = self._targets.at(problem, t)
        distance = partial(root_distance, alpha=self.amplitude, beta=1 - self.amplitude)
        terms = dict.fromkeys(problem.modalities, torch.zeros((), device=problem.device))
        groups = list(matching.groups(synthetic, self.per_class))
        for group in groups:
            for name, value in matching.terms(group, distance).items():
                terms[name] = terms[name] + value / len(groups)
        loss = torch.stack([*terms.values()]).sum()
        loss.backward()
        return {"loss": loss.detach(), **{name: value.detach() for name, value in terms.items()}}

    @property
    def _targets(self) -> CharacteristicTargets:
        return CharacteristicTargets(
            self.frequencies, self.bank, self.batch, Views(self.augment, self.views), self.scale
        )
