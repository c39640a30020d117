"""Distances between the moments of two sets, group by group."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["group_mean", "mean_distance"]


def group_mean(
    x: Float[Tensor, "n ..."], group: Int[Tensor, " n"] | None = None, groups: int = 1
) -> Float[Tensor, "g ..."]:
    """The mean over the rows of each group; zero for an empty one.

    Args:
        x: one row a sample.
        group: the group of each row; `None` for one group of all.
        groups: how many groups g there are.

    Example:
        >>> group_mean(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1]), 2).squeeze(1).tolist()
        [2.0, 5.0]
    """
    if group is None:
        return x.mean(0, keepdim=True)
    total = x.new_zeros(groups, *x.shape[1:]).index_add(0, group, x)
    count = torch.bincount(group, minlength=groups).clamp(min=1)
    return total / count.reshape(-1, *[1] * (x.ndim - 1))


def mean_distance(x: Float[Tensor, "g d"], y: Float[Tensor, "g d"]) -> Float[Tensor, ""]:
    """The squared distance of the means of two sets, summed over groups: `sum_g || x_g - y_g ||^2`.

    It is the maximum mean discrepancy with a linear kernel.

    Args:
        x: the means of one set, as `group_mean` returns them.
        y: the means of the other.

    Paper: Zhao and Bilen, Dataset condensation with distribution matching, WACV 2023.

    Example:
        >>> x, y = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[1.0, 3.0]])
        >>> mean_distance(group_mean(x), group_mean(y))
        tensor(9.)
    """
    return (x - y).square().sum()
