"""Every kind of image file that people have, and every way in which one can be broken."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from limbeck.data.decode import decode_image
from limbeck.data.parse import Unreadable


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


def huge_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

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
        (huge_png(), "too many pixels"),
        (encoded(NOISE, "gif")[:13], "not an image"),
        (encoded(NOISE, "png").replace(b"IDAT\x78", b"IDAT\x79"), "damaged"),
    ],
)
def test_broken_files_have_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=f"^{reason}$"):
        decode_image(data, 8)
