"""The distance of gradients against loops, and where a gradient counts as none."""

import pytest
import torch

import naive
from limbeck.objectives.gradient import gradient_distance

DRAW = torch.Generator().manual_seed(0)
SHAPES = [(5, 3, 2, 2), (5,), (4, 6), (4,)]
X, Y = ([torch.randn(*shape, generator=DRAW, dtype=torch.float64) for shape in SHAPES] for _ in range(2))


def test_it_is_one_less_the_cosine_of_each_output_unit() -> None:
    """Whatever the size of either, and without biases."""
    expected = float(naive.gradient_distance(X, Y))
    assert float(gradient_distance(X, Y)) == pytest.approx(expected, rel=1e-9)
    assert float(gradient_distance([3 * x for x in X], [0.2 * y for y in Y])) == pytest.approx(expected, rel=1e-9)
    assert float(gradient_distance(X, [Y[0], 0 * Y[1], Y[2], -Y[3]])) == pytest.approx(expected, rel=1e-9)
    assert float(gradient_distance(X[:1], Y[:1])) == pytest.approx(float(naive.gradient_distance(X[:1], Y[:1])))


def test_a_row_without_a_gradient_counts_one() -> None:
    """At a size of eps in both the cosine is damped by the root of two; far below it counts nothing."""
    row = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    for size, value in ((0.0, 1.0), (1e-8, 1.0), (1e-6, 1 - 0.5**0.5), (1e-3, 0.0)):
        assert float(gradient_distance([size * row], [size * row])) == pytest.approx(value, abs=1e-4)
