"""Masks in every file that people have, and every way in which one can be unusable."""

import io
import time
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from limbeck.data.decode import decode_image, image_size
from limbeck.data.form import MaskForm
from limbeck.data.mask import MaskValues, decode_mask, mask_size
from limbeck.data.parse import Unreadable
from limbeck.data.segments import decode_segments, segments_bytes, segments_size
from limbeck.errors import ConfigError

OBJECT = np.zeros((8, 8), dtype=bool)
OBJECT[2:6, 1:5] = True


def npy(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values))
    return buffer.getvalue()


def image(values: NDArray[Any], format: str = "png", mode: str = "", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(values)
    (picture.convert(mode) if mode else picture).save(buffer, format, **options)
    return buffer.getvalue()


def indexed(numbers: NDArray[Any], colours: list[int]) -> bytes:
    """A palette image."""
    picture = Image.new("P", numbers.shape[::-1])
    picture.putdata(numbers.ravel().tolist())
    picture.putpalette(colours)
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return buffer.getvalue()


def cut_out() -> bytes:
    """Noise whose object is opaque."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 4), dtype=np.uint8)
    pixels[..., 3] = 255 * OBJECT
    return image(pixels)


GREY = (255 * OBJECT).astype(np.uint8)
LABELS = np.where(OBJECT, np.where(np.arange(8) < 3, 7, 15), 0)
RUNS = [10, 4, 4, 4, 4, 4, 4, 4, 26]  # down the columns


@pytest.mark.parametrize(
    "data",
    [
        image(GREY),
        image(GREY, mode="1"),
        image(GREY, "tiff"),
        image(GREY, "bmp"),
        image(GREY, "gif"),
        image(np.stack([GREY] * 3, axis=-1)),
        image(np.where(OBJECT, 65535, 0).astype(np.uint16)),
        image(OBJECT.astype(np.float32), "tiff"),
        image(LABELS.astype(np.uint8)),
        image(LABELS.astype(np.int32), "tiff"),
        image((100 * LABELS).astype(np.uint16)),
        indexed(LABELS, [c for i in range(256) for c in (i, 255 - i, 10)]),
        indexed(~OBJECT, [255, 255, 255, 0, 0, 0] + [0] * 762),
        cut_out(),
        npy(OBJECT),
        npy(GREY[None]),
        npy(OBJECT.astype(np.float64)[..., None]),
        npy(LABELS.astype(np.int64)),
        segments_bytes({"size": [8, 8], "counts": RUNS}),
        segments_bytes({"size": [8, 8], "counts": b":4400000f0"}),
        segments_bytes({"size": [8, 8], "polygons": [[1, 2, 5, 2, 5, 6, 1, 6]]}),
        segments_bytes([{"size": [8, 8], "polygons": [[1, 2, 3, 2, 3, 6, 1, 6], [3, 2, 5, 2, 5, 6, 3, 6]]}]),
    ],
)
def test_every_file_gives_the_object(data: bytes) -> None:
    mask = decode_mask(data, 8)
    assert mask.dtype == np.uint8 and mask.shape == (1, 8, 8) and mask_size(data) == (8, 8)
    assert np.array_equal(mask[0], GREY)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("auto", [0, 255, 255, 255]),
        ("nonzero", [0, 255, 255, 255]),
        ("soft", [0, 1, 2, 3]),
        ("1,3", [0, 255, 0, 255]),
        ("0", [255, 0, 0, 0]),
    ],
)
def test_what_small_numbers_mean(values: str, expected: list[int]) -> None:
    four = np.array([[0, 1, 2, 3]] * 4, dtype=np.uint8)
    assert decode_mask(image(four), 4, values)[0, 0].tolist() == expected
    if values != "soft":
        assert decode_mask(indexed(four, [0, 0, 0, 200, 0, 0] + [9, 90, 0] * 254), 4, values)[0, 0].tolist() == expected


def test_soft_masks_stay_soft() -> None:
    steps = np.tile(np.array([0, 64, 128, 255], dtype=np.uint8), (4, 1))
    assert decode_mask(image(steps), 4)[0, 1].tolist() == [0, 64, 128, 255]
    assert decode_mask(npy(steps / 255), 4)[0, 1].tolist() == [0, 64, 128, 255]
    assert decode_mask(npy(steps / 1000), 4)[0, 1].tolist() == [0, 16, 33, 65], "floats are shares, however small"
    assert decode_mask(image(steps), 4, "nonzero")[0, 1].tolist() == [0, 255, 255, 255]


def test_trimap() -> None:
    trimap = np.array([[1, 2], [3, 1]], dtype=np.uint8)
    assert decode_mask(image(trimap), 2, "trimap").tolist() == [[[255, 0], [128, 255]]]
    with pytest.raises(Unreadable, match=r"^no trimap: its values are not 1, 2 and 3$"):
        decode_mask(image(trimap - 1), 2, "trimap")


def test_a_pixel_is_the_mean_of_what_falls_into_it() -> None:
    mask = decode_mask(image(GREY), 4)[0]
    assert mask.tolist() == [[0] * 4, [128, 255, 128, 0], [128, 255, 128, 0], [0] * 4]
    assert abs(mask.mean() / 255 - OBJECT.mean()) < 0.002, "the area is kept"


@pytest.mark.parametrize("shape", [(30, 50), (50, 30), (30, 30), (10, 12)])
def test_a_mask_lies_upon_its_image(shape: tuple[int, int]) -> None:
    side = np.zeros(shape, dtype=np.uint8)
    side[2 : shape[0] // 2, 3 : shape[1] - 4] = 255
    mask, picture = decode_mask(image(side), 15)[0], decode_image(image(side), 15)[0]
    assert ((mask > 128) == (picture > 128)).mean() > 0.97 and (mask > 128).any() and (mask < 128).any()


def test_a_picture_on_its_side_is_measured_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = image(np.zeros((10, 20), dtype=np.uint8), "jpeg", exif=exif)
    assert image_size(data) == (10, 20) == mask_size(data) and image_size(image(np.zeros((10, 20), np.uint8))) == (
        20,
        10,
    )


OUTSIDE = "mask values outside 0 to 1"
BROKEN = "a segment that is neither runs nor polygons"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"no mask", "not a mask"),
        (b"{no mask", "not JSON"),
        (npy([1.0, 0.0]), "not a mask"),
        (npy([["a", "b"]]), "not a mask"),
        (npy(np.zeros((4, 4)))[:60], "damaged"),
        (npy(np.full((4, 4), 1.01)), OUTSIDE),
        (npy(np.full((4, 4), -0.5)), OUTSIDE),
        (npy(np.where(OBJECT, np.nan, 0.0)), OUTSIDE),
        (npy(np.where(OBJECT, 255.0, 0.0)), OUTSIDE),
        (npy(-OBJECT.astype(np.int16)), OUTSIDE),
        (image(np.full((4, 4), 3.0, np.float32), "tiff"), OUTSIDE),
        (image(np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)), "colours, not a mask"),
        (image(GREY, "jpeg", mode="CMYK"), "colours, not a mask"),
        (image(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8))[:900], "truncated"),
        (b"[]", BROKEN),
        (b'{"size": [2, 2]}', BROKEN),
        (b'{"size": [2, 2], "counts": 5}', "runs that do not fill the size of their segment"),
        (b'{"size": [2, 2], "counts": [1, 2]}', "runs that do not fill the size of their segment"),
        (b'{"size": [2, 2], "counts": [5, -1]}', "runs that do not fill the size of their segment"),
        (b'{"size": [2, 2], "counts": "!"}', "runs that are no compressed string"),
        (b'{"size": [2, 0], "counts": []}', r"a segment without its size, \[height, width\]"),
        (b'{"counts": [4]}', r"a segment without its size, \[height, width\]"),
        (b'{"size": [99999, 99999], "counts": [1]}', "too many pixels: more than .*"),
        (b'[{"size": [1, 2], "counts": [2]}, {"size": [2, 1], "counts": [2]}]', "segments of several sizes"),
        (b'{"size": [2, 2], "polygons": []}', "a segment without polygons"),
        (b'{"size": [2, 2], "polygons": [[0, 0, 1, 1]]}', "a polygon that is not three or more corners"),
        (b'{"size": [2, 2], "polygons": [[0, 0, 1, 1, 2, NaN]]}', "a polygon that is not three or more corners"),
    ],
)
def test_what_cannot_be_used_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=f"^{reason}$"):
        decode_mask(data, 8)


@pytest.mark.parametrize("values", ["", "object", "1;2", "1,", "0.5"])
def test_unknown_meanings(values: str) -> None:
    with pytest.raises(ConfigError, match="mask_values is auto, soft, nonzero, trimap, or the numbers"):
        MaskValues(values)


def compressed(runs: list[int]) -> str:
    """COCO's string, digit by digit from its description: the numbers, from the fourth on less the one two before, in two's
    complement of five bits a digit."""
    text = ""
    for i, run in enumerate(runs):
        number = run - runs[i - 2] if i > 2 else run
        digits = next(d for d in range(1, 9) if -(16 * 32 ** (d - 1)) <= number < 16 * 32 ** (d - 1))
        rest = number % 32**digits
        text += "".join(chr(48 + rest // 32**d % 32 + (32 if d < digits - 1 else 0)) for d in range(digits))
    return text


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("size", [(1, 1), (3, 70), (90, 40), (600, 500)])
def test_runs(share: float, size: tuple[int, int]) -> None:
    mask = np.random.default_rng(size).random(size) < share
    if size[0] > 100:
        mask[100:500, 50:450] = True  # long runs
    flat = mask.T.ravel()
    turns = np.flatnonzero(np.diff(np.concatenate([[False], flat, [flat[-1] ^ True]]).astype(int))).tolist()
    runs = np.diff([0, *turns]).tolist()
    for counts in (runs, compressed(runs)):
        data = segments_bytes({"size": list(size), "counts": counts})
        assert np.array_equal(decode_segments(data), mask) and segments_size(data) == size[::-1]


def test_a_string_of_coco() -> None:
    # as pycocotools 2.0.11 encodes a block of rows 3 to 6 and columns 2 to 8 of a mask of 10 x 12
    found = decode_segments(segments_bytes({"size": [10, 12], "counts": "g04600000000000k0"}))
    expected = np.zeros((10, 12), dtype=bool)
    expected[3:7, 2:9] = True
    assert np.array_equal(found, expected)


def test_polygons_cover_the_pixels_whose_middle_they_hold() -> None:
    corners = [(2.3, 1.2), (17.8, 4.1), (12.2, 9.4), (15.1, 18.7), (4.4, 13.9)]
    flat = [n for corner in corners for n in corner]
    found = decode_segments(segments_bytes({"size": [20, 22], "polygons": [flat]}))
    for row in range(20):
        for column in range(22):
            x, y, inside = column + 0.5, row + 0.5, False
            for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
                    inside = not inside
            assert found[row, column] == inside
    beyond = segments_bytes({"size": [4, 6], "polygons": [[-5, -5, 50, -5, 50, 50, -5, 50]]})
    assert decode_segments(beyond).all()
    flat_line = segments_bytes({"size": [4, 6], "polygons": [[1, 1, 5, 1, 3, 1]]})
    assert not decode_segments(flat_line).any()


def test_segments_are_joined() -> None:
    parts = [{"size": [2, 2], "counts": [0, 1, 3]}, {"size": [2, 2], "polygons": [[1, 1, 2, 1, 2, 2, 1, 2]]}]
    assert decode_segments(segments_bytes(parts)).astype(int).tolist() == [[1, 0], [0, 1]]
    assert segments_bytes(parts[0]) == segments_bytes({**parts[0], "polygons": None}) == segments_bytes(parts[:1])
    for broken in (
        "text",
        7,
        [["a"]],
        {"size": [2, 2]},
        {"size": [2, 2], "counts": {1}},
        {"size": [1, 1], "counts": b"\xff"},
    ):
        with pytest.raises(Unreadable):
            segments_bytes(broken)


def test_form_fills_what_is_empty() -> None:
    form = MaskForm(4, "trimap")
    assert form.modality.shape == (1, 4, 4) and form.modality.nbytes == 16
    assert form.parts != MaskForm(4).parts and form.decode(image(np.full((4, 4), 2, np.uint8))).max() == 0
    stored = np.stack([np.zeros((1, 4, 4), np.uint8), np.full((1, 4, 4), 51, np.uint8)])
    values = form.values(stored)
    assert values.dtype == torch.float32 and values[:, 0, 0, 0].tolist() == pytest.approx([1.0, 0.2])
    assert form.values(stored[:0]).shape == (0, 1, 4, 4)
    with pytest.raises(ConfigError, match="mask_values"):
        MaskForm(4, "objects")


def test_all_segments_in_one_sweep_are_what_each_covers() -> None:
    """Against turns of inside and outside, edge by edge, pixel by pixel."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        height, width = rng.integers(1, 12, 2).tolist()
        polygons = [
            [rng.uniform(-3, 14, 2 * n).round(int(rng.integers(0, 3))).tolist() for n in rng.integers(3, 7, 2)]
            for _ in range(2)
        ]
        inside = rng.random(height * width) < 0.3
        turns = np.flatnonzero(np.diff(np.concatenate([[False], inside, [not inside[-1]]]).astype(int)))
        runs = {"size": [height, width], "counts": np.diff([0, *turns]).tolist()}
        segments = [runs, runs, *({"size": [height, width], "polygons": p} for p in polygons)]
        expected = inside.reshape(width, height).T.copy()
        for flat in (flat for p in polygons for flat in p):
            covered = np.zeros((height, width), dtype=bool)
            corners = np.array(flat).reshape(-1, 2)
            for (x, y), (to_x, to_y) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
                for row in range(height):
                    if min(y, to_y) <= row + 0.5 < max(y, to_y):
                        covered[row, np.arange(width) + 0.5 >= x + (row + 0.5 - y) * (to_x - x) / (to_y - y)] ^= True
            expected |= covered
        assert np.array_equal(decode_segments(segments_bytes(segments)), expected)


def square(side: int) -> dict[str, Any]:
    return {"size": [side, side], "polygons": [[0, 0, side, 0, side, side, 0, side]]}


@pytest.mark.parametrize(
    ("segments", "reason"),
    [
        ({"size": [16, 16], "counts": "o" * 3_000_000}, "runs that are no compressed string"),
        ({"size": [16, 16], "counts": "1" * 1_000_000}, "runs that do not fill the size of their segment"),
        (
            {"size": [7000, 7000], "polygons": 9000 * square(7000)["polygons"]},
            "polygons of too many edges: more than .*",
        ),
        ({"size": [9400, 9400], "polygons": 2 * square(9400)["polygons"]}, "too many pixels: more than .*"),
        ({"size": [10**200, 10**200], "counts": [1]}, "too many pixels: more than .*"),
    ],
    ids=["runs", "short runs", "edges", "pixels", "size"],
)
def test_segments_that_would_take_long(segments: dict[str, Any], reason: str) -> None:
    begin = time.process_time()
    with pytest.raises(Unreadable, match=f"^{reason}$"):
        decode_mask(segments_bytes(segments), 8)
    assert time.process_time() - begin < 5


def test_many_segments_cost_no_more_than_their_runs_and_the_pixels() -> None:
    begin = time.process_time()
    side = 1500
    whole = {"size": [side, side], "counts": [0, side * side]}
    assert decode_segments(segments_bytes([whole] * 5000 + [square(side)] * 1000)).all()
    assert time.process_time() - begin < 10, "6000 times all pixels would take minutes"
