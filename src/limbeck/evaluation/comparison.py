"""`Comparison`: the result of `compare`, its tables, and the files that it is kept in."""

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from limbeck.core import DistilledSet
from limbeck.data.files import write_text
from limbeck.errors import StorageError
from limbeck.evaluation.contrast import Contrast, contrasts
from limbeck.evaluation.plot import score_vs_bytes
from limbeck.evaluation.score import Score, read_scores, write_scores
from limbeck.evaluation.table import Format, across, table, titles

__all__ = ["Comparison", "refuse_foreign", "write_comparison"]

WRITTEN = ("scores.json", "table.md", "table.csv", "score_vs_bytes.svg", "score_vs_bytes.png")


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Args:
        scores: one a row and metric.
        sets: (row name, pairs) to its distilled sets, one a seed.
        folder: holds `table.md`, `table.csv`, `scores.json`, `score_vs_bytes.svg` and `.png`; the runs are in `runs/`.
        runs: (row name, pairs) to the folders of its runs, one a seed.
        one_shot: the names of the rows whose method takes no steps.
        as_large: (row that learned, its pairs) to (row of real samples with as many bytes in files, their number).
    """

    scores: list[Score]
    sets: dict[tuple[str, int], list[DistilledSet]]
    folder: Path
    runs: dict[tuple[str, int], list[Path]]
    one_shot: tuple[str, ...]
    as_large: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)

    def paired(self, confidence: float = 0.95) -> list[Contrast]:
        """Each method that learns against the best one-shot method with as many pairs, and as many bytes, see `contrasts`."""
        return contrasts(self.scores, self.one_shot, confidence, self.as_large)

    def table(self, format: Format = "text") -> str:
        """The scores as `limbeck.evaluation.table` writes them; in text and markdown with `paired` below each table.

        With several students the sets are rows and the students columns (`across`); in markdown the table of each student follows.
        """
        if format in ("csv", "json"):
            return table(self.scores, format)
        found, mark = self.paired(), "- " if format == "markdown" else ""
        names, parts = titles(self.scores)[1], []
        if len(names) > 1:
            parts.append(across(self.scores, format))
            if format == "text":
                lines = [f"{name}: {c}" for key, name in names.items() for c in found if c.fingerprint == key]
                return "\n\n".join([*parts, *(["\n".join(lines)] if lines else [])])
        for fingerprint in names:
            parts.append(table([s for s in self.scores if s.fingerprint == fingerprint], format))
            if lines := [f"{mark}{contrast}" for contrast in found if contrast.fingerprint == fingerprint]:
                parts.append("\n".join(lines))
        return "\n\n".join(parts)

    def __str__(self) -> str:
        return self.table()


def refuse_foreign(folder: Path) -> None:
    """Refuses to overwrite a table or a plot, unless the scores beside it say that it is one of ours."""
    there = [name for name in WRITTEN if os.path.lexists(folder / name)]
    ours = False
    with suppress(StorageError):
        ours = bool(there and read_scores(folder / WRITTEN[0]))
    if there and not ours:
        raise StorageError(
            f"{folder} holds {there[0]}, which is of no comparison; choose another folder, or move the file away"
        )


def write_comparison(found: Comparison) -> None:
    """Writes the scores, the tables and the plots of a comparison into its folder; each appears whole.

    Raises:
        StorageError: a file of that name is there that no comparison wrote, or the folder cannot be written.
    """
    folder, scores = found.folder, found.scores
    refuse_foreign(folder)
    write_scores(folder / WRITTEN[0], scores)  # first: it says whose the others are
    write_text(folder / WRITTEN[1], found.table("markdown") + "\n")
    write_text(folder / WRITTEN[2], found.table("csv"))
    for name in WRITTEN[3:]:
        score_vs_bytes(scores, folder / name)
