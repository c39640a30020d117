"""Scores: their file, their tables, their paired comparison."""

import json
import statistics
from dataclasses import replace

import pytest

from limbeck.errors import ConfigError, StorageError
from limbeck.evaluation import Score, paired, read_scores, table, write_scores

ROW = {
    "name", "method", "pairs", "bytes", "protocol", "fingerprint", "metric", "higher_is_better", "mean", "std", "values",
    "seconds", "peak_bytes", "seeds", "training", "encoder", "home", "took_part",
}  # fmt: skip


def score(values=(1.0, 2.0, 4.0), **changes):
    given = {
        "name": "a",
        "method": "cf",
        "pairs": 10,
        "bytes": 1000,
        "protocol": "p",
        "fingerprint": "f" * 32,
        "metric": "mean",
    }
    return Score.of(values, **{**given, **changes})


def test_mean_and_sample_spread():
    made = score()
    assert (made.mean, made.std) == (statistics.mean(made.values), statistics.stdev(made.values))
    assert score((3.0,)).std == 0


def test_a_file_keeps_every_field(tmp_path):
    scores = [score(), score((5.5,), metric="IR@1", seconds=1.5, peak_bytes=7, seeds=(4,), training="wbce")]
    path = write_scores(tmp_path / "new" / "scores.json", scores)
    assert read_scores(path) == scores
    content = json.loads(path.read_text())
    assert content["schema"] == 1 and set(content["rows"][0]) == ROW


def test_flipped_bits_of_a_file_are_noticed(tmp_path):
    path, scores = tmp_path / "s.json", [score()]
    raw = write_scores(path, scores).read_bytes()
    for bit in range(0, 8 * len(raw), 7):
        path.write_bytes(raw[: bit // 8] + bytes([raw[bit // 8] ^ 1 << bit % 8]) + raw[bit // 8 + 1 :])
        try:
            assert read_scores(path) == scores
        except StorageError:
            continue


def test_a_row_of_before_is_read(tmp_path):
    row = score().row()
    del row["seeds"], row["training"]
    (tmp_path / "s.json").write_text(json.dumps({"schema": 1, "rows": [row]}))
    assert read_scores(tmp_path / "s.json") == [score()]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "cannot be read: Expecting"),
        ('{"rows": []}', "schema"),
        ('{"schema": 2, "rows": []}', "upgrade"),
        (json.dumps({"schema": 1, "rows": [{"name": "a"}]}), r"rows\[0\] lacks bytes, fingerprint"),
        (json.dumps({"schema": 1, "rows": [score().row() | {"mean": 9.0}]}), "values give"),
        (json.dumps({"schema": 1, "rows": [score().row() | {"more": 1}]}), "more"),
        ("[]", "must be a mapping"),
        ('{"schema": 1, "rows": 5}', "rows must be a list"),
        ('{"schema": 1, "rows": [5]}', r"rows\[0\] must be a mapping"),
        (json.dumps({"schema": 1, "rows": [score().row() | {"values": None}]}), "values must be a list, got None"),
        (json.dumps({"schema": 1, "rows": [score().row() | {"mean": 10**400}]}), "cannot be read"),
        (json.dumps({"schema": 1, "rows": [score().row() | {"bytes": "9"}]}), "bytes must be a whole number"),
        (json.dumps({"schema": 1, "rows": [score().row() | {"name": [1]}]}), "name must be a text"),
        (json.dumps({"schema": 1, "rows": [score().row() | {"seeds": [0, 1, {}]}]}), r"seeds\[2\] must be a whole"),
        (json.dumps({"schema": 1, "rows": [score().row() | {"higher_is_better": 1}]}), "must be true or false"),
    ],
)
def test_a_broken_file_says_what_is_wrong(tmp_path, content, says):
    (tmp_path / "s.json").write_text(content)
    with pytest.raises(StorageError, match=says):
        read_scores(tmp_path / "s.json")
    with pytest.raises(StorageError, match="no"):
        read_scores(tmp_path / "none.json")


def test_impossible_scores_are_refused():
    for changes in ({"values": ()}, {"values": (float("nan"),)}, {"seeds": (1, 2)}):
        with pytest.raises(ConfigError):
            score(**{"values": (1.0,), **changes})
    with pytest.raises(ConfigError, match="values give"):
        replace(score(), std=0.0)


def test_paired_equals_scipy():
    from scipy.stats import ttest_rel

    a, b = score((5.0, 7.0, 6.5, 9.0)), score((4.0, 6.5, 6.0, 7.0), name="b")
    interval = ttest_rel(a.values, b.values).confidence_interval(0.9)
    found = paired(a, b, 0.9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.difference == pytest.approx(a.mean - b.mean) and found.n == 4


@pytest.mark.parametrize("changes", [{"fingerprint": "g"}, {"metric": "IR@1"}, {"seeds": (1, 2, 3)}])
def test_what_cannot_be_paired_is_refused(changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        paired(score(), score(**changes))


def test_one_seed_cannot_be_paired():
    with pytest.raises(ConfigError, match="two seeds"):
        paired(score((1.0,)), score((2.0,)))


def test_a_table_has_a_row_a_set_and_a_column_a_metric():
    scores = [score(name=n, metric=m) for n in ("random", "cf|x") for m in ("IR@1", "TR@1")]
    text = table(scores).splitlines()
    assert len(text) == 4 and "IR@1 +- std" in text[1] and "2.33 +- 1.53" in text[2]
    markdown = table(scores, "markdown").splitlines()
    assert markdown[2].count("|") == 7 and "cf\\|x" in markdown[5]


def test_a_table_says_which_sets_train_the_student_their_way():
    own = "wbce, lowrank similarity"
    scores = [score(), score(name="l5", training=own), score(name="l9", training=own), score(name="m", training="ence")]
    text, markdown = table(scores), table(scores, "markdown")
    notes = ["l5, l9: student trained with wbce, lowrank similarity", "m: student trained with ence"]
    assert text.splitlines()[-2:] == notes and len(text.splitlines()) == 8
    assert markdown.endswith("\n\n" + "\n\n".join(notes))
    assert [line.split(",")[-1] for line in table(scores, "csv").splitlines()][:2] == ["training", ""]
    assert "student" not in table([score()]) + table([score()], "markdown")


def test_fingerprints_never_share_a_table():
    text = table([score(), score(name="b", fingerprint="g" * 32)])
    first, second = text.split("\n\n")
    assert "fffff" in first and "ggggg" in second and "b " not in first
    rows = table([score(), score(name="b", fingerprint="g" * 32)], "csv").splitlines()
    assert "f" * 32 in rows[1] and "g" * 32 in rows[2]


def test_table_refuses_doubles_and_unknown_formats():
    with pytest.raises(ConfigError, match="two scores"):
        table([score(), score()])
    with pytest.raises(Exception, match="markdown"):  # the type checker of the tests may be quicker than ConfigError
        table([score()], "html")
    assert json.loads(table([score()], "json"))["rows"][0]["mean"] == score().mean


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", '=HYPERLINK("http://x")'])
def test_no_cell_of_a_table_is_a_formula(name):
    import csv
    import io

    text = table([score(name=name, method=name, protocol=name, training=name, metric=name)], "csv")
    head, line = csv.reader(io.StringIO(text, newline=""))
    shown = "'" + name.replace("\r", " ")
    assert not any(cell.lstrip()[:1] in ("=", "+", "-", "@") for cell in (*head, *line)) and line[0] == line[1] == shown


def test_a_name_that_is_not_utf8_is_shown():
    made = score(name="photo\udce9", method="\ud800")
    assert (made.name, made.method) == (r"photo\xe9", r"\ud800") and table([made]).encode()
