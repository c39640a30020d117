"""The samples of a source as rows of a table with files beside it."""

import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.form import MaskForm
from limbeck.data.layout import FileImage, ImageRef, Record
from limbeck.data.mask import mask_share
from limbeck.data.parse import Unreadable
from limbeck.data.records import RecordSource
from limbeck.errors import DataError
from limbeck.runtime.files import writing

__all__ = ["VECTOR", "Sample", "samples_of", "write_mask"]

VECTOR = "caption_vector"  # the column of vectors of captions, where the data hold these

ENDINGS = (
    (rb"\x89PNG", ".png"),
    (rb"\xff\xd8", ".jpg"),
    (rb"GIF8", ".gif"),
    (rb"P6", ".ppm"),
    (rb"\x93NUMPY", ".npy"),
    (rb"RIFF....WEBP", ".webp"),
    (rb"RIFF", ".wav"),
    (rb"fLaC", ".flac"),
    (rb"OggS", ".ogg"),
)  # for people; readers look at the bytes themselves


@dataclass(frozen=True)
class Sample:
    """One sample of a source.

    Args:
        number: among all that are annotated.
        key: unique among them.
        record: where its bytes lie.
        label: the name of its class.
        meaning: of the numbers in its mask, see `MaskValues`.
    """

    number: int
    key: str
    record: Record
    label: str | None
    meaning: str

    @property
    def stem(self) -> str:
        """Names its files: unique, whatever the key, and readable."""
        return f"{self.number:06d}-{re.sub(r'[^A-Za-z0-9._-]+', '_', PurePosixPath(self.key).stem)[:60]}"

    def read(self, modality: str) -> bytes:
        """The bytes of a modality that it has.

        Raises:
            DataError: they can no longer be read.
        """
        ref = self.record.ref(modality)
        assert ref is not None
        try:
            return ref.read()
        except (Unreadable, OSError) as error:
            raise self.unreadable(modality, error) from error

    def unreadable(self, modality: str, error: Exception) -> DataError:
        """What to raise where bytes that were there cannot be used any more."""
        return DataError(
            f"the {modality} of {self.key} can no longer be read ({error}); mend it and give the same command again"
        )

    def row(self, folder: Path) -> dict[str, Any]:
        """Its row in the table, after its files were put into `folder`."""
        row: dict[str, Any] = {"key": self.key, "split": self.record.split}
        for modality in ("image", *sorted(set(self.record.others) - {"mask"})):
            ref = self.record.ref(modality)
            row |= {modality: self._placed(ref, folder, modality)} if ref else {}
        row |= {"caption": list(self.record.captions)} if self.record.captions else {}
        row |= {VECTOR: np.frombuffer(self.record.vector, np.float32).tolist()} if self.record.vector else {}
        row |= {"label": self.label} if self.label is not None else {}
        if self.record.ref("mask"):
            try:
                share = mask_share(self.read("mask"), self.meaning)
            except Unreadable as error:
                raise self.unreadable("mask", error) from error
            row["mask"] = write_mask(folder, self.stem, share)
        return row

    def _placed(self, ref: ImageRef, folder: Path, modality: str) -> str:
        """A second name of a file, its copy where that cannot be, or the bytes of what is no file of its own.

        No symbolic link: a table may only name what lies in its folder.
        """
        place = folder / ("images" if modality == "image" else modality)
        if not isinstance(ref, FileImage):
            data = self.read(modality)
            ending = next((ending for start, ending in ENDINGS if re.match(start, data, re.DOTALL)), "")
            return _put(place / f"{self.stem}{ending}", data)
        path = place / f"{self.stem}{Path(ref.path).suffix}"
        with writing(path):
            place.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)  # of a batch that was stopped: the folder is ours, and the name has our number
            with suppress(OSError, NotImplementedError):
                path.hardlink_to(os.path.realpath(ref.path))
                return f"{place.name}/{path.name}"
        return _put(path, self.read(modality))  # another file system, or one that makes no links


def samples_of(parts: Sequence[RecordSource]) -> list[Sample]:
    """The samples of several splits; a key that two of them share is told apart by its split."""
    keys = Counter(key for part in parts for key in part.keys)
    found: list[Sample] = []
    for part in parts:
        meaning = next((form.meaning for form in part.forms if isinstance(form, MaskForm)), "auto")
        for record in part.records:
            key = record.key if keys[record.key] == 1 else f"{record.split}/{record.key}"
            label = None if record.label is None else part.classes[record.label]
            found.append(Sample(len(found), key, record, label, meaning))
    return found


def write_mask(folder: Path, stem: str, share: NDArray[Any]) -> str:
    """Writes the mask `[H, W]` in [0, 1] with 8 bits; returns its name in `folder`."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.rint(255 * np.asarray(share, dtype=np.float64)).astype(np.uint8)).save(buffer, format="png")
    return _put(folder / "masks" / f"{stem}.png", buffer.getvalue())


def _put(path: Path, data: bytes) -> str:
    """Writes a file into a folder of the table; returns its name there. It may end up half: no row names it before it is whole."""
    with writing(path):
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)  # of a batch that was stopped; a link is not written through
        path.write_bytes(data)
    return f"{path.parent.name}/{path.name}"
