"""MATLAB files of versions 4 to 7, and whatever is left of them when bits fall over."""

import io
import struct
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from limbeck.data.matfile import mat_numbers
from limbeck.limits import MATLAB

FORMS: list[dict[str, Any]] = [{"format": "4"}, {"format": "5"}, {"format": "5", "do_compression": True}]


def mat(values: dict[str, Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, values, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("options", FORMS)
@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("shape", [(795, 1), (1, 3), (3, 4), (1, 1), (0, 0)])
def test_numbers_of_every_kind(shape: tuple[int, int], kind: str, options: dict[str, Any]) -> None:
    numbers = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    held = mat_numbers(mat({"a": numbers, "text": "hello", "b": numbers + 1}, **options))
    assert list(held) == ["a", "b"], "texts are passed over"
    assert np.array_equal(held["a"], numbers.ravel(order="F")) and np.array_equal(
        held["b"], (numbers + 1).ravel(order="F")
    )


def test_what_is_no_array_of_numbers_is_passed_over() -> None:
    cells = np.empty(1, dtype=object)
    cells[0] = "x"
    assert list(mat_numbers(mat({"cells": cells, "part": {"x": 1}, "complex": np.ones(2) * 1j, "x": [1]}))) == ["x"]


def test_the_other_byte_order() -> None:
    parts = [
        struct.pack(">IIII", 6, 8, 6, 0),
        struct.pack(">IIii", 5, 8, 1, 2),
        struct.pack(">HH4s", 1, 1, b"x"),
        struct.pack(">II2d", 9, 16, 3, 4),
    ]
    body = b"".join(parts)
    data = b"MATLAB".ljust(124) + struct.pack(">H", 0x0100) + b"MI" + struct.pack(">II", 14, len(body)) + body
    assert mat_numbers(data)["x"].tolist() == [3, 4]


@pytest.mark.parametrize("options", FORMS)
def test_every_flipped_bit_is_numbers_or_a_reason(options: dict[str, Any]) -> None:
    good = mat({"trainNdxs": np.arange(1, 4)[None], "testNdxs": np.arange(4, 7)[None]}, **options)
    refused = 0
    for bit in range(8 * len(good)):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            mat_numbers(bytes(damaged))
        except ValueError:
            refused += 1
    for length in range(len(good)):
        with suppress(ValueError):
            mat_numbers(good[:length])
    assert refused > 100, "most of it is looked at"


def test_what_is_packed_is_no_larger_than_it_may_be() -> None:
    bomb = zlib.compress(bytes(2 * MATLAB.most), 9)
    data = b"MATLAB".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + struct.pack("<II", 15, len(bomb)) + bomb
    with pytest.raises(ValueError, match="packed in it are more than"):
        mat_numbers(data)
    with pytest.raises(ValueError, match="begins as no MATLAB file"):
        mat_numbers(b"no matrix at all, and long enough")
