"""What `ncfm` and `imagebind_dc` have in common: characteristic functions of real data, by group, at frequencies that may be banked."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated

from torch.optim import Optimizer

from limbeck.constraints import Count, Ge
from limbeck.core import Problem, Synthetic
from limbeck.data.augment import Augment
from limbeck.methods.matching._learned_pairs import LearnedPairs
from limbeck.methods.matching._row_adam import RowAdam, rates
from limbeck.methods.matching._targets import UNBANKED, CharacteristicTargets
from limbeck.methods.matching._views import AUGMENTED

__all__ = ["CharacteristicMatching"]


@dataclass(frozen=True)
class CharacteristicMatching(LearnedPairs):
    """Matches characteristic functions of frozen embeddings, group by group.

    Args:
        frequencies: K Gaussian frequencies.
        bank: sets of frequencies that are drawn once and used in turn, at which the real functions are computed once, over all
            real pairs; 0 draws anew at each step.
        batch: real pairs a class and step, at most, where there is no bank.
        scale: of the frequencies, in units of 1 / (median distance of real embeddings).
        lr: learning rate (RowAdam), in units of the range of a modality. Larger ones make images that no other encoder can read;
            plain vectors take 0.01 and more.
        augment: Siamese operations to draw from, for images alone; empty for none.
        views: augmented views of the real images that are encoded and kept.
    """

    pools = "drawn"

    frequencies: Annotated[int, Ge(0)] = 1024
    bank: Annotated[int, Ge(0)] = 8
    batch: Annotated[Count, UNBANKED] = 4096
    scale: Annotated[float, Ge(1e-6)] = 1.0
    augment: Augment = ()
    views: Annotated[Count, AUGMENTED] = 8

    @property
    @abstractmethod
    def _targets(self) -> CharacteristicTargets:
        """Which functions of the real data are compared."""

    def lr_schedule(self, t: int) -> float:
        """Cosine decay to zero."""
        return self.cosine(t)

    def start(self, problem: Problem) -> Synthetic:
        """Real pairs, all of whose modalities are learned."""
        synthetic = super().start(problem)
        self._targets.warn_of_noise(problem, len(synthetic), self.per_class)
        return synthetic

    def preparation_cost(self, problem: Problem) -> tuple[float, int]:
        """Those of the augmented views."""
        return self._targets.views.cost(problem, self.steps)

    def optimizer(self, synthetic: Synthetic) -> Optimizer:
        """Adam that leaves a class without a gradient alone."""
        return RowAdam(rates(synthetic, self.lr, self.lr_text))
