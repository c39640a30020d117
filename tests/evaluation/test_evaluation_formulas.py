"""What students do, step by step, against naive re-implementations from the formulas; and who has a say in what they learn."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import limbeck as lb
from limbeck.check import ToySource, toy_source
from limbeck.core import DistilledSet
from limbeck.data import Cache, Source
from limbeck.data.vectors import VectorSource
from limbeck.evaluation import evaluate
from limbeck.evaluation.protocol import Context, Protocol
from limbeck.evaluation.protocols import _fusion, _towers
from limbeck.evaluation.protocols.classification import Classification
from limbeck.evaluation.protocols.retrieval import Retrieval
from limbeck.runtime.random import stream
from limbeck.runtime.runtime import Runtime
from limbeck.spaces import Space
from limbeck.students import Schedule, Tower, fit, training

D = {"a": 7, "b": 5}


class Vectors(VectorSource):
    """Two modalities of vectors, with three splits that have nothing in common but what makes them."""

    splits = ("train", "val", "test")

    def split(self, name: str) -> Source:
        return vectors(name, self.labels is not None)


def vectors(split: str = "train", labelled: bool = False, n: int = 40) -> Vectors:
    draw = torch.Generator().manual_seed(("train", "val", "test").index(split))
    maps = torch.Generator().manual_seed(9)
    point = torch.randn(n, 3, generator=draw)
    shift = {"train": 0.0, "val": 1.0, "test": -1.0}[split]  # held-out data with other means and components
    values = {}
    for m, d in D.items():
        x = point @ torch.randn(3, d, generator=maps) + 0.3 * torch.randn(n, d, generator=draw) + shift
        values[m] = F.normalize(x * torch.linspace(1, 3 if split == "train" else 0.3, d), dim=1)
    labels = (point[:, 0] > 0).long() + (point[:, 1] > 0).long() if labelled else None
    return Vectors(f"vectors[{split}]", values, labels, split=split)


def space() -> Space:
    return lb.space(**{m: f"vectors:{d}" for m, d in D.items()})


class Whitened:
    """Ridge whitening in the principal components of the rows of x, in double precision."""

    def __init__(self, x: Tensor, rank: int, ridge: float) -> None:
        x = x.double()
        self.mean = x.mean(0)
        variance, basis = torch.linalg.eigh((x - self.mean).T @ (x - self.mean) / len(x))
        variance, basis = variance.flip(0)[:rank], basis.flip(1)[:, :rank]
        regular = variance + ridge * float((x - self.mean).square().sum(1).mean()) / x.shape[1]
        scale = math.sqrt(float((variance / regular).sum()))
        self.map = basis / regular.sqrt() / scale

    def __call__(self, x: Tensor) -> Tensor:
        return (x.double() - self.mean) @ self.map


class ByHand:
    """A linear student, trained by AdamW with a cosine from the formulas; what is drawn comes from the student's streams.

    Args:
        values: modality to the features of the set.
        seed: of the streams.
        rank, ridge: of the whitening.
    """

    def __init__(self, values: dict[str, Tensor], seed: int, rank: int, ridge: float) -> None:
        self.seed, self.values = seed, values
        self.white = {m: Whitened(x, rank, ridge) for m, x in values.items()}
        self.inputs = {m: self.white[m](x) for m, x in values.items()}
        self.weight: dict[str, Tensor] = {}

    def begin(
        self, generators: dict[str, torch.Generator], outputs: int, signs: dict[str, Tensor], gain: float = 0.1
    ) -> None:
        for m, x in self.inputs.items():
            drawn = torch.empty(outputs, x.shape[1]).normal_(0, gain / math.sqrt(x.shape[1]), generator=generators[m])
            self.weight[m] = drawn.double() * signs[m]
            self.weight[m + " bias"] = torch.zeros(outputs, dtype=torch.double)

    def train(
        self,
        steps: int,
        batch: int,
        rate: float,
        loss: Callable[[dict[str, Tensor], Tensor, int], Tensor],
        optimizer: str = "adamw",
    ) -> None:
        moments = {name: [torch.zeros_like(w), torch.zeros_like(w)] for name, w in self.weight.items()}
        n, queue, epoch = len(next(iter(self.inputs.values()))), torch.zeros(0, dtype=torch.long), 0
        for t in range(steps):
            if len(queue) < batch:
                queue, epoch = torch.randperm(n, generator=stream(self.seed, "student order", epoch)), epoch + 1
            index, queue = queue[:batch], queue[batch:]
            leaves = {name: w.clone().requires_grad_() for name, w in self.weight.items()}
            gradients = torch.autograd.grad(loss(leaves, index, t), list(leaves.values()))
            for (name, w), g in zip(self.weight.items(), gradients, strict=True):
                first, second = moments[name]
                if optimizer == "sgd":
                    first.mul_(0.9).add_(g + 5e-4 * w)
                    self.weight[name] = w - (rate if t < steps / 2 else 0.1 * rate) * first
                    continue
                first.mul_(0.9).add_(0.1 * g)
                second.mul_(0.999).add_(0.001 * g * g)
                step = first / (1 - 0.9 ** (t + 1)) / ((second / (1 - 0.999 ** (t + 1))).sqrt() + 1e-8)
                lr = rate * 0.5 * (1 + math.cos(math.pi * t / steps))
                self.weight[name] = w * (1 - lr * 0.01) - lr * step

    def seen(self, w: dict[str, Tensor], m: str, x: Tensor) -> Tensor:
        return x @ w[m].T + w[m + " bias"]

    def add_noise(
        self, m: str, index: Tensor, noise: float, generator: torch.Generator, signs: dict[str, Tensor]
    ) -> Tensor:
        x = self.inputs[m][index]
        return x + signs[m] * noise / math.sqrt(D[m]) * torch.randn(x.shape, generator=generator).double()


def signs_of(hand: ByHand, components: dict[str, Any]) -> dict[str, Tensor]:
    """The sign of a principal component is free: that of each one which the student has, against that by hand."""
    return {m: (hand.white[m].map * components[m].basis.double()).sum(0).sign() for m in hand.inputs}


def hits(queries: Tensor, gallery: Tensor, k: int) -> float:
    """Percent of queries, of which number i belongs to number i, with fewer than k others as near as their own."""
    score = queries @ gallery.T
    found = 0
    for i in range(len(score)):
        found += sum(bool(score[i, j] >= score[i, i]) for j in range(len(score)) if j != i) < k
    return 100 * found / len(score)


def test_a_student_of_pairs_is_trained_as_the_formulas_say(cache: Cache) -> None:
    """PCA of the set alone, ridge whitening, fresh noise, InfoNCE at a temperature, AdamW with a cosine, hit rates."""
    how = Retrieval(ridge=(2.0,), noise=(0.5,), rank=4, steps=9, batch=16, rate=0.02, looks=1, dim=6, temperature=0.2)
    source, seed = vectors(), 3
    kept: list[Any] = []
    original = _towers.Training.score

    def score(self: Any, student: nn.Module, held_out: Any) -> dict[str, float]:
        kept.append((self, student))
        return original(self, student, held_out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_towers.Training, "score", score)
        found = how.run(source, source.split("test"), space(), Context(seed, Runtime(cache=cache)))
    trainer, student = kept[-1]
    hand = ByHand({m: source.batch(range(40))[m] for m in D}, seed, 4, 2.0)
    signs = signs_of(hand, trainer.of)
    weights = stream(seed, "student weights")
    hand.begin(dict.fromkeys(D, weights), 6, signs)

    def loss(w: dict[str, Tensor], index: Tensor, t: int) -> Tensor:
        draw = stream(seed, "student draws", t)
        for _ in D:
            torch.rand(len(index), generator=draw)  # which of its rows each sample draws: it has one
        x = {m: hand.seen(w, m, hand.add_noise(m, index, 0.5, draw, signs)) for m in reversed(D)}
        u, v = (x[m] / x[m].norm(dim=1, keepdim=True) for m in D)
        logits, own = u @ v.T / 0.2, torch.arange(len(index))
        both = [-(z - z.exp().sum(1, keepdim=True).log())[own, own].mean() for z in (logits, logits.T)]
        return (both[0] + both[1]) / 2

    hand.train(9, 16, 0.02, loss)
    for m in D:
        theirs = student.get_parameter(f"{m}.head.0.weight").double() * signs[m]
        torch.testing.assert_close(theirs, hand.weight[m], rtol=2e-3, atol=2e-5)
    test = source.split("test").batch(range(40))
    u, v = (hand.seen(hand.weight, m, hand.white[m](test[m])) for m in D)
    u, v = u / u.norm(dim=1, keepdim=True), v / v.norm(dim=1, keepdim=True)
    expected = {f"b to a R@{k}": hits(v, u, k) for k in (1, 5, 10)} | {
        f"a to b R@{k}": hits(u, v, k) for k in (1, 5, 10)
    }
    assert {k: value for k, value in found.items() if k != "mean"} == pytest.approx(expected)
    assert found["mean"] == pytest.approx(sum(expected.values()) / 6)
    assert expected["b to a R@1"] != expected["a to b R@1"] and 10 < found["mean"] < 90, "the case tells the ways apart"


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_classifiers_are_trained_as_the_formulas_say(optimizer: Any, cache: Cache) -> None:
    """A linear head, and the joint student: softmax(V gelu(sum_m W_m x_m)); and late fusion is the mean of probabilities."""
    how = Classification(
        ridge=(2.0,), noise=(0.5,), rank=4, steps=8, batch=16, rate=0.02, looks=1, dim=6, optimizer=optimizer
    )
    source, seed, kept = vectors(labelled=True), 3, {}
    labels = source.labels
    original = _fusion.Training.student

    def student(self: Any, union: tuple[str, ...], *rest: Any) -> nn.Module:
        kept[union] = (self, made := original(self, union, *rest))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_fusion.Training, "student", student)
        found = how.run(source, source.split("test"), space(), Context(seed, Runtime(cache=cache)))
    assert set(kept) == {("a",), ("b",), ("a", "b")}
    test, logits = source.split("test"), {}
    for union, (trainer, theirs) in kept.items():
        hand = ByHand({m: source.batch(range(40))[m] for m in D}, seed, 4, 2.0)
        signs = signs_of(hand, trainer.of)
        hand.inputs = {m: hand.inputs[m] for m in union}
        one, drawn = len(union) == 1, stream(seed, "student weights " + " ".join(union))
        hand.begin(
            {m: stream(seed, f"student weights {m}") if one else drawn for m in union},
            3 if one else 6,
            signs,
            0.1 if one else 1.0,
        )
        if not one:
            hand.weight["head"] = torch.empty(3, 6).normal_(0, 0.1 / math.sqrt(6), generator=drawn).double()
            hand.weight["head bias"] = torch.zeros(3).double()

        def say(w: dict[str, Tensor], x: dict[str, Tensor], one: bool = one, hand: ByHand = hand) -> Tensor:
            total = sum((hand.seen(w, m, x[m]) for m in x), torch.zeros(()).double())
            if one:
                return total
            bent = total * 0.5 * (1 + torch.erf(total / math.sqrt(2)))
            return bent @ w["head"].T + w["head bias"]

        def loss(
            w: dict[str, Tensor], index: Tensor, t: int, hand: ByHand = hand, say: Any = say, signs: Any = signs
        ) -> Tensor:
            draw = stream(seed, "student draws", t)
            z = say(w, {m: hand.add_noise(m, index, 0.5, draw, signs) for m in hand.inputs})
            return -(z - z.exp().sum(1, keepdim=True).log())[torch.arange(len(index)), labels[index]].mean()

        hand.train(8, 16, 0.02, loss, optimizer)
        for m in union:
            weight = theirs.get_parameter(f"towers.{m}.head.0.weight").double() * signs[m]
            torch.testing.assert_close(weight, hand.weight[m], rtol=2e-3, atol=2e-5)
        logits[union] = say(hand.weight, {m: hand.white[m](test.batch(range(40))[m]) for m in union})
    share = {u: 100 * float((z.argmax(1) == test.labels).double().mean()) for u, z in logits.items()}
    late = (logits["a",].softmax(1) + logits["b",].softmax(1)).argmax(1)
    expected = {"joint": share["a", "b"], "a": share["a",], "b": share["b",]}
    expected["late"] = 100 * float((late == test.labels).double().mean())
    assert found == pytest.approx({f"{name} accuracy": value for name, value in expected.items()})


def test_late_fusion_is_the_mean_of_probabilities_and_not_of_logits(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, draw = vectors(labelled=True), torch.Generator().manual_seed(0)
    said = {name: 6 * torch.randn(40, 3, generator=draw) for name in ("a", "b", "ab")}
    monkeypatch.setattr(_fusion.Training, "logits", lambda self, student, samples: said["".join(student.towers)])
    found = Classification(steps=2, looks=1).run(
        source, source.split("test"), space(), Context(0, Runtime(cache=cache))
    )
    labels = source.split("test").labels

    def share(score: Tensor) -> float:
        return 100 * float((score.argmax(1) == labels).double().mean())

    late = share(said["a"].softmax(1) + said["b"].softmax(1))
    assert late != share(said["a"] + said["b"]) and late != share(said["a"].log_softmax(1) + said["b"].log_softmax(1))
    assert found["late accuracy"] == pytest.approx(late) and found["joint accuracy"] == pytest.approx(share(said["ab"]))
    assert found["a accuracy"] == pytest.approx(share(said["a"])) and found["a accuracy"] != found["b accuracy"]


@pytest.mark.parametrize(
    ("optimizer", "rates"),
    [("adamw", {}), ("sgd", {}), ("adamw", {"one": 0.5, "two": 0.02})],
    ids=["adamw", "sgd", "learned"],
)
def test_learning_rates_decay_as_they_should(
    optimizer: Any, rates: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    student = nn.ModuleDict({m: Tower(2, 2, torch.Generator().manual_seed(0)) for m in ("one", "two")})
    seen: list[list[float]] = []
    for kind in (training.AdamW, training.SGD):

        class Watched(kind):  # type: ignore[misc,valid-type]
            def step(self, *rest: Any) -> None:
                seen.append([group["lr"] for group in self.param_groups])
                settings.append({k: v for k, v in self.param_groups[0].items() if k in ("momentum", "weight_decay")})
                super().step(*rest)

        monkeypatch.setattr(training, kind.__name__, Watched)
    settings: list[dict[str, float]] = []
    schedule = Schedule(8, 4, 0.3, optimizer=optimizer)
    x = torch.ones(4, 2)
    list(fit(student, lambda i, t: sum(m(x).sum() for m in student.values()), 4, schedule, 0, "cpu", rates))
    if optimizer == "adamw" and not rates:
        expected = [[0.15 * (1 + math.cos(math.pi * t / 8))] for t in range(8)]
        assert settings[0] == {"weight_decay": 1e-2}
    else:
        expected = [[rate * (1.0 if t < 4 else 0.1) for rate in (rates.values() or [0.3])] for t in range(8)]
        assert settings[0] == {"momentum": 0.9, "weight_decay": 5e-4}
    assert len(seen) == 8
    for found, wanted in zip(seen, expected, strict=True):
        assert found == pytest.approx(wanted)


def carried(small: DistilledSet, image: float, text: float) -> DistilledSet:
    hints = {"hint.rate_image": torch.tensor(image), "hint.rate_text": torch.tensor(text)}
    return replace(small, tensors={**small.tensors, **hints}, training={"loss": "infonce", "temperature": 0.07})


def test_each_tower_learns_at_the_rate_that_the_set_carries_for_it(space: Space, cache: Cache) -> None:
    """A rate of next to nothing leaves a tower where it was, and only that one."""
    source = toy_source(32)
    small = lb.distill(lb.Problem(source, space, lb.Budget(pairs=12), cache=cache), lb.methods.Random())
    how, context = Retrieval(steps=5), Context(0, Runtime(cache=cache))
    for still, rates in (("text", (0.5, 1e-12)), ("image", (1e-12, 0.5))):
        read = how.read(carried(small, *rates), ("image", "text"), space, context, 0)
        trainer = how.trainer(read, ("image", "text"), 0, context)
        assert [point[:2] for point in trainer.points][-1] == (30.0, 0.0)
        student, steps, _ = trainer.candidate(*trainer.points[-1], None)
        before = {m: student.get_parameter(f"{m}.head.0.weight").detach().clone() for m in ("image", "text")}
        list(steps)
        apart = {
            m: float((student.get_parameter(f"{m}.head.0.weight").detach() - before[m]).abs().max()) for m in before
        }
        assert apart.pop(still) < 1e-9 and min(apart.values()) > 1e-3


class Other(ToySource):
    """Training data of the toy source, and held-out data of another kind: other pictures, words, sizes and shares of classes."""

    def __init__(self, n: int, split: str, modalities: tuple[str, ...], resolution: int, far: float = 0.0) -> None:
        super().__init__(n if split == "train" or not far else n // 2 + 3, split, modalities, resolution)
        self.far, self.size = far, n
        if far and split != "train":
            self._image = (self._image * (1 - far) + far * self._image.flip(-1).roll(3, -1).sqrt()).clamp(0, 1)
            self._captions = [(f"{texts[0]} zebra {i}",) for i, texts in enumerate(self._captions)]
            self._colour = self._colour.clamp(max=1)
        self.fingerprint += f" far {far} {n}"

    def split(self, name: str) -> Source:
        return Other(self.size, name, self.options["modalities"], self.options["resolution"], self.far)  # type: ignore[arg-type]


PROTOCOLS: list[tuple[str, Protocol]] = [
    ("pairs", Retrieval(steps=6)),
    ("classes", Classification(steps=6)),
    ("train_only", Classification(steps=6, captions="train_only")),
    ("sgd", Classification(selection="last", steps=6)),
    ("network of pairs", Retrieval(steps=2, student="convnet", resolution=16)),
    ("network", Classification(steps=2, student="convnet", resolution=16)),
    ("encoder", Classification(steps=2, student="encoder")),
    ("encoder of pairs", Retrieval(steps=2, student="encoder")),
]


@pytest.mark.parametrize("protocol", [p for _, p in PROTOCOLS], ids=[name for name, _ in PROTOCOLS])
def test_held_out_data_have_no_say_in_what_any_student_learns(
    protocol: Protocol, space: Space, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Components, whitening, temperature, noise, classes, vocabulary: every statistic is of the set. Every candidate of the grid is
    the same to the bit, whatever it will be chosen and tested on."""
    states: list[dict[str, Tensor]] = []
    inner = training.fit

    def watched(student: nn.Module, *rest: Any) -> Iterator[int]:
        yield from inner(student, *rest)
        states.append({k: v.clone() for k, v in student.state_dict().items()})

    for module in (_towers, _fusion):
        monkeypatch.setattr(module, "fit", watched)
    source = Other(24, "train", ("image", "text", "label"), 16)
    for far in (0.0, 0.9):
        test = Other(24, "test", ("image", "text", "label"), 16, far)
        protocol.run(source, test, space, Context(0, Runtime(cache=cache)))
    half = len(states) // 2
    assert half == len(protocol.grid) * (1 if isinstance(protocol, Retrieval) else half // len(protocol.grid)) > 0
    for one, two in zip(states[:half], states[half:], strict=True):
        assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


@pytest.mark.parametrize("student", ["frozen", "convnet", pytest.param("resnet18", marks=pytest.mark.slow)])
def test_a_sample_is_judged_alone(student: str, space: Space, cache: Cache) -> None:
    """What a student says of a sample is the same whatever is judged beside it: no statistic of the test data is used."""
    source, modalities, context = toy_source(24), ("image", "text"), Context(0, Runtime(cache=cache))
    index = torch.tensor([3, 17, 4])
    for kind in (Retrieval, Classification):
        how: Any = kind(student=student, steps=2, looks=1, resolution=16)
        train, test = (how.read(one, modalities, space, context, 16) for one in (source, source.split("test")))
        trainer = how.trainer(train, modalities, 4, context)
        chosen = trainer.chosen(None)
        if kind is Classification:
            whole, part = trainer.logits(chosen, test)[index], trainer.logits(chosen, test.take(index))
        else:
            whole, part = (
                trainer.vectors(chosen, test)["image"][index],
                trainer.vectors(chosen, test.take(index))["image"],
            )
        torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-5)


def test_every_step_epoch_and_seed_draws_anew(space: Space, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders of epochs, captions, noise and shifts of images: nothing is drawn twice alike."""
    source, modalities = toy_source(24), ("image", "text")
    drawn: dict[str, list[Tensor]] = {"order": [], "captions": [], "noise": [], "pixels": []}

    def keep(module: Any, name: str, kind: str, difference: bool) -> None:
        inner = getattr(module, name)

        def watched(x: Any, *rest: Any, **more: Any) -> Any:
            result = inner(x, *rest, **more)
            drawn[kind].append((result - x if difference else result).detach().clone())
            return result

        monkeypatch.setattr(module, name, watched)

    keep(_towers, "add_noise", "noise", True)
    keep(_towers, "crop_flip", "pixels", False)
    keep(_towers.PairIndex, "draw_one", "captions", False)
    inner = _towers.Training.loss
    monkeypatch.setattr(
        _towers.Training,
        "loss",
        lambda self, s, i, n, index, t: drawn["order"].append(index) or inner(self, s, i, n, index, t),
    )
    for seed in (0, 1):
        for student in ("frozen", "convnet"):
            how = Retrieval(student=student, steps=4, looks=1, batch=24, noise=(1.0,), resolution=16)
            context = Context(seed, Runtime(cache=cache))
            trainer = how.trainer(how.read(source, modalities, space, context, 16), modalities, 0, context)
            trainer.chosen(None)
    order = drawn["order"]
    assert len(order) == 16 and all(sorted(x.tolist()) == list(range(24)) for x in order)
    for start in (0, 8):  # a student on features and one on pixels meet the samples in one order
        assert [x.tolist() for x in order[start : start + 4]] == [x.tolist() for x in order[start + 4 : start + 8]]
    assert len({tuple(x.tolist()) for x in [*order[:4], *order[8:12]]}) == 8
    noise = [*drawn["noise"][:8], *drawn["noise"][12:20]]  # of both modalities where both are features
    assert len(drawn["noise"]) == 24 and min(float(x.norm()) for x in noise) > 1
    for x in noise:
        assert sum(x.shape == y.shape and torch.allclose(x, y, atol=1e-3) for y in noise) == 1
    assert len({tuple(x.flatten().tolist()) for x in drawn["pixels"]}) == len(drawn["pixels"]) == 8
    texts = [(rows - 2 * i).tolist() for rows, i in zip(drawn["captions"][1:8:2], order[:4], strict=True)]
    assert all(set(picks) == {0, 1} for picks in texts) and len({tuple(picks) for picks in texts}) == 4


@pytest.mark.draws_globally
def test_the_best_look_of_the_grid_is_chosen_and_kept() -> None:
    """The best value at any look, the earliest of equals; later steps do not touch it."""

    def candidate(*values: float) -> Any:
        student = nn.Linear(1, 1, bias=False)

        def steps() -> Iterator[int]:
            for value in values:
                student.weight.data.fill_(value)
                yield 1

        return student, steps(), lambda s: -abs(s.weight.item() % 10 - 5)

    done: list[int] = []
    best = training.best_student(iter([candidate(1, 14, 2), candidate(25, 35, 9), candidate(45, 3)]), done.append)
    assert best.get_parameter("weight").item() == 25 and done == list(range(1, 9))


def test_students_of_several_sets_have_the_seed_of_their_set(
    space: Space, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, seen = toy_source(24), []
    sets = [
        lb.distill(lb.Problem(source, space, lb.Budget(pairs=6), seed=s, cache=cache), lb.methods.Random())
        for s in (0, 1)
    ]

    def run(self: Any, small: Source, test: Source, space: Space, context: Context) -> dict[str, float]:
        seen.append((small.fingerprint, test.fingerprint, context.seed))
        return {"mean": float(len(seen))}

    monkeypatch.setattr(Retrieval, "run", run)
    (score,) = evaluate(sets, source, "retrieval", space, (5, 7), cache=cache)
    test = source.split("test").fingerprint
    assert seen == [(sets[0].fingerprint, test, 5), (sets[1].fingerprint, test, 7)]
    assert score.values == (1.0, 2.0) and score.seeds == (5, 7)
