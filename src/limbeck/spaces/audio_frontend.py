"""An audio network: waveforms of any rate, brought to its own rate and to the features that it was trained on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.constraints import Interval
from limbeck.data.spectrogram import mel_bank
from limbeck.errors import ConfigError, DataError
from limbeck.spaces.audio_features import decibel_mel, fit, kaldi_mel, resample

__all__ = ["AudioNetwork", "DecibelMel", "KaldiMel", "Reading", "SoundRate", "Waveform", "read_features"]

SoundRate = Annotated[int, Interval(ge=1000, le=768_000)]  # samples a second, an option of encoders
Pool = Callable[[nn.Module, Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class DecibelMel:
    """CLAP's features: clips of one length as mel spectrograms in decibel, `input_features [B, copies, frames, mels]`.

    What is longer is cut at its end, where the reference takes a random part; what is shorter is filled as `padding` says.

    Args:
        rate: samples a second.
        samples: of a clip.
        window, hop: samples of a window and from one to the next.
        mels, low, high: bands, and the range that they cover, in Hz.
        fused: a model that has a second path for long clips. It gets four copies, and is told that no clip is long.
        padding: `"repeatpad"` (repeated as often as it fits, then silence), `"repeat"` (repeated and cut) or `"pad"` (silence).

    Example:
        >>> DecibelMel(8000, 8000, 256, 80, 16, 0, 4000)(torch.zeros(2, 400))["input_features"].shape
        torch.Size([2, 1, 101, 16])
    """

    rate: int
    samples: int
    window: int
    hop: int
    mels: int
    low: float
    high: float
    fused: bool = False
    padding: Literal["repeatpad", "repeat", "pad"] = "repeatpad"

    def __call__(self, waves: Float[Tensor, "b t"]) -> dict[str, Tensor]:
        """What the model takes."""
        if self.padding == "repeat":
            waves = waves.repeat(1, self.samples // waves.shape[1] + 1)
        clips = fit(waves, self.samples, self.padding == "repeatpad")
        bank = mel_bank(self.rate, self.window, self.mels, self.low, self.high, "htk" if self.fused else "slaney")
        mel = decibel_mel(clips, bank, self.window, self.hop)[:, None]
        if not self.fused:
            return {"input_features": mel}
        longer = torch.zeros(len(mel), 1, dtype=torch.bool, device=mel.device)
        return {"input_features": mel.expand(-1, 4, -1, -1), "is_longer": longer}


@dataclass(frozen=True)
class KaldiMel:
    """The audio spectrogram transformer's features: `(kaldi_mel - mean) / (2 std)`, `input_values [B, frames, mels]`.

    Frames that a sound lacks are zeros before the scaling; what is longer is cut at its end.

    Args:
        rate: samples a second.
        frames, mels: of a spectrogram.
        mean, std: of the scaling.

    Example:
        >>> KaldiMel(16000, 64, 40)(torch.zeros(2, 8000))["input_values"].shape
        torch.Size([2, 64, 40])
    """

    rate: int
    frames: int
    mels: int
    mean: float = 0.0
    std: float = 0.5

    def __call__(self, waves: Float[Tensor, "b t"]) -> dict[str, Tensor]:
        """What the model takes."""
        mel = kaldi_mel(waves, self.rate, self.mels)[:, : self.frames]
        mel = F.pad(mel, (0, 0, 0, self.frames - mel.shape[1]))
        return {"input_values": (mel - self.mean) / (2 * self.std)}


@dataclass(frozen=True)
class Waveform:
    """The sound itself: `input_values [B, L]`, or `[B, 1, L]` with a `multiple`.

    Args:
        rate: samples a second.
        standardised: to mean 0 and variance 1 for each sound, as wav2vec 2.0 and its family want it.
        multiple: mirrored at its end to a multiple of so many samples, as PE-AV wants it; 0 for as it is.

    Example:
        >>> Waveform(48000, multiple=1920)(torch.zeros(2, 4000))["input_values"].shape
        torch.Size([2, 1, 5760])
    """

    rate: int
    standardised: bool = False
    multiple: int = 0

    def __call__(self, waves: Float[Tensor, "b t"]) -> dict[str, Tensor]:
        """What the model takes."""
        if self.standardised:
            centred = waves - waves.mean(dim=1, keepdim=True)
            waves = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-7).sqrt()
        if not self.multiple:
            return {"input_values": waves}
        lacking = -waves.shape[1] % self.multiple
        if lacking >= waves.shape[1]:
            raise DataError(f"a sound of {waves.shape[1]} samples at {self.rate} Hz is too short for this network")
        return {"input_values": F.pad(waves[:, None], (0, lacking), mode="reflect")}


Reading = DecibelMel | KaldiMel | Waveform


class AudioNetwork(nn.Module):
    """A pretrained network behind its features.

    Args:
        model: the network.
        reading: of waveforms at its rate.
        pool: from the model and features to vectors `[B, D]`.
        rate: samples a second of the waveforms that come in.
    """

    def __init__(self, model: nn.Module, reading: Any, pool: Pool, rate: int) -> None:
        super().__init__()
        self.model, self.reading, self.pool, self.rate = model, reading, pool, rate

    def forward(self, waves: Any) -> Tensor:
        """Vectors `[B, D]` of waveforms `[B, L]` in [-1, 1].

        Raises:
            DataError: something else, such as spectrograms.
        """
        if not isinstance(waves, Tensor) or waves.ndim != 2 or not waves.shape[1]:
            got = list(waves.shape) if isinstance(waves, Tensor) else type(waves).__name__
            raise DataError(
                f"this audio encoder takes waveforms [B, L], got {got}; open the data with mels=0 (--source.mels 0), as a "
                "spectrogram cannot be turned back into sound"
            )
        return self.pool(self.model, self.reading(resample(waves, self.rate, self.reading.rate)))


def read_features(numbers: Mapping[str, Any], name: str) -> Reading:
    """The features that a feature extractor's configuration describes.

    Args:
        numbers: its `to_dict()`.
        name: of the model, for messages.

    Raises:
        ConfigError: a feature extractor that tensors here cannot follow.
    """
    kind, rate = str(numbers.get("feature_extractor_type")), int(numbers.get("sampling_rate", 0))
    if kind == "ClapFeatureExtractor":
        if numbers["padding"] not in ("repeatpad", "repeat", "pad"):
            raise ConfigError(f"hf:{name}: its feature extractor fills short sounds by {numbers['padding']!r}")
        return DecibelMel(
            rate,
            int(numbers["nb_max_samples"]),
            int(numbers["fft_window_size"]),
            int(numbers["hop_length"]),
            int(numbers["feature_size"]),
            float(numbers["frequency_min"]),
            float(numbers["frequency_max"]),
            numbers["truncation"] == "fusion",
            numbers["padding"],
        )
    if kind == "ASTFeatureExtractor":
        scale = (numbers["mean"], numbers["std"]) if numbers["do_normalize"] else (0.0, 0.5)
        return KaldiMel(rate, int(numbers["max_length"]), int(numbers["num_mel_bins"]), *scale)
    if kind == "Wav2Vec2FeatureExtractor":
        return Waveform(rate, standardised=bool(numbers["do_normalize"]))
    if kind == "PeAudioFeatureExtractor":
        return Waveform(rate, multiple=int(numbers["hop_length"]))
    raise ConfigError(
        f"hf:{name}: its feature extractor is {kind}, which tensors here cannot follow; those of CLAP, PE-AV, the audio "
        "spectrogram transformer and wav2vec 2.0 with its family can be; write an encoder"
    )
