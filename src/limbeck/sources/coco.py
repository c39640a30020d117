"""COCO's annotations of instances: masks, one label an image, and captions where there are some."""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from limbeck.data.form import Form, ImageForm, MaskForm
from limbeck.data.layout import Listing, NamedLayout
from limbeck.data.regular import Place, matching, read_json
from limbeck.data.rows import found_file, list_rows
from limbeck.data.splits import file_split
from limbeck.data.tables import Row
from limbeck.data.unread import Unread
from limbeck.errors import DataError

__all__ = ["Coco"]

Label = Literal["largest", "none"]
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Coco(NamedLayout):
    """Images with the masks of their instances, as COCO and all that follow its format write them (LVIS, CVAT, Label Studio).

        coco/
            annotations/instances_train2017.json    {"images": [...], "annotations": [...], "categories": [...]}
            annotations/captions_train2017.json     may be left out, or stand alone: captions, without labels and masks
            train2017/000000000009.jpg

    The label of an image is the category of its largest instance, and its mask the union of all instances of that category,
    crowds among them. Instances are runs, compressed or not, or polygons. An image without an instance has neither label nor
    mask; annotations of images that are not listed, or that have a box only, are passed over.

    Files are named by their split. COCO publishes no instances of its test images, so where there is no test file the
    val file is the test split and a tenth of train becomes `val`. One file without a split in its name is split 80/10/10 by
    the hash of the path of each image.

    Args:
        path: the folder, or one file of instances.
        resolution: pixels a side, of images and masks.
        max_skipped: the largest share of unreadable records.
        workers: processes that decode.
        max_pixels: the largest image, mask or depth map that is decoded; larger ones are skipped and counted.
        split_by: files (their names), or hash; by default the files.
        ignore: fields of annotations that are left out, with commas between them: they are not reported.
        annotations: pattern of the files of instances, or of captions; by default `annotations/instances_*.json`, else `instances_*.json`,
            else such `captions_*.json`, else the only JSON file.
        images: folder of the images, relative to the folder; by default that which is called as the split is in the name of
            the file (`train2017`), also within `images`, else `images`, else the folder.
        categories: names of the categories that count, such as `dog,cat`; images without one of them are left out. By
            default all.
        label: largest, or none: no labels, and masks of all instances.

    Paper: Lin et al., Microsoft COCO: common objects in context, ECCV 2014.
    """

    ways: ClassVar[tuple[str, ...]] = ("files", "hash")

    annotations: str = ""
    images: str = ""
    categories: str = ""
    label: Label = "largest"

    @property
    def forms(self) -> tuple[Form, ...]:
        """Of images and masks."""
        return (ImageForm(self.resolution), MaskForm(self.resolution))

    def read(self) -> Listing:
        """Lists the images that the files name."""
        root = self.root()
        files = [root] if root.is_file() else self._files(root)
        folder = next((f for f in (root, *root.parents) if f.is_dir() and f.name != "annotations"), root.parent)
        splits = {file: None if self.split_by == "hash" else file_split(file.stem) for file in files}
        if "train" in splits.values() and "test" not in splits.values():
            splits = {file: "test" if split == "val" else split for file, split in splits.items()}
        unread = Unread(self.ignore)
        rows = (row for file, split in splits.items() for row in self._rows(file, folder, split, unread))
        listing = list_rows(rows, folder, root)
        for file in sorted(
            {p for f in files for p in f.parent.glob("*.json")} - set(files) - {_beside(f) for f in files}
        ):
            unread.add("files", file.name)
        return replace(listing, unread=unread.listed())

    def _files(self, root: Path) -> list[Path]:
        usual = [f"{folder}{kind}_*.json" for kind in ("instances", "captions") for folder in ("annotations/", "")]
        patterns = [self.annotations] if self.annotations else [*usual, "*.json"]
        files = next((found for pattern in patterns if (found := matching(root, pattern))), [])
        if not files:
            raise DataError(
                f"{self.name}: no {' or '.join(patterns)} in {root.absolute()}; name the files of instances with "
                "--source.annotations (in Python annotations=)"
            )
        if len(files) > 1 and len({file_split(file.stem) for file in files} - {None}) < len(files):
            names = ", ".join(file.name for file in files[:8])
            raise DataError(
                f"{self.name}: several files of instances ({names}) whose names tell no split each; choose with "
                "--source.annotations (in Python annotations=)"
            )
        return files

    def _rows(self, file: Path, folder: Path, split: str | None, unread: Unread) -> Iterator[Row]:
        """A row for each image of one file."""
        found = _parts(file)
        names = {c["id"]: str(c["name"]) for c in found["categories"]}
        wanted = self._wanted(file, names)
        captions = _captions_of(found["annotations"], file) if not names else _captions(file)
        listed = {entry.get("id") for entry in found["images"]}
        instances: dict[Any, list[Entry]] = defaultdict(list)
        left: Counter[str] = Counter()
        for annotation in found["annotations"] if names else ():
            if annotation.get("category_id") in wanted and annotation.get("image_id") in listed:
                instances[annotation.get("image_id")].append(annotation)
            elif annotation.get("category_id") not in names:
                left["of no category"] += 1
            elif annotation.get("image_id") not in listed:
                left["of images that are not listed"] += 1
        for what, count in left.items():
            unread.add("annotations", what, count)
        pictures = self._images(file, folder)
        for entry in found["images"]:
            here = instances.get(entry.get("id"), [])
            if self.categories and not here:
                continue
            kind = None
            if self.label == "largest" and here:
                kind = max(here, key=_size)["category_id"]
                here = [annotation for annotation in here if annotation["category_id"] == kind]
            segments = [s for annotation in here if (s := _segment(annotation, entry))]
            if here and not segments:
                unread.add("annotations", "with a box only", len(here))
            cells = {
                "key": _key(entry, pictures, folder),
                "image": found_file(Place(pictures), entry.get("file_name")),
                "caption": captions.get(entry.get("id"), []),
                **({} if kind is None else {"class": names[kind]}),
                "split": split,
                "split_from": "file names",
            }
            yield f"{file}, image {entry.get('id')}", {**cells, **({"mask": segments} if segments else {})}

    def _wanted(self, file: Path, names: Mapping[Any, str]) -> set[Any]:
        asked = [name.strip() for name in self.categories.split(",") if name.strip()]
        if unknown := [name for name in asked if name not in names.values()]:
            raise DataError(f"{file} has no category {', '.join(unknown)}; it has {', '.join(names.values())}")
        return {number for number, name in names.items() if not asked or name in asked}

    def _images(self, file: Path, folder: Path) -> Path:
        if self.images:
            if not (folder / self.images).is_dir():
                raise DataError(
                    f"{self.name}: there is no folder {(folder / self.images).absolute()}; check --source.images (in Python images=)"
                )
            return folder / self.images
        named = file.stem.removeprefix("instances_").removeprefix("captions_")
        usual = (folder / named, folder / "images" / named, folder / "images")
        return next((path for path in usual if path.is_dir()), folder)


def _parts(file: Path) -> dict[str, list[Entry]]:
    """`images`, `annotations` and `categories` of a file, once they are lists of objects."""
    data = read_json(file)
    wanted = ("images", "annotations", "categories")
    held = data if isinstance(data, dict) else {}
    if _has_captions(held):
        held = {"categories": [], **held}
    if lacking := [name for name in wanted if not isinstance(held.get(name), list)]:
        raise DataError(
            f"{file} is no file of COCO's instances: it has no list {', '.join(lacking)}; it has {', '.join(held) or 'none'}"
        )
    for name in wanted:
        if not all(isinstance(entry, dict) for entry in held[name]):
            raise DataError(f"{file}: {name} holds something that is no object")
    if not all("id" in category and "name" in category for category in held["categories"]):
        raise DataError(f"{file}: a category without id or name")
    for name, key in (
        ("images", "id"),
        ("annotations", "image_id"),
        ("annotations", "category_id"),
        ("categories", "id"),
    ):
        if not all(isinstance(entry.get(key), int | str | None) for entry in held[name]):
            raise DataError(f"{file}: {name} holds a value of {key} that is neither a number nor a name")
    return {name: held[name] for name in wanted}


def _has_captions(held: Mapping[str, Any]) -> bool:
    """Whether a file is one of captions: it has no categories, and its annotations have captions."""
    rows = held.get("annotations")
    return (
        not held.get("categories")
        and isinstance(rows, list)
        and any(isinstance(r, dict) and "caption" in r for r in rows)
    )


def _beside(file: Path) -> Path:
    """The file of captions that belongs to one of instances."""
    return file.with_name(file.name.replace("instances", "captions", 1))


def _captions(file: Path) -> dict[Any, list[Any]]:
    """The captions of each image in the file beside, called `captions_` where this is called `instances_`."""
    beside = _beside(file)
    if beside == file or not beside.is_file():
        return {}
    data = read_json(beside)
    return _captions_of(data.get("annotations") if isinstance(data, dict) else None, beside)


def _captions_of(rows: object, file: Path) -> dict[Any, list[Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{file} is no file of COCO's captions: it has no list 'annotations' of objects")
    said: dict[Any, list[Any]] = defaultdict(list)
    for row in rows:
        if not isinstance(row.get("image_id"), int | str):
            raise DataError(f"{file}: annotations holds a value of image_id that is neither a number nor a name")
        said[row["image_id"]].append(row.get("caption"))
    return said


def _key(entry: Entry, pictures: Path, folder: Path) -> str:
    return Path(os.path.relpath(pictures, folder), str(entry.get("file_name"))).as_posix()


def _size(annotation: Entry) -> tuple[bool, float]:
    """Crowds come after instances, small ones after large ones; what is no number is 0."""
    box = annotation.get("bbox")
    sides = [_number(side) for side in box[2:]] if isinstance(box, list) and len(box) == 4 else [0.0]
    area = annotation.get("area")
    return not annotation.get("iscrowd"), _number(area) if isinstance(area, int | float) else math.prod(sides)


def _number(value: object) -> float:
    """A plain number of a size that can be; else 0."""
    return float(value) if isinstance(value, int | float) and abs(value) < 1e15 else 0.0


def _segment(annotation: Entry, entry: Entry) -> dict[str, Any]:
    """One instance as `data.segments` reads it; empty where it has a box only."""
    shape = annotation.get("segmentation")
    if not shape:
        return {}
    size = [entry.get("height"), entry.get("width")]
    return {"size": size, **shape} if isinstance(shape, dict) else {"size": size, "polygons": shape}
