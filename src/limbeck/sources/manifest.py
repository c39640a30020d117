"""A table with one column a modality: image, audio, depth, mask, captions, in any mix."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from limbeck.data.form import DepthForm, Form, ImageForm, MaskForm, SoundForm
from limbeck.data.layout import Layout, Listing, Record
from limbeck.data.rows import FILES, list_rows, translated
from limbeck.data.tables import csv_rows, jsonl_rows, parquet_rows
from limbeck.errors import ConfigError, DataError, MissingDependency
from limbeck.spaces.encoders.vectors import Vectors

__all__ = ["Manifest"]

USUAL = {
    "image": ("image",),
    "audio": ("audio",),
    "depth": ("depth",),
    "mask": ("mask",),
    "caption": ("caption", "captions", "text"),
    "caption_vectors": (),
    "label": ("label", "class"),
    "split_column": ("split",),
    "key": ("key", "id"),
}
READERS: dict[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    ".jsonl": jsonl_rows,
    ".csv": csv_rows,
    ".parquet": parquet_rows,
}


@dataclass(frozen=True)
class Manifest(Layout):
    """A JSON-lines, CSV or Parquet table with one column a modality, for audio-visual, RGB-D, masked and other sets.

        clips/
            clips.jsonl      {"image": "a.jpg", "audio": "a.wav", "caption": "a dog barks", "label": "dog", "split": "train"}
            a.jpg            (or clips.csv, clips.parquet with those columns)
            a.wav

    Cells of image, audio, depth and mask are paths relative to the table (in Parquet also encoded bytes); captions and labels
    are values, captions also lists. A mask is as large as its image; it may also be COCO's runs, `{"size": [height, width],
    "counts": ...}`, its polygons, `{"size": ..., "polygons": ...}`, or a list of these. An empty cell means that the sample lacks the modality. A sample's key is that of its
    key column, else the names of its files, else its row. Rows of one key, files, split and label are joined, with the
    captions of all. Without splits of their own, samples are split 80/10/10 by the hash of their key.

    Args:
        path: the table.
        resolution: pixels a side, of images, depth and masks.
        max_skipped: the largest share of unreadable records.
        workers: processes that decode.
        image: column of the images; by default `image` where there is one.
        audio: column of the sounds; by default `audio`.
        depth: column of the depth maps; by default `depth`.
        mask: column of the masks of objects; by default `mask`.
        caption: column of the captions; by default `caption`, `captions` or `text`.
        caption_vectors: column of vectors in place of captions, which the encoder `vectors:D` reads: lists of D numbers, or
            names of NPY files of shape `[D]`. A sample has one, beside at most one caption, which then is for people alone; by
            default none.
        label: column of the label; by default `label` or `class`.
        split_column: column of the split; by default `split`.
        key: column of the key; by default `key` or `id`.
        audio_rate: samples a second, to which sounds are resampled.
        audio_seconds: length; longer sounds are cut at the end, shorter ones padded with silence.
        mels: bands of the log-mel spectrogram that stands for a sound; 0 for waveforms.
        depth_unit: of the depth files: m, cm, mm, metres a count (such as 0.0002), or disparity:FACTOR, where the factor
            is baseline (m) times focal length (pixels).
        depth_far: metres; what is farther is put there.
        mask_values: what is object in a mask file: auto (255, or, where all numbers are small, all but 0), soft (number / 255),
            nonzero, trimap (1 object, 2 background, 3 border, a half), or numbers such as 1,4,7.

    Raises:
        ConfigError: an option that cannot be.
    """

    image: str = ""
    audio: str = ""
    depth: str = ""
    mask: str = ""
    caption: str = ""
    caption_vectors: str = ""
    label: str = ""
    split_column: str = ""
    key: str = ""
    audio_rate: int = 16000
    audio_seconds: float = 2.0
    mels: int = 64
    depth_unit: str = ""
    depth_far: float = 10.0
    mask_values: str = "auto"

    @property
    def forms(self) -> tuple[Form, ...]:
        """Of images, sounds, masks and, where their unit is named, depth maps."""
        sound = SoundForm(self.audio_rate, self.audio_seconds, self.mels)
        depth = (DepthForm(self.resolution, self.depth_unit, self.depth_far),) if self.depth_unit else ()
        return (ImageForm(self.resolution), sound, *depth, MaskForm(self.resolution, self.mask_values))

    def read(self) -> Listing:
        """Lists the rows whose files exist."""
        table = self.root()
        if not table.is_file() or table.suffix.lower() not in READERS:
            known = ", ".join(READERS)
            raise DataError(f"{self.name}: {table.absolute()} is no table; a manifest is a file that ends in {known}")
        columns: set[str] = set()
        rows = translated(READERS[table.suffix.lower()](table), partial(self._cells, columns=columns))
        listing = list_rows(rows, table.parent, table)
        self._refuse(table, columns, listing.records)
        length = next((len(record.vector) // 4 for record in listing.records if record.vector), 0)
        return replace(listing, embedded_by={"text": Vectors(str(length), "text").fingerprint} if length else {})

    def _cells(self, row: Mapping[str, Any], columns: set[str]) -> dict[str, Any]:
        """What the row holds under each of our names, without the empty cells; its columns are added to `columns`."""
        columns |= set(row)
        cells: dict[str, Any] = {}
        for ours, usual in USUAL.items():
            named = (getattr(self, ours),) if getattr(self, ours) else usual
            held = [row[column] for column in named if not _empty(row.get(column))]
            cells |= {ours.removesuffix("_column"): held[0]} if held else {}
        if self.caption_vectors and "caption_vectors" not in cells:
            cells.pop("caption", None)  # no encoder reads both
        return cells

    def _refuse(self, table: Path, columns: set[str], records: Sequence[Record]) -> None:
        """Refuses what would otherwise be found out late, or never."""
        for ours in USUAL:
            column = getattr(self, ours)
            if column and column not in columns:
                raise DataError(
                    f"{table} has no filled column {column!r}; it has {', '.join(sorted(columns)) or 'none'}"
                )
        for ours in FILES:
            if getattr(self, ours) and records and not any(record.ref(ours) for record in records):
                raise DataError(f"{self.name}: no row holds a file in the column {getattr(self, ours)!r}")
        if not self.depth_unit and any(record.ref("depth") for record in records):
            raise ConfigError(
                f"{self.name} holds depth, whose unit no file tells; name it with --source.depth_unit (in Python depth_unit=): "
                "m, cm, mm, metres a count such as 0.0002, or disparity:FACTOR"
            )
        if any(record.ref("audio") for record in records) and find_spec("soundfile") is None:
            raise MissingDependency("decoding audio", "soundfile", "audio")


def _empty(value: object) -> bool:
    return value is None or value == "" or value == [] or (isinstance(value, float) and math.isnan(value))
