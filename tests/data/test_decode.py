"""Every kind of image file that people have, and every way in which one can be broken."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from limbeck.data.chunks import in_one_scan, without_text
from limbeck.data.decode import MAX_PIXELS, decode_array, decode_image, image_size, pixel_limit, whole_image
from limbeck.data.parse import Unreadable
from limbeck.limits import SIDE


def encoded(image: Image.Image, format: str = "png", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def flat(image: Image.Image, format: str = "png", **options: Any) -> list[int]:
    """The colour that a one-colour image decodes to."""
    pixels = decode_image(encoded(image, format, **options), 4)
    assert pixels.shape == (3, 4, 4) and pixels.dtype == np.uint8 and pixels.flags["C_CONTIGUOUS"]
    return [int(channel) for channel in pixels[:, 2, 2]]


@pytest.mark.parametrize(
    ("image", "format", "colour"),
    [
        (Image.new("RGB", (9, 9), (10, 20, 30)), "png", [10, 20, 30]),
        (Image.new("L", (9, 9), 77), "png", [77] * 3),
        (Image.new("1", (9, 9), 1), "png", [255] * 3),
        (Image.new("RGB", (9, 9), (10, 20, 30)).convert("P"), "gif", None),
        (Image.new("RGBA", (9, 9), (255, 0, 0, 0)), "png", [255] * 3),
        (Image.new("RGBA", (9, 9), (0, 0, 0, 51)), "png", [204] * 3),
        (Image.new("LA", (9, 9), (0, 0)), "png", [255] * 3),
        (Image.new("I;16", (9, 9), 32896), "png", [128] * 3),
        (Image.new("I;16", (9, 9), 32896), "tiff", [128] * 3),
        (Image.new("F", (9, 9), 0.2), "tiff", [51] * 3),
    ],
)
def test_modes(image: Image.Image, format: str, colour: list[int] | None) -> None:
    got = flat(image, format)
    assert got == colour if colour is not None else len(set(got)) > 0


def test_cmyk_is_converted() -> None:
    red = flat(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "jpeg", quality=95)
    assert red[0] > 200 and max(red[1:]) < 60


def test_palette_with_transparency_lies_on_white() -> None:
    image = Image.new("P", (9, 9), 0)
    image.putpalette([200, 0, 0, 0, 200, 0])
    assert flat(image) == [200, 0, 0]
    assert flat(image, transparency=0) == [255, 255, 255]


def test_float_beyond_one_is_stretched_and_nan_is_no_harm() -> None:
    values = np.array([[-5.0, 5.0], [np.nan, 5.0]], dtype=np.float32)
    pixels = decode_image(encoded(Image.fromarray(values), "tiff"), 2)
    assert pixels[0].tolist() == [[0, 255], [128, 255]]


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for format in ("gif", "webp", "png"):
        assert flat(frames[0], format, save_all=True, append_images=frames[1:])[0] > 240


def test_exif_orientation_is_applied() -> None:
    image = Image.new("RGB", (8, 8), "black")
    image.paste((255, 255, 255), (0, 0, 8, 4))  # white above
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees: white comes to the right
    pixels = decode_image(encoded(image, "png", exif=exif), 8)[0]
    assert pixels[:, 7].min() == 255 and pixels[:, 0].max() == 0


def test_centre_is_kept_and_the_shorter_side_fits() -> None:
    image = Image.new("RGB", (30, 10), "red")
    image.paste((0, 255, 0), (10, 0, 20, 10))
    pixels = decode_image(encoded(image), 10)
    assert (pixels[1] == 255).all() and (pixels[0] == 0).all()


def test_shrinking_is_antialiased() -> None:
    stripes = np.tile(np.array([[0, 255]], dtype=np.uint8), (64, 32))
    assert abs(decode_image(encoded(Image.fromarray(stripes)), 8).astype(int) - 128).max() < 20


def test_large_jpeg_is_decoded_at_a_fraction_to_the_same_picture() -> None:
    y, x = np.mgrid[0:640, 0:800] / 3.2
    image = Image.fromarray(np.stack([x, y, (x + y) / 2], -1).clip(0, 255).astype(np.uint8))
    quick = decode_image(encoded(image, "jpeg", quality=95), 32).astype(int)
    exact = decode_image(encoded(image, "png"), 32).astype(int)
    assert abs(quick - exact).max() <= 4


def test_a_thread_of_an_image_is_no_harm() -> None:
    assert decode_image(encoded(Image.new("RGB", (1, 5000), "red")), 16)[0].min() == 255


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png() -> bytes:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"hello, this is no image at all", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (encoded(NOISE, "jpeg")[:900], "truncated"),
        (encoded(NOISE, "png")[:900], "truncated"),
        (huge_png(), "too many pixels: more than .*"),
        (encoded(NOISE, "gif")[:13], "not an image"),
        (encoded(NOISE, "png").replace(b"IDAT\x78", b"IDAT\x79"), "damaged"),
    ],
)
def test_broken_files_have_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=f"^{reason}$"):
        decode_image(data, 8)


def two_colours() -> Image.Image:
    image = Image.new("RGB", (60, 40), (220, 0, 0))
    image.paste((0, 0, 220), (30, 0, 60, 40))
    return image


def with_chunks(*chunks: bytes) -> bytes:
    """The PNG of red beside blue, with these chunks before its pixels."""
    data = encoded(two_colours())
    at = data.index(b"IDAT") - 4
    return data[:at] + b"".join(chunks) + data[at:]


PROFILE = chunk(b"iCCP", b"p\0\0" + zlib.compress(b"\0" * 3_000_000))
PROMPTS = chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"prompt " * 400_000))


@pytest.mark.parametrize(
    "chunks",
    [
        [PROFILE],
        [PROMPTS],
        [chunk(b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(b"prompt " * 400_000))],
        [chunk(b"tEXt", b"parameters\0" + b"prompt " * 400_000)] * 30,
        [PROFILE, PROMPTS, PROMPTS],
        [chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"0" * 3_000_000))],
        [chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b" " * 3_000_000))],
        [chunk(b"zTXt", b"no end")],
        [chunk(b"eXIf", b"no EXIF at all")],
        [chunk(b"tEXt", b"a\0b")[:-1] + b"!"],  # a checksum that is wrong
    ],
)
def test_what_lies_beside_the_pixels_of_a_png_is_no_harm(chunks: list[bytes]) -> None:
    pixels = decode_image(with_chunks(*chunks), 8)
    assert np.array_equal(pixels, decode_image(encoded(two_colours()), 8))
    assert pixels[:, 4, 1].tolist() == [220, 0, 0] and pixels[:, 4, 6].tolist() == [0, 0, 220]
    assert image_size(with_chunks(*chunks)) == (60, 40)


def test_a_text_that_turns_the_picture_stays() -> None:
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'
    turned = with_chunks(PROMPTS, chunk(b"iTXt", xmp), chunk(b"iTXt", xmp.replace(b"6", b"8")))
    assert image_size(turned) == (40, 60) and without_text(turned).count(b"iTXt") == 1
    assert decode_image(turned, 8)[0, 1, 4] == 220, "the left side comes to the top"
    assert without_text(encoded(NOISE)) == encoded(NOISE) and without_text(b"no PNG") == b"no PNG"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_every_orientation_in_every_format(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(two_colours(), format, exif=exif, **({"lossless": True} if format == "webp" else {}))
    assert image_size(data) == ((60, 40) if orientation < 5 else (40, 60)) == whole_image(data).size
    upright = decode_image(data, 8).astype(int)
    before, behind = (upright[:, 4, 0], upright[:, 4, 7]) if orientation < 5 else (upright[:, 0, 4], upright[:, 7, 4])
    if orientation in (2, 3, 7, 8):
        before, behind = behind, before
    assert before[0] > 200 and behind[2] > 200 and max(before[2], behind[0]) < 30


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    for mode in ("1", "RGBA"):
        large = encoded(Image.new(mode, (9000, 6000)), compress_level=1)
        for decode in (lambda data: decode_image(data, 8), image_size):
            with pytest.raises(Unreadable, match=r"^too many pixels: more than "):
                decode(large)
    with pytest.raises(Unreadable, match=r"^too many pixels: more than "):
        decode_image(encoded(Image.new("1", (SIDE.most + 1, 1))), 8)
    with pixel_limit(60_000_000):
        assert image_size(encoded(Image.new("1", (9000, 6000)), compress_level=1)) == (9000, 6000)
    assert MAX_PIXELS < 9000 * 6000 and Image.MAX_IMAGE_PIXELS == 1024**3 // 4 // 3, "Pillow's own limit is left alone"


def tiled_tiff(side: int) -> bytes:
    """Grey of 16 x 16 pixels in one packed tile of `side` pixels a side."""
    packed = zlib.compress(bytes(min(side, 1024) ** 2))
    tags = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: 8, 325: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + struct.pack("<H", len(tags)) + entries + bytes(4)


def test_a_tile_is_not_larger_than_an_image_may_be() -> None:
    assert decode_image(tiled_tiff(32), 4).max() == 0
    with pytest.raises(Unreadable, match=r"^too many pixels: more than "):
        decode_image(tiled_tiff(60_000), 4)


def test_a_jpeg_may_be_larger_where_it_is_decoded_at_a_fraction() -> None:
    image = Image.new("RGB", (1200, 900), "red")
    plain, progressive = encoded(image, "jpeg"), encoded(image, "jpeg", progressive=True)
    assert in_one_scan(plain) and not in_one_scan(progressive) and not in_one_scan(b"\xff\xd8\xff")
    with pixel_limit(300_000):
        assert decode_image(plain, 16)[0].min() > 250
        for data in (progressive, encoded(image, "png"), encoded(Image.new("RGB", (1400, 900)), "jpeg")):
            with pytest.raises(Unreadable, match=r"^too many pixels: more than "):
                decode_image(data, 16)
        with pytest.raises(Unreadable, match=r"^too many pixels: more than "):
            decode_image(plain, 800)  # of which no fraction is small enough


def test_blocks_of_rows_are_no_seam() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 900, 4), dtype=np.uint8)
    image = Image.fromarray(noise)
    whole = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    assert np.array_equal(np.asarray(whole_image(encoded(image))), np.asarray(whole))
    floats = np.random.default_rng(1).normal(size=(1500, 900)).astype(np.float32)
    low, high = float(floats.min()), float(floats.max())
    grey = np.rint((floats.astype(np.float64) - low) * (255 / (high - low))).astype(np.uint8)
    assert np.array_equal(np.asarray(whole_image(encoded(Image.fromarray(floats), "tiff")))[..., 0], grey)


def npy(header: bytes, numbers: bytes = bytes(64), version: tuple[int, int] = (1, 0)) -> bytes:
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header + numbers


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"{'descr': '<f4', (\n", "damaged"),
        (b"(" * 9000, "damaged"),
        (b"-" * 9000 + b"1", "damaged"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 5000 + b",)}", "damaged"),
        (b" " * 20_000, "damaged"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}", "damaged"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 4)}", "damaged"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (9, 9)}", "damaged"),
        (b"{'descr': '<f4', 'fortran_order': False, 'shape': (100000, 100000)}", "too many pixels: more than .*"),
        (b"{'descr': '|O', 'fortran_order': False, 'shape': (2, 2)}", "not a map"),
        (b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 2)}", "not a map"),
        (b"'\\d'", "damaged"),
    ],
)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_headers_of_arrays_that_are_none(header: bytes, reason: str, version: tuple[int, int]) -> None:
    with pytest.raises(Unreadable, match=f"^{reason}$"):
        decode_array(npy(header, version=version), "not a map")


def test_arrays_by_columns_and_of_other_byte_orders() -> None:
    for array in (
        np.arange(12.0).reshape(3, 4, order="F"),
        np.arange(12, dtype=">i4").reshape(3, 4),
        np.ones((2, 3), bool),
    ):
        buffer = io.BytesIO()
        np.save(buffer, array)
        assert np.array_equal(decode_array(buffer.getvalue(), ""), array)
