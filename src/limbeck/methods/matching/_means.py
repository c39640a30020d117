"""What `dm` and `avdd` have in common: means under random networks, and stochastic gradient descent."""

from dataclasses import dataclass

from torch.optim import SGD, Optimizer

from limbeck.constraints import Count, NotNegative
from limbeck.core import Synthetic
from limbeck.data.augment import OPERATIONS, Augment
from limbeck.methods.matching._learned_pairs import LearnedPairs
from limbeck.methods.matching._row_adam import rates

__all__ = ["MeanMatching"]


@dataclass(frozen=True)
class MeanMatching(LearnedPairs):
    """Matches means of features under new random ConvNets at every step.

    Args:
        batch: real samples a class and step.
        momentum: of both learning rates.
        width: channels of the random ConvNets.
        augment: Siamese operations to draw from, for images alone; empty for none.
    """

    steps: Count = 1000
    batch: Count = 256
    momentum: NotNegative = 0.5
    width: Count = 128
    augment: Augment = tuple(OPERATIONS)

    def optimizer(self, synthetic: Synthetic) -> Optimizer:
        """Stochastic gradient descent with momentum; every class has a gradient at every step."""
        return SGD(rates(synthetic, self.lr, self.lr_text), lr=self.lr, momentum=self.momentum)
