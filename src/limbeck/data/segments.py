"""Objects as COCO writes them down: runs of columns, compressed or not, and polygons; many of them make one mask."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.decode import LARGEST
from limbeck.data.parse import Unreadable, parse_json

__all__ = ["decode_segments", "segments_bytes", "segments_size"]

BROKEN = "a segment that is neither runs nor polygons"

Segment = dict[str, Any]


def segments_bytes(segments: object) -> bytes:
    """Segments as the bytes of a mask, the same for the same segments.

    Args:
        segments: `{"size": [height, width], "counts": ...}`, with runs as a list or as the compressed string of COCO;
            `{"size": [height, width], "polygons": [[x, y, x, y, ...], ...]}`; or a list of these.

    Raises:
        Unreadable: none of these; the reason.

    Example:
        >>> segments_bytes({"size": [2, 2], "counts": [1, 3]})
        b'[{"size":[2,2],"counts":[1,3]}]'
    """
    held = segments if isinstance(segments, list | tuple) else [segments]
    plain = [{k: v for k, v in s.items() if v is not None} if isinstance(s, dict) else s for s in held]
    try:
        return json.dumps(_checked(plain), separators=(",", ":"), default=_text).encode()
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, Unreadable) else Unreadable(BROKEN) from None


def segments_size(data: bytes) -> tuple[int, int]:
    """Width and height of the mask that segments make.

    Raises:
        Unreadable: the bytes are not segments of one size; the reason.
    """
    segments = _segments(data)
    height, width = segments[0]["size"]
    return width, height


def decode_segments(data: bytes) -> NDArray[np.bool_]:
    """The mask `[H, W]` of the pixels that at least one segment covers.

    Runs go down the columns, from left to right, and begin with one outside of the object:

        size [2, 3], counts [1, 2, 3]        . #  .
                                             # .  .

    A compressed string holds the same numbers, from the fourth on less the number two before, five bits a character.
    A polygon covers the pixels whose middle lies in it; its corners are in pixels from the upper left corner of the image.

    Args:
        data: what `segments_bytes` gives.

    Raises:
        Unreadable: segments that are neither runs nor polygons, runs that do not fill the size, a polygon that is none, or `too many pixels`.

    Example:
        >>> decode_segments(b'{"size": [2, 3], "counts": [1, 2, 3]}').astype(int).tolist()
        [[0, 1, 0], [1, 0, 0]]
        >>> decode_segments(b'{"size": [2, 3], "polygons": [[1, 0, 3, 0, 3, 1, 1, 1]]}').astype(int).tolist()
        [[0, 1, 1], [0, 0, 0]]

    Paper: Lin et al., Microsoft COCO: common objects in context, ECCV 2014.
    """
    segments = _segments(data)
    height, width = segments[0]["size"]
    whole = np.zeros((height, width), dtype=np.bool_)
    for segment in segments:
        if "counts" in segment:
            whole |= _of_runs(segment["counts"], height, width)
        else:
            whole |= _of_polygons(segment["polygons"], height, width)
    return whole


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii")
    raise TypeError


def _segments(data: bytes) -> list[Segment]:
    found = parse_json(data)
    return _checked(found if isinstance(found, list) else [found])


def _checked(found: list[Any]) -> list[Segment]:
    if not found or not all(isinstance(s, dict) and ("counts" in s or "polygons" in s) for s in found):
        raise Unreadable(BROKEN)
    sizes = [s.get("size") for s in found]
    if not all(isinstance(s, list) and len(s) == 2 and all(type(n) is int and n > 0 for n in s) for s in sizes):
        raise Unreadable("a segment without its size, [height, width]")
    if any(size != sizes[0] for size in sizes):
        raise Unreadable("segments of several sizes")
    if sizes[0][0] * sizes[0][1] > LARGEST:
        raise Unreadable("too many pixels")
    return found


def _of_runs(counts: object, height: int, width: int) -> NDArray[np.bool_]:
    held = _uncompressed(counts) if isinstance(counts, str) else counts
    runs: list[Any] = held if isinstance(held, list) else []
    if not all(type(run) is int and run >= 0 for run in runs) or sum(runs) != height * width:
        raise Unreadable("runs that do not fill the size of their segment")
    inside = np.arange(len(runs)) % 2 == 1
    columns: NDArray[np.bool_] = np.repeat(inside, runs).reshape(width, height)
    return columns.T


def _uncompressed(text: str) -> list[int]:
    """The runs in a string: five bits a character from 48 up, the lowest first, 32 where more follow, the last one signed."""
    runs: list[int] = []
    value, bits = 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise Unreadable("runs that are no compressed string")
        value |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        value -= (code & 16) << (bits - 4)
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, bits = 0, 0
    return runs


def _of_polygons(polygons: object, height: int, width: int) -> NDArray[np.bool_]:
    if not isinstance(polygons, list) or not polygons:
        raise Unreadable("a segment without polygons")
    covered = np.zeros((height, width), dtype=np.bool_)
    for polygon in polygons:
        covered |= _of_polygon(_corners(polygon), height, width)
    return covered


def _of_polygon(corners: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """An edge turns inside to outside, in every row whose middle it crosses, for all pixels whose middle lies to its right."""
    turns = np.zeros((height, width + 1), dtype=np.int32)
    for (x, y), (to_x, to_y) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high = sorted((y, to_y))
        first, last = (int(np.clip(np.ceil(end - 0.5), 0, height)) for end in (low, high))
        rows = np.arange(first, last)  # the first end belongs to the edge, the last to the next one
        if len(rows):
            crossed = x + (rows + 0.5 - y) * (to_x - x) / (to_y - y)
            turns[rows, np.clip(np.ceil(crossed - 0.5), 0, width).astype(np.int64)] += 1
    inside: NDArray[np.bool_] = np.cumsum(turns, axis=1)[:, :width] % 2 == 1
    return inside


def _corners(polygon: object) -> NDArray[np.float64]:
    numbers: Sequence[Any] = polygon if isinstance(polygon, list) else ()
    plain = all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < 1e6 for n in numbers)
    if len(numbers) < 6 or len(numbers) % 2 or not plain:
        raise Unreadable("a polygon that is not three or more corners")
    return np.array(numbers, dtype=np.float64).reshape(-1, 2)
