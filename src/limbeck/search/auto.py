"""`auto()`: which method, stored how, makes the best set of a size, found on the validation split in a few minutes."""

import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, isfinite
from pathlib import Path
from typing import Any

from limbeck import registry
from limbeck.core import Budget, Method, Problem, Recipe, Storage
from limbeck.data.source import Source
from limbeck.engine import distill
from limbeck.errors import ConfigError, DataError, Diverged
from limbeck.evaluation.protocol import Protocol
from limbeck.runtime import processes
from limbeck.runtime.locks import owned
from limbeck.search.candidates import (
    FREE,
    Candidate,
    all_data,
    count_of,
    finer,
    holds_one,
    learner,
    others,
    storages,
    unique,
)
from limbeck.search.judges import Judge, judges_of, protocol_of, validation_of
from limbeck.search.trials import Ledger, Trial, table_of
from limbeck.spaces import Encoder, embed_source

__all__ = ["SearchResult", "auto"]

SHARE = 0.25  # of the samples are enough to compare storages
FEWEST = 40  # samples of which all are taken
KEPT = 3  # storages that are tried in full, and candidates that are judged by the usual student
PARTS = {
    "storage": 0.4,
    "method": 0.7,
    "detail": 0.85,
    "final": 1.0,
}  # of the minutes, at whose end a stage begins no trial
QUICK = {"steps": 200, "longest": 200, "looks": 1, "noise": (1.0,)}  # a student to compare candidates with
USUAL = {"longest": 400}  # one to choose among the last of them


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Args:
        problem: as asked, with the storage that was chosen.
        method: that was chosen.
        trials: what was tried, in order.
        judges: the names of those who judged.
    """

    problem: Problem
    method: Method
    trials: tuple[Trial, ...]
    judges: tuple[str, ...]

    def __str__(self) -> str:
        """The trials as a table."""
        return table_of(self.trials)


def auto(
    problem: Problem,
    on: Source,
    run: str | Path | None = None,
    *,
    minutes: float = 10.0,
    judge: str | Mapping[str, Any] | Encoder | None = None,
    free: Collection[str] = FREE,
    clock: Callable[[], float] = time.monotonic,
) -> SearchResult:
    """Searches for the method and the storage that make the best set within the problem's budget.

    Candidates are made of the training data and judged on the validation split by students on the encoders of the problem and, where
    one is installed, on an encoder that takes no part in making them; what counts is the mean of both. Four stages:

        storage   how images are stored, with a quarter of the samples and a quick student
        method    the best three storages in full; real samples with their own captions or labels; all data, shrunk; for a handful
                  of samples learned pixels
        detail    the best so far with one choice changed: temperature, ridge, numbers of vectors, quality, rule of choice
        final     the best three, judged by a student that is trained longer and chosen from a grid

    A trial is begun where it can be expected to end within the minutes; the first one always is. What is tried depends on the speed of
    the machine; what a candidate scores does not. The test split is never opened.

    Args:
        problem: data, encoders, budget and seed; of its storage what is not free is kept.
        on: the data with their splits, of which `val` is read.
        run: the folder of the run that will make the set: it keeps `auto.json` and `auto.txt`, and a search that was stopped continues.
        minutes: that the search may take, over all its parts; the first pass of the encoders over the data is not counted.
        judge: an encoder that takes no part; by default EfficientNet-Lite2, MobileNetV2 or EfficientNet-Lite0, the first that is
            installed and takes none. `"none"` for no other.
        free: what of the storage is searched: codec, quality, side, vectors.
        clock: seconds, for tests.

    Raises:
        ConfigError: the budget holds no sample however it is stored; minutes that are not positive; a judge that takes part; another
            search in the folder; several processes.
        DataError: no validation split, or data that no student can be judged on.
        StorageError: the folder cannot be written, or another process works on it.

    Example:
        >>> import limbeck as lb
        >>> train = lb.check.toy_source()
        >>> problem = lb.Problem(train, lb.space(image={"name": "convnet", "width": 8}), lb.Budget(pairs=4))
        >>> found = auto(problem, train, judge="none", minutes=0.01)
        >>> len(lb.distill(found.problem, found.method)), found.judges
        (4, ('home convnet',))
    """
    if not (isfinite(minutes) and minutes > 0):
        raise ConfigError(
            f"a search takes a positive number of minutes, got {minutes}; set --minutes (in Python minutes=)"
        )
    if wrong := sorted(set(free) - set(FREE)):
        raise ConfigError(f"what is searched of a storage is {', '.join(FREE)}, got {', '.join(wrong)}")
    if processes.count() > 1:
        raise ConfigError("a search runs in one process; search in one, then give its recipe to several with --config")
    held_out = validation_of(problem, on)
    protocol_of(problem).check(held_out)
    judges = judges_of(problem, judge)
    first = learner(problem)
    known = storages(problem, free)
    ledger = Ledger.open(None if run is None else Path(run), _question(problem, held_out, judges, free))
    if ledger.winner is None:
        _refuse_small(problem, first, known)
    search = _Search(problem, held_out, judges, ledger, 60 * minutes, clock)
    if ledger.winner is None and ledger.folder is not None:
        with owned(ledger.folder, "search"):
            ledger.close(search.best(first, known, free).plain())
    elif ledger.winner is None:
        ledger.close(search.best(first, known, free).plain())
    winner = _candidate(ledger.winner or {})
    return SearchResult(
        replace(problem, storage=winner.storage), winner.method, tuple(ledger.trials), tuple(map(_named, judges))
    )


def _refuse_small(problem: Problem, first: Method, known: Sequence[Storage]) -> None:
    """Refuses a budget that holds nothing however it is stored, before anything is encoded by a network."""
    candidates = [Candidate(first, storage) for storage in known]
    if not any(holds_one(problem, candidate) for candidate in candidates):
        smallest = problem.but(storage=min(known, key=lambda s: problem.but(storage=s).sample_bytes(True, real=True)))
        first.check(smallest)
        smallest.pairs(first.learns_text, real=first.keeps_images)


def _named(judge: Judge) -> str:
    return f"{'unseen' if judge.unseen else 'home'} {judge.name}"


def _question(problem: Problem, held_out: Source, judges: Sequence[Judge], free: Collection[str]) -> dict[str, Any]:
    """What decides the scores of a search, but for the time that it has."""
    recipe = Recipe(
        source=problem.source.describe(),
        space=problem.space.describe(),
        budget={k: v for k, v in vars(problem.budget).items() if v is not None},
        storage={k: v for k, v in vars(problem.storage).items() if k not in free},
        seed=problem.seed,
        fingerprints={
            "source": problem.source.fingerprint,
            "space": problem.space.fingerprint,
            "validation": held_out.fingerprint,
            **{_named(judge): judge.space.fingerprint for judge in judges},
        },
    )
    return {**recipe.plain(), "free": sorted(free)}


def _candidate(plain: Mapping[str, Any]) -> Candidate:
    """A candidate as a ledger holds it."""
    options = dict(plain["method"])
    method: Method = registry.get("method", options.pop("name"))(**options)
    return Candidate(method, Storage(**plain["storage"]))


Tried = list[tuple[Trial, Candidate]]


@dataclass(frozen=True)
class _Search:
    """The stages, and what they share."""

    problem: Problem
    held_out: Source
    judges: Sequence[Judge]
    ledger: Ledger
    limit: float
    clock: Callable[[], float]

    def best(self, first: Method, known: Sequence[Storage], free: Collection[str]) -> Candidate:
        """The candidate that is best in the last stage that there was time for."""
        self._embed()
        ranked = [Candidate(first, storage) for storage in known]
        if len(known) > 1:
            ranked = _ranked(self._stage("storage", ranked, SHARE, QUICK)) or ranked
        wanted = [*ranked[:KEPT], *all_data(self.problem, known), *others(self.problem, ranked[0])]
        tried = self._stage("method", unique(wanted), 1.0, QUICK)
        if not tried:
            return ranked[0]
        tried += self._stage("detail", finer(self.problem, _ranked(tried)[0], free), 1.0, QUICK)
        last = self._stage("final", _ranked(tried)[:KEPT], 1.0, USUAL)
        return _ranked(last or tried)[0]

    def _embed(self) -> None:
        """Fills the cache: what encoders read once is in no trial's seconds."""
        _ = self.problem.features
        for judge in self.judges:
            embed_source(self.held_out, judge.space, runtime=self.problem.runtime)

    def _stage(self, stage: str, candidates: Sequence[Candidate], share: float, student: Mapping[str, Any]) -> Tried:
        """Those that there was time for, in order."""
        protocol, tried = protocol_of(self.problem, **student), []
        for i, candidate in enumerate(candidates):
            self.problem.runtime.report(f"auto: {stage}", i, len(candidates))
            done = self.ledger.found(stage, candidate.plain())
            samples = self._samples(candidate, share) if done is None else 0
            if samples and not self._is_time(stage, samples):
                break  # one that is quicker and expected to be worse is no answer either
            if samples:
                done = self._trial(stage, candidate, samples, protocol)
                self.ledger.add(done)
            if done is not None and not done.failed:
                tried.append((done, candidate))
        return tried

    def _samples(self, candidate: Candidate, share: float) -> int:
        """So many of those that the budget holds: one a class or more, and all where they are few; 0 where it holds none."""
        most = count_of(self.problem, candidate)
        part = most if most <= FEWEST else max(FEWEST, ceil(share * most))
        if getattr(candidate.method, "per_class", False) is not False and self.problem.source.labels is not None:
            part = max(part, len(self.problem.source.classes))
        return min(part, most)

    def _is_time(self, stage: str, samples: int) -> bool:
        """Whether a trial can be expected to end within the part of the minutes that its stage has; the first one always can."""
        done = self.ledger.trials
        each = sum(t.seconds for t in done) / max(sum(t.samples for t in done), 1)
        return not done or self.ledger.seconds + each * samples <= PARTS[stage] * self.limit

    def _trial(self, stage: str, candidate: Candidate, samples: int, protocol: Protocol) -> Trial:
        start, scores, size, failed = self.clock(), {}, 0, ""
        budget = Budget(pairs=samples, pixels=self.problem.budget.pixels)
        of = self.problem.but(budget=budget, storage=candidate.storage)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a set that is thrown away; the winner says it again
                small = distill(of, candidate.method)
            size, kept = small.nbytes, candidate.method.keeps_images
            scores = {_named(j): round(j.score(of, small, self.held_out, protocol, kept), 4) for j in self.judges}
        except (ConfigError, DataError, Diverged) as error:  # no answer
            failed = str(error)
        seconds = round(self.clock() - start, 3)
        return Trial(stage, candidate.label, candidate.plain(), samples, size, scores, seconds, failed)


def _ranked(tried: Tried) -> list[Candidate]:
    """Candidates, best first; the earlier of equals."""
    return [candidate for _, candidate in sorted(tried, key=lambda pair: -pair[0].value)]
