"""The probability simplex: where the soft labels of a sample lie."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["project_simplex"]


def project_simplex(rows: Float[Tensor, "m c"]) -> Float[Tensor, "m c"]:
    """The point of the simplex nearest to each row: nothing below zero, sum one.

        p_c = max(x_c - h, 0),   h such that sum_c p_c = 1

    Args:
        rows: any finite numbers.

    Paper: Duchi et al., Efficient projections onto the l1-ball for learning in high dimensions, ICML 2008.

    Example:
        >>> project_simplex(torch.tensor([[1.5, 0.5, -1.0], [0.2, 0.3, 0.5]])).round(decimals=4)
        tensor([[1.0000, 0.0000, 0.0000],
                [0.2000, 0.3000, 0.5000]])
    """
    ordered = rows.sort(dim=1, descending=True).values
    count = torch.arange(1, rows.shape[1] + 1, dtype=rows.dtype, device=rows.device)
    level = (ordered.cumsum(1) - 1) / count
    last = (ordered > level).sum(1, keepdim=True) - 1
    return (rows - level.gather(1, last)).clamp(min=0)
