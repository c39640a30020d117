"""`compare`: the whole grid in one resumable call."""

import csv
import json
import sys
from pathlib import Path

import pytest
import torch

import limbeck as lb
from limbeck.check import ToySource, toy_source
from limbeck.data import Cache
from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError, LimbeckWarning, StorageError
from limbeck.evaluation import Context, compare, paired, read_scores
from limbeck.evaluation.compare import _Bench
from limbeck.evaluation.plot import score_vs_bytes
from limbeck.methods.coreset.random import Random
from limbeck.methods.matching.dm import DM
from limbeck.runtime.locks import owned
from limbeck.runtime.runtime import Runtime

QUICK = {"steps": 5, "noise": (1.0,), "looks": 1}


@pytest.fixture(scope="module")
def train():
    return toy_source(16)


def test_the_function_is_not_shadowed_by_its_module():
    assert sys.modules["limbeck.evaluation.compare"].compare is compare


def test_a_grid_is_judged_written_and_resumed(train, space, cache, tmp_path, monkeypatch):
    def run(folder):
        return compare(
            train,
            ["random", "herding"],
            [4, 8],
            2,
            space=space,
            run=folder,
            cache=cache,
            tick=lambda *x: said.append(x),
            **QUICK,
        )

    said = []
    found = run(tmp_path / "a")
    rows = {(s.name, s.pairs) for s in found.scores}
    assert rows == {(n, p) for n in ("random", "herding") for p in (4, 8)} | {("full data", 16)}
    assert len({s.fingerprint for s in found.scores}) == 1
    assert {(s.method == "full") == (s.name == "full data") for s in found.scores} == {True}
    assert [x[1:] for x in said if x[0] == "compare"] == [(i, 5) for i in range(1, 6)]
    assert found.sets["random", 4][0].fingerprint != found.sets["random", 4][1].fingerprint
    assert read_scores(tmp_path / "a" / "scores.json") == found.scores
    assert found.runs.keys() == found.sets.keys()
    for row, runs in found.runs.items():
        assert [lb.load(run / "set").fingerprint for run in runs] == [small.fingerprint for small in found.sets[row]]
    assert "full data" in (tmp_path / "a" / "table.md").read_text()
    assert len(list(csv.reader((tmp_path / "a" / "table.csv").read_text().splitlines()))) == 6
    assert (tmp_path / "a" / "score_vs_bytes.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "a" / "scores.json").read_text())["schema"] == 1

    asked = []
    module = sys.modules["limbeck.evaluation.compare"]
    judge = module.evaluate
    monkeypatch.setattr(module, "evaluate", lambda *a, **k: asked.append(a[5]) or judge(*a, **k))
    assert run(tmp_path / "a").scores == found.scores and asked == []
    next((tmp_path / "a" / "scores").glob("herding-8-*.json")).unlink()
    again = run(tmp_path / "a").scores
    assert asked == ["herding"] and [s.values for s in again] == [s.values for s in found.scores]


@pytest.mark.slow
def test_students_get_tables_of_their_own_and_options_name_a_method(train, space, cache, tmp_path):
    found = compare(
        train, [Random(), "herding"], [4], 1, ("frozen", "convnet"), space=space, run=tmp_path, cache=cache,
        protocol="classification", full=False, resolution=16, steps=2, looks=1,
    )  # fmt: skip
    assert len({s.fingerprint for s in found.scores}) == 2
    text = (tmp_path / "table.md").read_text()
    assert "frozen student" in text and "convnet student" in text


def test_an_empty_or_doubled_grid_is_refused(train, space, tmp_path):
    with pytest.raises(ConfigError, match="or more of each"):
        compare(train, [], [4], space=space, run=tmp_path)
    with pytest.raises(ConfigError, match="random is in the comparison twice"):
        compare(train, ["random", Random()], [4], space=space, run=tmp_path)
    with pytest.raises(ConfigError, match="no scores"):
        score_vs_bytes([], tmp_path / "plot.svg")


@pytest.mark.slow
def test_the_plot_is_the_same_bytes_twice(train, space, cache, tmp_path):
    found = compare(train, ["random"], [4, 8], 2, space=space, run=tmp_path, cache=cache, **QUICK)
    first = (tmp_path / "score_vs_bytes.svg").read_bytes()
    assert score_vs_bytes(found.scores, tmp_path / "again.svg").read_bytes() == first


class Some(ToySource):
    """The toy data with only some of their splits."""

    def __init__(self, *held, split="train"):
        super().__init__(16, split, ("image", "text", "label"), 16)
        self.held = held

    splits = property(lambda self: self.held)

    def split(self, name):
        return Some(*self.held, split=name) if name in self.held else Source.split(self, name)


def test_data_that_cannot_be_judged_on_are_refused_before_anything_is_embedded(space, tmp_path, monkeypatch):
    def never(*args, **options):
        raise AssertionError("embedded")

    monkeypatch.setattr(sys.modules["limbeck.evaluation.compare"], "embed_source", never)
    options = {"space": space, "run": tmp_path, "cache": Cache(tmp_path / "cache")}
    with pytest.raises(ConfigError, match=r"no split 'test' in toy.* add one or name data to test on with --on"):
        compare(Some("train", "val"), ["random"], [4], **options)
    with pytest.raises(ConfigError, match="no split 'test'"):
        compare(Some(), ["random"], [4], on=Some(), selection="paper", **options)
    with pytest.raises(DataError, match="no validation split"):
        compare(Some("train", "test"), ["random"], [4], **options)
    with pytest.raises(ConfigError, match="the validation split"):
        compare(toy_source(16, "val"), ["random"], [4], **options)
    same, test = Some("train", "val", "test"), Some(split="test")
    same._captions = test._captions = [("a square",)] * 16
    with pytest.raises(DataError, match=r"toy\[train\] has one caption in all, 'a square'"):
        compare(same, ["random"], [4], **options)
    with pytest.raises(DataError, match=r"toy\[test\] has one caption in all"):
        compare(Some("train"), ["random"], [4], on=test, selection="paper", **options)
    with pytest.raises(DataError, match="no labels"):
        compare(toy_source(16, modalities=("image", "text")), ["random"], [4], protocol="classification", **options)
    assert not (tmp_path / "runs").exists()


def test_everything_a_row_reads_is_in_the_cache_before_the_first_row(train, space, tmp_path, monkeypatch):
    """Once embedded, only the sets are still encoded and decoded: no split of the data is read again."""
    module, other = sys.modules["limbeck.evaluation.compare"], toy_source(20, "test")

    def stop(*args, **options):
        raise KeyboardInterrupt

    cache = Cache(tmp_path / "cache")
    options = {"space": space, "run": tmp_path, "on": other, "cache": cache, "resolution": 16, "full": True}
    with monkeypatch.context() as patch:
        patch.setattr(module._Bench, "distil", stop)
        with pytest.raises(KeyboardInterrupt):
            compare(train, ["random"], [4], 1, ("frozen", "convnet"), **options)
    read = []
    batch = ToySource.batch
    monkeypatch.setattr(
        ToySource, "batch", lambda self, index: read.append((self.name, len(self))) or batch(self, index)
    )
    for student in ("frozen", "convnet"):
        judge = module.open_protocol("retrieval", {"student": student, "resolution": 16, "steps": 1, "looks": 1})
        for source in (train, other, other.split("val")):
            judge.read(source, ("image", "text"), space, Context(0, Runtime(cache=cache)), judge.side(train))
    assert read == []


@pytest.mark.slow
def test_methods_that_learn_are_paired_with_the_best_coreset(train, space, cache, tmp_path):
    found = compare(
        train, ["random", "herding", DM(steps=1, width=8)], [4, 8], 2, space=space, run=tmp_path, cache=cache, **QUICK
    )
    assert found.one_shot[:2] == ("random", "herding")
    contrasts = [
        c for c in found.paired() if c.rival_pairs is None
    ]  # with as many pairs; as many bytes are another test's
    assert [(c.name, c.pairs, c.metric) for c in contrasts] == [("dm(steps=1, width=8)", n, "mean") for n in (4, 8)]
    rows = {(s.name, s.pairs): s for s in found.scores if s.metric == "mean"}
    for c in contrasts:
        best = max(("random", "herding"), key=lambda name: rows[name, c.pairs].mean)
        assert c.rival == best and c.paired == paired(rows[c.name, c.pairs], rows[best, c.pairs])
    text, markdown = str(found), (tmp_path / "table.md").read_text()
    lines = [str(c) for c in found.paired()]
    assert text.splitlines()[-len(lines) :] == lines and {str(c) for c in contrasts} <= set(lines)
    assert markdown.splitlines()[-len(lines) :] == [f"- {line}" for line in lines]
    assert " - best coreset (" in text and "mean recall, 95 % paired over 2 seeds" in text
    assert all(run.is_dir() and (run / "set").is_dir() for runs in found.runs.values() for run in runs)
    assert found.runs.keys() == found.sets.keys()


@pytest.mark.slow
def test_rows_say_what_differs_and_a_row_more_keeps_the_others(train, space, cache, tmp_path, monkeypatch):
    def run(*methods):
        found = compare(train, methods, [4], 1, space=space, run=tmp_path, cache=cache, full=False, **QUICK)
        return {s.name: s.values for s in found.scores if s.metric == "mean" and "at the bytes" not in s.name}

    before = run("random", DM(steps=1, width=8))
    assert set(before) == {"random", "dm(steps=1, width=8)"}
    module, judged = sys.modules["limbeck.evaluation.compare"], []
    judge = module.evaluate
    monkeypatch.setattr(module, "evaluate", lambda *a, **k: judged.append(a[5]) or judge(*a, **k))
    after = run("random", DM(steps=1, width=8), DM(steps=1, width=8, init="herding", augment=("color", "crop")))
    default = "dm(steps=1, init=random, width=8, augment=color,crop,cutout,flip,rotate,scale)"
    other = "dm(steps=1, init=herding, width=8, augment=color,crop)"
    assert set(after) == {"random", default, other}
    assert [name for name in judged if "at the bytes" not in name] == [other]
    assert after[default] == before["dm(steps=1, width=8)"]


class Flat(ToySource):
    """Toy images of few colours, whose files are small, as those of real images are beside learned ones."""

    def __init__(self, *options):
        super().__init__(*options)
        coarse = torch.nn.functional.interpolate(self._image, 4).mul(8).round() / 8
        self._image = torch.nn.functional.interpolate(coarse, 32)

    def split(self, name):
        return Flat(self.options["n"], name, self.options["modalities"], self.options["resolution"])


@pytest.mark.slow
def test_a_coreset_stands_beside_a_learned_set_with_what_its_bytes_buy(space, cache, tmp_path):
    train = Flat(64, "train", ("image", "text", "label"), 32)

    def run():
        return compare(
            train, ["random", "herding", DM(steps=1, width=8, lr=0.1)], [4, 30], 2, space=space, run=tmp_path,
            cache=cache, **QUICK,
        )  # fmt: skip

    found = run()
    learned = "dm(steps=1, lr=0.1, width=8)"
    rows = {(s.name, s.pairs): s for s in found.scores if s.metric == "mean"}
    (key,) = [row for row in found.as_large if row[1] == 4]
    name, count = found.as_large[key]
    best = max(("random", "herding"), key=lambda n: rows[n, 4].mean)
    assert key == (learned, 4) and name == f"{best}, at the bytes of {learned}" and name in found.one_shot
    assert (learned, 30) not in found.as_large, "all of the data take fewer bytes"
    limit, size = rows[learned, 4].bytes, rows[name, count].bytes
    one_more = lb.distill(lb.Problem(train, space, lb.Budget(pairs=count + 1)), Random()).nbytes
    assert 4 < count < 64 and size <= 1.02 * limit and one_more > 0.95 * limit
    assert rows["random", 4].bytes < rows[learned, 4].bytes
    assert len(found.sets[name, count][0]) == count and len(found.runs[name, count]) == 2
    contrasts = [c for c in found.paired() if c.rival_pairs]
    assert [(c.name, c.pairs, c.rival, c.rival_pairs) for c in contrasts] == [(learned, 4, name, count)]
    assert contrasts[0].paired == paired(rows[learned, 4], rows[name, count])
    assert f"{learned} - {name}, {count} pairs: " in str(found)
    assert [(s.name, s.values) for s in run().scores] == [(s.name, s.values) for s in found.scores]


def test_a_coreset_of_which_one_a_class_does_not_fit_has_no_row(cache, tmp_path):
    """Its real images may be larger than those of the set that learned."""
    train, space = toy_source(100, modalities=("image", "label"), resolution=32), lb.space(image="convnet")
    bench = _Bench(tmp_path, train, space, (0,), Runtime(cache=cache), lb.Storage())
    four = lb.distill(bench.problem(train, lb.Budget(pairs=4), 0, Random()), Random()).nbytes
    assert bench.as_many(train, Random(), four - 100) == 0
    assert 4 <= bench.as_many(train, Random(), four + 4000) < 100


@pytest.mark.slow
def test_budgets_in_bytes_hold_as_many_samples_as_fit_and_are_paired(space, cache, tmp_path):
    """Every row at one budget takes no more bytes than it; what learned is paired with the best coreset of the same bytes."""
    train = toy_source(64)
    learned = lb.methods.LabelDistillation(steps=2, batch=8)
    found = compare(
        train,
        ["random", learned],
        seeds=2,
        space=space,
        run=tmp_path,
        cache=cache,
        bytes=["12kB", 20_000],
        full=False,
        **QUICK,
    )
    sizes = {
        name: sorted({(s.bytes, s.pairs) for s in found.scores if s.name == name})
        for name in ("random", "label_distillation(steps=2, batch=8)")
    }
    for rows in sizes.values():
        assert [
            limit for limit, (size, _) in zip((12_000, 20_000), rows, strict=True) if not 0.8 * limit < size <= limit
        ] == []
        assert rows[0][1] < rows[1][1]
    assert {(c.name, c.rival, c.rival_pairs) for c in found.paired()} == {
        ("label_distillation(steps=2, batch=8)", "random", pairs) for _, pairs in sizes["random"]
    }
    assert sorted(p.name for p in (tmp_path / "runs").iterdir() if p.name.startswith("random")) == [
        f"random-{limit}B-seed{seed}" for limit in (12000, 20000) for seed in (0, 1)
    ]


@pytest.mark.slow
def test_one_seed_is_not_paired(train, space, cache, tmp_path):
    found = compare(train, ["random", DM(steps=1, width=8)], [4], 1, space=space, run=tmp_path, cache=cache, **QUICK)
    assert found.paired() == [] and "best coreset" not in str(found)


@pytest.mark.slow
def test_torn_seconds_count_as_none(train, space, cache, tmp_path):
    def run():
        return compare(train, ["random"], [4], 1, space=space, run=tmp_path, cache=cache, full=False, **QUICK)

    scores = run().scores
    (file,) = tmp_path.glob("runs/*/seconds.json")
    assert 0 < json.loads(file.read_text()) < scores[0].seconds
    for torn in ("", "{", "null"):
        file.write_text(torn)
        for kept in tmp_path.glob("scores/*"):
            kept.unlink()
        assert [s.values for s in run().scores] == [s.values for s in scores]


@pytest.mark.slow
def test_a_kept_cell_that_is_damaged_is_told_and_judged_again(train, space, cache, tmp_path):
    def run():
        return compare(train, ["random"], [4], 1, space=space, run=tmp_path, cache=cache, full=False, **QUICK)

    values = [score.values for score in run().scores]
    (cell,) = tmp_path.glob("scores/*.json")
    digit = cell.read_text().replace('"mean": ', '"mean": 1', 1)
    for damaged in ("", "[]", digit):
        cell.write_text(damaged)
        with pytest.warns(LimbeckWarning, match="the row is judged again"):
            assert [score.values for score in run().scores] == values
        assert [score.values for score in run().scores] == values, "it is whole again"
    cell.with_suffix(".sha256").unlink()
    assert [score.values for score in run().scores] == values, "a kill between the two files, or a cell of before"
    assert cell.with_suffix(".sha256").is_file()


def test_one_comparison_at_a_time_works_on_a_folder(train, space, cache, tmp_path):
    with (
        owned(tmp_path, "compare"),
        pytest.raises(StorageError, match=r"is in use by this process itself; wait until it ends"),
    ):
        compare(train, ["random"], [4], 1, space=space, run=tmp_path, cache=cache, full=False, **QUICK)
    compare(train, ["random"], [4], 1, space=space, run=tmp_path, cache=cache, full=False, **QUICK)
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".")]


def test_the_full_row_is_full_on_other_data_too(train, space, cache, tmp_path):
    other = Some("val", "test", split="test")
    found = compare(train, ["random"], [4], 1, space=space, run=tmp_path, cache=cache, on=other, **QUICK)
    assert {s.name for s in found.scores if s.method == "full"} == {"full data"}


def test_a_budget_larger_than_the_data_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    space = lb.space(image="convnet", text="bag_of_words")
    with pytest.raises(ConfigError, match="25 pairs is larger than the data"):
        compare(lb.check.toy_source(24), ["random"], [4, 25], space=space, run=tmp_path / "out")
    assert not (tmp_path / "out").exists()
