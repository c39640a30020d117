"""What a search tries: methods, each with a way to store its set, and how many samples a budget then holds."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from limbeck import registry
from limbeck.core import Budget, Method, Problem, Storage
from limbeck.core.codec import QUALITY
from limbeck.engine import distill
from limbeck.errors import ConfigError, DataError

__all__ = [
    "FREE",
    "Candidate",
    "all_data",
    "count_of",
    "finer",
    "holds_one",
    "learner",
    "made",
    "others",
    "storages",
    "unique",
]

FREE = ("codec", "quality", "side", "vectors")
"""What of a storage is searched."""

GRID = (  # codec, part of the side, quality: the best lossy codec of a machine stands first
    (0, 1.0, 20),
    (0, 1.0, 10),
    (0, 0.75, 20),
    (0, 1.0, 40),
    (1, 1.0, 20),
    (0, 0.5, 20),
    (2, 1.0, 20),
)
LOSSY = ("avif", "webp", "jpeg")  # by the bytes that photographs take at equal looks
LOOKED_AT = 48  # real samples whose files tell how many fit
SMALLEST = 32  # pixels of a side that is made smaller
HANDFUL = 20  # samples: up to so many pixels are learned, too
MUCH = 0.4  # of the data: beyond it finer files may be worth more than more images
SLOW = 400  # samples: up to so many, rules are tried whose time grows with their square


@dataclass(frozen=True)
class Candidate:
    """A method and how its set is stored.

    Args:
        method: with its options.
        storage: of the set.
    """

    method: Method
    storage: Storage

    @property
    def label(self) -> str:
        """For a table: the method with the options that are not its default, then how images and vectors are stored."""
        told = self.method.describe()
        usual = {k: getattr(type(self.method), k, None) for k in told}
        changed = ", ".join(f"{k}={v}" for k, v in told.items() if k != "name" and v != usual[k])
        s = self.storage
        side, quality = f" {s.side} px" if s.side else "", f" q{s.quality}" if s.lossy else ""
        vectors = f" {s.vectors}" if self.method.learns_text else ""
        return f"{told['name']}{f'({changed})' if changed else ''}, {s.codec}{side}{quality}{vectors}"

    def plain(self) -> dict[str, Any]:
        """Method and storage as JSON types."""
        return {"method": self.method.describe(), "storage": vars(self.storage).copy()}


def made(name: str, **options: Any) -> Method:
    """A method of that name."""
    found: Method = registry.get("method", name)(**options)
    return found


def learner(problem: Problem) -> Method:
    """The method that storages are compared with: the one that learns captions or labels of real samples, else a random choice."""
    method = made("label_distillation")
    try:
        method.check(problem.but(budget=Budget(pairs=problem.available)))
    except (ConfigError, DataError):
        return made("random")
    return method


def storages(problem: Problem, free: Collection[str]) -> list[Storage]:
    """The ways to store that are compared: those of the problem in what is not free, without what Pillow lacks.

    Args:
        problem: whose storage and budget are looked at. A budget in pairs, or of pixels as floats, has no use for less than its own.
        free: those of `FREE` that are searched.
    """
    own = problem.storage
    if "vectors" in free and problem.budget.limit is not None:
        own = replace(own, vectors="int4")
    if problem.budget.limit is None or problem.budget.pixels == "float32" or "image" not in problem.modalities:
        return [own]
    side = min(problem.source.modalities["image"].shape[1:])
    found = []
    codecs = [codec for codec in LOSSY if _storage(own, codec=codec, quality=QUALITY)]
    for place, part, quality in GRID if codecs else ():
        less = round(side * part)
        if part < 1 and less < SMALLEST:
            continue
        asked = {"codec": codecs[min(place, len(codecs) - 1)], "side": less if part < 1 else 0, "quality": quality}
        found.append(_storage(own, **{name: value for name, value in asked.items() if name in free}))
    found.append(_storage(own, **({"codec": "auto", "quality": QUALITY} if {"codec", "quality"} <= set(free) else {})))
    return [storage for storage in dict.fromkeys(found) if storage is not None]


def _storage(own: Storage, **changed: Any) -> Storage | None:
    """Another storage; `None` where it cannot be."""
    try:
        return replace(own, **changed)
    except ConfigError:
        return None


def holds_one(problem: Problem, candidate: Candidate) -> bool:
    """Whether the budget holds a sample, by an estimate that reads no features, and the method can work on the data.

    Args:
        problem: whose budget.
        candidate: what makes and stores the set.
    """
    of, method = problem.but(storage=candidate.storage), candidate.method
    try:
        method.check(of)
        return of.pairs(method.learns_text, method.text_tokens, real=method.keeps_images) > 0
    except (ConfigError, DataError):
        return False


def count_of(problem: Problem, candidate: Candidate) -> int:
    """How many samples the budget holds, to a few percent; 0 for none, or where the method cannot work on them.

    Real samples are counted by the files of two small sets of them, whose difference is what a sample takes.

    Args:
        problem: whose budget.
        candidate: what makes and stores the set.
    """
    of, method = problem.but(storage=candidate.storage), candidate.method
    if not holds_one(problem, candidate):
        return 0
    if problem.budget.limit is None or not method.keeps_images:
        return of.pairs(method.learns_text, method.text_tokens, real=method.keeps_images)
    key = ("count", candidate.storage, method.steps > 0)
    return problem.once(key, lambda: _measured(of, method))


def _measured(problem: Problem, method: Method) -> int:
    """How many real samples fit the budget, from the files of two small sets."""
    most, limit = len(problem.complete), problem.budget.limit or 0
    more = min(max(LOOKED_AT, 2 * len(problem.source.classes)), most)
    less = max(more // 2, 1)
    still = replace(method, steps=0, init="random") if method.steps else made("random")  # type: ignore[call-arg]
    budgets = (Budget(pairs=n, pixels=problem.budget.pixels) for n in (more, less))
    large, small = (distill(problem.but(budget=budget), still).nbytes for budget in budgets)
    each = max((large - small) / max(more - less, 1), 1.0)
    return min(max(int((limit - large) / each) + more, 0), most)


def others(problem: Problem, best: Candidate) -> list[Candidate]:
    """Other methods with the storage of the best: real samples with all that is said of them, and learned pixels for a handful."""
    found = [Candidate(made("random"), best.storage), Candidate(made("herding"), best.storage)]
    found += [Candidate(made("prototypes"), best.storage)]
    found = [c for c in found if c.method.describe()["name"] == "random" or count_of(problem, c) <= SLOW]
    if 0 < count_of(problem, best) <= HANDFUL:
        found.append(Candidate(made("cf"), best.storage))
    return [candidate for candidate in found if candidate.method != best.method]


def finer(problem: Problem, best: Candidate, free: Collection[str]) -> list[Candidate]:
    """The best with one choice changed each: temperature, ridge, the numbers of vectors, quality, the rule that chooses its samples.

    The temperature is that of the default for the number of samples, doubled: where other encoders gain by a softer softmax. Storages were
    compared with a quarter of the samples, which favours coarse files; where the best holds much of the data, much finer ones are tried.
    """
    learns = best.method.describe()["name"] == "label_distillation"
    found: list[Candidate] = []
    if learns and "text" in problem.modalities:
        softer = round(2 * best.method.temperature_of(count_of(problem, best)), 3)  # type: ignore[attr-defined]
        found.append(replace(best, method=replace(best.method, temperature=softer)))  # type: ignore[call-arg]
    if learns:
        found += [replace(best, method=replace(best.method, ridge=ridge)) for ridge in (5.0, 50.0)]  # type: ignore[call-arg]
    if learns and "vectors" in free and problem.budget.limit is not None and "text" in problem.modalities:
        found.append(replace(best, storage=replace(best.storage, vectors="int8")))
    if best.storage.lossy and "quality" in free and problem.budget.limit is not None:
        share = count_of(problem, best) / problem.available
        factors = (0.7, 1.4, 2.0, 3.0) if share > MUCH else (0.7, 1.4)
        qualities = [round(best.storage.quality * factor) for factor in factors]
        found += [replace(best, storage=replace(best.storage, quality=q)) for q in qualities if 1 <= q <= 100]
    if learns and count_of(problem, best) <= SLOW:
        found.append(replace(best, method=replace(best.method, init="prototypes")))  # type: ignore[call-arg]
    return found


def all_data(problem: Problem, known: Sequence[Storage]) -> list[Candidate]:
    """All of the data, shrunk: with the most bytes of the known storages that hold them all; none where none does.

    Args:
        problem: whose data and budget.
        known: the storages.
    """
    if problem.budget.limit is None:
        return []
    whole = [s for s in known if count_of(problem, Candidate(made("random"), s)) == problem.available]
    return [Candidate(made("random"), max(whole, key=lambda s: _size(problem, s)))] if whole else []


def _size(problem: Problem, storage: Storage) -> int:
    return problem.but(storage=storage).sample_bytes(False, real=True)


def unique(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Each once, in order."""
    found: list[Candidate] = []
    for candidate in candidates:
        if candidate not in found:
            found.append(candidate)
    return found
