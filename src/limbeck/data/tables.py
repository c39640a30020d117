"""The rows of tables that people write: JSON lines, CSV and Parquet, each with the place where it stands."""

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from limbeck.data.parse import Unreadable, parse_json
from limbeck.errors import DataError

__all__ = ["cells_of", "csv_rows", "jsonl_rows", "parquet_rows"]

Row = tuple[str, Any]  # where it stands; its cells by column, or the `Unreadable` that tells why there are none


def cells_of(row: Any) -> dict[str, Any]:
    """The cells of a row by column.

    Raises:
        Unreadable: the reason that stands in place of the row, or `not an object`.
    """
    if isinstance(row, Unreadable):
        raise row
    if not isinstance(row, dict):
        raise Unreadable("not an object")
    return row


def jsonl_rows(table: Path) -> Iterator[Row]:
    """One value a line; empty lines are passed over."""
    for number, line in enumerate(table.read_bytes().split(b"\n"), start=1):
        if line.strip():
            try:
                yield f"{table}, line {number}", parse_json(line)
            except Unreadable as error:
                yield f"{table}, line {number}", error


def csv_rows(
    table: Path, needed: Collection[str] = (), columns: Sequence[str] | None = None, separator: str = ","
) -> Iterator[Row]:
    """Cells by column; those that are empty are left out.

    Args:
        table: the file.
        needed: columns that it must have.
        columns: the names of the columns of a table without a header; a first line that repeats them is passed over.
        separator: between two cells.

    Raises:
        DataError: a column that is `needed` is not there, or a line that breaks the format.
    """
    text = table.read_bytes().decode("utf-8-sig", "surrogateescape")
    reader = csv.DictReader(io.StringIO(text, newline=""), columns, delimiter=separator)
    held = reader.fieldnames or ()
    if lacking := [column for column in needed if column not in held]:
        raise DataError(f"{table} has no column {lacking[0]!r}; it has {', '.join(held) or 'none'}")
    try:
        for row in reader:
            where = f"{table}, line {reader.line_num}"
            if columns and list(row.values()) == list(columns):
                continue
            if None in row or None in row.values():
                yield where, Unreadable("wrong number of columns")
            elif any("\ud800" <= c <= "\udfff" for value in row.values() for c in value):
                yield where, Unreadable("not UTF-8")
            else:
                yield where, {name: value for name, value in row.items() if value != ""}
    except csv.Error as error:
        raise DataError(f"{table}, line {reader.line_num}: {error}; mend that line") from error


def parquet_rows(table: Path) -> Iterator[Row]:
    """Cells by column.

    Raises:
        DataError: no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(table) as file:
            number = 0
            for batch in file.iter_batches(1024):
                for row in batch.to_pylist():
                    yield f"{table}, row {number}", row
                    number += 1
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{table} cannot be read as Parquet: {error}") from error
