"""k-center: real pairs that cover all others within the smallest radius."""

from dataclasses import dataclass

from limbeck.core import Method, Problem, Synthetic, chosen_pairs, fitted
from limbeck.objectives import selection

__all__ = ["KCenter"]


@dataclass(frozen=True)
class KCenter(Method):
    """M real pairs chosen by farthest-point greedy in the joint embedding.

    Args:
        per_class: choose equally from each class; by default where the source is labelled and has no text.

    Paper: Sener and Savarese, Active learning for convolutional neural networks: a core-set approach, ICLR 2018.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> len(lb.distill(problem, KCenter()))
        4
    """

    per_class: bool | None = None

    def start(self, problem: Problem) -> Synthetic:
        """Chooses the pairs; there is nothing to improve."""
        return chosen_pairs(problem, fitted(problem, self, selection.kcenter, self.per_class))
