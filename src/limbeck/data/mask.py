"""Object masks to shares of pixels: images, palettes, trimaps, NPY arrays, COCO's runs and polygons."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.decode import decode_array, image_size, opened_image, row_blocks, upright
from limbeck.data.parse import Unreadable
from limbeck.data.segments import decode_segments, segments_size
from limbeck.errors import ConfigError

__all__ = ["MASK_DECODER", "MaskValues", "decode_mask", "mask_share", "mask_size"]

MASK_DECODER = 1  # part of every fingerprint; raise it whenever the same bytes decode to another mask

FORMATS = ("PNG", "TIFF", "BMP", "GIF", "PPM", "JPEG")
NUMPY = b"\x93NUMPY"
TRIMAP = (1, 2, 3)  # object, background, border
EQUAL = 8  # steps of 255 that the channels of a grey image may differ by, after JPEG


class MaskValues:
    """What the numbers of a mask file mean.

        auto       soft where a number reaches half of the largest that the file can hold, as 128 of 255; else nonzero
        soft       number / largest: 0 is background, 255 (of 16 bits 65535, of floats and truth values 1) is object
        nonzero    every number but 0 is object, as in maps of classes or instances
        trimap     1 is object, 2 background, 3 the border between (a half), as of Oxford-IIIT Pet
        1,4,7      these numbers are object

    Args:
        text: one of these.

    Raises:
        ConfigError: none of these.

    Example:
        >>> numbers = np.array([[0, 1, 2, 3]], dtype=np.uint8)
        >>> [MaskValues(text).share(numbers, 255).tolist()[0] for text in ("auto", "1,3")]
        [[0.0, 1.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]]
        >>> MaskValues("auto").share(np.array([[0, 51, 255]]), 255).tolist()
        [[0.0, 0.2, 1.0]]
    """

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self.listed: tuple[int, ...] = ()
        if self.text in ("auto", "soft", "nonzero", "trimap"):
            return
        try:
            self.listed = tuple(int(number) for number in self.text.split(","))
        except ValueError:
            raise ConfigError(
                "mask_values is auto, soft, nonzero, trimap, or the numbers that are object, such as 1,4,7; got "
                f"{text!r}"
            ) from None

    @property
    def indices(self) -> bool:
        """Whether the numbers themselves are meant, even where they stand for colours of a palette."""
        return bool(self.listed) or self.text == "trimap"

    def share(self, numbers: NDArray[Any], top: float, high: float | None = None) -> NDArray[np.float64]:
        """How much of each pixel is object, in [0, 1].

        Args:
            numbers: `[H, W]` of a file, or some of its rows.
            top: the largest that the file can hold; 0 for indices, which are never soft.
            high: the largest that it does hold; by default that of `numbers`.

        Raises:
            Unreadable: `mask values outside 0 to 1`, or a trimap with other values than 1, 2, 3.
        """
        share: NDArray[np.float64]
        if self.listed:
            share = np.isin(numbers, self.listed).astype(np.float64)
            return share
        if self.text == "trimap":
            if not np.isin(numbers, TRIMAP).all():
                raise Unreadable("no trimap: its values are not 1, 2 and 3")
            share = (numbers == 1) + 0.5 * (numbers == 3)
            return share
        if not ((numbers >= 0) & (numbers <= (top or np.inf))).all():  # NaN is neither
            raise Unreadable("mask values outside 0 to 1")
        high = float(numbers.max()) if high is None else high
        if self.text == "soft" or (self.text == "auto" and (top == 1 or 2 * high > top > 0)):
            share = numbers.astype(np.float64) / (top or max(high, 255.0))
        else:
            share = (numbers != 0).astype(np.float64)
        return share


def decode_mask(data: bytes, resolution: int, values: str = "auto") -> NDArray[np.uint8]:
    """Decodes one mask: fitted and cropped as `decode_image` does it, so that it lies upon its image.

    A pixel is the mean of what falls into it, so a mask of edges becomes soft and keeps its area.

    Args:
        data: the bytes of an image (grey, black and white, palette, or with transparency, whose opaque part is then the
            object), of an NPY array `[H, W]`, or of COCO's runs and polygons, see `decode_segments`.
        resolution: R, pixels a side.
        values: what the numbers mean, see `MaskValues`.

    Returns:
        `uint8 [1, R, R]`: 255 on the object, 0 on the background.

    Raises:
        Unreadable: `empty file`, `not a mask`, `colours, not a mask`, `mask values outside 0 to 1`, `truncated`, `damaged`,
            `too many pixels`, and what `decode_segments` and `MaskValues` tell.
        ConfigError: no such meaning of values.

    Example:
        >>> import io; buffer = io.BytesIO(); np.save(buffer, np.eye(4, 6, k=1))
        >>> decode_mask(buffer.getvalue(), 2).tolist()
        [[[128, 0], [0, 128]]]
    """
    return np.rint(255 * _fitted(mask_share(data, values), resolution)).astype(np.uint8)[None]


def mask_share(data: bytes, values: str = "auto") -> NDArray[np.float32]:
    """How much of each pixel is object, `[H, W]` in [0, 1], as large as the file has it.

    Args:
        data, values: see `decode_mask`.

    Raises:
        Unreadable: as `decode_mask` does.
        ConfigError: no such meaning of values.
    """
    meaning = MaskValues(values)
    if not data:
        raise Unreadable("empty file")
    if _is_json(data):
        return decode_segments(data).astype(np.float32)
    numbers, top = _array(data) if data.startswith(NUMPY) else _image(data, meaning.indices)
    if numbers.ndim != 2 or not numbers.size:
        raise Unreadable("not a mask")
    share, high = np.zeros(numbers.shape, dtype=np.float32), float(numbers.max())
    for rows in row_blocks(*numbers.shape):
        share[rows] = meaning.share(numbers[rows], top, high)
    return share


def mask_size(data: bytes) -> tuple[int, int]:
    """Width and height of a mask.

    Raises:
        Unreadable: as `decode_mask` does.
    """
    if _is_json(data):
        return segments_size(data)
    if not data.startswith(NUMPY):
        return image_size(data)
    numbers, _ = _array(data)
    if numbers.ndim != 2:
        raise Unreadable("not a mask")
    return numbers.shape[1], numbers.shape[0]


def _is_json(data: bytes) -> bool:
    return data[:1] in (b"{", b"[")


def _array(data: bytes) -> tuple[NDArray[Any], float]:
    numbers = decode_array(data, "not a mask")
    return (numbers.astype(np.uint8) if numbers.dtype == np.bool_ else numbers), _top(numbers)


def _top(numbers: NDArray[Any]) -> float:
    """The largest number that a file of this kind holds; 0 where there is none to speak of."""
    if numbers.dtype.kind in "bf":
        return 1
    if numbers.dtype.itemsize == 1:
        return 255
    return 65535 if numbers.size and int(numbers.max()) <= 65535 else 0


def _image(data: bytes, indices: bool) -> tuple[NDArray[Any], float]:
    """The numbers of an image and the largest that it can hold; of a palette its greys, or its indices."""
    with opened_image(data, "not a mask", FORMATS) as opened:
        image = upright(opened)
        numbers = np.asarray(image)
        if image.mode == "1":
            return numbers.astype(np.uint8), 1
        if image.mode == "P":
            palette = np.asarray(image.convert("RGB"))
            return (numbers, 0) if indices or np.ptp(palette, axis=2).any() else (palette[..., 0], 255)
        if image.mode == "F" or image.mode.startswith("I"):
            return numbers, _top(numbers)
        if image.mode in ("LA", "RGBA") and numbers[..., -1].min() < 255:
            return numbers[..., -1], 255
        if image.mode not in ("L", "LA", "RGB", "RGBA"):
            raise Unreadable("colours, not a mask")
    if image.mode in ("RGB", "RGBA") and int(np.ptp(numbers[..., :3], axis=2).max()) > EQUAL:
        raise Unreadable("colours, not a mask")
    return (numbers if image.mode == "L" else numbers[..., 0]), 255


def _fitted(share: NDArray[np.float32], resolution: int) -> NDArray[np.float32]:
    from PIL import Image, ImageOps

    whole = Image.fromarray(share)
    return np.asarray(ImageOps.fit(whole, (resolution, resolution), Image.Resampling.BOX), dtype=np.float32)
