"""Decoded values on disk: filled once by worker processes, read by memory map ever after."""

import errno
import hashlib
import json
import multiprocessing
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.decode import pixel_limit
from limbeck.data.form import Form
from limbeck.data.layout import ImageRef
from limbeck.data.parse import Unreadable
from limbeck.errors import DataError, LimbeckWarning, OutOfMemory, StorageError
from limbeck.runtime.cache import Contents, asked, digest, writing
from limbeck.runtime.runtime import Runtime

__all__ = ["Store", "open_store"]

CHUNK = 32  # files a message from a worker
FEW = 512  # below so many files, starting processes takes longer than decoding

Found = tuple[dict[str, Any], Path]  # what `index.json` of an `opened` entry says, and the file of the values
Decoded = tuple[str, bytes | None, str]  # digest of the file ("" where it cannot be read), values, reason


@dataclass(frozen=True)
class Store:
    """The values of a list of references.

    Args:
        pixels: `[I, *shape]` of the form, one row for each reference that is not `None` and did not fail, in order.
        digests: SHA-256 of the encoded bytes of each reference; `None` where there is no reference.
        failed: position to reason, for the references that could not be decoded.
    """

    pixels: NDArray[Any]
    digests: Sequence[str | None]
    failed: Mapping[int, str]


def open_store(
    images: Sequence[ImageRef | None], form: Form, workers: int | None, split: str, runtime: Runtime
) -> Store:
    """Opens the store of these files, decoding them first where that has not been done.

    Two cache entries: `opened`, keyed by the cheap stamps of the files, names the digests and failures; `pixels`, keyed
    by those digests, holds the values. So an unchanged dataset is opened without reading a file, and moved or copied
    data share one store. An entry that is not as it was written is made anew. Files that could not be read at all (not: not
    decoded) are tried again at each opening; once one can be read, the split is decoded anew. Within `cache.verifying` all files
    are read, and compared with their digests; once one differs, the split is decoded anew.

    Args:
        images: references; `None` for a sample without the modality.
        form: into what they are decoded.
        workers: decoding processes; `None` for one a core, and none for few files.
        split: named in the progress.
        runtime: whose cache holds both entries, and who hears of progress.

    Raises:
        StorageError: the cache cannot be written.
        DataError: a worker process died.
    """
    stamps = [None if ref is None else list(ref.stamp) for ref in images]
    quick = digest("opened", *form.parts, stamps, *form.stamps)
    with writing(runtime.cache.root):  # readers turn their errors into reasons, so these are the cache's
        found = _opened(images, quick, split, runtime)
        if found is None:
            found = _fill(images, form, workers, quick, _what(form, split), runtime)
    index, path = found
    try:
        raw = np.memmap(path, dtype=form.dtype, mode="r") if path.stat().st_size else np.zeros(0, form.dtype)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read ({error.strerror}): something else removed it meanwhile; give the same command again"
        ) from error
    return Store(
        raw.reshape(-1, *form.modality.shape),
        index["digests"],
        {int(i): reason for i, reason in index["failed"].items()},
    )


def _opened(images: Sequence[ImageRef | None], quick: str, split: str, runtime: Runtime) -> Found | None:
    """What the cache holds of these files; `None` where it holds nothing, or what it holds is no longer so."""
    opened = runtime.cache.whole("opened", quick)
    if opened is None:
        return None
    index = json.loads((opened / "index.json").read_text(encoding="utf-8"))
    pixels = runtime.cache.whole("pixels", index["content"])
    unread = [images[int(i)] for i in index["failed"] if not index["digests"][int(i)]]
    if pixels is None or any(map(_can_be_read, unread)):
        return None
    if (contents := asked()) and contents.first(quick) and _changed(images, index["digests"], contents, split, runtime):
        return None
    return index, pixels / "pixels.bin"


def _changed(
    images: Sequence[ImageRef | None], digests: Sequence[str | None], contents: Contents, split: str, runtime: Runtime
) -> bool:
    """Reads every file: whether one holds other bytes than those with these digests."""
    changed = []
    for i, (image, sha) in enumerate(zip(images, digests, strict=True), start=1):
        if image is not None and sha:
            contents.files += 1
            try:
                now = hashlib.sha256(image.read()).hexdigest()
            except (OSError, Unreadable):
                now = ""
            if now != sha:
                changed.append(image)
        if i % CHUNK == 0 or i == len(images):
            runtime.report(f"comparing {split}", i, len(images))
    contents.changed += len(changed)
    if changed:
        warnings.warn(
            f"{len(changed)} files of {split} hold other bytes than when they were decoded, with their size and times kept; the first "
            f"is {changed[0].stamp[0]}; they are decoded anew",
            LimbeckWarning,
            stacklevel=2,
        )
    return bool(changed)


def _what(form: Form, split: str) -> str:
    name = form.modality.name
    return f"decoding {split}" if name == "image" else f"decoding {name} of {split}"


def _can_be_read(image: ImageRef | None) -> bool:
    try:
        return image is not None and image.read() is not None
    except (OSError, Unreadable):
        return False


def _fill(
    images: Sequence[ImageRef | None], form: Form, workers: int | None, quick: str, what: str, runtime: Runtime
) -> Found:
    """Decodes all files into the cache."""
    at = [i for i, ref in enumerate(images) if ref is not None]
    digests: list[str | None] = [None] * len(images)
    failed: dict[int, str] = {}
    with runtime.cache.work() as work:
        with (work / "pixels.bin").open("wb") as file:
            for done, (i, (sha, pixels, reason)) in enumerate(
                zip(at, decode_all([images[i] for i in at], form, workers), strict=True), start=1
            ):
                digests[i] = sha
                if pixels is None:
                    failed[i] = reason
                else:
                    file.write(pixels)
                if done % CHUNK == 0 or done == len(at):
                    runtime.report(what, done, len(at))
        content = digest("pixels", *form.parts, [d for i, d in enumerate(digests) if d and i not in failed])
        moved = work / "pixels.bin"  # just written, and put into an entry that is new
        entry = runtime.cache.put("pixels", content, lambda folder: os.replace(moved, folder / moved.name))
    index = {"content": content, "digests": digests, "failed": failed}

    def write(folder: Path) -> None:
        (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")

    runtime.cache.put("opened", quick, write, anew=True)
    return index, entry / "pixels.bin"


def decode_all(images: Sequence[ImageRef | None], form: Form, workers: int | None) -> Iterator[Decoded]:
    """Decodes the files in order, in worker processes.

    Raises:
        DataError: a worker process died.
        OutOfMemory: it, or this process, ran out of memory.
    """
    import torch
    from torch.utils.data import DataLoader

    if workers is None:
        workers = _cores() if len(images) >= FEW and starts_safely() else 0
    loader: DataLoader[Decoded] = DataLoader(
        _Decoder(form),  # type: ignore[arg-type]
        # The files travel as what is asked for, not with the data set: a process that is spawned is sent that through a pipe, and
        # where it dies before it reads, the sender waits for ever on a pipe that is full.
        sampler=images,
        batch_size=CHUNK,
        num_workers=workers,
        collate_fn=_as_is,
        generator=torch.Generator().manual_seed(0),  # else it draws from the global one
    )
    try:
        for chunk in loader:
            yield from chunk
    except (MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOMEM, errno.EAGAIN):
            raise
        raise OutOfMemory(
            f"memory ran out while files were decoded: {_last_line(error)}; use fewer processes (--source.workers 1, in Python "
            "workers=1), or lower max_pixels"
        ) from error
    except RuntimeError as error:
        if workers:
            raise DataError(
                f"a decoding process died ({error}). If memory ran out, use fewer of them (--source.workers 1, in Python workers=1); "
                "if a script started it, put what that does under if __name__ == '__main__':, or use workers=0"
            ) from error
        raise


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["the system said no more"])[-1]


def starts_safely() -> bool:
    """Whether worker processes can be started without running a person's script again.

    Where processes are forked they are copies. Elsewhere (`spawn`, `forkserver`) they import the main module anew, and a
    script that does its work at the top level would do it again: only where that module is Limbeck's own command, or there is
    none (a notebook, `python -c`), nothing is run. A process that is itself a worker starts no others.
    """
    if multiprocessing.current_process().daemon:
        return False
    methods = multiprocessing.get_all_start_methods()
    if (multiprocessing.get_start_method(allow_none=True) or methods[0]) == "fork":
        return True
    main = sys.modules.get("__main__")
    if (spec := getattr(main, "__spec__", None)) is not None:
        return bool(spec.name.partition(".")[0] == "limbeck")
    file = getattr(main, "__file__", None)
    return file is None or Path(file).stem == "limbeck"


@dataclass(frozen=True)
class _Decoder:
    """What a worker process does: file to digest, values or reason."""

    form: Form

    def __getitem__(self, image: ImageRef) -> Decoded:
        sha = ""
        try:
            with pixel_limit(self.form.max_pixels):
                data = image.read()
                sha = hashlib.sha256(data).hexdigest()
                return sha, self.form.decode(data).tobytes(), ""
        except Unreadable as error:
            return sha, None, str(error)
        except OSError as error:
            return sha, None, "missing" if isinstance(error, FileNotFoundError) else "cannot be read"
        except MemoryError as error:
            raise MemoryError(f"{image.stamp[0]}") from error


def _as_is(chunk: list[Decoded]) -> list[Decoded]:
    # Bytes travel through the pipe, not through shared memory, which containers often keep tiny.
    return chunk


def _cores() -> int:
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
