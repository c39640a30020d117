"""Characteristic functions against closed forms, naive loops and each other."""

import math

import pytest
import torch

from limbeck.objectives.characteristic import (
    characteristic,
    dependence,
    dependence_product,
    gaussian_kernel,
    square_distance,
)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_gaussian_law_in_closed_form() -> None:
    n, d = 20_000, 3
    mean, root = normal(d, seed=1), 0.5 * normal(d, d, seed=2)
    x, t = normal(n, d) @ root.T + mean, normal(50, d, seed=3)
    exact = torch.exp(1j * (t @ mean) - (t @ root).square().sum(1) / 2)
    assert (characteristic(x @ t.T) - exact).abs().max() < 5 / math.sqrt(n)


def test_modulus_and_symmetry() -> None:
    p = normal(9, 20)
    phi = characteristic(p)
    assert (phi.abs() <= 1).all()
    assert torch.allclose(characteristic(-p), phi.conj())
    assert torch.allclose(characteristic(normal(1, 20)).abs(), torch.ones(20, dtype=torch.float64))
    assert torch.allclose(characteristic(p.repeat_interleave(2, 0)), phi)


def test_shift_turns_the_phase_only() -> None:
    x, t, c = normal(30, 4), normal(4, 11, seed=1), normal(4, seed=2)
    assert torch.allclose(characteristic((x + c) @ t), characteristic(x @ t) * torch.exp(1j * (c @ t)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distance_is_zero_at_equality_and_permutation(dtype: torch.dtype) -> None:
    p = normal(40, 64, dtype=dtype)
    assert square_distance(characteristic(p), characteristic(p.flip(0))) < 1e-10


def test_frequencies_tend_to_the_kernel() -> None:
    x, y, scale = normal(12, 6), 0.3 + normal(20, 6, seed=1), 0.6
    t = scale * normal(6, 65_536, seed=2)
    exact = sum(c * gaussian_kernel(a, b, scale).mean() for c, a, b in ((1, x, x), (1, y, y), (-2, x, y)))
    estimate = square_distance(characteristic(x @ t), characteristic(y @ t))
    assert estimate == pytest.approx(float(exact), rel=0.02)


def test_dependence_frequencies_tend_to_the_kernel() -> None:
    a, v = normal(15, 3), normal(15, 2, seed=1)
    b, w = normal(8, 3, seed=2), normal(8, 2, seed=3)
    ta, tv = normal(3, 200_000, seed=4), normal(2, 200_000, seed=5)
    estimate = square_distance(dependence([a @ ta, v @ tv]), dependence([b @ ta, w @ tv]))
    pairs = [((a, v), (a, v), 1), ((b, w), (b, w), 1), ((a, v), (b, w), -2)]
    exact = sum(
        c * dependence_product([gaussian_kernel(x, y, 1.0) for x, y in zip(p, q, strict=True)]) for p, q, c in pairs
    )
    assert estimate == pytest.approx(float(exact), rel=0.02)


def test_dependence_product_is_the_independence_criterion() -> None:
    x, y = normal(10, 3), normal(10, 2, seed=1)
    k, m = gaussian_kernel(x, x, 1.0), gaussian_kernel(y, y, 1.0)
    centre = torch.eye(10, dtype=torch.float64) - 0.1
    hsic = torch.trace(centre @ k @ centre @ m) / 100
    assert dependence_product([k, m]) == pytest.approx(float(hsic), rel=1e-10)


def test_dependence_product_against_loops() -> None:
    kernels = [torch.rand(4, 5, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(3)]
    joint = rows = columns = 0.0
    for i in range(4):
        for j in range(5):
            joint += math.prod(float(k[i, j]) for k in kernels) / 20
    for i in range(4):
        rows += math.prod(sum(float(k[i, j]) for j in range(5)) / 5 for k in kernels) / 4
    for j in range(5):
        columns += math.prod(sum(float(k[i, j]) for i in range(4)) / 4 for k in kernels) / 5
    naive = joint - rows - columns + math.prod(float(k.mean()) for k in kernels)
    assert float(dependence_product(kernels)) == pytest.approx(naive, abs=1e-14)


def test_breaking_the_pairing_changes_the_dependence_alone() -> None:
    a = normal(400, 4)
    v = 0.9 * a + math.sqrt(1 - 0.81) * normal(400, 4, seed=1)
    shuffled = v[torch.randperm(400, generator=torch.Generator().manual_seed(2))]
    ta, tv = normal(4, 256, seed=3), normal(4, 256, seed=4)
    assert square_distance(characteristic(v @ tv), characteristic(shuffled @ tv)) < 1e-20
    tied, broken = dependence([a @ ta, v @ tv]), dependence([a @ ta, shuffled @ tv])
    assert broken.abs().square().mean() < 0.2 * tied.abs().square().mean()


@pytest.mark.parametrize("n", [1, 3])
def test_gradients(n: int) -> None:
    a, v = normal(n, 3).requires_grad_(), normal(n, 2, seed=1).requires_grad_()
    b, w = normal(5, 3, seed=2), normal(5, 2, seed=3)
    ta, tv = normal(3, 7, seed=4), normal(2, 7, seed=5)

    def frequencies(a: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        uni = square_distance(characteristic(a @ ta), characteristic(b @ ta))
        return uni + square_distance(dependence([a @ ta, v @ tv]), dependence([b @ ta, w @ tv]))

    def kernels(a: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        # squares of coinciding points are clamped at 0, where finite differences see a kink: leave the diagonal out
        return dependence_product([gaussian_kernel(a, b, 0.7), gaussian_kernel(v, w, 0.7)])

    assert torch.autograd.gradcheck(frequencies, (a, v))
    assert torch.autograd.gradcheck(kernels, (a, v))


def test_gradient_is_finite_where_the_sets_are_equal() -> None:
    a = normal(4, 3).requires_grad_()
    t = normal(3, 9, seed=1)
    square_distance(characteristic(a @ t), characteristic(a.detach() @ t)).backward()
    assert a.grad is not None and torch.isfinite(a.grad).all()
