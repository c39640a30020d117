"""Herding: real pairs whose mean stays closest to the mean of all."""

from dataclasses import dataclass

from limbeck.methods.coreset._coreset import Coreset

__all__ = ["Herding"]


@dataclass(frozen=True)
class Herding(Coreset):
    """M real pairs chosen greedily so that their mean joint embedding stays closest to that of all pairs.

    Paper: Welling, Herding dynamical weights to learn, ICML 2009.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> len(lb.distill(problem, Herding()))
        4
    """
