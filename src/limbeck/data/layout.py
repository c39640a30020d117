"""`Layout`: how a dataset lies on disk. It lists records cheaply; `RecordSource` opens them."""

import hashlib
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from limbeck.data.batch import Captions
from limbeck.errors import ConfigError, DataError

__all__ = [
    "FileImage",
    "ImageRef",
    "Layout",
    "Listing",
    "Record",
    "Skipped",
    "Unreadable",
    "assign_splits",
    "canonical_split",
    "clean_captions",
    "hash_share",
    "hash_split",
    "index_labels",
    "inside",
    "parse_json",
    "read_json",
    "unique",
]

SPLIT_NAMES = {"validation": "val", "valid": "val", "dev": "val", "restval": "train", "training": "train"}


class Unreadable(ValueError):
    """One record that cannot be used; its message is the reason under which it is counted and skipped."""


class ImageRef(ABC):
    """Where the bytes of one image lie. Picklable: worker processes read it."""

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
        mtime_ns: time of the last change.
    """

    path: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str | Path) -> "FileImage":
        """The image at `path`.

        Raises:
            Unreadable: `missing`, where there is no such file.
        """
        try:
            stat = os.stat(path)
        except (OSError, ValueError):  # ValueError: a null character in the name
            raise Unreadable("missing") from None
        return cls(os.path.abspath(path), stat.st_size, stat.st_mtime_ns)

    def read(self) -> bytes:
        """The bytes of the file."""
        return Path(self.path).read_bytes()

    @property
    def stamp(self) -> Sequence[Any]:
        """Path, size and time of change."""
        return self.path, self.size, self.mtime_ns


@dataclass(frozen=True)
class Record:
    """One sample, not yet decoded.

    Args:
        key: unique in its split, and stable.
        image: where its image lies; `None` where it has none.
        captions: none, one or several.
        label: an index into the classes of the listing; `None` where it has none.
        split: `"train"`, `"val"`, `"test"` or a name of the data's own; `None` where the data do not say.
    """

    key: str
    image: ImageRef | None = None
    captions: Captions = ()
    label: int | None = None
    split: str | None = None


@dataclass(frozen=True)
class Skipped:
    """What was left out, and why.

    Args:
        key: the record, or what is known of it.
        reason: a short phrase, the same for all records of its kind.
        where: file (and line) for a person to look at.
        split: `None` where it is not known; then it counts in every split.
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
    """

    records: Sequence[Record]
    classes: tuple[str, ...] = ()
    licence: str = "unknown"
    skipped: Sequence[Skipped] = ()

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
    """

    requires: ClassVar[tuple[tuple[str, str], ...]] = ()

    path: str = ""
    resolution: int = 64
    max_skipped: float = 0.01
    workers: int | None = None

    def __post_init__(self) -> None:
        if type(self.resolution) is not int or not 1 <= self.resolution <= 4096:
            raise ConfigError(f"resolution is a whole number of pixels from 1 to 4096, got {self.resolution!r}")
        if not isinstance(self.max_skipped, int | float) or not 0 <= self.max_skipped <= 1:
            raise ConfigError(f"max_skipped is a share from 0 to 1, got {self.max_skipped!r}")
        if self.workers is not None and (type(self.workers) is not int or self.workers < 0):
            raise ConfigError(f"workers is a number of processes, 0 or more, got {self.workers!r}")

    @abstractmethod
    def read(self) -> Listing:
        """Lists the records; decodes nothing.

        Raises:
            DataError: nothing is there, or what is there has another shape.
        """

    @property
    def name(self) -> str:
        """What a person types to open it: `folder:data/pets`."""
        layout = type(self).__module__.rsplit(".", 1)[-1]
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
        if not root.exists():
            raise DataError(f"{self.name}: there is no {root.absolute()}; check the path")
        return root


def canonical_split(name: object) -> str | None:
    """`name` in lower case, with `validation`, `valid` and `dev` called `val` and COCO's `restval` part of `train`.

    Example:
        >>> canonical_split("Validation"), canonical_split("restval"), canonical_split(None)
        ('val', 'train', None)
    """
    if name is None or name == "":
        return None
    if not isinstance(name, str):
        raise Unreadable("split is not a name")
    return SPLIT_NAMES.get(name.strip().lower(), name.strip().lower())


def hash_split(key: str) -> str:
    """The split of a key: about 80 / 10 / 10, by its hash, so that adding data moves nothing from one split to another.

    Example:
        >>> [hash_split(k) for k in ("cat.jpg", "dog.jpg", "k20", "k9")]
        ['train', 'train', 'val', 'test']
    """
    share = hash_share(key)
    return "test" if share < 0.1 else "val" if share < 0.2 else "train"


def assign_splits(records: Sequence[Record]) -> list[Record]:
    """Gives every record a split.

    Data that know no splits, or only `train`, are split by the hash of the key, and so are single records without one.
    Data with a test split but no validation split give a tenth of `train` to `val`, as nothing may be chosen on the
    test split.
    """
    known = {record.split for record in records}
    if known <= {None, "train"}:
        return [replace(r, split=hash_split(r.key)) for r in records]
    if None in known:
        return [r if r.split else replace(r, split=hash_split(r.key)) for r in records]
    if "test" in known and "train" in known and "val" not in known:
        return [replace(r, split="val") if r.split == "train" and hash_share(r.key) < 0.1 else r for r in records]
    return list(records)


def hash_share(key: str) -> float:
    """A number in [0, 1) that belongs to `key`, the same everywhere."""
    raw = hashlib.sha256(f"limbeck split\x1f{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(raw[:8], "big") / 2**64


def clean_captions(value: object) -> Captions:
    """Captions from a string or a list of strings: white space made single, empty ones dropped.

    Raises:
        Unreadable: something that is not text.

    Example:
        >>> clean_captions([" a  cat ", "", "a tabby"])
        ('a cat', 'a tabby')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ()
    found: list[str] = []
    for text in [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]:
        if not isinstance(text, str):
            raise Unreadable("caption is not text")
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise Unreadable("not UTF-8")
        if tidy := " ".join(text.split()):
            found.append(tidy)
    return tuple(found)


def index_labels(
    values: Sequence[object], class_names: Sequence[object] | None = None
) -> tuple[list[int | None], tuple[str, ...]]:
    """Labels as indices, and the names of the classes.

    Whole numbers are kept as they are (`class_names`, where given, says what each means); names are sorted.

    Args:
        values: one a record: a whole number, a name, or `None`.
        class_names: one a record: the name of its label, or `None`.

    Raises:
        DataError: numbers and names mixed, or a number below 0.

    Example:
        >>> index_labels(["dog", None, "cat"])
        ([1, None, 0], ('cat', 'dog'))
        >>> index_labels([1, 0], ["dog", "cat"])
        ([1, 0], ('cat', 'dog'))
    """
    held = [v for v in values if v is not None]
    if not held:
        return ([None] * len(values), ()) if class_names is None else index_labels(class_names)
    if all(type(v) is int for v in held):
        numbers: list[int] = [v for v in held if isinstance(v, int)]
        if min(numbers) < 0 or max(numbers) > 10**6:
            raise DataError(f"labels are indices from 0 up, got {min(numbers)} to {max(numbers)}")
        called = {v: n for v, n in zip(values, class_names or [None] * len(values), strict=True) if n is not None}
        names = tuple(str(called.get(i, i)) for i in range(max(numbers) + 1))
        return [v if isinstance(v, int) else None for v in values], names
    if not all(isinstance(v, str) for v in held):
        kinds = ", ".join(sorted({type(v).__name__ for v in held}))
        raise DataError(f"labels are all whole numbers or all names, got {kinds}")
    names = tuple(sorted({str(v) for v in held}))
    position = {n: i for i, n in enumerate(names)}
    return [None if v is None else position[str(v)] for v in values], names


def inside(folder: Path, name: object) -> Path:
    """The file `name` in `folder`.

    Raises:
        Unreadable: not a name, or one that leads out of the folder.
    """
    if not isinstance(name, str) or not name:
        raise Unreadable("no file name")
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or Path(name).is_absolute():
        raise Unreadable("unsafe name")
    return folder / parts


def parse_json(data: bytes | str) -> Any:
    """JSON, or a reason why not.

    Raises:
        Unreadable: `not UTF-8` or `not JSON`.
    """
    try:
        return json.loads(data.decode("utf-8-sig") if isinstance(data, bytes) else data)
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None
    except (json.JSONDecodeError, RecursionError):
        raise Unreadable("not JSON") from None


def read_json(path: Path) -> Any:
    """The JSON file at `path`.

    Raises:
        DataError: it cannot be read or does not parse; the message names the line.
    """
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not JSON: {error.msg}; mend that line") from error
    except RecursionError as error:
        raise DataError(f"{path} is not a caption file: it is nested too deeply") from error


def unique(records: Iterable[Record], where: str) -> tuple[list[Record], list[Skipped]]:
    """The first record of each key, and the others as skipped."""
    seen: dict[str, Record] = {}
    again: list[Skipped] = []
    for record in records:
        if seen.setdefault(record.key, record) is not record:
            again.append(Skipped(record.key, "duplicate key", where, record.split))
    return list(seen.values()), again
