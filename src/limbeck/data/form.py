"""`Form`: into which array the bytes of one modality are decoded, so that one store keeps images, sounds, depth, masks."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.constraints import Ge, Interval
from limbeck.data.audio import SOUND_DECODER, decode_audio
from limbeck.data.decode import DECODER, MAX_PIXELS, decode_image, lacking_formats
from limbeck.data.depth import DEPTH_DECODER, DepthUnit, decode_depth
from limbeck.data.mask import MASK_DECODER, MaskValues, decode_mask
from limbeck.data.modality import Modality
from limbeck.data.spectrogram import frames_of, log_mel, mel_filters, window_of
from limbeck.limits import limit_factor

__all__ = ["AudioRate", "AudioSeconds", "DepthFar", "DepthForm", "Form", "ImageForm", "MaskForm", "Mels", "SoundForm"]

# Options of sources that are read by the forms below.
AudioRate = Annotated[int, Interval(ge=1000, le=192_000)]
AudioSeconds = Annotated[float, Interval(ge=0.01, le=3600)]
Mels = Annotated[int, Ge(0)]
DepthFar = Annotated[float, Interval(gt=0.5, lt=1e5)]


@dataclass(frozen=True)
class Form(ABC):
    """How the bytes of one modality become an array of one shape. Picklable: worker processes use it.

    Args:
        max_pixels: of a file; one that has more is not decoded.
    """

    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.float32)

    max_pixels: int = field(default=MAX_PIXELS, kw_only=True)

    @property
    @abstractmethod
    def modality(self) -> Modality:
        """Name, shape and range of what a batch holds."""

    @property
    @abstractmethod
    def parts(self) -> list[Any]:
        """Plain values that change whenever the same bytes decode to other values; they enter every fingerprint."""

    @property
    def stamps(self) -> list[Any]:
        """What besides `parts` decides whether bytes can be decoded on this machine."""
        pixels = [] if self.max_pixels == MAX_PIXELS else [self.max_pixels]
        return pixels if (factor := limit_factor()) == 1 else [*pixels, "limits", factor]

    @abstractmethod
    def decode(self, data: bytes) -> NDArray[Any]:
        """The array.

        Raises:
            Unreadable: with the reason.
        """

    def values(self, stored: NDArray[Any]) -> Tensor:
        """What a batch holds, `float32`, of stored rows."""
        return torch.from_numpy(stored)


@dataclass(frozen=True)
class ImageForm(Form):
    """Pixels, stored in 8 bits.

    Args:
        resolution: pixels a side.
    """

    resolution: int

    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.uint8)

    @property
    def modality(self) -> Modality:
        """`[3, R, R]` in [0, 1]."""
        return Modality("image", (3, self.resolution, self.resolution))

    @property
    def parts(self) -> list[Any]:
        """Version and resolution."""
        return [DECODER, self.resolution]

    @property
    def stamps(self) -> list[Any]:
        """The formats that the Pillow of this machine lacks."""
        lacking = lacking_formats()
        return super().stamps + ([lacking] if lacking else [])

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """See `decode_image`."""
        return decode_image(data, self.resolution)

    def values(self, stored: NDArray[Any]) -> Tensor:
        """Divided by 255."""
        return torch.from_numpy(stored).float().div_(255)


@dataclass(frozen=True)
class SoundForm(Form):
    """Log-mel spectrograms, or waveforms as they are.

    Args:
        rate: samples a second.
        seconds: length; longer sounds are cut at the end, shorter ones padded with silence.
        mels: bands of a spectrogram; 0 for the waveform.

    Raises:
        ConfigError: more bands than the rate has.
    """

    rate: int
    seconds: float
    mels: int

    def __post_init__(self) -> None:
        if self.mels:
            mel_filters(self.rate, window_of(self.rate)[0], self.mels)

    @property
    def samples(self) -> int:
        """L, samples of a waveform."""
        return round(self.rate * self.seconds)

    @property
    def modality(self) -> Modality:
        """`[1, mels, frames]` in [0, 1], or `[L]` in [-1, 1]."""
        if self.mels:
            return Modality("audio", (1, self.mels, frames_of(self.samples, self.rate)), rate=self.rate)
        return Modality("audio", (self.samples,), -1.0, rate=self.rate)

    @property
    def parts(self) -> list[Any]:
        """Version and every option."""
        return ["audio", SOUND_DECODER, self.rate, self.samples, self.mels]

    def decode(self, data: bytes) -> NDArray[np.float32]:
        """See `decode_audio` and `log_mel`."""
        wave = decode_audio(data, self.rate, self.samples)
        if not self.mels:
            return wave
        spectrogram: NDArray[np.float32] = log_mel(torch.from_numpy(wave)[None], self.rate, self.mels)[0].numpy()
        return spectrogram


@dataclass(frozen=True)
class DepthForm(Form):
    """Depth in metres.

    Args:
        resolution: pixels a side.
        unit: of the files, see `DepthUnit`.
        far: metres; what is farther is put there.

    Raises:
        ConfigError: an unknown unit.
    """

    resolution: int
    unit: str
    far: float

    def __post_init__(self) -> None:
        DepthUnit(self.unit)

    @property
    def modality(self) -> Modality:
        """`[1, R, R]` in [0, far]."""
        return Modality("depth", (1, self.resolution, self.resolution), 0.0, float(self.far))

    @property
    def parts(self) -> list[Any]:
        """Version and every option."""
        return ["depth", DEPTH_DECODER, self.resolution, self.unit, float(self.far)]

    def decode(self, data: bytes) -> NDArray[np.float32]:
        """See `decode_depth`."""
        return decode_depth(data, self.resolution, self.unit, self.far)


@dataclass(frozen=True)
class MaskForm(Form):
    """Masks of objects, stored in 8 bits, as empty as they are; a batch takes an empty one for a mask of everything.

    Args:
        resolution: pixels a side.
        meaning: of the numbers in the files, see `MaskValues`.

    Raises:
        ConfigError: an unknown meaning.
    """

    resolution: int
    meaning: str = "auto"

    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.uint8)

    def __post_init__(self) -> None:
        MaskValues(self.meaning)

    @property
    def modality(self) -> Modality:
        """`[1, R, R]` in [0, 1]."""
        return Modality("mask", (1, self.resolution, self.resolution))

    @property
    def parts(self) -> list[Any]:
        """Version and every option."""
        return ["mask", MASK_DECODER, self.resolution, self.meaning]

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """See `decode_mask`."""
        return decode_mask(data, self.resolution, self.meaning)

    def values(self, stored: NDArray[Any]) -> Tensor:
        """Divided by 255; ones where a mask holds no object, and where there is none."""
        empty = ~stored.any(axis=(1, 2, 3), keepdims=True)
        return torch.from_numpy(np.where(empty, np.float32(1), stored / np.float32(255)))
