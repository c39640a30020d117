"""Students of pairs: a tower a modality; what they read, what they are taught, and what is asked of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.data.pairs import PairIndex
from limbeck.data.source import Source
from limbeck.errors import DataError
from limbeck.evaluation.metrics import retrieval
from limbeck.evaluation.protocol import Context
from limbeck.objectives.contrastive import Loss, contrastive, cwcl, false_negatives, infonce
from limbeck.runtime.random import stream
from limbeck.spaces import Features
from limbeck.students import (
    Candidate,
    PCAWhitener,
    Samples,
    Tower,
    Trainer,
    add_noise,
    best_student,
    crop_flip,
    fit,
    last_student,
)

if TYPE_CHECKING:
    from limbeck.evaluation.protocols.retrieval import Retrieval

__all__ = ["USUAL", "Pairs", "StudentObjective", "Training", "learned_rates"]

USUAL = ("image", "text")  # what a set may carry a similarity of


@dataclass(frozen=True)
class Pairs(Samples):
    """Samples of several modalities, which rows of the features are theirs, and how they are to be learned.

    Args:
        features: by modality.
        index: which rows of `features` belong to each sample.
        lesson: what a student is taught of them.
    """

    features: dict[str, Features]
    index: PairIndex
    objective: "StudentObjective"

    @property
    def rows(self) -> Tensor:  # type: ignore[override]
        """Which samples of their source they are, `int64 [n]`."""
        return self.index.sample

    @property
    def complete(self) -> Tensor:
        """Those that hold every modality."""
        return self.index.complete

    def take(self, index: Tensor) -> "Pairs":
        """Those at `index` and their own features, without what the source has beside them."""
        chosen, features = self.index.take(index), {}
        for m in chosen.counts:
            rows, owner = chosen.all_rows(m)
            features[m] = Features(self.features[m].vectors[rows], owner)
        return Pairs._of(features, chosen.sample, self.objective.take(index))

    @classmethod
    def join(cls, parts: Sequence["Pairs"]) -> "Pairs":
        """Several, each made by `take`, one after the other, learned as the first asks."""
        starts = torch.tensor([0, *(len(part) for part in parts[:-1])]).cumsum(0).tolist()
        features = {
            m: Features(
                torch.cat([part.features[m].vectors for part in parts]),
                torch.cat([part.features[m].owner + start for part, start in zip(parts, starts, strict=True)]),
            )
            for m in parts[0].features
        }
        return cls._of(features, torch.cat([part.rows for part in parts]), parts[0].objective)

    @classmethod
    def _of(cls, features: dict[str, Features], sample: Tensor, objective: "StudentObjective") -> "Pairs":
        index = PairIndex.of({m: f.owner for m, f in features.items()}, len(sample))
        return cls(features, replace(index, sample=sample), objective)


@dataclass(frozen=True)
class StudentObjective:
    """What a student is taught: a loss at a temperature, the labels of all pairs, and who is no negative of whom.

    Args:
        loss: of logits, labels and ignored entries.
        temperature: of the logits.
        similarity: labels `float [n, n]`; `None` for the identity.
        origin: `int64 [n]`, equal where pairs are no negatives of each other; `None` where all are.
        rates: tower to learned learning rate; empty where the set has none.
    """

    loss: Loss
    temperature: float
    similarity: Tensor | None
    origin: Tensor | None
    rates: dict[str, float]

    @classmethod
    def of(cls, protocol: "Retrieval", small: Source, samples: Tensor) -> "StudentObjective":
        """What a set asks to be learned by; plain InfoNCE for real data.

        Args:
            protocol: says whether what is carried counts, and what else is used.
            small: a set, or real data.
            samples: `int64 [n]`, which of its samples take part.
        """
        if small.recipe is None:
            return cls(infonce, protocol.temperature, None, None, {})
        first = {key: i for i, key in reversed(list(enumerate(small.origins)))}
        origin = torch.tensor([first[key] for key in small.origins])[samples] if protocol.mask_duplicates else None
        if not protocol.carried:
            return cls(infonce, protocol.temperature, None, origin, {})
        temperature = float(small.training.get("temperature", protocol.temperature))
        similarity = None if small.relation is None else small.relation[samples][:, samples]
        if "loss" in small.training:
            loss = contrastive(str(small.training["loss"]))
        elif similarity is None:
            loss = infonce
        else:
            loss, similarity = cwcl, _shares(small, similarity)
        return cls(loss, temperature, similarity, origin, learned_rates(small))

    def take(self, index: Tensor) -> "StudentObjective":
        """That of the pairs at `index`."""
        similarity = None if self.similarity is None else self.similarity[index][:, index]
        return replace(self, similarity=similarity, origin=None if self.origin is None else self.origin[index])

    def __call__(self, vectors: Mapping[str, Tensor], here: Mapping[str, Tensor], index: Tensor) -> Tensor:
        """The mean loss of every two modalities.

        Args:
            vectors: modality to unit vectors `[B, D]`.
            here: modality to `bool [B]`, the rows that hold it.
            index: `int64 [B]`, the pairs that they are of.
        """
        losses = []
        for a, b in combinations(vectors, 2):
            both, carried = here[a] & here[b], (a, b) == USUAL
            if bool(both.all()) and len(both) > 1:  # picking all rows would cost more than the loss itself
                losses.append(self.of_two(vectors[a], vectors[b], index, carried))
            elif len(rows := both.nonzero().squeeze(1)) > 1:
                losses.append(self.of_two(vectors[a][rows], vectors[b][rows], index[rows], carried))
        return torch.stack(losses).mean() if losses else torch.stack([v.sum() for v in vectors.values()]).sum() * 0.0

    def of_two(self, x: Tensor, y: Tensor, index: Tensor, carried: bool) -> Tensor:
        """The loss of unit vectors `[B, D]` of two modalities; what a set carries is of images and texts."""
        logits = x @ y.T / self.temperature
        target = None if self.similarity is None else self.similarity[index][:, index].to(logits.device)
        ignored = None if self.origin is None else false_negatives(self.origin[index]).to(logits.device)
        return self.loss(logits, target, ignored) if carried else infonce(logits, None, ignored)


class Training(Trainer[Pairs]):
    """Everything that the points of the grid share: components, lesson, streams."""

    def __init__(
        self,
        protocol: "Retrieval",
        pairs: Pairs,
        context: Context,
        pretrained: Callable[[float], nn.Module] | None = None,
    ) -> None:
        self.protocol, self.pairs, self.objective, self.context = protocol, pairs, pairs.objective, context
        self.pretrained = pretrained
        trained = protocol.trained(pairs.features)
        self.of = {m: PCAWhitener.of(f.vectors, protocol.rank) for m, f in pairs.features.items() if m not in trained}

    @property
    def points(self) -> list[tuple[float, float, dict[str, float]]]:
        """Every ridge, noise and learned rates that a student is trained with."""
        points: list[tuple[float, float, dict[str, float]]] = [(r, n, {}) for r, n in self.protocol.grid]
        if set(self.objective.rates) == set(self.pairs.features):
            points.append((self.protocol.grid[0][0], 0.0, self.objective.rates))
        return points

    def chosen(self, judge: Pairs | None, tick: Callable[[int], None] | None = None) -> nn.Module:
        """The student that finds the most among `judge`."""
        points, candidate = self.points, partial(self.candidate, held_out=judge)
        candidates = (candidate(*point) for point in points)
        if judge is None:
            return last_student(next(candidates), tick)
        return best_student(candidates, tick, self.protocol.train_longer(candidate, points))

    def inputs(self, features: dict[str, Features], ridge: float) -> dict[str, Tensor]:
        """Features whitened as those of training; pixels as they are."""
        return {m: self.of[m].whiten(f.vectors, ridge) if m in self.of else f.vectors for m, f in features.items()}

    def candidate(
        self, ridge: float, noise: float, rates: dict[str, float], held_out: Pairs | None, steps: int = 0
    ) -> Candidate:
        """A student of one point of the grid, its training, and how it is judged."""
        p, device = self.protocol, self.context.device
        inputs = {m: x.to(device) for m, x in self.inputs(self.pairs.features, ridge).items()}
        student = self.student(ridge)
        loss = partial(self.loss, student, inputs, noise)
        schedule = replace(p.schedule, steps=steps or p.schedule.steps)
        training = fit(student, loss, len(self.pairs), schedule, self.context.seed, device, rates)
        return student, training, lambda s: 0.0 if held_out is None else self.score(s, held_out)["mean"]

    def student(self, ridge: float) -> nn.ModuleDict:
        """New towers, with the weights that the seed draws."""
        p, generator = self.protocol, stream(self.context.seed, "student weights")
        hidden = 512 if p.head == "mlp" else 0
        towers = {}
        for m in self.pairs.features:
            if m in self.of:
                towers[m] = Tower(len(self.of[m].variance), p.dim, generator, hidden=hidden)
            else:
                network = self.pretrained(ridge) if self.pretrained else p.student
                towers[m] = Tower(0, p.dim, generator, network, p.resolution or 0, hidden)
        student = nn.ModuleDict(towers)
        student.register_buffer("ridge", torch.tensor(ridge))
        return student

    def loss(self, student: nn.ModuleDict, inputs: dict[str, Tensor], noise: float, index: Tensor, t: int) -> Tensor:
        """What is taught of the samples at `index` in step t, each seen through noise or augmentation."""
        generator = stream(self.context.seed, "student draws", t)
        rows = self.pairs.index
        drawn = {m: inputs[m][rows.draw_one(m, index, generator).to(inputs[m].device)] for m in inputs}
        for m in reversed(inputs):
            if m in self.of:
                drawn[m] = add_noise(drawn[m], noise, len(self.of[m].mean), generator)
            elif self.protocol.augment:
                drawn[m] = crop_flip(drawn[m], generator, mirror=m != "audio")
        vectors = {m: F.normalize(student[m](x), dim=1) for m, x in drawn.items()}
        here = {m: rows.counts[m][index] > 0 for m in inputs}
        return self.objective(vectors, here, index)

    def vectors(self, student: nn.Module, pairs: Pairs) -> dict[str, Tensor]:
        """Unit vectors of every row of the features, on the CPU."""
        assert isinstance(student, nn.ModuleDict)
        device = self.context.device
        inputs = self.inputs(pairs.features, float(student.ridge))  # type: ignore[arg-type]
        return {m: F.normalize(student[m].encode(x, device), dim=1) for m, x in inputs.items()}  # type: ignore[operator]

    def answers(self, student: nn.Module, samples: Pairs) -> list[tuple[Tensor, Tensor]]:
        """Of every two modalities, both ways: which sample does this one belong to? Several captions are one mean direction."""
        vectors = self.vectors(student, samples)
        means = [Features(x, samples.features[m].owner).directions(len(samples)) for m, x in vectors.items()]
        logits = [a @ b.T / self.objective.temperature for a, b in combinations(means, 2)]
        own = torch.arange(len(samples))
        return [(way, own) for both in logits for way in (both, both.T)]

    def score(self, student: nn.Module, held_out: Pairs) -> dict[str, float]:
        """Hit rates, see `Retrieval.run`."""
        vectors = self.vectors(student, held_out)
        owner = {m: held_out.features[m].owner for m in vectors}
        rates: dict[str, float] = {}
        for a, b in combinations(vectors, 2):
            ways = ("IR", "TR") if (a, b) == USUAL else (f"{b} to {a} R", f"{a} to {b} R")
            found = retrieval(vectors[a], vectors[b], owner[a], owner[b], ways=ways)
            rates |= {name: rate for name, rate in found.items() if name != "mean"}
        return {**rates, "mean": sum(rates.values()) / len(rates)}


def _shares(small: Source, similarity: Tensor) -> Tensor:
    """A similarity as soft targets: nothing below zero, something positive for every image and text."""
    similarity = similarity.clamp(min=0)
    if bool((similarity.sum(dim=0) <= 0).any() or (similarity.sum(dim=1) <= 0).any()):
        raise DataError(
            f"{small.name}: its relation has a row or a column without a positive entry; nothing to learn there"
        )
    return similarity


def learned_rates(small: Source) -> dict[str, float]:
    """Tower to the learning rate that a set carries for it; empty where it has none."""
    rates = {tower: small.hints.get(f"rate_{tower}", 0.0) for tower in ("image", "text")}
    return rates if min(rates.values()) > 0 else {}
