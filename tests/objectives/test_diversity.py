"""The diversity of pairs, and the two directions of the contrastive loss that it goes with."""

import math

import pytest
import torch
import torch.nn.functional as F

from limbeck.errors import DataError
from limbeck.objectives.contrastive import directions, false_negatives, infonce
from limbeck.objectives.diversity import diversity


def vectors(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_equal_orthogonal_and_opposite_pairs() -> None:
    assert float(diversity(torch.ones(5, 3), torch.ones(5, 2))) == pytest.approx(1)
    assert float(diversity(torch.eye(4), torch.eye(4))) == pytest.approx(0, abs=1e-7)
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert float(diversity(x, x)) == pytest.approx(-1)


@pytest.mark.parametrize("per_modality", [True, False])
def test_it_is_the_papers_sum_and_the_codes_masked_mean(per_modality: bool) -> None:
    x, y = vectors(6, 4, 0), 3 * vectors(6, 5, 1)
    joint = [
        torch.cat([F.normalize(a, dim=0), F.normalize(b, dim=0)] if per_modality else [a, b])
        for a, b in zip(x, y, strict=True)
    ]
    joint = [c / c.norm() for c in joint]
    upper = sum(float(joint[i] @ joint[j]) for i in range(6) for j in range(i + 1, 6)) * 2 / (6 * 5)
    masked = [float(joint[i] @ joint[j]) for i in range(6) for j in range(6) if i != j]
    found = float(diversity(x, y, per_modality))
    assert found == pytest.approx(upper) and found == pytest.approx(sum(masked) / len(masked))


def test_pairs_that_are_left_out_are_not_compared() -> None:
    x, y, owner = vectors(4, 3, 10), vectors(4, 3, 11), torch.tensor([0, 1, 0, 2])
    joint = F.normalize(torch.cat([F.normalize(x, dim=1), F.normalize(y, dim=1)], dim=1), dim=1)
    left = [float(joint[i] @ joint[j]) for i in range(4) for j in range(4) if owner[i] != owner[j]]
    assert float(diversity(x, y, ignored=false_negatives(owner))) == pytest.approx(sum(left) / len(left))
    assert float(diversity(x, y, ignored=~torch.eye(4, dtype=torch.bool))) == 0


def test_the_order_of_a_batch_does_not_matter() -> None:
    x, y, order = vectors(7, 4, 2), vectors(7, 4, 3), torch.tensor([3, 1, 6, 0, 2, 5, 4])
    assert float(diversity(x, y)) == pytest.approx(float(diversity(x[order], y[order])))


def test_long_vectors_of_one_modality_have_no_larger_say_unless_asked() -> None:
    x, y = vectors(5, 4, 4), vectors(5, 4, 5)
    assert float(diversity(10 * x, y)) == pytest.approx(float(diversity(x, y)))
    assert abs(float(diversity(10 * x, y, per_modality=False)) - float(diversity(x, y, per_modality=False))) > 0.01


def test_gradient_and_a_batch_of_one() -> None:
    x, y = vectors(4, 3, 6).requires_grad_(), vectors(4, 3, 7)
    assert torch.autograd.gradcheck(lambda a: diversity(a, y), x)
    with pytest.raises(DataError, match="two pairs or more, got 1"):
        diversity(torch.ones(1, 2), torch.ones(1, 2))


def test_directions_of_orthonormal_and_of_equal_vectors() -> None:
    n, temperature = 6, 0.5
    for half in directions(torch.eye(n, dtype=torch.float64) / temperature):
        assert float(half) == pytest.approx(math.log(1 + (n - 1) * math.exp(-1 / temperature)))
    for half in directions(torch.ones(n, n)):
        assert float(half) == pytest.approx(math.log(n))


def test_swapping_the_modalities_swaps_the_directions_and_orders_do_not_matter() -> None:
    z, order = vectors(5, 5, 8), torch.tensor([4, 2, 0, 1, 3])
    a, b = directions(z)
    c, d = directions(z.T)
    assert (float(a), float(b)) == pytest.approx((float(d), float(c)))
    assert [float(x) for x in directions(z[order][:, order])] == pytest.approx([float(a), float(b)])
    assert float(infonce(z)) == pytest.approx((float(a) + float(b)) / 2)


def test_two_pairs_of_one_image_do_not_repel_in_either_direction() -> None:
    z = vectors(4, 4, 9).requires_grad_()
    ignored = false_negatives(torch.tensor([0, 1, 0, 2]))
    sum(directions(z, ignored)).backward()  # type: ignore[union-attr]
    assert z.grad is not None and float(z.grad[0, 2]) == 0 and float(z.grad[2, 0]) == 0
    assert bool((z.grad[~ignored] != 0).all())
    kept = z.detach().exp().masked_fill(ignored, 0)
    by_hand = -(z.detach().diagonal() - kept.sum(1).log()).mean()
    assert float(directions(z.detach(), ignored)[0]) == pytest.approx(float(by_hand))
