"""Characteristic functions: the law of a set of vectors, seen through frequencies.

    Phi_X(t) = mean_i exp(i <t, x_i>)

For several modalities with one block of frequencies each, the projection of the concatenation is the sum of the blocks'
projections. The *dependence* is what the joint law has beyond the product of its marginals,

    Psi_X(t) = mean_i exp(i sum_m <t_m, x_m,i>) - prod_m mean_i exp(i <t_m, x_m,i>),

zero exactly where the modalities are independent: it is the tie between them, and nothing else.

Averaged over Gaussian frequencies `t ~ N(0, s^2 I)` inner products of these functions have closed forms in the kernel
`k(x, y) = exp(-s^2 |x - y|^2 / 2)`: the frequency law *is* the kernel. Squared distances follow, `|a - b|^2 = <a, a> + <b, b>
- 2 <a, b>`. The closed form is infinitely many frequencies at the price of few.
"""

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Complex, Float
from torch import Tensor

__all__ = [
    "characteristic",
    "dependence",
    "dependence_product",
    "gaussian_kernel",
    "square_distance",
]


def characteristic(projection: Float[Tensor, "n k"]) -> Complex[Tensor, " k"]:
    """The empirical characteristic function at K frequencies: `mean_i exp(i <t_k, x_i>)`.

    Args:
        projection: `<t_k, x_i>` for each row i and frequency k.

    Example:
        >>> characteristic(torch.zeros(3, 1))
        tensor([1.+0.j])
    """
    return torch.complex(projection.cos().mean(0), projection.sin().mean(0))


def dependence(projections: Sequence[Float[Tensor, "n k"]]) -> Complex[Tensor, " k"]:
    """The joint characteristic function less the product of the marginal ones, at K joint frequencies.

    Args:
        projections: for each modality `<t_m,k, x_m,i>`.

    Example:
        >>> p = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
        >>> dependence([p, torch.ones(50, 4)]).abs().max() < 1e-6
        tensor(True)
    """
    joint = characteristic(torch.stack(list(projections)).sum(0))
    return joint - torch.stack([characteristic(p) for p in projections]).prod(0)


def square_distance(x: Complex[Tensor, " k"], y: Complex[Tensor, " k"]) -> Float[Tensor, ""]:
    """`mean_k |x_k - y_k|^2`: smooth where the two agree, and it does not grow with the number of frequencies.

    Args:
        x: a function at K frequencies.
        y: another, at the same frequencies.

    Example:
        >>> p = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
        >>> square_distance(characteristic(p), characteristic(p.flip(0))) < 1e-12
        tensor(True)
    """
    return torch.view_as_real(x - y).square().sum(-1).mean()


def gaussian_kernel(x: Float[Tensor, "n d"], y: Float[Tensor, "m d"], scale: float) -> Float[Tensor, "n m"]:
    """`k(x_i, y_j) = exp(-scale^2 |x_i - y_j|^2 / 2)`; its mean is `E_t Phi_X(t) conj(Phi_Y(t))` for `t ~ N(0, scale^2 I)`.

    Args:
        x: one set.
        y: another.
        scale: standard deviation of the frequencies.

    Example:
        >>> gaussian_kernel(torch.zeros(1, 2), torch.ones(1, 2), 1.0).log().item()
        -1.0
    """
    square = x.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * x @ y.T
    return square.clamp(min=0).mul(-(scale**2) / 2).exp()


def dependence_product(kernels: Sequence[Float[Tensor, "n m"]]) -> Float[Tensor, ""]:
    """`E_t Psi_X(t) conj(Psi_Y(t))`, the inner product of two dependences, from one kernel matrix a modality.

        mean_ij prod_m k_m - mean_i prod_m mean_j k_m - mean_j prod_m mean_i k_m + prod_m mean_ij k_m

    For X = Y and two modalities it is the Hilbert-Schmidt independence criterion.

    Args:
        kernels: `k_m(x_i, y_j)` for each modality.

    Paper: Gretton et al., Measuring statistical dependence with Hilbert-Schmidt norms, ALT 2005; Pfister et al., Kernel-based
    tests for joint independence, JRSS-B 2018.

    Example:
        >>> dependence_product([torch.rand(4, 3), torch.full((4, 3), 0.5)]).abs() < 1e-6
        tensor(True)
    """
    joint = prod(kernels[1:], start=kernels[0]).mean()
    rows = torch.stack([k.mean(1) for k in kernels]).prod(0).mean()
    columns = torch.stack([k.mean(0) for k in kernels]).prod(0).mean()
    return joint - rows - columns + torch.stack([k.mean() for k in kernels]).prod(0)
