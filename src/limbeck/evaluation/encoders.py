"""Scores by encoder: what a set teaches at home and under encoders that took no part in making it, each beside its own full data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.evaluation.score import Score
from limbeck.evaluation.table import Format, Key, headline, laid_out, percent_of, rows_of, seeds_of

__all__ = ["ByEncoder", "by_encoder", "encoder_table"]


@dataclass(frozen=True)
class ByEncoder:
    """Sets as rows and encoders as columns, under one protocol and by its first metric.

    Args:
        protocol: readable.
        metric: the one that is shown.
        encoders: their names, that of the space first.
        rows: name, method, pairs and bytes of each set.
        cells: by row and encoder; `None` where that was not judged.
    """

    protocol: str
    metric: str
    encoders: tuple[str, ...]
    rows: tuple[Key, ...]
    cells: tuple[tuple[Score | None, ...], ...]

    def full(self, column: int) -> Score | None:
        """The full data, judged with the same encoder."""
        return next((row[column] for row, key in zip(self.cells, self.rows, strict=True) if key[1] == "full"), None)

    def percent(self, row: int, column: int) -> float | None:
        """Of the full data's score with the same encoder, 100 mean / full mean; `None` where there is no such number."""
        return percent_of(self.cells[row][column], self.full(column))

    def plain(self) -> dict[str, Any]:
        """The table as JSON types."""
        rows = []
        for i, (name, method, pairs, size) in enumerate(self.rows):
            judged = [
                {"encoder": s.encoder, "judged": s.judged, "mean": s.mean, "std": s.std, "percent": self.percent(i, j)}
                for j, s in enumerate(self.cells[i])
                if s is not None
            ]
            rows.append({"name": name, "method": method, "pairs": pairs, "bytes": size, "encoders": judged})
        return {"protocol": self.protocol, "metric": self.metric, "rows": rows}


def by_encoder(scores: Sequence[Score]) -> list[ByEncoder]:
    """One table for each protocol under which sets were judged with their space as it is and with another encoder in it; else none.

    Args:
        scores: what `evaluate` or `compare` returned.

    Raises:
        ConfigError: one set scored twice with one encoder.

    Example:
        >>> def score(mean, **given):
        ...     return Score.of([mean], protocol="p", metric="mean", bytes=9, **given)
        >>> rows = [score(m, name=n, method=n, pairs=p, **judged) for n, p, means in (("cf", 9, (30, 10)), ("full", 99, (40, 50)))
        ...         for m, judged in zip(means, (dict(fingerprint="f", encoder="a"), dict(fingerprint="g", encoder="b", home="f")))]
        >>> (table,) = by_encoder(rows)
        >>> table.encoders, [table.percent(0, column) for column in (0, 1)]
        (('a', 'b'), [75.0, 20.0])
    """
    found = []
    there = {s.fingerprint for s in scores}
    for home in (key for key in dict.fromkeys(s.home for s in scores) if key in there):
        group = [s for s in scores if home in (s.fingerprint, s.home)]
        metric = headline(group)
        columns = dict.fromkeys([home, *(s.fingerprint for s in group)])
        cells: dict[Key, dict[str, Score]] = {}
        for column in columns:
            for key, row in rows_of([s for s in group if s.fingerprint == column and s.metric == metric]).items():
                cells.setdefault(key, {})[column] = row[metric]
        names = {s.fingerprint: s.encoder for s in group}
        rows = tuple(sorted(cells, key=lambda key: key[1] == "full"))
        found.append(
            ByEncoder(
                protocol=group[0].protocol,
                metric=metric,
                encoders=tuple(names[column] or "the space's own" for column in columns),
                rows=rows,
                cells=tuple(tuple(cells[key].get(column) for column in columns) for key in rows),
            )
        )
    return found


def encoder_table(scores: Sequence[Score], format: Format = "text") -> str:
    """The tables of `by_encoder`: for the space's own encoder and each unseen one the score, and its percent of the full data there.

    Args:
        scores: what `evaluate` or `compare` returned.
        format: `"markdown"`, or text for all others.
    """
    return "\n\n".join(_readable(table, format) for table in by_encoder(scores))


def _readable(table: ByEncoder, format: Format) -> str:
    columns = [
        cell for i, name in enumerate(table.encoders) for cell in (f"{'unseen' if i else 'home'}: {name}", "of full")
    ]
    lines = [["set", "pairs", "bytes", *columns]]
    for i, (name, _, pairs, size) in enumerate(table.rows):
        cells: list[str] = []
        for j, score in enumerate(table.cells[i]):
            percent = table.percent(i, j)
            share = "-" if percent is None else f"{percent:.0f} %"
            if score is None:
                cells += ["-", "-"]
            else:
                cells += [
                    f"{score.mean:.2f} +- {score.std:.2f}",
                    "(took part)" if score.judged == "took part" else share,
                ]
        lines.append([name, str(pairs), str(size), *cells])
    shown = [s for row in table.cells for s in row if s is not None]
    title = f"{table.protocol}: {table.metric} by encoder, and its percent of the full data there  ({seeds_of(shown)})"
    return laid_out(lines, title, [], format)
