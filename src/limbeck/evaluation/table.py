"""Tables of scores: sets as rows; metrics as columns, one table a protocol fingerprint, or students as columns."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Literal, get_args

from limbeck.errors import ConfigError
from limbeck.evaluation.score import SCHEMA, Score

__all__ = ["Format", "Key", "across", "headline", "laid_out", "percent_of", "rows_of", "seeds_of", "table", "titles"]

Format = Literal["text", "markdown", "csv", "json"]
FORMULA = ("=", "+", "-", "@")  # that spreadsheets take for the start of one


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
    groups: dict[str, list[Score]] = {}
    for score in scores:
        groups.setdefault(score.fingerprint, []).append(score)
    if format == "csv":
        return _csv(list(groups.values()))
    from limbeck.evaluation.encoders import encoder_table  # which is laid out by this module

    leading = [part for part in [encoder_table(scores, format)] if part]
    return "\n\n".join([*leading, *(_readable(group, format) for group in groups.values())])


def across(scores: Sequence[Score], format: Format = "text") -> str:
    """Scores under several protocols as one table a metric: sets as rows, protocols as columns, named by what differs.

    Columns have fingerprints of their own: they say how far a set serves other students, not which column is better judged.
    Rows of unseen encoders are left out, see `limbeck.evaluation.encoders.encoder_table`. Where there is a metric `"mean"`, only that is shown.

    Args:
        scores: what `compare` returned.
        format: `"markdown"`, or text for all others.

    Example:
        >>> what = dict(name="a", method="cf", pairs=9, bytes=800, metric="accuracy")
        >>> scores = [Score.of([v, v + 2], protocol=f"p, {n} student", fingerprint=n, **what) for v, n in ((20, "x"), (30, "y"))]
        >>> print(across(scores))
        p: accuracy by student  (2 seeds)
        set  pairs  bytes    x +- std      y +- std
        a        9    800  21.00 +- 1.41  31.00 +- 1.41
    """
    scores = [s for s in scores if not s.home]
    shared, names = titles(scores)
    metrics = list(dict.fromkeys(s.metric for s in scores))
    if "mean" in metrics:
        metrics = ["mean"]
    parts = []
    for metric in metrics:
        rows: dict[Key, dict[str, Score]] = {}
        for fingerprint in names:
            for key, row in rows_of([s for s in scores if s.fingerprint == fingerprint and s.metric == metric]).items():
                rows.setdefault(key, {})[fingerprint] = row[metric]
        lines = [["set", "pairs", "bytes", *[f"{name} +- std" for name in names.values()]]]
        for (name, _, pairs, size), cells in rows.items():
            lines.append([name, str(pairs), str(size), *[_cell(cells.get(key)) for key in names]])
        here = [s for s in scores if s.metric == metric]
        lower = "" if here[0].higher_is_better else " (lower is better)"
        title = f"{shared}: {metric}{lower} by student  ({seeds_of(here)})"
        parts.append(laid_out(lines, title, _notes(here) if metric == metrics[-1] else [], format))
    return "\n\n".join(parts)


def titles(scores: Sequence[Score]) -> tuple[str, dict[str, str]]:
    """What all titles of protocols share, and fingerprint to what is its own; the fingerprint itself where nothing is.

    A title is `classification, convnet student, ...`: its parts are compared, and the word student is left out of names.
    """
    parts = {s.fingerprint: s.protocol.split(", ") for s in scores}
    first = next(iter(parts.values()), [])
    shared = [part for part in first if all(part in other for other in parts.values())]
    own = {key: [part.removesuffix(" student") for part in found if part not in shared] for key, found in parts.items()}
    names = {key: ", ".join(found) for key, found in own.items()}
    twice = {name for name in names.values() if not name or list(names.values()).count(name) > 1}
    named = {key: f"{name} {key[:6]}".strip() if name in twice else name for key, name in names.items()}
    return ", ".join(shared), named


Key = tuple[str, str, int, int]
"""Name, method, pairs and bytes: what makes a row."""


def headline(scores: Sequence[Score]) -> str:
    """The metric that stands for a protocol: the mean where there is one, else the first."""
    metrics = list(dict.fromkeys(s.metric for s in scores))
    return "mean" if "mean" in metrics else metrics[0]


def percent_of(score: Score | None, full: Score | None) -> float | None:
    """100 mean / full mean; `None` without one of the two, and where lower is better or the full data have nothing."""
    if score is None or full is None or not full.higher_is_better or full.mean <= 0:
        return None
    return 100 * score.mean / full.mean


def rows_of(scores: Sequence[Score]) -> dict[Key, dict[str, Score]]:
    """Each row with its scores by metric; refuses one that has two of a metric."""
    rows: dict[Key, dict[str, Score]] = {}
    for s in scores:
        row = rows.setdefault((s.name, s.method, s.pairs, s.bytes), {})
        if s.metric in row:
            raise ConfigError(
                f"{s.name!r} has two scores of {s.metric!r} under one protocol; give the sets different names"
            )
        row[s.metric] = s
    return rows


def _readable(scores: Sequence[Score], format: Format) -> str:
    metrics = list(dict.fromkeys(s.metric for s in scores))
    lines = [["set", "pairs", "bytes", *[f"{m} +- std" for m in metrics], "seconds"]]
    for (name, _, pairs, size), row in rows_of(scores).items():
        cells = [_cell(row.get(m)) for m in metrics]
        named = f"{name} (took part)" if any(s.took_part for s in row.values()) else name
        lines.append([named, str(pairs), str(size), *cells, f"{max(s.seconds for s in row.values()):.1f}"])
    judged = f", judged with {scores[0].encoder}" if scores[0].home else ""
    title = f"{scores[0].protocol}{judged}  (fingerprint {scores[0].fingerprint[:12]}, {seeds_of(scores)})"
    return laid_out(lines, title, _notes(scores), format)


def _cell(score: Score | None) -> str:
    return "-" if score is None else f"{score.mean:.2f} +- {score.std:.2f}"


def seeds_of(scores: Sequence[Score]) -> str:
    """How many seeds they have, as in `3 seeds`."""
    seeds = sorted({len(s.values) for s in scores})
    return " to ".join(str(n) for n in sorted({seeds[0], seeds[-1]})) + (" seed" if seeds == [1] else " seeds")


def laid_out(lines: Sequence[Sequence[str]], title: str, notes: Sequence[str], format: Format) -> str:
    """A table of cells, the first line its head, as markdown or text, with a title above and notes below."""
    if format == "markdown":
        body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
        rule = "|---" + "|---:" * (len(lines[0]) - 1) + "|"
        return "\n".join([f"**{title}**", "", body[0], rule, *body[1:], *[f"\n{note}" for note in notes]])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    body = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(x, widths, strict=True)))
        for x in lines
    ]
    return "\n".join([title, *[line.rstrip() for line in body], *notes])


def _notes(scores: Sequence[Score]) -> list[str]:
    names: dict[str, dict[str, None]] = {}
    for s in scores:
        if s.training:
            names.setdefault(s.training, {})[s.name] = None
    return [f"{', '.join(found)}: student trained with {training}" for training, found in names.items()]


def _csv(groups: Sequence[Sequence[Score]]) -> str:
    metrics = list(dict.fromkeys(s.metric for group in groups for s in group))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    spread = [f"{m}{suffix}" for m in metrics for suffix in ("", " std")]
    first = (
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
    writer.writerow([_neutral(name) for name in (*first, *spread, "seconds", "peak_bytes", "training")])
    for group in groups:
        rows, metric = rows_of(group), headline(group)
        full = next((row.get(metric) for key, row in rows.items() if key[1] == "full"), None)
        for key, row in rows.items():
            one = next(iter(row.values()))
            cells = [v for m in metrics for v in ((row[m].mean, row[m].std) if m in row else ("", ""))]
            end = (one.seconds, one.peak_bytes, one.training)
            percent = percent_of(row.get(metric), full)
            judged = (one.encoder, one.judged, "" if percent is None else percent)
            line = [*key, one.protocol, one.fingerprint, *judged, len(one.values), *cells, *end]
            writer.writerow([_neutral(cell) for cell in line])
    return out.getvalue()


def _neutral(cell: Any) -> Any:
    """A cell that a spreadsheet takes for text, where it would take it for a formula; in one row."""
    if not isinstance(cell, str):
        return cell
    cell = cell.replace("\r", " ")  # csv does not quote it
    return f"'{cell}" if cell.lstrip().startswith(FORMULA) else cell
