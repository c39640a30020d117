"""The formulas of an audit, each against a naive version and against answers that are known."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import norm

from limbeck.check import toy_source
from limbeck.errors import DataError
from limbeck.evaluation.audit import distance
from limbeck.evaluation.audit.attack import auc, confidence, lira, rates, tpr_at
from limbeck.evaluation.audit.distance import Column, closest, closest_vectors, rmse, ssim
from limbeck.evaluation.audit.diversity import density_and_coverage, vendi
from limbeck.evaluation.audit.nearest import NEXT, NearestNeighbours, _holding, _Near, bound_of
from limbeck.evaluation.audit.result import Audit
from limbeck.spaces import Features


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def naive_ssim(x: torch.Tensor, y: torch.Tensor, window: int) -> float:
    """One pair `[C, H, W]`, window by window."""
    reach = torch.arange(window) - window // 2
    bell = torch.exp(-(reach[:, None] ** 2 + reach[None] ** 2) / (2 * 1.5**2))
    bell, values = bell / bell.sum(), []
    for c in range(len(x)):
        for i in range(x.shape[1] - window + 1):
            for j in range(x.shape[2] - window + 1):
                a, b = (image[c, i : i + window, j : j + window] for image in (x, y))
                ma, mb = (bell * a).sum(), (bell * b).sum()
                va, vb = (bell * (a - ma) ** 2).sum(), (bell * (b - mb) ** 2).sum()
                both = (bell * (a - ma) * (b - mb)).sum()
                top = (2 * ma * mb + 1e-4) * (2 * both + 9e-4)
                values.append(float(top / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))))
    return sum(values) / len(values)


@pytest.mark.parametrize(("size", "window"), [((14, 17), 11), ((8, 12), 7), ((9, 9), 9)])
def test_ssim_is_the_naive_one(size: tuple[int, int], window: int) -> None:
    x, y = (torch.rand(2, 3, *size, generator=seeded(s)) for s in (0, 1))
    y = 0.6 * x + 0.4 * y
    expected = [naive_ssim(a, b, window) for a, b in zip(x, y, strict=True)]
    assert ssim(x, y).tolist() == pytest.approx(expected, abs=1e-5)
    one = [naive_ssim(x[0], b, window) for b in y]
    assert ssim(x[:1], y).tolist() == pytest.approx(one, abs=1e-5)


def test_ssim_is_that_of_kornia() -> None:
    import kornia

    x, y = (torch.rand(3, 3, 20, 26, generator=seeded(s)) for s in (0, 1))
    theirs = kornia.metrics.ssim(x, 0.5 * (x + y), 11, padding="valid").flatten(1).mean(1)
    assert torch.allclose(ssim(x, 0.5 * (x + y)), theirs, atol=1e-5)
    assert torch.allclose(ssim(x, x), torch.ones(3))


def test_the_closest_are_those_of_a_full_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    source = toy_source(40)
    rows = torch.arange(40)[torch.arange(40) % 5 != 2]
    column = Column(source, "image", rows, (3, 16, 16))
    queries = toy_source(9, split="test").batch(range(9))["image"]
    full = torch.stack([rmse(q, column.read(torch.arange(len(rows)))) for q in queries])
    monkeypatch.setattr(Column.parts, "__defaults__", (7 * 3 * 16 * 16,))
    found = closest(queries, column, 4)
    assert torch.equal(found, full.topk(4, largest=False).indices)
    assert closest(column.read(torch.tensor([3, 8])), column, 1).squeeze(1).tolist() == [3, 8]


def test_a_column_resizes_images_and_refuses_other_shapes() -> None:
    assert Column(toy_source(4), "image", torch.arange(4), (3, 8, 8)).read(torch.tensor([1])).shape == (1, 3, 8, 8)

    class Heard(type(toy_source())):  # type: ignore[misc]
        pass

    heard = Heard(4, "train", ("image",), 16)
    heard.modalities = {"audio": heard.modalities["image"]}
    with pytest.raises(DataError, match=r"audio of shape \[3, 16, 16\], the set of \[1, 64, 80\]; open the data"):
        Column(heard, "audio", torch.arange(4), (1, 64, 80))


def test_closest_vectors_take_the_best_row_of_each_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = F.normalize(torch.randn(12, 5, generator=seeded(0)), dim=1)
    owner = torch.tensor([0, 0, 1, 1, 1, 3, 4, 4, 5, 6, 6, 6])  # sample 2 has none
    queries = F.normalize(torch.randn(6, 5, generator=seeded(1)), dim=1)
    expected = torch.full((6, 7), torch.inf)
    for q in range(6):
        for r in range(12):
            expected[q, owner[r]] = min(float(expected[q, owner[r]]), 1 - float(queries[q] @ rows[r]))
    monkeypatch.setattr(distance, "CELLS", 24)
    origin = torch.tensor([0, 3, -1, 2, 6, 4])
    found, index, own = closest_vectors(queries, Features(rows, owner), 7, 3, origin)
    assert torch.allclose(found, expected.sort(1).values[:, :3], atol=1e-6)
    assert torch.equal(index, expected.argsort(1)[:, :3])
    assert own[[2, 3]].isnan().all()
    assert own[[0, 1, 4, 5]].tolist() == pytest.approx(expected[[0, 1, 4, 5], origin[[0, 1, 4, 5]]].tolist(), abs=1e-6)


def test_one_more_held_out_sample_is_rarely_below_the_bound() -> None:
    hits = 0
    for seed in range(2000):
        x = torch.rand(121, generator=seeded(seed)).double()
        hits += float(x[120]) <= (bound_of(x[:120], 0.05) or 0)
    assert hits / 2000 == pytest.approx(6 / 121, abs=0.015)
    assert bound_of(torch.tensor([0.0, 0.0, 0.4, 0.3])) == pytest.approx(0.3)  # copies are no held-out samples


def test_a_verdict_counts_a_sample_once_whatever_measure_calls_it() -> None:
    def near(
        modality: str, measure: str, memorised: str, called: str = "", returned: float | None = None
    ) -> NearestNeighbours:
        flags, wrong = (tuple(x == "x" for x in word) for word in (memorised, called))
        n = len(flags)
        return NearestNeighbours(
            modality, measure, (0.5,) * n, ("a",) * n, (None,) * n, flags, called=wrong, returned=returned
        )

    nearness = (
        near("image", "rmse", "xx..", "x....", 0.75), near("image", "ssim", ".xx.", ".x...", 0.5),
        near("image", "features", "....", "", None), near("text", "features", "...x"),
    )  # fmt: skip
    audit = Audit("small", "toy", samples=4, training=200, held_out=5, nearness=nearness)
    assert audit.memorised("image") == (True, True, True, False) and audit.modalities == ("image", "text")
    assert audit.verdict() == [
        "image: 3 of 4 samples are memorised (RMSE: 2, 1 - SSIM: 2, 1 - cosine: 0); the rule says so of 2 of 5 held-out samples",
        "image: the nearest training sample is the one that a sample started from (RMSE: 75 %, 1 - SSIM: 50 %; by chance 0.5 %)",
        "text: 1 of 4 samples are memorised (1 - cosine: 1)",
    ]
    found = audit.data()
    assert found["nearness"][3]["memorised"] == [False, False, False, True] and found["samples"] == 4


def test_which_rows_hold_a_modality_is_a_mask_of_none_too() -> None:
    source = toy_source(6)
    for rows in (torch.arange(0), torch.tensor([4, 1])):
        found = _holding("image", source, rows, (3, 16, 16))
        assert found.dtype == torch.bool and found.tolist() == [True] * len(rows)


@pytest.mark.parametrize("others", [0, 1, NEXT, NEXT + 6])
def test_how_far_the_nearest_stands_out_is_told_by_the_next_fifteen(others: int) -> None:
    rows = torch.rand(4, 1 + others, generator=seeded(0)).sort(dim=1).values
    rows[1] = 0
    found = _Near.of(rows, torch.arange(rows.numel()).view_as(rows))
    for i, row in enumerate(rows.tolist()):
        after = row[1:16]
        expected = row[0] / (sum(after) / len(after)) if after and sum(after) else 1.0
        assert float(found.apart[i]) == pytest.approx(expected, rel=1e-5)
    assert torch.equal(found.distance, rows[:, 0]) and found.index.tolist() == [i * (1 + others) for i in range(4)]
    assert found.origin.isnan().all() and found.same.isnan().all()


def test_the_bound_is_the_largest_that_a_rate_allows() -> None:
    """Of n held-out distances the k-th, k = floor(rate (n + 1)), at least the first: exactly where that is a whole number, too."""
    for n, rate, k in [(199, 0.01, 2), (198, 0.01, 1), (9, 0.1, 1), (99, 0.29, 29), (5, 0.01, 1), (19, 0.15, 3)]:
        distances = torch.arange(1.0, n + 1)[torch.randperm(n, generator=seeded(n))]
        assert bound_of(distances, rate) == k
    assert bound_of(torch.tensor([0.0, 3.0, 2.0, 0.0])) == 2.0 and bound_of(torch.zeros(3)) is None


def test_vendi_counts_what_differs() -> None:
    assert vendi(torch.eye(6)) == pytest.approx(6)
    assert vendi(torch.eye(6)[:1].expand(9, -1)) == pytest.approx(1)
    assert vendi(torch.eye(6)[[0, 0, 1, 1]]) == pytest.approx(2)
    for n, d in ((7, 4), (4, 7)):
        x = F.normalize(torch.randn(n, d, generator=seeded(n)), dim=1).double()
        values = torch.linalg.eigvals(x @ x.T / n).real.clamp(min=0)
        naive = math.exp(-sum(v * math.log(v) for v in values.tolist() if v > 1e-12))
        assert vendi(x.float()) == pytest.approx(naive, rel=1e-5)


def test_density_and_coverage_are_the_naive_ones() -> None:
    real, fake, k = torch.randn(20, 3, generator=seeded(0)), torch.randn(9, 3, generator=seeded(1)), 3
    inside = 0
    covered = set()
    for i in range(20):
        radius = sorted(float((real[i] - real[j]).norm()) for j in range(20) if j != i)[k - 1]
        for y in fake:
            if float((y - real[i]).norm()) <= radius:
                inside += 1
                covered.add(i)
    assert density_and_coverage(real, fake, k) == pytest.approx((inside / (k * 9), len(covered) / 20))


def test_density_and_coverage_of_one_kind_and_of_another() -> None:
    x, y = (torch.randn(400, 4, generator=seeded(s)) for s in (0, 1))
    density, coverage = density_and_coverage(x, y, 5)
    assert density == pytest.approx(1, abs=0.15) and coverage == pytest.approx(1 - 2**-5, abs=0.03)
    assert density_and_coverage(x, y + 50, 5) == (0.0, 0.0)
    assert density_and_coverage(x, y[:1].expand(400, -1), 5)[1] < 0.1


def test_confidences_rank_as_the_losses_do() -> None:
    logits, labels = torch.randn(8, 5, generator=seeded(0)), torch.arange(8) % 5
    phi = confidence(logits, labels)
    p = logits.softmax(1)[torch.arange(8), labels]
    assert torch.allclose(phi, (p / (1 - p)).log(), atol=1e-5)
    assert torch.allclose(F.softplus(-phi), F.cross_entropy(logits, labels, reduction="none"), atol=1e-5)


def test_auc_and_tpr_are_the_naive_ones_and_one_distribution_is_chance() -> None:
    x, y = (
        torch.randint(6, (30,), generator=seeded(0)).float() + 1,
        torch.randint(6, (40,), generator=seeded(1)).float(),
    )
    wins = sum((a > b) + 0.5 * (a == b) for a in x.tolist() for b in y.tolist())
    assert auc(x, y) == pytest.approx(wins / 1200)
    best = 0.0
    for t in torch.cat([x, y]).unique().tolist():
        if float((y > t).float().mean()) <= 0.1:
            best = max(best, float((x > t).float().mean()))
    assert tpr_at(x, y, 0.1) == pytest.approx(best)
    same = torch.randn(2, 4000, generator=seeded(2))
    assert auc(same[0], same[1]) == pytest.approx(0.5, abs=0.02)
    assert tpr_at(same[0], same[1]) == pytest.approx(0.01, abs=0.01)
    assert auc(torch.zeros(5), torch.zeros(7)) == 0.5 and tpr_at(torch.zeros(5), torch.zeros(7)) == 0.0


def test_bootstrap_intervals_are_those_of_naive_resampling() -> None:
    x, y = torch.randn(2, 30, generator=seeded(0)) + 0.7, torch.randn(2, 25, generator=seeded(1))
    area, caught = rates(x, y, seeded(5), rate=0.1, draws=400)
    mine, theirs = (torch.randint(n, (400, n), generator=g) for g in [seeded(5)] for n in (30, 25))
    drawn = [
        (
            sum(auc(x[s][i], y[s][j]) for s in range(2)) / 2,
            sum(tpr_at(x[s][i], y[s][j], 0.1) for s in range(2)) / 2,
        )
        for i, j in zip(mine, theirs, strict=True)
    ]
    limits = torch.tensor(drawn, dtype=torch.double).quantile(torch.tensor([0.025, 0.975]).double(), dim=0)
    assert [area.low, area.high] == pytest.approx(limits[:, 0].tolist(), abs=1e-6)
    assert [caught.low, caught.high] == pytest.approx(limits[:, 1].tolist(), abs=1e-6)
    assert area.value == pytest.approx((auc(x[0], y[0]) + auc(x[1], y[1])) / 2) and area.low < area.value < area.high


def shadow_world(students: int, n: int, effect: float, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Confidences of samples of very different difficulty, which rise by `effect` where a student saw the sample."""
    draw = seeded(seed)
    hard = 3 * torch.randn(n, generator=draw)
    inside = torch.rand(students, n, generator=draw).argsort(0) < students // 2
    shadows = hard + effect * inside + 0.5 * torch.randn(students, n, generator=draw)
    member = torch.arange(n) < n // 2
    return hard + effect * member + 0.5 * torch.randn(n, generator=draw), shadows, inside, member


@pytest.mark.parametrize("students", [8, 128])
def test_lira_sees_what_the_loss_hides_behind_difficulty(students: int) -> None:
    target, shadows, inside, member = shadow_world(students, 400, effect=1.5)
    online, offline = lira(target, shadows, inside)
    assert auc(target[member], target[~member]) < 0.72
    assert auc(online[member], online[~member]) > 0.95 and auc(offline[member], offline[~member]) > 0.95
    sure = lira(5 * target - 100, shadows, inside)[0]  # a target that is surer of everything
    assert torch.allclose(sure, online, atol=1e-3)


def test_lira_finds_nothing_where_nothing_is() -> None:
    target, shadows, inside, member = shadow_world(16, 2000, effect=0.0)
    for score in lira(target, shadows, inside):
        assert auc(score[member], score[~member]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("students", [6, 80])
def test_lira_is_a_ratio_of_normal_densities(students: int) -> None:
    target, shadows, inside, _ = shadow_world(students, 30, effect=1.0, seed=3)
    scaled = (target - target.mean()) / target.std() * shadows.std(1).mean() + shadows.mean()
    logs, offs = [], []
    for seen in (inside, ~inside):
        means = torch.stack([shadows[seen[:, i], i].mean() for i in range(30)])
        spread = torch.stack([shadows[seen[:, i], i].var() for i in range(30)])
        spread = spread if students >= 64 else spread.mean().expand(30)
        logs.append(norm.logpdf(scaled.numpy(), means.numpy(), spread.sqrt().numpy()))
        offs = norm.cdf(scaled.numpy(), means.numpy(), spread.sqrt().numpy())
    online, offline = lira(target, shadows, inside)
    assert online.numpy() == pytest.approx(logs[0] - logs[1], abs=2e-3)
    assert norm.cdf(offline.numpy()) == pytest.approx(offs, abs=1e-4)
