"""Characteristic functions: the law of a set of vectors, seen through random frequencies.

    Phi_X(t) = mean_i exp(i <t, x_i>)

The squared distance averaged over Gaussian frequencies `t ~ N(0, s^2 I)` is the squared maximum mean discrepancy with the
kernel `exp(-s^2 |x - y|^2 / 2)`: the frequency law *is* the kernel. For several modalities with concatenated frequencies
the projection of the concatenation is the sum of the projections, so one matrix product a modality serves the marginal and
the joint law.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.objectives.moments import group_mean

__all__ = ["characteristic", "characteristic_distance", "gaussian_discrepancy"]


def characteristic(
    projection: Float[Tensor, "n k"], group: Int[Tensor, " n"] | None = None, groups: int = 1
) -> Float[Tensor, "g k 2"]:
    """The empirical characteristic function of each group of rows: mean cosine and mean sine.

    Args:
        projection: `<t_k, x_i>` for each row i and frequency k.
        group: the group of each row; `None` for one group of all.
        groups: how many groups g there are.

    Returns:
        real and imaginary parts; zero for an empty group.

    Example:
        >>> characteristic(torch.zeros(3, 1))[0, 0].tolist()
        [1.0, 0.0]
    """
    waves = torch.stack([projection.cos(), projection.sin()], dim=-1)
    return group_mean(waves, group, groups)


def characteristic_distance(x: Float[Tensor, "g k 2"], y: Float[Tensor, "g k 2"]) -> Float[Tensor, ""]:
    """The squared distance of two characteristic functions: mean over frequencies and groups of `|Phi_X - Phi_Y|^2`.

    The squared form is smooth where the two agree, has no cancellation in single precision, and does not grow with the
    number of frequencies.

    Args:
        x: as `characteristic` returns it.
        y: likewise, at the same frequencies.

    Example:
        >>> p = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
        >>> characteristic_distance(characteristic(p), characteristic(p.flip(0))) < 1e-12
        tensor(True)
    """
    return (x - y).square().sum(-1).mean()


def gaussian_discrepancy(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], scale: float) -> Float[Tensor, ""]:
    """The limit of `characteristic_distance` for infinitely many frequencies `t ~ N(0, scale^2 I)`, in closed form.

        mean k(x, x') + mean k(y, y') - 2 mean k(x, y),   k(a, b) = exp(-scale^2 |a - b|^2 / 2)

    Args:
        x: one set.
        y: the other.
        scale: standard deviation of the frequencies.

    Example:
        >>> x = torch.eye(3)
        >>> gaussian_discrepancy(x, x, 1.0).item()
        0.0
    """

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        square = (a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T).clamp(min=0)
        return square.mul(-(scale**2) / 2).exp().mean()

    return kernel(x, x) + kernel(y, y) - 2 * kernel(x, y)
