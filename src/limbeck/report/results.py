"""Scores as a page tells them: one table a protocol, the best of each budget, and what one sentence says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from limbeck.errors import ConfigError
from limbeck.evaluation.score import Score
from limbeck.report.words import decimals

__all__ = ["Group", "Row", "Table", "groups", "tables"]

FULL = "full"  # the method name of the rows that are the whole real data


@dataclass(frozen=True)
class Row:
    """One set under one protocol.

    Args:
        name, method: what it is and what made it.
        pairs, bytes: its budget.
        cells: metric to score.
    """

    name: str
    method: str
    pairs: int
    bytes: int
    cells: Mapping[str, Score]

    @property
    def full(self) -> bool:
        """Whether it is the whole real data."""
        return self.method == FULL

    @property
    def took_part(self) -> bool:
        """Whether the encoder that judged took part in making it."""
        return any(score.took_part for score in self.cells.values())

    @property
    def label(self) -> str:
        """The name, and a mark where the encoder that judged took part."""
        return f"{self.name} (took part)" if self.took_part else self.name

    @property
    def seconds(self) -> float:
        """What judging it took, all metrics together."""
        return float(max(score.seconds for score in self.cells.values()))


@dataclass(frozen=True)
class Table:
    """The rows that share a protocol fingerprint.

    Args:
        protocol, fingerprint: how they were judged.
        metrics: the columns; the mean first where there is one.
        rows: the small sets by budget, then the full data.
        seeds: how many values a mean is over, smallest first where they differ.
        digits: metric to digits after the point.
        encoder: the one that judged, where the scores say it.
        home: where that was another than the space's own, the fingerprint of the table of that; else empty.
    """

    protocol: str
    fingerprint: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    digits: Mapping[str, int]
    encoder: str = ""
    home: str = ""

    @property
    def primary(self) -> str:
        """The metric that one sentence or one plot is about: the first."""
        return self.metrics[0]

    @property
    def retrieval(self) -> bool:
        """Whether the columns are retrieval rates, which need a word of explanation."""
        return any(metric.startswith(("IR@", "TR@")) for metric in self.metrics)

    @property
    def label(self) -> str:
        """The primary metric in words."""
        return "mean hit rate, %" if self.retrieval and self.primary == "mean" else self.primary

    @property
    def small(self) -> tuple[Row, ...]:
        """The rows that are not the full data and were judged by the primary metric."""
        return tuple(row for row in self.rows if not row.full and self.primary in row.cells)

    @property
    def full(self) -> Row | None:
        """The full data, where it was judged by the primary metric."""
        return next((row for row in self.rows if row.full and self.primary in row.cells), None)

    @property
    def budgets(self) -> int:
        """How many numbers of pairs the small sets have."""
        return len({row.pairs for row in self.small})

    def leads(self, row: Row, metric: str) -> bool:
        """Whether `row` is the best by `metric` among two or more small sets of its number of pairs."""
        rivals = [r for r in self.rows if not (r.full or r.took_part) and r.pairs == row.pairs and metric in r.cells]
        return len(rivals) > 1 and not row.full and best(rivals, metric) is row

    def like(self, row: Row) -> Row | None:
        """The same set in this table, of a row of another."""
        return next((r for r in self.rows if (r.name, r.method, r.pairs) == (row.name, row.method, row.pairs)), None)

    def retained(self, row: Row) -> float | None:
        """The share of the full data's score that `row` keeps, mean / full mean; `None` where that says nothing."""
        if self.full is None or self.primary not in row.cells:
            return None
        score, whole = row.cells[self.primary], self.full.cells[self.primary]
        return score.mean / whole.mean if whole.higher_is_better and whole.mean > 0 else None


def best(rows: Sequence[Row], metric: str) -> Row:
    """The best of `rows` by `metric`; the first of equals."""
    return max(rows, key=lambda row: row.cells[metric].mean * (1 if row.cells[metric].higher_is_better else -1))


@dataclass(frozen=True)
class Group:
    """The tables of one protocol.

    Args:
        home: judged with the space as it is.
        unseen: judged with each other encoder in it.
    """

    home: Table
    unseen: tuple[Table, ...]

    @property
    def tables(self) -> tuple[Table, ...]:
        """All of them."""
        return (self.home, *self.unseen)


def groups(judged: Sequence[Table]) -> list[Group]:
    """The tables of each protocol together, see `Group`; one of an unseen encoder alone stands for itself."""
    there = {table.fingerprint for table in judged}
    own = [table for table in judged if table.home not in there]
    return [Group(table, tuple(t for t in judged if t.home == table.fingerprint)) for table in own]


def tables(scores: Sequence[Score]) -> list[Table]:
    """Scores grouped by protocol fingerprint, sets as rows and metrics as columns.

    Args:
        scores: what `evaluate` or `compare` returned.

    Raises:
        ConfigError: a set was judged twice by one metric under one protocol.

    Example:
        >>> common = dict(method="cf", bytes=9, protocol="p", fingerprint="f", metric="mean")
        >>> scores = [Score.of([2.0], name=f"cf-{n}", pairs=n, **common) for n in (20, 10)]
        >>> [[row.name for row in table.rows] for table in tables(scores)]
        [['cf-10', 'cf-20']]
    """
    groups: dict[str, list[Score]] = {}
    for score in scores:
        groups.setdefault(score.fingerprint, []).append(score)
    return [_table(group) for group in groups.values()]


def _table(scores: list[Score]) -> Table:
    cells: dict[tuple[str, str, int, int], dict[str, Score]] = {}
    for score in scores:
        row = cells.setdefault((score.name, score.method, score.pairs, score.bytes), {})
        if score.metric in row:
            what = f"{score.name!r} has two scores of {score.metric!r} under one protocol"
            raise ConfigError(f"{what}; give the sets different names")
        row[score.metric] = score
    rows = sorted((Row(*key, cells=row) for key, row in cells.items()), key=lambda row: (row.full, row.pairs))
    metrics = sorted(dict.fromkeys(score.metric for score in scores), key=lambda metric: metric != "mean")
    return Table(
        protocol=scores[0].protocol,
        fingerprint=scores[0].fingerprint,
        metrics=tuple(metrics),
        rows=tuple(rows),
        seeds=tuple(sorted({len(score.values) for score in scores})),
        digits={m: decimals(max(abs(s.mean) for s in scores if s.metric == m)) for m in metrics},
        encoder=scores[0].encoder,
        home=scores[0].home,
    )
