"""Splits: the one rule by which words in names tell them, and by which data without them are split."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from limbeck.data.parse import Unreadable, is_utf8
from limbeck.errors import ConfigError, DataError

__all__ = [
    "canonical_split",
    "check_split_by",
    "file_split",
    "files_splits",
    "folder_splits",
    "hash_share",
    "hash_split",
    "how_split",
    "word_split",
]

WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "validation": "val",
    "valid": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
}
"""The words that tell a split by themselves, whatever their case."""


def canonical_split(name: object) -> str | None:
    """The split that a cell names: one of the known words, COCO's `restval` as part of `train`, or a name of the data's own.

    Example:
        >>> canonical_split("Validation"), canonical_split("restval"), canonical_split("fold-1"), canonical_split(None)
        ('val', 'train', 'fold-1', None)
    """
    if name is None or name == "":
        return None
    if isinstance(name, Unreadable):
        raise name
    if not isinstance(name, str):
        raise Unreadable("split is not a name")
    if not is_utf8(name):
        raise Unreadable("split is not UTF-8")
    plain = name.strip().lower()
    return "train" if plain == "restval" else WORDS.get(plain, plain or None)


def word_split(name: object) -> str | None:
    """The split of a name that is one of the known words and nothing else."""
    return WORDS.get(name.strip().lower()) if isinstance(name, str) else None


def file_split(stem: str) -> str | None:
    """The split that the name of a file tells: its last word, where only numbers follow.

    Example:
        >>> [file_split(s) for s in ("train-00000-of-00010", "flickr30k_test", "instances_val2017", "train_station")]
        ['train', 'test', 'val', None]
    """
    words = [word for word in re.split(r"[^a-z0-9]+", stem.lower()) if word and word != "of"]
    while words and words[-1].isdigit():
        words.pop()
    return WORDS.get(re.sub(r"[0-9]+$", "", words[-1])) if words else None


def folder_splits(names: Iterable[str]) -> dict[str, str]:
    """The splits of folders by their names; none where these are no splits but classes, one of which is called `train`.

    They are splits where all names are known words, or where there is a train folder and one of val or test among them.

    Args:
        names: of the folders beside each other that hold data.

    Example:
        >>> folder_splits(["training", "testing"])
        {'training': 'train', 'testing': 'test'}
        >>> folder_splits(["bus", "car", "train"])
        {}
    """
    listed = list(names)
    splits = {name: split for name in listed if (split := word_split(name))}
    partition = "train" in splits.values() and len(set(splits.values())) > 1
    return splits if splits and (partition or len(splits) == len(listed)) else {}


def files_splits(files: Sequence[Path], by: str, source: str) -> tuple[dict[Path, str | None], str]:
    """The split of each file, and by what: the names of the files, else those of the folders that hold them.

    Args:
        files: all of a dataset.
        by: what a person wants: `files`, `folders`, `hash`, or empty for whatever tells.
        source: its name, for the error.

    Raises:
        DataError: the names of some files tell a split and those of others do not.
    """
    ways = {
        "file names": [file_split(f.stem) for f in files],
        "folder names": [word_split(f.parent.name) for f in files],
    }
    for way, splits in ways.items():
        if by not in ("", way.split()[0] + "s") or not any(splits):
            continue
        if None in splits and by == "":
            here, not_here = files[splits.index(next(filter(None, splits)))], files[splits.index(None)]
            raise DataError(
                f"{source}: the name {here.relative_to(here.parent.parent)} tells a split and {not_here.relative_to(not_here.parent.parent)} "
                f"does not; say --source.split_by {way.split()[0]}s to take those that tell one, or --source.split_by hash (in "
                "Python split_by=)"
            )
        return dict(zip(files, splits, strict=True)), way
    return dict.fromkeys(files), ""


def check_split_by(value: str, ways: Sequence[str]) -> None:
    """Refuses what a source cannot split by.

    Args:
        value: the option.
        ways: those that the source knows; `column` stands for `column:NAME`.

    Raises:
        ConfigError: another one.
    """
    way, _, column = value.partition(":")
    if value and (way not in ways or (way == "column") != bool(column)):
        listed = ", ".join("column:NAME" if way == "column" else way for way in ways)
        raise ConfigError(f"split_by is one of {listed}, got {value!r}")


def hash_split(key: str) -> str:
    """The split of a key: about 80 / 10 / 10, by its hash, so that adding data moves nothing from one split to another.

    Example:
        >>> [hash_split(k) for k in ("cat.jpg", "dog.jpg", "k3")]
        ['train', 'val', 'test']
    """
    share = hash_share(key)
    return "test" if share < 0.1 else "val" if share < 0.2 else "train"


def hash_share(key: str) -> float:
    """A number in [0, 1) that belongs to `key`, the same everywhere."""
    raw = hashlib.sha256(f"limbeck split\x1f{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(raw[:8], "big") / 2**64


def how_split(known: set[str | None], ways: Mapping[str, int]) -> str:
    """How the splits of a dataset came about, for a person.

    Args:
        known: those that the data tell.
        ways: what told them (`file names`), and of how many samples.
    """
    way = " and ".join(ways) or "the source"
    if known <= {None, "train"}:
        return f"hash, as only train is told by {way}" if "train" in known else "hash"
    if None in known:
        return f"{way}, and hash for those without one"
    if {"test", "train"} <= known and "val" not in known:
        return f"{way}; val is a tenth of train, by hash"
    return way
