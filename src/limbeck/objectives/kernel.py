"""Students with a closed form: what kernel ridge regression learns of a small set, differentiably in that set."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["ridge_map", "ridge_tower"]


def ridge_tower(own: Float[Tensor, "m d"], points: Float[Tensor, "n d"], ridge: float) -> Float[Tensor, "n m"]:
    """What a linear tower, fitted to tell the m own vectors apart, says of other points.

        tower(x) = (K + ridge * tr(K)/m I)^-1 k(x),   K = Z Z^T,   k(x) = Z (x - mean),   Z = own - mean

    Component i says how much x is like vector i: the tower is the ridge regression from own vectors to the identity. Fitted to
    both modalities of m pairs, an image and a text that belong together are near the same pairs; the scalar product of
    their towers is `x^T Sxx^-1 Sxy Syy^-1 y`, regularised, with the covariances S of the pairs.

    Args:
        own: vectors of the small set.
        points: where to read the tower.
        ridge: in units of the mean variance of the set's m components.

    Paper: Nguyen, Chen and Lee, Dataset meta-learning from kernel ridge-regression, ICLR 2021.

    Example:
        >>> ridge_tower(torch.eye(2), torch.eye(2), ridge=0.0001).round(decimals=2)
        tensor([[ 0.5000, -0.5000],
                [-0.5000,  0.5000]])
    """
    mean = own.mean(0)
    return (points - mean) @ ridge_map(own, ridge)


def ridge_map(own: Float[Tensor, "m d"], ridge: float) -> Float[Tensor, "d m"]:
    """The matrix of `ridge_tower`, which is linear: `tower(x) = (x - mean)^T W`.

        W = Z^T (Z Z^T + l I)^-1 = (Z^T Z + l I)^-1 Z^T,   l = ridge * tr(Z Z^T)/m

    The smaller of the two systems is solved, so that nothing here is larger than `own` and the square of its shorter side.

    Args:
        own, ridge: see `ridge_tower`.

    Example:
        >>> own = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        >>> ridge_map(own, ridge=2.0)
        tensor([[ 0.2500, -0.2500],
                [ 0.0000,  0.0000]])
    """
    centred = own - own.mean(0)
    level = (ridge * centred.square().sum(1).mean()).clamp(min=1e-12)
    short = len(own) <= own.shape[1]
    square = centred @ centred.T if short else centred.T @ centred
    regular = square + level * torch.eye(len(square), dtype=own.dtype, device=own.device)
    found: Tensor = torch.linalg.solve(regular, centred if short else centred.T)
    return found.T if short else found
