"""From rows with one cell a modality to a listing: what the manifest and the layouts of single datasets share."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.decode import decode_array, image_size
from limbeck.data.layout import FileImage, ImageRef, Listing, Record, Skipped, assign_splits, joined, unique
from limbeck.data.mask import NUMPY, mask_size
from limbeck.data.parse import (
    Unreadable,
    clean_captions,
    clean_label,
    clean_name,
    index_labels,
    index_names,
    parse_json,
)
from limbeck.data.regular import Place
from limbeck.data.segments import segments_bytes
from limbeck.data.splits import canonical_split, how_split
from limbeck.data.tables import Row, cells_of
from limbeck.data.unread import Unread
from limbeck.errors import DataError

__all__ = ["FILES", "file_of", "found_file", "list_rows", "mask_of", "translated"]

FILES = ("image", "audio", "depth", "mask")  # modalities whose cells are files
NO_VECTOR = "caption vector is not numbers"
AAC = (".m4a", ".aac", ".mp4", ".m4b")


@dataclass(frozen=True)
class CellBytes(ImageRef):
    """Bytes that lie in a cell of a table.

    Args:
        data: the bytes.
        content: their SHA-256.
    """

    data: bytes = field(repr=False)
    content: str

    def read(self) -> bytes:
        """The bytes."""
        return self.data

    @property
    def stamp(self) -> tuple[str, str]:
        """Where they lie, for a person, and their digest."""
        return "written in its record", self.content


@dataclass(frozen=True)
class MaskOf(ImageRef):
    """The mask of an image, which must be as large as the image.

    Args:
        mask: where its bytes lie.
        image: where those of the image lie.
    """

    mask: ImageRef
    image: ImageRef

    def read(self) -> bytes:
        """The bytes of the mask.

        Raises:
            Unreadable: another size, upright, than that of the image.
        """
        data = self.mask.read()
        width, height = mask_size(data)
        try:
            wide, high = image_size(self.image.read())
        except (Unreadable, OSError):
            return data  # the image has that reason itself
        if (width, height) != (wide, high):
            raise Unreadable(f"mask of {width}x{height} pixels for an image of {wide}x{high}")
        return data

    @property
    def stamp(self) -> tuple[Any, ...]:
        """Of both."""
        return *self.mask.stamp, *self.image.stamp


def mask_of(place: Place, cell: object, image: ImageRef | None) -> ImageRef:
    """The mask that a cell tells of.

    Args:
        place: where the files lie.
        cell: a file, as of `list_rows`, or segments, as of `segments_bytes`, also as JSON text.
        image: which it lies upon.

    Raises:
        Unreadable: the reason.
    """
    if image is None:
        raise Unreadable("mask without an image")
    if isinstance(cell, str) and cell.lstrip()[:1] in ("{", "["):
        cell = parse_json(cell)
    if isinstance(cell, list) or (isinstance(cell, dict) and set(cell) != {"bytes", "path"}):
        cell = segments_bytes(cell)
    return MaskOf(file_of(place, cell), image)


def translated(
    rows: Iterable[Row], translate: Callable[[dict[str, Any]], Mapping[str, Any]], split: str | None = None
) -> Iterator[Row]:
    """Rows for `list_rows`, as `translate` makes them of the cells of each row.

    Where it raises `Unreadable`, or finds a cell lacking (`KeyError`), that is the reason to skip the row.

    Args:
        rows: where each stands, and its cells.
        translate: from the cells of a table to those that `list_rows` knows.
        split: of all rows.
    """
    known = {} if split is None else {"split": split}
    for where, row in rows:
        try:
            yield where, {**translate(cells_of(row)), **known}
        except Unreadable as error:
            yield where, {"image": error, **known}
        except KeyError as error:
            yield where, {"image": Unreadable(f"no {error.args[0]}"), **known}


def list_rows(
    rows: Iterable[Row],
    place: Path | Place,
    table: object,
    licence: str = "unknown",
    *,
    unread: Unread | None = None,
    again: str = "duplicate key",
) -> Listing:
    """Lists the rows whose files exist; the others are skipped with their reason.

    Rows of one key, files, split and label are joined, with the captions of all. Without splits of their own, samples
    are split 80/10/10 by the hash of their group, else of their key.

    Args:
        rows: where each stands, and its cells (or why there are none). `image`, `audio`, `depth` and `mask` are files: names
            that begin in `place`, paths, encoded bytes, references, or the `Unreadable` that tells why there is none. A mask
            may also be segments, see `mask_of`.
            `caption`, `label`, `class` (the name of the label), `split`, `split_from` (what told it), `key`, `group` and `same`
            (what tells the sample from others that are joined; `None`: it is joined with none) are values; `caption_vectors`
            is the vector of the one caption: a list of numbers or an NPY file, of one length in all rows. A cell that is left
            out is a modality that the sample lacks. The key is the names of the files where none is given, else the number of
            the row.
        place: where the files lie.
        table: what a person looks at for two rows of one key.
        licence: of the data.
        unread: what the source did not use.
        again: the reason for which the later of two rows of one key are skipped.
    """
    place = Place(place) if isinstance(place, Path) else place
    skipped: list[Skipped] = []
    made: list[Record] = []
    labels: list[int | str | None] = []
    called: list[str | None] = []
    same: list[Hashable] = []
    groups: dict[str, str] = {}
    ways: Counter[str] = Counter()
    length = 0
    for number, (where, row) in enumerate(rows):
        name, split = f"row {number}", None
        try:
            cells = cells_of(row)
            split = _split_or_none(cells)
            name = clean_name(cells["key"], "key") if "key" in cells else name
            record, label = _record(place, cells, name), clean_label(cells.get("label"))
            kind = clean_name(cells["class"], "class") if "class" in cells else None
            size, length = len(record.vector), length or len(record.vector)
            if size not in (0, length):
                raise Unreadable(f"caption vector of {size // 4} numbers, where the first has {length // 4}")
        except Unreadable as error:
            skipped.append(Skipped(name, str(error), where, split))
            continue
        made.append(record)
        labels.append(label)
        called.append(kind)
        same.append(cells.get("same", (record.key, *_stamps(record))))
        groups.setdefault(record.key, str(cells.get("group", record.key)))
        ways.update([cells.get("split_from", "the data")] if record.split else [])
    bare = all(label is None for label in labels)
    try:
        indices, classes = index_names(called) if bare else index_labels(labels, called)
    except DataError as error:
        raise DataError(f"{table}: {error}") from error
    made = [replace(record, label=label) for record, label in zip(made, indices, strict=True)]
    records, twice = unique(joined(made, same), str(table), again)
    split_by = how_split({r.split for r in records}, ways)
    left = {} if unread is None else unread.listed()
    records = assign_splits(records, [groups[r.key] for r in records])
    return Listing(records, classes, licence, [*skipped, *twice], split_by=split_by, unread=left)


def _record(place: Place, cells: Mapping[str, Any], name: str) -> Record:
    files = {m: file_of(place, cells[m], m) for m in FILES if m in cells and m != "mask"}
    if "mask" in cells:
        files["mask"] = mask_of(place, cells["mask"], files.get("image"))
    captions = clean_captions(cells.get("caption"))
    vector = _vector(place, cells["caption_vectors"]) if "caption_vectors" in cells else b""
    if not files and not captions and not vector:
        raise Unreadable("no modality")
    if vector and len(captions) > 1:
        raise Unreadable("several captions beside one caption vector")
    paths = [
        _plain(place, str(cells[m])) for m in files if isinstance(files[m], FileImage) and isinstance(cells[m], str)
    ]
    name = name if "key" in cells or not paths else "+".join(paths)
    image = files.pop("image", None)
    captions = captions or ((name,) if vector else ())
    return Record(name, image, captions, None, canonical_split(cells.get("split")), files, vector)


def _plain(place: Place, name: str) -> str:
    """The name of a file as it stands, but for absolute ones: those begin in the folder, so that the folder may be moved."""
    return Path(os.path.relpath(name, place.folder)).as_posix() if os.path.isabs(name) else name


def _vector(place: Place, cell: object) -> bytes:
    """The unit vector `float32 [D]`, as bytes, of a list of numbers, also as JSON text, or of an NPY file."""
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        cell = parse_json(cell)
    numbers = _listed(cell) if isinstance(cell, list) else _stored(file_of(place, cell))
    if numbers.dtype.kind not in "uif":
        raise Unreadable(NO_VECTOR)
    if numbers.ndim != 1 or not len(numbers):
        raise Unreadable(f"caption vector of shape {list(numbers.shape)}, not [D]")
    with np.errstate(over="ignore"):
        vector = numbers.astype(np.float32).astype(np.float64)
    if not np.isfinite(vector).all():
        raise Unreadable("caption vector holds NaN or infinite numbers")
    if not vector.any():
        raise Unreadable("caption vector of zeros")
    return (vector / np.linalg.norm(vector)).astype(np.float32).tobytes()


def _listed(cell: list[Any]) -> NDArray[Any]:
    try:
        return np.array(cell)
    except ValueError:  # lists of several lengths
        raise Unreadable(NO_VECTOR) from None


def _stored(file: ImageRef) -> NDArray[Any]:
    try:
        data = file.read()
    except OSError:
        raise Unreadable("cannot be read") from None
    if not data.startswith(NUMPY):
        raise Unreadable("caption vector is no NPY file")
    return decode_array(data, NO_VECTOR)


def file_of(place: Place, cell: object, modality: str = "") -> ImageRef:
    """Where the bytes lie of which a cell tells.

    Args:
        place: where the files lie.
        cell: see `list_rows`.
        modality: of the bytes.

    Raises:
        Unreadable: the reason.
    """
    if isinstance(cell, dict) and set(cell) == {"bytes", "path"}:
        cell = cell["path"] if cell["bytes"] is None else cell["bytes"]
    if isinstance(cell, Unreadable):
        raise cell
    if isinstance(cell, ImageRef):
        return cell
    if isinstance(cell, bytes):
        return CellBytes(cell, hashlib.sha256(cell).hexdigest())
    if isinstance(cell, list | tuple):
        numbers = all(isinstance(x, int | float) for x in cell)
        raise Unreadable("numbers, not a file" if numbers else "several files in one cell")
    path = cell if isinstance(cell, Path) else place.path(cell)
    if not isinstance(cell, Path):
        place.check(path)
    if modality == "audio" and path.suffix.lower() in AAC:
        raise Unreadable("AAC is not read: convert it with ffmpeg -i x.m4a x.wav")
    return FileImage.of(path)


def found_file(place: Place, cell: object, modality: str = "") -> ImageRef | Unreadable:
    """As `file_of`, with the reason in the place of a file that cannot be had."""
    try:
        return file_of(place, cell, modality)
    except Unreadable as error:
        return error


def _stamps(record: Record) -> list[tuple[Any, ...]]:
    own = [(record.vector, *record.captions)] if record.vector else []  # a vector is of one caption
    return own + [tuple(ref.stamp) for m in FILES if (ref := record.ref(m))]


def _split_or_none(cells: Mapping[str, Any]) -> str | None:
    named = cells.get("split")
    return canonical_split(named) if isinstance(named, str) else None
