"""What a comparison says of its scores: its tables, what is paired with what, and its plots; without distilling anything."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbeck.errors import StorageError
from limbeck.evaluation import Score, paired, table
from limbeck.evaluation.comparison import WRITTEN, Comparison, refuse_foreign, write_comparison
from limbeck.evaluation.gain import paired_gains
from limbeck.evaluation.plot import _panel, score_vs_bytes
from limbeck.evaluation.score_table import by_metric
from limbeck.evaluation.table import across


def score(values: Sequence[float], name: str, **changes: Any) -> Score:
    given = {"method": name, "pairs": 10, "bytes": 1000, "protocol": "p, frozen student", "fingerprint": "f" * 32}
    return Score.of(values, **{**given, "name": name, "metric": "mean", **changes})


ROWS = [
    score((1.0, 2.0), "random"), score((3.0, 3.5), "herding"), score((5.0, 7.0), "cf"),
    score((1.5, 2.5), "random", pairs=20, bytes=2500), score((8.0, 9.0), "cf", pairs=20, bytes=2000),
    score((20.0, 22.0), "full data", method="full", pairs=500, bytes=9000),
]  # fmt: skip


def comparison(scores: Sequence[Score], folder: Path = Path(), **changes: Any) -> Comparison:
    return Comparison(list(scores), {}, folder, {}, ("random", "herding"), **changes)


def test_each_row_that_learned_is_paired_with_the_best_of_its_size() -> None:
    found = comparison(ROWS).paired()
    assert [(c.name, c.pairs, c.rival, c.rival_pairs) for c in found] == [
        ("cf", 10, "herding", None),
        ("cf", 20, "random", None),
    ]
    assert [c.paired for c in found] == [paired(ROWS[2], ROWS[1]), paired(ROWS[4], ROWS[3])]
    large = comparison(ROWS, as_large={("cf", 10): ("random", 20)}).paired()
    assert [(c.rival, c.rival_pairs) for c in large] == [("herding", None), ("random", 20), ("random", None)]
    assert large[1].paired == paired(ROWS[2], ROWS[3])


def test_where_less_is_better_the_best_is_the_least() -> None:
    rows = [
        score((v, v + 1), name, metric="loss", higher_is_better=False) for name, v in zip("abc", (2, 1, 0), strict=True)
    ]
    assert [c.rival for c in paired_gains(rows, ["a", "b"])] == ["b"]
    assert [
        c.rival for c in paired_gains([score((v, v + 1), n) for n, v in (("a", 2), ("b", 1), ("c", 0))], ["a", "b"])
    ] == ["a"]


def test_one_student_has_a_table_and_its_pairs_below() -> None:
    found = comparison(ROWS)
    lines = [str(c) for c in found.paired()]
    assert len(lines) == 2
    assert str(found) == "\n\n".join([table(ROWS), "\n".join(lines)])
    marked = "\n".join(f"- {line}" for line in lines)
    assert found.table("markdown") == "\n\n".join([table(ROWS, "markdown"), marked])
    assert found.table("csv") == table(ROWS, "csv") and found.table("json") == table(ROWS, "json")
    assert comparison(ROWS[:2]).table() == table(ROWS[:2])


def test_several_students_have_columns_and_in_markdown_a_table_each() -> None:
    other = [score((4.0, 4.5), s.name, fingerprint="g" * 32, protocol="p, convnet student") for s in ROWS[1:3]]
    found = comparison([*ROWS, *other])
    lines = [str(c) for c in found.paired()]
    said = [f"frozen: {lines[0]}", f"frozen: {lines[1]}", f"convnet: {lines[2]}"]
    assert str(found) == "\n\n".join([across([*ROWS, *other]), "\n".join(said)])
    parts = [across([*ROWS, *other], "markdown"), table(ROWS, "markdown"), "\n".join(f"- {line}" for line in lines[:2])]
    parts += [table(other, "markdown"), f"- {lines[2]}"]
    assert found.table("markdown") == "\n\n".join(parts)


def test_only_tables_of_a_comparison_are_replaced(tmp_path: Path) -> None:
    refuse_foreign(tmp_path)
    for _ in range(2):
        write_comparison(comparison(ROWS, tmp_path))
    assert {p.name for p in tmp_path.iterdir()} == set(WRITTEN)
    assert (tmp_path / "table.md").read_text() == comparison(ROWS).table("markdown") + "\n"
    assert (tmp_path / "table.csv").read_text() == table(ROWS, "csv")
    (tmp_path / "scores.json").unlink()
    with pytest.raises(StorageError, match=r"holds table\.md, which is of no comparison"):
        refuse_foreign(tmp_path)


def test_a_plot_has_a_line_a_method_and_full_data_across() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    (table,) = by_metric([*ROWS[3:], *ROWS[:3]])
    _panel(axes, table)
    drawn = {bars.get_label(): bars for bars in axes.containers}
    assert list(drawn) == ["random", "cf", "herding"]
    for name, bars in drawn.items():
        rows = sorted((s for s in ROWS if s.name == name), key=lambda s: s.bytes)
        line, _, (spread,) = bars
        np.testing.assert_allclose(line.get_xydata(), [(s.bytes, s.mean) for s in rows])
        ends = [segment[:, 1] for segment in spread.get_segments()]
        np.testing.assert_allclose(ends, [(s.mean - s.std, s.mean + s.std) for s in rows])
    full = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert [(line.get_label(), line.get_ydata()[0]) for line in full] == [("full data (0.0 MB)", 21.0)]
    assert (axes.get_title(), axes.get_xlabel(), axes.get_ylabel()) == (
        "p, frozen student",
        "bytes on disk",
        "mean (percent)",
    )
    assert axes.get_xscale() == "log" and axes.get_legend() is not None


def test_a_plot_is_of_the_metric_that_is_asked_for_with_a_panel_a_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    panels: list[tuple[str, list[Score]]] = []
    monkeypatch.setattr(
        "limbeck.evaluation.plot._panel", lambda axes, table: panels.append((table.metric, table.scores))
    )
    other = [score((4.0, 4.5), "cf", fingerprint="g" * 32), score((1.0, 2.0), "cf", metric="IR@1")]
    score_vs_bytes([other[1], *ROWS, other[0]], tmp_path / "a.svg")
    score_vs_bytes([other[1], *ROWS], tmp_path / "b.svg", "IR@1")
    assert panels == [("mean", ROWS), ("mean", other[:1]), ("IR@1", other[1:])]


def test_a_plot_of_rows_with_many_options_keeps_its_axes(tmp_path: Path) -> None:
    """Long names are wrapped and cut; matplotlib warns, which is an error here, where nothing is left for the axes."""
    name = f"random, at the bytes of dm({', '.join(f'option_{i}=value,value' for i in range(20))})"
    path = score_vs_bytes([score((1.0, 2.0), name), score((2.0, 3.0), "dm")], tmp_path / "long.svg")
    assert "option_0=value" in (text := path.read_text()) and "option_19" not in text
