"""Sound and depth as grey images: what a network of images can read."""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.errors import DataError
from limbeck.spaces.preprocess import log_depth
from limbeck.spaces.space import Encoder

__all__ = ["IMAGE_LIKE", "ImageEncoder", "picture"]

IMAGE_LIKE = ("image", "audio", "depth")


def picture(modality: str, values: Float[Tensor, "b ..."]) -> Float[Tensor, "b c h w"]:
    """Values as images in [0, 1], differentiably: images as they are, spectrograms as grey ones, depth by `log_depth`.

    Args:
        modality: image, audio or depth.
        values: images `[B, 3, H, W]`, spectrograms `[B, 1, mels, frames]` in [0, 1], or metres `[B, 1, H, W]`.

    Returns:
        `[B, 3, H, W]` of images, else `[B, 1, H, W]`.

    Raises:
        DataError: sound as a waveform.

    Example:
        >>> import torch
        >>> picture("depth", torch.full((1, 1, 2, 2), 0.5)).tolist()
        [[[[1.0, 1.0], [1.0, 1.0]]]]
    """
    if modality == "audio" and values.ndim != 4:
        raise DataError(
            f"a network of images reads sound as spectrograms, and these are waveforms {tuple(values.shape)}; ask the "
            "source for spectrograms (--source.mels 64), or choose an encoder of waveforms"
        )
    return log_depth(values) if modality == "depth" else values


@dataclass(frozen=True)
class ImageEncoder(Encoder):
    """An encoder of images that serves sound and depth as well, which it sees as grey images (`picture`).

    A subclass has `encode_images` instead of `encode`.

    Args:
        modality: image, audio or depth; `limbeck.space(depth=...)` fills it in.

    Raises:
        ConfigError: another modality.
    """

    modality: Literal["image", "audio", "depth"] = field(default="image", kw_only=True)

    @abstractmethod
    def encode_images(self, network: nn.Module, images: Float[Tensor, "b 3 h w"]) -> Tensor:
        """Vectors `[B, D]`, not yet of unit length, of images in [0, 1] of any size."""

    def encode(self, network: nn.Module, values: Tensor) -> Tensor:
        """Vectors `[B, D]` of the values as images."""
        return self.encode_images(network, picture(self.modality, values).expand(-1, 3, -1, -1))

    def describe(self) -> dict[str, Any]:
        """Name and options; the modality where it is not image."""
        described = super().describe()
        if self.modality == "image":
            del described["modality"]
        return described
