"""Sound files of every rate, length and number of channels, and every way in which one can be unusable."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from limbeck.data.audio import cut_audio, decode_audio
from limbeck.data.parse import Unreadable

soundfile = pytest.importorskip("soundfile", reason="needs the audio extra")


def tone(rate: int, seconds: float = 0.5, hertz: float = 440.0, peak: float = 0.5) -> NDArray[np.float64]:
    return peak * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def encoded(sound: NDArray[Any], rate: int, format: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, rate, format=format, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
def test_any_rate_becomes_the_asked_one(rate: int) -> None:
    got = decode_audio(encoded(tone(rate), rate, subtype="FLOAT"), 16000, 8000)
    assert got.dtype == np.float32 and got.shape == (8000,)
    inner = slice(200, -200)  # a filter has no neighbours at the ends
    np.testing.assert_allclose(got[inner], tone(16000)[inner], atol=2e-3)


def test_what_the_new_rate_cannot_hold_is_filtered_out() -> None:
    got = decode_audio(encoded(tone(48000, hertz=7000) + tone(48000, hertz=500), 48000), 8000, 4000)
    np.testing.assert_allclose(got[100:-100], tone(8000, hertz=500)[100:-100], atol=5e-3)


@pytest.mark.parametrize(("format", "atol"), [("WAV", 1e-4), ("FLAC", 1e-4), ("OGG", 0.1), ("AIFF", 1e-4)])
def test_formats(format: str, atol: float) -> None:
    np.testing.assert_allclose(decode_audio(encoded(tone(8000), 8000, format), 8000, 4000), tone(8000), atol=atol)


def test_channels_are_averaged() -> None:
    both = np.stack([tone(8000), np.zeros(4000)], axis=1)
    np.testing.assert_allclose(decode_audio(encoded(both, 8000), 8000, 4000), tone(8000) / 2, atol=1e-4)


def test_short_sounds_are_padded_and_long_ones_cut_at_the_end() -> None:
    data = encoded(tone(8000), 8000)
    padded = decode_audio(data, 8000, 5000)
    np.testing.assert_allclose(padded[:4000], tone(8000), atol=1e-4)
    assert not padded[4000:].any()
    assert np.array_equal(decode_audio(data, 8000, 1000), padded[:1000])


def test_cutting_before_resampling_changes_nothing() -> None:
    data = encoded(np.random.default_rng(0).uniform(-0.5, 0.5, 44100), 44100)
    np.testing.assert_allclose(decode_audio(data, 16000, 3000), decode_audio(data, 16000, 16000)[:3000], atol=1e-6)


def test_overshoot_is_clipped() -> None:
    got = decode_audio(encoded(tone(8000, peak=1.5), 8000, subtype="FLOAT"), 8000, 4000)
    assert got.max() == 1 and got.min() == -1


NOT_FINITE = tone(8000)
NOT_FINITE[7] = np.nan


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"hello, this is no sound at all", "not a sound"),
        (encoded(tone(8000), 8000)[:20], "not a sound"),
        (encoded(tone(8000), 50), "unlikely sampling rate"),
        (encoded(np.zeros(0), 8000), "shorter than 10 ms"),
        (encoded(tone(8000, seconds=0.005), 8000), "shorter than 10 ms"),
        (encoded(np.zeros(4000), 8000), "silent"),
        (encoded(np.resize([1 / 32768, -1 / 32768], 4000), 8000), "silent"),  # dither
        (
            encoded(np.concatenate([np.zeros(9000), tone(8000)]), 8000),
            "silent at its beginning",
        ),  # sounds after the cut
        (encoded(NOT_FINITE, 8000, subtype="FLOAT"), "not finite"),
        (encoded(32768 * tone(8000), 8000, subtype="FLOAT"), "beyond full scale"),
    ],
)
def test_what_cannot_be_used_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=f"^{reason}$"):
        decode_audio(data, 8000, 4000)


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG"])
def test_a_cut_is_that_part_of_the_sound(format: str) -> None:
    data = encoded(np.stack([tone(8000, 2.0), tone(8000, 2.0, 600)], axis=1), 8000, format)
    whole, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    for start, stop, part in [(0.5, 1.5, whole[4000:12000]), (1.5, 9.0, whole[12000:]), (0, 2, whole)]:
        cut = cut_audio(data, start, stop)
        assert cut == cut_audio(data, start, stop), "the same bytes, as they are named by their digest"
        got, rate = soundfile.read(io.BytesIO(cut), dtype="float32")
        assert rate == 8000 and np.array_equal(got, part)


def test_a_cut_that_cannot_be() -> None:
    with pytest.raises(Unreadable, match="shorter than 10 ms"):
        decode_audio(cut_audio(encoded(tone(8000), 8000), 3.0, 4.0), 8000, 100)
    with pytest.raises(Unreadable, match="empty file"):
        cut_audio(b"", 0, 1)
    with pytest.raises(Unreadable, match="not a sound"):
        cut_audio(b"RIFF", 0, 1)
    with pytest.raises(Unreadable, match="unlikely sampling rate"):
        cut_audio(encoded(tone(8000), 100), 0, 1)


@pytest.mark.parametrize(
    ("begin", "reason"),
    [
        (b"\0\0\0\x20ftypM4A \0\0\0\0", "AAC (m4a) is not read: convert it: ffmpeg -i x.m4a x.wav"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "AAC (m4a) is not read: convert it: ffmpeg -i x.m4a x.wav"),
        (b"\xff\xf1\x50\x80", "AAC is not read: convert it: ffmpeg -i x.aac x.wav"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA is not read: convert it: ffmpeg -i x.wma x.wav"),
        (b"\x1a\x45\xdf\xa3", "Matroska (webm) is not read: convert it: ffmpeg -i x.webm x.wav"),
        (b"#!AMR\n", "AMR is not read: convert it: ffmpeg -i x.amr x.wav"),
    ],
)
def test_a_kind_that_is_not_read_is_named_with_its_remedy(begin: bytes, reason: str) -> None:
    for read in (lambda data: decode_audio(data, 8000, 100), lambda data: cut_audio(data, 0, 1)):
        with pytest.raises(Unreadable) as caught:
            read(begin + bytes(200))
        assert str(caught.value) == reason


@pytest.mark.parametrize(("start", "stop"), [(0, np.inf), (np.nan, 1), (0, np.nan), (-1, 1), (2, 1), (1, 1)])
def test_what_is_no_part_of_a_sound(start: float, stop: float) -> None:
    with pytest.raises(Unreadable, match=r"^no part of a sound, "):
        cut_audio(encoded(tone(8000), 8000), start, stop)


def test_a_cut_that_lies_far_behind_the_end_is_empty_and_one_that_ends_there_is_the_rest() -> None:
    data = encoded(tone(8000), 8000)
    assert len(soundfile.read(io.BytesIO(cut_audio(data, 1e300, 1.1e300)))[0]) == 0
    assert len(soundfile.read(io.BytesIO(cut_audio(data, 0.25, 1e300)))[0]) == 2000


def test_rates_that_share_no_step_are_unlikely() -> None:
    header = bytearray(encoded(tone(48000), 48000))
    header[24:28] = (767_999).to_bytes(4, "little")
    with pytest.raises(Unreadable, match=r"^unlikely sampling rate$"):
        decode_audio(bytes(header), 16000, 8000)
    header[24:28] = (384_000).to_bytes(4, "little")
    assert decode_audio(bytes(header), 16000, 8000).any()


def test_channels_are_mixed_while_they_are_read() -> None:
    """Two hundred channels of a long sound are never in memory together."""
    import tracemalloc

    many = np.repeat(tone(8000, seconds=4)[:, None], 200, axis=1).astype(np.float32)
    data = encoded(many, 8000, "WAV", "FLOAT")
    tracemalloc.start()
    got = decode_audio(data, 8000, 32000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(got, tone(8000, seconds=4), atol=1e-4)
    assert peak < 4 * many.nbytes // 2, "in float64 all of it would be twice as many bytes as the file"


def test_a_sound_is_no_longer_than_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_LIMITS", "2e-5")
    data = encoded(tone(8000), 8000)
    with pytest.raises(Unreadable, match=r"^too many samples: more than 2,000 samples, see --limits"):
        decode_audio(data, 1000, 480)
    assert len(decode_audio(data, 8000, 4000)) == 4000, "what a person asks for is not too much"
    assert len(soundfile.read(io.BytesIO(cut_audio(data, 0, 0.25)))[0]) == 2000
    with pytest.raises(Unreadable, match=r"^too many samples: more than 2,000 samples, see --limits"):
        cut_audio(data, 0, 9)
