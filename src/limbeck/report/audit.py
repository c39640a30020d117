"""The page of an audit: every synthetic sample beside the real one nearest to it and the one it started from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from limbeck import __version__
from limbeck.core.distilled import DistilledSet
from limbeck.data.source import Source
from limbeck.errors import StorageError
from limbeck.evaluation.audit import Audit, NearestNeighbours
from limbeck.evaluation.audit.result import MEASURES, RULE
from limbeck.report import formatting
from limbeck.report.gallery import Card, cards
from limbeck.runtime.files import write_text

__all__ = ["audit_page"]

LEAKS = (
    "AUC is the chance that a sample which the set started from scores above a held-out one: 0.50 is guessing. The last column is "
    "the share of them that is found while at most 1 % of the others is taken for one: 1 % is guessing. A student of other samples has seen "
    "neither: what is found there is how the set's samples were chosen, not what they gave away."
)
DIVERSITY = (
    "Vendi: effective number of different samples. Density: 1 where they lie as deep in the real data as real ones. Coverage: the "
    "share of as many real samples that has one near. Beside each the same of as many real samples."
)
FIRST = ("rmse", "features")  # the measure whose nearest sample is shown, where the first modality has it


@dataclass(frozen=True)
class _Beside:
    """One synthetic sample and what it is compared with.

    Args:
        card: pictures and captions, with the nearest training sample as its neighbour.
        why: the measures by which it is memorised.
        distance, origin: to the nearest training sample, and to its origin where that is known.
        caption: of the nearest one, where it has one.
    """

    card: Card
    why: Sequence[str]
    distance: float
    origin: float | None
    caption: str


def audit_page(path: str | Path, found: Audit, small: DistilledSet, source: Source, *, max_pairs: int = 60) -> Path:
    """Writes one HTML file that needs nothing else: the verdict, the tables, and the pairs, memorised ones first.

    Args:
        path: the file to write; its folder is made.
        found: what `limbeck.evaluation.audit.audit` found.
        small, source: the set and the training data, for the pictures.
        max_pairs: the most samples shown.

    Returns:
        The path of the file.

    Raises:
        StorageError: `path` is a folder, or cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    path = Path(path)
    if path.is_dir():
        raise StorageError(f"{path} is a folder; give the name of a file in it, such as {path / 'audit.html'}")
    environment = Environment(
        loader=PackageLoader("limbeck.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": formatting.count, "number": formatting.number}
    shown = _beside(found, small, source)
    tables = [("The nearest real samples", found.near_rows(), [*found.verdict(), RULE])]
    if found.leaks:
        tables.append(("Who was among the origins?", found.leak_rows(), [found.students, LEAKS]))
    if found.diversity:
        tables.append(("How varied it is", found.diversity_rows(), [*found.gaps(), DIVERSITY]))
    html: str = environment.get_template("audit.html").render(
        found=found,
        headline=_headline(found),
        tables=tables,
        measure=_shown_measure(found),
        measures=MEASURES,
        shown=shown[:max_pairs],
        notes=found.notes,
        version=__version__,
    )
    write_text(path, html)
    return path


def _headline(found: Audit) -> tuple[str, str, str]:
    """The first sentence in three pieces, the middle one to be stressed."""
    modality = found.modalities[0] if found.modalities else ""
    count = sum(found.memorised(modality)) if modality else 0
    what = {"image": "show", "audio": "sound like"}.get(modality, "repeat")
    ends = "a real training sample" if found.samples == 1 else "real training samples"
    return f"{formatting.count(count)} of {formatting.count(found.samples)} samples ", what, f" {ends}"


def _shown_measure(found: Audit) -> NearestNeighbours | None:
    """The measure that chooses the real sample shown beside each: the first modality's RMSE, else its features."""
    measures = {n.measure: n for n in (found.of(found.modalities[0]) if found.modalities else ())}
    return next((measures[name] for name in FIRST if name in measures), None)


def _beside(found: Audit, small: DistilledSet, source: Source) -> list[_Beside]:
    """Every sample, memorised ones first, then by distance."""
    measure = _shown_measure(found)
    if measure is None:
        return []
    nearest = [(key, distance) for key, distance in zip(measure.nearest, measure.distance, strict=True)]
    made = cards(replace(small, nearest=nearest), source, max_pairs=len(small), sets=1)
    captions = dict(zip(source.keys, source.captions, strict=True))
    result = []
    for i, card in enumerate(made):
        why = [f"{n.modality}, {MEASURES[n.measure]}" for n in found.nearness if n.memorised[i]]
        caption = next(iter(captions.get(measure.nearest[i], ())), "")
        result.append(_Beside(card, why, measure.distance[i], measure.origin[i], caption))
    return sorted(result, key=lambda one: (-len(one.why), one.distance))
