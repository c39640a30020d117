"""`Comparison`: the result of `compare`, its tables, and the files that it is kept in."""

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from limbeck.core import DistilledSet
from limbeck.errors import StorageError
from limbeck.evaluation.contrast import Contrast, contrasts
from limbeck.evaluation.encoders import encoder_table
from limbeck.evaluation.plot import score_vs_bytes
from limbeck.evaluation.score import Score, read_scores, write_scores
from limbeck.evaluation.table import Format, across, table, titles
from limbeck.runtime.files import write_text

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

        With unseen encoders the table of `encoder_table` leads; with several students that of `across`, where sets are rows and students
        columns. In markdown the long table of each student and encoder follows.
        """
        if format in ("csv", "json"):
            return table(self.scores, format)
        home = [s for s in self.scores if not s.home]
        names = titles(home)[1]
        leading = [encoder_table(self.scores, format), across(home, format) if len(names) > 1 else ""]
        parts = [part for part in leading if part]
        if parts and format == "text":
            return "\n\n".join([*parts, *self._contrasts("", None)])
        for key in dict.fromkeys(s.fingerprint for s in self.scores):
            parts.append(table([s for s in self.scores if s.fingerprint == key], format))
            parts += self._contrasts("- " if format == "markdown" else "", key)
        return "\n\n".join(parts)

    def _contrasts(self, mark: str, key: str | None) -> list[str]:
        """The lines of `paired` in one piece, under the table of a fingerprint; those of all, each with what judged, for `None`."""
        home = titles([s for s in self.scores if not s.home])[1]
        names = home if len(home) > 1 else dict.fromkeys(home, "")
        judged = {s.fingerprint: ", ".join(x for x in (names[s.home], s.encoder) if x) for s in self.scores if s.home}
        before = {k: f"{name}: " if key is None and name else "" for k, name in {**names, **judged}.items()}
        lines = [f"{mark}{before[c.fingerprint]}{c}" for c in self.paired() if key in (None, c.fingerprint)]
        return ["\n".join(lines)] if lines else []

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
