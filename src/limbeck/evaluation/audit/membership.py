"""Membership inference: whether a student tells which real samples the set that it learned was made from."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from limbeck.data.source import Source
from limbeck.evaluation.audit.attack import confidence, lira, rates
from limbeck.evaluation.audit.result import Leak
from limbeck.evaluation.protocol import Context, Protocol
from limbeck.evaluation.protocols.classification import Classification
from limbeck.evaluation.protocols.retrieval import Retrieval
from limbeck.runtime.random import stream
from limbeck.spaces import Space
from limbeck.students import Samples

__all__ = ["Bench", "Given", "membership", "protocol_of"]

SHADOWS = 10_000  # the seeds of shadow students begin here, far from those of the targets


def protocol_of(small: Source, source: Source, student: str = "frozen") -> Protocol:
    """By what the students of an audit are trained: classification where there are labels, else retrieval.

    Args:
        small: the set.
        source: the data.
        student: `"frozen"`, or a network of `limbeck.networks`.
    """
    labelled = small.labels is not None and source.labels is not None and len(source.labels.unique()) > 1
    return (Classification if labelled else Retrieval)(student=student)


@dataclass(frozen=True)
class Bench:
    """Where students are trained, chosen and asked: those that `evaluate` would judge.

    Args:
        protocol: trains them.
        tested: the modalities that a student is asked with.
        classes: how many the data have; 0 without labels.
        judge: validation data to choose each student on; without them nothing is chosen.
        context: device and progress; every student has a seed of its own.
    """

    protocol: Protocol
    tested: tuple[str, ...]
    classes: int
    judge: Samples | None
    context: Context

    def ask(self, train: Samples, pool: Samples, seed: int) -> Tensor:
        """The confidences of a student of `train` in the samples of `pool`: `float [n]`, the mean over all ways to ask."""
        trainer = self.protocol.trainer(train, self.tested, self.classes, replace(self.context, seed=seed))
        answers = trainer.answers(trainer.chosen(self.judge), pool)
        return torch.stack([confidence(logits, right) for logits, right in answers]).mean(0)


@dataclass(frozen=True)
class Given:
    """What an audit knows of a set, as its students read it.

    Args:
        small: the set.
        real: training samples that hold every modality.
        others: held-out ones, which neither the set nor the choice of a student has seen.
        judge: see `Bench`.
        tested: modalities.
    """

    small: Samples
    real: Samples
    others: Samples
    judge: Samples | None
    tested: tuple[str, ...]

    @classmethod
    def read(cls, protocol: Protocol, small: Source, source: Source, space: Space, context: Context) -> "Given | None":
        """Of a set and the training data; `None` where no other split is there.

        Students are chosen on `val` where there is a `test` beside it, and then the others are of `test` alone.

        Raises:
            ConfigError: no student can be trained on what they share.
            DataError: set or data lack what a student reads.
        """
        protocol.check(source)
        modalities, tested = protocol.modalities(small, source, space)
        side = protocol.side(small) if protocol.trained(modalities) else 0
        splits = {name: source.split(name) for name in ("val", "test") if name in source.splits}
        splits = {name: split for name, split in splits.items() if split.fingerprint != source.fingerprint}
        if not splits:
            return None

        def read(one: Source, seen: tuple[str, ...]) -> Samples:
            protocol.check(one)
            return protocol.read(one, seen, space, context, side)

        chosen = protocol.selection == "clean" and len(splits) == 2
        judge = read(splits.pop("val"), tested) if chosen else None
        parts = [_complete(read(source, modalities)), *(_complete(read(one, modalities)) for one in splits.values())]
        others = type(parts[1]).join(parts[1:])
        return cls(read(small, modalities), parts[0], others, judge, tested)


def membership(given: Given, origin: Tensor, bench: Bench, seeds: int, shadows: int) -> list[Leak]:
    """Attacks on a student of the set, and for reference on students of real data.

    Members are the real samples that the set started from, the others as many held-out samples. Every student is asked for its
    confidence in each of them: of the class, or in data without labels that the own partner is the right one among all.

    Shadow students learn random halves of members and others, *real* ones: an attacker who distils a set for each shadow would know
    more, so that for a set that was learned the numbers are a lower bound.

    Args:
        given: set, training data and others.
        origin: `int64`, the training samples that the set started from.
        bench: trains students.
        seeds: students a target.
        shadows: an even number: a half and the other half; 0 for the loss attack alone.

    Returns:
        one a target and attack; none where there are fewer than two members or others.
    """
    real, context = given.real, bench.context
    inside = torch.isin(real.rows, origin)
    members, rest = inside.nonzero().squeeze(1), (~inside).nonzero().squeeze(1)
    count = min(len(members), len(given.others))
    if count < 2 or len(given.small) < 2:
        return []
    others = given.others.take(torch.randperm(len(given.others), generator=stream(0, "audit others"))[:count])
    pool = type(real).join([real.take(members), others])
    asked = _asked(given.small, real, members, rest, seeds)
    total, done = sum(map(len, asked.values())) + shadows, 0
    found: dict[str, list[Tensor]] = {}
    for name, sets in asked.items():
        for seed, train in enumerate(sets):
            found.setdefault(name, []).append(bench.ask(train, pool, seed))
            done += 1
            context.runtime.report("students", done, total)
    seen, halves = [], []
    for i, half in enumerate(_halves(len(pool), shadows)):
        seen.append(bench.ask(pool.take(half.nonzero().squeeze(1)), pool, SHADOWS + i))
        halves.append(half)
        done += 1
        context.runtime.report("students", done, total)
    fitted = (torch.stack(seen), torch.stack(halves)) if shadows else None
    return [leak for name, phi in found.items() for leak in _leaks(name, torch.stack(phi), fitted, len(members))]


def _complete(samples: Samples) -> Samples:
    """Those that hold every modality, alone."""
    return samples.take(samples.complete.nonzero().squeeze(1))


def _asked(small: Samples, real: Samples, members: Tensor, rest: Tensor, seeds: int) -> dict[str, list[Samples]]:
    """Target to the training samples of each of its students."""
    asked = {"the set": [small] * seeds, "its origins": [real.take(members)] * seeds}
    draws = [
        torch.randperm(len(rest), generator=stream(seed, "audit control"))[: len(members)] for seed in range(seeds)
    ]
    if len(rest) >= len(members):
        asked["other samples"] = [real.take(rest[draw]) for draw in draws]
    return {**asked, "all data": [real] * seeds}


def _halves(samples: int, shadows: int) -> Iterator[Tensor]:
    """Random halves, each followed by the other half: `bool [samples]`, so that every sample is in half of them."""
    for i in range(shadows // 2):
        order = torch.randperm(samples, generator=stream(i, "audit halves"))
        half = torch.zeros(samples, dtype=torch.bool)
        half[order[: samples // 2]] = True
        yield half
        yield ~half


def _leaks(name: str, phi: Tensor, fitted: tuple[Tensor, Tensor] | None, members: int) -> list[Leak]:
    """Every attack on the students of one target, whose confidences are `[seeds, n]`, members first."""
    scores = {"loss": phi}
    if fitted is not None:
        both = [lira(one, *fitted) for one in phi]
        scores |= {"LiRA": torch.stack([b[0] for b in both]), "LiRA offline": torch.stack([b[1] for b in both])}
    found = []
    for attack, score in scores.items():
        area, caught = rates(score[:, :members], score[:, members:], stream(0, f"audit bootstrap {attack}"))
        found.append(Leak(name, attack, area, caught))
    return found
