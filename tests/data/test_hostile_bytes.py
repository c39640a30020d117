"""Property-based: whatever the bytes, a binary reader gives values or a reason, in bounded time."""

import io
import json
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from limbeck import registry
from limbeck.data.audio import cut_audio, decode_audio
from limbeck.data.decode import decode_array, decode_image, image_size
from limbeck.data.depth import decode_depth, depth_size
from limbeck.data.mask import decode_mask, mask_size
from limbeck.data.matfile import mat_numbers
from limbeck.data.parse import Unreadable
from limbeck.data.segments import segments_bytes
from limbeck.errors import DataError

pytestmark = pytest.mark.slow

FEW = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
SECONDS = 5.0  # of CPU, of one case

Change = tuple[int, int, int, bytes]
CHANGES = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 10**6), st.integers(0, 255), st.binary(max_size=9)),
    min_size=1,
    max_size=5,
)
LENGTHS = (0, 1, 255, 2**16, 2**31 - 1, 2**32 - 1)


def changed(data: bytes, changes: list[Change]) -> bytes:
    """Bytes replaced, cut out, cut off, put in, and lengths that cannot be."""
    b = bytearray(data)
    for kind, at, number, more in changes:
        at %= max(len(b), 1)
        if kind == 0 and b:
            b[at] = number
        elif kind == 1:
            del b[at : at + 1 + number % 40]
        elif kind == 2:
            b[at:at] = more
        elif kind == 3:
            b[at : at + 4] = struct.pack("<I" if number % 2 else ">I", LENGTHS[number % len(LENGTHS)])
        elif number < 60:
            del b[at:]
    return bytes(b)


def image(format: str, picture: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8))
METRES = np.linspace(1, 3, 256).reshape(16, 16)
EXIF = Image.Exif()
EXIF[0x0112] = 6
IMAGES = [
    image("png", NOISE, exif=EXIF),
    image("png", NOISE.convert("P"), transparency=0),
    *(image(format, NOISE) for format in ("jpeg", "webp", "gif", "bmp", "ppm", "ico", "tga")),
    image("jpeg", NOISE, progressive=True, exif=EXIF),
    *(image("tiff", NOISE, compression=packed) for packed in ("raw", "tiff_deflate", "tiff_lzw")),
]
SEGMENTS = [
    {"size": [16, 16], "counts": [0, 256]},
    {"size": [16, 16], "counts": "08OO4"},
    {"size": [16, 16], "polygons": [[0, 0, 9, 0, 9, 9]]},
]


def npy(value: Any, version: tuple[int, int] = (1, 0)) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(value), version=version)
    return buffer.getvalue()


ARRAYS = [
    npy(METRES),
    npy(METRES.astype(np.float32), (2, 0)),
    npy(np.eye(16, dtype=bool)),
    npy((1000 * METRES).astype(np.uint16)),
]
MASKS = [
    image("png", NOISE.convert("L")),
    image("png", NOISE.convert("1")),
    *ARRAYS,
    *(segments_bytes(s) for s in SEGMENTS),
]
DEPTHS = [
    image("png", Image.fromarray((100 * METRES).astype(np.uint16))),
    image("tiff", Image.fromarray(METRES.astype(np.float32))),
    *ARRAYS,
]


def tries(
    good: list[bytes], reads: list[Callable[[bytes], Any]], reason: type[Exception] = Unreadable
) -> Callable[[], None]:
    """A test of many damaged files; where `reads` raises anything but `reason`, it fails."""

    @FEW
    @given(st.integers(0, len(good) - 1), CHANGES)
    def run(which: int, changes: list[Change]) -> None:
        data = changed(good[which], changes)
        for read in reads:
            begin = time.process_time()
            with suppress(reason):
                read(data)
            assert time.process_time() - begin < SECONDS

    return run


def test_images() -> None:
    tries(IMAGES, [lambda data: decode_image(data, 8), image_size])()


def test_masks() -> None:
    tries(MASKS, [lambda data: decode_mask(data, 8), mask_size])()


def test_depth() -> None:
    tries(DEPTHS, [lambda data: decode_depth(data, 8, "0.01"), depth_size])()


def test_arrays() -> None:
    tries(ARRAYS, [lambda data: decode_array(data, "not a map")])()


def test_sounds() -> None:
    soundfile = pytest.importorskip("soundfile", reason="needs the audio extra")
    good = []
    for format in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF", "AU"):
        buffer = io.BytesIO()
        soundfile.write(buffer, np.stack([np.sin(np.arange(1600) / 9)] * 2, 1), 8000, format=format)
        good.append(buffer.getvalue())
    tries(good, [lambda data: decode_audio(data, 8000, 1600), lambda data: cut_audio(data, 0.05, 0.1)])()


def test_lists_of_matlab() -> None:
    good = []
    for format, packed in (("5", False), ("5", True), ("4", False)):
        buffer = io.BytesIO()
        savemat(
            buffer, {"trainNdxs": np.arange(1, 5)[:, None], "testNdxs": [[5]]}, format=format, do_compression=packed
        )
        good.append(buffer.getvalue())
    tries(good, [mat_numbers], ValueError)()


NUMBER = st.one_of(st.integers(-3, 40), st.floats(), st.sampled_from([10**6, 2**63, 10**300, True, None, "3"]))
RUNS = st.one_of(
    st.lists(NUMBER, max_size=9), st.text("0123456789OPQo^_`~", max_size=40), st.just("o" * 10_000), NUMBER
)
CORNERS = st.lists(st.one_of(st.lists(NUMBER, max_size=9), NUMBER), max_size=4)
SIZE = st.one_of(st.just([16, 16]), st.lists(NUMBER, max_size=3), NUMBER)


@FEW
@given(st.lists(st.fixed_dictionaries({}, optional={"size": SIZE, "counts": RUNS, "polygons": CORNERS}), max_size=3))
def test_segments(segments: list[Any]) -> None:
    begin = time.process_time()
    with suppress(Unreadable):
        decode_mask(segments_bytes(segments), 8)
    with suppress(Unreadable):
        decode_mask(json.dumps(segments).encode(), 8)
    assert time.process_time() - begin < SECONDS


def test_nyu_depth(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs the nyuv2 extra")
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "w") as file:
        pixels = np.random.default_rng(0).integers(0, 255, (3, 3, 12, 10), dtype=np.uint8)
        file.create_dataset("images", data=pixels, chunks=(1, 3, 6, 5), compression="gzip")
        file["depths"] = np.full((3, 12, 10), 2, np.float32)
        texts = file.create_group("#refs#")
        for name in ("scenes", "sceneTypes"):
            refs = [texts.create_dataset(f"{name}{i}", data=np.array([[97 + i]], np.uint16)).ref for i in range(3)]
            file.create_dataset(name, data=np.array([refs], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
    layout = registry.get("source", "nyuv2")(path=str(tmp_path), resolution=8)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        for record in layout.read().records:
            for form in layout.forms:
                ref = record.ref(form.modality.name)
                assert ref is not None
                with suppress(Unreadable):
                    form.decode(ref.read())

    tries([path.read_bytes()], [read], DataError)()


@pytest.mark.parametrize("length", [50, 5000, 200_000])
def test_time_of_segments_grows_with_their_length_alone(length: int) -> None:
    """Twice as long takes twice as long, give or take."""
    begin = time.process_time()
    for counts in ("o" * length, "0" * length, "1" * length, [0] * length + [256]):
        with suppress(Unreadable):
            decode_mask(segments_bytes({"size": [16, 16], "counts": counts}), 8)
    assert time.process_time() - begin < SECONDS
