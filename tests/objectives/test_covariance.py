"""Covariance matching against numpy, loops, and the theory it comes from."""

import numpy as np
import pytest
import torch

from limbeck.objectives.covariance import (
    covariance_angle,
    covariance_distance,
    cross_covariance,
    indexed_covariance,
    linear_contrastive,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_against_numpy() -> None:
    x, y = normal(9, 3), normal(9, 4, seed=1)
    assert np.allclose(cross_covariance(x, y), np.cov(x.T, y.T)[:3, 3:])
    assert np.allclose(cross_covariance(x, x), np.cov(x.T))


def test_shifts_do_not_matter_and_scales_multiply() -> None:
    x, y = normal(9, 3), normal(9, 4, seed=1)
    assert torch.allclose(cross_covariance(x + 5.0, y - 3.0), cross_covariance(x, y))
    assert torch.allclose(cross_covariance(2 * x, -y), -2 * cross_covariance(x, y))


def test_indexed_pairs() -> None:
    x, y, g = normal(6, 3), normal(8, 4, seed=1), torch.Generator().manual_seed(0)
    of_x, of_y = torch.randint(5, (30,), generator=g), torch.randint(8, (30,), generator=g)
    assert torch.allclose(indexed_covariance(x, y, of_x, of_y), cross_covariance(x[of_x], y[of_y]))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_rank_is_below_the_number_of_pairs(n: int) -> None:
    assert torch.linalg.matrix_rank(cross_covariance(normal(n, 8), normal(n, 6, seed=1))) == n - 1


def test_distances_vanish_where_they_should() -> None:
    c, other = normal(4, 3), normal(4, 3, seed=1)
    assert covariance_distance(c, c) == 0
    assert covariance_distance(2 * c, c, rho=2.0) == 0
    assert covariance_distance(c, c, rho=2.0) == pytest.approx(1.0)
    assert float(covariance_angle(7 * c, c)) == pytest.approx(0.0, abs=1e-12)
    assert float(covariance_angle(-c, c)) == pytest.approx(2.0)
    assert 0.1 < covariance_angle(c, other) < 1.9


def test_trace_form_is_the_pairwise_form() -> None:
    """The linear contrastive loss sees a set through its cross-covariance alone: -Tr(G C H^T)."""
    image, text, g, h = normal(11, 5), normal(11, 4, seed=1), normal(3, 5, seed=2), normal(3, 4, seed=3)
    trace = -torch.trace(g @ cross_covariance(image, text) @ h.T)
    assert float(linear_contrastive(image @ g.T, text @ h.T)) == pytest.approx(float(trace), abs=1e-10)
    pairwise = 0.0
    z, w = image @ g.T, text @ h.T
    for i in range(11):
        for j in range(11):
            if i != j:
                pairwise += float(z[i] @ w[j] - z[i] @ w[i] + z[j] @ w[i] - z[i] @ w[i]) / 2 / 110
    assert float(trace) == pytest.approx(pairwise, abs=1e-10)


def test_the_closed_form_is_where_the_gradient_vanishes() -> None:
    """G^T H = C / rho minimises -Tr(G C H^T) + rho/2 ||G^T H||^2; with it the loss is -||C||^2 / (2 rho)."""
    c, rho = cross_covariance(normal(20, 4), normal(20, 3, seed=1)), 1.7
    u, s, v = torch.linalg.svd(c / rho, full_matrices=False)
    g = (s.sqrt()[:, None] * u.T).requires_grad_()
    h = (s.sqrt()[:, None] * v).requires_grad_()

    def loss(g: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        return -torch.trace(g @ c @ h.T) + rho / 2 * (g.T @ h).square().sum()

    loss(g, h).backward()
    assert g.grad is not None and h.grad is not None
    assert max(g.grad.abs().max(), h.grad.abs().max()) < 1e-10
    best = float(loss(g, h).detach())
    assert best == pytest.approx(-float(c.square().sum()) / (2 * rho), abs=1e-10)
    for k in range(5):
        moved = loss(g.detach() + 0.1 * normal(3, 4, seed=k), h.detach() + 0.1 * normal(3, 3, seed=k + 5))
        assert float(moved) > best


def test_gradients() -> None:
    x, y, c = normal(4, 3).requires_grad_(), normal(4, 2, seed=1).requires_grad_(), normal(3, 2, seed=2)
    assert torch.autograd.gradcheck(lambda x, y: covariance_distance(cross_covariance(x, y), c, 2.0), (x, y))
    assert torch.autograd.gradcheck(lambda x, y: covariance_angle(cross_covariance(x, y), c), (x, y))
