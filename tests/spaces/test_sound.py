"""Features of sound beside their references: SciPy, the extractors of transformers, and formulas in plain NumPy."""

from math import gcd, log2
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly
from torch import Tensor

import limbeck as lb
from limbeck.data.spectrogram import mel_bank
from limbeck.errors import ConfigError, DataError
from limbeck.spaces.audio_features import decibel_mel, fit, kaldi_mel, resample
from limbeck.spaces.audio_frontend import AudioNetwork, DecibelMel, KaldiMel, Waveform, read_features


def sounds(count: int = 2, length: int = 6000, rate: int = 16000) -> Tensor:
    """Chirps under noise, no two alike."""
    time = torch.arange(length, dtype=torch.float64) / rate
    generator = torch.Generator().manual_seed(0)
    pitch = torch.tensor([200.0, 900.0, 3000.0])[:count, None]
    noise = torch.randn(count, length, generator=generator, dtype=torch.float64)
    return 0.4 * torch.sin(2 * torch.pi * pitch * time * (1 + time)) + 0.05 * noise


@pytest.mark.parametrize(("rate", "to"), [(16000, 48000), (48000, 16000), (44100, 48000), (22050, 16000), (8000, 8000)])
def test_resampling_is_scipys(rate: int, to: int) -> None:
    waves, common = sounds(length=4007), gcd(rate, to)
    expected = resample_poly(waves.numpy(), to // common, rate // common, axis=1) if rate != to else waves.numpy()
    assert np.abs(resample(waves, rate, to).numpy() - expected).max() < 1e-12


@pytest.mark.parametrize("length", [1, 2, 17])
def test_resampling_of_a_few_samples(length: int) -> None:
    waves = sounds(length=length)
    np.testing.assert_allclose(resample(waves, 2, 3).numpy(), resample_poly(waves.numpy(), 3, 2, axis=1), atol=1e-12)


@pytest.mark.parametrize(("repeat", "expected"), [(True, [1, 2, 1, 2, 0]), (False, [1, 2, 0, 0, 0])])
def test_fit(repeat: bool, expected: list[int]) -> None:
    assert fit(torch.tensor([[1.0, 2.0]]), 5, repeat).tolist() == [expected]
    assert fit(torch.tensor([[1.0, 2.0]]), 1, repeat).tolist() == [[1.0]]


def kaldi_by_hand(wave: np.ndarray, rate: int, mels: int) -> np.ndarray:
    """Kaldi's filter bank, frame by frame and bin by bin."""
    size, hop = rate * 25 // 1000, rate // 100
    window = [0.5 - 0.5 * np.cos(2 * np.pi * i / (size - 1)) for i in range(size)]
    padded = 2 ** int(np.ceil(log2(size)))
    mel = [1127 * np.log(1 + k * rate / padded / 700) for k in range(padded // 2 + 1)]
    low, high = (1127 * np.log(1 + f / 700) for f in (20, rate / 2))
    step = (high - low) / (mels + 1)
    rows = []
    for start in range(0, len(wave) - size + 1, hop):
        frame = wave[start : start + size] - wave[start : start + size].mean()
        sharp = [frame[0] - 0.97 * frame[0], *(frame[i] - 0.97 * frame[i - 1] for i in range(1, size))]
        shaped = np.zeros(padded)
        shaped[:size] = np.array(sharp) * window
        power = np.abs(np.fft.fft(shaped)[: padded // 2 + 1]) ** 2
        row = []
        for band in range(mels):
            left = low + band * step
            sides = [min((m - left) / step, (left + 2 * step - m) / step) for m in mel]
            row.append(np.log(max(sum(max(0, s) * p for s, p in zip(sides, power, strict=True)), 2.0**-23)))
        rows.append(row)
    return np.array(rows)


def test_kaldi_mel_is_the_formula() -> None:
    waves = sounds(1, 1000, 8000)
    np.testing.assert_allclose(
        kaldi_mel(waves, 8000, 12)[0].numpy(), kaldi_by_hand(waves[0].numpy(), 8000, 12), atol=1e-9
    )


@pytest.mark.filterwarnings("ignore:At least one mel filter")
@pytest.mark.parametrize("normalised", [False, True])
def test_kaldi_mel_is_that_of_transformers(normalised: bool) -> None:
    from transformers import ASTFeatureExtractor

    extractor = ASTFeatureExtractor(do_normalize=normalised, max_length=64)
    waves = sounds(length=8000)
    expected = [extractor(w.numpy(), sampling_rate=16000, return_tensors="pt")["input_values"][0] for w in waves]
    reading = read_features(extractor.to_dict(), "ast")
    assert isinstance(reading, KaldiMel)
    torch.testing.assert_close(reading(waves.float())["input_values"], torch.stack(expected), rtol=0, atol=1e-3)


@pytest.mark.parametrize("length", [700, 4000, 5000])
@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("truncation", ["fusion", "rand_trunc"])
def test_decibel_mel_is_claps(truncation: str, padding: str, length: int) -> None:
    from transformers import ClapFeatureExtractor

    extractor = ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=8000,
        hop_length=80,
        fft_window_size=256,
        max_length_s=1,
        frequency_min=50,
        frequency_max=3800,
        truncation=truncation,
        padding=padding,
    )
    waves = sounds(length=length, rate=8000)
    seen = extractor(list(waves.numpy()), sampling_rate=8000, return_tensors="pt")
    reading = read_features(extractor.to_dict(), "clap")
    assert isinstance(reading, DecibelMel)
    torch.testing.assert_close(reading(waves.float())["input_features"], seen["input_features"], rtol=0, atol=1e-3)
    longer = reading(waves).get("is_longer")
    assert longer is None if truncation == "rand_trunc" else not longer.any()
    twice = torch.cat([waves, waves], dim=1)[:, :8000]
    if length == 4000:  # what is too long is cut at its end
        kept = reading(torch.cat([twice, waves], dim=1))["input_features"]
        torch.testing.assert_close(kept, reading(twice)["input_features"])


@pytest.mark.parametrize(
    ("scale", "low", "high"), [("htk", 0.0, 8000.0), ("slaney", 50.0, 7000.0), ("kaldi", 20.0, 8000.0)]
)
def test_mel_banks_are_those_of_transformers(scale: Any, low: float, high: float) -> None:
    from transformers.audio_utils import mel_filter_bank

    options = {"norm": "slaney" if scale == "slaney" else None, "triangularize_in_mel_space": scale == "kaldi"}
    expected = mel_filter_bank(257, 40, low, high, 16000, mel_scale=scale, **options)
    np.testing.assert_allclose(mel_bank(16000, 512, 40, low, high, scale).numpy(), expected.T, atol=1e-9)


def test_standardised_waveforms_are_those_of_wav2vec() -> None:
    from transformers import Wav2Vec2FeatureExtractor

    extractor, waves = Wav2Vec2FeatureExtractor(do_normalize=True), sounds()
    expected = extractor(list(waves.numpy()), sampling_rate=16000, return_tensors="pt")["input_values"]
    found = read_features(extractor.to_dict(), "wav2vec")(waves)["input_values"]
    torch.testing.assert_close(found.float(), expected.float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [1920, 2000, 5000])
def test_waveforms_of_pe_av_are_mirrored_at_the_end(length: int) -> None:
    import transformers

    if not hasattr(transformers, "PeAudioFeatureExtractor"):
        pytest.skip("PE-AV came with transformers 5")
    extractor, waves = transformers.PeAudioFeatureExtractor(), sounds(length=length).float()
    expected = extractor(list(waves.numpy()), sampling_rate=48000, return_tensors="pt")["input_values"]
    assert torch.equal(read_features(extractor.to_dict(), "pe")(waves)["input_values"], expected)


@pytest.mark.parametrize(
    "features",
    [
        lambda w: resample(w, 2, 3),
        lambda w: kaldi_mel(w, 1600, 4),
        lambda w: decibel_mel(w, mel_bank(1600, 32, 4, 0, 800, "htk"), 32, 16),
        lambda w: Waveform(1600, standardised=True)(w)["input_values"],
        lambda w: Waveform(1600, multiple=48)(w)["input_values"],
    ],
)
def test_gradients(features: Any) -> None:
    assert torch.autograd.gradcheck(features, sounds(2, 70, 1600).requires_grad_())


def test_silence_has_finite_gradients() -> None:
    waves = torch.zeros(2, 4000).requires_grad_()
    for reading in (DecibelMel(8000, 8000, 256, 80, 16, 0, 4000), KaldiMel(8000, 64, 16), Waveform(8000, True)):
        (value,) = reading(waves).values()
        (gradient,) = torch.autograd.grad(value.sum(), waves)
        assert torch.isfinite(value).all() and torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kaldi_mel(torch.zeros(1, 399), 16000, 8), DataError, "needs 400 samples at 16000 Hz or more, got 399"),
        (
            lambda: Waveform(48000, multiple=1920)(torch.zeros(1, 100)),
            DataError,
            "100 samples at 48000 Hz is too short",
        ),
        (lambda: lb.space(audio={"name": "hf:x", "rate": 16}), ConfigError, "`rate` of hf must be from 1000 to 768000"),
        (lambda: read_features({"feature_extractor_type": "Whisper"}, "x"), ConfigError, "hf:x: .* is Whisper, which"),
        (
            lambda: read_features({"feature_extractor_type": "ClapFeatureExtractor", "padding": "mirror"}, "x"),
            ConfigError,
            "fills short sounds by 'mirror'",
        ),
    ],
)
def test_refusals(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("values", [torch.zeros(2, 1, 64, 100), torch.zeros(2, 0), ["bark"]])
def test_an_audio_network_takes_waveforms(values: Any) -> None:
    with pytest.raises(DataError, match=r"takes waveforms \[B, L\], got .*mels 0"):
        AudioNetwork(torch.nn.Identity(), Waveform(8000), lambda m, i: i["input_values"], 8000)(values)
