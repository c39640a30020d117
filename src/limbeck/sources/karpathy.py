"""Caption files of the Flickr8k, Flickr30k and COCO kind beside a folder of images."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from limbeck.data.form import Form, ImageForm, MaskForm
from limbeck.data.layout import FileImage, Layout, Listing, Record, Skipped, assign_splits, canonical_split
from limbeck.data.parse import Unreadable, clean_captions, inside, read_json
from limbeck.data.rows import mask_of
from limbeck.errors import DataError

__all__ = ["Karpathy"]

FILE = ("filename", "file", "file_name", "image", "path")
TEXT = ("sentences", "captions", "caption", "text")


@dataclass(frozen=True)
class Karpathy(Layout):
    """Images with several captions each, listed in JSON: Karpathy's Flickr and COCO files, BLIP's lists, plain lists.

        flickr8k/
            dataset_flickr8k.json    {"images": [{"filename", "split", "sentences": [{"raw"}], "filepath"?}]}
            images/1000268201_693b08cb0e.jpg

    The JSON may also be a list of `{"image", "caption"}` (a file a split, named `..._train.json`, `..._val.json`,
    `..._test.json`; a caption or a list of them; rows of one image are joined), or of `{"file", "split", "captions"}`.
    The split `restval` of COCO is part of `train`.

    Args:
        path: the folder, or the JSON file in it.
        resolution: pixels a side.
        max_skipped: the largest share of unreadable records.
        workers: processes that decode.
        annotations: name or pattern of the JSON files in the folder; by default the only one, or those whose names end
            in a split.
        images: folder of the images, relative to the folder; by default `images` where there is one, else the folder.
        masks: folder of the masks of objects, relative to the folder: for `val2014/a.jpg` a `val2014/a.png` as large as the image,
            where it exists. By default there are none.
        mask_values: what is object in a mask file: auto (255, or, where all numbers are small, all but 0), soft (number / 255),
            nonzero, trimap (1 object, 2 background, 3 border, a half), or numbers such as 1,4,7.

    Paper: Karpathy and Fei-Fei, Deep visual-semantic alignments for generating image descriptions, CVPR 2015.
    """

    annotations: str = ""
    images: str = ""
    masks: str = ""
    mask_values: str = "auto"

    @property
    def forms(self) -> tuple[Form, ...]:
        """Of images and masks."""
        return (ImageForm(self.resolution), MaskForm(self.resolution, self.mask_values))

    def read(self) -> Listing:
        """Lists the images that the JSON names and that exist."""
        root = self.root()
        folder = root.parent if root.is_file() else root
        files = [root] if root.is_file() else self._files(folder)
        images, masks = self._images(folder), folder / self.masks if self.masks else None
        found: dict[str, Record] = {}
        skipped: list[Skipped] = []
        for file in files:
            split = _split_of(file) if len(files) > 1 else None
            for where, row in _rows(file):
                try:
                    record = _record(row, images, masks, split)
                except Unreadable as error:
                    skipped.append(_skip(row, str(error), where, split))
                    continue
                before = found.get(record.key)
                if before is None:
                    found[record.key] = record
                elif before.split == record.split and isinstance(row.get("caption"), str):
                    found[record.key] = replace(record, captions=before.captions + record.captions)
                else:
                    skipped.append(Skipped(record.key, "duplicate key", where, record.split))
        records = assign_splits(list(found.values()))
        if records and not any(record.captions for record in records):
            known = ", ".join(TEXT)
            raise DataError(f"{self.name}: none of the {len(records)} images has a caption; known fields: {known}")
        if masks and records and not any(record.others for record in records):
            raise DataError(
                f"{self.name}: none of the {len(records)} images has a mask in {masks.absolute()}, where that of "
                f"{records[0].key} would be {PurePosixPath(records[0].key).with_suffix('.png')}; check --source.masks (in "
                "Python masks=)"
            )
        return Listing(records, skipped=skipped)

    def _files(self, folder: Path) -> list[Path]:
        files = sorted(folder.glob(self.annotations or "*.json"))
        if not files:
            wanted = self.annotations or "*.json"
            raise DataError(
                f"{self.name}: no {wanted} in {folder.absolute()}; name it with --source.annotations (in Python annotations=)"
            )
        by_split = [file for file in files if _split_of(file)]
        if len(files) > 1 and not self.annotations:
            files = by_split
        if not files or len({_split_of(file) for file in files}) < len(files):
            names = ", ".join(file.name for file in sorted(folder.glob("*.json"))[:8])
            raise DataError(
                f"{self.name}: several JSON files ({names}); choose one with --source.annotations (in Python annotations=)"
            )
        return files

    def _images(self, folder: Path) -> Path:
        images = folder / self.images if self.images else folder / "images"
        if images.is_dir():
            return images
        if self.images:
            raise DataError(
                f"{self.name}: there is no folder {images.absolute()}; check --source.images (in Python images=)"
            )
        return folder


def _split_of(file: Path) -> str | None:
    """The split that the name of a caption file ends in."""
    split = canonical_split(file.stem.replace("-", "_").rsplit("_", 1)[-1])
    return split if split in ("train", "val", "test") else None


def _rows(file: Path) -> Iterator[tuple[str, Any]]:
    """Each row of a caption file with the place where it stands."""
    data = read_json(file)
    rows = data.get("images") if isinstance(data, dict) else data
    if not isinstance(rows, list):
        raise DataError(f"{file}: expected a list of images, or an object with the list 'images'")
    for i, row in enumerate(rows):
        yield f"{file}, entry {i}", row


def _record(row: Any, images: Path, masks: Path | None, split: str | None) -> Record:
    if not isinstance(row, dict):
        raise Unreadable("not an object")
    name = next((row[field] for field in FILE if field in row), None)
    if isinstance(name, str) and isinstance(row.get("filepath"), str):
        name = f"{row['filepath']}/{name}"
    path = inside(images, name)
    said = next((row[field] for field in TEXT if field in row), None)
    if isinstance(said, list):
        said = [sentence.get("raw") if isinstance(sentence, dict) else sentence for sentence in said]
    split = canonical_split(row.get("split")) or split
    image, name = FileImage.of(path), path.relative_to(images)
    mask = masks / name.with_suffix(".png") if masks else None
    others = {"mask": mask_of(images, mask, image)} if mask and mask.exists() else {}
    return Record(name.as_posix(), image, clean_captions(said), None, split, others)


def _skip(row: Any, reason: str, where: str, split: str | None) -> Skipped:
    row = row if isinstance(row, dict) else {}
    named = row.get("split")
    split = canonical_split(named) if isinstance(named, str) and named else split
    return Skipped(str(next((row[f] for f in FILE if f in row), "?")), reason, where, split)
