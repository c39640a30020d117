"""Sound files to mono waveforms of one rate and length; what cannot be used comes back as a reason."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil, gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.parse import Unreadable
from limbeck.errors import MissingDependency

__all__ = ["SOUND_DECODER", "cut_audio", "decode_audio"]

SOUND_DECODER = 2  # part of every fingerprint; raise it whenever the same bytes decode to other samples

RATES = 1000, 768_000  # samples a second that a file may claim; others are a damaged header
SHORTEST = 0.01  # seconds
SILENT = 1e-4  # the peak of a clip that holds no more than the dither of 16 bits
LOUDEST = 2.0  # a peak above it is no overshoot but another scale


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
        Unreadable: `empty file`, `not a sound`, `unlikely sampling rate`, `shorter than 10 ms`, `not finite`, `beyond
            full scale` or `silent`, `silent at its beginning`.
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
    sound, own, whole = _read(data, rate, samples)
    if len(sound) < SHORTEST * own:
        raise Unreadable("shorter than 10 ms")
    if not np.isfinite(sound).all():
        raise Unreadable("not finite")
    if np.abs(sound).max() > LOUDEST:
        raise Unreadable("beyond full scale")
    mono = sound.mean(axis=1)
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
        Unreadable: `empty file`, `not a sound` or `unlikely sampling rate`.
        MissingDependency: soundfile is not installed.
    """
    from scipy.io import wavfile

    if not data:
        raise Unreadable("empty file")
    with _opened(data) as file:
        file.seek(min(round(start * file.samplerate), file.frames))
        part = file.read(round((stop - start) * file.samplerate), dtype="float32", always_2d=True)
        buffer = io.BytesIO()
        wavfile.write(buffer, int(file.samplerate), part)
    return buffer.getvalue()


def _read(data: bytes, rate: int, samples: int) -> tuple[NDArray[np.float64], int, bool]:
    """The beginning of the sound, `[T, channels]`, as long as `samples` at `rate` need it, its own rate, and whether that is all."""
    with _opened(data) as file:
        own = int(file.samplerate)
        filtered = 10 * max(1, ceil(own / rate)) + 10  # so far the filter looks beyond the end
        asked = ceil(samples * own / rate) + filtered
        return file.read(asked, dtype="float64", always_2d=True), own, file.frames <= asked


@contextmanager
def _opened(data: bytes) -> Iterator[Any]:
    """A `soundfile.SoundFile` of a rate that can be; its errors become reasons."""
    try:
        import soundfile
    except ImportError as error:
        raise MissingDependency("decoding audio", "soundfile", "audio") from error
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if not RATES[0] <= int(file.samplerate) <= RATES[1]:
                raise Unreadable("unlikely sampling rate")
            yield file
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable("not a sound") from error
