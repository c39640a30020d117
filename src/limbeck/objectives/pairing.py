"""What ties two modalities of one space: sums of paired vectors, mixtures of real and synthetic ones, products.

They read which row of one modality belongs to which row of the other, in four ways; `characteristic` compares laws of
what they give. Products, and sums of real with synthetic vectors, need the two modalities to share their coordinates.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["Moments", "avdd_distance", "cosine_terms", "hybrid_sums", "pair_moments", "pair_sum"]

Moments = tuple[Float[Tensor, " d"], Float[Tensor, " d"], Float[Tensor, " d"]]


def pair_sum(x: Float[Tensor, "n a"], y: Float[Tensor, "n b"]) -> Float[Tensor, "n c"]:
    """`x_i + y_i`, the narrower padded with zeros; its law is the joint one at frequencies that both modalities share.

    Args:
        x: vectors of one modality.
        y: the vectors of another that belong to them, row by row.

    Example:
        >>> import torch
        >>> pair_sum(torch.ones(1, 2), torch.ones(1, 3))
        tensor([[2., 2., 1.]])
    """
    width = max(x.shape[1], y.shape[1])
    return F.pad(x, (0, width - x.shape[1])) + F.pad(y, (0, width - y.shape[1]))


def hybrid_sums(
    real: tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]], own: tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Hybrid pairs: `a_i + w_i` and `v_i + b_i`, whose laws are to agree. The n real pairs are a draw; row i goes with row i.

    For independent rows both laws are products of marginal ones, and nothing of the real pairing is left. What is left in
    a finite draw, as the same row i stands on both sides, falls with 1/n.

    Args:
        real: real vectors (a, v) of two modalities.
        own: synthetic ones (b, w), as many.

    Paper: ImageBindDC, arXiv 2511.08263.

    Example:
        >>> import torch
        >>> x, one = torch.zeros(1, 2), torch.ones(1, 2)
        >>> hybrid_sums((x, one), (x, one))
        (tensor([[1., 1.]]), tensor([[1., 1.]]))
    """
    return real[0] + own[1], real[1] + own[0]


def pair_moments(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> Moments:
    """`(mean_i x_i, mean_i y_i, mean_i x_i * y_i)`: all that `cosine_terms` reads of a set.

    Args:
        x: vectors of one modality.
        y: the vectors of another that belong to them, row by row.

    Example:
        >>> import torch
        >>> pair_moments(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [0.0]]))
        (tensor([2.]), tensor([1.]), tensor([1.]))
    """
    return x.mean(0), y.mean(0), (x * y).mean(0)


def cosine_terms(real: Moments, own: Moments, divided: bool = True) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The cross and joint terms as published, from `pair_moments`.

        cross = 1 - cos(mean_i a_i * v_i, mean_j b_j * w_j),    joint = 1 - <mean a * mean w, mean v * mean b>

    Neither is a distance: they are not least, and the second not even bounded, where the sets are equal; they reward large
    products. The cross term sees how much the two modalities agree coordinate by coordinate, the joint one only means.

    Args:
        real: of the real set (a, v).
        own: of the synthetic set (b, w).
        divided: divide by the norms, as in the paper; its code takes the inner product.

    Paper: ImageBindDC, arXiv 2511.08263.

    Example:
        >>> import torch
        >>> one = torch.ones(4)
        >>> cosine_terms((one, one, one), (one, one, one))
        (tensor(0.), tensor(-3.))
    """
    (a, v, av), (b, w, bw) = real, own
    product = F.cosine_similarity(av, bw, dim=0) if divided else av @ bw
    return 1 - product, 1 - (a * w) @ (v * b)


def avdd_distance(
    x: Sequence[Float[Tensor, " _"]], y: Sequence[Float[Tensor, " _"]], icm: float = 10.0, cgm: float = 10.0
) -> Float[Tensor, ""]:
    """AVDD of the means of one class: base, implicit cross-matching and cross-modal gap matching, over all pairs of modalities.

        sum_m |d_m|^2 + sum_(m < n) icm |d_m + d_n|^2 + cgm |d_m - d_n|^2,    d_m = x_m - y_m

    Only means have a say, so the pairing has none. By the parallelogram law icm = cgm = c gives the base `1 + 2 c (M - 1)`
    times, for M modalities: 21 times at the published 10 and two modalities. Where widths differ, the narrower is padded with zeros.

    Args:
        x: the mean of each modality in one set.
        y: the same in the other.
        icm: weight of the sums.
        cgm: weight of the differences.

    Paper: Kushwaha et al., Audio-visual dataset distillation, TMLR 2024.

    Example:
        >>> import torch
        >>> avdd_distance([torch.ones(2), torch.zeros(2)], [torch.zeros(2), torch.zeros(2)])
        tensor(42.)
    """
    gaps = [(p - q)[None] for p, q in zip(x, y, strict=True)]
    loss = sum((gap.square().sum() for gap in gaps[1:]), start=gaps[0].square().sum())
    for i, gap in enumerate(gaps):
        for other in gaps[:i]:
            loss = loss + icm * pair_sum(gap, other).square().sum() + cgm * pair_sum(gap, -other).square().sum()
    return loss
