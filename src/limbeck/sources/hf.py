"""Anything that `datasets.load_dataset` opens: a hub name, or a local folder of Parquet, JSON or images."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from limbeck.data.form import Form, ImageForm, MaskForm
from limbeck.data.layout import (
    FileImage,
    ImageRef,
    Layout,
    Listing,
    Record,
    Skipped,
    assign_splits,
    canonical_split,
    joined,
)
from limbeck.data.parse import Unreadable, clean_captions, index_labels
from limbeck.data.rows import mask_of
from limbeck.errors import ConfigError, DataError

__all__ = ["HuggingFace"]

CAPTION = ("caption", "captions", "text", "sentences", "sentence", "alt_text", "description")
MASK = ("mask", "masks", "segmentation_mask")


@dataclass(frozen=True)
class RowImage(ImageRef):
    """An image or a mask inside an Arrow table.

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
        if value.get("bytes") is not None:
            return bytes(value["bytes"])
        return FileImage.of(value.get("path") or "").read()

    @property
    def stamp(self) -> Sequence[Any]:
        """Column and row, and the digest of the table."""
        return f"column {self.column}, row {self.row}", self.version


@dataclass(frozen=True)
class Found:
    """A record whose label is still what the data say, and what tells its image and its mask from others."""

    record: Record
    label: Any
    image: str
    mask: str


@dataclass(frozen=True)
class HuggingFace(Layout):
    """A dataset of the Hugging Face hub or in its formats on disk.

        hf:nlphuji/flickr30k         a name on the hub
        hf:data/pets                 a local folder:
            train-00000.parquet          an image column (bytes), captions (text, or a list), a label, a mask
            test-00000.parquet

    Columns are found by their type: the one image, or the one called image; the one text column, or the only one with a usual
    name (caption, captions, text, ...); the one class label. Where that leaves a choice, name the column. A column called mask,
    masks or segmentation_mask holds masks as large as the images: images, or COCO's runs and polygons as in `manifest`, also as
    JSON text where the column is named. `validation` becomes `val`.

    Rows of one image, mask, split and label are joined into one record with the captions of all. One image is the same bytes,
    or the same path where the table holds no bytes. Without splits of their own, records are split 80/10/10 by the hash
    of their image (of their caption where they have none), so all rows of an image come into one split.

    Args:
        path: what `datasets.load_dataset` takes.
        resolution: pixels a side.
        max_skipped: the largest share of unreadable records.
        workers: processes that decode.
        config: name of the configuration, where the dataset has several.
        image: image column.
        caption: caption column.
        label: label column.
        mask: column of the masks of objects.
        mask_values: what is object in a mask file: auto (255, or, where all numbers are small, all but 0), soft (number / 255),
            nonzero, trimap (1 object, 2 background, 3 border, a half), or numbers such as 1,4,7.
    """

    requires: ClassVar[tuple[tuple[str, str], ...]] = (("datasets", "hf"),)

    config: str = ""
    image: str = ""
    caption: str = ""
    label: str = ""
    mask: str = ""
    mask_values: str = "auto"

    @property
    def forms(self) -> tuple[Form, ...]:
        """Of images and masks."""
        return (ImageForm(self.resolution), MaskForm(self.resolution, self.mask_values))

    def read(self) -> Listing:
        """Opens the tables; reads captions, labels and the bytes of images and masks that lie in them; decodes none."""
        tables = self._load()
        first = next(iter(tables.values()))
        mask = self._mask(first)
        image = self._image(first, mask)
        caption, label = self._caption(first, mask), self._label(first)
        if not caption and not label:
            raise DataError(
                f"{self.name} has no caption or label column; {_listed(first)}; name one with --source.caption (in Python caption=)"
            )
        named = tuple(getattr(first.features[label], "names", None) or ()) if label else ()
        found: list[Found] = []
        skipped: list[Skipped] = []
        licence = "unknown"
        for split, table in tables.items():
            licence = (table.info.license if table.info else "") or licence
            found += self._rows(table, canonical_split(split), (image, mask, caption, label), skipped)
        indices, met = index_labels([f.label for f in found])
        classes = named or met
        made = [
            replace(f.record, label=n if n is not None and n < len(classes) else None)
            for f, n in zip(found, indices, strict=True)
        ]
        if made and not any(r.captions or r.label is not None for r in made):
            raise DataError(f"{self.name}: none of the {len(made)} rows has a caption or a label; {_listed(first)}")
        records = joined(made, [(f.image, f.mask) if f.image else None for f in found])
        images = {f.record.key: f.image for f in found}
        names = [images[r.key] or " ".join(r.captions) or r.key for r in records]
        return Listing(assign_splits(records, names), classes, str(licence), skipped)

    def _load(self) -> dict[str, Any]:
        import datasets

        if not self.path:
            raise ConfigError("hf needs a dataset, as in 'hf:nlphuji/flickr30k' or 'hf:data/pets'")
        local = Path(self.path).expanduser()
        try:
            loaded = datasets.load_dataset(str(local) if local.exists() else self.path, self.config or None)
        except Exception as error:  # whatever builders, Arrow, the hub and the network raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DataError(f"{self.name} cannot be opened by datasets.load_dataset: {reason}") from error
        tables = {str(split): table for split, table in loaded.items() if len(table)}
        if not tables:
            raise DataError(f"{self.name} has no rows")
        return tables

    def _image(self, table: Any, mask: str) -> str:
        held = [name for name, kind in table.features.items() if name != mask and _is_image(kind)]
        usual = [name for name in held if name.lower() == "image"]
        return self._choose("image", self.image, usual or held, table) or self._none("image", table)

    def _mask(self, table: Any) -> str:
        held = [
            n for n, kind in table.features.items() if n.lower() in MASK and (_is_image(kind) or _is_segments(kind))
        ]
        return self._choose("mask", self.mask, [name for name in held if name != self.image], table)

    def _caption(self, table: Any, mask: str) -> str:
        held = [name for name, kind in table.features.items() if name != mask and _is_text(kind)]
        usual = [name for name in held if name.lower() in CAPTION]
        return self._choose("caption", self.caption, usual or held, table)

    def _label(self, table: Any) -> str:
        import datasets

        held = [name for name, kind in table.features.items() if isinstance(kind, datasets.ClassLabel)]
        if not held and str(getattr(table.features.get("label"), "dtype", "")).startswith(("int", "uint")):
            held = ["label"]
        return self._choose("label", self.label, held, table)

    def _choose(self, what: str, named: str, held: Sequence[str], table: Any) -> str:
        if named and named not in table.features:
            raise DataError(f"{self.name} has no column {named!r} for {what}=; {_listed(table)}")
        if not named and len(held) > 1:
            choice = " or ".join(held)
            raise DataError(f"{self.name}: {choice} could be the {what}; choose with {what}=. {_listed(table)}")
        return named or next(iter(held), "")

    def _none(self, what: str, table: Any) -> str:
        raise DataError(f"{self.name} has no {what} column; {_listed(table)}; name it with {what}=")

    def _rows(
        self, table: Any, split: str | None, columns: tuple[str, str, str, str], skipped: list[Skipped]
    ) -> Iterator[Found]:
        image, mask, caption, label = columns
        folder = Path(self.path).expanduser().absolute()
        text = [name for name in (caption, label) if name]
        values = table.select_columns(text)[:]
        pictures = zip(_images(table, image, folder), _masks(table, mask, folder), strict=True)
        for row, (pixel, outline) in enumerate(pictures):
            key = f"{split}/{row}"
            try:
                others = {"mask": mask_of(folder, outline, pixel)} if outline else {}
                said = clean_captions(values[caption][row]) if caption else ()
                value = values[label][row] if label else None
                value = None if value == -1 or value == "" else value
            except Unreadable as error:
                skipped.append(Skipped(key, str(error), f"{self.name}, row {row}", split))
                continue
            of_mask = outline.content if isinstance(outline, RowImage) else str(outline or "")
            record = Record(key, pixel, said, None, split, others)
            yield Found(record, value, "" if pixel is None else pixel.content, of_mask)


def _masks(table: Any, column: str, folder: Path) -> Iterator[Any]:
    """Where the mask of each row lies, or, where the column holds no images, its cell."""
    if column and _is_image(table.features[column]):
        yield from _images(table, column, folder)
    else:
        yield from table.select_columns([column])[:][column] if column else [None] * len(table)


def _images(table: Any, column: str, folder: Path) -> Iterator[RowImage | None]:
    """Where the image of each row lies; `None` where it has none."""
    import datasets

    pixels = table.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    empty = table.data.column(column).is_null().to_pylist()
    for row, content in enumerate(_contents(pixels, column, folder)):
        yield None if empty[row] else RowImage(pixels, column, row, table._fingerprint, content)


def _contents(table: Any, column: str, folder: Path) -> Iterator[str]:
    """What tells the image of each row: the digest of its bytes, else its path, relative where it is in `folder`."""
    for rows in table.iter(16):
        for value in rows[column]:
            data, path = (value or {}).get("bytes"), (value or {}).get("path") or ""
            if data is not None:
                yield hashlib.sha256(data).hexdigest()
            else:
                yield Path(path).relative_to(folder).as_posix() if Path(path).is_relative_to(folder) else path


def _is_image(kind: Any) -> bool:
    """Whether a column holds encoded images, although nobody may have declared it as such."""
    import datasets

    if isinstance(kind, datasets.Image | dict):
        return isinstance(kind, datasets.Image) or set(kind) == {"bytes", "path"}
    return getattr(kind, "dtype", "") in ("binary", "large_binary")


def _is_segments(kind: Any) -> bool:
    kind = getattr(kind, "feature", kind)
    kind = kind[0] if isinstance(kind, list) and kind else kind
    return isinstance(kind, dict) and bool({"counts", "polygons"} & set(kind))


def _is_text(kind: Any) -> bool:
    kind = getattr(kind, "feature", kind)
    kind = kind[0] if isinstance(kind, list) and kind else kind
    return getattr(kind, "dtype", "") in ("string", "large_string")


def _listed(table: Any) -> str:
    columns: Iterable[str] = (f"{name} ({type(kind).__name__})" for name, kind in table.features.items())
    return f"its columns: {', '.join(columns)}"
