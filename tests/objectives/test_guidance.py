"""Gradient matching, masks and captions as terms: against naive forms, and what each of them sees."""

import pytest
import torch
import torch.nn.functional as F

import naive
from limbeck.networks.convnet import ConvNet
from limbeck.objectives.gradient import gradient_distance
from limbeck.objectives.guidance import balance, caption_distance, caption_map, composite, masked_mean


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_the_distance_of_gradients_row_by_row() -> None:
    x = [normal(4, 3, 2, 2), normal(4, seed=1), normal(5, 7, seed=2)]
    y = [normal(4, 3, 2, 2, seed=3), normal(4, seed=4), normal(5, 7, seed=5)]
    naive = sum(
        1 - float(F.cosine_similarity(a[r].flatten(), b[r].flatten(), dim=0))
        for a, b in zip(x, y, strict=True)
        if a.ndim > 1
        for r in range(len(a))
    )
    assert float(gradient_distance(x, y)) == pytest.approx(naive, rel=1e-10)
    assert float(gradient_distance(x, x)) == pytest.approx(0, abs=1e-10)
    scaled = [a * (1 + torch.arange(len(a))).reshape(-1, *[1] * (a.ndim - 1)) for a in x]
    assert float(gradient_distance(scaled, y)) == pytest.approx(naive, rel=1e-10), "positive factors a row"
    assert float(gradient_distance(x, [-a for a in x])) == pytest.approx(2 * 9), "2 for each of nine rows"
    assert float(gradient_distance([x[1]], [y[1]])) == 0, "biases count nothing"
    zero = [torch.zeros(2, 3, requires_grad=True)]
    gradient_distance(zero, [torch.ones(2, 3)]).backward()
    assert zero[0].grad is not None and zero[0].grad.isfinite().all()


def test_gradients_of_gradients_match_finite_differences() -> None:
    weights = [normal(5, 4), normal(5, seed=1), normal(3, 5, seed=2), normal(3, seed=3)]
    weights = [w.requires_grad_() for w in weights]
    label = torch.tensor([0, 2])

    def gradients(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = F.linear(F.softplus(F.linear(x, *weights[:2])), *weights[2:])
        return torch.autograd.grad(F.cross_entropy(logits, label), weights, create_graph=True)

    real = [g.detach() for g in gradients(normal(2, 4, seed=5))]

    def distance(x: torch.Tensor) -> torch.Tensor:
        return gradient_distance(gradients(x), real)

    assert torch.autograd.gradcheck(distance, normal(2, 4, seed=1).requires_grad_())


def test_only_the_object_has_a_say_in_masked_inputs() -> None:
    images = normal(3, 3, 16, 16, dtype=torch.float32).requires_grad_()
    masks = torch.zeros(3, 1, 16, 16)
    masks[:, :, 4:11, 5:12] = 1
    net = ConvNet(16, width=8)
    value = net(composite(images, masks, torch.tensor(0.4))).square().sum()
    (gradient,) = torch.autograd.grad(value, images)
    outside = gradient * (1 - masks)
    assert not outside.any() and (gradient * masks).abs().sum() > 0
    other = composite(images, masks, torch.zeros(())) + (1 - masks) * normal(3, 3, 16, 16, seed=9, dtype=torch.float32)
    assert torch.equal(net(composite(other, masks, torch.tensor(0.4))).square().sum(), value), "any real background"
    pooled = masked_mean(net.blocks(images), masks).square().sum()
    (gradient,) = torch.autograd.grad(pooled, images)
    assert (gradient * (1 - masks)).abs().sum() > 0, "a deep map sees beyond the mask"


def test_masked_means_see_as_far_as_their_features() -> None:
    draws = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 2, 3, 3, generator=draws)  # a receptive field of one pixel to each side, and no norm
    images = torch.rand(1, 2, 9, 9, generator=draws).requires_grad_()
    mask = torch.zeros(1, 1, 9, 9)
    mask[..., 4, 4] = 1
    masked_mean(torch.nn.functional.conv2d(images, weight, padding=1), mask).square().sum().backward()
    assert images.grad is not None
    reached = images.grad.abs().sum((0, 1)) > 0
    seen = torch.zeros(9, 9, dtype=torch.bool)
    seen[3:6, 3:6] = True
    assert torch.equal(reached, seen)


def test_masked_means() -> None:
    masks = torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(F.interpolate(masks, (4, 4), mode="area").mean((1, 2, 3)), masks.mean((1, 2, 3)))
    assert torch.allclose(masked_mean(torch.full((4, 2, 4, 4), 3.0), masks), torch.full((4, 2), 3.0), atol=1e-5)
    assert masked_mean(torch.ones(1, 2, 4, 4), torch.zeros(1, 1, 12, 12)).isfinite().all()
    h = normal(4, 5, 4, 4, dtype=torch.float32)
    assert torch.allclose(masked_mean(h, torch.ones(4, 1, 12, 12)), h.mean((2, 3)), atol=1e-5)


@pytest.mark.parametrize(("n", "d"), [(40, 6), (6, 40)])
def test_the_map_to_captions_is_ridge_regression(n: int, d: int) -> None:
    v, c = normal(n, d), normal(n, 3, seed=1)
    centre, weight, offset = caption_map(v, c, ridge=0.1)
    x, y = v - v.mean(0), c - c.mean(0)
    penalty = 0.1 * float(x.square().sum()) / d
    value = weight.clone().requires_grad_()
    ((x @ value - y).square().sum() + penalty * value.square().sum()).backward()
    assert value.grad is not None and value.grad.abs().max() < 1e-6, "where its gradient is zero"
    assert torch.allclose(centre, v.mean(0)) and torch.allclose(offset, c.mean(0))


def test_what_caption_matching_sees() -> None:
    group = torch.tensor([0, 0, 0, 1, 1, 1])
    captions = F.normalize(normal(6, 8), dim=1)
    target = torch.stack([captions[:3].mean(0), captions[3:].mean(0)])
    assert float(caption_distance(captions, captions, target, group)) == pytest.approx(0, abs=1e-12)
    within, across = captions[[1, 2, 0, 4, 5, 3]], captions[[3, 4, 5, 0, 1, 2]]
    assert float(caption_distance(within, captions, target, group, single=0)) == pytest.approx(0, abs=1e-12)
    assert float(caption_distance(within, captions, target, group)) > 0.1, "each has its own"
    assert float(caption_distance(across, captions, target, group, single=0)) > 0.1


def test_caption_matching_is_its_formula() -> None:
    """`sum_g |mean own - target|^2 + single mean (1 - cos)`, of groups of different sizes."""
    own, captions, target = normal(5, 3), normal(5, 3, seed=1), normal(2, 3, seed=2)
    group = torch.tensor([0, 1, 1, 0, 1])
    expected = sum(float(naive.means_distance(own[group == g], target[g][None])) for g in (0, 1))
    expected += 0.7 * sum(1 - float(naive.cosine(a, b)) for a, b in zip(own, captions, strict=True)) / 5
    assert float(caption_distance(own, captions, target, group, single=0.7)) == pytest.approx(expected, rel=1e-9)


def test_weights_give_each_term_its_say() -> None:
    x, y = (normal(5, 3, seed=i).requires_grad_() for i in range(2))
    base, terms = (x**2).sum() + y.sum(), [(x**3).sum() * 7, y.square().sum() / 1000, torch.zeros(())]
    weights = balance(base, terms, [x, y], 0.5)

    def length(value: torch.Tensor) -> float:
        found = torch.autograd.grad(value, [x, y], retain_graph=True, allow_unused=True)
        return float(sum(g.square().sum() for g in found if g is not None)) ** 0.5

    for weight, term in zip(weights[:2], terms[:2], strict=True):
        assert weight * length(term) == pytest.approx(0.5 * length(base), rel=1e-9)
    assert weights[2] == 0
