"""`Comparison`: the result of `compare`, its tables, and the files that it is kept in."""

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from limbeck.core import DistilledSet
from limbeck.errors import StorageError
from limbeck.evaluation.encoders import by_encoder
from limbeck.evaluation.gain import PairedGain, paired_gains
from limbeck.evaluation.plot import score_vs_bytes
from limbeck.evaluation.score import Score, read_scores, write_scores
from limbeck.evaluation.score_table import Format, by_metric, by_student, titles
from limbeck.evaluation.table import table
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

    def paired(self, confidence: float = 0.95) -> list[PairedGain]:
        """Each method that learns against the best coreset with as many pairs, and as many bytes, see `paired_gains`."""
        return paired_gains(self.scores, self.one_shot, confidence, self.as_large)

    def table(self, format: Format = "text") -> str:
        """The scores as `limbeck.evaluation.table` writes them; in text and markdown with `paired` below each table.

        With unseen encoders the table of `by_encoder` leads; with several students that of `by_student`, where sets are rows and students
        columns. In markdown the long table of each student and encoder follows.
        """
        if format in ("csv", "json"):
            return table(self.scores, format)
        students = by_student(self.scores)
        leading = [*by_encoder(self.scores), *(t for t in students if len(t.columns) > 1)]
        parts = [t.render(format) for t in leading]
        if leading and format == "text":
            return "\n\n".join([*parts, *self._gains()])
        for judged in by_metric(self.scores):
            parts += [judged.render(format), *self._gains(judged.fingerprint, "- " if format == "markdown" else "")]
        return "\n\n".join(parts)

    def _gains(self, fingerprint: str | None = None, mark: str = "") -> list[str]:
        """The lines of `paired` in one piece: those under one fingerprint; or of all, each with the student and the encoder that judged."""
        students = titles([s for s in self.scores if not s.home])[1]
        judges = {s.fingerprint: [s.encoder] if s.home else [] for s in self.scores}
        if len(students) > 1:
            judges = {s.fingerprint: [students[s.home or s.fingerprint], *judges[s.fingerprint]] for s in self.scores}
        gains = [gain for gain in self.paired() if fingerprint in (None, gain.fingerprint)]
        named = [("" if fingerprint else ", ".join(judges[gain.fingerprint]), gain) for gain in gains]
        lines = [f"{mark}{judge}: {gain}" if judge else f"{mark}{gain}" for judge, gain in named]
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


def write_comparison(comparison: Comparison) -> None:
    """Writes the scores, the tables and the plots of a comparison into its folder; each appears whole.

    Raises:
        StorageError: a file of that name is there that no comparison wrote, or the folder cannot be written.
    """
    folder, scores = comparison.folder, comparison.scores
    refuse_foreign(folder)
    write_scores(folder / WRITTEN[0], scores)  # first: it says whose the others are
    write_text(folder / WRITTEN[1], comparison.table("markdown") + "\n")
    write_text(folder / WRITTEN[2], comparison.table("csv"))
    for name in WRITTEN[3:]:
        score_vs_bytes(scores, folder / name)
