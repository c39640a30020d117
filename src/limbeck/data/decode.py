"""Image bytes of any common format to `uint8 [3, R, R]`; what cannot be decoded comes back as a reason."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.parse import Unreadable

__all__ = [
    "DECODER",
    "LARGEST",
    "decode_array",
    "decode_image",
    "image_size",
    "lacking_formats",
    "pillow_reasons",
    "whole_image",
]

DECODER = 1  # part of every fingerprint; raise it whenever the same bytes decode to other pixels

LARGEST = 100_000_000  # values of an array; a map has fewer

# A closed list: Pillow also knows formats that start other programs (EPS) or are no images (PDF, HDF5).
# JPEG stands for MPO, too.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "TGA")
ORIENTATION = 0x0112  # the tag of EXIF


@cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def lacking_formats() -> list[str]:
    """The formats that the Pillow of this machine cannot decode."""
    return [name for name in FORMATS if name not in _formats()]


@contextmanager
def pillow_reasons(unknown: str) -> Iterator[None]:
    """Turns what Pillow and its format plug-ins raise into reasons.

    Args:
        unknown: the reason where no format is recognised.

    Raises:
        Unreadable: `unknown`, `too many pixels`, `truncated` or `damaged`; one that is raised inside passes.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except UnidentifiedImageError:
        raise Unreadable(unknown) from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise Unreadable("too many pixels") from None
    except (Unreadable, MemoryError):
        raise
    except Exception as error:  # format plug-ins raise whatever their parsers stumble on
        raise Unreadable("truncated" if "truncated" in str(error).lower() else "damaged") from error


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

    if not data:
        raise Unreadable("empty file")
    with pillow_reasons("not an image"):
        image = Image.open(io.BytesIO(data), formats=_formats())
        image.draft(None, (2 * resolution, 2 * resolution))  # JPEG: decode at a half, quarter or eighth
        image.load()
        upright = ImageOps.exif_transpose(image)
        fitted = ImageOps.fit(_rgb(upright), (resolution, resolution), Image.Resampling.BICUBIC)
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
    from PIL import Image, ImageOps

    if not data:
        raise Unreadable("empty file")
    with pillow_reasons("not an image"):
        image = Image.open(io.BytesIO(data), formats=_formats())
        image.load()
        return _rgb(ImageOps.exif_transpose(image))


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
    from PIL import Image

    if not data:
        raise Unreadable("empty file")
    with pillow_reasons("not an image"):
        image = Image.open(io.BytesIO(data), formats=_formats())
        width, height = image.size
        lies = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
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
    try:
        file = io.BytesIO(data)
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = header(file)
        if np.prod(shape, dtype=np.float64) > LARGEST:
            raise Unreadable("too many pixels")
        if kind.kind not in "uifb":
            raise Unreadable(unknown)
        numbers = np.load(io.BytesIO(data), allow_pickle=False)
    except Unreadable:
        raise
    except (ValueError, EOFError, SyntaxError) as error:
        raise Unreadable("damaged") from error
    single = numbers.ndim == 3 and 1 in (numbers.shape[0], numbers.shape[2])
    plane: NDArray[Any] = np.squeeze(numbers) if single else numbers
    return plane


def _rgb(image: Any) -> Any:
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):
        image = Image.fromarray(_eight_bits(np.asarray(image), image.mode))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: NDArray[Any], mode: str) -> NDArray[np.uint8]:
    largest = float(np.finfo(np.float32).max)
    grey: NDArray[np.float64] = np.nan_to_num(values.astype(np.float64), posinf=largest, neginf=-largest)
    low, high = float(grey.min()), float(grey.max())
    if mode == "F" and low >= 0 and high <= 1:
        grey = grey * 255
    elif mode != "F" and low >= 0 and high <= 65535:
        grey = grey / 257
    else:
        grey = (grey - low) * (255 / (high - low)) if high > low else np.zeros_like(grey)
    eight: NDArray[np.uint8] = np.rint(grey).astype(np.uint8)
    return eight
