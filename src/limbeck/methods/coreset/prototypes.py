"""Prototypes: clusters of images and of texts, matched; the medoid of each match."""

from dataclasses import dataclass

from limbeck.methods.coreset._coreset import Coreset

__all__ = ["Prototypes"]


@dataclass(frozen=True)
class Prototypes(Coreset):
    """M real pairs: k-means in each modality, clusters matched by how many pairs they share, one medoid a match.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> len(lb.distill(problem, Prototypes()))
        4
    """
