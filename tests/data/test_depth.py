"""Depth maps in every unit and file that people have, and every way in which one can be unusable."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from limbeck.data.decode import decode_image
from limbeck.data.depth import DepthUnit, decode_depth, depth_size
from limbeck.data.parse import Unreadable
from limbeck.errors import ConfigError


def npy(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values))
    return buffer.getvalue()


def image(values: NDArray[Any], format: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format)
    return buffer.getvalue()


RAMP = np.linspace(1, 4, 64).reshape(8, 8)  # metres


@pytest.mark.parametrize(
    ("data", "unit"),
    [
        (image(np.rint(1000 * RAMP).astype(np.uint16)), "mm"),
        (image(np.rint(5000 * RAMP).astype(np.uint16)), "0.0002"),
        (image(RAMP.astype(np.float32), "tiff"), "m"),
        (image(np.rint(1000 * RAMP).astype(np.int32), "tiff"), "mm"),
        (npy(RAMP), "m"),
        (npy(RAMP.astype(np.float32)[None]), "m"),
        (npy(100 * RAMP[:, :, None]), "cm"),
        (npy(60 / RAMP), "disparity:60"),
        (image(np.rint(20 * RAMP).astype(np.uint8)), "0.05"),
    ],
)
def test_every_file_and_unit_gives_metres(data: bytes, unit: str) -> None:
    depth = decode_depth(data, 8, unit)
    assert depth.dtype == np.float32 and depth.shape == (1, 8, 8)
    np.testing.assert_allclose(depth[0], RAMP, atol=0.026 if unit == "0.05" else 6e-4)


@pytest.mark.parametrize("none", [0.0, -1.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("unit", ["m", "disparity:2"])
def test_what_is_no_reading_is_zero(none: float, unit: str) -> None:
    values = np.full((4, 4), 2.0)
    values[1, 2] = none
    depth = decode_depth(npy(values), 4, unit)[0]
    assert depth[1, 2] == 0 and (np.delete(depth.ravel(), 6) == (2 if unit == "m" else 1)).all()


def test_a_pixel_is_the_mean_of_its_readings() -> None:
    values = np.array([[1.0, 3.0, 0, 0], [2.0, 2.0, 0, 5.0], [4, 0, 6, 6], [0, 4, 6, 6]])
    assert decode_depth(npy(values), 2, "m").tolist() == [[[2.0, 0.0], [4.0, 6.0]]]


def test_far_is_the_end() -> None:
    values = np.array([[1.0, 3.0], [50.0, 7.0]])
    assert decode_depth(npy(values), 2, "m", far=5).tolist() == [[[1.0, 3.0], [5.0, 5.0]]]


def test_depth_lies_upon_its_image() -> None:
    side = np.zeros((30, 50), dtype=np.uint8)
    side[6:20, 16:30] = 100
    depth = decode_depth(image(side.astype(np.uint16) + 100), 15, "0.01")[0]
    picture = decode_image(image(side), 15)[0]
    assert ((depth > 1.5) == (picture > 50)).all() and (depth > 1.5).any()


def small_png(mode: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (9, 9)).save(buffer, "png")
    return buffer.getvalue()


RANGE = r"most readings out of range, 0\.01 to 10 m in unit m: see depth_unit and depth_far"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"no depth", "not a depth map"),
        (npy([1.0, 2.0]), "not a depth map"),
        (npy([["a", "b"]]), "not a depth map"),
        (npy(RAMP)[:200], "damaged"),
        (npy(RAMP)[:40], "damaged"),
        (npy(RAMP).replace(b"(8, 8)", b"(99999, 9999)").replace(b" " * 7, b"", 1), "too many pixels: more than .*"),
        (small_png("RGB"), "colours, not depth"),
        (small_png("P"), "colours, not depth"),
        (image(np.random.default_rng(0).integers(1, 60000, (64, 64)).astype(np.uint16))[:900], "truncated"),
        (npy(np.zeros((4, 4))), "no reading"),
        (npy(np.where(np.arange(64).reshape(8, 8) % 8 == 0, 2.0, 0.0)), "no reading"),  # too few for any pixel
        (npy(1000 * RAMP), RANGE),  # millimetres called metres
        (npy(RAMP / 1000), RANGE),  # the other way round
    ],
)
def test_what_cannot_be_used_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=f"^{reason}$"):
        decode_depth(data, 2, "m")


@pytest.mark.parametrize("unit", ["", "feet", "0", "-1", "nan", "inf", "disparity", "disparity:0", "disparity:far"])
def test_unknown_units(unit: str) -> None:
    with pytest.raises(ConfigError, match="the unit of depth is m, cm, mm"):
        DepthUnit(unit)


@pytest.mark.parametrize("format", ["png", "tiff"])
def test_a_map_is_turned_as_its_exif_says_and_measured_so(format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees: what is left comes to the top
    across = np.tile(np.arange(1, 21, dtype=np.uint16) * 100, (10, 1))
    buffer = io.BytesIO()
    Image.fromarray(across).save(buffer, format, exif=exif)
    assert depth_size(buffer.getvalue()) == (10, 20)
    depth = decode_depth(buffer.getvalue(), 10, "mm")[0]
    assert (np.diff(depth, axis=0) > 0).all() and np.ptp(depth, axis=1).max() == 0
    assert depth_size(npy(across)) == (20, 10)


def test_blocks_of_rows_are_no_seam() -> None:
    numbers = np.random.default_rng(0).uniform(0.5, 12, (1500, 900))
    numbers[::7, ::3] = 0
    buffer = io.BytesIO()
    np.save(buffer, numbers)
    whole = np.minimum(numbers, 10).astype(np.float32)
    box = Image.fromarray(whole).resize((15, 15), Image.Resampling.BOX, (0, 300, 900, 1200))
    read = Image.fromarray((whole > 0).astype(np.float32)).resize((15, 15), Image.Resampling.BOX, (0, 300, 900, 1200))
    np.testing.assert_allclose(
        decode_depth(buffer.getvalue(), 15, "m")[0], np.asarray(box) / np.asarray(read), rtol=1e-6
    )
