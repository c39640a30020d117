"""Students with a closed form: what kernel ridge regression learns of a small set, differentiably in that set."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["ridge_tower"]


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
    centred = own - mean
    kernel = centred @ centred.T
    level = (ridge * kernel.diagonal().mean()).clamp(min=1e-12)
    regular = kernel + level * torch.eye(len(own), dtype=own.dtype, device=own.device)
    tower: Tensor = torch.linalg.solve(regular, centred @ (points - mean).T).T
    return tower
