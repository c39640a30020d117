"""Ridge whitening: a linear map after which no direction drowns the others."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Whitening", "whitening"]


@dataclass(frozen=True)
class Whitening:
    """The map `x -> (x - mean) matrix`.

    Args:
        mean: `float [D]`.
        matrix: `float [D, D]`.
    """

    mean: Tensor
    matrix: Tensor

    def __call__(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Whitened rows."""
        return (x - self.mean) @ self.matrix

    def to(self, device: str) -> "Whitening":
        """The same map on `device`."""
        return Whitening(self.mean.to(device), self.matrix.to(device))


def whitening(x: Float[Tensor, "n d"], ridge: float) -> Whitening:
    """The ridge whitening of a set of vectors, scaled to a mean square of one.

        matrix = U (L + ridge * mean(L))^(-1/2) / sqrt(c),   covariance = U L U^T,   c = sum_d L_d / (L_d + ridge * mean(L))

    Args:
        x: the vectors whose mean and covariance are taken.
        ridge: 0 whitens fully; infinity only centres and scales.

    Example:
        >>> x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([10.0, 1.0, 0.1])
        >>> round(whitening(x, ridge=1.0)(x).square().sum(1).mean().item(), 3)
        1.0
    """
    mean = x.double().mean(0)
    centred = x.double() - mean
    variance, basis = torch.linalg.eigh(centred.T @ centred / len(x))
    variance = variance.clamp(min=0)
    regular = (variance + ridge * variance.mean()).clamp(min=1e-12)
    size = (variance / regular).sum().clamp(min=1e-12)
    return Whitening(mean.to(x), (basis / (regular * size).sqrt()).to(x))
