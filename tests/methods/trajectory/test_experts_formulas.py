"""Trajectory matching and its experts against naive re-implementations, and what differs from step to step."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import limbeck as lb
from limbeck.check import toy_source
from limbeck.core import Problem, Synthetic, freeze
from limbeck.core.recipe import Recipe
from limbeck.evaluation.protocols._towers import learned_rates
from limbeck.methods.trajectory.experts import matching, store
from limbeck.methods.trajectory.experts.learned_rate import LearnedRate
from limbeck.methods.trajectory.experts.store import Experts, ExpertTraining
from limbeck.methods.trajectory.lors import LoRS
from limbeck.methods.trajectory.mtt_vl import MTTVL
from limbeck.runtime.cache import Cache
from limbeck.students import two_towers as towers
from limbeck.students.two_towers import TwoTowers

TINY: dict[str, Any] = {"steps": 40, "dim": 5, "experts": 3, "expert_batch": 8, "inner_steps": 3, "inner_batch": 4}
SPACE = {"image": {"name": "convnet", "width": 8}, "text": {"name": "bag_of_words", "width": 16}}


def problem_in(folder: Path, pairs: int = 9) -> Problem:
    return Problem(toy_source(24), lb.space(**SPACE), lb.Budget(pairs=pairs), cache=Cache(folder))


def infonce(z: Tensor, ignored: Tensor | None = None) -> Tensor:
    """The mean of both cross-entropies with the identity."""
    z = z if ignored is None else z.masked_fill(ignored, -torch.inf)
    both = [-(logits - logits.exp().sum(1, keepdim=True).log()).diagonal().mean() for logits in (z, z.T)]
    return (both[0] + both[1]) / 2


def ence(z: Tensor, s: Tensor) -> Tensor:
    rows, columns = z - z.exp().sum(1, keepdim=True).log(), z - z.exp().sum(0, keepdim=True).log()
    return -(s * (rows + columns)).sum() / (2 * len(z))


class Seen:
    """Records what each segment of a step was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.segments: list[dict[str, Any]] = []
        self.read: list[tuple[int, int]] = []
        inner, snapshot = matching.match, Experts.snapshot

        def match(student: Any, start: Any, target: Any, batch: Any, rates: Any, steps: int, *rest: Any) -> Any:
            batches = [batch(t) for t in range(steps)]
            self.segments.append(
                {
                    "start": start,
                    "target": target,
                    "batches": [[x.detach().clone() for x in b] for b in batches],
                    "rates": {k: v.detach().clone() for k, v in rates.items()},
                    "read": self.read[:],
                }
            )
            self.read.clear()
            return inner(student, start, target, batch, rates, steps, *rest)

        def read(experts: Experts, expert: int, epoch: int) -> dict[str, Tensor]:
            self.read.append((expert, epoch))
            return snapshot(experts, expert, epoch)

        monkeypatch.setattr(matching, "match", match)
        monkeypatch.setattr(Experts, "snapshot", read)


def unequal_rates(synthetic: Synthetic, image: float = 0.3, text: float = 0.05) -> None:
    for name, value in (("rate_image", image), ("rate_text", text)):
        made = LearnedRate(value, 1e-4, 10.0)
        synthetic.hints[name].load_state_dict(made.state_dict())


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("kind", ["mtt_vl", "lors"])
def test_a_step_is_the_gradient_of_where_naive_students_land(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, merged: bool
) -> None:
    """sum_k |theta_T,k - theta*_k|^2 / |theta_0,k - theta*_k|^2, a rate a tower, averaged over segments, unrolled by hand."""
    problem = problem_in(tmp_path)
    options = {**TINY, "gradient": "exact", "max_start": 2, "segments": 3, "expert_rate": 0.5, "merged": merged}
    method = MTTVL(**options) if kind == "mtt_vl" else LoRS(**options, rank=2, loss="ence", bound="none")
    synthetic = method.start(problem)
    unequal_rates(synthetic)
    if synthetic.relation is not None:
        with torch.no_grad():
            synthetic.relation.right.normal_(0, 0.3, generator=torch.Generator().manual_seed(4))
    seen = Seen(monkeypatch)
    logs = method.step(problem, synthetic, 7)
    learned = list(synthetic.parameters())
    found = [p.grad.clone() for p in learned]  # type: ignore[union-attr]

    made = method._experts(problem, "frozen").towers
    vectors = {m: problem.space[m](synthetic.value("image")) for m in ("image",)}
    vectors["text"] = F.normalize(synthetic.value("text"), dim=1)
    x = {}
    for m in ("image", "text"):
        rows = problem.features[m].vectors.double()
        variance, basis = torch.linalg.eigh(torch.cov(rows.T, correction=0))
        kept = int((variance > 1e-6 * variance[-1]).sum())
        variance, basis = variance.flip(0)[:kept], basis.flip(1)[:, :kept]
        regular = variance + 30.0 * float((rows - rows.mean(0)).square().sum(1).mean()) / rows.shape[1]
        theirs = made.components(problem, m).basis.double()
        signs = (basis * theirs).sum(0).sign()
        x[m] = (vectors[m].double() - rows.mean(0)) @ (basis * signs / (regular * (variance / regular).sum()).sqrt())
    total = torch.zeros((), dtype=torch.double)
    relation = None if synthetic.relation is None else synthetic.relation()
    for segment in seen.segments:
        theta = {k: v.double().requires_grad_() for k, v in segment["start"].items()}
        begin = dict(theta)
        for image, text, _ in segment["batches"]:
            index = [int((x["image"] - row).abs().sum(1).argmin()) for row in image.double()]
            assert torch.allclose(x["text"][index], text.double(), atol=1e-4), "pairs stay pairs"
            u = x["image"][index] @ theta["image.head.0.weight"].T + theta["image.head.0.bias"]
            v = x["text"][index] @ theta["text.head.0.weight"].T + theta["text.head.0.bias"]
            z = (u / u.norm(dim=1, keepdim=True)) @ (v / v.norm(dim=1, keepdim=True)).T / 0.07
            loss = infonce(z) if relation is None else ence(z, relation[index][:, index].double())
            grads = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
            rate = {m: synthetic.hints[f"rate_{m}"]() for m in ("image", "text")}
            theta = {k: w - rate[k.split(".")[0]] * g for (k, w), g in zip(theta.items(), grads, strict=True)}
        target = {k: v.double() for k, v in segment["target"].items()}
        near, far = ({m: 0.0 for m in x} for _ in range(2))
        for k in theta:
            near[k.split(".")[0]] += (theta[k] - target[k]).square().sum()
            far[k.split(".")[0]] += (begin[k] - target[k]).detach().square().sum()
        if merged:
            total = total + sum(near.values()) / sum(far.values()) / 3
        else:
            total = total + sum(near[m] / far[m] for m in x) / 3
    assert float(logs["loss"]) == pytest.approx(total.item(), rel=1e-3)
    expected = torch.autograd.grad(total, learned)
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).norm()) <= 5e-3 * float(other.norm())


@pytest.mark.slow
def test_segments_differ_from_step_to_step_and_belong_to_one_expert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = problem_in(tmp_path)
    method = MTTVL(**TINY, max_start=3, expert_epochs=2, segments=2, gradient="truncated")
    synthetic = method.start(problem)
    snapshots = {(k, e): method._experts(problem, "frozen").snapshot(k, e) for k in range(3) for e in range(5)}
    seen = Seen(monkeypatch)
    for t in range(20):
        synthetic.zero_grad()
        method.step(problem, synthetic, t)
    drawn = []
    for segment in seen.segments:
        (expert,) = {k for k, _ in segment["read"]}
        first = min(e for _, e in segment["read"])
        assert {e for _, e in segment["read"]} == {first, first + 2}
        for name, value in segment["start"].items():
            assert torch.equal(value, snapshots[expert, first][name])
            assert torch.equal(segment["target"][name], snapshots[expert, first + 2][name])
        drawn.append((expert, first))
    assert len(set(drawn)) >= 8, "every expert and every start is met, all but one of 9 in 40 segments"
    assert [{d[i] for d in drawn} for i in (0, 1)] == [{0, 1, 2}] * 2
    pairs = list(zip(drawn[::2], drawn[1::2], strict=True))
    assert len(set(pairs)) > 8 and any(a != b for a, b in pairs)
    batches = [tuple(tuple(b[0].flatten().tolist()) for b in segment["batches"]) for segment in seen.segments]
    assert len(set(batches)) == 40, "and every segment draws batches of its own"
    assert all(len(set(one)) == 3 for one in batches)


@pytest.mark.slow
def test_towers_that_start_apart_are_of_one_expert_each_at_its_own_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = problem_in(tmp_path)
    method = MTTVL(**TINY, max_start=1, max_start_text=3, segments=1)
    synthetic = method.start(problem)
    experts = method._experts(problem, "frozen")
    seen, starts = Seen(monkeypatch), set()
    for t in range(12):
        method.step(problem, synthetic, t)
    for segment in seen.segments:
        (expert,) = {k for k, _ in segment["read"]}
        own = {"image": 0}
        own["text"] = next(
            e
            for e in range(3)
            if torch.equal(segment["start"]["text.head.0.weight"], experts.snapshot(expert, e)["text.head.0.weight"])
        )
        for name in segment["start"]:
            e = own[name.split(".")[0]]
            assert torch.equal(segment["start"][name], experts.snapshot(expert, e)[name])
            assert torch.equal(segment["target"][name], experts.snapshot(expert, e + 1)[name])
        starts.add(own["text"])
    assert starts == {0, 1, 2}


@pytest.mark.parametrize("captions", ["all", "one"])
def test_every_expert_and_epoch_has_an_order_of_its_own(tmp_path: Path, captions: str) -> None:
    experts = Experts(problem_in(tmp_path), TwoTowers(dim=5), ExpertTraining(batch=8, captions=captions))
    orders = {}
    for expert in range(3):
        for epoch in (1, 2, 3):
            batches = list(experts._batches(expert, epoch))
            assert all(len(sample) == 8 for sample, _ in batches)
            orders[expert, epoch] = tuple(torch.cat([caption for _, caption in batches]).tolist())
    assert len(set(orders.values())) == 9
    if captions == "one":  # nor does an image keep its caption
        picks = {tuple(sorted(order)) for order in orders.values()}
        assert len(picks) == 9


def test_experts_are_naive_sgd_with_noise_of_its_own_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = problem_in(tmp_path)
    training = ExpertTraining(batch=12, rate=0.4, noise=0.7, mask=True)
    experts, noise, inner = Experts(problem, TwoTowers(dim=5, temperature=0.2), training), [], store.add_noise

    def add_noise(x: Tensor, size: float, dim: int, generator: torch.Generator) -> Tensor:
        assert size == 0.7 and dim in (8, 16)
        noise.append(inner(x, size, dim, generator) - x)
        return x + noise[-1]

    monkeypatch.setattr(store, "add_noise", add_noise)
    found = [experts.snapshot(k, 2) for k in (0, 1)]
    steps = len(problem.candidates) // 12
    assert len(noise) == 2 * 2 * 2 * steps
    for x in noise:
        assert sum(x.shape == y.shape and torch.allclose(x, y, atol=1e-4) for y in noise) == 1
    monkeypatch.undo()
    drawn: Iterator[Tensor] = iter(noise)
    order = {k: [experts.snapshot(k, 0)] for k in (0, 1)}
    for k in (0, 1):
        theta = {name: value.double() for name, value in order[k][0].items()}
        for epoch in (1, 2):
            pairs = torch.randperm(len(problem.candidates), generator=lb.core.stream(0, f"expert {k} order", epoch))
            for i in range(steps):
                rows = pairs[12 * i : 12 * i + 12]
                sample, caption = problem.candidates.sample[rows], problem.candidates.rows["text"][rows]
                x, y = experts.towers.real(problem, sample, caption, None)
                x, y = (x + next(drawn)).double(), (y + next(drawn)).double()
                theta = {name: value.detach().requires_grad_() for name, value in theta.items()}
                u = x @ theta["image.head.0.weight"].T + theta["image.head.0.bias"]
                v = y @ theta["text.head.0.weight"].T + theta["text.head.0.bias"]
                z = (u / u.norm(dim=1, keepdim=True)) @ (v / v.norm(dim=1, keepdim=True)).T / 0.2
                twins = (sample[:, None] == sample) & ~torch.eye(12, dtype=torch.bool)
                grads = torch.autograd.grad(infonce(z, twins), list(theta.values()))
                theta = {name: w - 0.4 * g for (name, w), g in zip(theta.items(), grads, strict=True)}
        for name, value in theta.items():
            torch.testing.assert_close(found[k][name].double(), value.detach(), rtol=1e-3, atol=1e-5)


def test_experts_see_components_of_the_training_data_and_pixels_moved_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experts = Experts(
        problem_in(tmp_path), TwoTowers("convnet", dim=5), ExpertTraining(batch=24, captions="one", rate=0.01)
    )
    seen: list[Tensor] = []
    real = TwoTowers.real

    def watched(self: TwoTowers, problem: Problem, sample: Tensor, caption: Tensor, moved: Any) -> Any:
        image, text = real(self, problem, sample, caption, moved)
        seen.append(image[sample.argsort()])
        return image, text

    crop_flip, seeds = towers.crop_flip, []
    monkeypatch.setattr(towers, "crop_flip", lambda x, draw: seeds.append(draw.initial_seed()) or crop_flip(x, draw))
    monkeypatch.setattr(TwoTowers, "real", watched)
    for expert in (0, 1):
        experts.snapshot(expert, 2)
    assert len(seen) == 4 and all(x.shape == (24, 3, 16, 16) for x in seen)
    assert all(not torch.equal(x, y) for i, x in enumerate(seen) for y in seen[:i])
    assert len(set(seeds)) == len(seeds) == 4, "how far images are moved is drawn anew, too"


def test_a_similarity_is_of_the_kind_and_rank_and_drawn_by_the_seed_of_the_problem(tmp_path: Path) -> None:
    def learned(seed: int = 0, **options: Any) -> Any:
        problem = Problem(toy_source(24), lb.space(**SPACE), lb.Budget(pairs=9), seed=seed, cache=Cache(tmp_path))
        return LoRS(**TINY, **options).learned_similarity(problem, 6)

    low = learned(rank=2, alpha=3.0, bound="none")
    assert (low.kind, low.pairs, low.rank, low.alpha, low.bound) == ("lowrank", 6, 2, 3.0, "none")
    assert torch.equal(low.left, learned(rank=2).left) and not torch.equal(low.left, learned(1, rank=2).left)
    kinds = {"rank=0": learned(rank=0).kind, "none": learned(similarity="none")}
    assert kinds == {"rank=0": "diagonal", "none": None}
    for kind in ("scalar", "diagonal", "full"):
        assert {learned(similarity=kind, rank=rank).kind for rank in (0, 2)} == {kind}


@pytest.mark.parametrize("head", ["linear", "mlp", "residual"])
def test_heads_are_their_formulas(tmp_path: Path, head: Any) -> None:
    """Linear; one hidden layer; `LayerNorm(h + W2 gelu(h))` with `h = W1 x`."""
    network = TwoTowers(dim=5, head=head).network(problem_in(tmp_path), torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(1)
    w = {name: torch.randn(p.shape, generator=draw) / p.shape[-1] ** 0.5 for name, p in network.named_parameters()}
    network.load_state_dict(w)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def gelu(x: Tensor) -> Tensor:
        return x * (1 + torch.erf(x / 2**0.5)) / 2

    def naive(x: Tensor, side: str) -> Tensor:
        if head == "linear":
            return linear(x, f"{side}.head.0")
        if head == "mlp":
            return linear(gelu(linear(x, f"{side}.head.0")), f"{side}.head.2")
        h = linear(x, f"{side}.first.head.0")
        h = h + linear(gelu(h), f"{side}.second.head.0")
        z = (h - h.mean(1, keepdim=True)) / (h.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        return z * w[f"{side}.norm.weight"] + w[f"{side}.norm.bias"]

    first = {"linear": "head.0", "mlp": "head.0", "residual": "first.head.0"}[head]
    inputs = [torch.randn(3, w[f"{side}.{first}.weight"].shape[1], generator=draw) for side in ("image", "text")]
    for found, x, side in zip(network(*inputs), inputs, ("image", "text"), strict=True):
        z = naive(x, side)
        torch.testing.assert_close(found, z / z.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)


def test_learned_rates_keep_their_tower_from_the_step_to_the_student(tmp_path: Path) -> None:
    problem, method = problem_in(tmp_path), MTTVL(**TINY)
    synthetic = method.start(problem)
    unequal_rates(synthetic, 0.3, 0.05)
    small = freeze(problem, Recipe.of(problem, method), synthetic, learned_text=True)
    assert small.hints == pytest.approx({"rate_image": 0.3, "rate_text": 0.05})
    again = lb.load(small.save(tmp_path / "set"))
    assert learned_rates(again) == pytest.approx({"image": 0.3, "text": 0.05})
    assert learned_rates(lb.distill(problem, lb.methods.Random())) == {}


def test_kinds_of_what_is_learned_have_the_rates_that_are_given(tmp_path: Path) -> None:
    problem = problem_in(tmp_path)
    rates = {"lr": 0.1, "lr_text": 0.2, "lr_rate": 0.3}
    for update in ("adam", "sgd"):
        method = LoRS(**TINY, **rates, lr_similarity=0.4, rank=2, update=update)
        synthetic = method.start(problem)
        named = {id(p): name for name, p in synthetic.named_parameters()}
        found = {
            named[id(p)]: group["lr"] for group in method.optimizer(synthetic).param_groups for p in group["params"]
        }
        kinds = {"learned.image": 0.1, "learned.text": 0.2, "hints": 0.3, "relation": 0.4}
        assert len(found) == 7
        for name, lr in found.items():
            assert lr == next(value for start, value in kinds.items() if name.startswith(start)), name
        factors = [method.lr_schedule(t) for t in range(40)]
        if update == "adam":
            assert factors == pytest.approx(
                [(1 + torch.cos(torch.tensor(torch.pi * t / 40)).item()) / 2 for t in range(40)], abs=1e-6
            )
        else:
            assert set(factors) == {1.0}


def test_mixtures_are_of_the_batch_and_drawn_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_in(tmp_path)
    method = MTTVL(**TINY, blend=1.0, segments=2)
    synthetic, mixes, inner = method.start(problem), [], matching.mix
    monkeypatch.setattr(matching, "mix", lambda *given: mixes.append(inner(*given)) or mixes[-1])
    for t in range(3):
        method.step(problem, synthetic, t)
    assert len(mixes) == 3 * 2 * 3 and all(sorted(order.tolist()) == [0, 1, 2, 3] for order, _ in mixes)
    assert len({weight for _, weight in mixes}) == len(mixes) and len({tuple(o.tolist()) for o, _ in mixes}) > 3
    assert all(0 <= weight <= 1 for _, weight in mixes)
