"""Objects as COCO writes them down: runs of columns, compressed or not, and polygons; many of them make one mask."""

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.decode import check_size
from limbeck.data.parse import Unreadable, parse_json
from limbeck.limits import CROSSINGS

__all__ = ["decode_segments", "segments_bytes", "segments_size"]

BROKEN = "a segment that is neither runs nor polygons"
UNFILLED = "runs that do not fill the size of their segment"
NO_STRING = "runs that are no compressed string"
DIGITS = 7  # of five bits, that a run in a compressed string may have

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
    except (TypeError, ValueError, RecursionError) as error:
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
    runs = [segment["counts"] for segment in segments if "counts" in segment]
    polygons = [segment["polygons"] for segment in segments if "counts" not in segment]
    whole = np.zeros((height, width), dtype=np.bool_)
    if runs:
        whole |= _of_runs(runs, height, width)
    if polygons:
        whole |= _of_polygons(polygons, height, width)
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
    check_size(*sizes[0])
    return found


def _of_runs(segments: Sequence[object], height: int, width: int) -> NDArray[np.bool_]:
    """What the runs of all segments cover, in time that grows with their number and the pixels, not with both multiplied."""
    turns = np.zeros(
        height * width + 1, dtype=np.int32
    )  # how many runs of objects begin at a pixel, less those that end
    for counts in segments:
        held = _uncompressed(counts, height * width) if isinstance(counts, str) else counts
        runs: list[Any] = held if isinstance(held, list) else []
        if not all(type(run) is int and 0 <= run <= height * width for run in runs) or sum(runs) != height * width:
            raise Unreadable(UNFILLED)
        ends = np.cumsum(np.array(runs, dtype=np.int64))
        np.add.at(turns, ends[:-1:2], 1)
        np.add.at(turns, ends[1::2], -1)
    np.cumsum(turns, out=turns)
    return (turns[:-1] > 0).reshape(width, height).T


def _uncompressed(text: str, most: int) -> list[int]:
    """The runs in a string: five bits a character from 48 up, the lowest first, 32 where more follow, the last one signed."""
    runs: list[int] = []
    value, bits = 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or bits >= 5 * DIGITS:
            raise Unreadable(NO_STRING)
        value |= (code & 31) << bits
        bits += 5
        if code & 32:
            continue
        value -= (code & 16) << (bits - 4)
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if not 0 <= runs[-1] <= most:
            raise Unreadable(UNFILLED)
        value, bits = 0, 0
    return runs


def _of_polygons(segments: Sequence[object], height: int, width: int) -> NDArray[np.bool_]:
    """What the polygons of all segments cover, in time that grows with the rows that their edges cross, and the pixels.

    An edge turns inside to outside of its polygon, in every row whose middle it crosses, for all pixels whose middle lies to
    its right. So of the crossings of a polygon with a row, from left to right, each second one ends what the one before begins.
    """
    if not all(isinstance(polygons, list) and polygons for polygons in segments):
        raise Unreadable("a segment without polygons")
    corners = [_corners(polygon) for polygons in segments for polygon in polygons]  # type: ignore[attr-defined]
    of, row, column = _crossings(corners, height, width)
    order = np.lexsort((column, row, of))
    turns = np.zeros((height, width + 1), dtype=np.int32)
    np.add.at(turns, (row[order][::2], column[order][::2]), 1)
    np.add.at(turns, (row[order][1::2], column[order][1::2]), -1)
    np.cumsum(turns, axis=1, out=turns)
    inside: NDArray[np.bool_] = turns[:, :width] > 0
    return inside


def _crossings(
    corners: Sequence[Sequence[float]], height: int, width: int
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Of each crossing of an edge with the middle of a row: its polygon, its row, and the first column to its right."""
    lengths = np.array([len(polygon) // 2 for polygon in corners])
    ends = np.cumsum(lengths)
    x, y = np.fromiter(chain.from_iterable(corners), np.float64, 2 * int(ends[-1])).reshape(-1, 2).T
    follows = np.arange(1, len(x) + 1)
    follows[ends - 1] = ends - lengths  # the last corner is followed by the first
    to_x, to_y = x[follows], y[follows]
    low, high = np.minimum(y, to_y), np.maximum(y, to_y)
    first, last = (np.clip(np.ceil(end - 0.5), 0, height).astype(np.int64) for end in (low, high))
    count = last - first  # the first end belongs to the edge, the last to the next one
    if int(count.sum()) > CROSSINGS.most:
        raise Unreadable(f"polygons of too many edges: {CROSSINGS}")
    edge = np.repeat(np.arange(len(x)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count - first, count)
    crossed = x[edge] + (row + 0.5 - y[edge]) * (to_x - x)[edge] / (to_y - y)[edge]
    column = np.clip(np.ceil(crossed - 0.5), 0, width)
    of = np.repeat(np.arange(len(corners)), lengths)[edge]
    return of.astype(np.int32), row.astype(np.int32), column.astype(np.int32)


def _corners(polygon: object) -> Sequence[float]:
    numbers: Sequence[Any] = polygon if isinstance(polygon, list) else ()
    plain = all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < 1e6 for n in numbers)
    if len(numbers) < 6 or len(numbers) % 2 or not plain:
        raise Unreadable("a polygon that is not three or more corners")
    return numbers
