"""A content-addressed store of folders: the key is a digest of everything that made the entry, never a name.

An entry holds `entry.json`, which says whose it is, and the size of each file with the digest of each of its pieces. Nothing is
believed unseen: an entry that is not as it was written is made anew. What is not proven ours is neither removed nor replaced.
"""

import functools
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from limbeck.errors import LimbeckWarning, StorageError
from limbeck.runtime.files import flush_all, foreign_files, save_tensors, settle, work_folder
from limbeck.runtime.files import writing as _writing

__all__ = ["Cache", "Contents", "digest", "verifying"]

LAYOUT = "limbeck-2"  # the folder in the root that entries of this layout lie in; those of others are left as they are
ENTRY, TENSORS = "entry.json", "tensors.safetensors"
OURS = (ENTRY, TENSORS, "pixels.bin", "index.json", "space/space.json", "space/tensors.safetensors")  # files of entries
PIECE = 2**20  # bytes with a digest of their own
LOOKS = 16  # pieces of a file that are compared whenever it is opened


@dataclass
class Contents:
    """What was compared with its digest, see `verifying`.

    Args:
        entries: of the cache.
        damaged: how many of them were not as they were written.
        files: of the data.
        changed: how many of them are no longer what the cache holds.
    """

    entries: int = 0
    damaged: int = 0
    files: int = 0
    changed: int = 0
    seen: set[str] = field(default_factory=set, repr=False, compare=False)  # nothing is compared twice

    def first(self, what: str) -> bool:
        """Whether this was not compared yet."""
        new = what not in self.seen
        self.seen.add(what)
        return new

    def __str__(self) -> str:
        return f"{self.files} files of the data, {self.changed} changed, and {self.entries} entries of the cache, {self.damaged} damaged"


_contents: ContextVar[Contents | None] = ContextVar("contents", default=None)


@contextmanager
def verifying() -> Iterator[Contents]:
    """While it lasts, whatever is opened is compared with its digests in whole: files of the data, and entries of the cache.

    Else of a large file of the cache a sample is compared, and a file of the data counts as the same while its path, size and
    times are. What differs is made anew, with a `LimbeckWarning`.

    Example:
        >>> with verifying() as contents:
        ...     pass
        >>> contents
        Contents(entries=0, damaged=0, files=0, changed=0)
    """
    contents = _contents.get() or Contents()  # within another, the counts are common
    token = _contents.set(contents)
    try:
        yield contents
    finally:
        _contents.reset(token)


def asked() -> Contents | None:
    """The counts of `verifying`; `None` where it is not asked for."""
    return _contents.get()


def digest(*parts: Any) -> str:
    """A hex digest of plain values (JSON types) and bytes, the same on every machine and in every process.

    Example:
        >>> digest("a", 1) == digest("a", 1), digest("a", 1) == digest("a1")
        (True, False)
    """
    state = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=str).encode()
        state.update(len(data).to_bytes(8, "little") + data)
    return state.hexdigest()[:32]


REMEDY = "free space there, or set LIMBECK_CACHE to a folder that can be written"


def writing(path: Path) -> AbstractContextManager[None]:
    """As `files.writing`, with the remedy of a cache."""
    return _writing(path, REMEDY)


class Cache:
    """Folders of content-addressed entries, written whole or not at all, and checked whenever they are opened.

    Args:
        root: where the entries live; by default `$LIMBECK_CACHE`, else, also where that is empty, the user's cache folder.

    Example:
        >>> import tempfile, torch
        >>> cache = Cache(tempfile.mkdtemp())
        >>> cache.tensors("demo", digest("x"), lambda: {"x": torch.ones(2)})["x"]
        tensor([1., 1.])
    """

    def __init__(self, root: str | Path | None = None) -> None:
        root = os.environ.get("LIMBECK_CACHE", "").strip() if root is None else root
        if root == "":
            import platformdirs

            root = platformdirs.user_cache_dir("limbeck", appauthor=False)
        self.root = Path(root).expanduser()

    @property
    def folder(self) -> Path:
        """What in the root is ours."""
        return self.root / LAYOUT

    def path(self, kind: str, key: str) -> Path:
        """Where the entry `key` of this kind lives, whether or not it is there."""
        return self.folder / kind / key[:2] / key

    def whole(self, kind: str, key: str) -> Path | None:
        """The folder of the entry; `None` where it is missing, or not as it was written, which is told.

        Raises:
            StorageError: something that is not ours is in its place.
        """
        folder, contents = self.path(kind, key), asked()
        _settle_once(self.folder)
        if not os.path.lexists(folder):
            return None
        first = contents is not None and contents.first(str(folder))
        fault = _fault(folder, kind, key, first)
        if contents and first:
            contents.entries, contents.damaged = contents.entries + 1, contents.damaged + bool(fault)
        if not fault:
            return folder
        _refuse_foreign(folder)
        warnings.warn(
            f"the cache entry {folder} is damaged ({fault}); it is made anew where it is needed",
            LimbeckWarning,
            stacklevel=3,
        )
        return None

    def entry(self, kind: str, key: str, make: Callable[[Path], None]) -> Path:
        """The folder of the entry; `make(folder)` fills it first where it is missing or damaged.

        Raises:
            StorageError: the folder cannot be written, or something that is not ours is in its place.
        """
        return self.whole(kind, key) or self.put(kind, key, make)

    def put(self, kind: str, key: str, make: Callable[[Path], None], *, anew: bool = False) -> Path:
        """Makes the entry; `make(folder)` fills it.

        It appears by one rename, so that a killed process leaves no half entry. Of two processes that make the same entry the
        first wins, and the other's copy is dropped.

        Args:
            kind, key: which.
            make: called with an empty folder; its errors are its own.
            anew: takes the place also of an entry that is whole.

        Raises:
            StorageError: see `entry`.
        """
        final = self.path(kind, key)
        with self.work() as work:
            made = work / "new"
            with writing(final):
                made.mkdir()
            make(made)
            with writing(final):
                _seal(made, kind, key)
                final.parent.mkdir(parents=True, exist_ok=True)
                if os.path.lexists(final):
                    if not anew and not _fault(final, kind, key, asked() is not None):
                        return final
                    _refuse_foreign(final)
                    with suppress(FileNotFoundError):  # another process has just done so
                        os.replace(final, work / "damaged")  # ours, see the line before; goes with the work folder
                try:
                    made.rename(final)  # on nothing: a folder that is not empty is in the way
                except OSError:
                    if _fault(final, kind, key):
                        raise
        return final

    @contextmanager
    def work(self) -> Iterator[Path]:
        """A new folder on the disk of the cache, gone at the end; those of dead processes go first.

        Raises:
            StorageError: it cannot be made.
        """
        with ExitStack() as stack:
            with writing(self.folder):
                folder = stack.enter_context(work_folder(self.folder / "entry"))
            yield folder

    def tensors(self, kind: str, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The named tensors of the entry, made by `make()` where they are missing or damaged.

        Raises:
            StorageError: see `entry`.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        final = self.path(kind, key)

        def write(folder: Path) -> None:
            values = make()
            with writing(final):
                save_tensors(values, folder / TENSORS)

        for anew in (False, True):
            folder = self.put(kind, key, write, anew=True) if anew else self.entry(kind, key, write)
            with suppress(SafetensorError, OSError):  # changed or removed since it was looked at
                return load_file(folder / TENSORS)
        raise StorageError(f"{final} was removed or changed while it was read; give the same command again")


@functools.cache
def _settle_once(folder: Path) -> None:
    """Removes what dead processes left in a cache, once a process: where every entry is whole, nothing is made that would do so."""
    settle(folder / "entry")


def _seal(folder: Path, kind: str, key: str) -> None:
    """Writes `entry.json`. What is always compared in whole need not reach the disk before it is seen: a loss would be noticed."""
    files: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            pieces = [_sum(piece) for piece in iter(lambda file=file: file.read(PIECE), b"")]  # type: ignore[misc]
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "pieces": pieces}
    facts = {"limbeck": "cache entry", "kind": kind, "key": key, "files": files}
    (folder / ENTRY).write_text(json.dumps(facts), encoding="utf-8")
    if any(len(file["pieces"]) > LOOKS for file in files.values()):
        flush_all(folder)


def _fault(folder: Path, kind: str, key: str, all_of_it: bool = False) -> str:
    """In what an entry is not as it was written, as far as one looks; empty where it is.

    All of a file of up to `LOOKS` pieces is compared, of a larger one the ends and a sample, another in every process.
    """
    try:
        facts = json.loads((folder / ENTRY).read_text(encoding="utf-8"))
        if (facts["limbeck"], facts["kind"], facts["key"]) != ("cache entry", kind, key):
            return f"{ENTRY} is of another entry"
        if not facts["files"]:
            return f"{ENTRY} names no file"
        for name, file in facts["files"].items():
            size, pieces = int(file["bytes"]), list(file["pieces"])
            if len(pieces) != -(-size // PIECE):
                return f"{ENTRY} does not agree with itself"
            if (there := (folder / name).stat().st_size) != size:
                return f"{name} has {there} bytes for {size}"
            if not _agrees(folder / name, pieces, key, all_of_it):
                return f"{name} is not what was written"
    except OSError as error:
        return f"{Path(error.filename or folder).name}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return f"{ENTRY} cannot be read"
    return ""


def _agrees(path: Path, pieces: list[str], key: str, all_of_it: bool) -> bool:
    count = len(pieces)
    chosen = range(count)
    if count > LOOKS and not all_of_it:
        draws = np.random.default_rng([int(digest(key), 16), os.getpid()])
        inner = draws.choice(np.arange(1, count - 1), LOOKS - 2, replace=False)
        chosen = [0, *sorted(inner.tolist()), count - 1]  # type: ignore[assignment]
    with path.open("rb") as file:
        for i in chosen:
            file.seek(i * PIECE)
            if _sum(file.read(PIECE)) != pieces[i]:
                return False
    return True


def _sum(piece: bytes) -> str:
    return hashlib.sha256(piece).hexdigest()[:32]


def _refuse_foreign(folder: Path) -> None:
    """Refuses to touch what stands in the place of an entry, unless nothing but files of entries is in it."""
    if foreign := foreign_files(folder, ENTRY, OURS):
        raise StorageError(
            f"{folder} is a place of Limbeck's cache, and holds {', '.join(foreign[:3])}, which Limbeck has not written; move that "
            "away, or set LIMBECK_CACHE to another folder"
        )
