"""A uniformly random subset: the baseline that every table carries."""

from dataclasses import dataclass

from limbeck.methods.coreset._coreset import Coreset

__all__ = ["Random"]


@dataclass(frozen=True)
class Random(Coreset):
    """M real pairs, uniformly at random.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> len(lb.distill(problem, Random()))
        4
    """
