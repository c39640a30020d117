"""What coresets have in common: a rule chooses real samples, and nothing is learned."""

from dataclasses import dataclass

from limbeck.core import Method, Problem, Synthetic, chosen_pairs, fitted
from limbeck.objectives.selection import rule

__all__ = ["Coreset"]


@dataclass(frozen=True)
class Coreset(Method):
    """M real pairs, chosen by the rule of `limbeck.objectives.selection` that has the method's name.

    Args:
        per_class: choose equally from each class; by default where the source is labelled and has no text.
    """

    per_class: bool | None = None

    def start(self, problem: Problem) -> Synthetic:
        """Chooses the pairs; there is nothing to improve."""
        return chosen_pairs(problem, fitted(problem, self, rule(self.describe()["name"]), self.per_class))
