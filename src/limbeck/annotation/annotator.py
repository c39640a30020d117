"""`Captioner` and `Segmenter`: from whole images to captions and to masks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray
from torch import Tensor

from limbeck import registry
from limbeck.constraints import validate
from limbeck.errors import ConfigError

__all__ = ["Annotator", "Captioner", "Knowledge", "Segmenter"]


@dataclass(frozen=True)
class Knowledge:
    """What real data can tell a captioner.

    Args:
        captions: real captions.
        vectors: of each `[R, D]`, of unit length.
        see: from images `[B, 3, H, W]` in [0, 1] to vectors that can be compared with those.
        read: from texts to vectors.
    """

    captions: Sequence[str]
    vectors: Tensor
    see: Callable[[Tensor], Tensor]
    read: Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class Annotator(ABC):
    """What captions or masks are made by. A subclass is a frozen dataclass whose fields are its options.

    Its constructor does no work. The same images in the same batches give the same result. In a family of many models a
    field called `name` takes what follows the colon in `"hf:NAME"`; a field `batch_size` says how many images it is given at a time.

    Attributes:
        requires: packages that must be importable, and the extra that brings each.
    """

    requires: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __post_init__(self) -> None:
        validate(self)

    @property
    @abstractmethod
    def what(self) -> str:
        """What a person must know of the results, in one sentence."""

    @property
    def licence(self) -> str | None:
        """The licence of the weights, `"unknown"` where nobody said; `None` where there are none."""
        return None

    @property
    def versions(self) -> dict[str, str]:
        """Package to version, of those that decide the results."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Name and options."""
        family, options = registry.name_of(type(self)), asdict(self)
        argument = options.pop("name", None)
        return {"name": f"{family}:{argument}" if argument else family, **options}

    def to(self, device: str) -> "Annotator":
        """Moves the weights to `device`, where there are any, and returns the annotator."""
        return self


@dataclass(frozen=True)
class Captioner(Annotator):
    """Images to texts."""

    @abstractmethod
    def caption(self, images: Sequence[Any], classes: Sequence[str | None]) -> list[str]:
        """One text for each image; an empty one where there is nothing to say.

        Args:
            images: Pillow images, upright, RGB, of any sizes.
            classes: the class of each; `None` where it has none.
        """

    def describe_each(self, images: Sequence[Any], count: int) -> list[list[str]]:
        """Up to `count` different texts for each image, best first.

        Args:
            images: Pillow images, upright, RGB.
            count: 1 or more.

        Raises:
            ConfigError: it has only one text for an image.
        """
        if count > 1:
            raise ConfigError(
                f"the captioner {self.describe()['name']!r} has one text for an image, and {count} are asked for; ask for fewer captions "
                "an image, or choose another captioner"
            )
        return [[text] for text in self.caption(images, [None] * len(images))]

    def rewrite(self, texts: Sequence[str], count: int) -> list[list[str]]:
        """Up to `count` other texts that say what each text says, best first.

        Raises:
            ConfigError: it reads no texts.
        """
        raise ConfigError(
            f"the captioner {self.describe()['name']!r} describes images and rewrites no texts; choose another, or stage describe"
        )

    def ready(self) -> None:
        """Looks for what it needs, a function or a model, so that what is missing is told before long work; reads no weights.

        Raises:
            ConfigError: it is not there.
        """

    def informed(self, knowledge: Knowledge) -> "Captioner":
        """The captioner, with what real data can tell it; most need nothing."""
        return self


@dataclass(frozen=True)
class Segmenter(Annotator):
    """Images to masks of their objects."""

    @abstractmethod
    def segment(self, images: Sequence[Any], classes: Sequence[str | None]) -> list[NDArray[Any]]:
        """One mask `[H, W]` for each image, as large as the image: the share of each pixel that is object, in [0, 1].

        A mask without object, or of nothing else, says that none was found.

        Args:
            images: Pillow images, upright, RGB, of any sizes.
            classes: the class of each; `None` where it has none.
        """
