"""`audit()`: everything that is asked of a set, in one call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from limbeck.core import DistilledSet, load
from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation.audit.diversity import density_and_coverage, vendi
from limbeck.evaluation.audit.membership import Bench, Given, membership, protocol_of
from limbeck.evaluation.audit.nearest import NearestNeighbours, nearness
from limbeck.evaluation.audit.result import Audit, Diversity, Leak
from limbeck.evaluation.protocol import Context, Protocol
from limbeck.runtime.cache import Cache
from limbeck.runtime.progress import ProgressCallback
from limbeck.runtime.random import stream
from limbeck.runtime.runtime import Runtime
from limbeck.spaces import Features, Space, embed_source

__all__ = ["audit"]

HELD_OUT = 500  # samples that are compared, at most
DRAWS = 10  # of real samples that diversity is compared with
MOST = 1000  # samples whose diversity is measured, at most
NEIGHBOURS = 5  # of density and coverage


def audit(
    small: DistilledSet | str | Path,
    against: Source,
    space: Space | None = None,
    *,
    student: str | Protocol = "frozen",
    seeds: int = 3,
    shadows: int = 16,
    cache: Cache | None = None,
    device: str | None = None,
    tick: ProgressCallback | None = None,
    runtime: Runtime | None = None,
) -> Audit:
    """Compares a set with the data it was made from: nearest neighbours, membership inference on students, diversity.

    Held-out data are the splits `val` and `test` of `against`, of which 500 samples are drawn.

    Args:
        small: a distilled set, or the folder of a saved one.
        against: the training data.
        space: frozen encoders; by default those that the set was distilled with.
        student: whose confidence is attacked: `"frozen"`, a network of `limbeck.networks`, or a protocol with its options. It is
            the student that `evaluate` judges, trained with what the set carries and chosen on `val`, where there is a `test`
            beside it to draw others from. There are students of classes in labelled data, else of pairs.
        seeds: students a target; 0 leaves membership inference out.
        shadows: shadow students of the likelihood-ratio attack, an even number: few, so that it takes seconds; papers take 64 to 256.
            0 leaves that attack out.
        cache, device, tick, runtime: a `Runtime`, or one by one its cache, device and progress (`tick`); not both.

    Raises:
        ConfigError: an odd number of shadows, or a set that does not name its encoders.
        DataError: the data hold a modality in another shape than the set.

    Example:
        >>> import limbeck as lb
        >>> train = lb.check.toy_source(32, modalities=("image", "label"))
        >>> problem = lb.Problem(train, lb.space(image="convnet"), lb.Budget(pairs=8))
        >>> found = audit(lb.distill(problem, lb.methods.Random()), train, seeds=1, shadows=2)
        >>> sum(found.memorised("image")), len(found.leaks)
        (8, 12)
    """
    context = Context(0, Runtime.of(runtime, device=device, cache=cache, tick=tick))
    small = load(small) if isinstance(small, str | Path) else small
    if seeds < 0 or shadows < 0 or shadows % 2:
        raise ConfigError(f"seeds and shadows are numbers of students, shadows an even one, got {seeds} and {shadows}")
    space = space if space is not None else _space(small)
    data = _Data.read(small, against, space, context)
    leaks, students, notes = _attacked(data, student, seeds, shadows) if seeds else ([], "", [])
    return Audit(
        name=small.name,
        against=against.name,
        samples=len(small),
        training=len(against),
        held_out=sum(len(rows) for _, rows in data.held_out),
        nearness=tuple(_nearness(data)),
        leaks=tuple(leaks),
        students=students,
        diversity=tuple(_diversity(data)),
        gap=_gap(data),
        notes=(*data.notes(), *notes),
    )


@dataclass(frozen=True)
class _Data:
    """What all parts of an audit share.

    Args:
        small, source: the set and the training data.
        held_out: other splits, and the samples of each that take part.
        modalities: those that set and data share.
        origin: `int64 [M]`, the training sample that each synthetic one started from, -1 where it is not among the data.
        features: frozen ones, of the set, the data and each of `held_out`.
        space, context: the encoders, and where they run.
    """

    small: DistilledSet
    source: Source
    held_out: Sequence[tuple[Source, Tensor]]
    modalities: tuple[str, ...]
    origin: Tensor
    features: Sequence[Mapping[str, Features]]
    space: Space
    context: Context

    @classmethod
    def read(cls, small: DistilledSet, source: Source, space: Space, context: Context) -> "_Data":
        shared = tuple(m for m in small.modalities if m in source.modalities and m not in ("label", "mask"))
        if not shared:
            raise ConfigError(
                f"{small.name} holds {', '.join(small.modalities)} and {source.name} {', '.join(source.modalities)}; name the "
                "data that the set was made from"
            )
        place = {key: i for i, key in enumerate(source.keys)}
        origin = torch.tensor([place.get(key, -1) for key in small.origins], dtype=torch.long)
        held_out, known = _held_out(source), Space({m: space[m] for m in shared if m in space})
        features = [
            embed_source(data, known, runtime=context.runtime)
            for data in (small, source, *(other for other, _ in held_out))
        ]
        return cls(small, source, held_out, shared, origin, features, space, context)

    def notes(self) -> list[str]:
        """What cannot be said of these data."""
        said = []
        if not self.held_out:
            said.append(
                f"{self.source.name} has no split val or test to compare with, so only copies are called memorised"
            )
        if missing := int((self.origin < 0).sum()):
            said.append(f"{missing} of the {len(self.small)} samples started from none of {self.source.name}")
        return said


def _held_out(source: Source) -> list[tuple[Source, Tensor]]:
    """The other splits of `source`, and which of their samples take part."""
    splits = [source.split(name) for name in ("val", "test") if name in source.splits]
    splits = [split for split in splits if split.fingerprint != source.fingerprint]
    total = sum(map(len, splits))
    chosen, found, start = torch.randperm(total, generator=stream(0, "audit held out"))[:HELD_OUT].sort().values, [], 0
    for split in splits:
        found.append((split, chosen[(chosen >= start) & (chosen < start + len(split))] - start))
        start += len(split)
    return found


def _nearness(data: _Data) -> list[NearestNeighbours]:
    small, source, *others = data.features
    result = []
    for done, m in enumerate(data.modalities):
        data.context.runtime.report("neighbours", done, len(data.modalities))
        features = {"set": small[m], "source": source[m]} if m in small and m in source else {}
        holding = [(held, found) for held, found in zip(data.held_out, others, strict=True) if m in held[0].modalities]
        rest = [found[m] for _, found in holding] if features else []
        result += nearness(m, data.small, data.source, [held for held, _ in holding], data.origin, features, rest)
    data.context.runtime.report("neighbours", len(data.modalities), len(data.modalities))
    return result


def _attacked(data: _Data, student: str | Protocol, seeds: int, shadows: int) -> tuple[list[Leak], str, list[str]]:
    """Membership inference, how its students were trained, and where it was left out, why."""
    small, source, space, context = data.small, data.source, data.space, data.context
    protocol = student if isinstance(student, Protocol) else protocol_of(small, source, student)
    if protocol.student == "encoder":
        raise ConfigError("an audit attacks students on frozen features and networks; leave student=encoder out")
    leaks, given = [], None
    try:
        given = Given.read(protocol, small, source, space, context)
    except (ConfigError, DataError) as error:
        return [], "", [f"no membership inference: {error}"]
    if given is not None:
        bench = Bench(protocol, given.tested, _classes(data), given.judge, context)
        leaks = membership(given, data.origin[data.origin >= 0], bench, seeds, shadows)
    if given is None or not leaks:
        lacking = "two samples or more that the set started from, and two held-out ones"
        return [], "", [f"no membership inference: it needs {lacking}"]
    count = f"{seeds} students a row" + (f", {shadows} shadow students" if shadows else "")
    takes = ", which takes the splits val and test" if protocol.selection == "clean" else ""
    chosen = f"none of them chosen{takes}" if given.judge is None else "each chosen on val"
    carried = f" ({said})" if (said := protocol.training(small)) else ""
    told = f"{protocol.name}, {protocol.student} student of {' and '.join(given.tested)}{carried}; {count}, {chosen}"
    return leaks, told, []


def _classes(data: _Data) -> int:
    """How many classes set, data and held-out data have; 0 without labels."""
    labels = [one.labels for one in (data.small, data.source, *(other for other, _ in data.held_out))]
    return max(len(data.source.classes), *(0 if x is None or not len(x) else int(x.max()) + 1 for x in labels))


def _diversity(data: _Data) -> list[Diversity]:
    """Means over draws of as many real samples, and twice as many for what is compared with real ones."""
    result = []
    for m in data.modalities:
        if m not in data.features[0] or m not in data.features[1]:
            continue
        fake, real = (_first(found[m]) for found in data.features[:2])
        size = min(len(fake), len(real) // 2, MOST)
        if size < 2:
            continue
        k, found = min(NEIGHBOURS, size - 1), []
        for draw in range(DRAWS):
            mine = fake[torch.randperm(len(fake), generator=stream(draw, "audit diversity"))[:size]]
            order = torch.randperm(len(real), generator=stream(draw, "audit diversity of real"))
            one, two = real[order[:size]], real[order[size : 2 * size]]
            pairs = zip(density_and_coverage(one, mine, k), density_and_coverage(one, two, k), strict=True)
            found.append([vendi(mine), vendi(two), *(x for pair in pairs for x in pair)])
        result.append(Diversity(m, *torch.tensor(found, dtype=torch.double).mean(0).tolist()))
    return result


def _gap(data: _Data) -> dict[str, tuple[float, float]]:
    """The distances of the means of every two modalities whose vectors have one dimension."""
    means = [{m: f.vectors.mean(0) for m, f in found.items()} for found in data.features[:2]]
    return {
        f"{a}, {b}": (float((means[0][a] - means[0][b]).norm()), float((means[1][a] - means[1][b]).norm()))
        for a, b in combinations(means[0], 2)
        if means[0][a].shape == means[0][b].shape
    }


def _first(features: Features) -> Tensor:
    """One vector a sample: that of its first row."""
    first = features.first(int(features.owner.max()) + 1 if len(features.owner) else 0)
    return features.vectors[first[first >= 0]]


def _space(small: DistilledSet) -> Space:
    from limbeck.spaces.build import space

    if not small.recipe.space:
        raise ConfigError(
            f"{small.name} does not say which encoders it was made with; name them with --space.image and --space.text (in "
            "Python space=limbeck.space(image=..., text=...))"
        )
    small.refuse_strangers("encoder", small.recipe.space, "name the encoders yourself: --space.MODALITY")
    return space(**small.recipe.space)
