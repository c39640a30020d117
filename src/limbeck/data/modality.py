"""`Modality`: what one kind of value looks like: shape, range, bytes, and how a person looks at it."""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from limbeck.data.spectrogram import heard

__all__ = ["Modality"]


@dataclass(frozen=True)
class Modality:
    """Shape and value range of one modality of a source.

    Args:
        name: `"image"`, `"mask"`, `"text"`, `"label"`, `"audio"`, `"depth"`, ...
        shape: shape of one sample's tensor; `()` for text and labels. Sound is a log-mel spectrogram `(1, mels, frames)` or
            a waveform `(L,)`, depth a map `(1, H, W)`, a mask `(1, H, W)` as large as its image.
        low, high: the range that valid values lie in: spectrograms in [0, 1], waveforms in [-1, 1], depth in metres from 0
            (no reading).
        rate: samples a second of sound; 0 where nobody said.

    Example:
        >>> Modality("image", (3, 64, 64)).nbytes, Modality("depth", (1, 64, 64), 0.0, 10.0).nbytes
        (12288, 16384)
    """

    name: str
    shape: tuple[int, ...] = ()
    low: float = 0.0
    high: float = 1.0
    rate: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of one sample as it is stored: one a pixel of an image or a mask, four a value of sound, depth or a vector.

        0 where the size is not fixed (text).
        """
        return prod(self.shape) * (1 if self.name in ("image", "mask") else 4) if self.shape else 0

    def preview(self, value: Any) -> Any:
        """`value` as a person looks at it: a PIL image of an image, a mask, sound or depth, a string for text and labels.

        Sound is its spectrogram, low bands at the bottom, or the outline of its waveform. Depth is coloured by its
        logarithm, from near (bright) to far (dark), black where there is no reading.

        Args:
            value: one sample's value, without the batch axis.
        """
        if self.name in ("audio", "depth") and isinstance(value, Tensor):
            return _coloured(self.name, value.detach().float().cpu(), self.high)
        if self.name in ("image", "mask") and isinstance(value, Tensor):
            from PIL import Image

            pixels = value.detach().float().clamp(self.low, self.high).sub(self.low).div(self.high - self.low)
            pixels = pixels.mul(255).round().byte().permute(1, 2, 0).cpu()
            return Image.fromarray((pixels[..., 0] if self.name == "mask" else pixels).numpy())
        if isinstance(value, tuple):
            return " / ".join(value)
        return str(value.tolist() if isinstance(value, Tensor) else value)

    def sound(self, value: Tensor) -> Tensor | None:
        """Sound as a person hears it: the waveform `[L]` in [-1, 1], of a spectrogram one that has nearly that spectrogram.

        Args:
            value: one sample's value, without the batch axis.

        Returns:
            `None` where this is no sound, or its rate is not known.
        """
        if self.name != "audio" or not self.rate:
            return None
        value = value.detach().float().cpu()
        if value.ndim == 1:
            return value.clamp(-1, 1)
        return heard(value[None], self.rate)[0] if value.ndim == 3 else None


def _coloured(name: str, value: Tensor, high: float) -> Any:
    """A picture of a spectrogram `[1, mels, frames]`, a waveform `[L]` or depth `[1, H, W]`, in a map of colours."""
    from matplotlib import colormaps
    from PIL import Image

    if value.ndim == 1:
        parts = torch.tensor_split(value.abs(), min(len(value), 200))
        rows = torch.linspace(1, -1, 65).abs()[:, None]
        shade = (rows <= torch.stack([part.max() for part in parts])).float() * 0.8
    elif name == "audio":
        shade = value[0].flip(0).clamp(0, 1)
    else:
        valid = value[0] > 0
        metres = torch.where(valid, value[0], torch.full_like(value[0], high)).clamp(min=0.1, max=max(high, 0.2))
        shade = 1 - (metres / 0.1).log() / torch.tensor(max(high, 0.2) / 0.1).log()
    pixels = torch.from_numpy(colormaps["magma" if name == "audio" else "viridis"](shade.numpy())[..., :3])
    if name == "depth":
        pixels = pixels * valid[..., None]
    return Image.fromarray(pixels.mul(255).round().byte().numpy())
