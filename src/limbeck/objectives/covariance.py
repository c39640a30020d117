"""Covariances between modalities, and what a linear contrastive student reads of them.

With similarities `s_ij = <G image_i, H text_j>` the linear contrastive loss, the mean of `s_ij - s_ii` over all i != j, is

    -Tr(G C H^T),   C = 1/(n-1) sum_i (image_i - mean) (text_i - mean)^T,

so that all such a student can learn of a set of pairs is its cross-covariance C.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["covariance_angle", "covariance_distance", "cross_covariance", "indexed_covariance", "linear_contrastive"]


def cross_covariance(x: Float[Tensor, "n a"], y: Float[Tensor, "n b"]) -> Float[Tensor, "a b"]:
    """`1/(n-1) sum_i (x_i - mean x) (y_i - mean y)^T`; its rank is at most n - 1. For y = x it is the covariance.

    Args:
        x: vectors of one modality.
        y: the vectors of another that belong to them, row by row.

    Example:
        >>> x = torch.tensor([[0.0], [2.0]])
        >>> cross_covariance(x, -x)
        tensor([[-2.]])
    """
    return (x - x.mean(0)).T @ (y - y.mean(0)) / max(len(x) - 1, 1)


def indexed_covariance(
    x: Float[Tensor, "u a"], y: Float[Tensor, "v b"], of_x: Int[Tensor, " n"], of_y: Int[Tensor, " n"]
) -> Float[Tensor, "a b"]:
    """`cross_covariance(x[of_x], y[of_y])` for many pairs of few vectors, without a copy of either.

    Args:
        x: vectors of one modality.
        y: vectors of another.
        of_x: the row of x of each pair.
        of_y: the row of y of each pair.

    Example:
        >>> x, rows = torch.tensor([[0.0], [2.0], [9.0]]), torch.tensor([0, 1])
        >>> indexed_covariance(x, x, rows, rows)
        tensor([[2.]])
    """
    share_x, share_y = (torch.bincount(i, minlength=len(z)).to(z) / len(i) for i, z in ((of_x, x), (of_y, y)))
    ones = torch.ones(len(of_x), dtype=x.dtype, device=x.device)
    pairs = torch.sparse_coo_tensor(torch.stack([of_x, of_y]), ones, (len(x), len(y)), check_invariants=True)
    return (x - share_x @ x).T @ (pairs @ (y - share_y @ y)) / max(len(of_x) - 1, 1)


def covariance_distance(
    own: Float[Tensor, "a b"], target: Float[Tensor, "a b"], rho: float = 1.0, relative: bool = True
) -> Float[Tensor, ""]:
    """`||rho C_T - C_S||_F^2 / ||C_T||_F^2`: zero where the set's covariance is rho times the target.

    Args:
        own: covariance of the synthetic set.
        target: covariance of the real data.
        rho: how much larger the set's is to be. Of the closed form `G^T H = C / rho` of the linear loss with penalty
            `rho/2 ||G^T H||^2`.
        relative: divide by the size of the target; the paper does not.

    Paper: CovMatch, arXiv 2510.18583.

    Example:
        >>> covariance_distance(torch.eye(2), torch.eye(2))
        tensor(0.)
    """
    distance = (rho * target - own).square().sum()
    return distance / target.square().sum() if relative else distance


def covariance_angle(own: Float[Tensor, "a b"], target: Float[Tensor, "a b"]) -> Float[Tensor, ""]:
    """`1 - <C_S, C_T> / (||C_S|| ||C_T||)`: the direction alone. A small set always overstates the size.

    Args:
        own: covariance of the synthetic set.
        target: covariance of the real data.

    Example:
        >>> covariance_angle(3 * torch.eye(2), torch.eye(2)).abs() < 1e-6
        tensor(True)
    """
    cosine: Tensor = (own * target).sum() / (own.norm() * target.norm()).clamp(min=1e-12)
    return 1 - cosine


def linear_contrastive(image: Float[Tensor, "n d"], text: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """The linear contrastive loss: the mean over i != j of `s_ij - s_ii` and of `s_ji - s_ii`, halved; `s_ij = <image_i, text_j>`.

    Args:
        image: projected images.
        text: projected texts.

    Example:
        >>> linear_contrastive(torch.eye(2), torch.eye(2))
        tensor(-1.)
    """
    s = image @ text.T
    own, others = s.diagonal(), len(s) * (len(s) - 1)
    return ((s - own[:, None]).sum() + (s.T - own[:, None]).sum()) / (2 * others)
