"""Principal components of a training set's features, and ridge whitening at any strength from one decomposition."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["PCAWhitener"]

ROWS = 4096  # features that are summed up in double precision at a time


@dataclass(frozen=True)
class PCAWhitener:
    """The leading principal components of the features that a student is trained on, and of nothing else.

    A student sees coordinates in this basis only. What the training set does not span stays unseen, instead of passing
    through weights that no gradient ever reached.

    Args:
        mean: `float [D]`.
        basis: `float [D, R]`, orthonormal columns.
        variance: `float [R]` along each, largest first.
        ridge_unit: the mean variance over all D components, what `ridge` is counted in.

    Example:
        >>> x = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
        >>> z = PCAWhitener.of(x, rank=4).whiten(x, ridge=1.0)
        >>> z.shape, round(z.square().sum(1).mean().item(), 4)
        (torch.Size([50, 4]), 1.0)
    """

    mean: Tensor
    basis: Tensor
    variance: Tensor
    ridge_unit: float

    @classmethod
    def of(cls, x: Float[Tensor, "n d"], rank: int) -> "PCAWhitener":
        """The components of the rows of `x`, at most `rank` of them, without those of no variance."""
        mean = torch.stack([part.double().sum(0) for part in x.split(ROWS)]).sum(0) / len(x)
        parts = (part.double() - mean for part in x.split(ROWS))
        small = len(x) < x.shape[1]  # the Gram matrix has the same spectrum and is the smaller of the two
        if small:
            centred = torch.cat(list(parts))
            square = centred @ centred.T
        else:
            square = mean.new_zeros(len(mean), len(mean))
            for part in parts:
                square.addmm_(part.T, part)
        variance, vectors = torch.linalg.eigh(square / len(x))
        unit = float(variance.clamp(min=0).sum()) / x.shape[1]
        kept = (variance > 1e-6 * variance[-1].clamp(min=1e-12)).nonzero().squeeze(1).flip(0)[:rank]
        variance, vectors = variance[kept], vectors[:, kept]
        basis = centred.T @ vectors / (variance * len(x)).sqrt() if small else vectors
        return cls(mean.float(), basis.float(), variance.float(), unit)

    def to(self, device: str) -> "PCAWhitener":
        """The same components on `device`."""
        return PCAWhitener(self.mean.to(device), self.basis.to(device), self.variance.to(device), self.ridge_unit)

    def whiten(self, x: Float[Tensor, "n d"], ridge: float) -> Float[Tensor, "n r"]:
        """Coordinates `(L + ridge mean(L))^(-1/2) U^T (x - mean)`, scaled to a mean square of one on the training set.

        Args:
            x: features `float [N, D]`.
            ridge: 0 whitens fully, a large one only centres and scales.
        """
        regular = self.variance + ridge * self.ridge_unit
        size = (self.variance / regular).sum().clamp(min=1e-12)
        return (x - self.mean) @ (self.basis / (regular * size).sqrt())
