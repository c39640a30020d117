"""Membership inference: whether a student tells which real samples the set that it learned was made from."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core import stream
from limbeck.data.source import Source
from limbeck.errors import ConfigError
from limbeck.evaluation.audit.attack import class_confidence, lira, pair_confidence, rates
from limbeck.evaluation.audit.result import Leak
from limbeck.evaluation.protocol import Context, Protocol
from limbeck.evaluation.protocols.classification import Classification
from limbeck.evaluation.protocols.retrieval import Retrieval
from limbeck.evaluation.students import Components, Tower, fit, noisy, shaken
from limbeck.objectives.contrastive import infonce
from limbeck.spaces import Features, Space

__all__ = ["Samples", "membership", "protocol_of", "read_samples", "readable"]

SHADOWS = 10_000  # the seeds of shadow students begin here, far from those of the targets


@dataclass(frozen=True)
class Samples:
    """What students see of some samples, one row a sample.

    Args:
        values: modality to features `float [n, D]` or pixels `uint8 [n, C, R, R]`.
        labels: `int64 [n]`, or `None` for data without.
        rows: `int64 [n]`, which samples of their source they are.
    """

    values: Mapping[str, Tensor]
    labels: Tensor | None
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: Tensor) -> "Samples":
        """Those at `index`."""
        labels = None if self.labels is None else self.labels[index]
        return Samples({m: x[index] for m, x in self.values.items()}, labels, self.rows[index])

    @classmethod
    def join(cls, parts: Sequence["Samples"]) -> "Samples":
        """Several one after the other; `rows` stay what they were."""
        labels = None if parts[0].labels is None else torch.cat([p.labels for p in parts if p.labels is not None])
        values = {m: torch.cat([p.values[m] for p in parts]) for m in parts[0].values}
        return cls(values, labels, torch.cat([p.rows for p in parts]))


def protocol_of(small: Source, source: Source, student: str = "frozen") -> Protocol:
    """By what the students of an audit are trained: classification where there are labels, else retrieval; nothing is chosen.

    Args:
        small: the set.
        source: the data.
        student: `"frozen"`, or a network of `limbeck.networks`.

    Raises:
        ConfigError: the encoder as a student, which is not attacked.
    """
    if student == "encoder":
        raise ConfigError("an audit attacks students on frozen features and networks; leave student=encoder out")
    labelled = small.labels is not None and source.labels is not None and len(source.labels.unique()) > 1
    return (Classification if labelled else Retrieval)(student=student, noise=(1.0,))


def readable(protocol: Protocol, small: Source, source: Source, space: Space) -> tuple[str, ...]:
    """The modalities that the students see; none where no student can be trained on them.

    Args:
        protocol: how they are trained.
        small, source: the set and the data.
        space: of the frozen features.
    """
    known = [m for m in source.modalities if m in small.modalities and m not in ("label", "mask")]
    seen = tuple(m for m in known if m in space or protocol.trained([m]))
    return seen if len(seen) > isinstance(protocol, Retrieval) else ()


def read_samples(
    protocol: Protocol, source: Source, modalities: tuple[str, ...], space: Space, context: Context, side: int
) -> Samples:
    """All samples that hold every modality (and a label, where there are any); captions are averaged to one vector.

    Args:
        protocol: says which modalities are seen as pixels.
        source: whose samples.
        modalities: what is seen.
        space: of the frozen features.
        context: cache and device.
        side: pixels a side of what is trained on pixels.
    """
    found = protocol.seen(source, modalities, space, context, side)
    labels = source.labels if isinstance(protocol, Classification) else None
    full = torch.ones(len(source), dtype=torch.bool) if labels is None else labels >= 0
    for features in found.values():
        full = full & (features.counts(len(source)) > 0)
    rows = full.nonzero().squeeze(1)
    values = {
        m: (f.vectors[f.first(len(source))] if m in protocol.trained([m]) else _mean(f, len(source)))
        for m, f in found.items()
    }
    return Samples({m: x[rows] for m, x in values.items()}, None if labels is None else labels[rows], rows)


def membership(
    small: Samples,
    real: Samples,
    held_out: Samples,
    origin: Tensor,
    protocol: Protocol,
    context: Context,
    seeds: int,
    shadows: int,
) -> list[Leak]:
    """Attacks on a student of the set, and for reference on students of real data.

    Members are the real samples that the set started from, the others as many held-out samples. Every student is asked for its
    confidence in each of them: of the class, or in data without labels that the own partner is the right one among all.

    Shadow students learn random halves of members and others, *real* ones: an attacker who distils a set for each shadow would know
    more, so that for a set that was learned the numbers are a lower bound.

    Args:
        small: the set.
        real: the training data.
        held_out: samples that neither the set nor its choice has seen.
        origin: `int64`, the training samples that the set started from.
        protocol: how students are trained.
        context: device, and who wants to hear of progress.
        seeds: students a target.
        shadows: an even number: a half and the other half; 0 for the loss attack alone.

    Returns:
        one a target and attack; none where there are fewer than two members or others.
    """
    members = torch.isin(real.rows, origin).nonzero().squeeze(1)
    count = min(len(members), len(held_out))
    if count < 2:
        return []
    others = held_out.take(torch.randperm(len(held_out), generator=stream(0, "audit others"))[:count])
    pool = Samples.join([real.take(members), others])
    rest = (~torch.isin(real.rows, origin)).nonzero().squeeze(1)
    bench = _Bench(protocol, _classes([small, real, pool]), context)
    asked = _asked(small, real, members, rest, seeds)
    total, done = sum(map(len, asked.values())) + shadows, 0
    found: dict[str, list[Tensor]] = {}
    for name, sets in asked.items():
        for seed, train in enumerate(sets):
            found.setdefault(name, []).append(bench.ask(train, pool, seed))
            done += 1
            context.say("students", done, total)
    seen, inside = [], []
    for i, half in enumerate(_halves(len(pool), shadows)):
        seen.append(bench.ask(pool.take(half.nonzero().squeeze(1)), pool, SHADOWS + i))
        inside.append(half)
        done += 1
        context.say("students", done, total)
    fitted = (torch.stack(seen), torch.stack(inside)) if shadows else None
    return [leak for name, phi in found.items() for leak in _leaks(name, torch.stack(phi), fitted, len(members))]


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


def _classes(found: Sequence[Samples]) -> int:
    """How many classes the labels name; 0 without labels."""
    return max(0 if samples.labels is None else int(samples.labels.max()) + 1 for samples in found)


def _mean(features: Features, samples: int) -> Tensor:
    """The mean direction of each sample's rows."""
    total = torch.zeros(samples, features.vectors.shape[1]).index_add_(0, features.owner, features.vectors)
    return F.normalize(total, dim=1)


@dataclass(frozen=True)
class _Bench:
    """How all students of an audit are trained and asked.

    Args:
        protocol: options of the training; the first point of its grid counts.
        classes: how many; 0 for students of pairs.
        context: device.
    """

    protocol: Protocol
    classes: int
    context: Context

    def ask(self, train: Samples, pool: Samples, seed: int) -> Tensor:
        """The confidences of a student of `train` in the samples of `pool`: `float [n]`."""
        p, (ridge, noise) = self.protocol, self.protocol.grid[0]
        pixels = p.trained(train.values)
        of = {m: Components.of(x, p.rank) for m, x in train.values.items() if m not in pixels}
        if not all(len(components.variance) for components in of.values()):  # nothing differs, so nothing is learned
            return torch.zeros(len(pool))

        def inputs(samples: Samples) -> dict[str, Tensor]:
            return {m: of[m].whiten(x, ridge) if m in of else x for m, x in samples.values.items()}

        student = self.student({m: len(of[m].variance) if m in of else 0 for m in train.values}, seed)
        values = {m: x.to(self.context.device) for m, x in inputs(train).items()}
        noises = {m: (noise, len(components.mean)) for m, components in of.items()}
        loss = partial(self.loss, student, values, train.labels, noises, seed)
        for _ in fit(student, loss, len(train), p.schedule, seed, self.context.device):
            pass
        return self.confidence(student, inputs(pool), pool.labels)

    def student(self, widths: Mapping[str, int], seed: int) -> nn.ModuleDict:
        """A tower a modality, on features of these widths, or on pixels where it is 0."""
        p, generator = self.protocol, stream(seed, "student weights")
        outputs = self.classes or (p.dim if isinstance(p, Retrieval) else 0)
        return nn.ModuleDict(
            {
                m: Tower(width, outputs, generator)
                if width
                else Tower(0, outputs, generator, p.student, p.resolution or 0)
                for m, width in widths.items()
            }
        )

    def loss(
        self,
        student: nn.ModuleDict,
        values: Mapping[str, Tensor],
        labels: Tensor | None,
        noises: Mapping[str, tuple[float, int]],
        seed: int,
        index: Tensor,
        t: int,
    ) -> Tensor:
        """Cross-entropy of the summed towers, or InfoNCE of every two modalities."""
        generator, outputs = stream(seed, "student draws", t), {}
        for m, value in values.items():
            x = value[index.to(value.device)]
            if m in noises:
                x = noisy(x, *noises[m], generator)
            elif self.protocol.augment:
                x = shaken(x, generator, mirror=m != "audio")
            outputs[m] = student[m](x)
        if labels is not None:
            logits = torch.stack(list(outputs.values())).sum(0)
            return F.cross_entropy(logits, labels[index].to(logits.device))
        return torch.stack([infonce(x, None, None) for x in self.similarities(outputs)]).mean()

    @torch.no_grad()
    def confidence(self, student: nn.ModuleDict, inputs: Mapping[str, Tensor], labels: Tensor | None) -> Tensor:
        """Logit-scaled confidences in every sample, the mean of every two modalities."""
        encode: Callable[[str], Tensor] = lambda m: student[m].encode(inputs[m], self.context.device)  # type: ignore[operator]
        outputs = {m: encode(m) for m in inputs}
        if labels is not None:
            return class_confidence(torch.stack(list(outputs.values())).sum(0), labels)
        return torch.stack([pair_confidence(x) for x in self.similarities(outputs)]).mean(0)

    def similarities(self, outputs: Mapping[str, Tensor]) -> list[Tensor]:
        """The logits `[B, B]` of every two modalities."""
        assert isinstance(self.protocol, Retrieval)
        unit = [F.normalize(x, dim=1) for x in outputs.values()]
        return [a @ b.T / self.protocol.temperature for a, b in combinations(unit, 2)]
