"""`evaluate`: one path for every set, without a look at the test split."""

from dataclasses import replace

import pytest
import torch

from limbeck.check import ToySource, toy_source
from limbeck.core import Budget, Problem
from limbeck.data.source import Source
from limbeck.engine import distill
from limbeck.errors import ConfigError, DataError, UnknownName
from limbeck.evaluation import evaluate
from limbeck.evaluation.filesize import file_bytes
from limbeck.evaluation.protocols import _fusion, _towers
from limbeck.evaluation.protocols.classification import Classification
from limbeck.evaluation.protocols.retrieval import Retrieval
from limbeck.methods.coreset.random import Random
from limbeck.runtime.cache import digest
from limbeck.spaces import Space

QUICK = {"steps": 8, "noise": (0.5, 1.0)}
LONGER = {**QUICK, "longest": 24}
BOTH = ("retrieval", "classification")


def values(scores):
    return {score.metric: score.values for score in scores}


@pytest.fixture(scope="module")
def train():
    return toy_source(32)


@pytest.fixture(scope="module")
def small(train, space, cache):
    return distill(Problem(train, space, Budget(pairs=12), cache=cache), Random())


@pytest.mark.parametrize("protocol", BOTH)
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(train, space, cache, protocol):
    def judge(seeds):
        return values(evaluate(train, train, protocol, space, seeds, cache=cache, steps=4, noise=(1.0,)))

    before = torch.get_rng_state()
    first, again = judge((0, 1, 2)), judge((0, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert first == again
    assert any(len(set(v)) > 1 for v in first.values())
    assert {m: v[1] for m, v in first.items()} == {m: v[0] for m, v in judge((1,)).items()}


@pytest.mark.slow
def test_a_trained_student_learns_what_the_toy_data_say(train, space, cache):
    found = values(evaluate(train, train, "classification", space, 1, cache=cache, steps=100))
    assert found["joint accuracy"][0] > 90 and found["late accuracy"][0] > 90  # chance is 25
    found = values(evaluate(train, train, "retrieval", space, 1, cache=cache, steps=100))
    assert found["IR@10"][0] > 70  # chance is 31; two samples in eight say the same


@pytest.mark.parametrize("student", ["convnet", "resnet18", "vit_tiny"])
@pytest.mark.parametrize("protocol", BOTH)
@pytest.mark.slow
def test_networks_can_be_students(space, cache, student, protocol):
    tiny = toy_source(6)
    options = {"steps": 1, "batch": 4, "looks": 1, "resolution": 16}
    before = torch.get_rng_state()
    scores = evaluate(tiny, tiny, protocol, space, 1, cache=cache, student=student, **options)
    assert torch.equal(before, torch.get_rng_state())
    assert student in scores[0].protocol


def test_scores_carry_the_set(small, train, space, cache):
    scores = evaluate(small, train, space=space, cache=cache, seeds=2, **QUICK)
    assert [s.metric for s in scores] == ["IR@1", "IR@5", "IR@10", "TR@1", "TR@5", "TR@10", "mean"]
    one = scores[0]
    assert (one.method, one.pairs, one.bytes, one.seeds) == ("random", 12, file_bytes(small), (0, 1))
    assert one.seconds > 0 and one.peak_bytes > 10**7
    full = evaluate(train, train, space=space, cache=cache, seeds=1, name="full data", **QUICK)[0]
    assert (full.name, full.method, full.pairs) == ("full data", "full", 32)
    assert full.fingerprint == one.fingerprint
    assert full.bytes == file_bytes(train)


def test_a_saved_set_is_judged_like_the_set(small, train, space, cache, tmp_path):
    small.save(tmp_path / "set")
    options = {"space": space, "cache": cache, "seeds": 1, **QUICK}
    assert values(evaluate(tmp_path / "set", train, **options)) == values(evaluate(small, train, **options))


def test_several_sets_are_one_row_with_a_seed_each(train, space, cache):
    sets = [distill(Problem(train, space, Budget(pairs=8), seed=s, cache=cache), Random()) for s in (0, 1)]
    together = values(evaluate(sets, train, space=space, cache=cache, **QUICK))
    apart = [values(evaluate(x, train, space=space, cache=cache, seeds=(i,), **QUICK)) for i, x in enumerate(sets)]
    assert together == {m: (apart[0][m][0], apart[1][m][0]) for m in together}
    with pytest.raises(ConfigError, match="2 sets need 2 seeds"):
        evaluate(sets, train, space=space, cache=cache, seeds=3)


class Scrambled(ToySource):
    """The toy data, whose test split says something else; with `val` scrambled where asked."""

    def __init__(self, split="train", scrambled="test", n=32):
        super().__init__(n, split, ("image", "text", "label"), 16)
        self.scrambled = scrambled
        if split == scrambled:
            self.fingerprint = digest(self.fingerprint, "scrambled")
            order = torch.randperm(n, generator=torch.Generator().manual_seed(0))
            self._captions = [self._captions[i] for i in order.tolist()]
            self._colour = self._colour[order]

    def split(self, name):
        return Scrambled(name, self.scrambled)


@pytest.mark.parametrize("protocol", [Retrieval, Classification])
def test_the_test_split_has_no_say_in_what_is_selected(train, space, cache, protocol, monkeypatch):
    """Other captions and labels in the test split leave the selected student as it was; in `val` they do not have to."""
    chosen = []
    module = _towers if protocol is Retrieval else _fusion
    select = module.best_student

    def watched(*args):
        student = select(*args)
        chosen.append({k: v.clone() for k, v in student.state_dict().items()})
        return student

    monkeypatch.setattr(module, "best_student", watched)
    results = [evaluate(train, on, protocol(**LONGER), space, 1, cache=cache) for on in (train, Scrambled())]
    half = len(chosen) // 2
    for a, b in zip(chosen[:half], chosen[half:], strict=True):
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert values(results[0]) != values(results[1])
    assert results[0][0].fingerprint != results[1][0].fingerprint


def test_the_test_split_is_opened_for_scoring_only_once(train, space, cache, monkeypatch):
    asked = []
    monkeypatch.setattr(_towers, "retrieval", lambda *a, **ways: asked.append(len(a[2])) or {"IR@1": 0.0})
    evaluate(train, Uneven(), space=space, seeds=1, cache=cache, **QUICK)
    assert asked == [32] * 4 + [20]  # 2 points x 2 looks on val, then one test


class Uneven(ToySource):
    def __init__(self, split="train"):
        super().__init__(20 if split == "test" else 32, split, ("image", "text", "label"), 16)

    def split(self, name):
        return Uneven(name)


@pytest.mark.parametrize(("protocol", "metric"), [("retrieval", "mean"), ("classification", "image accuracy")])
def test_paper_selection_is_never_below_clean_and_says_so(train, space, cache, protocol, metric):
    found = {
        s: next(
            x
            for x in evaluate(train, train, protocol, space, 2, cache=cache, selection=s, **QUICK)
            if x.metric == metric
        )
        for s in ("clean", "paper")
    }
    assert all(p >= c for p, c in zip(found["paper"].values, found["clean"].values, strict=True))
    assert "test split" in found["paper"].protocol and "test split" not in found["clean"].protocol
    assert found["paper"].fingerprint != found["clean"].fingerprint


def test_every_option_is_in_the_fingerprint(train, space):
    test = train.split("test")
    base = Retrieval().fingerprint(test, space)
    changes = [
        {"dim": 8},
        {"temperature": 0.1},
        {"ridge": (1.0,)},
        {"noise": (1.0,)},
        {"steps": 5},
        {"longest": 400},
        {"head": "mlp"},
        {"student": "convnet"},
        {"carried": False},
        {"mask_duplicates": True},
    ]
    assert len({base, *[Retrieval(**c).fingerprint(test, space) for c in changes]}) == len(changes) + 1
    assert base != Retrieval().fingerprint(Uneven("test"), space)
    assert base != Retrieval().fingerprint(test, Space({"image": space["image"]}))
    assert base == Retrieval().fingerprint(toy_source(32, "test"), space)


def test_what_cannot_be_judged_says_why(train, small, space, cache):
    def judge(what=train, on=train, protocol="retrieval", space=space, **more):
        return evaluate(what, on, protocol, space, cache=cache, **more)

    test = train.split("test")
    with pytest.raises(UnknownName, match="retrieval"):
        judge(protocol="retreival")
    with pytest.raises(ConfigError, match="no option temprature"):
        judge(temprature=1.0)
    with pytest.raises(ConfigError, match="the test split"):
        judge(what=test)
    with pytest.raises(ConfigError, match="the validation split"):
        judge(what=train.split("val"))
    leaked = replace(small, recipe=replace(small.recipe, fingerprints={"source": test.fingerprint}))
    with pytest.raises(ConfigError, match="was made from"):
        judge(what=leaked)
    with pytest.raises(ConfigError, match=r"name them with --space\.image"):
        judge(space=None)
    with pytest.raises(ConfigError, match="repeat"):
        judge(seeds=(1, 1))
    with pytest.raises(
        DataError, match="takes two modalities or more; judge labelled data with --protocol classification"
    ):
        judge(what=toy_source(8, modalities=("image", "label")))
    same = toy_source(8, modalities=("image", "text"))
    same._captions = [()] * 7 + [("a square",)]
    with pytest.raises(DataError, match=r"one caption in all, 'a square' \(1 of its 8 samples have one\)"):
        judge(what=same)
    with pytest.raises(DataError, match="no labels"):
        judge(what=toy_source(8, modalities=("image", "text")), protocol="classification")
    with pytest.raises(DataError, match="no validation split"):
        judge(on=Lonely())
    assert judge(on=Lonely(), selection="paper", seeds=1, **QUICK)


@pytest.mark.parametrize(("split", "says"), [("test", "the test split"), ("val", "the validation split")])
def test_a_held_out_split_at_another_resolution_is_still_held_out(train, space, cache, split, says):
    """Its pixels, and so its fingerprint, differ; its name and split do not."""
    other = toy_source(32, split, resolution=24)
    made = distill(Problem(other, space, Budget(pairs=4), cache=cache), Random())
    for what in (made, other):
        with pytest.raises(ConfigError, match=says):
            evaluate(what, train, space=space, cache=cache, seeds=1, **QUICK)
    honest = distill(Problem(toy_source(32, resolution=24), space, Budget(pairs=4), cache=cache), Random())
    assert evaluate(honest, train, space=space, cache=cache, seeds=1, **QUICK)


def test_only_the_training_split_is_the_full_data(train, space, cache):
    def method(what, on=train):
        return evaluate(what, on, space=space, cache=cache, seeds=1, selection="paper", **QUICK)[0].method

    assert method(train) == method(train, train.split("test")) == method(toy_source(32, resolution=24)) == "full"
    assert method(toy_source(8)) == "subset"
    assert method(train, Lonely()) == "subset"  # nothing says what the whole would be


class Lonely(ToySource):
    """A test split without siblings."""

    splits = ()

    def __init__(self):
        super().__init__(16, "test", ("image", "text", "label"), 16)

    split = Source.split


@pytest.mark.parametrize(
    "options",
    [
        {"selection": "best"},
        {"steps": 0},
        {"longest": 399},
        {"longest": 3, "steps": 4},
        {"ridge": ()},
        {"noise": (-1.0,)},
        {"temperature": 0.0},
        {"head": "cnn"},
        {"student": "conv"},
    ],
)
def test_options_that_cannot_work_are_refused(options):
    with pytest.raises(Exception, match=next(iter(options)).replace("student", "conv")):
        Retrieval(**options)


def test_steps_are_chosen_among_longer_schedules():
    assert Retrieval().longer == Classification().longer == [1200, 3600]
    assert Retrieval(student="convnet").longer == [900]
    assert Retrieval(steps=5).longer == [] and Retrieval(longest=400).longer == []
    assert Retrieval(steps=5, longest=50).longer == [15, 45]
    assert Classification(selection="last").longer == Classification(student="convnet", epochs=3).longer == []
    for options in ({"selection": "last"}, {"student": "convnet", "epochs": 3}):
        with pytest.raises(ConfigError, match="leave it out with epochs or selection 'last'"):
            Classification(**options, longest=4000)


@pytest.mark.parametrize("protocol", BOTH)
def test_more_steps_are_taken_where_they_help_the_split_that_chooses(train, space, cache, protocol):
    options = {"cache": cache, "noise": (1.0,), "looks": 1, "selection": "paper", "steps": 2}
    at = {"retrieval": -1, "classification": 0}[protocol]  # the mean of all recalls; the joint accuracy
    short, long = (evaluate(train, train, protocol, space, 2, longest=most, **options)[at].values for most in (2, 54))
    assert all(b > a for a, b in zip(short, long, strict=True))


def test_a_relation_changes_what_is_learned(small, train, space, cache):
    def judge(relation):
        return values(
            evaluate(
                replace(small, tensors={**small.tensors, **relation}), train, space=space, cache=cache, seeds=1, **QUICK
            )
        )

    eye = torch.eye(12)
    assert judge({}) == judge({"relation": eye})
    assert judge({}) != judge({"relation": eye.roll(1, 0)})
    with pytest.raises(DataError, match="relation"):
        judge({"relation": torch.zeros(12, 12)})


def test_learned_text_is_judged_by_its_embeddings(train, small, space, cache):
    from limbeck.methods.matching.dm import DM

    made = distill(Problem(train, space, Budget(pairs=8), cache=cache), DM(steps=1))
    assert "text" in made.tensors
    assert evaluate(made, train, space=space, cache=cache, seeds=1, **QUICK)
    wrong = replace(made, embedded_by={"text": "another"})
    with pytest.raises(DataError, match="another encoder"):
        evaluate(wrong, train, space=space, cache=cache, seeds=1, **QUICK)
