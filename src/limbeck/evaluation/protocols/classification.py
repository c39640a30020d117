"""Classification: how well students trained on the set tell the classes of the test split apart."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core import stream
from limbeck.data.cache import Cache
from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation.metrics import accuracy
from limbeck.evaluation.protocol import Context, Protocol, Selection
from limbeck.evaluation.students import (
    Components,
    Schedule,
    Tower,
    backgrounds,
    best_student,
    chunk_of,
    composite,
    distorted,
    fit,
    masks,
    noisy,
    shaken,
    swappable,
    swapped,
)
from limbeck.spaces import Features, Space

__all__ = ["Classification"]


@dataclass(frozen=True)
class Classification(Protocol):
    """Accuracy in percent of classifiers trained on the set.

    Each modality gets a linear head on its frozen features; images, sound and depth get a trained network with light augmentation
    instead where `student` names one, images the encoder itself where it says so. With several modalities two ways of fusion are reported beside the single ones:

        late    p = mean_m softmax(W_m x_m)                      heads trained apart: blind to which values are paired
        joint   p = softmax(V gelu(sum_m W_m x_m))               one hidden layer on the concatenated features

    A sample takes part if it is labelled and holds every modality that set, data and space share. The several captions
    of a sample are averaged to one vector.

    The standard protocol of the distillation literature is `selection="last"`: a network from random weights, trained by SGD (rate
    0.01, momentum 0.9, weight decay 5e-4, a tenth of the rate from half of the steps on) for 300 epochs, or 1000 with `siamese`, in
    batches of 256, and tested as it is at the end. Seeds are its several networks.

    Where the test data have masks, a student on pixels is also tested on images whose background was swapped, each object on the
    background of another test image: `swapped accuracy`, and `flip rate`, the percent of predictions that the swap changes
    (lower is better). Only samples whose mask leaves a background take part in these two.

    Args:
        student, selection, ridge, noise, rank, steps, batch, rate, looks, resolution, augment: see `Protocol`. With `"last"`
            there is one look, at the end, and one ridge and one noise.
        dim: units of the hidden layer of the joint head.
        optimizer: `"adamw"` with a cosine, or `"sgd"` as above; `None` is sgd for a network that is tested at the end, else adamw.
        epochs: passes over the set, in batches of equal size, in the place of `steps`, so that larger sets get more compute;
            `None` is 300 with sgd, 1000 with sgd and `siamese`, and none where `steps` are given.
        siamese: images of what is trained on pixels are seen through an operation of Siamese augmentation (colour, crop, cutout,
            flip, rotate, scale; one a step, with parameters for each image) in the place of mirror and shift.
        background: `"random"` puts the object of each training image, as its mask says, on a fresh random background at every
            step: one colour, smooth noise or white noise. An image without a mask stays as it is. `"keep"` changes nothing.

    Raises:
        ConfigError: a value that cannot work, or an option of pixels for a student on frozen features.

    Example:
        >>> Classification(student="convnet").title
        'classification, convnet student'
        >>> Classification(student="convnet", selection="last").title
        'classification, convnet student, last of 300 epochs, SGD'

    Paper: the standard protocol: Zhao, Mopuri and Bilen, Dataset condensation with gradient matching, ICLR 2021; with `siamese`:
    Zhao and Bilen, Dataset condensation with differentiable Siamese augmentation, ICML 2021.
    """

    version = 1
    selections: ClassVar[tuple[Selection, ...]] = ("clean", "paper", "last")

    dim: int = 64
    optimizer: Literal["adamw", "sgd"] | None = None
    epochs: int | None = None
    siamese: bool = False
    background: Literal["keep", "random"] = "keep"

    def __post_init__(self) -> None:
        if self.epochs is not None and self.steps is not None:
            raise ConfigError(f"give steps or epochs, not both; got steps={self.steps} and epochs={self.epochs}")
        if self.background not in ("keep", "random"):
            raise ConfigError(f"background is 'keep' or 'random', got {self.background!r}")
        if self.frozen and (self.siamese or self.background == "random"):
            option = "siamese=True" if self.siamese else "background='random'"
            raise ConfigError(
                f"{option} changes pixels, and the frozen student reads features; choose a student on pixels with "
                "--protocol.student convnet, or with --students in compare (in Python student='convnet')"
            )
        if self.selection == "last":
            object.__setattr__(self, "looks", 1)
        super().__post_init__()
        if self.selection == "last" and len(self.grid) > 1:
            raise ConfigError(
                "selection 'last' chooses nothing, so it takes one ridge and one noise; got "
                f"ridge={self.ridge}, noise={self.noise}"
            )

    def defaults(self) -> dict[str, Any]:
        """As of every protocol, but for students that are tested at the end, SGD, and epochs."""
        usual, last = super().defaults(), self.selection == "last"
        if last:
            usual["noise"] = (1.0,)
        network = self.student not in ("frozen", "encoder")
        usual["optimizer"] = "sgd" if last and network else "adamw"
        if (self.optimizer or usual["optimizer"]) == "sgd":
            usual |= {"batch": 256, "rate": 1e-2}
            if self.steps is None:
                usual["epochs"] = 1000 if self.siamese else 300
        if self.epochs is not None or "epochs" in usual:
            del usual["steps"]
        return usual

    @property
    def schedule(self) -> Schedule:
        """How a student is trained on a set of one batch."""
        steps = self.steps if self.epochs is None else self.epochs
        assert steps is not None and self.batch is not None and self.rate is not None and self.optimizer is not None
        return Schedule(steps, self.batch, self.rate, looks=self.looks, optimizer=self.optimizer)

    def paced(self, samples: int) -> Schedule:
        """How a student is trained on a set of so many samples: where epochs are counted, in batches of equal size."""
        schedule = self.schedule
        if self.epochs is None:
            return schedule
        batch = max(2, samples // ceil(samples / schedule.batch))
        return replace(schedule, steps=self.epochs * max(1, samples // batch), batch=batch)

    @property
    def title(self) -> str:
        """How it is named in a table; what differs from the usual training is said."""
        said = [super().title]
        length = f"{self.steps} steps" if self.epochs is None else f"{self.epochs} epochs"
        if self.selection == "last" or self.epochs is not None:
            said.append(f"last of {length}" if self.selection == "last" else length)
        said += ["SGD"] if self.optimizer == "sgd" else []
        said += ["Siamese augmentation"] if self.siamese else []
        said += ["random backgrounds"] if self.background == "random" else []
        return ", ".join(said)

    def rises(self, metric: str) -> bool:
        """All metrics but the flip rate."""
        return not metric.endswith("flip rate")

    def check(self, source: Source) -> None:
        """Labels are needed."""
        if source.labels is None:
            raise DataError(
                f"{source.name} has no labels, so it cannot be judged by classification; judge it by retrieval"
            )

    def check_set(self, small: Source) -> None:
        """Masks are needed to put objects on other backgrounds."""
        if self.background == "random" and "mask" not in small.modalities:
            raise ConfigError(
                f"{small.name} has no masks, and background='random' puts the object of each mask on another background; "
                "make the set from data with masks, or judge with --protocol.background keep (in Python background='keep')"
            )

    def decode(self, source: Source, modalities: Iterable[str], side: int, cache: Cache) -> None:
        """Pixels, and the masks of images."""
        super().decode(source, modalities, side, cache)
        if "image" in self.trained(modalities):
            masks(source, side, cache)

    def run(self, small: Source, test: Source, space: Space, context: Context) -> dict[str, float]:
        """`accuracy` for one modality; else `joint accuracy`, `late accuracy` and one a modality. Of images with masks also
        `swapped accuracy` and `flip rate`."""
        if small.classes and test.classes and small.classes != test.classes:
            raise DataError(
                f"{small.name} has the classes {small.classes}, {test.name} has {test.classes}; they must be the same"
            )
        modalities = self._modalities(small, test, space)
        side = self.side(small) if self.trained(modalities) else 0
        train = self._read(small, modalities, space, context, side)
        judge = None if self.selection == "last" else self._read(self.judge(test), modalities, space, context, side)
        pretrained = self.pretrained(small, space, context) if "image" in modalities else None
        fitting = _Training(self, train, max(len(test.classes), int(train.labels.max()) + 1), context, pretrained)
        unions = [(m,) for m in modalities] + ([modalities] if len(modalities) > 1 else [])
        students = {}
        for i, union in enumerate(unions):
            tick = partial(self._tell, context, i, len(unions))
            students[union] = best_student((fitting.candidate(union, r, n, judge) for r, n in self.grid), tick)
        held_out = self._read(test, modalities, space, context, side)
        logits = {union: fitting.logits(student, held_out) for union, student in students.items()}
        result = {" ".join(union): accuracy(x, held_out.labels) for union, x in logits.items()}
        swaps: dict[str, float] = {}
        if ("image",) in students and held_out.masks is not None:
            swaps = fitting.swaps(students["image",], held_out, logits["image",])
        if len(modalities) == 1:
            return {"accuracy": result[modalities[0]], **swaps}
        late = sum((logits[(m,)].softmax(dim=1) for m in modalities), torch.zeros(())) / len(modalities)
        fused = {"joint accuracy": result[" ".join(modalities)], "late accuracy": accuracy(late, held_out.labels)}
        alone = {f"{m} accuracy": result[m] for m in modalities}
        return {**fused, **alone, **{f"image {metric}": value for metric, value in swaps.items()}}

    def _tell(self, context: Context, i: int, parts: int, done: int) -> None:
        looks = self.looks * len(self.grid)
        context.say("student", i * looks + done, parts * looks)

    def _modalities(self, small: Source, test: Source, space: Space) -> tuple[str, ...]:
        known = [m for m in test.modalities if m in space or self.trained([m])]
        shared = tuple(m for m in known if m in small.modalities)
        if not shared:
            raise ConfigError(
                f"{small.name} and {test.name} share no modality that the space encodes "
                f"({', '.join(space.modalities) or 'none'}); pass a space with an encoder for one of "
                f"{', '.join(small.modalities)}"
            )
        return shared

    def _read(
        self, source: Source, modalities: tuple[str, ...], space: Space, context: Context, side: int
    ) -> "_Samples":
        labels = source.labels
        assert labels is not None  # see `check`
        seen, trained = self.seen(source, modalities, space, context, side), self.trained(modalities)
        full = labels >= 0
        for found in seen.values():
            full = full & (found.counts(len(source)) > 0)
        index = full.nonzero().squeeze(1)
        if len(index) == 0:
            raise DataError(f"{source.name}: no sample has a label and all of {', '.join(modalities)}")
        values = {
            m: (found.vectors[found.first(len(source))] if m in trained else _averaged(found, len(source)))[index]
            for m, found in seen.items()
        }
        objects = masks(source, side, context.cache) if "image" in trained else None
        return _Samples(values, labels[index], None if objects is None else objects[index])


@dataclass(frozen=True)
class _Samples:
    values: Mapping[str, Tensor]
    labels: Tensor
    masks: Tensor | None = None


class _Fusion(nn.Module):
    """A tower to logits for one modality; for several, the sum of towers is a layer on their concatenated inputs."""

    def __init__(self, towers: Mapping[str, Tower], head: Tower | None, ridge: float) -> None:
        super().__init__()
        self.towers, self.head, self.ridge = nn.ModuleDict(towers), head, ridge

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        total = torch.stack([tower(x[m]) for m, tower in self.towers.items()]).sum(dim=0)
        return total if self.head is None else self.head(F.gelu(total))


class _Training:
    """What all students of one set share."""

    def __init__(
        self,
        protocol: Classification,
        train: _Samples,
        classes: int,
        context: Context,
        pretrained: Callable[[float], nn.Module] | None,
    ) -> None:
        self.protocol, self.train, self.classes, self.context = protocol, train, classes, context
        self.pretrained = pretrained
        self.of = {m: Components.of(x, protocol.rank) for m, x in train.values.items() if x.dtype != torch.uint8}
        self.objects = None
        if protocol.background == "random" and train.masks is not None:
            self.objects = train.masks.to(context.device)

    def inputs(self, samples: _Samples, ridge: float) -> dict[str, Tensor]:
        return {m: self.of[m].whiten(x, ridge) if m in self.of else x for m, x in samples.values.items()}

    def candidate(
        self, union: tuple[str, ...], ridge: float, noise: float, judge: _Samples | None
    ) -> tuple[nn.Module, Iterator[int], Callable[[nn.Module], float]]:
        p, seed, device = self.protocol, self.context.seed, self.context.device
        generator = stream(seed, "student weights " + " ".join(union))
        single, network = len(union) == 1, self.pretrained(ridge) if self.pretrained else p.student
        width, gain = (self.classes, 0.1) if single else (p.dim, 1.0)
        towers = {
            m: Tower(len(self.of[m].variance), width, generator, gain=gain)
            if m in self.of
            else Tower(0, width, generator, network, p.resolution or 0, gain=gain)
            for m in union
        }
        student = _Fusion(towers, None if single else Tower(width, self.classes, generator), ridge)
        inputs = {m: x.to(device) for m, x in self.inputs(self.train, ridge).items() if m in union}
        samples = len(self.train.labels)
        training = fit(student, partial(self.loss, student, inputs, noise), samples, p.paced(samples), seed, device)
        return student, training, lambda s: 0.0 if judge is None else accuracy(self.logits(s, judge), judge.labels)

    def loss(self, student: nn.Module, inputs: dict[str, Tensor], noise: float, index: Tensor, t: int) -> Tensor:
        generator = stream(self.context.seed, "student draws", t)
        x = {m: value[index.to(value.device)] for m, value in inputs.items()}
        seen = {m: noisy(v, noise, len(self.of[m].mean), generator) if m in self.of else v for m, v in x.items()}
        if "image" in seen and self.objects is not None:
            fresh = stream(self.context.seed, "student backgrounds", t)
            behind = backgrounds(len(index), seen["image"].shape[-1], fresh)
            objects = self.objects[index.to(self.objects.device)]
            seen["image"] = composite(seen["image"], objects, behind.to(objects.device))
        for m in (m for m in seen if m not in self.of):  # object and background move together
            if self.protocol.siamese and m == "image":
                seen[m] = distorted(seen[m], generator)
            elif self.protocol.augment:
                seen[m] = shaken(seen[m], generator, mirror=m != "audio")
        logits = student(seen)
        return F.cross_entropy(logits, self.train.labels[index].to(logits.device))

    def swaps(self, student: nn.Module, samples: _Samples, logits: Tensor) -> dict[str, float]:
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
        found = self.logits(student, _Samples({"image": images}, labels))
        flipped = (found.argmax(dim=1) != logits[rows].argmax(dim=1)).double().mean()
        return {"swapped accuracy": accuracy(found, labels), "flip rate": 100.0 * float(flipped)}

    @torch.no_grad()
    def logits(self, student: nn.Module, samples: _Samples) -> Tensor:
        assert isinstance(student, _Fusion)
        inputs, device = self.inputs(samples, student.ridge), self.context.device
        student.eval()
        rows = torch.split(torch.arange(len(samples.labels)), min(map(chunk_of, inputs.values())))
        result = torch.cat([student({m: x[r].to(device) for m, x in inputs.items()}).cpu() for r in rows])
        student.train()
        return result


def _averaged(features: Features, samples: int) -> Tensor:
    """The mean direction of each sample's rows: `float [samples, D]`."""
    total = torch.zeros(samples, features.vectors.shape[1]).index_add_(0, features.owner, features.vectors)
    return F.normalize(total, dim=1)
