"""Classifiers of one modality or of several: what they read, how they are fused, and what they are trained with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.evaluation.metrics import accuracy
from limbeck.evaluation.protocol import Context
from limbeck.runtime.random import stream
from limbeck.students import (
    Candidate,
    PCAWhitener,
    Samples,
    Tower,
    Trainer,
    add_noise,
    backgrounds,
    best_student,
    chunk_of,
    composite,
    crop_flip,
    fit,
    last_student,
    siamese_augment,
    swappable,
    swapped,
)

if TYPE_CHECKING:
    from limbeck.evaluation.protocols.classification import Classification

__all__ = ["Labelled", "Training"]

DROPPED = 0.5  # the chance that a caption is dropped where it helps in training alone


@dataclass(frozen=True)
class Labelled(Samples):
    """What a student reads of some labelled samples, each of which holds every modality, one row a sample.

    Args:
        values: by modality, features or `uint8` pixels.
        labels: `int64 [n]`.
        rows: `int64 [n]`, which samples of their source they are.
        masks: of images, `uint8 [n, 1, R, R]`, where there are any.
        shares: `float [n, C]`, soft labels that a student is trained with in the place of `labels`, where there are any.
    """

    values: Mapping[str, Tensor]
    labels: Tensor
    rows: Tensor
    masks: Tensor | None = None
    shares: Tensor | None = None

    @property
    def complete(self) -> Tensor:
        """All of them."""
        return torch.ones(len(self), dtype=torch.bool)

    def take(self, index: Tensor) -> "Labelled":
        """Those at `index`."""
        values = {m: value[index] for m, value in self.values.items()}
        masks, shares = (None if x is None else x[index] for x in (self.masks, self.shares))
        return Labelled(values, self.labels[index], self.rows[index], masks, shares)

    @classmethod
    def join(cls, parts: Sequence["Labelled"]) -> "Labelled":
        """Several one after the other."""
        values = {m: torch.cat([part.values[m] for part in parts]) for m in parts[0].values}
        masks = [part.masks for part in parts if part.masks is not None]
        whole = torch.cat(masks) if len(masks) == len(parts) else None
        labels, rows = (torch.cat([getattr(part, name) for part in parts]) for name in ("labels", "rows"))
        width = max((part.shares.shape[1] for part in parts if part.shares is not None), default=0)
        shares = torch.cat([part.targets(width) for part in parts]) if width else None
        return cls(values, labels, rows, whole, shares)

    def targets(self, classes: int) -> Tensor:
        """What a student is trained with, `float [n, classes]`: soft labels, or hard ones as such."""
        if self.shares is None:
            return F.one_hot(self.labels, classes).float()
        return F.pad(self.shares, (0, classes - self.shares.shape[1]))

    def without(self, modality: str) -> "Labelled":
        """The same samples, of which one modality is not read."""
        return replace(self, values={m: value for m, value in self.values.items() if m != modality})


class Fusion(nn.Module):
    """A tower to logits for one modality; for several, the sum of towers is a layer on their concatenated inputs.

    Captions that are not given are the mean of those of training, which is zero.
    """

    def __init__(self, towers: Mapping[str, Tower], head: Tower | None, ridge: float) -> None:
        super().__init__()
        self.towers, self.head, self.ridge = nn.ModuleDict(towers), head, ridge

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        seen = dict(x)
        if "text" in self.towers and "text" not in x:
            some = next(iter(x.values()))
            seen["text"] = torch.zeros(len(some), cast(Tower, self.towers["text"]).inputs, device=some.device)
        total = torch.stack([tower(seen[m]) for m, tower in self.towers.items()]).sum(dim=0)
        return total if self.head is None else self.head(F.gelu(total))


class Training(Trainer[Labelled]):
    """What all students of one set share."""

    def __init__(
        self,
        protocol: "Classification",
        train: Labelled,
        classes: int,
        context: Context,
        pretrained: Callable[[float], nn.Module] | None = None,
        tested: tuple[str, ...] = (),
    ) -> None:
        self.protocol, self.train, self.classes, self.context = protocol, train, classes, context
        self.tested = tested or tuple(train.values)
        self.pretrained = pretrained
        self.of = {m: PCAWhitener.of(x, protocol.rank) for m, x in train.values.items() if x.dtype != torch.uint8}
        self.objects = None
        if protocol.background == "random" and train.masks is not None:
            self.objects = train.masks.to(context.device)

    def chosen(self, judge: Labelled | None, tick: Callable[[int], None] | None = None) -> nn.Module:
        """The student of all modalities that it is tested with: the joint one, where there are several."""
        return self.student(self.tested, judge, tick)

    def student(
        self,
        union: tuple[str, ...],
        judge: Labelled | None,
        tick: Callable[[int], None] | None = None,
        helped: bool = False,
    ) -> nn.Module:
        """The student of the modalities `union`, the best on `judge`; `helped` by captions in training alone."""
        points, candidate = self.protocol.grid, partial(self.candidate, union, judge=judge, helped=helped)
        candidates = (candidate(*point) for point in points)
        if judge is None:
            return last_student(next(candidates), tick)
        return best_student(candidates, tick, self.protocol.train_longer(candidate, points))

    def inputs(self, samples: Labelled, ridge: float) -> dict[str, Tensor]:
        """Features whitened as those of training; pixels as they are."""
        return {m: self.of[m].whiten(x, ridge) if m in self.of else x for m, x in samples.values.items()}

    def candidate(
        self,
        union: tuple[str, ...],
        ridge: float,
        noise: float,
        judge: Labelled | None,
        helped: bool = False,
        steps: int = 0,
    ) -> Candidate:
        """A student of the modalities `union`, its training, and how it is judged; `helped` by captions in training alone."""
        p, seed, device = self.protocol, self.context.seed, self.context.device
        linear, network = len(union) == 1 or not p.dim, self.pretrained(ridge) if self.pretrained else p.student
        width, gain = (self.classes, 0.1) if linear else (p.dim, 1.0)
        generator, towers = stream(seed, "student weights " + " ".join(union)), {}
        for m in union:
            draws = stream(seed, f"student weights {m}") if linear else generator  # the tower of the student of m alone
            if m in self.of:
                towers[m] = Tower(len(self.of[m].variance), width, draws, gain=gain)
            else:
                towers[m] = Tower(0, width, draws, network, p.resolution or 0, gain=gain)
        student = Fusion(towers, None if linear else Tower(width, self.classes, generator), ridge)
        inputs = {m: x.to(device) for m, x in self.inputs(self.train, ridge).items() if m in union}
        samples, loss = len(self.train.labels), partial(self.loss, student, inputs, noise, helped)
        pace = p.paced(samples)
        training = fit(student, loss, samples, replace(pace, steps=steps or pace.steps), seed, device)
        return student, training, lambda s: 0.0 if judge is None else accuracy(self.logits(s, judge), judge.labels)

    def loss(
        self, student: nn.Module, inputs: dict[str, Tensor], noise: float, helped: bool, index: Tensor, t: int
    ) -> Tensor:
        """Cross-entropy of the samples at `index` in step t, each seen through noise or augmentation."""
        generator = stream(self.context.seed, "student draws", t)
        x = {m: value[index.to(value.device)] for m, value in inputs.items()}
        seen = {m: add_noise(v, noise, len(self.of[m].mean), generator) if m in self.of else v for m, v in x.items()}
        if helped:
            kept = torch.rand(len(index), 1, generator=stream(self.context.seed, "student captions", t)) >= DROPPED
            seen["text"] = seen["text"] * kept.to(seen["text"])
        if "image" in seen and self.objects is not None:
            fresh = stream(self.context.seed, "student backgrounds", t)
            behind = backgrounds(len(index), seen["image"].shape[-1], fresh)
            objects = self.objects[index.to(self.objects.device)]
            seen["image"] = composite(seen["image"], objects, behind.to(objects.device))
        for m in (m for m in seen if m not in self.of):  # object and background move together
            if self.protocol.siamese and m == "image":
                seen[m] = siamese_augment(seen[m], generator)
            elif self.protocol.augment:
                seen[m] = crop_flip(seen[m], generator, mirror=m != "audio")
        logits = student(seen)
        labels = self.train.labels if self.train.shares is None else self.train.targets(self.classes)
        return F.cross_entropy(logits, labels[index].to(logits.device))

    def swaps(self, student: nn.Module, samples: Labelled, logits: Tensor) -> dict[str, float]:
        """`swapped accuracy` and `flip rate` in percent; nothing where no two samples have a background to swap.

        The backgrounds are the same whatever set is judged and with whatever seed.

        Args:
            student: of images alone.
            samples: the test data with their masks.
            logits: what the student says of them as they are.
        """
        assert samples.masks is not None
        rows = swappable(samples.masks)
        if len(rows) < 2:
            return {}
        images = swapped(samples.values["image"][rows], samples.masks[rows], stream(0, "swapped backgrounds"))
        labels = samples.labels[rows]
        found = self.logits(student, Labelled({"image": images}, labels, samples.rows[rows]))
        flipped = (found.argmax(dim=1) != logits[rows].argmax(dim=1)).double().mean()
        return {"swapped accuracy": accuracy(found, labels), "flip rate": 100.0 * float(flipped)}

    def answers(self, student: nn.Module, samples: Labelled) -> list[tuple[Tensor, Tensor]]:
        """The logits of the classes, and the labels."""
        return [(self.logits(student, samples), samples.labels)]

    @torch.no_grad()
    def logits(self, student: nn.Module, samples: Labelled) -> Tensor:
        """`float [n, classes]` of a student in eval mode, on the CPU."""
        assert isinstance(student, Fusion)
        inputs, device = self.inputs(samples, student.ridge), self.context.device
        student.eval()
        rows = torch.split(torch.arange(len(samples.labels)), min(map(chunk_of, inputs.values())))
        result = torch.cat([student({m: x[r].to(device) for m, x in inputs.items()}).cpu() for r in rows])
        student.train()
        return result
