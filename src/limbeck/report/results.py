"""Scores as a page tells them: the tables of each protocol, by budget, with as many digits as say something."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from limbeck.evaluation.encoders import ByEncoder, by_encoder
from limbeck.evaluation.score import Score
from limbeck.evaluation.score_table import Row, ScoreTable, by_metric, quality
from limbeck.report.formatting import decimals

__all__ = ["Group", "best", "digits", "groups", "label", "retrieval"]


@dataclass(frozen=True)
class Group:
    """The tables of one protocol.

    Args:
        tables: metrics as columns; judged with the space as it is, then with each other encoder in it.
        encoders: where there are several, encoders as columns.
    """

    tables: tuple[ScoreTable, ...]
    encoders: ByEncoder | None = None

    @property
    def home(self) -> ScoreTable:
        """Judged with the space as it is; or the only one."""
        return self.tables[0]


def groups(scores: Sequence[Score]) -> list[Group]:
    """The tables of each protocol together; one of an unseen encoder alone stands for itself.

    Args:
        scores: what `evaluate` or `compare` returned.

    Raises:
        ConfigError: a set was judged twice by one metric under one protocol.

    Example:
        >>> common = dict(method="cf", bytes=9, protocol="p", fingerprint="f", metric="mean")
        >>> scores = [Score.of([2.0], name=f"cf-{n}", pairs=n, **common) for n in (20, 10)]
        >>> [[row.name for row in group.home.rows] for group in groups(scores)]
        [['cf-10', 'cf-20']]
    """
    tables = {table.fingerprint: _by_budget(table) for table in by_metric(scores)}
    encoders = {table.fingerprint: replace(table, rows=_sorted(table.rows)) for table in by_encoder(scores)}
    own = [table for table in tables.values() if table.home not in tables]
    return [
        Group((table, *(t for t in tables.values() if t.home == table.fingerprint)), encoders.get(table.fingerprint))
        for table in own
    ]


def best(rows: Sequence[Row], metric: str) -> Row:
    """The best of `rows` by `metric`; the first of equals."""
    return max(rows, key=lambda row: quality(row.cells[metric]))


def digits(table: ScoreTable, column: str) -> int:
    """How many digits after the point the numbers of a column have."""
    return decimals(max(abs(row.cells[column].mean) for row in table.rows if column in row.cells))


def retrieval(table: ScoreTable) -> bool:
    """Whether the columns are retrieval rates, which need a word of explanation."""
    return any(metric.startswith(("IR@", "TR@")) for metric in table.columns)


def label(table: ScoreTable) -> str:
    """The metric that stands for a table in words."""
    return "mean hit rate, %" if retrieval(table) and table.metric == "mean" else table.metric


def _by_budget(table: ScoreTable) -> ScoreTable:
    """Rows by budget with the full data last, and the metric that stands for all first."""
    columns = dict.fromkeys([table.metric, *table.columns])
    return replace(table, columns={metric: metric for metric in columns}, rows=_sorted(table.rows))


def _sorted(rows: Sequence[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: (row.full, row.pairs)))
