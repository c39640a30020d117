"""`page`: one self-contained HTML file: what the sets are, how good, how they came to be, and what they look like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from limbeck import __version__
from limbeck.core.card import coverage
from limbeck.core.distilled import DistilledSet
from limbeck.data.source import Source
from limbeck.errors import ConfigError, StorageError
from limbeck.evaluation.score import Score
from limbeck.evaluation.score_table import Row, ScoreTable
from limbeck.report import figures, formatting
from limbeck.report.gallery import Card, cards, contact_sheet
from limbeck.report.relation import Relation, relation
from limbeck.report.results import Group, best, digits, groups, label, retrieval
from limbeck.runtime.files import write_text

__all__ = ["page"]

AS_LARGE = 1.02  # times the bytes of another row that still count as as many


@dataclass(frozen=True)
class Panel:
    """One set as the page shows it: its tab, its cards, its learned similarity and its facts."""

    tab: str
    small: DistilledSet
    cards: Sequence[Card]
    relation: Relation | None

    @property
    def parts(self) -> list[tuple[str, int, float]]:
        """Name, bytes and share in percent of each part, largest first; what belongs together is one part."""
        sizes: dict[str, int] = {}
        for name, nbytes in self.small.sizes.items():
            part = name.partition(".")[0]
            sizes[part] = sizes.get(part, 0) + nbytes
        total = max(self.small.nbytes, 1)
        return [(name, n, 100 * n / total) for name, n in sorted(sizes.items(), key=lambda part: -part[1])]

    @property
    def masks(self) -> str:
        """How much of the images counts as object; empty without masks."""
        return coverage(self.small)

    @property
    def outlined(self) -> bool:
        """Whether an edge of a mask is drawn in a card."""
        return any(card.outline for card in self.cards)

    @property
    def encoders(self) -> list[tuple[str, str, str]]:
        """Modality, name and licence of each encoder."""
        space, licences = self.small.recipe.space, self.small.encoder_licences
        return [
            (m, space.get(m, {}).get("name", m), licences.get(m, "unknown")) for m in dict.fromkeys([*space, *licences])
        ]


def page(
    path: str | Path,
    *,
    sets: Sequence[DistilledSet] = (),
    scores: Sequence[Score] = (),
    history: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    source: Source | None = None,
    title: str | None = None,
    max_pairs: int = 60,
) -> Path:
    """Writes one HTML file that needs nothing else: no network, no script, no other file.

    It answers in this order: what is this, how good is it, how did it come to be, what is inside. What is not given is
    left out. The share kept is the set's mean score divided by that of the full data, on the protocol's first metric.

    Args:
        path: the file to write; its folder is made.
        sets: the sets to show, each in a tab.
        scores: what `evaluate` or `compare` returned; rows of method `"full"` are the full data.
        history: name of a run to the rows of its log, each with `"step"` and numbers.
        source: the real training data, for the images where samples started and what was skipped.
        title: the heading above the first sentence; by default the name of the data.
        max_pairs: the most samples shown of a set.

    Returns:
        The path of the file.

    Raises:
        ConfigError: nothing to show, or `max_pairs` below one.
        StorageError: `path` is a folder, or cannot be written.

    Example:
        >>> import tempfile, torch
        >>> from limbeck.data import Modality
        >>> images, modalities = torch.zeros(2, 3, 8, 8), {"image": Modality("image", (3, 8, 8))}
        >>> small = DistilledSet("toy", modalities, {"image": images}, captions=[(), ()], origins=["a", "b"])
        >>> page(Path(tempfile.mkdtemp()) / "report.html", sets=[small]).name
        'report.html'
    """
    path, history = Path(path), {name: rows for name, rows in (history or {}).items() if rows}
    if not sets and not scores and not history:
        raise ConfigError("a page needs something to show: give sets, scores or history")
    if max_pairs < 1:
        raise ConfigError(f"max_pairs must be at least 1, got {max_pairs}")
    if path.is_dir():
        raise StorageError(f"{path} is a folder; give the name of a file in it, such as {path / 'report.html'}")
    html = _render(sets, groups(scores), history, source, title, max_pairs)
    write_text(path, html)
    return path


def _render(
    sets: Sequence[DistilledSet],
    judged: Sequence[Group],
    history: Mapping[str, Sequence[Mapping[str, Any]]],
    source: Source | None,
    title: str | None,
    max_pairs: int,
) -> str:
    first = judged[0].home if judged else None
    subject, row = _subject(sets, first)
    panels = [
        Panel(tab, small, cards(small, source, max_pairs=max_pairs, sets=len(sets)), relation(small, f"relation{i}"))
        for i, (tab, small) in enumerate(_tabs(sets))
    ]
    template = _environment().get_template("page.html")
    html: str = template.render(
        title=title or _data_name(sets, source),
        headline=_headline(subject, row, first),
        lede=_lede(subject, row, first) + (_elsewhere(row, judged[0]) if row else ""),
        sheet=None if subject is None else contact_sheet(subject),
        subject=subject,
        groups=_plotted(judged),
        curves=[(key, figures.curves(history, key, f"curve{i}")) for i, key in enumerate(figures.scalars(history))],
        runs=list(history),
        panels=panels,
        skipped=[] if source is None else list(source.skipped),
        has_source=source is not None,
        version=__version__,
    )
    return html


def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = PackageLoader("limbeck.report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": formatting.count,
        "size": formatting.size,
        "duration": formatting.duration,
        "number": formatting.number,
    }
    environment.filters["own"] = Markup  # only for figures, which escape their own text
    environment.globals |= {
        "shapes": "\u25cf\u25a0\u25b2\u25c6\u25bc\u271a",
        "series": figures.SERIES,
        "shape": figures.shape,
        "digits": digits,
        "label": label,
        "retrieval": retrieval,
    }
    return environment


def _data_name(sets: Sequence[DistilledSet], source: Source | None) -> str:
    names = [source.name] if source else [str(s.recipe.source["name"]) for s in sets if "name" in s.recipe.source]
    return names[0] if names else "Limbeck"


def _method(small: DistilledSet) -> str:
    return str(small.recipe.method.get("name", small.name))


def _tabs(sets: Sequence[DistilledSet]) -> list[tuple[str, DistilledSet]]:
    """A short name for each set: its method, and what tells it from the others of that method."""
    methods, pairs = [_method(s) for s in sets], [f"{_method(s)}, {len(s)} pairs" for s in sets]
    result = []
    for small, method, longer in zip(sets, methods, pairs, strict=True):
        tab = method if methods.count(method) == 1 else longer
        result.append((tab if pairs.count(longer) == 1 else f"{longer}, seed {small.recipe.seed}", small))
    return result


def _subject(sets: Sequence[DistilledSet], table: ScoreTable | None) -> tuple[DistilledSet | None, Row | None]:
    """The set and the row of the table that the first sentence is about: the best of what is both shown and judged."""
    first = sets[0] if sets else None
    if table is None or not table.small:
        return first, None
    shown = {(_method(small), small.pairs): small for small in reversed(sets)}
    rows = [row for row in table.small if (row.method, row.pairs) in shown]
    row = best(rows or table.small, table.metric)
    return shown.get((row.method, row.pairs), first if not rows else None), row


def _headline(small: DistilledSet | None, row: Row | None, table: ScoreTable | None) -> tuple[str, str, str]:
    """The first sentence in three pieces, the middle one to be stressed."""
    if row is None or table is None:
        if small is None:
            return "What the run logged", "", ""
        return f"{formatting.count(small.pairs)} pairs, ", formatting.size(small.nbytes), ""
    budget, share = (
        f"{formatting.count(row.pairs)} pairs, {formatting.size(row.bytes)}, ",
        row.percent.get(table.metric),
    )
    if share is None or table.full is None:
        return budget, formatting.number(row.cells[table.metric].mean, digits(table, table.metric)), f" {label(table)}"
    return f"{budget}keep ", f"{share:.0f}\u00a0%", f" of what {formatting.count(table.full.pairs)} pairs teach"


def _lede(small: DistilledSet | None, row: Row | None, table: ScoreTable | None) -> str:
    """The second sentence: by what method, and the numbers behind the first."""
    if row is None or table is None:
        measure = "How good it is has not been measured yet; limbeck evaluate does that."
        return "" if small is None else f"Made by {_method(small)}. {measure}"
    places = digits(table, table.metric)

    def reach(other: Row) -> str:
        score = other.cells[table.metric]
        spread = f"\u00a0\u00b1\u00a0{formatting.number(score.std, places)}" if len(score.values) > 1 else ""
        return formatting.number(score.mean, places) + spread

    text = f"Made by {row.method}. A model that learns from them alone reaches {reach(row)} ({label(table)})"
    same = [r for r in table.small if r.method == "random" and r.pairs == row.pairs and r is not row]
    text += f", from as many random pairs {reach(same[0])}" if same else ""
    others = [r for r in table.small if r.pairs > row.pairs and r.method != row.method]
    if as_large := [r for r in others if r.bytes <= AS_LARGE * row.bytes]:
        rival = best(as_large, table.metric)
        text += f", from {formatting.count(rival.pairs)} pairs of {rival.method} in as many bytes {reach(rival)}"
    return text + (f", from all the real ones {reach(table.full)}." if table.full else ".")


def _elsewhere(row: Row, group: Group) -> str:
    """What a network that took no part in making the set learns from it, beside what it learns from all the real data."""
    text, table = "", group.encoders
    if table is None or (same := next((other for other in table.rows if other[:4] == row[:4]), None)) is None:
        return ""
    for column, encoder in list(table.columns.items())[1:]:
        score, share = same.cells.get(column), same.percent.get(column)
        if score is None or score.took_part:
            continue
        reached = formatting.number(score.mean, digits(table, column))
        text += f" With {encoder}, which took no part in making them, it reaches {reached}"
        text += "." if share is None else f", {share:.0f}\u00a0% of what the real ones teach there."
    return text


def _plotted(judged: Sequence[Group]) -> list[tuple[Group, list[tuple[str, str, list[str]]]]]:
    """The tables of each protocol, with a plot of each table."""
    numbers = count()
    return [(group, [_plot(table, next(numbers)) for table in group.tables]) for group in judged]


def _plot(table: ScoreTable, position: int) -> tuple[str, str, list[str]]:
    """The score against the budget, or by set where there is one budget; its caption, and the names of its colours."""
    methods = list(dict.fromkeys(row.method for row in table.small))
    colours = {method: i for i, method in enumerate(methods)}
    if not methods:
        return "", "", []
    judged = f"{'unseen' if table.home else 'home'} encoder {table.encoder}, " if table.encoder else ""
    if table.budgets == 1:
        return figures.dots(table, colours, f"dots{position}"), f"Score of each set: {judged}{label(table)}", []
    return figures.budget(table, colours, f"budget{position}"), f"Score against size: {judged}{label(table)}", methods
