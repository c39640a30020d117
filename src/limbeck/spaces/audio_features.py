"""Waveforms to what audio networks were trained on, in torch and differentiably: resampling, filter banks, log-mel."""

from functools import cache
from math import ceil, gcd

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limbeck.data.spectrogram import mel_bank
from limbeck.errors import DataError

__all__ = ["decibel_mel", "fit", "kaldi_mel", "resample"]


def resample(waves: Float[Tensor, "b t"], rate: int, to: int) -> Float[Tensor, "b t2"]:
    """Waveforms at another rate, by polyphase filtering: what `decode_audio` does to files, with a gradient.

        y[n] = sum over k of h[n * down - k * up] x[k],    up / down = to / rate

    h is a sinc under a Kaiser window (beta 5) with its edge at the lower of both half rates, ten periods to either side.

    Args:
        waves: `[B, L]`.
        rate, to: samples a second, before and after.

    Returns:
        `[B, ceil(L * to / rate)]`.

    Example:
        >>> resample(torch.zeros(2, 16000), 16000, 48000).shape
        torch.Size([2, 48000])
    """
    if rate == to:
        return waves
    up, down = to // gcd(rate, to), rate // gcd(rate, to)
    before, kernel = _phases(up, down)
    length = ceil(waves.shape[-1] * up / down)
    blocks = ceil(length / up)
    after = (blocks - 1) * down + kernel.shape[-1] - before - waves.shape[-1]
    padded = F.pad(waves[:, None], (before, max(after, 0)))
    phases = F.conv1d(padded, kernel.to(waves)[:, None], stride=down)[..., :blocks]
    return phases.transpose(1, 2).flatten(1)[:, :length]


@cache
def _phases(up: int, down: int) -> tuple[int, Float[Tensor, "up taps"]]:
    """Samples before the first one that a phase looks at, and the taps of each of the `up` phases."""
    half = 10 * max(up, down)
    before, behind = half // up, ((up - 1) * down + half) // up
    offset = np.arange(up)[:, None] * down - np.arange(-before, behind + 1)[None] * up
    inside = np.abs(offset) <= half
    place = np.where(inside, offset, half)
    taps = np.sinc(place / max(up, down)) * np.i0(5 * np.sqrt(1 - (place / half) ** 2))
    whole = np.arange(-half, half + 1)
    gain = (np.sinc(whole / max(up, down)) * np.i0(5 * np.sqrt(1 - (whole / half) ** 2))).sum()
    return before, torch.from_numpy(np.where(inside, taps * up / gain, 0.0))


def fit(waves: Float[Tensor, "b t"], samples: int, repeat: bool = True) -> Float[Tensor, "b {samples}"]:
    """Waveforms of one length: longer ones cut at the end, shorter ones repeated as often as they fit, then silence.

    Args:
        waves: `[B, L]`.
        samples: the length.
        repeat: whether shorter ones are repeated.

    Example:
        >>> fit(torch.tensor([[1.0, 2.0]]), 5).tolist()
        [[1.0, 2.0, 1.0, 2.0, 0.0]]
    """
    kept = waves[:, :samples]
    kept = kept.repeat(1, samples // kept.shape[1]) if repeat else kept
    return F.pad(kept, (0, samples - kept.shape[1]))


def decibel_mel(
    waves: Float[Tensor, "b t"], bank: Float[Tensor, "mels f"], window: int, hop: int
) -> Float[Tensor, "b frames mels"]:
    """Mel spectrograms in decibel, at least -100: frames centred at multiples of `hop`, the sound mirrored at its ends.

        10 log10(max(bank . |STFT|^2, 1e-10))

    Args:
        waves: `[B, L]`, L longer than half a window.
        bank: `mel_bank`.
        window: samples of Hann's window.
        hop: samples from one frame to the next.

    Returns:
        `[B, 1 + L // hop, mels]`.

    Example:
        >>> decibel_mel(torch.zeros(1, 800), mel_bank(8000, 256, 8, 0, 4000, "htk"), 256, 80).unique().tolist()
        [-100.0]
    """
    hann = torch.hann_window(window, dtype=waves.dtype, device=waves.device)
    spectrum = torch.stft(waves, window, hop, window=hann, center=True, pad_mode="reflect", return_complex=True)
    power = torch.view_as_real(spectrum).square().sum(-1)
    return 10 * (bank.to(power) @ power).clamp(min=1e-10).log10().transpose(1, 2)


def kaldi_mel(waves: Float[Tensor, "b t"], rate: int, mels: int) -> Float[Tensor, "b frames {mels}"]:
    """Kaldi's log filter banks: frames of 25 ms every 10 ms, none of which looks beyond the ends.

    Each frame loses its mean, is sharpened (x[i] - 0.97 x[i - 1]), windowed by Hann and padded to a power of two; bands lie
    between 20 Hz and half the rate; log(max(power, 2^-23)). The sound is taken as it is: some networks want its mean removed.

    Args:
        waves: `[B, L]`, at least 25 ms.
        rate: samples a second.
        mels: bands.

    Returns:
        `[B, 1 + (L - frame) // hop, mels]`.

    Raises:
        DataError: shorter than a frame.

    Paper: Povey et al., The Kaldi speech recognition toolkit, ASRU 2011.

    Example:
        >>> kaldi_mel(torch.zeros(2, 32000), 16000, 128).shape
        torch.Size([2, 198, 128])
    """
    frame, hop = rate * 25 // 1000, rate // 100
    if waves.shape[-1] < frame:
        raise DataError(f"a filter bank needs {frame} samples at {rate} Hz or more, got {waves.shape[-1]}")
    size = 1 << (frame - 1).bit_length()
    frames = waves.unfold(1, frame, hop)
    frames = frames - frames.mean(-1, keepdim=True)
    frames = frames - 0.97 * torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
    hann = torch.hann_window(frame, periodic=False, dtype=waves.dtype, device=waves.device)
    spectrum = torch.fft.rfft(frames * hann, n=size)
    power = torch.view_as_real(spectrum).square().sum(-1)
    bank = mel_bank(rate, size, mels, 20, rate / 2, "kaldi").to(power)
    return (power @ bank.T).clamp(min=2**-23).log()
