"""Image-text retrieval: a two-tower student, trained on the set, finds images by captions and captions by images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core import DistilledSet, stream
from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation.metrics import retrieval
from limbeck.evaluation.protocol import Context, Protocol
from limbeck.evaluation.students import (
    Components,
    Side,
    Tower,
    best_student,
    fit,
    noisy,
    pixels,
    shaken,
    side_of,
    soft_cross_entropy,
)
from limbeck.spaces import Features, Space, embed_source

__all__ = ["Retrieval"]


@dataclass(frozen=True)
class Retrieval(Protocol):
    """Two towers trained by symmetric InfoNCE, hit rates on the test split.

        s_ij = <f(image_i), g(text_j)> / temperature
        loss = (CE(s, Y) + CE(s^T, Y^T)) / 2,    Y = identity, or the rows of the set's relation brought to sum one

    The text tower is a head on the space's frozen text features. The image tower is a head on its frozen image
    features, or a network that is trained on pixels with light augmentation (`student`). Features are seen in the ridge-whitened
    principal components of the set that is judged, and Gaussian noise is added in training; without them a linear
    student on the full Flickr8k loses a third of its recall.

    An epoch takes each sample once, with one of its captions drawn anew, so that no two captions of one image meet as
    negatives in a batch.

    Args:
        student, selection, ridge, noise, rank, steps, batch, rate, looks, resolution: see `Protocol`.
        head: `"linear"`, or `"mlp"` with one hidden layer of 512.
        dim: components of the joint space.
        temperature: of the softmax.

    Example:
        >>> Retrieval().title
        'retrieval, frozen student'

    Paper: Radford et al., Learning transferable visual models from natural language supervision, ICML 2021 (the loss).
    """

    version = 1

    head: Literal["linear", "mlp"] = "linear"
    dim: int = 256
    temperature: float = 0.07

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head not in ("linear", "mlp"):
            raise ConfigError(f"head is 'linear' or 'mlp', got {self.head!r}")
        if self.temperature <= 0 or self.dim < 1:
            raise ConfigError(f"temperature and dim must be positive, got {self.temperature} and {self.dim}")

    def run(self, small: Source, test: Source, space: Space, context: Context) -> dict[str, float]:
        """Hit rates in percent: `IR@1, IR@5, IR@10, TR@1, TR@5, TR@10, mean`."""
        pairs = self._read(small, space, context)
        samples = ((pairs.image.count > 0) & (pairs.text.count > 0)).nonzero().squeeze(1)
        if len(samples) < 2:
            raise DataError(f"{small.name} has {len(samples)} image-text pairs; a retrieval student needs two or more")
        train = _Training(self, pairs.take(samples), _relation(small, samples), context)
        judge = self.judge(test)
        held_out = self._read(judge, space, context)
        tick = partial(context.say, "student", total=self.looks * len(self.grid))
        student = best_student((train.candidate(r, n, held_out) for r, n in self.grid), tick)
        if judge.fingerprint != test.fingerprint:
            held_out = self._read(test, space, context)
        return train.score(student, held_out)

    def _read(self, source: Source, space: Space, context: Context) -> "_Pairs":
        for modality in ("image", "text"):
            if modality not in source.modalities:
                raise DataError(
                    f"{source.name} has no {modality}, so it cannot be judged by retrieval; "
                    f"it holds {', '.join(source.modalities)}"
                )
        needed = Space({m: space[m] for m in (("image", "text") if self.frozen else ("text",))})
        features = embed_source(source, needed, context.cache, device=context.device, tick=context.tick)
        if not self.frozen:
            features["image"] = Features(pixels(source, self.resolution, context.cache), torch.arange(len(source)))
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


class _Training:
    """Everything that the points of the grid share: components, relation, streams."""

    def __init__(self, protocol: Retrieval, pairs: _Pairs, relation: Tensor | None, context: Context) -> None:
        self.protocol, self.pairs, self.relation, self.context = protocol, pairs, relation, context
        self.of_text = Components.of(pairs.features["text"].vectors, protocol.rank)
        self.of_image = Components.of(pairs.features["image"].vectors, protocol.rank) if protocol.frozen else None

    def inputs(self, features: dict[str, Features], ridge: float) -> tuple[Tensor, Tensor]:
        image = features["image"].vectors
        return (
            image if self.of_image is None else self.of_image.whiten(image, ridge),
            self.of_text.whiten(features["text"].vectors, ridge),
        )

    def candidate(
        self, ridge: float, noise: float, held_out: _Pairs
    ) -> tuple[nn.Module, Iterator[int], Callable[[nn.Module], float]]:
        p, device = self.protocol, self.context.device
        image, text = self.inputs(self.pairs.features, ridge)
        student = self.student(ridge)
        loss = partial(self.loss, student, (image.to(device), text.to(device)), noise)
        training = fit(student, loss, len(self.pairs.image.start), p.schedule, self.context.seed, device)
        return student, training, lambda s: self.score(s, held_out)["mean"]

    def student(self, ridge: float) -> nn.ModuleDict:
        p, generator = self.protocol, stream(self.context.seed, "student weights")
        hidden = 512 if p.head == "mlp" else 0
        network = None if p.frozen else p.student
        width = 0 if self.of_image is None else len(self.of_image.variance)
        towers = {
            "image": Tower(width, p.dim, generator, network, p.resolution, hidden),
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
        x = shaken(x, generator) if self.of_image is None else noisy(x, noise, len(self.of_image.mean), generator)
        image, text = F.normalize(student["image"](x), dim=1), F.normalize(student["text"](y), dim=1)
        logits = image @ text.T / self.protocol.temperature
        target = torch.eye(len(index)) if self.relation is None else self.relation[index][:, index]
        target = target.to(logits.device)
        rows, columns = (r / r.sum(dim=1, keepdim=True).clamp(min=1e-6) for r in (target, target.T))
        return (soft_cross_entropy(logits, rows) + soft_cross_entropy(logits.T, columns)) / 2

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


def _relation(small: Source, samples: Tensor) -> Tensor | None:
    if not isinstance(small, DistilledSet) or "relation" not in small.tensors:
        return None
    relation = small.tensors["relation"][samples][:, samples].clamp(min=0)
    if bool((relation.sum(dim=0) <= 0).any() or (relation.sum(dim=1) <= 0).any()):
        raise DataError(
            f"{small.name}: its relation has a row or a column without a positive entry; nothing to learn there"
        )
    return relation
