"""Waveforms to log-mel spectrograms, in torch and differentiable: what a source gives for sound, and what is learned; and back."""

from functools import cache
from math import ceil, log, log2, pi
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import ConfigError, DataError

__all__ = ["frames_of", "heard", "log_mel", "mel_bank", "mel_filters", "window_of"]

Scale = Literal["htk", "slaney", "kaldi"]
STEP = 27 / log(6.4)  # steps of Slaney's scale for a factor of e, above 1 kHz
FLOOR = 1e-8  # power that counts as silence: 80 dB below full scale


def window_of(rate: int) -> tuple[int, int]:
    """Samples of a window, the power of two at or above 25 ms, and from one window to the next, 10 ms.

    Example:
        >>> window_of(16000)
        (512, 160)
    """
    return 2 ** ceil(log2(max(2.0, 0.025 * rate))), max(1, round(0.01 * rate))


def frames_of(samples: int, rate: int) -> int:
    """How many frames `log_mel` makes of so many samples.

    Example:
        >>> frames_of(16000, 16000)
        100
    """
    return samples // window_of(rate)[1]


@cache
def mel_bank(rate: int, window: int, mels: int, low: float, high: float, scale: Scale) -> Float[Tensor, "{mels} f"]:
    """Triangles over the frequencies of a window, evenly spaced in mel from `low` to `high`.

        htk, kaldi    mel(f) = 2595 log10(1 + f / 700)
        slaney        mel(f) = 3 f / 200 below 1 kHz, 15 + 27 log(f / 1000) / log(6.4) above

    The sides of a triangle are straight over f, or over mel(f) with `kaldi`. Its peak is 1, or with `slaney` its area.

    Args:
        rate: samples a second.
        window: samples of a window.
        mels: number of filters.
        low, high: Hz.
        scale: whose scale.

    Returns:
        `float64 [mels, window / 2 + 1]`.

    Example:
        >>> mel_bank(48000, 1024, 64, 50, 14000, "slaney").shape
        torch.Size([64, 513])
    """
    frequencies = np.arange(window // 2 + 1) * rate / window
    bottom, top = _mel(np.array([low, high]), scale).tolist()
    edges = np.linspace(bottom, top, mels + 2)
    points = _mel(frequencies, scale) if scale == "kaldi" else frequencies
    edges = edges if scale == "kaldi" else _hertz(edges, scale)
    left, peak, right = (edges[i : i + mels, None] for i in range(3))
    filters = np.minimum((points - left) / (peak - left), (right - points) / (right - peak)).clip(min=0)
    return torch.from_numpy(filters * 2 / (right - left) if scale == "slaney" else filters)


def _mel(frequency: NDArray[Any], scale: Scale) -> NDArray[Any]:
    if scale != "slaney":
        return np.asarray(2595 * np.log10(1 + frequency / 700))
    return np.where(frequency < 1000, 3 * frequency / 200, 15 + STEP * np.log(np.maximum(frequency, 1000) / 1000))


def _hertz(mel: NDArray[Any], scale: Scale) -> NDArray[Any]:
    if scale != "slaney":
        return np.asarray(700 * (10 ** (mel / 2595) - 1))
    return np.where(mel < 15, 200 * mel / 3, 1000 * np.exp((np.maximum(mel, 15) - 15) / STEP))


@cache
def mel_filters(rate: int, window: int, mels: int) -> Float[Tensor, "{mels} f"]:
    """Triangles over the frequencies of a window, evenly spaced in mel from 0 to rate/2, each with a peak of 1.

        mel(f) = 2595 log10(1 + f / 700)

    Filter k rises from the centre of k - 1 to its own and falls to that of k + 1. So neighbours add up to one.

    Args:
        rate: samples a second.
        window: samples of a window.
        mels: number of filters.

    Returns:
        `float64 [mels, window / 2 + 1]`.

    Raises:
        ConfigError: so many filters that one of them falls between two frequencies.

    Example:
        >>> mel_filters(8000, 256, 40).shape
        torch.Size([40, 129])
    """
    filters = mel_bank(rate, window, mels, 0, rate / 2, "htk")
    if not bool((filters > 0).any(dim=1).all()):
        raise ConfigError(
            f"{mels} mel bands are more than windows of {window} samples at {rate} Hz can tell apart; use fewer"
        )
    return filters


def log_mel(waves: Float[Tensor, "b t"], rate: int, mels: int = 64) -> Float[Tensor, "b 1 {mels} frames"]:
    """Log-mel spectrograms in [0, 1]: 0 is silence, 1 the power of full scale, 1/8 is 10 dB.

        S = 1 + log10(P + 1e-8) / 8,    P = mel filters . |STFT|^2 / (sum of the window)^2

    The window is Hann's (`window_of`), frame k is centred at 10k ms, and the sound goes on as silence at both ends. As the
    floor is added and not cut at, the gradient reaches every sample that is not digital silence.

    Args:
        waves: `[B, L]` in [-1, 1], at least one frame long.
        rate: samples a second.
        mels: bands.

    Returns:
        `[B, 1, mels, frames_of(L, rate)]`, of the type of `waves`.

    Raises:
        DataError: shorter than one frame.

    Example:
        >>> log_mel(torch.zeros(2, 8000), rate=8000, mels=40).shape
        torch.Size([2, 1, 40, 100])
    """
    window, hop = window_of(rate)
    frames = frames_of(waves.shape[-1], rate)
    if frames < 1:
        raise DataError(f"a spectrogram needs {hop} samples at {rate} Hz or more, got {waves.shape[-1]}")
    hann = torch.hann_window(window, dtype=waves.dtype, device=waves.device)
    spectrum = torch.stft(waves, window, hop, window=hann, center=True, pad_mode="constant", return_complex=True)
    power = torch.view_as_real(spectrum[..., :frames]).square().sum(-1) / hann.sum().square()
    bands = mel_filters(rate, window, mels).to(power) @ power
    return (1 + torch.log10(bands + FLOOR) / 8).clamp(0, 1)[:, None]


def heard(spectrograms: Float[Tensor, "b 1 mels frames"], rate: int, rounds: int = 32) -> Float[Tensor, "b t"]:
    """Sounds whose spectrograms are near the given ones, for a person to listen to: bands to frequencies, then Griffin-Lim.

    The power of each frequency is found by multiplicative updates that keep it positive, `P <- P (M^T b) / (M^T M P)` for
    filters M and bands b; phases are those that windows agree on, after `rounds` of there and back.

    Args:
        spectrograms: `[B, 1, mels, frames]` as `log_mel` makes them.
        rate: samples a second.
        rounds: of either part.

    Returns:
        `[B, L]` in [-1, 1], L = frames times the hop.

    Example:
        >>> heard(torch.zeros(1, 1, 40, 100), rate=8000).shape
        torch.Size([1, 8000])

    Paper: Griffin and Lim, Signal estimation from modified short-time Fourier transform, IEEE TASSP 1984; Lee and Seung,
    Algorithms for non-negative matrix factorization, NeurIPS 2000.
    """
    window, hop = window_of(rate)
    hann = torch.hann_window(window)
    bands = (10 ** (8 * (spectrograms[:, 0].float().cpu() - 1)) - FLOOR).clamp(min=0)
    filters = mel_filters(rate, window, bands.shape[1]).float()
    power = filters.T @ bands + 1e-12
    for _ in range(rounds):
        power = power * (filters.T @ bands) / (filters.T @ (filters @ power) + 1e-12)
    size = power.sqrt() * hann.sum()
    size = torch.cat([size, torch.zeros_like(size[..., :1])], dim=-1)  # the frame at the very end
    angle = 2 * pi * torch.rand(size.shape, generator=torch.Generator().manual_seed(0))
    length = hop * bands.shape[-1]
    for _ in range(rounds):
        waves = torch.istft(torch.polar(size, angle), window, hop, window=hann, length=length)
        angle = torch.stft(waves, window, hop, window=hann, pad_mode="constant", return_complex=True).angle()
    waves = torch.istft(torch.polar(size, angle), window, hop, window=hann, length=length)
    return waves.clamp(-1, 1)
