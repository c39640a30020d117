"""What each term sees of the pairing, and what it does not."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from limbeck.objectives.characteristic import characteristic, gaussian_kernel, joint_characteristic, square_distance
from limbeck.objectives.moments import mean_distance
from limbeck.objectives.pairing import avdd_distance, cosine_terms, hybrid_sums, pair_moments, pair_sum


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tied(n: int, seed: int = 0, d: int = 4) -> tuple[Tensor, Tensor]:
    """Pairs of correlation 0.9."""
    a = normal(n, d, seed=2 * seed)
    return a, 0.9 * a + math.sqrt(1 - 0.81) * normal(n, d, seed=2 * seed + 1)


def law(x: Tensor, seed: int, k: int = 256) -> Tensor:
    return characteristic(x @ (0.5 * normal(x.shape[1], k, seed=seed)))


def test_breaking_the_pairing_leaves_each_modality_and_changes_every_tie() -> None:
    """The marginal laws to 1e-12; the joint law, that of the paired sum and that of the product clearly."""
    a, v = tied(4000)
    order = torch.randperm(4000, generator=torch.Generator().manual_seed(2))
    broken = v[order]
    assert square_distance(law(v, 3), law(broken, 3)) < 1e-12
    ties: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "joint": lambda x, y: torch.cat([x, y], 1),
        "sum": pair_sum,
        "product": lambda x, y: x * y,
    }
    for name, tie in ties.items():
        other = tie(*tied(4000, seed=7))
        whole, apart = (square_distance(law(tie(a, y), 5), law(other, 5)) for y in (v, broken))
        assert apart > 10 * whole and apart > 0.01, name


def test_the_law_of_sums_is_the_joint_one_at_shared_frequencies() -> None:
    x, y, t = normal(9, 2), normal(9, 3, seed=1), normal(3, 20, seed=2)
    assert torch.allclose(characteristic(pair_sum(x, y) @ t), joint_characteristic([x @ t[:2], y @ t]))
    assert torch.equal(pair_sum(y, x), pair_sum(x, y))


def test_avdd_with_equal_weights_is_21_times_dm() -> None:
    for seed in range(5):
        x, y = ([normal(16, seed=seed + i) for i in pair] for pair in ((0, 20), (40, 60)))
        base = sum(mean_distance(p[None], q[None]) for p, q in zip(x, y, strict=True))
        assert avdd_distance(x, y) == pytest.approx(21 * float(base), rel=1e-12)
        assert avdd_distance(x, y, 3, 3) == pytest.approx(7 * float(base), rel=1e-12)
        assert avdd_distance(x, y, 1, 5) != pytest.approx(7 * float(base), rel=1e-3), "unequal weights are another loss"
        three = avdd_distance([*x, x[0][:5]], [*y, y[0][:5]])
        more = float(base + mean_distance(x[0][None, :5], y[0][None, :5]))
        assert three == pytest.approx(41 * more, rel=1e-12), "1 + 2 * 10 * (M - 1), whatever the widths"


def test_means_see_no_pairing() -> None:
    a, v = tied(50)
    b, w = tied(6, seed=3)
    real = [x.mean(0) for x in (a, v)]
    whole, broken = (float(avdd_distance(real, [b.mean(0), own.mean(0)])) for own in (w, w.flip(0)))
    assert whole == pytest.approx(broken, rel=1e-12)
    joint = [float(cosine_terms(pair_moments(a, v), pair_moments(b, x))[1]) for x in (w, w.flip(0))]
    assert joint[0] == pytest.approx(joint[1], rel=1e-12)
    cross = [float(cosine_terms(pair_moments(a, v), pair_moments(b, x))[0]) for x in (w, w.flip(0))]
    assert abs(cross[0] - cross[1]) > 0.1, "the cross term sees it"


@pytest.mark.parametrize("divided", [False, True])
def test_the_published_cross_term_is_not_least_at_equality(divided: bool) -> None:
    """Real pairs against themselves; a set that puts all into one coordinate is better, and undivided it has no lower end."""
    a, v = (torch.nn.functional.normalize(x, dim=1) for x in tied(500, d=16))
    real = pair_moments(a, v)
    at_equality = cosine_terms(real, real, divided)[0]
    if divided:
        assert at_equality == pytest.approx(0, abs=1e-12)
        scale = real[2].abs().sqrt()[None]
        other = pair_moments(scale, scale * real[2].sign())
        assert cosine_terms(real, other)[0] < 1e-12, "one point that is as good, and far from the law"
        assert square_distance(law(scale, 3), law(a, 3)) > 0.05
    else:
        one = torch.zeros(1, 16, dtype=torch.float64)
        one[0, real[2].argmax()] = 1
        assert cosine_terms(real, pair_moments(one, one), False)[0] < at_equality - 0.001


def test_the_published_joint_term_grows_with_the_gains() -> None:
    a, v = tied(50)
    b, w = tied(6, seed=3)
    plain, loud = (1 - float(cosine_terms(pair_moments(a, g * v), pair_moments(b, g * w))[1]) for g in (1.0, 20.0))
    assert loud == pytest.approx(400 * plain)
    assert float(cosine_terms(pair_moments(a, 1e4 * v), pair_moments(a, 1e4 * v))[1]) < 0, "and has no lower end"


@pytest.mark.slow
def test_the_hybrid_term_falls_with_the_size_and_knows_no_pairing() -> None:
    """Two draws of one law; then the real pairs broken: with separate draws for a and v nothing changes."""

    def term(n: int, seed: int, broken: bool = False) -> float:
        (a, v), (b, w) = tied(n, seed=seed), tied(n, seed=seed + 500)
        x, y = hybrid_sums((a, v.roll(1, 0) if broken else v), (b, w))
        return float(square_distance(law(x, 3), law(y, 3)))

    mean = {n: sum(term(n, seed) for seed in range(20)) / 20 for n in (50, 500, 5000)}
    assert mean[50] / mean[500] == pytest.approx(10, rel=0.5)
    assert mean[500] / mean[5000] == pytest.approx(10, rel=0.5)
    assert max(term(20_000, 0), term(20_000, 0, broken=True)) < 2e-4, "both laws factorise: pairing is not seen"
    a, v = tied(20_000)
    assert square_distance(law(pair_sum(a, v), 3), law(pair_sum(a, v.roll(1, 0)), 3)) > 0.01, "where the sum does"


def test_swapping_the_modalities_changes_nothing() -> None:
    (a, v), (b, w), ta, tv = tied(30), tied(6, seed=3), normal(4, 50, seed=8), normal(4, 50, seed=9)

    def losses(real: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor], t: tuple[Tensor, Tensor]) -> list[Tensor]:
        x, y = ([z @ block for z, block in zip(p, t, strict=True)] for p in (real, own))
        some = real[0][:6], real[1][:6]
        hybrid = [characteristic(z @ tv) for z in hybrid_sums(some, own)]
        return [
            square_distance(joint_characteristic(x), joint_characteristic(y)),
            square_distance(characteristic(pair_sum(*real) @ tv), characteristic(pair_sum(*own) @ tv)),
            square_distance(*hybrid),
            *cosine_terms(pair_moments(*real), pair_moments(*own)),
            avdd_distance([z.mean(0) for z in real], [z.mean(0) for z in own], 3, 5),
        ]

    for one, other in zip(losses((a, v), (b, w), (ta, tv)), losses((v, a), (w, b), (tv, ta)), strict=True):
        assert float(one) == pytest.approx(float(other), rel=1e-12)


def test_a_third_modality_that_is_constant_has_no_say() -> None:
    (a, v), (b, w) = tied(30), tied(6, seed=3)
    t, constant = [normal(4, 50, seed=i) for i in (8, 9, 10)], normal(1, 4, seed=11)
    real, own = [a, v, constant.expand(30, 4)], [b, w, constant.expand(6, 4)]

    def joint(modalities: int) -> float:
        laws = [
            joint_characteristic([z @ block for z, block in zip(p[:modalities], t, strict=False)]) for p in (real, own)
        ]
        return float(square_distance(*laws))

    assert joint(3) == pytest.approx(joint(2), rel=1e-12)
    paired, alone = (
        square_distance(characteristic(x @ t[0]), characteristic(y @ t[0]))
        for x, y in ((pair_sum(a, real[2]), pair_sum(b, own[2])), (a, b))
    )
    assert float(paired) == pytest.approx(float(alone), rel=1e-12), "its sum with another is that other, shifted"


@pytest.mark.parametrize("n", [1, 4])
def test_gradients(n: int) -> None:
    a, v = tied(n, seed=5)
    b, w = (x.clone().requires_grad_() for x in tied(n, seed=3))
    t = normal(4, 7, seed=8)

    def terms(b: Tensor, w: Tensor) -> Tensor:
        hybrid = square_distance(*(characteristic(z @ t) for z in hybrid_sums((a, v), (b, w))))
        summed = square_distance(characteristic(pair_sum(a, v) @ t), characteristic(pair_sum(b, w) @ t))
        cosine = torch.stack(cosine_terms(pair_moments(a, v), pair_moments(b, w))).sum()
        means = avdd_distance([a.mean(0), v.mean(0)], [b.mean(0), w.mean(0)])
        return hybrid + summed + cosine + means + gaussian_kernel(pair_sum(a, v), pair_sum(b, w), 0.7).sum()

    assert torch.autograd.gradcheck(terms, (b, w))
