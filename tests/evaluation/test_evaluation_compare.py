"""`compare`: the whole grid in one resumable call."""

import csv
import json
import sys

import pytest

from limbeck.check import toy_source
from limbeck.errors import ConfigError
from limbeck.evaluation import compare, read_scores
from limbeck.evaluation.plot import score_vs_bytes
from limbeck.methods.random import Random

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
    assert "full data" in (tmp_path / "a" / "table.md").read_text()
    assert len(list(csv.reader((tmp_path / "a" / "table.csv").read_text().splitlines()))) == 6
    assert (tmp_path / "a" / "score_vs_bytes.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((tmp_path / "a" / "scores.json").read_text())["schema"] == 1

    asked = []
    module = sys.modules["limbeck.evaluation.compare"]
    judge = module.evaluate
    monkeypatch.setattr(module, "evaluate", lambda *a, **k: asked.append(a[5]) or judge(*a, **k))
    assert run(tmp_path / "a").scores == found.scores and asked == []
    next((tmp_path / "a" / "scores").glob("herding-8-*")).unlink()
    again = run(tmp_path / "a").scores
    assert asked == ["herding"] and [s.values for s in again] == [s.values for s in found.scores]


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


def test_the_plot_is_the_same_bytes_twice(train, space, cache, tmp_path):
    found = compare(train, ["random"], [4, 8], 2, space=space, run=tmp_path, cache=cache, **QUICK)
    first = (tmp_path / "score_vs_bytes.svg").read_bytes()
    assert score_vs_bytes(found.scores, tmp_path / "again.svg").read_bytes() == first
