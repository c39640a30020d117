"""Sound files to mono waveforms of one rate and length; what cannot be used comes back as a reason."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, gcd, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.parse import Unreadable
from limbeck.errors import MissingDependency
from limbeck.limits import SAMPLES

__all__ = ["SOUND_DECODER", "cut_audio", "decode_audio"]

SOUND_DECODER = 2  # part of every fingerprint; raise it whenever the same bytes decode to other samples

RATES = 1000, 768_000  # samples a second that a file may claim; others are a damaged header
STEPS = (
    200_000  # of the smallest step in time that two rates share, from one sample to the next: so long is their filter
)
SHORTEST = 0.01  # seconds
SILENT = 1e-4  # the peak of a clip that holds no more than the dither of 16 bits
LOUDEST = 2.0  # a peak above it is no overshoot but another scale
BLOCK = 1_000_000  # numbers that are read at a time
FOREVER = 1e9  # seconds, longer than any sound

# What begins in these bytes is a sound (or a film with one) that libsndfile does not read.
FOREIGN = (
    (rb"....ftyp", "AAC (m4a)", "m4a"),
    (rb"\xff[\xf0\xf1\xf8\xf9]", "AAC", "aac"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA", "wma"),
    (rb"\x1a\x45\xdf\xa3", "Matroska (webm)", "webm"),
    (rb"#!AMR", "AMR", "amr"),
    (rb"MAC ", "APE", "ape"),
    (rb"wvpk", "WavPack", "wv"),
    (rb"RIFF....AVI ", "AVI", "avi"),
)


def decode_audio(data: bytes, rate: int, samples: int) -> NDArray[np.float32]:
    """Decodes one sound: channels averaged, resampled to `rate`, cut at the end or padded there with silence.

    Only the beginning that is kept is decoded, so that an hour costs no more than a clip. Resampling is polyphase
    filtering, which lets nothing above half the lower rate through. A peak that overshoots 1 is clipped.

    Args:
        data: the bytes of a file that libsndfile reads: WAV, FLAC, OGG, MP3, AIFF and others.
        rate: samples a second of the result.
        samples: L, its length.

    Returns:
        `float32 [L]` in [-1, 1].

    Raises:
        Unreadable: `empty file`, `not a sound` (or of which kind it is, and how to convert it), `unlikely sampling rate`, `shorter
            than 10 ms`, `not finite`, `beyond full scale`, `too many samples` or `silent`, `silent at its beginning`.
        MissingDependency: soundfile is not installed.

    Example:
        >>> import soundfile
        >>> buffer = io.BytesIO(); soundfile.write(buffer, np.full((4410, 2), 0.5), 44100, format="WAV")
        >>> decode_audio(buffer.getvalue(), 8000, 1000).shape
        (1000,)
    """
    from scipy.signal import resample_poly

    if not data:
        raise Unreadable("empty file")
    mono, own, whole = _read(data, rate, samples)
    if len(mono) < SHORTEST * own:
        raise Unreadable("shorter than 10 ms")
    if own != rate:
        common = gcd(own, rate)
        mono = resample_poly(mono, rate // common, own // common)
    kept = mono[:samples]
    if np.abs(kept).max() < SILENT:
        raise Unreadable("silent" if whole else "silent at its beginning")
    waveform: NDArray[np.float32] = np.pad(kept, (0, samples - len(kept))).clip(-1, 1).astype(np.float32)
    return waveform


def cut_audio(data: bytes, start: float, stop: float) -> bytes:
    """The part of a sound from `start` to `stop` seconds as a WAV file of floats, with its own rate and channels.

    What lies beyond the end is left out. A sound that ends before `start` leaves an empty file, which `decode_audio`
    refuses as too short.

    Args:
        data: the bytes of a file that libsndfile reads.
        start, stop: seconds.

    Raises:
        Unreadable: as `decode_audio` does, and where `start` to `stop` is no part of time.
        MissingDependency: soundfile is not installed.
    """
    from scipy.io import wavfile

    if not data:
        raise Unreadable("empty file")
    if not (isfinite(start) and isfinite(stop) and 0 <= start < stop):
        raise Unreadable(f"no part of a sound, {start:g} to {stop:g} s")
    with _opened(data) as file:
        rate = int(file.samplerate)
        ends = file.frames / rate  # where the file tells so, rightly or not
        file.seek(round(min(start, ends) * rate) if start < ends else file.frames)
        part = _blocks(file, round(min(stop - start, FOREVER) * rate), "float32", SAMPLES.most)
        buffer = io.BytesIO()
        wavfile.write(buffer, rate, np.concatenate([np.zeros((0, file.channels), np.float32), *part]))
    return buffer.getvalue()


def _read(data: bytes, rate: int, samples: int) -> tuple[NDArray[np.float64], int, bool]:
    """The mean of the channels as far as `samples` at `rate` need it, the file's own rate, and whether that is all."""
    with _opened(data) as file:
        own = int(file.samplerate)
        if max(own, rate) // gcd(own, rate) > STEPS:
            raise Unreadable("unlikely sampling rate")
        filtered = 10 * max(1, ceil(own / rate)) + 10  # so far the filter looks beyond the end
        asked = ceil(samples * own / rate) + filtered
        mono = [np.zeros(0)]
        for block in _blocks(file, asked, "float64", max(SAMPLES.most, 4 * samples) * file.channels):
            if not np.isfinite(block).all():
                raise Unreadable("not finite")
            if np.abs(block).max() > LOUDEST:
                raise Unreadable("beyond full scale")
            mono.append(block.mean(axis=1))
        return np.concatenate(mono), own, file.frames <= asked


def _blocks(file: Any, frames: int, kind: str, most: int) -> Iterator[NDArray[Any]]:
    """The next frames of a file, `[T, channels]` at a time, whatever its header says of its length.

    Raises:
        Unreadable: `too many samples`: more than `most` numbers.
    """
    size = max(1, BLOCK // max(1, file.channels))
    while frames > 0:
        block = file.read(min(size, frames), dtype=kind, always_2d=True)
        most -= block.size
        if most < 0:
            raise Unreadable(f"too many samples: {SAMPLES}")
        if not len(block):
            return
        frames -= len(block)
        yield block


class _File(io.BytesIO):
    """Bytes as a file, in which a damaged header may seek before the beginning: there it stays."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return super().seek(0)


@contextmanager
def _opened(data: bytes) -> Iterator[Any]:
    """A `soundfile.SoundFile` of a rate that can be; its errors become reasons."""
    try:
        import soundfile
    except ImportError as error:
        raise MissingDependency("decoding audio", "soundfile", "audio") from error
    try:
        with soundfile.SoundFile(_File(data)) as file:
            if not RATES[0] <= int(file.samplerate) <= RATES[1]:
                raise Unreadable("unlikely sampling rate")
            yield file
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable(_kind(data)) from error


def _kind(data: bytes) -> str:
    """Why a file cannot be opened: of a kind that is not read, with the remedy, or no sound at all."""
    for begin, name, ending in FOREIGN:
        if re.match(begin, data, re.DOTALL):
            return f"{name} is not read: convert it: ffmpeg -i x.{ending} x.wav"
    return "not a sound"
