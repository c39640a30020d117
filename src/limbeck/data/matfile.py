"""The arrays of numbers in a MATLAB file of version 4 to 7, read without code that a damaged file can crash."""

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.limits import MATLAB

__all__ = ["mat_numbers"]

COMPRESSED, MATRIX = 15, 14
KINDS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
OLD_KINDS = {0: "f8", 1: "f4", 2: "i4", 3: "i2", 4: "u2", 5: "u1"}  # of version 4
NUMERIC = range(6, 16)  # classes of arrays, from double to uint64


def mat_numbers(data: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of real numbers by name, flat, in MATLAB's order; texts, cells and the like are passed over.

    Args:
        data: the bytes of a file.

    Raises:
        ValueError: it is damaged, too large or of another format; says where.

    Example:
        >>> import io; from scipy.io import savemat
        >>> buffer = io.BytesIO(); savemat(buffer, {"x": [[1, 3], [2, 4]]})
        >>> mat_numbers(buffer.getvalue())["x"].tolist()
        [1, 2, 3, 4]
    """
    if len(data) > MATLAB.most:
        raise ValueError(f"it has {MATLAB}")
    try:
        if data[126:128] in (b"IM", b"MI") and len(data) >= 128:
            return dict(_arrays(data, "<" if data[126:128] == b"IM" else ">"))
        return dict(_old_arrays(data))
    except (struct.error, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error


def _arrays(data: bytes, order: str) -> Iterator[tuple[str, NDArray[Any]]]:
    at, left = 128, MATLAB.most
    while at < len(data):
        kind, body, at = _element(data, at, order)
        if kind == COMPRESSED:
            unpacked = zlib.decompressobj().decompress(body, left)
            left -= len(unpacked)
            if left <= 0:
                raise ValueError(f"packed in it are {MATLAB}")
            kind, body, _ = _element(unpacked, 0, order)
        else:
            at += -at % 8
        if kind == MATRIX and (array := _array(body, order)) is not None:
            yield array


def _element(data: bytes, at: int, order: str) -> tuple[int, bytes, int]:
    """Kind and bytes of the element that begins at `at`, and where it ends. Up to four bytes stand within its head."""
    kind, length = struct.unpack_from(f"{order}II", data, at)
    start = at + 8
    if kind >> 16:
        kind, length, start = kind & 0xFFFF, kind >> 16, at + 4
        if length > 4:
            raise ValueError(f"a small element of {length} bytes at byte {at}")
        return kind, data[start : start + length], at + 8
    if start + length > len(data):
        raise ValueError(f"it ends within the element at byte {at}")
    return kind, data[start : start + length], start + length


def _array(body: bytes, order: str) -> tuple[str, NDArray[Any]] | None:
    """Name and numbers of an array; `None` of one that holds no real numbers."""
    parts: list[tuple[int, bytes]] = []
    at = 0
    while at < len(body) and len(parts) < 4:
        kind, part, at = _element(body, at, order)
        at += -at % 8
        parts.append((kind, part))
    if len(parts) < 4:
        return None
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    kind, numbers = parts[3]
    if (flags & 0xFF) not in NUMERIC or flags & 0x0800 or kind not in KINDS:
        return None
    shape = np.frombuffer(parts[1][1], f"{order}i4").tolist()
    return parts[2][1].decode("ascii"), _numbers(numbers, order + KINDS[kind], math.prod(shape))


def _numbers(data: bytes, kind: str, count: int) -> NDArray[Any]:
    if len(data) != count * np.dtype(kind).itemsize:
        raise ValueError(f"an array of {count} numbers in {len(data)} bytes")
    return np.frombuffer(data, kind)


def _old_arrays(data: bytes) -> Iterator[tuple[str, NDArray[Any]]]:
    at = 0
    while at < len(data) or not at:
        order = "<" if data[at : at + 2] != b"\0\0" or data[at : at + 4] == bytes(4) else ">"
        kind, rows, columns, complex_too, length = struct.unpack_from(f"{order}5i", data, at)
        machine, number, sort = kind // 1000, kind // 10 % 10, kind % 10
        if machine not in (0, 1) or number not in OLD_KINDS or kind // 100 % 10 or sort > 2 or min(rows, columns) < 0:
            raise ValueError("it begins as no MATLAB file does")
        if not 0 < length <= 64 or complex_too not in (0, 1):
            raise ValueError(f"no array begins at byte {at}")
        name, start = data[at + 20 : at + 20 + length].rstrip(b"\0").decode("ascii"), at + 20 + length
        size = rows * columns * np.dtype(OLD_KINDS[number]).itemsize
        at = start + size * (1 + complex_too)
        if at > len(data):
            raise ValueError(f"it ends within {name}")
        if sort == 0 and not complex_too:
            yield name, _numbers(data[start : start + size], order + OLD_KINDS[number], rows * columns)
