"""Opening the files that data name: regular files alone, of a bounded size, within the folders of the data."""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from limbeck.data.parse import Unreadable, json_of
from limbeck.errors import ConfigError, DataError
from limbeck.limits import FILE, Limit

__all__ = ["Place", "matching", "open_regular", "read_json", "read_regular"]

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
ENCODED = re.compile(
    r"data:[^,/]*/[^,]*,|(iVBORw0KGgo|/9j/|UklGR|R0lGOD|T2dnUw|SUkqA)[A-Za-z0-9+/\s]{40}"
)  # images and sounds as text
DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def open_regular(path: Path) -> BinaryIO:
    """The file at `path`, opened for reading; never a FIFO, which would wait for ever, nor a device.

    Raises:
        DataError: it cannot be read, or is not a regular file.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise DataError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}; check the path, and that you may read it"
        ) from error
    raise DataError(f"{path} is not a regular file but {_kind(mode)}; give the path of a file")


def read_regular(path: Path, limit: Limit = FILE) -> bytes:
    """The bytes of the file at `path`.

    Args:
        path: the file.
        limit: of its bytes.

    Raises:
        DataError: it cannot be read, is not a regular file, or is larger.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit.most:
            raise DataError(f"{path} has {size:,} bytes, {limit}; split it into several")
        try:
            return file.read(limit.most)
        except OSError as error:
            raise DataError(
                f"{path} cannot be read: {error.strerror}; check the path, and that you may read it"
            ) from error


def read_json(path: Path) -> Any:
    """What the JSON file at `path` holds.

    Raises:
        DataError: it cannot be read or does not parse; the message names the line.
    """
    return json_of(read_regular(path), path)


def matching(folder: Path, pattern: str) -> list[Path]:
    """The files in a folder whose names match a pattern, in order.

    Raises:
        ConfigError: a pattern that is none, or leads out of the folder.
    """
    try:
        if ".." in Path(pattern).parts:
            raise ValueError("it leads out of the folder")
        return sorted(path for path in folder.glob(pattern) if path.is_file())
    except (ValueError, NotImplementedError, IndexError) as error:
        reason = "it is absolute" if isinstance(error, NotImplementedError) else str(error)
        raise ConfigError(
            f"{pattern!r} is no pattern of files in {folder}: {reason}; name files as they are called there"
        ) from error


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


@dataclass(frozen=True)
class Place:
    """Where the files lie that data name. A name that leads elsewhere, by itself or over links, is not followed.

    Args:
        folder: where names begin.
        more: another folder in which names may begin, and files may lie.
        remedy: what a person does about a name that leads elsewhere.

    Example:
        >>> Place(Path("/data/pets")).path("cats/../a.jpg").as_posix()
        '/data/pets/a.jpg'
        >>> Place(Path("/data/pets")).path("../b.jpg")
        Traceback (most recent call last):
        limbeck.data.parse.Unreadable: leads out of /data/pets
    """

    folder: Path
    more: Path | None = None
    remedy: str = ""
    _checked: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    @property
    def roots(self) -> tuple[Path, ...]:
        """The folders in which files may lie."""
        return (self.folder,) if self.more is None else (self.more, self.folder)

    def path(self, name: object) -> Path:
        """The path that a name stands for; whether anything is there is not looked at, except to choose between two folders.

        Raises:
            Unreadable: no name, or one that leads elsewhere.
        """
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            raise Unreadable("no file name")
        if any("\ud800" <= c <= "\udfff" for c in name):
            raise Unreadable("not UTF-8")
        if ENCODED.match(name):
            raise Unreadable("base64, not a file: write its bytes into a file, or into a cell of Parquet")
        if URL.match(name):
            raise Unreadable("a URL, not a file: fetch it first")
        plain = os.path.normpath(name.replace("\\", "/"))
        drive = bool(DRIVE.match(name)) and os.name != "nt"
        whole = plain.startswith("/") or bool(DRIVE.match(name))
        if not (whole or plain.startswith("..")):  # within, wherever it begins
            paths = [root / plain for root in self.roots]
        else:
            paths = [Path(os.path.normpath(root / plain)) for root in self.roots]
            paths = [path for path in paths if not drive and _is_within(os.path.abspath(path), self._given)]
        if not paths:
            raise Unreadable(f"{'an absolute path outside' if whole else 'leads'} {self._out(whole)}")
        return next((path for path in paths if len(paths) > 1 and os.path.exists(path)), paths[0])

    def check(self, path: Path) -> None:
        """Sees to it that a path lies within these folders also after links are followed.

        Raises:
            Unreadable: a link leads elsewhere.
        """
        folder = os.path.dirname(path)
        if folder not in self._checked:
            self._checked[folder] = _is_within(os.path.realpath(folder), self._real)
        inside = _is_within(os.path.realpath(path), self._real) if os.path.islink(path) else self._checked[folder]
        if not inside:
            raise Unreadable(f"a link that leads {self._out(False)}")

    @cached_property
    def _given(self) -> tuple[str, ...]:
        return tuple(map(os.path.abspath, self.roots))

    @cached_property
    def _real(self) -> tuple[str, ...]:
        return tuple(map(os.path.realpath, self.roots))

    def _out(self, whole: bool) -> str:
        where = f"{'' if whole else 'out of '}{os.path.abspath(self.folder)}"
        return f"{where}: {self.remedy}" if self.remedy else where


def _is_within(path: str, roots: Sequence[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in roots)
