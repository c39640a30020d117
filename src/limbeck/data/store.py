"""Decoded pixels on disk: filled once by worker processes, read by memory map ever after."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.cache import Cache, digest, writing
from limbeck.data.decode import DECODER, decode_image, lacking_formats
from limbeck.data.layout import ImageRef
from limbeck.data.parse import Unreadable
from limbeck.errors import DataError

__all__ = ["Store", "open_store"]

CHUNK = 32  # images a message from a worker
FEW = 512  # below so many images, starting processes takes longer than decoding

Decoded = tuple[str, bytes | None, str]  # digest of the file ("" where it cannot be read), pixels, reason


@dataclass(frozen=True)
class Store:
    """The images of a list of references.

    Args:
        pixels: `uint8 [I, 3, R, R]`, one row for each reference that is not `None` and did not fail, in order.
        digests: SHA-256 of the encoded bytes of each reference; `None` where there is no reference.
        failed: position to reason, for the references that could not be decoded.
    """

    pixels: NDArray[np.uint8]
    digests: Sequence[str | None]
    failed: Mapping[int, str]


def open_store(
    images: Sequence[ImageRef | None],
    resolution: int,
    workers: int | None,
    cache: Cache,
    split: str,
    tick: Callable[[str, int, int], None] | None = None,
) -> Store:
    """Opens the store of these images, decoding them first where that has not been done.

    Two cache entries: `opened`, keyed by the cheap stamps of the files, names the digests and failures; `pixels`, keyed
    by those digests, holds the pixels. So an unchanged dataset is opened without reading an image, and moved or copied
    data share one store. Images that could not be read at all (not: not decoded) are tried again at each opening; once
    one can be read, the split is decoded anew.

    Args:
        images: references; `None` for a sample without an image.
        resolution: R, pixels a side.
        workers: decoding processes; `None` for one a core, and none for few images.
        cache: where both entries live.
        split: named in the progress.
        tick: called with (what, done, total).

    Raises:
        StorageError: the cache cannot be written.
        DataError: a worker process died.
    """
    stamps = [None if ref is None else list(ref.stamp) for ref in images]
    lacking = lacking_formats()
    quick = digest("opened", DECODER, resolution, stamps, *([lacking] if lacking else []))
    index = cache.path("opened", quick)
    with writing(cache.root):  # readers turn their errors into reasons, so these are the cache's
        if index.is_dir() and not _holds(_index(index), images, cache):
            shutil.rmtree(index)
        if not index.is_dir():
            index = _fill(images, resolution, workers, cache, quick, f"decoding {split}", tick)
    found = _index(index)
    path = cache.path("pixels", found["content"]) / "pixels.bin"
    shape = (-1, 3, resolution, resolution)
    raw = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.zeros(0, np.uint8)
    return Store(raw.reshape(shape), found["digests"], {int(i): reason for i, reason in found["failed"].items()})


def _holds(found: Any, images: Sequence[ImageRef | None], cache: Cache) -> bool:
    """Whether an `opened` entry still tells the truth: its pixels are there, and what was unreadable still is."""
    unread = [images[int(i)] for i in found["failed"] if not found["digests"][int(i)]]
    return cache.path("pixels", found["content"]).is_dir() and not any(map(_can_be_read, unread))


def _can_be_read(image: ImageRef | None) -> bool:
    try:
        return image is not None and image.read() is not None
    except (OSError, Unreadable):
        return False


def _index(folder: Path) -> Any:
    return json.loads((folder / "index.json").read_text(encoding="utf-8"))


def _fill(
    images: Sequence[ImageRef | None],
    resolution: int,
    workers: int | None,
    cache: Cache,
    quick: str,
    what: str,
    tick: Callable[[str, int, int], None] | None,
) -> Path:
    """Decodes all images into the cache; returns the folder of the `opened` entry."""
    at = [i for i, ref in enumerate(images) if ref is not None]
    digests: list[str | None] = [None] * len(images)
    failed: dict[int, str] = {}
    with cache.work(cache.root, "decode") as work:
        with (work / "pixels.bin").open("wb") as file:
            for done, (i, (sha, pixels, reason)) in enumerate(
                zip(at, decode_all([images[i] for i in at], resolution, workers), strict=True), start=1
            ):
                digests[i] = sha
                if pixels is None:
                    failed[i] = reason
                else:
                    file.write(pixels)
                if tick and (done % CHUNK == 0 or done == len(at)):
                    tick(what, done, len(at))
        content = digest("pixels", DECODER, resolution, [d for i, d in enumerate(digests) if d and i not in failed])
        cache.entry("pixels", content, lambda folder: os.replace(work / "pixels.bin", folder / "pixels.bin"))
    text = json.dumps({"content": content, "digests": digests, "failed": failed})

    def write(folder: Path) -> None:
        (folder / "index.json").write_text(text, encoding="utf-8")

    return cache.entry("opened", quick, write)


def decode_all(images: Sequence[ImageRef | None], resolution: int, workers: int | None) -> Iterator[Decoded]:
    """Decodes the images in order, in worker processes."""
    import torch
    from torch.utils.data import DataLoader

    if workers is None:
        workers = 0 if len(images) < FEW else _cores()
    loader: DataLoader[Decoded] = DataLoader(
        _Images(images, resolution),  # type: ignore[arg-type]
        batch_size=CHUNK,
        num_workers=workers,
        collate_fn=_as_is,
        generator=torch.Generator().manual_seed(0),  # else it draws from the global one
    )
    try:
        for chunk in loader:
            yield from chunk
    except RuntimeError as error:
        if workers:
            guard = "if __name__ == '__main__':"
            raise DataError(
                f"a decoding process died ({error}); use workers=0, or put the script under {guard}"
            ) from error
        raise


class _Images:
    """What a worker process sees: position to digest, pixels or reason."""

    def __init__(self, images: Sequence[ImageRef | None], resolution: int) -> None:
        self.images, self.resolution = images, resolution

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Decoded:
        image = self.images[position]
        assert image is not None
        sha = ""
        try:
            data = image.read()
            sha = hashlib.sha256(data).hexdigest()
            return sha, decode_image(data, self.resolution).tobytes(), ""
        except Unreadable as error:
            return sha, None, str(error)
        except OSError as error:
            return sha, None, "missing" if isinstance(error, FileNotFoundError) else "cannot be read"


def _as_is(chunk: list[Decoded]) -> list[Decoded]:
    # Bytes travel through the pipe, not through shared memory, which containers often keep tiny.
    return chunk


def _cores() -> int:
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
