"""Tables of scores as files and terminals show them: text, Markdown, CSV and JSON."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, get_args

from limbeck.errors import ConfigError
from limbeck.evaluation.encoders import by_encoder
from limbeck.evaluation.score import SCHEMA, Score
from limbeck.evaluation.score_table import Format, ScoreTable, by_metric, by_student, titles

__all__ = ["Format", "across", "csv_of", "table", "titles"]

FORMULA = ("=", "+", "-", "@")  # that spreadsheets take for the start of one
CSV_HEAD = (
    "name",
    "method",
    "pairs",
    "bytes",
    "protocol",
    "fingerprint",
    "encoder",
    "judged",
    "percent of full",
    "seeds",
)


def table(scores: Sequence[Score], format: Format = "text") -> str:
    """Scores as a table: `mean +- std` in percent, one row a set, one column a metric.

    Where encoders took the place of that of the space, the table of `limbeck.evaluation.encoders.encoder_table` leads in text and markdown.

    Below it stands which sets have the student trained with a loss or a similarity of their own.

    Rows of different protocol fingerprints cannot be compared: each fingerprint gets its own table under its own
    heading (text, markdown) or is named in each row (csv, json).

    Args:
        scores: what `evaluate` or `compare` returned.
        format: `"text"`, `"markdown"`, `"csv"` (mean and spread in columns of their own; a name that a spreadsheet would take for a
            formula has a quote before it), `"json"` (as scores.json).

    Raises:
        ConfigError: an unknown format, or one set scored twice by one metric under one fingerprint.

    Example:
        >>> what = dict(name="a", method="cf", pairs=9, bytes=800, protocol="p", fingerprint="f", metric="IR@1")
        >>> print(table([Score.of([20.0, 22.0], **what, seconds=2.0)]))
        p  (fingerprint f, 2 seeds)
        set  pairs  bytes    IR@1 +- std  seconds
        a        9    800  21.00 +- 1.41      2.0
    """
    if format not in get_args(Format):
        raise ConfigError(f"unknown table format {format!r}; known: {', '.join(get_args(Format))}")
    if format == "json":
        return json.dumps({"schema": SCHEMA, "rows": [s.row() for s in scores]}, indent=1)
    if format == "csv":
        return csv_of(by_metric(scores))
    return "\n\n".join(table.render(format) for table in (*by_encoder(scores), *by_metric(scores)))


def across(scores: Sequence[Score], format: Format = "text") -> str:
    """Scores under several protocols: the tables of `by_student` as Markdown, or as text for all other formats."""
    return "\n\n".join(table.render(format) for table in by_student(scores))


def csv_of(tables: Sequence[ScoreTable]) -> str:
    """Tables of `by_metric` as one, with mean and spread of every metric in columns of their own, and the protocol in each row.

    Numbers are as exact as they are kept. A name that a spreadsheet would take for a formula has a quote before it.
    """
    metrics = list(dict.fromkeys(metric for table in tables for metric in table.columns))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    spread = [f"{metric}{suffix}" for metric in metrics for suffix in ("", " std")]
    lines: list[list[Any]] = [[*CSV_HEAD, *spread, "seconds", "peak_bytes", "training"]]
    for table in tables:
        for row in table.rows:
            one = next(iter(row.cells.values()))
            judged = (one.protocol, one.fingerprint, one.encoder, one.judged, row.percent.get(table.metric, ""))
            cells = [(row.cells[m].mean, row.cells[m].std) if m in row.cells else ("", "") for m in metrics]
            end = (one.seconds, one.peak_bytes, one.training)
            lines.append([*row[:4], *judged, len(one.values), *(value for cell in cells for value in cell), *end])
    writer.writerows([_neutral(cell) for cell in line] for line in lines)
    return out.getvalue()


def _neutral(cell: Any) -> Any:
    """A cell that a spreadsheet takes for text, where it would take it for a formula; in one row."""
    if not isinstance(cell, str):
        return cell
    cell = cell.replace("\r", " ")  # csv does not quote it
    return f"'{cell}" if cell.lstrip().startswith(FORMULA) else cell
