"""`limbeck distill`."""

import math
import shlex
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from limbeck.commands._open import report_ceiling, report_incomplete, report_skipped, report_small_classes
from limbeck.commands._options import AUTO, Answer, Part, part
from limbeck.commands._task import Task
from limbeck.constraints import Count, Interval
from limbeck.errors import ConfigError
from limbeck.runtime.progress import ProgressCallback
from limbeck.terminal import note

if TYPE_CHECKING:
    from limbeck.core import Method, Problem
    from limbeck.data import Source
    from limbeck.search import SearchResult

__all__ = ["Distill"]


@dataclass(frozen=True, kw_only=True)
class Distill(Task):
    """Distils data into a small set; the same command continues a run that was stopped.

    Where no method is named, one is searched for: on the validation split, with students on the encoders of the set and on one that
    takes no part. The table of what was tried is kept beside the run.

    The recipe.yaml of a run, given as --config, makes the same set again.

    Args:
        method: how to distil; limbeck list methods names them. auto searches for a method and, where --bytes says how large the set
            may be, for a storage; a --storage option that is given is kept.
        minutes: that auto may search.
        judge: the encoder that judges what auto tries, beside those of the set, and takes no part in making it; none for no other. By
            default efficientnet_lite2, mobilenet_v2 or efficientnet_lite0, the first that is installed and takes none.
        run: the folder that keeps the log, checkpoints and, in the end, the set.
        save_every: steps between checkpoints.
    """

    resumes = "the same command continues from the last checkpoint"

    method: Part = part("method", AUTO)
    minutes: Annotated[float, Interval(gt=0, lt=math.inf)] = 10.0
    judge: Part | None = part("encoder", name="judge")
    run: Path
    save_every: Count = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("minutes", "judge"):
            if name in self.named and not self.method.is_search:
                raise ConfigError(
                    f"--{name} is an option of --method auto, and this is {self.method.spec}; leave it out"
                )

    def execute(self, tick: ProgressCallback) -> Answer:
        """Distils to the end."""
        from limbeck.engine import distill

        start = time.perf_counter()
        problem, method, source, found = self._chosen(tick)
        method.check(problem)  # before the features that the next notes read are made
        _note_changes(problem, method.extra_fingerprints(), dict(self.fingerprints))
        report_incomplete(problem)
        if "text" in problem.modalities:
            report_ceiling(source)
        small = distill(problem, method, self.run, save_every=self.save_every)
        if method.describe().get("per_class", False) is None and "text" not in problem.modalities:
            report_small_classes(small)
        skipped = report_skipped(source, self.run)
        seconds, folder = time.perf_counter() - start, self.run / "set"
        text = f"{found}\n\n" if found else ""
        text += f"{small.name}: {small.pairs} pairs, {small.nbytes:,} bytes, {seconds:.1f} s\n"
        text += "".join(f"{name}: {value:.3g}\n" for name, value in self._balanced().items())
        text += f"set:  {folder}\nnext: "
        judged = "" if "text" in small.modalities else " --protocol classification"
        named = shlex.quote(str(self.run))
        text += f"limbeck evaluate {named}{judged}   limbeck show {named}"
        data = {"set": str(folder), "name": small.name, "pairs": small.pairs, "bytes": small.nbytes}
        if found:
            data |= {"method": method.describe(), "trials": [asdict(trial) for trial in found.trials]}
        return Answer(text, {**data, "fingerprint": small.fingerprint, "seconds": seconds, "skipped": skipped})

    def _chosen(self, tick: ProgressCallback) -> "tuple[Problem, Method, Source, SearchResult | None]":
        """The task with its method, as it was named or is found by a search."""
        if not self.method.is_search:
            return *self.problem(tick), None
        from limbeck.search import FREE, auto

        problem, source = self.opened(tick)
        given = {name.partition(".")[2] for name in self.named if name.startswith("storage.")}
        judge = {"name": self.judge.spec, **self.judge.options} if self.judge else None
        found = auto(
            problem,
            source,
            self.run,
            minutes=self.minutes,
            judge="none" if "judge" in self.named and judge is None else judge,
            free=[name for name in FREE if name not in given],
        )
        note(f"judged by {' and '.join(found.judges)}")
        if len(found.judges) == 1:
            note("no other encoder judged, so what was chosen may serve these encoders alone; name one with --judge")
        if found.trials and found.trials[-1].stage != "final":
            tried = f"{len(found.trials)} trial{'s' if len(found.trials) > 1 else ''}"
            note(f"the minutes ended the search after {tried}; --minutes, in another run, tries more")
        return found.problem, found.method, source, found

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
