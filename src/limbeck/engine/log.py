"""`log.jsonl` of a run: one line a step, whatever happened to the file."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from limbeck.runtime.files import writing

__all__ = ["append", "flush", "read"]


def read(path: Path) -> tuple[list[dict[str, Any]], list[int]]:
    """The rows of a log, one a step in the order of steps, and the numbers of the lines that cannot be read.

    A last line without its end is what a killed process leaves, and is not counted.

    Args:
        path: the file; there may be none.

    Raises:
        StorageError: it may not be read.
    """
    if not path.exists():
        return [], []
    with writing(path, "see to it that it is a file that you may read and write"):
        data = path.read_bytes()
    rows: dict[int, dict[str, Any]] = {}
    lost = []
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        row = _row(line)
        if row is not None:
            rows.setdefault(row["step"], row)  # a step that two processes logged has one row
        elif line.strip() and number < len(lines):
            lost.append(number)
    return [rows[step] for step in sorted(rows)], lost


def _row(line: bytes) -> dict[str, Any] | None:
    """A line as a row of numbers; `None` where it is none."""
    with suppress(ValueError, RecursionError):
        row = json.loads(line.decode("utf-8"))
        if isinstance(row, dict) and type(row.get("step")) is int and row["step"] > 0:
            return row if all(type(value) in (int, float) for value in row.values()) else None
    return None


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Adds a line.

    Raises:
        StorageError: it cannot be written.
    """
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dict(row)) + "\n")


def flush(path: Path) -> None:
    """Sees to it that all lines are on the disk."""
    if path.is_file():
        with writing(path), path.open("r+b") as file:
            os.fsync(file.fileno())
