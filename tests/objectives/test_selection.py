"""Selections against naive references."""

import pytest
import torch

from limbeck.objectives import selection
from limbeck.objectives.moments import group_mean, mean_distance
from limbeck.objectives.whitening import whitening

GENERATOR = torch.Generator


def cloud(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def two_views() -> tuple[list[selection.View], torch.Tensor, torch.Tensor]:
    """Images of 10 samples, 3 texts each; and the same as one plain matrix."""
    sample = torch.arange(10).repeat_interleave(3)
    image, text = cloud(10, 4, 0), cloud(30, 5, 1)
    return [(image, sample), (text, torch.arange(30))], sample, torch.cat([image[sample], text], 1)


def test_herding_is_the_naive_greedy() -> None:
    views, sample, joint = two_views()
    chosen = selection.herding(views, sample, 6, GENERATOR()).tolist()
    mean, weight, expected = joint.mean(0), joint.mean(0), []
    for _ in range(6):
        scores = [float(weight @ x) if sample[i] not in sample[expected] else -1e9 for i, x in enumerate(joint)]
        pick = max(range(30), key=scores.__getitem__)
        expected.append(pick)
        weight = weight + mean - joint[pick]
    assert chosen == expected


def test_kcenter_is_the_naive_greedy() -> None:
    views, sample, joint = two_views()
    chosen = selection.kcenter(views, sample, 5, GENERATOR().manual_seed(3)).tolist()
    for step in range(1, 5):
        taken = set(sample[chosen[:step]].tolist())
        free = [i for i in range(30) if int(sample[i]) not in taken]
        radius = [min(float((joint[i] - joint[j]).norm()) for j in chosen[:step]) for i in free]
        best = free[max(range(len(free)), key=radius.__getitem__)]
        assert chosen[step] == best


def test_prototypes_find_planted_clusters() -> None:
    centres = 20 * cloud(6, 8, 0)
    label = torch.arange(60) % 6
    image, text = centres[label] + cloud(60, 8, 1), centres.flip(0)[label] + cloud(60, 8, 2)
    views = [(image, torch.arange(60)), (text, torch.arange(60))]
    chosen = selection.prototypes(views, torch.arange(60), 6, GENERATOR().manual_seed(0))
    assert sorted(label[chosen].tolist()) == list(range(6))


@pytest.mark.parametrize("name", sorted(selection.RULES))
def test_each_sample_at_most_once(name: str) -> None:
    views, sample, _ = two_views()
    chosen = selection.RULES[name](views, sample, 10, GENERATOR().manual_seed(0))
    assert sorted(sample[chosen].tolist()) == list(range(10))


def test_random_is_uniform_over_samples_and_their_texts() -> None:
    sample = torch.tensor([0] * 9 + [1])
    picks = [int(selection.random([], sample, 1, GENERATOR().manual_seed(s))) for s in range(400)]
    share = sum(p == 9 for p in picks) / 400
    assert 0.4 < share < 0.6, "a sample with many captions must not be likelier"
    assert len(set(picks)) == 10


def test_group_mean_and_distance() -> None:
    x, group = cloud(9, 4, 0), torch.tensor([0, 1, 1, 2, 2, 2, 0, 0, 1])
    expected = torch.stack([x[group == g].mean(0) for g in range(3)])
    assert torch.allclose(group_mean(x, group, 3), expected)
    assert torch.equal(group_mean(x, group, 4)[3], torch.zeros(4))
    assert mean_distance(expected, expected + 1) == pytest.approx(12)
    y = x.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: mean_distance(group_mean(v, group, 3), expected.double()), (y,))


def test_whitening_makes_the_covariance_round() -> None:
    x = (cloud(4000, 5, 0) @ cloud(5, 5, 1) + 3).double()
    z = whitening(x, ridge=0.0)(x)
    assert torch.allclose(z.T @ z / len(z), torch.eye(5, dtype=torch.float64) / 5, atol=1e-8)
    soft = whitening(x, ridge=1e9)(x)
    ratio = (soft[0] - soft[1]).norm() / (soft[2] - soft[3]).norm()
    assert ratio == pytest.approx(float((x[0] - x[1]).norm() / (x[2] - x[3]).norm()), rel=1e-4)


def test_whitening_of_constant_features_is_finite() -> None:
    assert torch.isfinite(whitening(torch.ones(6, 3), ridge=1.0)(torch.ones(2, 3))).all()
