"""How varied a set is, and how much of the real data it covers, in the space of frozen features."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["density_and_coverage", "vendi"]

ROUNDING = 1e-7  # of distances between unit vectors, as matrix products in double precision give them


def vendi(vectors: Float[Tensor, "n d"]) -> float:
    """The effective number of different samples: 1 for n equal ones, n for n that have nothing in common.

        exp(-sum_i l_i log l_i),    l: eigenvalues of K / n,  K_ij = <x_i, x_j>

    Args:
        vectors: unit vectors.

    Paper: Friedman and Dieng, The Vendi score: a diversity evaluation metric for machine learning, TMLR 2023.

    Example:
        >>> round(vendi(torch.eye(5)), 4), round(vendi(torch.eye(5)[[2, 2, 2]]), 4)
        (5.0, 1.0)
    """
    x = vectors.double()
    gram = x @ x.T if len(x) <= x.shape[1] else x.T @ x  # both have the same eigenvalues, but for zeros
    share = torch.linalg.eigvalsh(gram / len(x)).clamp(min=0)
    return float(torch.special.entr(share).sum().exp())


def density_and_coverage(real: Float[Tensor, "n d"], fake: Float[Tensor, "m d"], k: int = 5) -> tuple[float, float]:
    """How deep in the real data the samples of a set lie, and which share of the real data has one of them near.

        density  = 1 / (k M) sum_j #{i : |y_j - x_i| <= r_i}
        coverage = 1 / N     #{i : some j has |y_j - x_i| <= r_i}       r_i: from x_i to its k-th nearest other real sample

    Density is 1 on average where both are of one kind, and unbounded above. Of as many samples of one kind coverage is about 1 - 2^-k.

    Args:
        real, fake: N and M vectors.
        k: neighbours that make a sample's surroundings; one fewer than there are real samples, at most.

    Paper: Naeem et al., Reliable fidelity and diversity metrics for generative models, ICML 2020.

    Example:
        >>> x = torch.arange(8.0)[:, None]
        >>> density_and_coverage(x, x[:4], k=1), density_and_coverage(x, x + 100, k=1)
        ((2.75, 0.625), (0.0, 0.0))
    """
    x, y = real.double(), fake.double()
    radius = torch.cdist(x, x).fill_diagonal_(torch.inf).kthvalue(k, dim=1).values
    inside = torch.cdist(y, x) <= radius + ROUNDING
    return float(inside.double().sum() / (k * len(fake))), float(inside.any(0).double().mean())
