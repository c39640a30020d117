"""What matching methods have in common: a set begins as real pairs, and all of its modalities are learned."""

from dataclasses import dataclass

from limbeck.constraints import Count, NotNegative
from limbeck.core import Method, Problem, Synthetic, learned_pairs
from limbeck.objectives.selection import Init, rule

__all__ = ["LearnedPairs"]


@dataclass(frozen=True)
class LearnedPairs(Method):
    """Real pairs, all of whose modalities are learned, texts as vectors.

    Args:
        steps: number of steps.
        lr: learning rate of all but texts.
        lr_text: learning rate of the text embeddings.
        init: which real pairs to start from: random, herding, kcenter, prototypes or kmeans.
        per_class: match class by class; by default where the source is labelled and has no text.
    """

    steps: Count = 100
    lr: NotNegative = 0.001
    lr_text: NotNegative = 0.01
    init: Init = "random"
    per_class: bool | None = None

    @property
    def learns_text(self) -> bool:
        """Text is an embedding."""
        return True

    def start(self, problem: Problem) -> Synthetic:
        """Real pairs, all of whose modalities are learned."""
        return learned_pairs(problem, rule(self.init), self.per_class)
