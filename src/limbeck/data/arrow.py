"""The tables of `datasets`: what their columns hold, and where the bytes of each row lie."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limbeck.data.columns import role_of
from limbeck.data.layout import FileImage, ImageRef
from limbeck.data.parse import WORDS, Unreadable, clean_captions
from limbeck.data.regular import Place
from limbeck.data.rows import found_file
from limbeck.data.tables import arrow_cells
from limbeck.data.unread import KEPT, is_empty, kind_of

__all__ = ["RowImage", "cells_in", "content_of", "file_kind", "is_said", "is_segments", "is_text", "refs_in"]


@dataclass(frozen=True)
class RowImage(ImageRef):
    """An image, a sound or a mask inside an Arrow table.

    Args:
        table: a `datasets.Dataset` of that column alone.
        column: its name.
        row: position.
        version: digest of the table.
        content: SHA-256 of the encoded bytes, or the path where the table holds no bytes.
    """

    table: Any = field(repr=False, compare=False)
    column: str
    row: int
    version: str
    content: str

    def read(self) -> bytes:
        """The encoded bytes of the row."""
        try:
            value = self.table[self.row][self.column]
        except Exception as error:  # Arrow's own errors have no common base
            raise Unreadable("cannot be read") from error
        if value is None:
            raise Unreadable("missing")
        if isinstance(value, bytes):
            return value
        if value.get("bytes") is not None:
            return bytes(value["bytes"])
        return FileImage.of(value.get("path") or "").read()

    @property
    def stamp(self) -> Sequence[Any]:
        """Column and row, and the digest of the table."""
        return f"column {self.column}, row {self.row}", self.version


def cells_in(table: Any, column: str, count: int | None = None) -> list[Any]:
    """The values of a column, or the first of them; numbers of declared classes are names where they are no labels."""
    import datasets

    part = table.select_columns([column])
    part = part if count is None else part.select(range(min(count, len(part))))
    values = arrow_cells(part.with_format("arrow")[:].column(0))
    kind = table.features[column]
    if isinstance(kind, datasets.ClassLabel):
        named = role_of(column, ("split",)) is not None
        return [
            None if v is None or v < 0 else kind.int2str(v) if named and v < kind.num_classes else v for v in values
        ]
    return values


def refs_in(table: Any, column: str, place: Place) -> Iterator[Any]:
    """Where the file of each row lies, or, where the column holds no files, its cell; `None` where it has none."""
    import datasets

    kind = file_kind(table, column)
    if kind is None or getattr(table.features[column], "dtype", "") in ("string", "large_string"):
        for cell in cells_in(table, column):
            if kind is None or is_empty(cell):
                yield None if is_empty(cell) else cell
            else:
                yield found_file(place, cell)
        return
    cast = {"image": datasets.Image, "audio": datasets.Audio}[kind](decode=False)
    files = table.select_columns([column])
    files = (
        files.cast_column(column, cast)
        if isinstance(table.features[column], datasets.Image | datasets.Audio | dict)
        else files
    )
    row = 0
    for rows in files.with_format("arrow").iter(16):
        for value in arrow_cells(rows.column(0)):
            yield _row_image(files, column, row, table._fingerprint, value, place)
            row += 1


def _row_image(table: Any, column: str, row: int, version: str, value: Any, place: Place) -> Any:
    """Where the bytes of one cell lie."""
    if value is None or isinstance(value, Unreadable):
        return value
    data = value if isinstance(value, bytes) else value.get("bytes")
    if data is not None:
        return RowImage(table, column, row, version, hashlib.sha256(data).hexdigest())
    if not value.get("path"):
        return None
    ref = found_file(place, value["path"])
    return (
        ref if isinstance(ref, Unreadable) else RowImage(table, column, row, version, _relative(value["path"], place))
    )


def file_kind(table: Any, column: str) -> str | None:
    """Whether a column holds images or sounds, encoded or by their names, although nobody may have declared it as such."""
    import datasets

    kind = table.features[column]
    if isinstance(kind, datasets.Image | datasets.Audio):
        return "image" if isinstance(kind, datasets.Image) else "audio"
    dtype = getattr(kind, "dtype", "")
    if (isinstance(kind, dict) and set(kind) == {"bytes", "path"}) or dtype in ("binary", "large_binary"):
        first = next((cell for cell in cells_in(table, column, 16) if not is_empty(cell)), None)
        return kind_of(first) or "image"
    if dtype in ("string", "large_string") and role_of(column, ("image", "audio")):
        return kind_of(next((cell for cell in cells_in(table, column, 16) if not is_empty(cell)), None))
    return None


def is_segments(kind: Any) -> bool:
    """Whether a column holds runs or polygons, or lists of them."""
    kind = getattr(kind, "feature", kind)
    kind = kind[0] if isinstance(kind, list) and kind else kind
    return isinstance(kind, dict) and bool({"counts", "polygons"} & set(kind))


def is_text(kind: Any) -> bool:
    """Whether a column holds texts, lists of them, or structs in which they lie."""
    kind = getattr(kind, "feature", kind)
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if isinstance(kind, dict):
        return any(is_text(inner) for name, inner in kind.items() if name in WORDS)
    return getattr(kind, "dtype", "") in ("string", "large_string")


def is_said(table: Any, column: str) -> bool:
    """Whether most of the first cells of a column are more than a word, as captions are and names are not."""
    try:
        captions = [text for cell in cells_in(table, column, KEPT) for text in clean_captions(cell)]
    except Unreadable:
        return False
    return sum(" " in text for text in captions) * 2 > len(captions)


def _relative(path: str, place: Place) -> str:
    return Path(path).relative_to(place.folder).as_posix() if Path(path).is_relative_to(place.folder) else path


def content_of(ref: Any, place: Place) -> str:
    """What tells the bytes that a cell stands for: their digest, else their path, relative where it is in the folder."""
    if isinstance(ref, RowImage):
        return ref.content
    return _relative(ref.path, place) if isinstance(ref, FileImage) else str(ref)
