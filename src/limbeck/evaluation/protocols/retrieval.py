"""Retrieval: a student with a tower a modality, trained on the set, finds images by captions, sounds by images, and so on."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core import DistilledSet, stream
from limbeck.data.captions import check_captions
from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation.metrics import retrieval
from limbeck.evaluation.protocol import Context, Protocol
from limbeck.evaluation.students import Components, Side, Tower, best_student, fit, noisy, shaken, side_of
from limbeck.objectives.contrastive import Loss, contrastive, cwcl, false_negatives, infonce
from limbeck.spaces import Features, Space

__all__ = ["Retrieval"]

USUAL = ("image", "text")  # what a set may carry a similarity of


@dataclass(frozen=True)
class Retrieval(Protocol):
    """A tower a modality, trained by symmetric InfoNCE of every two of them, or as the set asks to; hit rates on the test split.

        s_ij = <f(image_i), g(text_j)> / temperature,    loss = (CE(s, I) + CE(s^T, I)) / 2

    A tower is a head on the space's frozen features of its modality. That of images may be the encoder itself or a network, trained
    on pixels with light augmentation (`student`); so may be sound and depth, as grey images. Features are seen in the ridge-whitened
    principal components of the set that is judged, and Gaussian noise is added in training; without them a linear
    student on the full Flickr8k loses a third of its recall.

    An epoch takes each sample once, with one of its captions drawn anew, so that no two captions of one image meet as
    negatives in a batch. With more than two modalities the losses of all pairs are averaged, each over those of the batch that
    hold both; a sample of two modalities or more takes part.

    A distilled set may carry how it wants to be learned: a loss (a name of `limbeck.objectives.contrastive`) with its
    temperature and the similarity that it learned, and learning rates. The loss takes the place of InfoNCE, for every
    student of the grid; a similarity without a loss is read as soft targets (`cwcl`). The rates make one student more,
    trained without noise by SGD (momentum 0.9, weight decay 5e-4, a tenth of the rates from half of the steps on); it is
    chosen where it is the best on validation, as any other.

    Args:
        student, selection, ridge, noise, rank, steps, batch, rate, looks, longest, resolution, augment: see `Protocol`.
        head: `"linear"`, or `"mlp"` with one hidden layer of 512.
        dim: components of the joint space.
        temperature: of the softmax, where the set carries none.
        carried: train with what the set carries; off, every set is learned by InfoNCE at the protocol's temperature.
        mask_duplicates: pairs of a set that started from one real image are no negatives of each other.

    Example:
        >>> Retrieval().title
        'retrieval, frozen student'

    Paper: Radford et al., Learning transferable visual models from natural language supervision, ICML 2021 (the loss).
    """

    version = 2

    head: Literal["linear", "mlp"] = "linear"
    dim: int = 256
    temperature: float = 0.07
    carried: bool = True
    mask_duplicates: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head not in ("linear", "mlp"):
            raise ConfigError(f"head is 'linear' or 'mlp', got {self.head!r}")
        if self.temperature <= 0 or self.dim < 1:
            raise ConfigError(f"temperature and dim must be positive, got {self.temperature} and {self.dim}")

    def check(self, source: Source) -> None:
        """Two modalities are needed, and texts that differ."""
        if len(_found(source.modalities)) < 2:
            raise DataError(
                f"{source.name} holds {', '.join(source.modalities)}, so it cannot be judged by retrieval, which takes two "
                "modalities or more; judge labelled data with --protocol classification"
            )
        if "text" in source.modalities:
            check_captions(source)

    def run(self, small: Source, test: Source, space: Space, context: Context) -> dict[str, float]:
        """Hit rates in percent: `IR@1, IR@5, IR@10, TR@1, TR@5, TR@10` of images and texts, such as `image to audio R@1` of
        every other ordered pair, and the `mean` of all."""
        modalities = self._modalities(small, test, space)
        side = self.side(small) if self.trained(modalities) else 0
        pairs = self._read(small, modalities, space, context, side)
        samples = (pairs.held >= 2).nonzero().squeeze(1)
        if len(samples) < 2:
            named = "image-text" if modalities == USUAL else " or ".join(modalities)
            raise DataError(f"{small.name} has {len(samples)} {named} pairs; a retrieval student needs two or more")
        lesson = _Lesson.of(self, small, samples)
        train = _Training(self, pairs.take(samples), lesson, context, self.pretrained(small, space, context))
        judge = self.judge(test)
        held_out = self._read(judge, modalities, space, context, side)
        points: list[tuple[float, float, dict[str, float]]] = [(r, n, {}) for r, n in self.grid]
        if set(lesson.rates) == set(modalities):
            points.append((self.grid[0][0], 0.0, lesson.rates))
        tick = partial(context.say, "student", total=self.looks * (len(points) + len(self.longer)))
        candidate = partial(train.candidate, held_out=held_out)
        longer = self.train_longer(candidate, points)
        student = best_student((candidate(*point) for point in points), tick, longer)
        if judge.fingerprint != test.fingerprint:
            held_out = self._read(test, modalities, space, context, side)
        return train.score(student, held_out)

    def training(self, small: Source) -> str:
        """Loss, temperature, similarity and rates that the set carries, such as `"wbce, lowrank similarity"`."""
        if not self.carried or not isinstance(small, DistilledSet):
            return ""
        name, said = str(small.training.get("loss", "")), [str(small.training.get("loss", ""))]
        if (temperature := small.training.get("temperature", self.temperature)) != self.temperature:
            said.append(f"temperature {temperature}")
        if small.relation is not None and name != "infonce":
            said.append(f"{small.similarity.get('kind', 'soft')} similarity")
        if _rates(small):
            said.append("learned rates offered")
        return ", ".join(filter(None, said))

    def _modalities(self, small: Source, test: Source, space: Space) -> tuple[str, ...]:
        known = [m for m in _found(test.modalities) if m in space or self.trained([m])]
        shared = tuple(m for m in known if m in small.modalities)
        if len(shared) < 2:
            raise ConfigError(
                f"{small.name} and {test.name} share {' and '.join(shared) or 'no modality'} that the space encodes "
                f"({', '.join(space.modalities) or 'none'}), and retrieval takes two modalities or more; pass a space "
                f"with encoders for two of {', '.join(_found(small.modalities))}"
            )
        return shared

    def _read(self, source: Source, modalities: tuple[str, ...], space: Space, context: Context, side: int) -> "_Pairs":
        features = self.seen(source, modalities, space, context, side)
        every = torch.arange(len(source))
        return _Pairs(features, {m: side_of(features[m], every, len(source)) for m in modalities})


def _found(modalities: Iterable[str]) -> tuple[str, ...]:
    """What can be found and searched with, image and text first."""
    return tuple(sorted((m for m in modalities if m not in ("label", "mask")), key=lambda m: (m not in USUAL, m)))


@dataclass(frozen=True)
class _Pairs:
    """Features of each modality, and which of their rows each sample that takes part may draw from."""

    features: dict[str, Features]
    sides: dict[str, Side]

    @property
    def held(self) -> Tensor:
        """How many of the modalities each sample holds."""
        return torch.stack([side.count > 0 for side in self.sides.values()]).sum(0)

    def take(self, samples: Tensor) -> "_Pairs":
        return _Pairs(
            self.features, {m: Side(s.values, s.start[samples], s.count[samples]) for m, s in self.sides.items()}
        )


@dataclass(frozen=True)
class _Lesson:
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
    def of(cls, protocol: Retrieval, small: Source, samples: Tensor) -> "_Lesson":
        if not isinstance(small, DistilledSet):
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
        return cls(loss, temperature, similarity, origin, _rates(small))

    def __call__(self, vectors: Mapping[str, Tensor], here: Mapping[str, Tensor], index: Tensor) -> Tensor:
        """The mean loss of every two modalities.

        Args:
            vectors: modality to unit vectors `[B, D]`.
            here: modality to `bool [B]`, the rows that hold it.
            index: `int64 [B]`, the pairs that they are of.
        """
        losses = []
        for a, b in combinations(vectors, 2):
            rows = (here[a] & here[b]).nonzero().squeeze(1)
            if len(rows) > 1:
                losses.append(self.of_two(vectors[a][rows], vectors[b][rows], index[rows], (a, b) == USUAL))
        return torch.stack(losses).mean() if losses else torch.stack([v.sum() for v in vectors.values()]).sum() * 0.0

    def of_two(self, x: Tensor, y: Tensor, index: Tensor, carried: bool) -> Tensor:
        """The loss of unit vectors `[B, D]` of two modalities; what a set carries is of images and texts."""
        logits = x @ y.T / self.temperature
        target = None if self.similarity is None else self.similarity[index][:, index].to(logits.device)
        ignored = None if self.origin is None else false_negatives(self.origin[index]).to(logits.device)
        return self.loss(logits, target, ignored) if carried else infonce(logits, None, ignored)


class _Training:
    """Everything that the points of the grid share: components, lesson, streams."""

    def __init__(
        self,
        protocol: Retrieval,
        pairs: _Pairs,
        lesson: _Lesson,
        context: Context,
        pretrained: Callable[[float], nn.Module] | None,
    ) -> None:
        self.protocol, self.pairs, self.lesson, self.context = protocol, pairs, lesson, context
        self.pretrained = pretrained
        trained = protocol.trained(pairs.features)
        self.of = {m: Components.of(f.vectors, protocol.rank) for m, f in pairs.features.items() if m not in trained}

    def inputs(self, features: dict[str, Features], ridge: float) -> dict[str, Tensor]:
        return {m: self.of[m].whiten(f.vectors, ridge) if m in self.of else f.vectors for m, f in features.items()}

    def candidate(
        self, ridge: float, noise: float, rates: dict[str, float], held_out: _Pairs, steps: int = 0
    ) -> tuple[nn.Module, Iterator[int], Callable[[nn.Module], float]]:
        p, device = self.protocol, self.context.device
        inputs = {m: x.to(device) for m, x in self.inputs(self.pairs.features, ridge).items()}
        student = self.student(ridge)
        loss = partial(self.loss, student, inputs, noise)
        schedule = replace(p.schedule, steps=steps or p.schedule.steps)
        training = fit(student, loss, len(self.pairs.held), schedule, self.context.seed, device, rates)
        return student, training, lambda s: self.score(s, held_out)["mean"]

    def student(self, ridge: float) -> nn.ModuleDict:
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
        generator = stream(self.context.seed, "student draws", t)
        sides = self.pairs.sides
        drawn = {m: inputs[m][sides[m].draw(index, generator).to(inputs[m].device)] for m in inputs}
        for m in reversed(inputs):
            if m in self.of:
                drawn[m] = noisy(drawn[m], noise, len(self.of[m].mean), generator)
            elif self.protocol.augment:
                drawn[m] = shaken(drawn[m], generator, mirror=m != "audio")
        vectors = {m: F.normalize(student[m](x), dim=1) for m, x in drawn.items()}
        here = {m: sides[m].count[index] > 0 for m in inputs}
        return self.lesson(vectors, here, index)

    def score(self, student: nn.Module, held_out: _Pairs) -> dict[str, float]:
        assert isinstance(student, nn.ModuleDict)
        device = self.context.device
        inputs = self.inputs(held_out.features, float(student.ridge))  # type: ignore[arg-type]
        vectors = {m: F.normalize(student[m].encode(x, device), dim=1) for m, x in inputs.items()}  # type: ignore[operator]
        owner = {m: held_out.features[m].owner for m in vectors}
        rates: dict[str, float] = {}
        for a, b in combinations(vectors, 2):
            ways = ("IR", "TR") if (a, b) == USUAL else (f"{b} to {a} R", f"{a} to {b} R")
            found = retrieval(vectors[a], vectors[b], owner[a], owner[b], ways=ways)
            rates |= {name: rate for name, rate in found.items() if name != "mean"}
        return {**rates, "mean": sum(rates.values()) / len(rates)}


def _shares(small: DistilledSet, similarity: Tensor) -> Tensor:
    """A similarity as soft targets: nothing below zero, something positive for every image and text."""
    similarity = similarity.clamp(min=0)
    if bool((similarity.sum(dim=0) <= 0).any() or (similarity.sum(dim=1) <= 0).any()):
        raise DataError(
            f"{small.name}: its relation has a row or a column without a positive entry; nothing to learn there"
        )
    return similarity


def _rates(small: DistilledSet) -> dict[str, float]:
    rates = {tower: small.hints.get(f"rate_{tower}", 0.0) for tower in ("image", "text")}
    return rates if min(rates.values()) > 0 else {}
