"""`compare()`: the grid method x pairs x seed x student, and the full data, in one call that resumes."""

import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from limbeck import registry
from limbeck.core import Budget, DistilledSet, Method, Pixels, Problem, Storage
from limbeck.data.source import Source
from limbeck.errors import ConfigError, LimbeckWarning, StorageError
from limbeck.evaluation.comparison import Comparison, refuse_foreign, write_comparison
from limbeck.evaluation.evaluate import evaluate, open_protocol, refuse_leaks, student_seeds, test_split
from limbeck.evaluation.filesize import file_bytes
from limbeck.evaluation.protocol import Protocol
from limbeck.evaluation.score import Score, read_scores, write_scores
from limbeck.evaluation.unseen import Maker, Spec, Unseen, home_name, open_unseen, refuse_seen, refuse_unread
from limbeck.runtime.cache import Cache, digest
from limbeck.runtime.files import settle_within, sha256, write_text
from limbeck.runtime.locks import owned
from limbeck.runtime.progress import ProgressCallback
from limbeck.runtime.runtime import Runtime
from limbeck.spaces import Space, embed_source

__all__ = ["Comparison", "compare"]

SECONDS = "seconds.json"  # in the folder of a run: how long it took
SUM = ".sha256"  # beside the scores of a cell


def compare(
    train: Source,
    methods: Sequence[str | Method],
    pairs: Sequence[int] = (),
    seeds: int | Sequence[int] = 3,
    students: Sequence[str] = ("frozen",),
    *,
    space: Space,
    run: str | Path,
    on: Source | None = None,
    protocol: str = "retrieval",
    full: bool = True,
    cache: Cache | None = None,
    device: str | None = None,
    tick: ProgressCallback | None = None,
    storage: Storage | None = None,
    pixels: Pixels | None = None,
    bytes: Sequence[int | str] = (),
    unseen: Sequence[Spec] = (),
    runtime: Runtime | None = None,
    **options: Any,
) -> Comparison:
    """Distils and judges every cell of the grid method x budget x seed x student, and writes one table and one plot.

    Seed i makes set i and trains the student that judges it, so that the spread is over both. Every run and every
    judged row is kept in `run`: the same call after an interruption does only what is missing. The seconds of a row are
    those of making its sets and of judging them; embedding the data, and decoding them for students that are networks,
    comes before and is counted to none. Data that cannot be judged on are refused before anything is embedded.

    A learned sample takes more bytes than a real one, see `file_bytes`. So each set that learned stands beside one more: the best
    of the methods that choose real samples, with as many of them as its bytes hold, where these are not all of the data.

    With `unseen` every row, the full data among them, is also judged with each of those encoders in the place of the space's own. An
    encoder that took part in making a set is marked in that row. Naming another one later judges with that one alone; the rest is kept.

    Args:
        train: the training split.
        methods: names, or methods with their options.
        pairs: budgets, as numbers of samples.
        seeds: the seeds, or how many.
        students: see `Protocol.student`.
        space: frozen encoders for methods and students.
        run: the folder that everything is written to.
        on: evaluation data, see `evaluate`; by default the test split of `train`.
        protocol: name of the protocol.
        full: also judge the whole of `train`.
        cache, device, tick, runtime: a `Runtime`, or one by one its cache, device and progress (`tick`); not both.
        storage: in which bytes the sets are stored; by default exactly.
        pixels: how images are learned by those methods that learn them.
        bytes: budgets, as bytes of files, such as `"1.2MB"`: each row then has as many samples as they hold.
        unseen: encoders to judge with as well, see `evaluate`. Nothing is chosen by them: not what stands at the same bytes, either.
        options: of the protocol, by name.

    Raises:
        ConfigError: an empty grid, one method twice, no test split, an unseen encoder that took part in making every set, or whatever
            `distill` or `evaluate` refuse.
        DataError: no validation split to choose students on, or data that lack what the protocol needs.
        StorageError: a file in `run` that would be written is of no comparison, another process works on it, or it cannot be written.

    Example:
        >>> import limbeck as lb, tempfile
        >>> found = compare(lb.check.toy_source(), ["random"], [4, 8], seeds=2, space=lb.space(image="convnet"),
        ...                 run=tempfile.mkdtemp(), protocol="classification")
        >>> [(score.name, score.pairs) for score in found.scores]
        [('random', 4), ('random', 8), ('full data', 24)]
    """
    runtime = Runtime.of(runtime, device=device, cache=cache, tick=tick)
    budgets = [*(Budget(pairs=n) for n in pairs), *(Budget(bytes=n) for n in bytes)]
    if not (methods and budgets and students):
        raise ConfigError("a comparison needs a method, a number of pairs or bytes, and a student or more of each")
    numbers = student_seeds(seeds, 1)
    made = [registry.get("method", m)() if isinstance(m, str) else m for m in methods]
    labels = _labels(made)
    if twice := {label for label in labels if labels.count(label) > 1}:
        raise ConfigError(f"{', '.join(sorted(twice))} is in the comparison twice; give each method once")
    if pixels and pixels.given and not any(method.learns_pixels for method in made):
        raise ConfigError(
            f"no method here learns pixels, so {', '.join(pixels.given)} of pixels is ignored; leave it out"
        )
    judges = [open_protocol(protocol, {**options, "student": student}) for student in students]
    others = open_unseen(unseen, space)
    refuse_unread(others, judges)
    refuse_seen(others, [Maker(space.describe(), method.describe()) for method in made])
    refuse_seen(others, [Maker.of(train)])
    test, ways = on if on is not None else train, (storage or Storage(), others, pixels or Pixels())
    bench = _Bench(Path(run), test, space, numbers, runtime, *ways)
    refuse_foreign(bench.folder)
    bench.refuse(train, judges)
    for budget in budgets:  # refuses before the first set is made
        for method in made:
            method.check(bench.problem(train, budget, numbers[0], method))
    with owned(bench.folder, "compare"):
        found = _filled(bench, train, list(zip(made, labels, strict=True)), budgets, judges, full)
        write_comparison(found)
        settle_within(bench.folder)
    return found


def _filled(
    bench: "_Bench",
    train: Source,
    methods: Sequence[tuple[Method, str]],
    budgets: Sequence[Budget],
    judges: Sequence[Protocol],
    full: bool,
) -> Comparison:
    """Every cell of the grid: those that are kept, and those that are missing."""
    bench.embed(train, judges, full)
    named = {label: method for method, label in methods}
    total, done = len(methods) * len(budgets) + full, 0
    sets: dict[tuple[str, int], list[DistilledSet]] = {}
    runs: dict[tuple[str, int], list[Path]] = {}
    scores: list[Score] = []
    one_shot = [label for label, method in named.items() if method.steps == 0]

    def row(label: str, method: Method, budget: Budget) -> tuple[str, int]:
        small = bench.distil(train, method, budget)
        key = label, small[0].pairs
        if key not in sets:  # two budgets in bytes that both hold all data are one row
            sets[key], runs[key] = small, bench.cells(method, budget)
            seconds = sum(_read_seconds(cell / SECONDS) for cell in runs[key])
            scores.extend(s for judge in judges for s in bench.judge(small, judge, label, _slug(method), seconds))
        return key

    sizes: list[list[tuple[str, int]]] = [[] for _ in budgets]  # rows of as many pairs, or as many bytes
    for label, method in named.items():
        for budget, rows in zip(budgets, sizes, strict=True):
            rows.append(row(label, method, budget))
            done += 1
            bench.runtime.report("compare", done, total)
    best = _best_coresets(scores, sets, named, sizes)
    as_large: dict[tuple[str, int], tuple[str, int]] = {}
    in_pairs: dict[tuple[str, int], tuple[str, int]] = {}
    for budget, rivals in zip(budgets, best, strict=True):
        (as_large if budget.limit else in_pairs).update(rivals)
    for (rival, count), learned in bench.rivals(train, named, in_pairs, scores).items():
        name = f"{rival}, at the bytes of {' and '.join(dict.fromkeys(label for label, _ in learned))}"
        as_large |= dict.fromkeys(learned, row(name, named[rival], Budget(pairs=count)))
        one_shot.append(name)
    if full:
        whole = [s for judge in judges for s in bench.judge([train], judge, "full data", "full-data")]
        scores += [replace(s, method="full") for s in whole]  # also where `on` is not of the same data
        bench.runtime.report("compare", total, total)
    return Comparison(scores, sets, bench.folder, runs, tuple(one_shot), as_large)


@dataclass(frozen=True)
class _Bench:
    folder: Path
    on: Source
    space: Space
    seeds: tuple[int, ...]
    runtime: Runtime
    storage: Storage
    unseen: tuple[Unseen, ...] = ()
    pixels: Pixels = field(default_factory=Pixels)

    def problem(self, train: Source, budget: Budget, seed: int, method: Method) -> Problem:
        pixels = self.pixels if method.learns_pixels else Pixels()
        return Problem(train, self.space, budget, seed, storage=self.storage, pixels=pixels, runtime=self.runtime)

    def distil(self, train: Source, method: Method, budget: Budget) -> list[DistilledSet]:
        from limbeck.engine import distill  # engine and evaluation are on one level: neither needs the other to load

        sets = []
        for seed, folder in zip(self.seeds, self.cells(method, budget), strict=True):
            start, fresh = time.perf_counter(), not (folder / "set").is_dir()
            sets.append(distill(self.problem(train, budget, seed, method), method, run=folder))
            if fresh:
                write_text(folder / SECONDS, json.dumps(time.perf_counter() - start))
        return sets

    def rivals(
        self,
        train: Source,
        methods: Mapping[str, Method],
        best: Mapping[tuple[str, int], tuple[str, int]],
        scores: Sequence[Score],
    ) -> dict[tuple[str, int], list[tuple[str, int]]]:
        """Which coresets are as large in files as the sets that learned: (row, samples) to the rows that learned.

        The best coreset of as many pairs, see `_best_coresets`, stands for all.
        """
        size = {(s.name, s.pairs): s.bytes for s in scores}
        rows: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for key, (name, pairs) in best.items():
            count = self.as_many(train, methods[name], size[key])
            if count > pairs:
                rows.setdefault((name, count), []).append(key)
        return rows

    def as_many(self, train: Source, method: Method, limit: int) -> int:
        """How many real samples that `method` chooses fill `limit` bytes of files; 0 where all of the data fit, or not one a class."""
        from limbeck.engine import distill

        if file_bytes(train) <= limit:
            return 0
        problem = self.problem(train, Budget(bytes=limit), self.seeds[0], method)
        try:
            count = len(distill(problem, method))
        except ConfigError:  # the images that it chooses are larger than those of the set that learned
            return 0
        return count if count < len(problem.complete) else 0

    def refuse(self, train: Source, judges: Sequence[Protocol]) -> None:
        """Refuses data that cannot be judged on, before anything costs time."""
        test = test_split(self.on)
        if "test" not in self.on.splits and (test is train or test.fingerprint == train.fingerprint):
            raise ConfigError(
                f"there is no split 'test' in {self.on.name} (its splits: {', '.join(self.on.splits) or 'none'}); add "
                "one or name data to test on with --on (in Python on=)"
            )
        for judge in judges:
            refuse_leaks([train], test, judge)
            judge.check_set(train)
            for source in (train, judge.judge(test), test):
                judge.check(source)

    def embed(self, train: Source, judges: Sequence[Protocol], full: bool) -> None:
        """Fills the cache with what every row reads, so that no row's seconds hold the encoders' first pass."""
        test = test_split(self.on)
        embed_source(train, self.space, runtime=self.runtime)
        for judge in judges:
            held_out = (judge.judge(test), test)
            trained = judge.trained(train.modalities)
            home = Space({m: self.space[m] for m in self.space.modalities if m not in trained})
            others = [Space({o.modality: o.encoder}) for o in self.unseen if judge.reads(o.modality)]
            for source in (*held_out, *([train] if full else [])):
                for space in (*([] if source is train else [home]), *others):
                    embed_source(source, space, runtime=self.runtime)
                judge.decode(source, train.modalities, judge.side(train), self.runtime.cache)

    def cells(self, method: Method, budget: Budget) -> list[Path]:
        """The folders of one row's runs, one a seed."""
        size = budget.pairs if budget.limit is None else f"{budget.limit}B"
        return [self.folder / "runs" / f"{_slug(method)}-{size}-seed{seed}" for seed in self.seeds]

    def judge(self, sets: Sequence[Source], protocol: Protocol, name: str, slug: str, made: float = 0.0) -> list[Score]:
        """The scores of one row, with the space as it is and with each unseen encoder that the students read."""
        judge = partial(self._cell, sets, protocol, name=name, slug=slug, made=made)
        scores = [replace(s, name=name, encoder=home_name(self.space, protocol)) for s in judge(self.space)]
        makers, home = [Maker.of(s) for s in sets], scores[0].fingerprint
        for other in (o for o in self.unseen if protocol.reads(o.modality)):
            seen = any(maker is not None and maker.used(other.encoder) for maker in makers)
            found = judge(other.within(self.space))
            told: dict[str, Any] = {
                "name": name,
                "bytes": scores[0].bytes,
                "encoder": other.name,
                "home": home,
                "took_part": seen,
            }
            scores += [replace(s, **told) for s in found]
        return scores

    def _cell(
        self,
        sets: Sequence[Source],
        protocol: Protocol,
        space: Space,
        *,
        name: str,
        slug: str,
        made: float,
    ) -> list[Score]:
        """The scores of one row under one space, kept in a file of their own."""
        test = test_split(self.on)
        key = digest(protocol.fingerprint(test, space), [s.fingerprint for s in sets], self.seeds, slug)
        student = protocol.student.replace(":", "-")
        path = self.folder / "scores" / f"{slug}-{len(sets[0])}-{student}-{key[:12]}.json"
        if (kept := _kept(path)) is not None:
            return kept
        small = sets if len(sets) > 1 else sets[0]
        scores = evaluate(small, self.on, protocol, space, self.seeds, name, runtime=self.runtime)
        scores = [replace(score, seconds=score.seconds + made) for score in scores]
        write_scores(path, scores)
        write_text(path.with_suffix(SUM), sha256(path))
        return scores


def _best_coresets(
    scores: Sequence[Score],
    sets: Mapping[tuple[str, int], Sequence[DistilledSet]],
    methods: Mapping[str, Method],
    sizes: Sequence[Sequence[tuple[str, int]]],
) -> list[dict[tuple[str, int], tuple[str, int]]]:
    """For each size the rows that learned, each with the best coreset of that size by the first metric of the first protocol, at home."""
    metric = "mean" if "mean" in {s.metric for s in scores} else scores[0].metric
    first = {(s.name, s.pairs): s for s in scores if s.fingerprint == scores[0].fingerprint and s.metric == metric}
    best = []
    for rows in sizes:
        real = [first[key] for key in rows if methods[key[0]].steps == 0 and not sets[key][0].generation]
        top = max(real, key=lambda s: s.mean if s.higher_is_better else -s.mean, default=None)
        learned = [key for key in rows if methods[key[0]].steps and key in first]
        best.append({} if top is None else dict.fromkeys(learned, (top.name, top.pairs)))
    return best


def _labels(methods: Sequence[Method]) -> list[str]:
    """The name of each row: the method's, and the options that are not its default in all rows of it: `cf(steps=50)`."""
    labels = []
    for method in methods:
        changed = [_changed(other) for other in methods if type(other) is type(method)]
        told = [f.name for f in fields(method) if any(f.name in options for options in changed)]
        listed = ", ".join(f"{name}={_short(getattr(method, name))}" for name in told)
        labels.append(str(method.describe()["name"]) + (f"({listed})" if told else ""))
    return labels


def _changed(method: Method) -> dict[str, Any]:
    """The options that differ from their defaults."""
    return {f.name: getattr(method, f.name) for f in fields(method) if getattr(method, f.name) != f.default}


def _short(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _slug(method: Method) -> str:
    """The name of a method with its options in paths, whatever else is compared."""
    changed = _changed(method)
    return str(method.describe()["name"]) + (f"-{digest(changed)[:8]}" if changed else "")


def _kept(path: Path) -> list[Score] | None:
    """The scores of a cell that was judged before; `None` where they are not there, or are damaged, which is told."""
    if not path.is_file():
        return None
    try:
        kept, total = read_scores(path), path.with_suffix(SUM)
        if not total.is_file():  # killed between the two, or from before there were checksums
            write_text(total, sha256(path))
        if total.read_bytes() == sha256(path).encode():
            return kept
        reason = f"{path} differs from its checksum"
    except StorageError as error:
        reason = str(error)
    warnings.warn(f"{reason}; the row is judged again", LimbeckWarning, stacklevel=2)
    return None


def _read_seconds(path: Path) -> float:
    """How long a run took, of a resumed one its last part; 0 where the file is missing or cannot be read."""
    try:
        return float(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return 0.0
