"""Log-mel spectrograms against the formula in numpy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from limbeck.data.spectrogram import frames_of, heard, log_mel, mel_filters, window_of
from limbeck.errors import ConfigError, DataError


def reference(wave: NDArray[np.float64], rate: int, mels: int) -> NDArray[np.float64]:
    """One window and one filter at a time."""
    window, hop = window_of(rate)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    padded = np.pad(wave, window // 2)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), mels + 2) / 2595) - 1)
    found = np.zeros((mels, len(wave) // hop))
    for frame in range(found.shape[1]):
        spectrum = np.fft.rfft(hann * padded[frame * hop : frame * hop + window])
        power = np.abs(spectrum) ** 2 / hann.sum() ** 2
        for k in range(mels):
            triangle = np.interp(np.fft.rfftfreq(window, 1 / rate), edges[k : k + 3], [0, 1, 0], left=0, right=0)
            found[k, frame] = 1 + np.log10(triangle @ power + 1e-8) / 8
    return found.clip(0, 1)


@pytest.mark.parametrize(("rate", "mels"), [(8000, 40), (16000, 64), (22050, 64), (44100, 128)])
def test_against_the_formula(rate: int, mels: int) -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, rate // 4) * np.linspace(0, 1, rate // 4)
    got = log_mel(torch.from_numpy(wave)[None], rate, mels)
    assert got.shape == (1, 1, mels, frames_of(rate // 4, rate))
    np.testing.assert_allclose(got[0, 0].numpy(), reference(wave, rate, mels), atol=1e-9)
    single = log_mel(torch.from_numpy(wave)[None].float(), rate, mels)
    assert single.dtype == torch.float32 and float((single - got).abs().max()) < 1e-4


def test_silence_is_zero_and_the_loudest_stays_below_one() -> None:
    assert float(log_mel(torch.zeros(1, 8000), 8000, 40).abs().max()) < 1e-6
    square = torch.sin(torch.arange(8000) * 0.3).sign()[None]
    noise = (torch.rand(1, 8000, generator=torch.Generator().manual_seed(0)) - 0.5).sign()
    for loud in (square, noise):
        assert 0.8 < float(log_mel(loud, 8000, 40).max()) <= 1


def test_ten_decibels_are_an_eighth() -> None:
    wave = torch.sin(torch.arange(8000) * 0.3)[None].double()
    loud, less = log_mel(wave, 8000, 40).max(), log_mel(wave / 10**0.5, 8000, 40).max()
    assert float(loud - less) == pytest.approx(1 / 8, abs=1e-5)


def test_a_tone_is_heard_where_it_is() -> None:
    for hertz in (300, 1000, 3000):
        wave = torch.sin(2 * torch.pi * hertz * torch.arange(8000) / 8000)[None]
        band = int(log_mel(wave, 8000, 40)[0, 0, :, 50].argmax())
        frequencies = torch.arange(129) * 8000 / 256
        centre = float(frequencies[mel_filters(8000, 256, 40)[band].argmax()])
        assert abs(centre - hertz) < 0.08 * hertz + 32


def test_neighbouring_filters_add_up_to_one() -> None:
    filters = mel_filters(16000, 512, 64)
    inner = filters[:, 2:-12].sum(0)
    assert torch.allclose(inner, torch.ones_like(inner))
    assert float(filters.min()) == 0 and filters.max() <= 1


def test_gradient() -> None:
    wave = torch.randn(2, 256, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / 10
    assert torch.autograd.gradcheck(lambda w: log_mel(w, 1000, 8), wave.requires_grad_())
    quiet = torch.full((1, 800), 1e-6, requires_grad=True)
    (gradient,) = torch.autograd.grad(log_mel(quiet, 8000, 40).sum(), quiet)
    assert bool(gradient.isfinite().all()) and float(gradient.abs().max()) > 0
    silent = torch.zeros(1, 800, requires_grad=True)
    (gradient,) = torch.autograd.grad(log_mel(silent, 8000, 40).sum(), silent)
    assert bool(gradient.isfinite().all())


def test_what_cannot_be_done() -> None:
    with pytest.raises(DataError, match="needs 80 samples at 8000 Hz or more, got 79"):
        log_mel(torch.zeros(1, 79), 8000)
    with pytest.raises(ConfigError, match="300 mel bands are more than windows of 256 samples at 8000 Hz"):
        mel_filters(8000, 256, 300)


@pytest.mark.parametrize(("rate", "mels"), [(8000, 40), (16000, 64)])
def test_what_is_heard_has_nearly_the_spectrogram_again(rate: int, mels: int) -> None:
    time = torch.arange(rate) / rate
    wave = 0.3 * torch.sin(2 * np.pi * 440 * time) * (time < 0.6) + 0.2 * torch.sin(
        2 * np.pi * (900 + 600 * time) * time
    )
    wanted = log_mel(wave[None], rate, mels)
    got = heard(wanted, rate)
    assert got.shape == (1, rate) and float(got.abs().max()) <= 1
    loud = wanted > 0.6  # what carries the sound; far below it any phase leaves a floor
    again = log_mel(got, rate, mels)
    assert float((again - wanted)[loud].abs().mean()) < 0.04  # a third of a decibel is 0.004, 3 dB are 0.04
    assert torch.equal(heard(wanted, rate), got)
    peak = torch.fft.rfft(got[0, : rate // 2]).abs()[: rate // 8].argmax() * 2
    assert abs(int(peak) - 440) < 25


def test_silence_is_heard_as_silence() -> None:
    assert float(heard(torch.zeros(1, 1, 40, 50), 8000).abs().max()) < 1e-3
