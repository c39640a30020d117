"""`Layout`: how a dataset lies on disk. It lists records cheaply; `RecordSource` opens them."""

import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from limbeck import registry
from limbeck.constraints import Ge, Interval, Share, validate
from limbeck.data.batch import Captions
from limbeck.data.decode import MAX_PIXELS
from limbeck.data.form import Form, ImageForm
from limbeck.data.parse import Unreadable, is_utf8
from limbeck.data.splits import check_split_by, hash_share, hash_split
from limbeck.errors import ConfigError, DataError
from limbeck.limits import FILE, limit_factor

__all__ = [
    "FileImage",
    "ImageRef",
    "Layout",
    "Listing",
    "NamedLayout",
    "Record",
    "Skipped",
    "assign_splits",
    "joined",
    "unique",
]


class ImageRef(ABC):
    """Where the bytes of one image, sound or depth map lie. Picklable: worker processes read it."""

    @abstractmethod
    def read(self) -> bytes:
        """The encoded bytes."""

    @property
    @abstractmethod
    def stamp(self) -> Sequence[Any]:
        """Plain values that change whenever the bytes may have changed, known without reading them."""


@dataclass(frozen=True)
class FileImage(ImageRef):
    """An image in a file of its own.

    Args:
        path: absolute path.
        size: bytes.
        mtime_ns: time of the last change, which copying programs may keep.
        ctime_ns: time of the last change of the entry in its folder, which nobody can set.
    """

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int = 0

    @classmethod
    def of(cls, path: str | Path) -> "FileImage":
        """The image at `path`.

        Raises:
            Unreadable: `missing` or `not a regular file`.
        """
        try:
            facts = os.stat(path)
        except (OSError, ValueError):  # ValueError: a null character in the name
            raise Unreadable("missing") from None
        if not stat.S_ISREG(facts.st_mode):
            raise Unreadable("not a regular file")
        return cls(os.path.abspath(path), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)

    def read(self) -> bytes:
        """The bytes of the file.

        Raises:
            Unreadable: there are more than a `FILE` may have.
        """
        if self.size > FILE.most:
            raise Unreadable(f"a file of {FILE}")
        return Path(self.path).read_bytes()

    @property
    def stamp(self) -> Sequence[Any]:
        """Path, size and the times of change."""
        return self.path, self.size, self.mtime_ns, self.ctime_ns


@dataclass(frozen=True)
class Record:
    """One sample, not yet decoded.

    Args:
        key: unique in its split, and stable.
        image: where its image lies; `None` where it has none.
        captions: none, one or several.
        label: an index into the classes of the listing; `None` where it has none.
        split: `"train"`, `"val"`, `"test"` or a name of the data's own; `None` where the data do not say.
        others: modality to where its bytes lie, for modalities besides the image.
        vector: of its one caption, `float32` numbers as bytes; empty where the caption is a text alone.
    """

    key: str
    image: ImageRef | None = None
    captions: Captions = ()
    label: int | None = None
    split: str | None = None
    others: Mapping[str, ImageRef] = field(default_factory=dict)
    vector: bytes = field(default=b"", repr=False)

    def ref(self, modality: str) -> ImageRef | None:
        """Where the bytes of `modality` lie; `None` where it lacks them."""
        return self.image if modality == "image" else self.others.get(modality)


@dataclass(frozen=True)
class Skipped:
    """What was left out, and why.

    Args:
        key: the record, or what is known of it.
        reason: a short phrase, the same for all records of its kind.
        where: file (and line) for a person to look at.
        split: `None` where it is not known; then it counts against the whole dataset.
    """

    key: str
    reason: str
    where: str
    split: str | None = None


@dataclass(frozen=True)
class Listing:
    """Everything that a layout found, without having decoded any image.

    Args:
        records: in a stable order.
        classes: the names of the labels.
        licence: of the data.
        skipped: what could not be listed.
        embedded_by: modality to the fingerprint of the encoder that its vectors are of, where records hold vectors.
        split_by: how the splits came about: `folder names`, `column 'split'`, `hash`.
        unread: what lies there and was not used: kind of thing (columns, files, members) to name to count.
    """

    records: Sequence[Record]
    classes: tuple[str, ...] = ()
    licence: str = "unknown"
    skipped: Sequence[Skipped] = ()
    embedded_by: Mapping[str, str] = field(default_factory=dict)
    split_by: str = ""
    unread: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits that hold a record: train, val, test, then others."""
        held = {record.split for record in self.records if record.split}
        order = ("train", "val", "test")
        return tuple(s for s in order if s in held) + tuple(sorted(held - set(order)))


@dataclass(frozen=True)
class Layout(ABC):
    """How a dataset lies on disk. A subclass is a frozen dataclass; its fields are its options; its one verb is `read`.

    Args:
        path: where the data are: what follows the colon in `"folder:data/pets"`.
        resolution: pixels a side; the shorter side is resized to it, the centre kept.
        max_skipped: the largest share of records that may be unreadable; more is an error.
        workers: processes that decode; by default one a core, and none for a few images.
        max_pixels: the largest image, mask or depth map that is decoded.
    """

    requires: ClassVar[tuple[tuple[str, str], ...]] = ()

    path: str = ""
    resolution: Annotated[int, Interval(ge=1, le=4096)] = 64
    max_skipped: Share = 0.01
    workers: Annotated[int, Ge(0)] | None = None
    max_pixels: Annotated[int, Interval(ge=1, le=10**9)] = field(default=MAX_PIXELS, kw_only=True)

    def __post_init__(self) -> None:
        validate(self)
        if not is_utf8(self.path):
            raise ConfigError(f"the path {self.path!r} is not UTF-8 and could not be written into a recipe; rename it")
        limit_factor()
        assert self.forms  # which refuses options that cannot be

    @abstractmethod
    def read(self) -> Listing:
        """Lists the records; decodes nothing.

        Raises:
            DataError: nothing is there, or what is there has another shape.
        """

    @property
    def forms(self) -> tuple[Form, ...]:
        """Into what the files are decoded, modality by modality."""
        return (ImageForm(self.resolution),)

    @property
    def name(self) -> str:
        """What a person types to open it: `folder:data/pets`."""
        layout = registry.name_of(type(self))
        return f"{layout}:{self.path}" if self.path else layout

    def describe(self) -> dict[str, Any]:
        """Name and options as a recipe writes them; `workers` changes no result and is left out."""
        options = {k: v for k, v in asdict(self).items() if k not in ("path", "workers")}
        return {"name": self.name, **options}

    def root(self) -> Path:
        """The folder or file that `path` names.

        Raises:
            DataError: there is none.
        """
        if not self.path:
            raise ConfigError(f"{self.name} needs a path, as in '{self.name}:data/mine'")
        root = Path(self.path).expanduser()
        try:
            there = os.path.exists(root)
        except ValueError:  # a null character
            there = False
        if not there:
            raise DataError(f"{self.name}: there is no {root.absolute()}; check the path")
        if not (root.is_dir() or root.is_file()):
            raise DataError(f"{self.name}: {root.absolute()} is not a regular file, nor a folder; give the path of one")
        return root


@dataclass(frozen=True)
class NamedLayout(Layout):
    """A layout of somebody's own data, where names of columns, files and folders tell what is what.

    Args:
        split_by: what tells the split of a sample, where names could be taken for one; by default whatever does.
        ignore: names of columns, members or kinds of files that are left out, with commas between them: they are not reported.
    """

    ways: ClassVar[tuple[str, ...]] = ("hash",)  # to split by

    split_by: str = ""
    ignore: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_split_by(self.split_by, self.ways)

    @property
    def column_of_split(self) -> str:
        """The column that `split_by` names."""
        return self.split_by.partition("column:")[2]


def assign_splits(records: Sequence[Record], names: Sequence[str] | None = None) -> list[Record]:
    """Gives every record a split.

    Data that know no splits, or only `train`, are split by the hash of the key, and so are single records without one.
    Data with a test split but no validation split give a tenth of `train` to `val`, as nothing may be chosen on the
    test split.

    Args:
        records: with the splits of the data.
        names: what is hashed for each record; by default its key.
    """
    named = list(zip(records, [r.key for r in records] if names is None else names, strict=True))
    known = {record.split for record in records}
    if known <= {None, "train"}:
        return [replace(r, split=hash_split(name)) for r, name in named]
    if None in known:
        return [r if r.split else replace(r, split=hash_split(name)) for r, name in named]
    if "test" in known and "train" in known and "val" not in known:
        return [replace(r, split="val") if r.split == "train" and hash_share(n) < 0.1 else r for r, n in named]
    return list(records)


def joined(records: Iterable[Record], images: Iterable[Hashable]) -> list[Record]:
    """The records, those of one image, split and label joined into the first of them, with the captions of all.

    Args:
        records: in order.
        images: what tells the image of each; `None` where it has none.

    Example:
        >>> [r.captions for r in joined([Record("0", captions=("a",)), Record("1", captions=("b", "a"))], ["x", "x"])]
        [('a', 'b')]
    """
    made: dict[Hashable, Record] = {}
    for position, (record, image) in enumerate(zip(records, images, strict=True)):
        name = position if image is None else (image, record.split, record.label)
        first = made.setdefault(name, record)
        if first is not record:
            made[name] = replace(first, captions=tuple(dict.fromkeys(first.captions + record.captions)))
    return list(made.values())


def unique(records: Iterable[Record], where: str, reason: str = "duplicate key") -> tuple[list[Record], list[Skipped]]:
    """The first record of each key, and the others as skipped."""
    seen: dict[str, Record] = {}
    again: list[Skipped] = []
    for record in records:
        if seen.setdefault(record.key, record) is not record:
            again.append(Skipped(record.key, reason, where, record.split))
    return list(seen.values()), again
