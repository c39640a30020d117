"""A content-addressed store of tensors: the key is a digest of everything that made the value, never a name."""

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.data.files import writing as _writing

__all__ = ["Cache", "digest"]

STALE = 24 * 60 * 60.0  # seconds without a write after which a work folder belongs to a process that died


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


CURE = "free space there, or set LIMBECK_CACHE to a folder that can be written"


def writing(path: Path) -> AbstractContextManager[None]:
    """As `files.writing`, with the cure of a cache."""
    return _writing(path, CURE)


class Cache:
    """Folders of content-addressed entries, written whole or not at all.

    Args:
        root: where the entries live; by default `$LIMBECK_CACHE`, else the user's cache folder.

    Example:
        >>> import tempfile, torch
        >>> cache = Cache(tempfile.mkdtemp())
        >>> cache.tensors("demo", digest("x"), lambda: {"x": torch.ones(2)})["x"]
        tensor([1., 1.])
    """

    def __init__(self, root: str | Path | None = None) -> None:
        if root is None:
            root = os.environ.get("LIMBECK_CACHE")
        if root is None:
            import platformdirs

            root = platformdirs.user_cache_dir("limbeck", appauthor=False)
        self.root = Path(root).expanduser()

    def path(self, kind: str, key: str) -> Path:
        """Where the entry `key` of this kind lives, whether or not it is there."""
        return self.root / kind / key[:2] / key

    def entry(self, kind: str, key: str, make: Callable[[Path], None]) -> Path:
        """The folder of the entry; `make(folder)` fills it first where it is missing.

        The folder appears by one rename, so that a killed process leaves no half entry, and of two processes that
        make the same entry the first wins and the other's copy is dropped.

        Raises:
            StorageError: the folder cannot be written.
        """
        final = self.path(kind, key)
        if final.is_dir():
            return final
        for folder in (self.root / kind).glob("*/"):
            _sweep(folder)
        with self.work(final.parent, key[:8]) as work:
            make(work)
            with writing(final):
                try:
                    work.rename(final)
                except OSError:
                    if not final.is_dir():
                        raise
        return final

    @contextmanager
    def work(self, parent: Path, name: str) -> Iterator[Path]:
        """A new folder in `parent`, gone at the end; those that killed processes left there a day ago go first.

        Raises:
            StorageError: it cannot be made.
        """
        _sweep(parent)
        work = parent / f".{name}-{uuid.uuid4().hex[:8]}"
        with writing(work):
            work.mkdir(parents=True)  # not mkdtemp: whoever may read the cache may read its entries
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def tensors(self, kind: str, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The named tensors of the entry, made by `make()` where they are missing or damaged.

        Raises:
            StorageError: the entry cannot be written.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file, save_file

        def write(folder: Path) -> None:
            values = {k: v.detach().cpu().contiguous() for k, v in make().items()}
            file = folder / "tensors.safetensors"
            with writing(self.path(kind, key)):
                try:
                    save_file(values, file)
                except SafetensorError as error:  # its errors of input and output are no OSError
                    raise OSError(error) from error
                file.chmod(folder.stat().st_mode & 0o666)  # else its owner's alone

        try:
            return load_file(self.entry(kind, key, write) / "tensors.safetensors")
        except (SafetensorError, FileNotFoundError):
            if not (damaged := self.path(kind, key)).is_dir():
                raise
            with writing(damaged):
                shutil.rmtree(damaged)
            return load_file(self.entry(kind, key, write) / "tensors.safetensors")


def _sweep(parent: Path) -> None:
    """Removes the work folders in `parent` that nothing was written into for a day."""
    for work in parent.glob(".*-*"):
        try:
            last = max(file.stat().st_mtime for file in [work, *work.iterdir()])
        except OSError:  # another process has just removed or renamed it
            continue
        if time.time() - last > STALE:
            shutil.rmtree(work, ignore_errors=True)
