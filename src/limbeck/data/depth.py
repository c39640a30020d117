"""Depth maps to metres: 16-bit and float images, NPY arrays, disparity; what cannot be used comes back as a reason."""

from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.decode import decode_array, image_size, opened_image, row_blocks, upright
from limbeck.data.parse import Unreadable
from limbeck.errors import ConfigError

__all__ = ["DEPTH_DECODER", "NEAR", "DepthUnit", "decode_depth", "depth_size"]

DEPTH_DECODER = 3  # part of every fingerprint; raise it whenever the same bytes decode to other depths

NUMPY = b"\x93NUMPY"
NEAR = 0.01  # metres; what is nearer than a centimetre is no reading
UNITS = {"m": 1.0, "mm": 0.001, "cm": 0.01}


class DepthUnit:
    """What the numbers of a depth file mean.

        depth = scale * number         of `m`, `mm`, `cm`, and of a scale in metres a count, such as `0.0002`
        depth = factor / number        of `disparity:FACTOR`; the factor is baseline (m) times focal length (pixels)

    Args:
        text: one of these.

    Raises:
        ConfigError: none of these.

    Example:
        >>> DepthUnit("mm").metres(np.array([1500.0, 0.0])).tolist()
        [1.5, 0.0]
        >>> DepthUnit("disparity:60").metres(np.array([30.0, 0.0])).tolist()
        [2.0, 0.0]
    """

    def __init__(self, text: str) -> None:
        kind, _, factor = text.partition(":")
        self.inverse = kind == "disparity"
        try:
            self.scale = float(factor) if self.inverse else UNITS[text] if text in UNITS else float(text)
        except ValueError:
            self.scale = 0.0
        if not (isfinite(self.scale) and self.scale > 0):
            raise ConfigError(
                f"the unit of depth is m, cm, mm, metres a count (such as 0.0002) or disparity:FACTOR (baseline in metres "
                f"times focal length in pixels); got {text!r}"
            )

    def metres(self, numbers: NDArray[Any]) -> NDArray[np.float64]:
        """Depth in metres; 0 where there is no reading: numbers that are 0, negative or not finite."""
        with np.errstate(all="ignore"):  # of numbers that are none, or too large
            number = np.asarray(numbers, dtype=np.float64)
            valid = np.isfinite(number) & (number > 0)
            safe = np.where(valid, number, 1.0)
            depth: NDArray[np.float64] = np.where(valid, self.scale / safe if self.inverse else self.scale * safe, 0.0)
        return depth


def decode_depth(data: bytes, resolution: int, unit: str, far: float = 10.0) -> NDArray[np.float32]:
    """Decodes one depth map: fitted and cropped as `decode_image` does it, so that it lies upon its image.

    A pixel is the mean of the readings that fall into it, and no reading (0) where these are less than half. What is
    farther than `far` is put at `far`.

    Args:
        data: the bytes of a PNG or TIFF of one channel (8, 16, 32 bits or floats), or of an NPY array `[H, W]`.
        resolution: R, pixels a side.
        unit: of the numbers in the file, see `DepthUnit`.
        far: metres.

    Returns:
        `float32 [1, R, R]`, metres in [0, far].

    Raises:
        Unreadable: `empty file`, `not a depth map`, `colours, not depth`, `truncated`, `damaged`, `too many pixels`, `no
            reading`, or `most readings out of range ...`: beyond `far` or nearer than 1 cm, as with a wrong unit.
        ConfigError: no such unit.

    Example:
        >>> import io; buffer = io.BytesIO(); np.save(buffer, np.full((8, 12), 2000, dtype=np.uint16))
        >>> decode_depth(buffer.getvalue(), 2, "mm").tolist()
        [[[2.0, 2.0], [2.0, 2.0]]]
    """
    meaning = DepthUnit(unit)
    numbers = _numbers(data)
    depth, within, read = np.zeros(numbers.shape, dtype=np.float32), 0, 0
    for rows in row_blocks(*numbers.shape):
        metres = meaning.metres(numbers[rows])
        within += int(((metres >= NEAR) & (metres <= far)).sum())
        read += int((metres > 0).sum())
        metres[metres < NEAR] = 0
        depth[rows] = np.minimum(metres, far)
    if 2 * within < read:
        raise Unreadable(
            f"most readings out of range, {NEAR:g} to {far:g} m in unit {unit}: see depth_unit and depth_far"
        )
    fitted = _fitted(depth, resolution)
    if not fitted.any():
        raise Unreadable("no reading")
    return fitted[None]


def depth_size(data: bytes) -> tuple[int, int]:
    """Width and height of a depth map, upright.

    Raises:
        Unreadable: as `decode_depth` does.
    """
    if not data.startswith(NUMPY):
        return image_size(data)
    height, width = _numbers(data).shape
    return width, height


def _numbers(data: bytes) -> NDArray[Any]:
    """What the file holds, `[H, W]`."""
    if not data:
        raise Unreadable("empty file")
    numbers = decode_array(data, "not a depth map") if data.startswith(NUMPY) else _image(data)
    if numbers.ndim != 2 or not numbers.size or numbers.dtype == np.bool_:
        raise Unreadable("not a depth map")
    return numbers


def _image(data: bytes) -> NDArray[Any]:
    with opened_image(data, "not a depth map", ("PNG", "TIFF")) as image:
        if image.mode not in ("L", "F") and not image.mode.startswith("I"):
            raise Unreadable("colours, not depth")
        return np.asarray(upright(image))


def _fitted(depth: NDArray[np.float32], resolution: int) -> NDArray[np.float32]:
    """The mean of the valid depths in each of the `[R, R]` pixels of the centre."""
    from PIL import Image, ImageOps

    def fit(values: NDArray[np.float32]) -> NDArray[np.float32]:
        fitted = ImageOps.fit(Image.fromarray(values), (resolution, resolution), Image.Resampling.BOX)
        return np.asarray(fitted, dtype=np.float32)

    valid = fit((depth > 0).astype(np.float32))
    mean: NDArray[np.float32] = np.where(valid >= 0.5, fit(depth) / np.maximum(valid, 1e-6), 0).astype(np.float32)
    return mean
