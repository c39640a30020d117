"""`limbeck distill`."""

import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.commands._open import Task, report_ceiling, report_incomplete, report_skipped, report_small_classes
from limbeck.commands._options import Answer
from limbeck.commands._progress import Tick
from limbeck.errors import ConfigError
from limbeck.terminal import note

if TYPE_CHECKING:
    from limbeck.core import Problem

__all__ = ["Distill"]


@dataclass(frozen=True, kw_only=True)
class Distill(Task):
    """Distils data into a small set; the same command continues a run that was stopped.

    The recipe.yaml of a run, given as --config, makes the same set again.

    Args:
        run: the folder that keeps the log, checkpoints and, in the end, the set.
        save_every: steps between checkpoints.
    """

    resumes = "the same command continues from the last checkpoint"

    run: Path
    save_every: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.save_every < 1:
            raise ConfigError(f"--save_every takes a number of steps of at least 1, got {self.save_every}")

    def execute(self, tick: Tick) -> Answer:
        """Distils to the end."""
        from limbeck.engine import distill

        start = time.perf_counter()
        problem, method, source = self.problem(tick)
        method.check(problem)  # before the features that the next notes read are made
        _note_changes(problem, method.reads(), dict(self.fingerprints))
        report_incomplete(problem)
        if "text" in problem.modalities:
            report_ceiling(source)
        small = distill(problem, method, self.run, save_every=self.save_every)
        if getattr(method, "per_class", False) is None and "text" not in problem.modalities:
            report_small_classes(small)
        skipped = report_skipped(source, self.run)
        seconds, folder = time.perf_counter() - start, self.run / "set"
        text = f"{small.name}: {small.pairs} pairs, {small.nbytes:,} bytes, {seconds:.1f} s\n"
        text += "".join(f"{name}: {value:.3g}\n" for name, value in self._balanced().items())
        text += f"set:  {folder}\nnext: "
        judged = "" if "text" in small.modalities else " --protocol classification"
        named = shlex.quote(str(self.run))
        text += f"limbeck evaluate {named}{judged}   limbeck show {named}"
        data = {"set": str(folder), "name": small.name, "pairs": small.pairs, "bytes": small.nbytes}
        return Answer(text, {**data, "fingerprint": small.fingerprint, "seconds": seconds, "skipped": skipped})

    def _balanced(self) -> dict[str, float]:
        """The weights of terms that the method chose at its first step."""
        from limbeck.engine.log import read

        rows, _ = read(self.run / "log.jsonl")
        first = rows[0] if rows else {}
        return {name: value for name, value in first.items() if name.startswith("weight ")}


def _note_changes(problem: "Problem", reads: dict[str, str], expected: dict[str, str]) -> None:
    """Says so where the data or the weights are not those that a recipe was written for."""
    now = {"source": problem.source.fingerprint, "space": problem.space.fingerprint, **reads} if expected else {}
    for what, fingerprint in now.items():
        if expected.get(what, fingerprint) != fingerprint:
            called = {"source": "data are", "space": "encoders are"}.get(what, f"{what} are")
            note(f"the {called} not those of the recipe ({what} {fingerprint}); the set will differ")
