"""`evaluate()`: one path that judges a distilled set, a random subset and the full data."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from limbeck import registry
from limbeck.core import load
from limbeck.data.source import Source
from limbeck.errors import ConfigError
from limbeck.evaluation.filesize import file_bytes
from limbeck.evaluation.protocol import Context, Protocol
from limbeck.evaluation.score import Score
from limbeck.evaluation.unseen import Maker, Spec, home_name, open_unseen, refuse_seen, refuse_unread
from limbeck.runtime.cache import Cache
from limbeck.runtime.progress import ProgressCallback
from limbeck.runtime.runtime import Runtime
from limbeck.spaces import Space

__all__ = ["evaluate", "open_protocol", "refuse_leaks", "student_seeds", "test_split"]

Judged = Source | str | Path


def evaluate(
    small: Judged | Sequence[Judged],
    on: Source,
    protocol: str | Protocol = "retrieval",
    space: Space | None = None,
    seeds: int | Sequence[int] | None = None,
    name: str | None = None,
    cache: Cache | None = None,
    device: str | None = None,
    tick: ProgressCallback | None = None,
    unseen: Sequence[Spec] = (),
    runtime: Runtime | None = None,
    **options: Any,
) -> list[Score]:
    """Trains a student a seed on `small` and tests it on held-out data.

    With `unseen` it is judged anew with each of those encoders in the place of the space's own: what does the set teach a network
    that it was not made with? Encoders of texts stay, and so do the texts that a set learned.

    Args:
        small: a distilled set, any source (a subset, the full training data), or the folder of a saved set. Several of
            them, one a distillation seed, are judged as one row: set i by student seed i.
        on: the evaluation data. Where it has a split `test`, that is used whichever split is given, else `on` itself.
        protocol: a name of `limbeck list protocols`, or a protocol with its options.
        space: frozen encoders; by default those that the set was distilled with.
        seeds: student seeds, or how many (0, 1, ...). By default 3, or one a set where several sets are given.
        name: of the row; by default the set's.
        cache, device, tick, runtime: a `Runtime`, or one by one its cache, device and progress (`tick`); not both.
        unseen: encoders to judge with as well: names of image encoders, `"MODALITY:NAME"` of others, mappings of a name and options,
            or encoders.
        options: of the protocol, by name.

    Returns:
        one `Score` a metric, with the space as it is and then with each encoder of `unseen`. Their method is what made the set;
            for real data `"full"` where it is the training split that the test split belongs to, else `"subset"`.

    Raises:
        ConfigError: an option that the protocol does not have, seeds that do not fit the sets, a set without a space,
            a set that was made from the data it would be tested on, or an unseen encoder that took part in making all the sets.
        DataError: data that lacks what the protocol needs.

    Example:
        >>> import limbeck as lb
        >>> train = lb.check.toy_source()
        >>> scores = evaluate(train, train, "classification", lb.space(image="convnet"), seeds=1)
        >>> [score.metric for score in scores]
        ['accuracy']
    """
    runtime = Runtime.of(runtime, device=device, cache=cache, tick=tick)
    sets = [_open(s) for s in ([small] if isinstance(small, Source | str | Path) else small)]
    numbers = student_seeds(seeds, len(sets))
    judge = open_protocol(protocol, options)
    test = test_split(on)
    refuse_leaks(sets, test, judge)
    for source in sets:
        judge.check_set(source)
    for source in (*sets, judge.judge(test), test):
        judge.check(source)
    home = space if space is not None else _space(sets)
    others = open_unseen(unseen, home)
    refuse_unread(others, [judge])
    makers = [Maker.of(s) for s in sets]
    refuse_seen(others, makers)
    size = round(sum(file_bytes(s) for s in sets) / len(sets))
    common = {"name": name if name is not None else sets[0].name, "bytes": size}
    contexts = [Context(seed, runtime) for seed in numbers]
    scores = _scores(sets, test, judge, home, contexts, {**common, "encoder": home_name(home, judge)})
    first = scores[0].fingerprint
    for other in others:
        seen = any(maker is not None and maker.used(other.encoder) for maker in makers)
        told = {**common, "encoder": other.name, "home": first, "took_part": seen}
        scores += _scores(sets, test, judge, other.within(home), contexts, told)
    return scores


def _scores(
    sets: Sequence[Source],
    test: Source,
    judge: Protocol,
    space: Space,
    contexts: Sequence[Context],
    told: Mapping[str, Any],
) -> list[Score]:
    """One `Score` a metric of sets that were checked; `told` is what a row says of them beyond that."""
    start, device, first = time.perf_counter(), contexts[0].device, sets[0]
    _reset_peak(device)
    results = [judge.run(sets[i % len(sets)], test, space, context) for i, context in enumerate(contexts)]
    seconds, peak = time.perf_counter() - start, _peak_bytes(device)
    if first.recipe is None:
        made = "full" if _is_full(first, test) else "subset"
    else:
        made = str(first.recipe.method.get("name", "unknown"))
    return [
        Score.of(
            [result[metric] for result in results],
            method=made,
            pairs=first.pairs,
            protocol=judge.title,
            fingerprint=judge.fingerprint(test, space),
            metric=metric,
            higher_is_better=judge.rises(metric),
            seconds=seconds,
            peak_bytes=peak,
            seeds=[context.seed for context in contexts],
            training=judge.training(first),
            **told,
        )
        for metric in results[0]
    ]


def _open(small: Judged) -> Source:
    return small if isinstance(small, Source) else load(small)


def test_split(on: Source) -> Source:
    """The split that is tested on: `test` where `on` has one, else `on` itself."""
    return on.split("test") if "test" in on.splits else on


def student_seeds(seeds: int | Sequence[int] | None, sets: int) -> tuple[int, ...]:
    """The student seeds: as given, 0 to n - 1, or by default 3, or one a set."""
    if seeds is None:
        seeds = sets if sets > 1 else 3
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not sets or not numbers:
        raise ConfigError(f"an evaluation needs a set and a seed or more, got {sets} sets and {len(numbers)} seeds")
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"the seeds {list(numbers)} repeat themselves; the spread would be too small")
    if sets not in (1, len(numbers)):
        raise ConfigError(f"{sets} sets need {sets} seeds (set i is judged with seed i), got {len(numbers)}")
    return numbers


def open_protocol(protocol: str | Protocol, options: dict[str, Any]) -> Protocol:
    """The protocol of that name with these options."""
    if isinstance(protocol, Protocol):
        if options:
            raise ConfigError(f"give options to the protocol itself, not beside it: {', '.join(options)}")
        return protocol
    found = registry.get("protocol", protocol)
    known = [f.name for f in fields(found)]
    if wrong := sorted(set(options) - set(known)):
        raise ConfigError(
            f"the protocol {protocol!r} has no option {', '.join(wrong)}; its options: {', '.join(known)}"
        )
    return found(**options)  # type: ignore[no-any-return]


def refuse_leaks(sets: Sequence[Source], test: Source, protocol: Protocol) -> None:
    """Refuses sets that are, or were made from, held-out data: by content, and by name and split.

    The name tells where the content cannot: the test split at another resolution has another fingerprint.

    Args:
        sets: what would be judged.
        test: the test split.
        protocol: says which split students are chosen on.

    Raises:
        ConfigError: one of the sets leaks.
        DataError: the protocol finds no split to choose students on.
    """
    held_out = {"validation": protocol.judge(test), "test": test}
    if held_out["validation"].fingerprint == test.fingerprint:
        del held_out["validation"]
    for small in sets:
        recipe = small.recipe
        contents = (small.fingerprint, recipe.fingerprints.get("source") if recipe else None)
        origin = _origin(recipe.source if recipe else small.describe())
        for split, data in held_out.items():
            if data.fingerprint in contents or (origin is not None and origin == _origin(data.describe())):
                raise ConfigError(
                    f"{small.name} holds, or was made from, the {split} split that it would be judged on; use the "
                    "training split, or other evaluation data"
                )


def _origin(described: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """Name and split of a description; `None` where it does not say both."""
    name, split = described.get("name"), described.get("split")
    return (name, split) if name and split else None


def _is_full(small: Source, test: Source) -> bool:
    """Whether `small` is the training split that `test` belongs to, at whatever resolution."""
    if "train" not in test.splits:
        return False
    train = test.split("train")
    mine, whole = ({**s.describe(), "resolution": None} for s in (small, train))
    return (mine == whole and _origin(mine) is not None) or small.fingerprint == train.fingerprint


def _space(sets: Sequence[Source]) -> Space:
    from limbeck.spaces.build import space

    for small in sets:
        if small.recipe is not None and small.recipe.space:
            small.refuse_strangers("encoder", small.recipe.space, "name the encoders yourself: --space.MODALITY")
            return space(**small.recipe.space)
    raise ConfigError(
        f"{sets[0].name} does not say which encoders to use; name them with --space.image and --space.text (in Python "
        "space=limbeck.space(image=..., text=...))"
    )


def _reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def _peak_bytes(device: str) -> int:
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
