"""`Captioner` and `Segmenter`: from whole images to captions and to masks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

__all__ = ["Annotator", "Captioner", "Segmenter"]


@dataclass(frozen=True)
class Annotator(ABC):
    """What captions or masks are made by. A subclass is a frozen dataclass whose fields are its options.

    Its constructor does no work. The same images in the same batches give the same result. In a family of many models a
    field called `name` takes what follows the colon in `"hf:NAME"`; a field `batch_size` says how many images it is given at a time.

    Attributes:
        requires: packages that must be importable, and the extra that brings each.
    """

    requires: ClassVar[tuple[tuple[str, str], ...]] = ()

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
        family, options = type(self).__module__.rsplit(".", 1)[-1], asdict(self)
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
