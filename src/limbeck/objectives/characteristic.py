"""Characteristic functions: the law of a set of vectors, seen through frequencies.

    Phi_X(t) = mean_i exp(i <t, x_i>)

For several modalities with one block of frequencies each, the projection of the concatenation is the sum of the blocks'
projections. The *dependence* is what the joint law has beyond the product of its marginals,

    Psi_X(t) = mean_i exp(i sum_m <t_m, x_m,i>) - prod_m mean_i exp(i <t_m, x_m,i>),

zero exactly where the modalities are independent: it is the tie between them, and nothing else.

Averaged over Gaussian frequencies `t ~ N(0, s^2 I)` inner products of these functions have closed forms in the kernel
`k(x, y) = exp(-s^2 |x - y|^2 / 2)`: the frequency law *is* the kernel. Squared distances follow, `|a - b|^2 = <a, a> + <b, b>
- 2 <a, b>`. The closed form is infinitely many frequencies at the price of few. The kernel of the joint law is the product of those
of the modalities.
"""

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

__all__ = [
    "amplitude_phase",
    "characteristic",
    "dependence",
    "dependence_product",
    "gaussian_kernel",
    "joint_characteristic",
    "joint_kernel",
    "keep_blocks",
    "kernel_distance",
    "root_distance",
    "square_distance",
]


def keep_blocks(modalities: int, k: int, drop: float, generator: torch.Generator) -> Bool[Tensor, "{modalities} {k}"]:
    """Which blocks of K joint frequencies are kept, where each is set to zero with probability `drop`.

    A frequency whose block is zero does not see that modality. So with `drop` between 0 and 1 one family of frequencies tests
    every modality alone, every few of them, and all. Multiply the projections of modality m by row m.

    Args:
        modalities: how many blocks a frequency has.
        k: how many frequencies.
        drop: probability that a block is zero, each by itself.
        generator: the random stream.

    Example:
        >>> keep_blocks(2, 3, 0.0, torch.Generator().manual_seed(0)).all()
        tensor(True)
    """
    return torch.rand(modalities, k, generator=generator) >= drop


def characteristic(projection: Float[Tensor, "n k"]) -> Complex[Tensor, " k"]:
    """The empirical characteristic function at K frequencies: `mean_i exp(i <t_k, x_i>)`.

    Args:
        projection: `<t_k, x_i>` for each row i and frequency k; half precision is left here, as cosines and means do not stand it.

    Example:
        >>> characteristic(torch.zeros(3, 1))
        tensor([1.+0.j])
    """
    angle = projection.float() if projection.dtype in (torch.float16, torch.bfloat16) else projection
    return torch.complex(angle.cos().mean(0), angle.sin().mean(0))


def joint_characteristic(projections: Sequence[Float[Tensor, "n k"]]) -> Complex[Tensor, " k"]:
    """The characteristic function of the concatenation, from the projections of its blocks: `<t, x> = sum_m <t_m, x_m>`.

    Args:
        projections: for each modality `<t_m,k, x_m,i>`.

    Example:
        >>> joint_characteristic([torch.ones(3, 1), -torch.ones(3, 1)])
        tensor([1.+0.j])
    """
    return characteristic(torch.stack(list(projections)).sum(0))


def dependence(projections: Sequence[Float[Tensor, "n k"]]) -> Complex[Tensor, " k"]:
    """The joint characteristic function less the product of the marginal ones, at K joint frequencies.

    Args:
        projections: for each modality `<t_m,k, x_m,i>`.

    Example:
        >>> p = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
        >>> dependence([p, torch.ones(50, 4)]).abs().max() < 1e-6
        tensor(True)
    """
    return joint_characteristic(projections) - torch.stack([characteristic(p) for p in projections]).prod(0)


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


def amplitude_phase(
    x: Complex[Tensor, " k"], y: Complex[Tensor, " k"]
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """`|x - y|^2` split into what the moduli differ by (spread) and what the phases do (place).

        amp = (|x| - |y|)^2,    pha = 2 (|x| |y| - Re x conj(y)) = |x - y|^2 - amp

    The first as `(Re (x - y) conj(x + y) / (|x| + |y|))^2`: every factor that vanishes at equality is a difference that was taken
    before anything was squared, where the formulas as they stand lose all digits of a small phase.

    Args:
        x: a function at K frequencies.
        y: another, at the same frequencies.

    Example:
        >>> amplitude_phase(torch.tensor([3.0 + 0j]), torch.tensor([0.0 + 4j]))
        (tensor([1.]), tensor([24.]))
    """
    whole = torch.view_as_real(x - y).square().sum(-1)
    moduli = (x.abs() + y.abs()).clamp(min=torch.finfo(whole.dtype).tiny)
    amplitude = (((x - y) * (x + y).conj()).real / moduli).square()
    return amplitude, (whole - amplitude).clamp(min=0)


def root_distance(
    x: Complex[Tensor, " k"], y: Complex[Tensor, " k"], alpha: float = 0.5, beta: float = 0.5, eps: float = 1e-12
) -> Float[Tensor, ""]:
    """`mean_k sqrt(alpha amp_k + beta pha_k)`: weights small differences more than `square_distance`; with alpha = beta = 1/2
    it is `mean_k |x_k - y_k| / sqrt(2)`.

    The root is that of `v + eps` less that of eps, so that value and gradient are zero where the two agree.

    Args:
        x: a function at K frequencies.
        y: another, at the same frequencies.
        alpha: weight of the amplitude.
        beta: weight of the phase.
        eps: below it the root is taken for a parabola.

    Paper: Wang et al., Dataset distillation with neural characteristic function, CVPR 2025, arXiv 2502.20653.

    Example:
        >>> root_distance(torch.tensor([3.0 + 0j]), torch.tensor([0.0 + 4j]), alpha=1.0, beta=0.0)
        tensor(1.0000)
    """
    amplitude, phase = amplitude_phase(x, y)
    root: Tensor = (alpha * amplitude + beta * phase + eps).sqrt() - eps**0.5
    return root.mean()


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


def joint_kernel(kernels: Sequence[Float[Tensor, "n m"]], drop: float = 0.0) -> Float[Tensor, "n m"]:
    """The kernel of the joint law: `prod_m ((1 - drop) k_m + drop)`, the mean over frequencies as `keep_blocks` keeps them.

    Args:
        kernels: `k_m(x_i, y_j)` for each modality.
        drop: probability that a block is zero; 0 gives the kernel of the concatenation.

    Example:
        >>> joint_kernel([torch.full((1, 1), 0.5), torch.full((1, 1), 0.25)])
        tensor([[0.1250]])
    """
    return prod(((1 - drop) * k + drop for k in kernels[1:]), start=(1 - drop) * kernels[0] + drop)


def kernel_distance(
    own: Float[Tensor, "m m"], cross: Float[Tensor, "m n"], real: Float[Tensor, "..."]
) -> Float[Tensor, ""]:
    """`E_t |Phi_X(t) - Phi_Y(t)|^2` in closed form: the squared maximum mean discrepancy, each row being compared with itself, too.

    Args:
        own: the kernel within X.
        cross: the kernel between X and Y.
        real: the kernel within Y, or its mean where that is known.

    Paper: Gretton et al., A kernel two-sample test, JMLR 2012.

    Example:
        >>> x = torch.tensor([[0.0], [1.0]])
        >>> k = gaussian_kernel(x, x, 1.0)
        >>> kernel_distance(k, k, k.mean())
        tensor(0.)
    """
    return own.mean() - 2 * cross.mean() + real.mean()
