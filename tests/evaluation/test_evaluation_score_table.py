"""One table behind everything that shows scores: text, Markdown, CSV, page and plots have the same rows and numbers."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from limbeck.evaluation import Contrast, PairedGain, Score, ScoreTable, table
from limbeck.evaluation.encoders import by_encoder
from limbeck.evaluation.plot import score_vs_bytes
from limbeck.evaluation.score_table import by_metric, by_student
from limbeck.evaluation.table import csv_of
from limbeck.report import page

SETS = [("random", 10, 1000), ("cf", 10, 2000), ("cf", 20, 4000), ("full", 500, 90000)]
METRICS = ("IR@1", "TR@1", "mean")


def scores(encoders: tuple[str, ...] = ("a",), student: str = "frozen") -> list[Score]:
    """Each set by each metric and encoder, the first of which is at home; every mean is another, and has one digit."""
    return [
        Score.of(
            [mean - 0.5, mean + 0.5],
            name=name,
            method=name,
            pairs=pairs,
            bytes=size,
            protocol=f"retrieval, {student} student",
            fingerprint=f"{student}-{encoder}",
            metric=metric,
            encoder=encoder,
            home=f"{student}-{encoders[0]}" if i else "",
        )
        for row, (name, pairs, size) in enumerate(SETS)
        for i, encoder in enumerate(encoders)
        for column, metric in enumerate(METRICS)
        for mean in [10.1 * (row + 1) + 3.3 * column + 1.7 * i]
    ]


def cells_of_text(text: str) -> list[list[str]]:
    return [re.split(r"  +", line) for line in text.splitlines()[1:]]


def cells_of_markdown(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ") for line in lines]


def tables_of_page(html: str) -> list[list[list[str]]]:
    """The words of each cell of each table, without markup."""
    found = []
    for part in re.findall(r"<table>.*?</table>", html, re.DOTALL):
        rows = re.findall(r"<tr.*?</tr>", part, re.DOTALL)
        cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
        found.append([[re.sub(r"<[^>]*>|\s+", "", cell).replace("&nbsp;", "") for cell in row] for row in cells])
    return found


@pytest.mark.parametrize("shown", [by_metric(scores()), by_encoder(scores(("a", "b"))), by_student(scores())])
def test_text_and_markdown_say_the_same(shown: list[ScoreTable]) -> None:
    (one,) = shown
    assert cells_of_text(one.text()) == cells_of_markdown(one.markdown()) == one.lines()


def test_every_renderer_has_the_same_numbers(tmp_path: Path) -> None:
    (one,) = by_metric(scores())
    means = [[row.cells[metric].mean for metric in METRICS] for row in one.rows]
    shown = [[f"{mean:.2f} +- 0.71" for mean in row] for row in means]
    assert [line[3:6] for line in one.lines()[1:]] == shown
    exact = list(csv.DictReader(io.StringIO(csv_of([one]))))
    assert [[float(row[metric]) for metric in METRICS] for row in exact] == means
    assert [float(row["percent of full"]) for row in exact] == [row.percent["mean"] for row in one.rows]
    (html,) = tables_of_page(page(tmp_path / "a.html", scores=scores()).read_text())
    assert html[0][3:6] == ["mean", "IR@1", "TR@1"], "what stands for all leads on a page"
    assert [row[3:6] for row in html[1:]] == [[f"{row[i]:.1f}&plusmn;0.7" for i in (2, 0, 1)] for row in means]
    assert [row[:2] for row in html[1:]] == [[row.name, str(row.pairs)] for row in one.rows]


def test_encoders_have_the_same_percent_everywhere(tmp_path: Path) -> None:
    given = scores(("a", "b"))
    (one,) = by_encoder(given)
    percent = [[one.percent(row, column) for column in range(2)] for row in range(len(SETS))]
    assert [[f"{value:.0f} %" for value in row] for row in percent] == [line[4::2] for line in one.lines()[1:]]
    rows = list(csv.DictReader(io.StringIO(table(given, "csv"))))
    assert [float(row["percent of full"]) for row in rows] == [row[column] for column in range(2) for row in percent]
    html = tables_of_page(page(tmp_path / "a.html", scores=given).read_text())
    assert [row[4::2] for row in html[0][1:]] == [[f"{value:.0f}%" for value in row] for row in percent]
    assert html[0][0][3::2] == ["home:a", "unseen:b"] and len(html) == 3
    assert [row["encoders"] for row in one.plain()["rows"]] == [
        [
            {"encoder": s.encoder, "judged": s.judged, "mean": s.mean, "std": s.std, "percent": row.percent[column]}
            for column, s in row.cells.items()
        ]
        for row in one.rows
    ]


def test_a_plot_and_the_page_draw_the_same_sets(tmp_path: Path) -> None:
    given = scores()
    drawn = score_vs_bytes(given, tmp_path / "a.svg").read_text()
    (figure,) = re.findall(
        r"<figure class=\"plot\".*?</figure>", page(tmp_path / "a.html", scores=given).read_text(), re.DOTALL
    )
    for name in ("random", "cf"):
        assert drawn.count(f"<!-- {name} -->") == 1 and figure.count(f"</span> {name}</li>") == 1
    (full,) = [row.cells["mean"].mean for row in by_metric(given)[0].rows if row.full]
    assert f"all 500 real pairs: {full:.1f}" in figure and "<!-- full (0.1 MB) -->" in drawn


def test_a_row_of_one_encoder_alone_is_a_hole_elsewhere() -> None:
    given = [s for s in scores(("a", "b")) if (s.name, s.encoder) != ("random", "b")]
    (one,) = by_encoder(given)
    assert one.lines()[1][3:] == ["16.70 +- 0.71", "36 %", "-", "-"]
    assert [row.best for row in one.rows] == [set(), {"frozen-a"}, set(), set()], "the best of one is no best"


def test_columns_are_students_where_there_are_several() -> None:
    (one,) = by_student([*scores(), *scores(student="convnet")])
    assert list(one.columns.values()) == ["frozen", "convnet"] and one.metric == "mean"
    assert [len(row.cells) for row in one.rows] == [2] * 4


def test_notes_name_the_sets_that_train_the_student_their_way() -> None:
    given = [replace(s, training="wbce") if s.name == "cf" else s for s in scores()]
    (one,) = by_metric(given)
    assert one.notes == ("cf: student trained with wbce",)
    assert one.text().endswith(f"\n{one.notes[0]}") and one.markdown().endswith(f"\n\n{one.notes[0]}")


def test_nothing_has_no_table() -> None:
    assert by_metric([]) == by_encoder([]) == by_student([]) == []
    assert table([]) == table([], "markdown") == "" and table([], "csv").startswith("name,method,pairs,bytes,")


def test_the_old_name_of_a_gain_stays() -> None:
    assert Contrast is PairedGain
