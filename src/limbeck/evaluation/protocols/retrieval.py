"""Image-text retrieval: a two-tower student, trained on the set, finds images by captions and captions by images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
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
from limbeck.evaluation.students import Components, Side, Tower, best_student, fit, noisy, pixels, shaken, side_of
from limbeck.objectives.contrastive import Loss, contrastive, cwcl, false_negatives, infonce
from limbeck.spaces import Features, Space, embed_source

__all__ = ["Retrieval"]


@dataclass(frozen=True)
class Retrieval(Protocol):
    """Two towers trained by symmetric InfoNCE, or as the set asks to; hit rates on the test split.

        s_ij = <f(image_i), g(text_j)> / temperature,    loss = (CE(s, I) + CE(s^T, I)) / 2

    The text tower is a head on the space's frozen text features. The image tower is a head on its frozen image
    features, or the encoder itself or a network, trained on pixels with light augmentation (`student`). Features are seen in the ridge-whitened
    principal components of the set that is judged, and Gaussian noise is added in training; without them a linear
    student on the full Flickr8k loses a third of its recall.

    An epoch takes each sample once, with one of its captions drawn anew, so that no two captions of one image meet as
    negatives in a batch.

    A distilled set may carry how it wants to be learned: a loss (a name of `limbeck.objectives.contrastive`) with its
    temperature and the similarity that it learned, and learning rates. The loss takes the place of InfoNCE, for every
    student of the grid; a similarity without a loss is read as soft targets (`cwcl`). The rates make one student more,
    trained without noise by SGD (momentum 0.9, weight decay 5e-4, a tenth of the rates from half of the steps on); it is
    chosen where it is the best on validation, as any other.

    Args:
        student, selection, ridge, noise, rank, steps, batch, rate, looks, resolution, augment: see `Protocol`.
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

    version = 1

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
        """Images and texts are needed, and texts that differ."""
        for modality in ("image", "text"):
            if modality not in source.modalities:
                raise DataError(
                    f"{source.name} has no {modality}, so it cannot be judged by retrieval; "
                    f"it holds {', '.join(source.modalities)}"
                )
        check_captions(source)

    def run(self, small: Source, test: Source, space: Space, context: Context) -> dict[str, float]:
        """Hit rates in percent: `IR@1, IR@5, IR@10, TR@1, TR@5, TR@10, mean`."""
        side = self.side(small)
        pairs = self._read(small, space, context, side)
        samples = ((pairs.image.count > 0) & (pairs.text.count > 0)).nonzero().squeeze(1)
        if len(samples) < 2:
            raise DataError(f"{small.name} has {len(samples)} image-text pairs; a retrieval student needs two or more")
        lesson = _Lesson.of(self, small, samples)
        train = _Training(self, pairs.take(samples), lesson, context, self.pretrained(small, space, context))
        judge = self.judge(test)
        held_out = self._read(judge, space, context, side)
        points: list[tuple[float, float, dict[str, float]]] = [(r, n, {}) for r, n in self.grid]
        if lesson.rates:
            points.append((self.grid[0][0], 0.0, lesson.rates))
        tick = partial(context.say, "student", total=self.looks * len(points))
        student = best_student((train.candidate(*point, held_out) for point in points), tick)
        if judge.fingerprint != test.fingerprint:
            held_out = self._read(test, space, context, side)
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
            said.append("learned rates")
        return ", ".join(filter(None, said))

    def _read(self, source: Source, space: Space, context: Context, side: int) -> "_Pairs":
        needed = Space({m: space[m] for m in (("image", "text") if self.frozen else ("text",))})
        features = embed_source(source, needed, context.cache, device=context.device, tick=context.tick)
        if not self.frozen:
            features["image"] = Features(pixels(source, side, context.cache), torch.arange(len(source)))
        every = torch.arange(len(source))
        return _Pairs(features, *(side_of(features[m], every, len(source)) for m in ("image", "text")))


@dataclass(frozen=True)
class _Pairs:
    features: dict[str, Features]
    image: Side
    text: Side

    def take(self, samples: Tensor) -> "_Pairs":
        image, text = (Side(s.values, s.start[samples], s.count[samples]) for s in (self.image, self.text))
        return _Pairs(self.features, image, text)


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

    def __call__(self, image: Tensor, text: Tensor, index: Tensor) -> Tensor:
        """The loss of unit vectors `[B, D]` of the pairs at `index`."""
        logits = image @ text.T / self.temperature
        target = None if self.similarity is None else self.similarity[index][:, index].to(logits.device)
        ignored = None if self.origin is None else false_negatives(self.origin[index]).to(logits.device)
        return self.loss(logits, target, ignored)


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
        self.of_text = Components.of(pairs.features["text"].vectors, protocol.rank)
        self.of_image = Components.of(pairs.features["image"].vectors, protocol.rank) if protocol.frozen else None

    def inputs(self, features: dict[str, Features], ridge: float) -> tuple[Tensor, Tensor]:
        image = features["image"].vectors
        return (
            image if self.of_image is None else self.of_image.whiten(image, ridge),
            self.of_text.whiten(features["text"].vectors, ridge),
        )

    def candidate(
        self, ridge: float, noise: float, rates: dict[str, float], held_out: _Pairs
    ) -> tuple[nn.Module, Iterator[int], Callable[[nn.Module], float]]:
        p, device = self.protocol, self.context.device
        image, text = self.inputs(self.pairs.features, ridge)
        student = self.student(ridge)
        loss = partial(self.loss, student, (image.to(device), text.to(device)), noise)
        training = fit(student, loss, len(self.pairs.image.start), p.schedule, self.context.seed, device, rates)
        return student, training, lambda s: self.score(s, held_out)["mean"]

    def student(self, ridge: float) -> nn.ModuleDict:
        p, generator = self.protocol, stream(self.context.seed, "student weights")
        hidden = 512 if p.head == "mlp" else 0
        network = self.pretrained(ridge) if self.pretrained else None if p.frozen else p.student
        width = 0 if self.of_image is None else len(self.of_image.variance)
        towers = {
            "image": Tower(width, p.dim, generator, network, p.resolution or 0, hidden),
            "text": Tower(len(self.of_text.variance), p.dim, generator, hidden=hidden),
        }
        student = nn.ModuleDict(towers)
        student.register_buffer("ridge", torch.tensor(ridge))
        return student

    def loss(
        self, student: nn.ModuleDict, inputs: tuple[Tensor, Tensor], noise: float, index: Tensor, t: int
    ) -> Tensor:
        generator = stream(self.context.seed, "student draws", t)
        x, y = (
            values[side.draw(index, generator).to(values.device)]
            for values, side in zip(inputs, (self.pairs.image, self.pairs.text), strict=True)
        )
        y = noisy(y, noise, len(self.of_text.mean), generator)
        if self.of_image is not None:
            x = noisy(x, noise, len(self.of_image.mean), generator)
        elif self.protocol.augment:
            x = shaken(x, generator)
        image, text = F.normalize(student["image"](x), dim=1), F.normalize(student["text"](y), dim=1)
        return self.lesson(image, text, index)

    def score(self, student: nn.Module, held_out: _Pairs) -> dict[str, float]:
        assert isinstance(student, nn.ModuleDict)
        image, text = self.inputs(held_out.features, float(student.ridge))  # type: ignore[arg-type]
        device = self.context.device
        return retrieval(
            F.normalize(student["image"].encode(image, device), dim=1),  # type: ignore[operator]
            F.normalize(student["text"].encode(text, device), dim=1),  # type: ignore[operator]
            held_out.features["image"].owner,
            held_out.features["text"].owner,
        )


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
