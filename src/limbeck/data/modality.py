"""`Modality`: what one kind of value looks like: shape, range, bytes, and how a person looks at it."""

from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor

__all__ = ["Modality"]


@dataclass(frozen=True)
class Modality:
    """Shape and value range of one modality of a source.

    Args:
        name: `"image"`, `"text"`, `"label"`, ...
        shape: shape of one sample's tensor; `()` for text and labels.
        low, high: the range that valid values lie in.

    Example:
        >>> Modality("image", (3, 64, 64)).nbytes
        12288
    """

    name: str
    shape: tuple[int, ...] = ()
    low: float = 0.0
    high: float = 1.0

    @property
    def nbytes(self) -> int:
        """Bytes of one sample as it is stored: one byte a pixel (8 bits); 0 where the size is not fixed (text)."""
        return prod(self.shape) if self.shape else 0

    def preview(self, value: Any) -> Any:
        """`value` as a person looks at it: a PIL image for an image, a string for text and labels.

        Args:
            value: one sample's value, without the batch axis.
        """
        if self.name == "image" and isinstance(value, Tensor):
            from PIL import Image

            pixels = value.detach().float().clamp(self.low, self.high).sub(self.low).div(self.high - self.low)
            return Image.fromarray(pixels.mul(255).round().byte().permute(1, 2, 0).cpu().numpy())
        if isinstance(value, tuple):
            return " / ".join(value)
        return str(value.tolist() if isinstance(value, Tensor) else value)
