"""Whitened real features, derived once for a problem."""

from torch import Tensor

from limbeck.core.problem import Problem
from limbeck.objectives.whitening import Whitening, whitening

__all__ = ["whitened", "whitening_of"]


def whitening_of(problem: Problem, modality: str, ridge: float) -> Whitening:
    """The ridge whitening of a modality's real features, on the problem's device.

    Args:
        problem: whose candidates' features are whitened, each once.
        modality: which.
        ridge: in units of the mean variance.
    """

    def make() -> Whitening:
        rows = problem.candidates.rows[modality].unique()
        return whitening(problem.features[modality].vectors[rows], ridge).to(problem.device)

    return problem.once(("whitening", modality, ridge), make)


def whitened(problem: Problem, modality: str, ridge: float) -> Tensor:
    """All real features of a modality, whitened: `float [R, D]`, on the problem's device.

    Args:
        problem: whose features.
        modality: which.
        ridge: in units of the mean variance.
    """

    def make() -> Tensor:
        vectors = problem.features[modality].vectors.to(problem.device)
        return whitening_of(problem, modality, ridge)(vectors)

    return problem.once(("whitened", modality, ridge), make)
