"""Membership inference: who is a member, who is not, who learns what; and that the student attacked is the one that is judged."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import limbeck as lb
from limbeck.check import ToySource, toy_source
from limbeck.core import DistilledSet
from limbeck.core.problem import stream
from limbeck.data import Batch, Cache, Source
from limbeck.evaluation import evaluate
from limbeck.evaluation.audit import audit
from limbeck.evaluation.audit.attack import lira
from limbeck.evaluation.audit.membership import SHADOWS, Bench, Given, membership, protocol_of
from limbeck.evaluation.protocol import Context, Protocol
from limbeck.evaluation.protocols import _fusion, _towers
from limbeck.evaluation.protocols._fusion import Labelled
from limbeck.evaluation.protocols.classification import Classification
from limbeck.evaluation.protocols.retrieval import Retrieval
from limbeck.objectives.similarity import Similarity
from limbeck.runtime.runtime import Runtime
from limbeck.spaces import Space


def rows_of(start: int, n: int, seed: int = 0) -> Labelled:
    draw = torch.Generator().manual_seed(seed)
    return Labelled({"x": torch.randn(n, 3, generator=draw)}, torch.arange(n) % 2, torch.arange(start, start + n))


@dataclass(frozen=True)
class Told(Bench):
    """A bench whose students are sure of what they learned, and of the members that their data name: see `ask`."""

    heard: list[tuple[list[int], list[int], int]] = None  # type: ignore[assignment]
    sure: frozenset[int] = frozenset()

    def ask(self, train: Any, pool: Any, seed: int) -> Tensor:
        self.heard.append((train.rows.tolist(), pool.rows.tolist(), seed))
        hard = torch.randn(len(pool), generator=stream(seed, "how hard"))
        return torch.tensor([float(r in self.sure) for r in pool.rows.tolist()]) * 9 + 0.1 * hard


def told(*sure: int) -> Told:
    return Told(Classification(), ("x",), 2, None, Context(0, Runtime(cache=Cache("unread"))), [], frozenset(sure))


def attacked(bench: Told, seeds: int = 2, shadows: int = 4) -> list[Any]:
    """A set of 5 samples from the real ones 3, 7, 8 and 11 of 20; 30 held-out ones, whose rows are 100 to 129."""
    given = Given(rows_of(500, 5), rows_of(0, 20, 1), rows_of(100, 30, 2), None, ("x",))
    return membership(given, torch.tensor([8, 3, 11, 7, 3]), bench, seeds, shadows)


@pytest.mark.parametrize(("small", "source", "classes"), [(1, 1, True), (0, 1, False), (1, 0, False), (0, 0, False)])
def test_students_classify_where_both_have_labels_of_two_classes(small: bool, source: bool, classes: bool) -> None:
    both = [toy_source(8, modalities=("image", "text", *(["label"] if held else []))) for held in (small, source)]
    assert protocol_of(*both, "convnet") == (Classification if classes else Retrieval)(student="convnet")
    assert protocol_of(both[0], toy_source(1)) == Retrieval(student="frozen"), "one class is nothing to tell"


def test_members_are_the_origins_and_the_others_as_many_held_out_samples() -> None:
    bench = told(3, 7, 8, 11)
    leaks = attacked(bench, shadows=0)
    for _, pool, _ in bench.heard:
        assert pool[:4] == [3, 7, 8, 11] and len(set(pool[4:])) == 4 and min(pool[4:]) >= 100
    assert len({tuple(pool) for _, pool, _ in bench.heard}) == 1, "every student is asked the same"
    assert {(leak.auc.value, leak.tpr.value) for leak in leaks} == {(1.0, 1.0)}
    assert {leak.auc.value for leak in attacked(told(*range(100, 130)), shadows=0)} == {0.0}
    one = {leak.auc.value for leak in attacked(told(7), seeds=1, shadows=0)}
    assert all(0.5 < value < 1 for value in one), "a student that is sure of one member finds that one"


def test_every_target_learns_what_it_says_and_every_student_has_a_seed_of_its_own() -> None:
    bench = told()
    leaks = attacked(bench, seeds=3, shadows=6)
    assert [(leak.target, leak.attack) for leak in leaks] == [
        (target, attack)
        for target in ("the set", "its origins", "other samples", "all data")
        for attack in ("loss", "LiRA", "LiRA offline")
    ]
    train, seeds = [t for t, _, _ in bench.heard], [s for _, _, s in bench.heard]
    assert seeds == [0, 1, 2] * 4 + [SHADOWS + i for i in range(6)]
    assert train[:3] == [list(range(500, 505))] * 3 and train[3:6] == [[3, 7, 8, 11]] * 3
    assert train[9:12] == [list(range(20))] * 3
    control = [frozenset(t) for t in train[6:9]]
    assert all(len(c) == 4 and not c & {3, 7, 8, 11} and max(c) < 20 for c in control) and len(set(control)) > 1
    pool = set(bench.heard[0][1])
    for half, rest in zip(train[12::2], train[13::2], strict=True):
        assert set(half) | set(rest) == pool and not set(half) & set(rest) and len(half) == 4
    assert len({tuple(half) for half in train[12::2]}) == 3, "every two halves are drawn anew"


def test_the_likelihood_ratio_reads_who_learned_what() -> None:
    """Shadow students sure of what they learned, a target sure of the members: LiRA gets what its formula gets by hand."""

    @dataclass(frozen=True)
    class Sure(Told):
        def ask(self, train: Any, pool: Any, seed: int) -> Tensor:
            known, hard = set(train.rows.tolist()), pool.rows.remainder(7).double()
            mine = torch.tensor([float(r in known) for r in pool.rows.tolist()]).double()
            phi = hard + mine + 0.1 * torch.randn(len(pool), generator=stream(seed, "noise")).double()
            said.append((mine.bool(), phi.float()))
            return phi.float()

    said: list[tuple[Tensor, Tensor]] = []
    bench = Sure(Classification(), ("x",), 2, None, Context(0, Runtime(cache=Cache("unread"))))
    leaks = {(leak.target, leak.attack): leak.auc.value for leak in attacked(bench, seeds=1, shadows=8)}
    inside, phi = (torch.stack(parts) for parts in zip(*said[4:], strict=True))
    for i, target in enumerate(("the set", "its origins", "other samples", "all data")):
        for attack, score in zip(("LiRA", "LiRA offline"), lira(said[i][1], phi, inside), strict=True):
            wins = [(a > b) + 0.5 * (a == b) for a in score[:4].tolist() for b in score[4:].tolist()]
            assert leaks[target, attack] == pytest.approx(sum(wins) / 16)
    assert leaks["its origins", "LiRA"] == 1.0 and leaks["its origins", "loss"] < 1.0


def test_too_few_of_either_are_not_attacked() -> None:
    real, others = rows_of(0, 20), rows_of(100, 1)
    for given, origin in (
        (Given(rows_of(9, 5), real, others, None, ("x",)), torch.tensor([1, 2])),
        (Given(rows_of(9, 5), real, rows_of(100, 9), None, ("x",)), torch.tensor([4, 4, 40])),
        (Given(rows_of(9, 1), real, rows_of(100, 9), None, ("x",)), torch.tensor([1, 2])),
    ):
        assert membership(given, origin, told(), 1, 0) == []


@pytest.fixture(scope="module")
def carrier(space: Space, cache: Cache) -> DistilledSet:
    """A set with a loss, a temperature, a similarity and learning rates of its own."""
    small = lb.distill(lb.Problem(toy_source(32), space, lb.Budget(pairs=12), cache=cache), lb.methods.Random())
    similarity = Similarity(12, rank=3)
    with torch.no_grad():
        similarity.right.copy_(torch.randn(12, 3, generator=torch.Generator().manual_seed(1)))
    tensors = {f"similarity.{k}": v for k, v in similarity.state_dict().items()}
    tensors |= {"hint.rate_image": torch.tensor(0.5), "hint.rate_text": torch.tensor(0.1)}
    training = {"loss": "wbce", "temperature": 0.2}
    return replace(small, tensors={**small.tensors, **tensors}, training=training, similarity=similarity.describe())


@pytest.fixture
def students(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """Every student that is chosen, in order."""
    found: list[dict[str, Tensor]] = []
    choose = _towers.best_student

    def watched(candidates: Iterator[Any], tick: Any = None, longer: Any = None) -> nn.Module:
        found.append((best := choose(candidates, tick, longer)).state_dict())
        return best

    for module in (_towers, _fusion):
        monkeypatch.setattr(module, "best_student", watched)
    return found


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "joint"),
    [
        (Retrieval(steps=12), 0),
        (Retrieval(steps=12, head="mlp", mask_duplicates=True, carried=False), 0),
        (Classification(steps=12), 2),
        (Classification(steps=12, captions="train_only"), 0),
    ],
    ids=["carried", "mlp", "joint", "train_only"],
)
def test_the_student_attacked_is_the_one_that_is_judged(
    carrier: DistilledSet, protocol: Protocol, joint: int, space: Space, cache: Cache, students: list[dict[str, Tensor]]
) -> None:
    """To the bit: loss, temperature, similarity, whitening, noise, heads, grid, and the look that was chosen."""
    source = toy_source(32)
    evaluate(carrier, source, protocol, space, 2, cache=cache)
    judged, each = list(students), len(students) // 2
    students.clear()
    found = audit(carrier, source, space, student=protocol, seeds=2, shadows=0, cache=cache)
    assert len(students) == 8 and "each chosen on val" in found.students
    assert same(students[0], judged[joint]) and same(students[1], judged[each + joint])
    assert not same(students[0], students[1]) and not any(same(students[0], other) for other in students[2:])


@pytest.mark.slow
def test_what_a_set_carries_is_what_its_attacked_student_learned(
    carrier: DistilledSet, space: Space, cache: Cache, students: list[dict[str, Tensor]]
) -> None:
    source = toy_source(32)
    for student in (Retrieval(steps=12), Retrieval(steps=12, carried=False)):
        found = audit(carrier, source, space, student=student, seeds=1, shadows=0, cache=cache)
        assert ("wbce" in found.students) is student.carried
    assert not same(students[0], students[4])
    assert all(same(students[i], students[4 + i]) for i in (1, 2, 3)), "real data are learned by InfoNCE"


class Gaps(ToySource):
    """Every third sample has no caption."""

    def __init__(
        self, n: int, split: str, modalities: tuple[str, ...], resolution: int, splits: str = "val test"
    ) -> None:
        super().__init__(n, split, modalities, resolution)
        self.names = splits.split()
        self.options["splits"] = splits
        self.fingerprint += " with gaps"

    @property
    def captions(self) -> list[tuple[str, ...]]:
        return [() if i % 3 == 0 else texts for i, texts in enumerate(super().captions)]

    def batch(self, index: Any) -> Batch:
        rows = torch.as_tensor(list(index), dtype=torch.long)
        whole = {"image": self._image, "text": self.captions, "label": self._colour}
        return Batch({m: whole[m] for m in self.modalities}).select(rows)

    @property
    def splits(self) -> tuple[str, ...]:
        return ("train", *self.names)

    def split(self, name: str) -> Source:
        return Gaps(split=name, **self.options)


def gaps(splits: str = "val test") -> Source:
    return Gaps(24, "train", ("image", "text", "label"), 16, splits)


@pytest.mark.parametrize("protocol", [Retrieval(steps=3), Classification(steps=3)], ids=["pairs", "classes"])
def test_others_are_of_the_test_split_alone_where_students_are_chosen_on_val(
    protocol: Protocol, space: Space, cache: Cache
) -> None:
    source, context = gaps(), Context(0, Runtime(cache=cache))
    small = lb.distill(lb.Problem(source, space, lb.Budget(pairs=6), cache=cache), lb.methods.Random())

    def given(source: Source, protocol: Protocol) -> Given | None:
        return Given.read(protocol, small, source, space, context)

    def first(samples: Any) -> Tensor:
        values = samples.features["image"].vectors if protocol.name == "retrieval" else samples.values["image"]
        return values[:1]

    both, one = given(source, protocol), given(gaps("val"), protocol)
    optimistic = given(source, replace(protocol, selection="paper"))
    assert both and one and optimistic and given(gaps(""), protocol) is None
    whole = [i for i in range(24) if i % 3]
    assert both.real.rows.tolist() == whole == both.others.rows.tolist() == one.others.rows.tolist()
    assert one.judge is None and optimistic.judge is None and optimistic.others.rows.tolist() == 2 * whole
    assert both.judge is not None and len(both.judge) == 16
    images = {name: source.split(name).batch([1])["image"] for name in ("val", "test")}
    val, test = (space["image"](images[name]) for name in ("val", "test"))
    assert torch.allclose(first(both.others), test, atol=1e-5) and torch.allclose(first(one.others), val, atol=1e-5)
    assert len(both.small) == 6


def test_pairs_taken_and_joined_are_those_of_a_source_of_them_alone(space: Space, cache: Cache) -> None:
    source, protocol = gaps(), Retrieval(steps=3)
    pairs = protocol.read(source, ("image", "text"), space, Context(0, Runtime(cache=cache)), 0)
    index = torch.tensor([9, 2, 2, 14])
    taken = pairs.take(index)
    assert taken.rows.tolist() == pairs.rows[index].tolist() == [14, 4, 4, 22]
    joined = type(pairs).join([taken, pairs.take(torch.tensor([0]))])
    assert joined.rows.tolist() == [14, 4, 4, 22, 1] and joined.complete.all()
    whole = protocol.seen(source, ("image", "text"), space, Context(0, Runtime(cache=cache)), 0)
    for m in ("image", "text"):
        own = [whole[m].vectors[whole[m].owner == row] for row in joined.rows.tolist()]
        assert torch.equal(joined.features[m].vectors, torch.cat(own))
        assert joined.features[m].owner.tolist() == [i for i, v in enumerate(own) for _ in v]
        assert joined.index.counts[m].tolist() == [len(v) for v in own]


def test_what_is_taught_of_pairs_is_taken_along(carrier: DistilledSet, space: Space, cache: Cache) -> None:
    pairs = Retrieval(mask_duplicates=True).read(carrier, ("image", "text"), space, Context(0, Runtime(cache=cache)), 0)
    index = torch.tensor([7, 0, 3])
    whole, part = pairs.objective, pairs.take(index).objective
    assert whole.similarity is not None and whole.origin is not None and carrier.relation is not None
    assert torch.equal(whole.similarity, carrier.relation)
    assert torch.equal(part.similarity, carrier.relation[index][:, index])  # type: ignore[arg-type]
    assert torch.equal(part.origin, whole.origin[index])  # type: ignore[arg-type]
    assert (part.temperature, part.loss, part.rates) == (whole.temperature, whole.loss, whole.rates)


def test_a_student_of_pairs_is_asked_both_ways_with_the_mean_of_its_captions(space: Space, cache: Cache) -> None:
    source, protocol = gaps(), Retrieval(steps=3, noise=(0.5,))
    pairs = protocol.read(source, ("image", "text"), space, Context(0, Runtime(cache=cache)), 0)
    trainer = protocol.trainer(pairs, ("image", "text"), 0, Context(0, Runtime(cache=cache)))
    student = trainer.chosen(None)
    pool = pairs.take(torch.tensor([5, 1, 8]))
    (to_text, right), (to_image, again) = trainer.answers(student, pool)
    u = trainer.vectors(student, pool)["image"]
    v = trainer.vectors(student, pool)["text"].view(3, 2, -1).mean(1)  # two captions each
    expected = u @ (v / v.norm(dim=1, keepdim=True)).T / 0.07
    assert torch.allclose(to_text, expected, atol=1e-4) and torch.allclose(to_image, expected.T, atol=1e-4)
    assert right.tolist() == again.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "protocol", [Retrieval(steps=6, looks=3), Classification(steps=6, looks=3)], ids=["pairs", "classes"]
)
def test_without_data_to_choose_on_the_first_point_is_trained_to_its_end(
    protocol: Protocol, space: Space, cache: Cache
) -> None:
    context, modalities = Context(0, Runtime(cache=cache)), ("image", "text")
    read = protocol.read(gaps(), modalities, space, context, 0)
    last = protocol.trainer(read, modalities, 4, context).chosen(None)
    alone: Any = protocol.trainer(read, modalities, 4, context)
    point = (30.0, 0.5, {}) if isinstance(protocol, Retrieval) else (modalities, 30.0, 0.5)
    student, training, _ = alone.candidate(*point, None)
    assert list(training) == [2, 4, 6] and same(last.state_dict(), student.state_dict())


def test_constant_samples_teach_no_more_than_how_often_each_answer_is_right(space: Space, cache: Cache) -> None:
    """No component is left of features that are all alike: the student has a bias, and no traceback."""
    source = toy_source(32)
    small = lb.distill(lb.Problem(source, space, lb.Budget(pairs=6), cache=cache), lb.methods.Random())
    grey = replace(small, tensors={**small.tensors, "image": torch.full_like(small.tensors["image"], 128)})
    found = {s.metric: s.mean for s in evaluate(grey, source, "classification", space, 1, cache=cache, steps=5)}
    shares = source.split("test").labels.bincount(minlength=4) / 32  # type: ignore[union-attr]
    assert found["image accuracy"] == pytest.approx(100 * float(shares[grey.labels.bincount().argmax()]))  # type: ignore[union-attr]
    found = {s.metric: s.mean for s in evaluate(grey, source, "retrieval", space, 1, cache=cache, steps=5)}
    assert found["IR@1"] == 0.0, "every image is as near as any other"
