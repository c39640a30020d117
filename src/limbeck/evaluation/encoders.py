"""Scores by encoder: what a set teaches at home and under encoders that took no part in making it, each beside its own full data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.evaluation.score import Score
from limbeck.evaluation.score_table import Format, ScoreTable, headline, rows_of

__all__ = ["ByEncoder", "by_encoder", "encoder_table"]


@dataclass(frozen=True)
class ByEncoder(ScoreTable):
    """The `ScoreTable` of one protocol whose columns are encoders, that of the space first; its cells can be counted."""

    @property
    def encoders(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.columns.values())

    @property
    def cells(self) -> tuple[tuple[Score | None, ...], ...]:
        """By row and encoder; `None` where that was not judged."""
        return tuple(tuple(row.cells.get(column) for column in self.columns) for row in self.rows)

    def percent(self, row: int, column: int) -> float | None:
        """Of the full data's score with the same encoder, 100 mean / full mean; `None` where there is no such number."""
        return self.rows[row].percent.get(list(self.columns)[column])

    def plain(self) -> dict[str, Any]:
        """The table as JSON types."""
        rows = []
        for row in self.rows:
            scores = [(row.cells[column], row.percent.get(column)) for column in self.columns if column in row.cells]
            judged = [
                {"encoder": s.encoder, "judged": s.judged, "mean": s.mean, "std": s.std, "percent": percent}
                for s, percent in scores
            ]
            facts = {"name": row.name, "method": row.method, "pairs": row.pairs, "bytes": row.bytes}
            rows.append({**facts, "encoders": judged})
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
    tables = []
    known = {s.fingerprint for s in scores}
    for home in (key for key in dict.fromkeys(s.home for s in scores) if key in known):
        group = [s for s in scores if home in (s.fingerprint, s.home)]
        metric = headline(group)
        names = {home: "", **{s.fingerprint: s.encoder for s in group}}
        order = list(names)
        cells = sorted((s for s in group if s.metric == metric), key=lambda s: order.index(s.fingerprint))
        tables.append(
            ByEncoder(
                by="encoder",
                protocol=group[0].protocol,
                metric=metric,
                columns={key: name or "the space's own" for key, name in names.items()},
                rows=tuple(sorted(rows_of(cells, "fingerprint"), key=lambda row: row.full)),
                fingerprint=home,
                encoder=names[home],
            )
        )
    return tables


def encoder_table(scores: Sequence[Score], format: Format = "text") -> str:
    """The tables of `by_encoder` as Markdown, or as text for all other formats."""
    return "\n\n".join(table.render(format) for table in by_encoder(scores))
