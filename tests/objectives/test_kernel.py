"""The closed-form student against regression by scikit-learn, its primal form, and finite differences."""

import pytest
import torch

from limbeck.objectives.kernel import ridge_tower


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("d", [3, 20])
def test_it_is_ridge_regression_to_the_identity(d: int) -> None:
    from sklearn.linear_model import Ridge

    own, points, ridge = 2 + normal(7, d), normal(5, d, seed=1), 0.3
    centred = own - own.mean(0)
    alpha = float(ridge * centred.square().sum() / 7)
    fitted = Ridge(alpha=alpha, fit_intercept=False).fit(centred.numpy(), torch.eye(7).numpy())
    expected = torch.from_numpy(fitted.predict((points - own.mean(0)).numpy()))
    assert torch.allclose(ridge_tower(own, points, ridge), expected)


def test_products_of_towers_are_the_bilinear_form_of_the_covariances() -> None:
    x, y, a, b = normal(9, 4), normal(9, 3, seed=1), normal(5, 4, seed=2), normal(6, 3, seed=3)
    (xc, xr), (yc, yr) = ((z - z.mean(0), 0.2 * (z - z.mean(0)).square().sum() / 9) for z in (x, y))
    w = torch.linalg.inv(xc.T @ xc + xr * torch.eye(4)) @ xc.T @ yc @ torch.linalg.inv(yc.T @ yc + yr * torch.eye(3))
    expected = (a - x.mean(0)) @ w @ (b - y.mean(0)).T
    assert torch.allclose(ridge_tower(x, a, 0.2) @ ridge_tower(y, b, 0.2).T, expected)


def test_shift_and_scale_do_not_matter() -> None:
    own, points = normal(6, 4), normal(5, 4, seed=1)
    assert torch.allclose(ridge_tower(3 * own + 2, 3 * points + 2, 0.5), ridge_tower(own, points, 0.5))


def test_gradients_and_equal_vectors() -> None:
    own, points = normal(4, 3).requires_grad_(), normal(2, 3, seed=1)
    assert torch.autograd.gradcheck(lambda own: ridge_tower(own, points, 0.5), (own,))
    same = torch.ones(4, 3, requires_grad=True)
    ridge_tower(same, points.float(), 1.0).sum().backward()
    assert same.grad is not None and torch.isfinite(same.grad).all()
