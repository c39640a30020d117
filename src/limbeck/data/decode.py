"""Image bytes of any common format to `uint8 [3, R, R]`; what cannot be decoded comes back as a reason."""

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.chunks import in_one_scan, without_text
from limbeck.data.parse import Unreadable
from limbeck.limits import PIXELS, SIDE, Limit

__all__ = [
    "DECODER",
    "MAX_PIXELS",
    "check_size",
    "decode_array",
    "decode_image",
    "image_size",
    "lacking_formats",
    "opened_image",
    "pixel_limit",
    "row_blocks",
    "upright",
    "whole_image",
]

DECODER = 1  # part of every fingerprint; raise it whenever the same bytes decode to other pixels

MAX_PIXELS = PIXELS.number
LONGEST_HEADER = 10_000  # bytes of an NPY file before its numbers; an array of numbers alone needs 200
LARGER = 4  # times as many pixels may a JPEG have that is decoded at a fraction of its size
BLOCK = 1_000_000  # pixels that are turned into another kind at a time

# A closed list: Pillow also knows formats that start other programs (EPS) or are no images (PDF, HDF5).
# JPEG stands for MPO, too.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "TGA")
ORIENTATION = 0x0112  # the tag of EXIF
WIDTH, HEIGHT, TILE_WIDTH, TILE_HEIGHT = 256, 257, 322, 323  # tags of TIFF
JPEG = b"\xff\xd8"

_limit = ContextVar("pixel_limit", default=MAX_PIXELS)


@cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def lacking_formats() -> list[str]:
    """The formats that the Pillow of this machine cannot decode."""
    return [name for name in FORMATS if name not in _formats()]


@contextmanager
def pixel_limit(pixels: int) -> Iterator[None]:
    """Within it, images, masks and depth maps of more pixels than these are refused instead of those of more than `MAX_PIXELS`.

    As every limit it is multiplied by what `limits.scaled_limits` says.

    Args:
        pixels: of one file.
    """
    token = _limit.set(pixels)
    try:
        yield
    finally:
        _limit.reset(token)


def _pixels(times: int = 1) -> Limit:
    return Limit(times * _limit.get(), PIXELS.unit)


def check_size(width: int, height: int) -> None:
    """Refuses what would take too much memory.

    Raises:
        Unreadable: `too many pixels`.
    """
    for size, limit in ((width * height, _pixels()), (max(width, height), SIDE)):
        if size > limit.most:
            raise Unreadable(f"too many pixels: {limit}")


def row_blocks(height: int, width: int) -> Iterator[slice]:
    """The rows of an image in blocks of about `BLOCK` pixels, so that what is made of each takes little memory.

    Example:
        >>> list(row_blocks(5, 400_000))
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    rows = max(1, BLOCK // max(1, width))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


@contextmanager
def opened_image(
    data: bytes, unknown: str, formats: tuple[str, ...] | None = None, resolution: int | None = None
) -> Iterator[Any]:
    """The Pillow image of these bytes, of which no more than the header is decoded; it has few enough pixels to go on.

    What Pillow and its plug-ins raise, then or inside the block, is turned into reasons.

    Args:
        data: the bytes of a file.
        unknown: the reason where no format is recognised.
        formats: that are tried; by default all of images.
        resolution: pixels a side that are asked for, where a JPEG may be decoded at a half, quarter or eighth.

    Raises:
        Unreadable: `empty file`, `unknown`, `too many pixels`, `truncated` or `damaged`; one that is raised inside passes.
    """
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise Unreadable("empty file")
    limit = _pixels(LARGER if resolution and data.startswith(JPEG) and in_one_scan(data) else 1)
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, limit.most  # some formats decode when they are opened
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(without_text(data)), formats=formats or _formats())
            if resolution:
                image.draft(None, (2 * resolution, 2 * resolution))
            check_size(*image.size)
            if image.format == "TIFF":
                check_size(*(getattr(image, "tag_v2", {}).get(tag, 1) for tag in (TILE_WIDTH, TILE_HEIGHT)))
            yield image
    except UnidentifiedImageError:
        raise Unreadable(unknown) from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise Unreadable(f"too many pixels: {limit}") from None
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # format plug-ins raise whatever their parsers stumble on
        raise Unreadable("truncated" if "truncated" in str(error).lower() else "damaged") from error
    finally:
        Image.MAX_IMAGE_PIXELS = before


def decode_image(data: bytes, resolution: int) -> NDArray[np.uint8]:
    """Decodes one image: upright, RGB, the shorter side resized to `resolution` with antialiasing, the centre cropped.

    The first frame of an animation is taken. Transparency is laid over white. 16-bit grey is divided by 257, floats in
    [0, 1] are multiplied by 255, other floats and integers beyond 16 bits are stretched from their least to their
    largest value.

    Args:
        data: the bytes of a file.
        resolution: R, pixels a side.

    Returns:
        `uint8 [3, R, R]`.

    Raises:
        Unreadable: `empty file`, `not an image`, `truncated`, `too many pixels` or `damaged`.

    Example:
        >>> from PIL import Image
        >>> buffer = io.BytesIO(); Image.new("CMYK", (9, 5)).save(buffer, "jpeg")
        >>> decode_image(buffer.getvalue(), 4).shape
        (3, 4, 4)
    """
    from PIL import Image, ImageOps

    with opened_image(data, "not an image", resolution=resolution) as image:
        fitted = ImageOps.fit(_rgb(upright(image)), (resolution, resolution), Image.Resampling.BICUBIC)
        return np.ascontiguousarray(np.asarray(fitted).transpose(2, 0, 1))


def whole_image(data: bytes) -> Any:
    """The image that `decode_image` fits and crops, whole: a Pillow image, upright, RGB.

    Raises:
        Unreadable: as `decode_image` does.

    Example:
        >>> from PIL import Image
        >>> buffer = io.BytesIO(); Image.new("LA", (9, 5)).save(buffer, "png")
        >>> whole_image(buffer.getvalue()).size
        (9, 5)
    """
    with pixel_limit(LARGER * _limit.get()), opened_image(data, "not an image") as image:  # as large as a JPEG may be
        return _rgb(upright(image))


def upright(image: Any) -> Any:
    """An opened image, loaded and turned as its EXIF says."""
    from PIL.Image import Transpose

    image.load()  # which turns a TIFF by itself, and takes the tag away
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Any) -> Any:
    """What EXIF says, 1 where it is damaged: the pixels are sound."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except (MemoryError, Unreadable):
        raise
    except Exception:  # noqa: BLE001  whatever its parser stumbles on
        return 1


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height of an image as `decode_image` sees it, upright; only its header is decoded.

    Raises:
        Unreadable: as `decode_image` does.

    Example:
        >>> from PIL import Image
        >>> buffer = io.BytesIO(); Image.new("L", (9, 5)).save(buffer, "png")
        >>> image_size(buffer.getvalue())
        (9, 5)
    """
    with opened_image(data, "not an image") as image:
        raw = (image.tag_v2[WIDTH], image.tag_v2[HEIGHT]) if image.format == "TIFF" else image.size
        width, height = raw  # of a TIFF as it lies in the file: its `size` is upright in some versions of Pillow
        lies = _orientation(image) in (5, 6, 7, 8)
    return (height, width) if lies else (width, height)


def decode_array(data: bytes, unknown: str) -> NDArray[Any]:
    """The numbers of an NPY file; an axis of one channel, first or last, is left out.

    Args:
        data: the bytes, which begin as an NPY file does.
        unknown: the reason where it holds no numbers or truth values.

    Raises:
        Unreadable: `unknown`, `too many pixels` or `damaged`.

    Example:
        >>> buffer = io.BytesIO(); np.save(buffer, np.zeros((1, 4, 6)))
        >>> decode_array(buffer.getvalue(), "not a map").shape
        (4, 6)
    """
    shape, by_columns, kind, start = _array_header(data)
    count = math.prod(shape)
    if count > _pixels().most:
        raise Unreadable(f"too many pixels: {_pixels()}")
    if kind.kind not in "uifb":
        raise Unreadable(unknown)
    if start + count * kind.itemsize > len(data):
        raise Unreadable("damaged")
    numbers = np.frombuffer(data, kind, count, start).reshape(shape, order="F" if by_columns else "C")
    single = numbers.ndim == 3 and 1 in (numbers.shape[0], numbers.shape[2])
    plane: NDArray[Any] = np.squeeze(numbers) if single else numbers
    return plane


def _array_header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether columns come first, the kind of number, and where the numbers begin."""
    file = io.BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's parser complains of what is no Python
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, by_columns, kind = header(file, max_header_size=LONGEST_HEADER)
    except Exception as error:  # a header is an expression of Python: its parser ends in what it likes, MemoryError too
        raise Unreadable("damaged") from error
    if not all(type(length) is int and length >= 0 for length in shape):
        raise Unreadable("damaged")
    return shape, by_columns, kind, file.tell()


def _rgb(image: Any) -> Any:
    """In RGB; what is transparent lies over white."""
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_eight_bits(np.asarray(image), image.mode))
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return image if image.mode == "RGB" else image.convert("RGB")
    whole = Image.new("RGB", image.size)
    for rows in row_blocks(image.height, image.width):
        part = image.crop((0, rows.start, image.width, rows.stop)).convert("RGBA")
        whole.paste(Image.alpha_composite(Image.new("RGBA", part.size, "white"), part).convert("RGB"), (0, rows.start))
    return whole


def _eight_bits(values: NDArray[Any], mode: str) -> NDArray[np.uint8]:
    largest = float(np.finfo(np.float32).max)

    def grey(rows: slice) -> NDArray[np.float64]:
        return np.nan_to_num(values[rows].astype(np.float64), posinf=largest, neginf=-largest)

    blocks = list(row_blocks(*values.shape))
    low = min(float(grey(rows).min()) for rows in blocks)
    high = max(float(grey(rows).max()) for rows in blocks)
    eight = np.zeros(values.shape, dtype=np.uint8)
    for rows in blocks:
        if mode == "F" and low >= 0 and high <= 1:
            part = grey(rows) * 255
        elif mode != "F" and low >= 0 and high <= 65535:
            part = grey(rows) / 257
        elif high > low:
            part = (grey(rows) - low) * (255 / (high - low))
        else:
            continue
        eight[rows] = np.rint(part).astype(np.uint8)
    return eight
