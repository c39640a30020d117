"""The rows of tables that people write: JSON lines, CSV and Parquet, each with the place where it stands."""

import csv
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from limbeck.data.columns import role_of
from limbeck.data.parse import Unreadable, encoding_of, is_utf8, parse_json
from limbeck.data.regular import open_regular
from limbeck.data.unread import KEPT, is_empty, kind_of
from limbeck.errors import DataError
from limbeck.limits import LINE, SWELL, TABLE

__all__ = [
    "TABLES",
    "arrow_cells",
    "cells_of",
    "check_parquet",
    "csv_rows",
    "jsonl_rows",
    "parquet_rows",
    "table_rows",
    "text_bytes",
]

Row = tuple[str, Any]  # where it stands; its cells by column, or the `Unreadable` that tells why there are none

SEPARATORS = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a bar"}
COMMENT = re.compile(r"#(\s|#|$)")
BATCH = 1 << 26  # bytes that the rows which are decoded together may take


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
    """One value a line; empty lines are passed over.

    Raises:
        DataError: a line of more characters than a `LINE` may have.
    """
    for number, line in enumerate(_lines(table), start=1):
        if line.strip():
            try:
                yield f"{table}, line {number}", parse_json(line)
            except Unreadable as error:
                yield f"{table}, line {number}", error


def csv_rows(
    table: Path, needed: Collection[str] = (), columns: Sequence[str] | None = None, separator: str = ""
) -> Iterator[Row]:
    """Cells by column; those that are empty are left out, blanks round a name of a column or behind a separator as well.

    Comments (`# ...`) and Excel's `sep=;` are passed over where they stand before the header.

    Args:
        table: the file, UTF-8 or, with their marks, UTF-16 and UTF-32.
        needed: columns that it must have.
        columns: the names of the columns of a table without a header; a first line that repeats them is passed over.
        separator: between two cells; by default the one that `sep=` names, or that of comma, tab, semicolon and bar under which the
            header has known names.

    Raises:
        DataError: a column that is `needed` is not there, a quote that is not closed, or a line that breaks the format.
    """
    with _csv_errors(table):
        preamble, usual = (0, ",") if columns else _preamble(table)
        separator = separator or usual
        lines = ("\n" if i < preamble else line for i, line in enumerate(_lines(table, "")))
        reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
        names = list(columns or ())
        while not names and (row := _next(reader, table)) is not None:
            names = [name.strip() for name in row]
        if lacking := [column for column in needed if column not in names]:
            raise DataError(f"{table} has no column {lacking[0]!r}; it has {', '.join(names) or 'none'}")
        if twice := sorted({name for name in names if name and names.count(name) > 1}):
            raise DataError(f"{table} has two columns {twice[0]!r}; rename one")
        begun = reader.line_num + 1
        while (row := _next(reader, table)) is not None:
            where, begun, first = f"{table}, line {reader.line_num}", reader.line_num + 1, begun
            if not row or row == names:
                continue
            if len(row) != len(names):
                yield where, Unreadable("wrong number of columns")
            elif not all(map(is_utf8, row)):
                yield where, Unreadable("not UTF-8")
            else:
                _refuse_swallowed(table, row, separator, first)
                yield where, {name: value for name, value in zip(names, row, strict=True) if not is_empty(value)}


def table_rows(
    table: Path, wanted: Callable[[Mapping[str, list[Any]], int], Collection[str]] | None = None
) -> Iterator[Row]:
    """The rows of a table by the ending of its name.

    Args:
        table: the file.
        wanted: where the format can leave out columns, which to decode: called with all columns and their first cells, and the
            number of rows.

    Raises:
        DataError: it cannot be read as what its ending says.
    """
    ending = table.suffix.lower()
    if ending == ".parquet":
        return parquet_rows(table, None if wanted is None else wanted(parquet_columns(table), parquet_length(table)))
    return (jsonl_rows if ending in (".jsonl", ".ndjson") else csv_rows)(table)


TABLES = (".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".parquet")


def _lines(table: Path, ends: str = "\n") -> Iterator[str]:
    """The lines of a text, with their ends; bytes that are not text are half pairs.

    Args:
        table: the file.
        ends: what ends a line; empty for all that does on any system.

    Raises:
        DataError: a line of more characters than a `LINE` may have, or an encoding that is none.
    """
    with open_regular(table) as raw:
        encoding = encoding_of(raw.read(4))
        raw.seek(0)
        if encoding == "utf-8-sig" and raw.read(200).count(0) > 20:
            raise DataError(f"{table} is no text, or UTF-16 without its mark; save it as UTF-8")
        raw.seek(0)
        errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
        text = TextIOWrapper(raw, encoding, errors, newline=ends)
        number = 0
        try:
            while line := text.readline(LINE.most + 1):
                number += 1
                if len(line) > LINE.most:
                    raise DataError(f"{table}, line {number} has {LINE}; that is no table")
                yield line
        except UnicodeError as error:
            raise DataError(f"{table} is not {encoding.upper()}, as its first bytes say; save it as UTF-8") from error
        except OSError as error:
            raise DataError(
                f"{table} cannot be read: {error.strerror}; check the path, and that you may read it"
            ) from error


@contextmanager
def _csv_errors(table: Path) -> Iterator[None]:
    try:
        yield
    except csv.Error as error:
        raise DataError(f"{table}: {error}; mend that line") from error


def _next(reader: Any, table: Path) -> list[str] | None:
    """The next row, with cells as long as a line may be; `None` at the end."""
    begun = reader.line_num + 1
    before = csv.field_size_limit(LINE.most)  # of the whole process, so it is put back
    try:
        return next(reader, None)
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise DataError(
                f"{table}, line {begun}: a quote opens there that is never closed, so that all lines behind it are lost; close it, or "
                'write a quote that is part of a text as "" within quotes'
            ) from error
        if "expected after" in str(error):
            lines = f"line {begun}" if begun == reader.line_num else f"lines {begun} to {reader.line_num}"
            raise DataError(
                f"{table}, {lines}: a quoted cell goes on behind its closing quote; write a quote that is part of a text as "
                '"" within quotes, and close those that open a cell'
            ) from error
        raise DataError(f"{table}, line {reader.line_num}: {error}; mend that line") from error
    finally:
        csv.field_size_limit(before)


def _refuse_swallowed(table: Path, row: Sequence[str], separator: str, line: int) -> None:
    """Refuses a cell in quotes that holds what were whole rows: two stray quotes, each in a line of its own, make it."""
    for cell in row:
        for inner in cell.split("\n")[1:-1] if "\n" in cell else ():
            parts = inner.strip("\r").split(separator)
            if len(parts) == len(row) > 1 and any(kind_of(part) for part in parts):
                raise DataError(
                    f"{table}, line {line}: a quote opens there that takes whole rows into its cell, among them {inner.strip()[:60]!r}; "
                    'close it, or write a quote that is part of a text as "" within quotes'
                )


def _preamble(table: Path) -> tuple[int, str]:
    """How many lines stand before the header, and what stands between its cells: as `sep=` says, else as names are known."""
    usual = "\t," if table.suffix.lower() == ".tsv" else ",\t"
    choices: tuple[str, ...] = (*usual, ";", "|")
    declared, header, lines = "", "", _lines(table, "")
    for number, line in enumerate(lines):
        text = line.strip(' "\r\n')
        if number == 0 and text.lower().startswith("sep=") and len(text) == len("sep=") + 1:
            declared = text[-1]
        elif text and not (COMMENT.match(text) and not role_of(text) and not any(_known(line, s) for s in choices)):
            header = line
            break
    else:
        number = 0
    lines.close()  # type: ignore[attr-defined]
    return number, declared or max(choices, key=partial(_known, header))


def _known(header: str, separator: str) -> int:
    """How many names of columns are known where `separator` stands between them; 0 for one name alone."""
    names = [name.strip(' "\r\n') for name in header.split(separator)]
    return sum(role_of(name) is not None for name in names) if len(names) > 1 else 0


def parquet_columns(table: Path) -> dict[str, list[Any]]:
    """The names of the columns, with their first cells.

    Raises:
        DataError: no Parquet file.
    """
    with _parquet(table) as file:
        names = file.schema_arrow.names
        batch = next(file.iter_batches(min(_batch_rows(file), KEPT)), None)
        columns = [[] for _ in names] if batch is None else [arrow_cells(column) for column in batch.columns]
        return dict(zip(names, columns, strict=True))


def parquet_length(table: Path) -> int:
    """How many rows a Parquet file says that it has."""
    with _parquet(table) as file:
        return int(file.metadata.num_rows)


def parquet_rows(table: Path, columns: Collection[str] | None = None) -> Iterator[Row]:
    """Cells by column, a few rows at a time, so that small files of large contents do not fill the memory.

    Args:
        table: the file.
        columns: those to decode; by default all.

    Raises:
        DataError: no Parquet file, or one whose contents are many times its size.
    """
    size, unpacked, number = table.stat().st_size if table.is_file() else 0, 0, 0
    with _parquet(table) as file:
        names = [name for name in file.schema_arrow.names if columns is None or name in columns]
        for batch in file.iter_batches(_batch_rows(file), columns=names):
            decoded = [c.dictionary_decode() if hasattr(c, "dictionary_decode") else c for c in batch.columns]
            unpacked += sum(column.nbytes for column in decoded)
            check_swell(table, size, unpacked)
            cells = {name: arrow_cells(column) for name, column in zip(names, decoded, strict=True)}
            for row in range(batch.num_rows):
                yield f"{table}, row {number}", {name: values[row] for name, values in cells.items()}
                number += 1


def most_unpacked(size: int) -> int:
    """Bytes that a table of `size` bytes may have in memory."""
    return max(TABLE.most, SWELL.most * size)


def check_swell(table: str | Path, size: int, unpacked: int) -> None:
    """Refuses a table of which far more is in memory than its file has, as where one text is stored once for a million rows.

    Args:
        table: what it is called.
        size: bytes of its files.
        unpacked: bytes of its cells, as far as they were counted.

    Raises:
        DataError: it does.
    """
    if unpacked > most_unpacked(size):
        raise DataError(
            f"{table} has {size:,} bytes and holds more than {unpacked:,}: it was made to fill the memory, or repeats itself; write its "
            f"texts once, or read tables that hold {SWELL}"
        )


def check_parquet(table: Path) -> None:
    """Refuses a Parquet table that unpacks to far more than its file, before somebody else unpacks it.

    Only columns whose texts could swell that far, by how many rows and bytes the file says it has, are read.

    Raises:
        DataError: it does, or is no Parquet file.
    """
    size, unpacked = table.stat().st_size, 0
    with _parquet(table) as file:
        leaves = [file.schema.column(i) for i in range(len(file.schema))]
        texts = [leaf for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
        most = len(texts) * sum(group.num_rows * group.total_byte_size for group in _groups(file))
        if not texts or (most <= most_unpacked(size) and not any(leaf.max_repetition_level for leaf in texts)):
            return  # a list may hold more texts than there are rows
    columns = [leaf.path for leaf in texts]
    with _parquet(table, columns) as file:
        for batch in file.iter_batches(_batch_rows(file), columns=columns):
            unpacked += sum(map(text_bytes, batch.columns))
            check_swell(table, size, unpacked)


def text_bytes(array: Any) -> int:
    """Bytes of the texts in an Arrow array that were read as dictionaries, each counted as often as it stands there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return text_bytes(array.flatten())
    if pa.types.is_struct(array.type):
        return sum(text_bytes(array.field(i)) for i in range(array.type.num_fields))
    if pa.types.is_dictionary(array.type):
        return pc.sum(pc.take(pc.binary_length(array.dictionary), array.indices)).as_py() or 0
    return 0


def arrow_cells(column: Any) -> list[Any]:
    """The values of an Arrow column; where one cannot be had, such as a far date or a text that is not UTF-8, its reason."""
    try:
        values: list[Any] = column.to_pylist()
        return values
    except (ValueError, OverflowError, ArithmeticError):
        return [_cell(value) for value in column]


def _cell(value: Any) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return Unreadable("not UTF-8")
    except (ValueError, OverflowError, ArithmeticError):
        return Unreadable("a value that cannot be read")


def _batch_rows(file: Any) -> int:
    """How many rows are decoded together: each can be as large as all that its column stores once."""
    largest = max((group.total_byte_size for group in _groups(file)), default=1)
    return max(1, min(1024, BATCH // max(largest, 1)))


def _groups(file: Any) -> list[Any]:
    """What a Parquet file says of its groups of rows; their columns are not asked for, as damage to these ends the process (pyarrow 26)."""
    return [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]


@contextmanager
def _parquet(table: Path, dictionaries: Sequence[str] = ()) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_regular(table) as raw:
        try:
            with pq.ParquetFile(raw, read_dictionary=list(dictionaries)) as file:
                yield file
        except (pa.ArrowException, OSError, MemoryError, ValueError, OverflowError) as error:
            if isinstance(error, DataError):
                raise
            reason = " ".join(re.sub(r"[^\x20-\x7e]+", " ", str(error)).split())[:200] or "it asks for too much memory"
            raise DataError(f"{table} cannot be read as Parquet: {reason}") from error
