"""k-center: real pairs that cover all others within the smallest radius."""

from dataclasses import dataclass

from limbeck.methods.coreset._coreset import Coreset

__all__ = ["KCenter"]


@dataclass(frozen=True)
class KCenter(Coreset):
    """M real pairs chosen by farthest-point greedy in the joint embedding.

    Paper: Sener and Savarese, Active learning for convolutional neural networks: a core-set approach, ICLR 2018.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> len(lb.distill(problem, KCenter()))
        4
    """
