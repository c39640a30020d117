"""Classification: how well students trained on the set tell the classes of the test split apart."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Annotated, Any, Literal

import torch
from torch import nn

from limbeck.constraints import Count, Ge, OnlyIf
from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation.metrics import accuracy
from limbeck.evaluation.protocol import Context, Protocol
from limbeck.evaluation.protocols._fusion import Labelled, Training
from limbeck.runtime.cache import Cache
from limbeck.spaces import Space
from limbeck.students import Schedule, masks

__all__ = ["Classification"]

TRAINED = OnlyIf(
    lambda o: not o.frozen,
    "the student reads frozen features: it changes pixels",
    "choose another, such as `student=convnet`",
)


@dataclass(frozen=True)
class Classification(Protocol):
    """Accuracy in percent of classifiers trained on the set.

    Each modality gets a linear head on its frozen features; images, sound and depth get a trained network with light augmentation
    instead where `student` names one, images the encoder itself where it says so. With several modalities two ways of fusion are
    reported beside the single ones:

        late    p = mean_m softmax(W_m x_m)                      heads trained apart: blind to which values are paired
        joint   p = softmax(V gelu(sum_m W_m x_m))               one hidden layer on the concatenated features

    Where a set carries soft labels, students are trained with these: cross-entropy with the share of each class.

    A sample takes part if it is labelled and holds every modality that set, data and space share. The several captions
    of a sample are averaged to one vector.

    Captions of images are a help that a student may have in training alone. Where captions stand beside other modalities, a
    joint student for which each caption is dropped (put at the mean of those of training) with probability 1/2 at every step
    is tested without any caption: `train_only accuracy`. With `dim=0` the joint student is one linear layer on `[v ; c]`, which
    without captions is the student of images and starts from the same weights, so that only what captions taught it tells the two apart.
    Test samples without captions are in no column, unless no student reads captions of the test data.

    The standard protocol of the distillation literature is `selection="last"`: a network from random weights, trained by SGD (rate
    0.01, momentum 0.9, weight decay 5e-4, a tenth of the rate from half of the steps on) for 300 epochs, or 1000 with `siamese`, in
    batches of 256, and tested as it is at the end. Seeds are its several networks.

    Where the test data have masks, a student on pixels is also tested on images whose background was swapped, each object on the
    background of another test image: `swapped accuracy`, and `flip rate`, the percent of predictions that the swap changes
    (lower is better). Only samples whose mask leaves a background take part in these two.

    Args:
        student, selection, ridge, noise, rank, steps, batch, rate, looks, longest, resolution, augment: see `Protocol`. With `"last"`
            there is one look, at the end, and one ridge and one noise.
        dim: units of the hidden layer of the joint head; 0 for none, which is caption concatenation as published.
        captions: those of the test data are read (`"both"`); no student reads them (`"train_only"`, and `text` and `late accuracy`
            fall away); or captions are not read at all (`"none"`). It has no effect where text is the only modality.
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

    version = 2

    dim: Annotated[int, Ge(0)] = 64
    captions: Literal["both", "train_only", "none"] = "both"
    optimizer: Literal["adamw", "sgd"] | None = None
    epochs: Count | None = None
    siamese: Annotated[bool, TRAINED] = False
    background: Annotated[Literal["keep", "random"], TRAINED] = "keep"

    def __post_init__(self) -> None:
        if self.epochs is not None and self.steps is not None:
            raise ConfigError(f"give steps or epochs, not both; got steps={self.steps} and epochs={self.epochs}")
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
        if last or self.epochs is not None or "epochs" in usual:
            if self.longest is not None:
                raise ConfigError(
                    "longest has a say where a student is chosen among steps; leave it out with epochs or selection 'last'"
                )
            del usual["longest"]
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
        said += ["linear joint head"] if self.dim == 0 else []
        said += {"both": [], "train_only": ["captions in training alone"], "none": ["without captions"]}[self.captions]
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
        """Masks are needed to put objects on other backgrounds, captions to help in training."""
        if self.captions == "train_only" and "text" not in small.modalities:
            raise ConfigError(
                f"{small.name} has no captions, and captions='train_only' trains with them; leave --protocol.captions out"
            )
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
        """`accuracy` for one modality; else `joint accuracy`, `late accuracy` and one a modality; with captions also
        `train_only accuracy`. Of images with masks also `swapped accuracy` and `flip rate`."""
        if small.classes and test.classes and small.classes != test.classes:
            raise DataError(
                f"{small.name} has the classes {small.classes}, {test.name} has {test.classes}; they must be the same"
            )
        modalities, tested = self.modalities(small, test, space)
        side = self.side(small) if self.trained(modalities) else 0
        train = self.read(small, modalities, space, context, side)
        judge = None if self.selection == "last" else self.read(self.judge(test), tested, space, context, side)
        pretrained = self.pretrained(small, space, context) if "image" in modalities else None
        fitting = self.trainer(train, tested, len(test.classes), context, pretrained)
        wanted = {m: (m,) for m in tested} | ({"joint": tested} if len(tested) > 1 else {})
        wanted |= {"train_only": modalities} if "text" in modalities and len(modalities) > 1 else {}
        held_out = self.read(test, tested, space, context, side)
        students, logits = {}, {}
        for i, (name, union) in enumerate(wanted.items()):
            tick, helped = partial(self._tell, context, i, len(wanted)), name == "train_only"
            seen = [x.without("text") if helped and x else x for x in (judge, held_out)]
            students[name] = fitting.student(union, seen[0], tick, helped)
            assert seen[1] is not None
            logits[name] = fitting.logits(students[name], seen[1])
        swaps: dict[str, float] = {}
        if "image" in students and held_out.masks is not None:
            swaps = fitting.swaps(students["image"], held_out, logits["image"])
        found = {name: accuracy(x, held_out.labels) for name, x in logits.items()}
        if len(wanted) == 1:
            return {"accuracy": found[tested[0]], **swaps}
        if "joint" in found:
            late = sum((logits[m].softmax(dim=1) for m in tested), torch.zeros(())) / len(tested)
            found["late"] = accuracy(late, held_out.labels)
        order = [name for name in ("joint", "late", "train_only", *tested) if name in found]
        told = {f"{name} accuracy": found[name] for name in order}
        return {**told, **{f"image {metric}": value for metric, value in swaps.items()}}

    def _tell(self, context: Context, i: int, parts: int, done: int) -> None:
        looks = self.looks * (len(self.grid) + len(self.longer))
        context.runtime.report("student", i * looks + done, parts * looks)

    def trainer(
        self,
        train: Labelled,
        tested: tuple[str, ...],
        classes: int,
        context: Context,
        pretrained: Callable[[float], nn.Module] | None = None,
    ) -> Training:
        """Classifiers of every union of modalities."""
        named = 0 if train.shares is None else train.shares.shape[1]
        return Training(self, train, max(classes, int(train.labels.max()) + 1, named), context, pretrained, tested)

    def modalities(self, small: Source, test: Source, space: Space) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """As of every protocol; with captions that help in training alone, or are not read, they differ."""
        held = dict.fromkeys([*test.modalities, *(["text"] if self.captions == "train_only" else [])])
        shared = tuple(m for m in held if m in small.modalities and (m in space or self.trained([m])))
        if not shared:
            raise ConfigError(
                f"{small.name} and {test.name} share no modality that the space encodes "
                f"({', '.join(space.modalities) or 'none'}); pass a space with an encoder for one of "
                f"{', '.join(small.modalities)}"
            )
        if self.captions == "train_only" and "text" not in shared:
            raise ConfigError(
                "captions='train_only' reads captions, and the space has no text encoder; name one with --space.text"
            )
        uncaptioned = tuple(m for m in shared if m != "text") or shared
        trained = uncaptioned if self.captions == "none" else shared
        return trained, shared if self.captions == "both" else uncaptioned

    def read(self, source: Source, modalities: tuple[str, ...], space: Space, context: Context, side: int) -> Labelled:
        """Samples with a label and every modality; several captions are averaged.

        Raises:
            DataError: there is none.
        """
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
            m: (found.vectors[found.first(len(source))] if m in trained else found.directions(len(source)))[index]
            for m, found in seen.items()
        }
        objects = masks(source, side, context.cache) if "image" in trained else None
        objects, shares = (None if x is None else x[index] for x in (objects, source.soft_labels))
        return Labelled(values, labels[index], index, objects, shares)
