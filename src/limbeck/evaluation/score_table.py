"""`ScoreTable`: sets as rows, and metrics, students or encoders as columns; what text, Markdown, CSV, pages and plots are made of."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from limbeck.errors import ConfigError
from limbeck.evaluation.score import Score
from limbeck.terminal import columns

__all__ = ["Format", "Row", "ScoreTable", "by_metric", "by_student", "headline", "quality", "rows_of", "titles"]

Format = Literal["text", "markdown", "csv", "json"]


class Row(NamedTuple):
    """One set.

    Args:
        name, method: what it is, and what made it.
        pairs, bytes: its size.
        cells: column to score, where there is one.
        percent: column to the percent of the full data's score in that column, where there is such a number.
        best: the columns where it is the best of two or more small sets of as many pairs.
    """

    name: str
    method: str
    pairs: int
    bytes: int
    cells: Mapping[str, Score]
    percent: Mapping[str, float]
    best: frozenset[str]

    @property
    def full(self) -> bool:
        """Whether it is the whole real data."""
        return self.method == "full"

    @property
    def took_part(self) -> bool:
        """Whether an encoder that judged it took part in making it."""
        return any(score.took_part for score in self.cells.values())

    @property
    def label(self) -> str:
        """The name, and a mark where an encoder that judged it took part in making it."""
        return f"{self.name} (took part)" if self.took_part else self.name

    @property
    def seconds(self) -> float:
        """What judging it took, all metrics together."""
        return max(score.seconds for score in self.cells.values())


@dataclass(frozen=True)
class ScoreTable:
    """Scores that stand beside each other: a row a set, and a cell a column with mean and spread.

    Args:
        by: what the columns are.
        protocol: how the sets were judged, readable; what the students' protocols share where columns are students.
        metric: the one that is shown; of several the one that stands for all, see `headline`.
        columns: key of a column in `Row.cells` to its name: a metric is its own key, students and encoders have that of their fingerprint.
        rows: the sets.
        notes: what stands below the table.
        fingerprint: of the protocol; of that with the space's own encoder where columns are encoders; empty where they are students.
        encoder: the one that judged, where the scores say it and there is one.
        home: where that was another than the space's own, the fingerprint of the table of that; else empty.
    """

    by: Literal["metric", "student", "encoder"]
    protocol: str
    metric: str
    columns: Mapping[str, str]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    fingerprint: str = ""
    encoder: str = ""
    home: str = ""

    @property
    def scores(self) -> list[Score]:
        """Those of all cells."""
        return [score for row in self.rows for score in row.cells.values()]

    @property
    def seeds(self) -> tuple[int, ...]:
        """How many values a mean is over, smallest first where they differ."""
        return tuple(sorted({len(score.values) for score in self.scores}))

    @property
    def title(self) -> str:
        """How the sets were judged, in a line."""
        seeds = " to ".join(map(str, dict.fromkeys((self.seeds[0], self.seeds[-1]))))
        seeds += " seed" if self.seeds == (1,) else " seeds"
        if self.by == "encoder":
            return f"{self.protocol}: {self.metric} by encoder, and its percent of the full data there  ({seeds})"
        if self.by == "student":
            lower = "" if self.scores[0].higher_is_better else " (lower is better)"
            return f"{self.protocol}: {self.metric}{lower} by student  ({seeds})"
        judged = f", judged with {self.encoder}" if self.home else ""
        return f"{self.protocol}{judged}  (fingerprint {self.fingerprint[:12]}, {seeds})"

    def lines(self) -> list[list[str]]:
        """The head and the rows in words, as text and Markdown show them."""
        encoders, seconds = self.by == "encoder", self.by == "metric"
        head = ["set", "pairs", "bytes"]
        for i, name in enumerate(self.columns.values()):
            head += [f"{'unseen' if i else 'home'}: {name}", "of full"] if encoders else [f"{name} +- std"]
        lines = [head + ["seconds"] * seconds]
        for row in self.rows:
            line = [row.name if encoders else row.label, str(row.pairs), str(row.bytes)]
            for column in self.columns:
                score = row.cells.get(column)
                line.append("-" if score is None else f"{score.mean:.2f} +- {score.std:.2f}")
                if encoders:
                    line.append(_share(row, column))
            lines.append(line + [f"{row.seconds:.1f}"] * seconds)
        return lines

    def text(self) -> str:
        """For a terminal: `mean +- std`, in columns."""
        return "\n".join([self.title, *columns(self.lines()), *self.notes])

    def markdown(self) -> str:
        """For a README: the same words."""
        head, *body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in self.lines()]
        rule = "|---" + "|---:" * (len(self.lines()[0]) - 1) + "|"
        return "\n".join([f"**{self.title}**", "", head, rule, *body, *[f"\n{note}" for note in self.notes]])

    def render(self, format: Format) -> str:
        """As Markdown where that is asked for, else as text."""
        return self.markdown() if format == "markdown" else self.text()

    @property
    def small(self) -> tuple[Row, ...]:
        """The rows that are not the full data and were judged by `metric`; of a table whose columns are metrics."""
        return tuple(row for row in self.rows if not row.full and self.metric in row.cells)

    @property
    def full(self) -> Row | None:
        """The full data, where they were judged by `metric`; of a table whose columns are metrics."""
        return next((row for row in self.rows if row.full and self.metric in row.cells), None)

    @property
    def budgets(self) -> int:
        """How many numbers of pairs the small sets have."""
        return len({row.pairs for row in self.small})


def by_metric(scores: Sequence[Score]) -> list[ScoreTable]:
    """A table for each protocol fingerprint, with metrics as columns.

    Args:
        scores: what `evaluate` or `compare` returned.

    Raises:
        ConfigError: one set scored twice by one metric under one fingerprint.

    Example:
        >>> common = dict(bytes=9, protocol="p", fingerprint="f", metric="mean")
        >>> means = {("cf", 9): 30.0, ("random", 9): 12.0, ("full", 99): 40.0}
        >>> (table,) = by_metric([Score.of([mean], name=n, method=n, pairs=p, **common) for (n, p), mean in means.items()])
        >>> [(row.name, row.cells["mean"].mean, row.percent["mean"], "mean" in row.best) for row in table.rows]
        [('cf', 30.0, 75.0, True), ('random', 12.0, 30.0, False), ('full', 40.0, 100.0, False)]
    """
    tables = []
    for fingerprint in dict.fromkeys(s.fingerprint for s in scores):
        group = [s for s in scores if s.fingerprint == fingerprint]
        columns, rows, judge = {s.metric: s.metric for s in group}, rows_of(group, "metric"), group[0]
        about = (fingerprint, judge.encoder, judge.home)
        tables.append(ScoreTable("metric", judge.protocol, headline(group), columns, rows, _notes(group), *about))
    return tables


def by_student(scores: Sequence[Score]) -> list[ScoreTable]:
    """A table for each metric, with protocols as columns, named by what differs; only of the metric `"mean"` where there is one.

    Columns have fingerprints of their own: they say how far a set serves other students, not which column is better judged.

    Args:
        scores: what `compare` returned. Those of unseen encoders are left out, see `limbeck.evaluation.encoders.by_encoder`.

    Raises:
        ConfigError: one set scored twice by one metric under one fingerprint.

    Example:
        >>> what = dict(name="a", method="cf", pairs=9, bytes=800, metric="accuracy")
        >>> scores = [Score.of([v, v + 2], protocol=f"p, {n} student", fingerprint=n, **what) for v, n in ((20, "x"), (30, "y"))]
        >>> print(by_student(scores)[0].text())
        p: accuracy by student  (2 seeds)
        set  pairs  bytes    x +- std      y +- std
        a        9    800  21.00 +- 1.41  31.00 +- 1.41
    """
    scores = [s for s in scores if not s.home]
    shared, names = titles(scores)
    metrics = list(dict.fromkeys(s.metric for s in scores))
    tables = []
    for metric in ["mean"] if "mean" in metrics else metrics:
        here = sorted((s for s in scores if s.metric == metric), key=lambda s: list(names).index(s.fingerprint))
        notes = _notes(here) if metric in ("mean", metrics[-1]) else ()  # once, below the last
        tables.append(ScoreTable("student", shared, metric, names, rows_of(here, "fingerprint"), notes))
    return tables


def rows_of(scores: Sequence[Score], column: Literal["metric", "fingerprint"]) -> tuple[Row, ...]:
    """Sets as rows, in the order in which they first appear.

    Args:
        scores: one a set and column.
        column: the field of a score that says in which column it stands.

    Raises:
        ConfigError: two scores of one set in one column.
    """
    sets: dict[tuple[str, str, int, int], dict[str, Score]] = {}
    full: dict[str, Score] = {}  # of each column
    rivals: dict[tuple[str, int], list[Score]] = {}  # the small sets of each column and number of pairs
    for score in scores:
        key = getattr(score, column)
        cells = sets.setdefault((score.name, score.method, score.pairs, score.bytes), {})
        if key in cells:
            raise ConfigError(
                f"{score.name!r} has two scores of {score.metric!r} under one protocol; give the sets different names"
            )
        cells[key] = score
        if score.method == "full":
            full.setdefault(key, score)
        elif not score.took_part:
            rivals.setdefault((key, score.pairs), []).append(score)
    whole = {key: score.mean for key, score in full.items() if score.higher_is_better and score.mean > 0}
    best = {max(group, key=quality) for group in rivals.values() if len(group) > 1}
    rows = []
    for size, cells in sets.items():
        percent = {key: 100 * score.mean / whole[key] for key, score in cells.items() if key in whole}
        rows.append(Row(*size, cells, percent, frozenset(key for key, score in cells.items() if score in best)))
    return tuple(rows)


def titles(scores: Sequence[Score]) -> tuple[str, dict[str, str]]:
    """What all titles of protocols share, and fingerprint to what is its own; the fingerprint itself where nothing is.

    A title is `classification, convnet student, ...`: its parts are compared, and the word student is left out of names.
    """
    parts = {s.fingerprint: s.protocol.split(", ") for s in scores}
    first = next(iter(parts.values()), [])
    shared = [part for part in first if all(part in other for other in parts.values())]
    names = {
        key: ", ".join(part.removesuffix(" student") for part in title if part not in shared)
        for key, title in parts.items()
    }
    counts = Counter(names.values())
    unique = {key: name if name and counts[name] == 1 else f"{name} {key[:6]}".strip() for key, name in names.items()}
    return ", ".join(shared), unique


def headline(scores: Sequence[Score]) -> str:
    """The metric that stands for all of them: the mean where there is one, else the first; empty without scores."""
    metrics = [s.metric for s in scores]
    return "mean" if "mean" in metrics else next(iter(metrics), "")


def quality(score: Score) -> float:
    """A number that is larger for the better of two scores."""
    return score.mean if score.higher_is_better else -score.mean


def _share(row: Row, column: str) -> str:
    """The percent of the full data's score in words."""
    if column in row.cells and row.cells[column].judged == "took part":
        return "(took part)"
    return f"{row.percent[column]:.0f} %" if column in row.percent else "-"


def _notes(scores: Sequence[Score]) -> tuple[str, ...]:
    """Which sets have the student trained with a loss or a similarity of their own."""
    names: dict[str, dict[str, None]] = {}
    for score in scores:
        if score.training:
            names.setdefault(score.training, {})[score.name] = None
    return tuple(f"{', '.join(sets)}: student trained with {training}" for training, sets in names.items())
