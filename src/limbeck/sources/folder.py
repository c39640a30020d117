"""A folder of images with a metadata table, with texts beside them, or with one subfolder a class."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from limbeck.data.columns import Columns, role_of
from limbeck.data.form import Form, ImageForm, MaskForm
from limbeck.data.layout import Listing, NamedLayout
from limbeck.data.parse import Unreadable, decode_text, is_utf8, parse_json
from limbeck.data.regular import Place, read_regular
from limbeck.data.rows import list_rows, translated
from limbeck.data.splits import folder_splits, word_split
from limbeck.data.tables import TABLES as MANIFESTS
from limbeck.data.tables import Row, csv_rows, jsonl_rows, parquet_rows
from limbeck.data.unread import IMAGES, Unread
from limbeck.errors import DataError
from limbeck.limits import TEXT_FILE

__all__ = ["Folder"]

TABLES = {"metadata.jsonl": jsonl_rows, "metadata.csv": csv_rows, "metadata.parquet": parquet_rows}
BESIDE = (".txt", ".caption", ".json")  # of texts beside images
ROLES = ("image", "mask", "caption", "label", "class", "split")
SHARD = re.compile(r"[0-9]{4,}|[0-9]+_.*")  # folders as img2dataset and kohya's scripts number them


@dataclass
class Tree:
    """What lies below a folder.

    Args:
        folder: the folder.
        images: paths relative to it, in order.
        others: files that are no images.
        odd: images whose names are not UTF-8.
    """

    folder: Path
    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Folder(NamedLayout):
    """The image folder of Hugging Face: a table beside the images, texts beside them, or class folders.

        pets/
            metadata.jsonl           {"file_name": "a.jpg", "caption": "a cat", "label": "cat", "split": "train"}
            a.jpg                    (or metadata.csv, metadata.parquet with those columns)

        pets/
            train/cat/a.jpg          the subfolder is the label; the folders train, val (or validation), test
            test/dog/b.jpg           may be left out, and may each hold a metadata file instead

        pets/
            00000/000000001.jpg      as img2dataset and kohya's scripts lay them out: the caption in a .txt or .caption of the
            00000/000000001.txt      same name, or in a .json under caption; numbered folders are then no classes

    Only `file_name` is needed in a table; captions may be a list; rows of one image, mask, split and label are joined. A column
    `mask` names the mask of the object, relative to the table, as large as its image. Top folders are splits where all that hold
    images are called by words for splits, or where train and one of val and test are among them; else they are classes. Without
    splits, records are split 80/10/10 by the hash of their path.

    Args:
        path: the folder.
        resolution: pixels a side.
        max_skipped: the largest share of unreadable records.
        workers: processes that decode.
        max_pixels: the largest image, mask or depth map that is decoded; larger ones are skipped and counted.
        split_by: folders, hash, or column:NAME; by default the column `split`, else the top folders.
        ignore: columns and endings of files that are left out, with commas between them, such as .txt: they are not reported.
        files: another folder in which images and masks may lie and their names may begin, relative to this one.
        caption: column of the captions; by default one of the usual names.
        label: column of the label; by default one of the usual names.
        mask_values: what is object in a mask file: auto (255, or, where all numbers are small, all but 0), soft (number / 255),
            nonzero, trimap (1 object, 2 background, 3 border, a half), or numbers such as 1,4,7.
    """

    ways: ClassVar[tuple[str, ...]] = ("folders", "hash", "column")

    files: str = ""
    caption: str = ""
    label: str = ""
    mask_values: str = "auto"

    @property
    def forms(self) -> tuple[Form, ...]:
        """Of images and masks."""
        return (ImageForm(self.resolution), MaskForm(self.resolution, self.mask_values))

    def read(self) -> Listing:
        """Lists the images that the tables name, that have texts beside them, or that lie in class folders."""
        root = self.root()
        if not root.is_dir():
            raise DataError(f"{self.name}: {root.absolute()} is not a folder")
        unread = Unread(self.ignore)
        tree = _walk(root)
        base = _base(tree)
        depth = len(base.relative_to(root).parts)
        held = [p for p in [*tree.images, *tree.others] if len(p.parts) > depth + 1 and _is_data(p)]
        tops = sorted({p.parts[depth] for p in held})
        splits = folder_splits(tops) if self.split_by in ("", "folders") and not _table(base) else {}
        parts: dict[Path, str | None] = {base / top: split for top, split in splits.items()}
        rows: list[Row] = []
        for folder, split in (parts or {base: None}).items():
            rows += self._part(tree, folder, split, unread)
        for top in (top for top in tops if splits and top not in splits):
            unread.add("folders", top, sum(p.parts[depth] == top for p in tree.images if len(p.parts) > depth))
        self._refuse(root, rows, tree)
        more = root / Path(self.files).expanduser() if self.files else None
        remedy = "say where files may lie with --source.files FOLDER, such as .. (in Python files=)"
        listing = list_rows(rows, Place(root, more, remedy), root, unread=unread)
        unread.refuse_lost(self.name, listing.records, {"text": "caption"})
        if listing.records and not any(r.captions or r.label is not None for r in listing.records):
            raise DataError(
                f"{self.name}: none of the {len(listing.records)} images has a caption or a label; name the columns with "
                "--source.caption, --source.label (in Python caption=, label=)"
            )
        return listing

    def _part(self, tree: Tree, folder: Path, split: str | None, unread: Unread) -> list[Row]:
        """The rows of a split, or of all."""
        here = folder.relative_to(tree.folder)
        known = {"split": split, "split_from": "folder names"} if split else {}
        images = [path for path in tree.images if path.is_relative_to(here)]
        others = [path for path in tree.others if path.is_relative_to(here)]
        table = _table(folder)
        if table:
            rows = self._rows(tree.folder, table, known, unread)
            named = {row["key"] for _, row in rows if "key" in row}
            unread.add("files", "images that the table does not name", sum(p.as_posix() not in named for p in images))
            used: set[Path] = {table.relative_to(tree.folder)}
        else:
            rows, used = self._beside(tree.folder, here, images, others, known)
            odd = [name for name in tree.odd if Path(name).is_relative_to(here)]
            bad = Unreadable("its name is not UTF-8: rename it")
            rows += [(name, {"key": ascii(name)[1:-1], "image": bad, **known}) for name in odd]
            loose = [] if used or not any(len(p.relative_to(here).parts) > 1 for p in images) else images
            unread.add(
                "files", "images outside of the class folders", sum(len(p.relative_to(here).parts) == 1 for p in loose)
            )
        for ending, count in Counter(path.suffix.lower() or path.name for path in others if path not in used).items():
            unread.add("files", ending, count, [f"x{ending}"])
        return rows

    def _rows(self, root: Path, table: Path, known: Mapping[str, Any], unread: Unread) -> list[Row]:
        """The rows of a table."""
        split = "" if self.split_by in ("hash", "folders") or known else self.column_of_split
        columns = Columns(
            table, ROLES, {"caption": self.caption, "label": self.label, "split": split}, unread, first=("filename",)
        )
        here = table.parent.relative_to(root)

        def cells(row: Mapping[str, Any]) -> dict[str, Any]:
            held = columns.cells(row)
            name = held.get("image")
            if not isinstance(name, str):
                raise Unreadable("no file name")
            if self.split_by in ("hash", "folders"):
                held.pop("split", None)
            elif "split" in held:
                held["split_from"] = columns.said("split")
            held["image"] = os.path.join(here, name.replace("\\", "/"))
            if isinstance(mask := held.get("mask"), str) and mask.lstrip()[:1] not in ("{", "["):
                held["mask"] = os.path.join(here, mask.replace("\\", "/"))
            return {**held, "key": Path(os.path.normpath(held["image"])).as_posix(), **known}

        rows = list(translated(TABLES[table.name](table), cells))
        if columns.met and not any(role_of(column, ("image",)) for column in columns.met):
            raise DataError(f"{table} has no column 'file_name'; it has {', '.join(columns.met)}")
        columns.check()
        if not known and self.split_by in ("", "folders") and not any("split" in row for _, row in rows):
            rows = _by_folders(rows)
        return rows

    def _beside(
        self, root: Path, here: Path, images: Sequence[Path], others: Sequence[Path], known: Mapping[str, Any]
    ) -> tuple[list[Row], set[Path]]:
        """The images of class folders, or with texts beside them; and which of the others are such texts."""
        stems = {path.with_suffix("") for path in images}
        texts = {path: path.with_suffix("") for path in others if path.suffix.lower() in BESIDE}
        texts = {
            path: stem
            for path, stem in texts.items()
            if stem in stems and path.suffix.lower() not in self.ignore.split(",")
        }
        held = {path: captions for path in texts if (captions := _caption(root / path)) is not None}
        said: dict[Path, tuple[Path, Any]] = {}
        for ending in BESIDE:
            for path in (path for path in held if path.suffix.lower() == ending):
                said.setdefault(texts[path], (path, held[path]))
        rows: list[Row] = []
        for path in images:
            parts = path.relative_to(here).parts
            if len(parts) == 1 and not said:
                continue
            _, caption = said.get(path.with_suffix(""), (None, None))
            label = {} if len(parts) == 1 or (said and SHARD.fullmatch(parts[0])) else {"class": parts[0]}
            name = path.as_posix()
            rows.append((str(root / path), {"key": name, "image": name, "caption": caption, **label, **known}))
        used = {path for path in held if texts[path] in said}
        return rows, used

    def _refuse(self, root: Path, rows: Sequence[Row], tree: Tree) -> None:
        if rows:
            return
        wanted = "metadata.jsonl, metadata.csv or class folder with images"
        loose = sum(len(p.parts) == 1 for p in tree.images)
        beside = f"; {loose} images lie there by themselves, without a .txt of the same name" if loose else ""
        inner = len(tree.images) - loose
        deeper = (
            f"; {inner} images lie in its folders, which hold no class folders, nor texts beside them" if inner else ""
        )
        tables = [p.name for p in tree.others if len(p.parts) == 1 and p.suffix.lower() in (*MANIFESTS, ".json")]
        reads = "karpathy" if tables and tables[0].lower().endswith(".json") else "manifest"
        other = f"; {', '.join(tables[:4])} may be a table, which {reads}:{root / tables[0]} reads" if tables else ""
        raise DataError(f"{self.name}: no {wanted} in {root.absolute()}{beside}{deeper}{other}")


def _walk(root: Path) -> Tree:
    """The files below a folder but for hidden ones, in order."""
    tree, linked = Tree(root), {os.path.realpath(root)}

    def new(folder: str, name: str) -> bool:
        """Whether a folder is no link, or one to what was not seen yet: links may lead in circles."""
        path = os.path.join(folder, name)
        if not os.path.islink(path):
            return True
        real = os.path.realpath(path)
        known = real in linked or os.path.realpath(root).startswith(real + os.sep)
        linked.add(real)
        return not known

    for folder, inner, names in os.walk(root, followlinks=True):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and new(folder, name))
        for name in sorted(n for n in names if not n.startswith(".")):
            path = Path(folder, name).relative_to(root)
            if path.suffix.lower() not in IMAGES:
                tree.others.append(path)
            elif is_utf8(str(path)):
                tree.images.append(path)
            else:
                tree.odd.append(str(path))
    tree.images.sort()
    return tree


def _base(tree: Tree) -> Path:
    """Where class folders begin: the folder, or the only one in it, where that holds nothing but folders of images."""
    base = tree.folder
    while not _table(base):
        depth = len(base.relative_to(tree.folder).parts)
        tops = {p.parts[depth] for p in tree.images if len(p.parts) > depth + 1}
        loose = any(len(p.parts) == depth + 1 for p in tree.images)
        inner = base / next(iter(tops), "")
        below = {p.parts[depth + 1] for p in tree.images if len(p.parts) > depth + 2}
        direct = any(len(p.parts) == depth + 2 for p in tree.images)
        if loose or len(tops) != 1 or word_split(inner.name) or _table(inner) or direct or len(below) < 2:
            return base
        base = inner
    return base


def _is_data(path: Path) -> bool:
    return path.suffix.lower() in IMAGES or path.name in TABLES


def _table(folder: Path) -> Path | None:
    return next((folder / name for name in TABLES if (folder / name).is_file()), None)


def _caption(path: Path) -> object:
    """The caption in a file beside an image; `None` where it holds none."""
    try:
        data = read_regular(path, TEXT_FILE)
        text: Any = decode_text(data, path) if path.suffix.lower() != ".json" else parse_json(data)
    except Unreadable as error:
        return error if path.suffix.lower() != ".json" else None
    except DataError:
        return Unreadable("the text beside it cannot be read, or is not UTF-8")
    if isinstance(text, dict):
        text = Columns(path, ("caption",), what="field").cells(text).get("caption")
    return text if not isinstance(text, str) or any(c.isalpha() for c in text) else None


def _by_folders(rows: list[Row]) -> list[Row]:
    """The rows with the splits of the top folders in the names of their images, where these are splits."""
    tops = {Path(row["key"]).parts[0] for _, row in rows if len(Path(row.get("key", "")).parts) > 1}
    splits = folder_splits(tops)
    if len(set(splits.values())) < 2 or len(splits) < len(tops):
        return rows
    way = "folder names"
    return [
        (
            where,
            {**row, "split": split, "split_from": way}
            if (split := splits.get(Path(row.get("key", "")).parts[0]))
            else row,
        )
        if len(Path(row.get("key", "")).parts) > 1
        else (where, row)
        for where, row in rows
    ]
