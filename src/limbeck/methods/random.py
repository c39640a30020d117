"""A uniformly random subset: the baseline that every table carries."""

from dataclasses import dataclass

from limbeck.core import Method, Problem, Synthetic, chosen_pairs, fitted
from limbeck.objectives import selection

__all__ = ["Random"]


@dataclass(frozen=True)
class Random(Method):
    """M real pairs, uniformly at random.

    Args:
        per_class: choose equally from each class; by default where the source is labelled and has no text.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> len(lb.distill(problem, Random()))
        4
    """

    per_class: bool | None = None

    def start(self, problem: Problem) -> Synthetic:
        """Chooses the pairs; there is nothing to improve."""
        return chosen_pairs(problem, fitted(problem, self, selection.random, self.per_class))
