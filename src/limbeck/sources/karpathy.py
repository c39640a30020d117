"""Caption files of the Flickr8k, Flickr30k and COCO kind beside a folder of images."""

import os
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from limbeck.data.columns import Columns, known_names
from limbeck.data.form import Form, ImageForm, MaskForm
from limbeck.data.layout import Listing, NamedLayout
from limbeck.data.parse import Unreadable
from limbeck.data.regular import Place, matching, read_json
from limbeck.data.rows import file_of, list_rows, translated
from limbeck.data.splits import file_split
from limbeck.data.tables import Row
from limbeck.data.unread import Unread
from limbeck.errors import DataError

__all__ = ["Karpathy"]

ROLES = ("image", "caption", "split")
NUMBERS = "imgid,sentids,cocoid,image_id,id,height,width,license,coco_url,flickr_url,date_captured"  # of no use here, as all know


@dataclass(frozen=True)
class Karpathy(NamedLayout):
    """Images with several captions each, listed in JSON: Karpathy's Flickr and COCO files, BLIP's lists, plain lists.

        flickr8k/
            dataset_flickr8k.json    {"images": [{"filename", "split", "sentences": [{"raw"}], "filepath"?}]}
            images/1000268201_693b08cb0e.jpg

    Fields are known by their usual names, as columns of a table are. The JSON may also be a list of `{"image", "caption"}` (a file a split, named `..._train.json`, `..._val.json`,
    `..._test.json`; a caption or a list of them; rows of one image are joined), or of `{"file", "split", "captions"}`.
    The split `restval` of COCO is part of `train`. Of a file with `images` and `annotations`, as COCO's own captions, each image gets
    the captions of its id.

    Args:
        path: the folder, or the JSON file in it.
        resolution: pixels a side.
        max_skipped: the largest share of unreadable records.
        workers: processes that decode.
        max_pixels: the largest image, mask or depth map that is decoded; larger ones are skipped and counted.
        split_by: column:NAME (a field), files (the names of the JSON files), or hash; by default the field `split`, else the files.
        ignore: fields that are left out, with commas between them: they are not reported.
        annotations: name or pattern of the JSON files in the folder; by default the only one, or those whose names end
            in a split.
        images: folder of the images, relative to the folder; by default `images` where there is one, else the folder.
        masks: folder of the masks of objects, relative to the folder: for `val2014/a.jpg` a `val2014/a.png` as large as the image,
            where it exists. By default there are none.
        mask_values: what is object in a mask file: auto (255, or, where all numbers are small, all but 0), soft (number / 255),
            nonzero, trimap (1 object, 2 background, 3 border, a half), or numbers such as 1,4,7.

    Paper: Karpathy and Fei-Fei, Deep visual-semantic alignments for generating image descriptions, CVPR 2015.
    """

    ways: ClassVar[tuple[str, ...]] = ("files", "hash", "column")

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
        unread = Unread(f"{self.ignore},{NUMBERS}")
        fields = Columns(self.name, ROLES, {"split": self.column_of_split}, unread, "field")
        rows: list[Row] = []
        for file in files:
            told = file_split(file.stem) if len(files) > 1 or self.split_by == "files" else None
            rows += translated(_rows(file), partial(self._cells, fields=fields, images=images, masks=masks, told=told))
        listing = list_rows(rows, Place(images), root, unread=unread)
        records = listing.records
        fields.check()
        unread.refuse_lost(self.name, records, {})
        if records and not any(record.captions for record in records):
            known = known_names("caption")
            raise DataError(f"{self.name}: none of the {len(records)} images has a caption; known fields: {known}")
        if masks and records and not any(record.others for record in records):
            raise DataError(
                f"{self.name}: none of the {len(records)} images has a mask in {masks.absolute()}, where that of "
                f"{records[0].key} would be {PurePosixPath(records[0].key).with_suffix('.png')}; check --source.masks (in "
                "Python masks=)"
            )
        return listing

    def _cells(
        self, row: Mapping[str, Any], fields: Columns, images: Path, masks: Path | None, told: str | None
    ) -> dict[str, Any]:
        """What `list_rows` reads of a row."""
        held = fields.cells(_whole(row))
        if not isinstance(held.get("image"), str):
            raise Unreadable("no file name")
        if self.split_by in ("files", "hash"):
            held.pop("split", None)
        way = fields.said("split") if "split" in held else "file names"
        if told and "split" not in held and self.split_by in ("", "files"):
            held["split"] = told
        try:
            name = Place(images).path(held["image"]).relative_to(images)
        except ValueError as error:
            raise error if isinstance(error, Unreadable) else Unreadable("no file name") from None
        outline = name.with_suffix(".png")
        others = {"mask": file_of(Place(masks), str(outline))} if masks and os.path.exists(masks / outline) else {}
        return {**held, **others, "key": name.as_posix(), "split_from": way}

    def _files(self, folder: Path) -> list[Path]:
        files = matching(folder, self.annotations or "*.json")
        if not files:
            wanted = self.annotations or "*.json"
            raise DataError(
                f"{self.name}: no {wanted} in {folder.absolute()}; name it with --source.annotations (in Python annotations=)"
            )
        by_split = [file for file in files if file_split(file.stem)]
        if len(files) > 1 and not self.annotations:
            files = by_split
        if not files or len({file_split(file.stem) for file in files}) < len(files):
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


def _whole(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the whole name of its file: `filepath` of Karpathy's COCO is the folder of `filename`."""
    folder, name = row.get("filepath"), row.get("filename")
    if isinstance(folder, str) and isinstance(name, str):
        return {k: v for k, v in row.items() if k != "filepath"} | {"filename": f"{folder}/{name}"}
    return dict(row)


def _rows(file: Path) -> Iterator[Row]:
    """Each row of a caption file with the place where it stands."""
    data = read_json(file)
    rows = data.get("images") if isinstance(data, dict) else data
    if not isinstance(rows, list):
        raise DataError(f"{file}: expected a list of images, or an object with the list 'images'")
    said: dict[Hashable, list[Any]] = defaultdict(list)
    for one in _annotations(data):
        if isinstance(one, dict) and isinstance(one.get("image_id"), int | str) and "caption" in one:
            said[one["image_id"]].append(one["caption"])
    for i, row in enumerate(rows):
        number = row.get("id") if isinstance(row, dict) else None
        more = {"captions": said[number]} if isinstance(number, int | str) and number in said else {}
        yield f"{file}, entry {i}", {**row, **more} if more else row


def _annotations(data: Any) -> list[Any]:
    held = data.get("annotations") if isinstance(data, dict) else None
    return held if isinstance(held, list) else []
