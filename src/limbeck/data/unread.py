"""What a source saw and did not use: counted by kind and name, and refused where a whole modality would be lost."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from limbeck.errors import DataError

if TYPE_CHECKING:
    from limbeck.data.layout import Record

__all__ = ["IMAGES", "KEPT", "SOUNDS", "Unread", "is_empty", "kind_of", "said_unread"]

IMAGES = frozenset(
    [
        ".apng",
        ".avif",
        ".bmp",
        ".gif",
        ".ico",
        ".j2c",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpf",
        ".jpg",
        ".jpx",
        ".mpo",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
    ]
)
SOUNDS = frozenset(
    [".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".w64", ".wav", ".wave"]
)
OTHER_IMAGES = frozenset(
    [".heic", ".heif", ".jxl", ".raw", ".cr2", ".nef", ".dng", ".psd", ".svg", ".exr", ".hdr"]
)  # that nothing here decodes
OTHER_SOUNDS = frozenset([".m4a", ".aac", ".mp4", ".wma", ".amr", ".webm", ".mov", ".mkv", ".avi"])
QUIET = frozenset(
    ("made", "origin", ".md", "LICENSE", "README")
)  # what annotate and export write, and words for people
KEPT = 100  # cells of a column that are looked at
SHOWN = 8  # names that a note tells
WORDY = 3  # words of a text that may be a caption

SOUND_BYTES = re.compile(rb"RIFF....WAVE|fLaC|OggS|ID3|FORM....AIF|\xff[\xf2\xf3\xfa\xfb]", re.DOTALL)
IMAGE_BYTES = re.compile(
    rb"\x89PNG|\xff\xd8|GIF8|RIFF....WEBP|BM|II\*\0|MM\0\*|P[1-6]\s|\0\0\0.ftypavif|\0\0\0\x0cjP  ", re.DOTALL
)


def is_empty(cell: object) -> bool:
    """Whether a cell holds nothing.

    Example:
        >>> [is_empty(cell) for cell in (None, " ", [], float("nan"), 0, "x")]
        [True, True, True, True, False, False]
    """
    if isinstance(cell, str):
        return not cell or cell.isspace()
    if isinstance(cell, dict):
        return all(value is None for value in cell.values())
    return cell is None or cell == [] or (isinstance(cell, float) and math.isnan(cell))


def kind_of(cell: object) -> str | None:
    """Whether a cell is an image or a sound: the name of a file, encoded bytes, or a struct of both; `None` for anything else.

    Example:
        >>> kind_of("a/b.JPG"), kind_of("a b.m4a"), kind_of("a cat"), kind_of(b"fLaC...")
        ('image', 'audio', None, 'audio')
    """
    if isinstance(cell, dict) and "bytes" in cell:
        return kind_of(cell["bytes"]) or kind_of(cell.get("path"))
    if isinstance(cell, bytes):
        return "audio" if SOUND_BYTES.match(cell) else "image" if IMAGE_BYTES.match(cell) else None
    if not isinstance(cell, str) or len(cell) > 4096 or "\n" in cell:
        return None
    ending = Path(cell.strip()).suffix.lower()
    return "image" if ending in IMAGES | OTHER_IMAGES else "audio" if ending in SOUNDS | OTHER_SOUNDS else None


class Unread:
    """Counts what a source saw and did not use.

    Args:
        ignore: names, with commas between them, that a person says are to be left out: nobody is told of them.

    Example:
        >>> unread = Unread("url")
        >>> for column in ("url", "views", "views"): unread.add("columns", column)
        >>> unread.listed()
        {'columns': {'views': 2}}
    """

    def __init__(self, ignore: str = "") -> None:
        self.ignored = QUIET | {name.strip() for name in ignore.split(",") if name.strip()}
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._cells: dict[tuple[str, str], list[Any]] = defaultdict(list)

    def add(self, kind: str, name: str, count: int = 1, cells: Sequence[Any] = ()) -> None:
        """Counts one thing.

        Args:
            kind: of things, in the plural: columns, members, files.
            name: of those that are alike.
            count: how many.
            cells: what it held, or names of its files, by which a lost modality is recognised.
        """
        if name in self.ignored or not count:
            return
        self._counts[kind][name] += count
        kept = self._cells[kind, name]
        kept += cells[: KEPT - len(kept)]

    def names(self, kind: str) -> list[str]:
        """The names of one kind."""
        return list(self._counts[kind])

    def listed(self) -> dict[str, dict[str, int]]:
        """Kind to name to count, the most first."""
        return {kind: dict(counts.most_common()) for kind, counts in self._counts.items() if counts}

    def refuse_lost(self, source: str, records: Sequence["Record"], options: Mapping[str, str]) -> None:
        """Refuses data of which a whole modality lies there and is not read.

        Args:
            source: its name.
            records: those that were read.
            options: modality to the option that names what holds it; others cannot be read by this source.

        Raises:
            DataError: a modality is lost; the message has both remedies.
        """
        modalities = {m for m in ("image", "audio") if any(record.ref(m) for record in records)}
        modalities |= {"text"} if any(record.captions for record in records) else set()
        for (kind, name), cells in self._cells.items():
            modality = modality_of(cells)
            if modality is None or modality in modalities or self._counts[kind][name] * 10 < len(records):
                continue
            what = {"image": "images", "audio": "sounds", "text": "texts"}[modality]
            option = options.get(modality)
            if modality != "text" and not any(map(_can_decode, cells)):
                option, what = None, f"{what} in a format that nothing here decodes"
            remedy = (
                f"name it with --source.{option} {quote(name)} (in Python {option}=), or "
                if option
                else "convert them, or "
            )
            count = self._counts[kind][name]
            raise DataError(
                f"{source}: {count} {kind} {name!r} hold {what}, which would be lost, as nothing else holds any; {remedy}leave "
                f"it out with --source.ignore {quote(name)}"
            )


def _can_decode(cell: object) -> bool:
    return not isinstance(cell, str) or Path(cell.strip()).suffix.lower() in IMAGES | SOUNDS


def modality_of(cells: Collection[Any]) -> str | None:
    """What modality most of these cells are; texts are sentences that differ."""
    kinds = Counter(map(kind_of, cells))
    for modality in ("image", "audio"):
        if kinds[modality] * 2 > len(cells):
            return modality
    texts = [cell for cell in cells if isinstance(cell, str) and len(cell.split()) >= WORDY]
    return "text" if len(texts) * 2 > len(cells) and len(set(texts)) * 2 > len(texts) and not kinds["image"] else None


def said_unread(unread: Mapping[str, Mapping[str, int]]) -> str:
    """What was not used, in one line.

    Example:
        >>> said_unread({"columns": {"url": 60, "status": 60}, "files": {".txt": 3}})
        'columns url (60), status (60); files .txt (3)'
    """
    parts = []
    for kind, counts in unread.items():
        names = [f"{name[:40] or 'without a name'} ({count})" for name, count in list(counts.items())[:SHOWN]]
        names += [f"{len(counts) - SHOWN} others"] if len(counts) > SHOWN else []
        parts.append(f"{kind} {', '.join(names)}")
    return "; ".join(parts)
