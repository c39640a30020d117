"""Prototypes: clusters of images and of texts, matched; the medoid of each match."""

from dataclasses import dataclass

from limbeck.core import Method, Problem, Synthetic, chosen_pairs, fitted
from limbeck.objectives import selection

__all__ = ["Prototypes"]


@dataclass(frozen=True)
class Prototypes(Method):
    """M real pairs: k-means in each modality, clusters matched by how many pairs they share, one medoid a match.

    Args:
        per_class: choose equally from each class; by default where the source is labelled and has no text.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> len(lb.distill(problem, Prototypes()))
        4
    """

    per_class: bool | None = None

    def start(self, problem: Problem) -> Synthetic:
        """Chooses the pairs; there is nothing to improve."""
        return chosen_pairs(problem, fitted(problem, self, selection.prototypes, self.per_class))
