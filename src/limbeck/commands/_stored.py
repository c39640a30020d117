"""How sets are stored, as a command line says it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from limbeck.commands._options import Command

if TYPE_CHECKING:
    from limbeck.core import Storage

__all__ = ["Stored"]


@dataclass(frozen=True, kw_only=True)
class Stored(Command):
    """A command that makes sets, and how they are stored.

    Args:
        codec: of images: auto keeps the file of an image that is unchanged, and stores others exactly as PNG or lossless WebP; png;
            jpeg, webp and avif lose details, and keep a file that is smaller.
        quality: of jpeg, webp and avif, from 1 to 100.
        side: pixels a side of the stored images; 0 is the resolution of the data.
        vectors: numbers of learned texts; those of int8 and int4 have a scale a vector.
    """

    codec: Literal["auto", "png", "jpeg", "webp", "avif"] = field(default="auto", metadata={"name": "storage.codec"})
    quality: int = field(default=75, metadata={"name": "storage.quality"})
    side: int = field(default=0, metadata={"name": "storage.side"})
    vectors: Literal["float32", "float16", "int8", "int4"] = field(
        default="float32", metadata={"name": "storage.vectors"}
    )

    def storage(self) -> "Storage":
        """The options as one.

        Raises:
            ConfigError: they do not go together.
        """
        from limbeck.core import Storage

        return Storage(self.codec, self.quality, self.side, self.vectors)
