"""Herding: real pairs whose mean stays closest to the mean of all."""

from dataclasses import dataclass

from limbeck.core import Method, Problem, Synthetic, chosen_pairs, fitted
from limbeck.objectives import selection

__all__ = ["Herding"]


@dataclass(frozen=True)
class Herding(Method):
    """M real pairs chosen greedily so that their mean joint embedding stays closest to that of all pairs.

    Args:
        per_class: choose equally from each class; by default where the source is labelled and has no text.

    Paper: Welling, Herding dynamical weights to learn, ICML 2009.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> len(lb.distill(problem, Herding()))
        4
    """

    per_class: bool | None = None

    def start(self, problem: Problem) -> Synthetic:
        """Chooses the pairs; there is nothing to improve."""
        return chosen_pairs(problem, fitted(problem, self, selection.herding, self.per_class))
