"""`Protocol`: how a set is judged. The same for a distilled set, a random subset and the full data."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args, get_type_hints

from limbeck import registry
from limbeck.constraints import Check, Count, Ge, MinLen, NotNegative, Positive, validate
from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError
from limbeck.networks._spec import check_student
from limbeck.runtime.cache import Cache, digest
from limbeck.runtime.runtime import Runtime
from limbeck.spaces import Features, Space, embed_source
from limbeck.spaces.image_like import IMAGE_LIKE
from limbeck.students import Candidate, PCAWhitener, Pretrained, Samples, Schedule, Trainer, pictures

__all__ = ["Context", "Protocol", "Selection"]

LONGER = 3  # times as many steps

Selection = Literal["clean", "paper", "last"]
Grid = Annotated[tuple[NotNegative, ...], MinLen(1)]


@dataclass(frozen=True)
class Context:
    """With what an evaluation runs.

    Args:
        seed: of every named random stream of the student.
        runtime: where encoders and students run, where features are kept, and who hears of progress.
    """

    seed: int
    runtime: Runtime

    @property
    def cache(self) -> Cache:
        """That of the runtime."""
        return self.runtime.cache

    @property
    def device(self) -> str:
        """That of the runtime."""
        return self.runtime.device


@dataclass(frozen=True)
class Protocol(ABC):
    """One way to judge a set: a student is trained on the set, chosen, and tested.

    A subclass is final: one frozen dataclass in one file of `limbeck.evaluation.protocols`. Its fields are its options.

    Args:
        student: `"frozen"` for heads on the space's frozen image features; `"encoder"` for the space's image encoder, which
            starts pretrained and is trained on the pixels; or a network of `limbeck.networks`, such as `resnet18` or, with
            channels, `convnet:32`, trained from random weights on images, and another one each on sound and depth as grey
            images. What is not trained stays frozen features.
        selection: `"clean"` chooses step and hyper-parameters on the validation split and tests once. `"paper"` chooses
            them on the test split, as most papers did: an optimistic number, for comparison with those only. `"last"`, where
            a protocol knows it, chooses nothing: the student of the last step is tested, and no validation split is needed.
        ridge: grid of the ridge that features are whitened with, in mean variances; `None` is (30,).
        noise: grid of the Gaussian noise on features in training, as the norm it would have over all components when
            the features have norm 1; `None` is (0.5, 1, 2, 4) for frozen features and (1,) beside a trained network.
        rank: principal components kept, at most.
        steps, batch, rate: see `Schedule`; `None` is 400, 256, 3e-3 for frozen features, 300, 64, 1e-3 for a network;
            pretrained weights move at a tenth of the rate.
        longest: the most updates. The best point of the grid is trained anew for three times as many steps, and again, as long as
            it is then better where students are chosen, for every set by the same rule. `None` is 3600 for frozen
            features and 900 for a network, or `steps` where these are given.
        looks: how often a student is judged on the way.
        resolution: pixels a side for what is trained on pixels; `None` is 32 for a network, and the set's own for the encoder.
        augment: mirror and shift images of what is trained on pixels; off where left and right, or the place, matter.

    Raises:
        ConfigError: a value that cannot work.

    Attributes:
        version: raised with every change of the code that changes numbers.
        higher_is_better: whether a higher value is better, for every metric; a subclass may override `rises` for single metrics.
    """

    student: Annotated[str, Check(check_student)] = "frozen"
    selection: Selection = "clean"
    ridge: Grid | None = None
    noise: Grid | None = None
    rank: Count = 512
    steps: Count | None = None
    batch: Annotated[int, Ge(2)] | None = None
    rate: Positive | None = None
    looks: Count = 2
    longest: Count | None = None
    resolution: Annotated[int, Ge(8)] | None = None
    augment: bool = True

    version: ClassVar[int]
    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        validate(self)
        for option, value in self.defaults().items():
            if getattr(self, option) is None:
                object.__setattr__(self, option, value)
        if self.longest is not None and self.steps is not None and self.longest < self.steps:
            raise ConfigError(f"longest is {self.steps} steps, as many as steps, or more; got {self.longest}")
        self.schedule  # noqa: B018  refuses what cannot work

    def defaults(self) -> dict[str, Any]:
        """What options are where they are `None`, which depends on others."""
        frozen = self.frozen
        return {
            "ridge": (30.0,),
            "noise": (0.5, 1.0, 2.0, 4.0) if frozen else (1.0,),
            "steps": (steps := 400 if frozen else 300),
            "longest": self.steps or steps * (LONGER**2 if frozen else LONGER),
            "batch": 256 if frozen else 64,
            "rate": 3e-3 if frozen else 1e-3,
            "resolution": None if self.student == "encoder" else 32,
        }

    @property
    def grid(self) -> list[tuple[float, float]]:
        """Every (ridge, noise) that a student is trained with."""
        return [(r, n) for r in self.ridge or () for n in self.noise or ()]

    @property
    def longer(self) -> list[int]:
        """The numbers of steps beyond `steps` that the best point of the grid is tried with."""
        found: list[int] = []
        while self.steps and self.longest and (steps := LONGER ** (len(found) + 1) * self.steps) <= self.longest:
            found.append(steps)
        return found

    def train_longer(
        self, candidate: Callable[..., Candidate], points: Sequence[Any]
    ) -> Callable[[int], Iterator[Candidate]]:
        """From the position of a point of the grid to candidates of it that are trained for `longer`; see `best_student`.

        Args:
            candidate: makes one of the values of a point and `steps`.
            points: of the grid.
        """
        return lambda i: (candidate(*points[i], steps=steps) for steps in self.longer)

    @property
    def schedule(self) -> Schedule:
        """How a student is trained."""
        assert self.steps is not None and self.batch is not None and self.rate is not None
        return Schedule(self.steps, self.batch, self.rate, looks=self.looks)

    @property
    def frozen(self) -> bool:
        """Whether everything is seen as frozen features."""
        return self.student == "frozen"

    def trained(self, modalities: Iterable[str]) -> tuple[str, ...]:
        """Those of the modalities that a network is trained on; of the others frozen features are seen."""
        known = () if self.frozen else ("image",) if self.student == "encoder" else IMAGE_LIKE
        return tuple(m for m in modalities if m in known)

    def reads(self, modality: str) -> bool:
        """Whether a student reads the space's encoder of `modality`: its features, or the encoder itself to train it on."""
        return self.student == "encoder" or modality not in self.trained([modality])

    def side(self, source: Source) -> int:
        """Pixels a side at which what is trained on pixels sees `source`; the encoder sees images at their own size."""
        return self.resolution or source.modalities["image"].shape[-1]

    @abstractmethod
    def check(self, source: Source) -> None:
        """Refuses data that lack what a student is trained or tested on, before anything is encoded.

        Raises:
            DataError: what is lacking.
        """

    def check_set(self, small: Source) -> None:  # noqa: B027  most students need nothing more
        """Refuses a set, or data to make one from, that lacks what a student is trained with.

        Raises:
            ConfigError: what is lacking.
        """

    def pretrained(self, small: Source, space: Space, context: Context) -> Callable[[float], Pretrained] | None:
        """From a ridge to the space's image encoder as a network of the student; `None` where it is not trained."""
        if self.student != "encoder":
            return None
        images = Space({"image": space["image"]})
        features = embed_source(small, images, runtime=context.runtime)
        components = PCAWhitener.of(features["image"].vectors, self.rank)
        return lambda ridge: Pretrained(space["image"], components, ridge)

    def decode(self, source: Source, modalities: Iterable[str], side: int, cache: Cache) -> None:
        """Fills the cache with the pixels of those of `modalities` that a student reads of `source` with them."""
        for modality in self.trained(modalities):
            pictures(source, modality, side, cache)

    def seen(
        self, source: Source, modalities: tuple[str, ...], space: Space, context: Context, side: int
    ) -> dict[str, Features]:
        """What a student sees of each modality: pictures where a network is trained on it, else frozen features."""
        trained = self.trained(modalities)
        frozen = Space({m: space[m] for m in modalities if m not in trained})
        features = embed_source(source, frozen, runtime=context.runtime)
        pixels = {m: pictures(source, m, side, context.cache) for m in trained}
        return {m: (features | pixels)[m] for m in modalities}

    @abstractmethod
    def modalities(self, small: Source, test: Source, space: Space) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Those that students are trained on, and those of them that they are tested with.

        Args:
            small, test, space: see `run`.

        Raises:
            ConfigError: set, data and space share too few.
        """

    @abstractmethod
    def read(self, source: Source, modalities: tuple[str, ...], space: Space, context: Context, side: int) -> Samples:
        """What students read of a source.

        Args:
            source: a set, or the data it is judged on.
            modalities: of `modalities`.
            space, context: see `run`.
            side: pixels a side of what is trained on pixels.
        """

    @abstractmethod
    def trainer(
        self,
        train: Any,
        tested: tuple[str, ...],
        classes: int,
        context: Context,
        pretrained: Callable[[float], Pretrained] | None = None,
    ) -> Trainer[Any]:
        """The students of a set, for whoever judges it and whoever attacks it.

        Args:
            train: what `read` gave of the set.
            tested: the modalities that they are tested with.
            classes: how many the data have, where they are labelled.
            context: see `run`.
            pretrained: of `pretrained`.
        """

    @abstractmethod
    def run(self, small: Source, test: Source, space: Space, context: Context) -> dict[str, float]:
        """Trains a student on `small` and tests it; metric name to value.

        Args:
            small: the set to judge.
            test: the test split; `test.split("val")` is its validation split.
            space: frozen encoders.
            context: seed and runtime.
        """

    def training(self, small: Source) -> str:
        """With what of its own `small` has a student trained, readable; empty where nothing differs from the protocol's."""
        return ""

    def rises(self, metric: str) -> bool:
        """Whether a higher value of `metric` is better."""
        return self.higher_is_better

    @property
    def name(self) -> str:
        """The registry name: the name of the file."""
        return registry.name_of(type(self))

    @property
    def title(self) -> str:
        """How it is named in a table."""
        chosen = ", paper selection: chosen on the test split" if self.selection == "paper" else ""
        return f"{self.name}, {self.student} student{chosen}"

    def describe(self) -> dict[str, Any]:
        """Name, version and every option."""
        return {"name": self.name, "version": self.version, **asdict(self)}

    def fingerprint(self, test: Source, space: Space) -> str:
        """A digest of options, code version, evaluation data and space: equal where scores can be compared."""
        return digest(self.describe(), test.fingerprint, self.judge(test).fingerprint, space.fingerprint)

    def judge(self, test: Source) -> Source:
        """The split that the student is chosen on; the test split where nothing is chosen.

        Raises:
            DataError: `clean` without a validation split.
        """
        if self.selection in ("paper", "last"):
            return test
        if "val" not in test.splits:
            known = get_args(get_type_hints(type(self))["selection"])
            last = "choose nothing with --protocol.selection last, " if "last" in known else ""
            raise DataError(
                f"{test.name} has no validation split to choose the student on (its splits: "
                f"{', '.join(test.splits) or 'none'}); add a split named 'val' to the data, {last}or accept an optimistic "
                "number with --protocol.selection paper (in Python selection='paper')"
            )
        return test.split("val")
