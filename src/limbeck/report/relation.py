"""A learned similarity as a person reads it: its range, a map of what it says beyond the pairs, its strongest ties."""

from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.core.distilled import DistilledSet
from limbeck.objectives.similarity import centred, partners, summary
from limbeck.report import figures
from limbeck.report.gallery import Picture, thumbnail

__all__ = ["Relation", "Tie", "relation"]

TIES = 12  # the strongest that are listed
NOTHING = 1e-6  # below it a similarity says nothing beyond its diagonal, rows and columns


@dataclass(frozen=True)
class Tie:
    """An image and the text of another sample that the similarity ties together.

    Args:
        image, text: the keys of both samples.
        picture: the image.
        caption: of the text.
        own: the caption of the image's own text.
        value: how much more similar they are than their row and column are in general.
    """

    image: str
    text: str
    picture: Picture | None
    caption: str
    own: str
    value: float


@dataclass(frozen=True)
class Relation:
    """The similarity S of a set.

    Args:
        low, high, mean: over all entries of S.
        diagonal: the mean over its diagonal, where images meet their own texts.
        plot: the map of S without the means of its rows and columns, as SVG; empty where nothing is left.
        limit: the value at both ends of the map's colours.
        ties: the strongest pairs off the diagonal, best first.
    """

    low: float
    high: float
    mean: float
    diagonal: float
    plot: str
    limit: float
    ties: Sequence[Tie]


def relation(small: DistilledSet, name: str) -> Relation | None:
    """The similarity that the set learned; `None` where it has none.

    Args:
        small: the set.
        name: of the figure.
    """
    if small.relation is None:
        return None
    similarity = small.relation.float()
    rest = centred(similarity)
    limit = float(rest.abs().quantile(0.995)) if rest.numel() < 2**24 else float(rest.abs().max())
    said = summary(similarity)
    low, high, mean, diagonal = said["min"], said["max"], said["mean"], said["diagonal"]
    if limit < NOTHING:
        return Relation(low, high, mean, diagonal, "", 0.0, [])
    found = [tie for tie in partners(similarity, TIES) if tie[2] > 0]
    ties = [
        Tie(small.keys[i], small.keys[j], thumbnail(small, i), _caption(small, j), _caption(small, i), value)
        for i, j, value in found
    ]
    return Relation(low, high, mean, diagonal, figures.heatmap(rest, limit, name), limit, ties)


def _caption(small: DistilledSet, i: int) -> str:
    return small.captions[i][0] if small.captions[i] else small.keys[i]
