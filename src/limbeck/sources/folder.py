"""A folder of images with `metadata.jsonl` or `metadata.csv`, or with one subfolder a class."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from limbeck.data.form import Form, ImageForm, MaskForm
from limbeck.data.layout import (
    FileImage,
    Layout,
    Listing,
    Record,
    Skipped,
    assign_splits,
    canonical_split,
    joined,
    unique,
)
from limbeck.data.parse import Unreadable, clean_captions, clean_label, index_labels, inside
from limbeck.data.rows import mask_of
from limbeck.data.tables import cells_of, csv_rows, jsonl_rows
from limbeck.errors import DataError

__all__ = ["Folder"]

EXTENSIONS = {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".png", ".ppm", ".tif", ".tiff", ".webp"}
CAPTION = ("caption", "captions", "text")
LABEL = ("label", "class")
MASK = ("mask", "mask_file_name")


@dataclass(frozen=True)
class Found:
    """A record whose label is still what the data say."""

    record: Record
    label: int | str | None = None
    class_name: str | None = None


@dataclass(frozen=True)
class Folder(Layout):
    """The image folder of Hugging Face: a table of captions and labels beside the images, or class folders.

        pets/
            metadata.jsonl           {"file_name": "a.jpg", "caption": "a cat", "label": "cat", "split": "train"}
            a.jpg                    (or metadata.csv with those columns)

        pets/
            train/cat/a.jpg          the subfolder is the label; the folders train, val (or validation), test
            test/dog/b.jpg           may be left out, and may each hold a metadata file instead

    Only `file_name` is needed in a table; captions may be a list; rows of one image, mask, split and label are joined. A column
    `mask` (or `mask_file_name`) names the mask of the object, relative to the table, as large as its image. Without splits of
    their own, records are split 80/10/10 by the hash of their path.

    Args:
        path: the folder.
        resolution: pixels a side.
        max_skipped: the largest share of unreadable records.
        workers: processes that decode.
        caption: column of the captions; by default `caption`, `captions` or `text`.
        label: column of the label; by default `label` or `class`.
        mask_values: what is object in a mask file: auto (255, or, where all numbers are small, all but 0), soft (number / 255),
            nonzero, trimap (1 object, 2 background, 3 border, a half), or numbers such as 1,4,7.
    """

    caption: str = ""
    label: str = ""
    mask_values: str = "auto"

    @property
    def forms(self) -> tuple[Form, ...]:
        """Of images and masks."""
        return (ImageForm(self.resolution), MaskForm(self.resolution, self.mask_values))

    def read(self) -> Listing:
        """Lists the images that the tables name, or that lie in class folders."""
        root = self.root()
        if not root.is_dir():
            raise DataError(f"{self.name}: {root.absolute()} is not a folder")
        skipped: list[Skipped] = []
        found: list[Found] = []
        tops = {child: canonical_split(child.name) for child in sorted(root.iterdir()) if child.is_dir()}
        splits = {child: split for child, split in tops.items() if split in ("train", "val", "test")}
        parts: dict[Path, str | None] = {root: None} if _table(root) or not splits else dict(splits)
        for folder, split in parts.items():
            table = _table(folder)
            found += self._rows(root, table, split, skipped) if table else _class_folders(root, folder, split)
        if not found and not skipped:
            wanted = "metadata.jsonl, metadata.csv or class folder with images"
            raise DataError(f"{self.name}: no {wanted} in {root.absolute()}")
        if not any(f.record.captions or f.label is not None for f in found) and found:
            raise DataError(f"{self.name}: none of the {len(found)} images has a caption or a label; name the columns")
        labels, classes = index_labels([f.label for f in found], [f.class_name for f in found])
        made = [replace(f.record, label=label) for f, label in zip(found, labels, strict=True)]
        pictures = [(r.key, *(ref.stamp for ref in r.others.values())) for r in made]
        records, again = unique(joined(made, pictures), str(root))
        return Listing(assign_splits(records), classes, skipped=skipped + again)

    def _rows(self, root: Path, table: Path, split: str | None, skipped: list[Skipped]) -> Iterator[Found]:
        columns: set[str] = set()
        for where, row in jsonl_rows(table) if table.suffix == ".jsonl" else csv_rows(table, ["file_name"]):
            key = "?"
            try:
                columns |= set(cells_of(row))
                key = str(row.get("file_name", "?"))
                yield self._found(root, table.parent, row, split)
            except Unreadable as error:
                skipped.append(Skipped(key, str(error), where, split))
        for column in (self.caption, self.label):
            if column and column not in columns:
                raise DataError(f"{table} has no column {column!r}; it has {', '.join(sorted(columns)) or 'none'}")

    def _found(self, root: Path, folder: Path, row: dict[str, Any], split: str | None) -> Found:
        path = inside(folder, row.get("file_name"))
        split = split or canonical_split(row.get("split"))
        captions = clean_captions(_first(row, (self.caption,) if self.caption else CAPTION))
        image, mask = FileImage.of(path), _first(row, MASK)
        others = {"mask": mask_of(folder, mask, image)} if mask else {}
        record = Record(path.relative_to(root).as_posix(), image, captions, None, split, others)
        class_name = row.get("class") if not self.label else None
        return Found(record, clean_label(_first(row, (self.label,) if self.label else LABEL)), class_name or None)


def _table(folder: Path) -> Path | None:
    return next((folder / name for name in ("metadata.jsonl", "metadata.csv") if (folder / name).is_file()), None)


def _first(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _class_folders(root: Path, folder: Path, split: str | None) -> Iterator[Found]:
    for path in sorted(folder.glob("*/**/*")):
        parts = path.relative_to(folder).parts
        if path.suffix.lower() in EXTENSIONS and not any(part.startswith(".") for part in parts) and path.is_file():
            yield Found(Record(path.relative_to(root).as_posix(), FileImage.of(path), split=split), parts[0])
