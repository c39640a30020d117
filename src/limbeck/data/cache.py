"""A content-addressed store of tensors: the key is a digest of everything that made the value, never a name."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

__all__ = ["Cache", "digest"]


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


class Cache:
    """Folders of content-addressed entries, written whole or not at all.

    Args:
        root: where the entries live; by default `$LIMBECK_CACHE`, else the user's cache folder.

    Example:
        >>> import torch
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
        """
        final = self.path(kind, key)
        if final.is_dir():
            return final
        final.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{key[:8]}-", dir=final.parent))
        try:
            make(work)
            try:
                work.rename(final)
            except OSError:
                if not final.is_dir():
                    raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return final

    def tensors(self, kind: str, key: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The named tensors of the entry, made by `make()` where they are missing."""
        from safetensors.torch import load_file, save_file

        def write(folder: Path) -> None:
            save_file({k: v.detach().cpu().contiguous() for k, v in make().items()}, folder / "tensors.safetensors")

        return load_file(self.entry(kind, key, write) / "tensors.safetensors")
