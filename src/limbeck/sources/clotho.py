"""Clotho: sounds of 15 to 30 seconds with five captions each."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from limbeck.data.columns import Columns
from limbeck.data.form import AudioRate, AudioSeconds, Form, Mels, SoundForm
from limbeck.data.layout import Layout, Listing
from limbeck.data.parse import Unreadable
from limbeck.data.regular import Place
from limbeck.data.rows import found_file, list_rows, translated
from limbeck.data.tables import Row, csv_rows
from limbeck.data.unread import SOUNDS, Unread
from limbeck.errors import DataError

__all__ = ["Clotho"]

PARTS = {"development": "train", "validation": "val", "evaluation": "test"}
LICENCE = "captions: Tampere University licence (non-commercial, with attribution); sounds: mostly CC, each its own"


@dataclass(frozen=True)
class Clotho(Layout):
    """The caption files of Clotho beside the folders of its sounds.

        clotho/
            clotho_captions_development.csv      file_name,caption_1,caption_2,caption_3,caption_4,caption_5
            development/Distorted AM Radio noise.wav
            clotho_captions_validation.csv       (version 2; without it, a tenth of train becomes val)
            validation/
            clotho_captions_evaluation.csv
            evaluation/

    Development is the split `train`, validation `val`, evaluation `test`. A part whose caption file is not there is left out.

    Args:
        path: the folder.
        resolution: not used.
        max_skipped: the largest share of unreadable records.
        workers: processes that decode.
        max_pixels: the largest image, mask or depth map that is decoded; larger ones are skipped and counted.
        captions: folder of the caption files, in `path`; by default `path` itself.
        audio: folder of the three folders of sounds, in `path`; by default `path` itself.
        audio_rate: samples a second, to which sounds are resampled.
        audio_seconds: length; longer sounds are cut at the end, shorter ones padded with silence.
        mels: bands of the log-mel spectrogram that stands for a sound; 0 for waveforms.

    Paper: Drossos, Lipping and Virtanen, Clotho: an audio captioning dataset, ICASSP 2020.
    """

    requires: ClassVar[tuple[tuple[str, str], ...]] = (("soundfile", "audio"),)

    captions: str = ""
    audio: str = ""
    audio_rate: AudioRate = 16000
    audio_seconds: AudioSeconds = 10.0
    mels: Mels = 64

    @property
    def forms(self) -> tuple[Form, ...]:
        """Of sounds."""
        return (SoundForm(self.audio_rate, self.audio_seconds, self.mels),)

    def read(self) -> Listing:
        """Lists the sounds that the caption files name and that exist."""
        root = self.root()
        tables = {part: root / self.captions / f"clotho_captions_{part}.csv" for part in PARTS}
        held = {part: table for part, table in tables.items() if table.is_file()}
        if not held:
            folder = (root / self.captions).absolute()
            raise DataError(
                f"{self.name}: no clotho_captions_development.csv, nor that of another part, in {folder}; "
                "name their folder with --source.captions (in Python captions=)"
            )
        unread = Unread()
        return list_rows(self._rows(held, unread), root, root / self.captions, LICENCE, unread=unread)

    def _rows(self, tables: dict[str, Path], unread: Unread) -> Iterator[Row]:
        for part, table in tables.items():
            folder = self.root() / self.audio / part
            if not folder.is_dir():
                raise DataError(
                    f"{self.name}: {table.name} is there, but no folder {folder.absolute()} with its sounds; unpack them, "
                    "or name the folder above it with --source.audio (in Python audio=)"
                )
            columns, named = Columns(table, ("audio", "caption"), unread=unread), set[str]()
            rows = translated(
                csv_rows(table), partial(_sound, columns=columns, folder=folder, named=named), PARTS[part]
            )
            yield from rows
            if columns.met and not any(role == "audio" for role, _ in columns.used):
                raise DataError(f"{table} has no column 'file_name'; it has {', '.join(columns.met)}")
            more = sum(f.suffix.lower() in SOUNDS and f.name not in named for f in folder.iterdir())
            unread.add("files", f"sounds of {part} that the table does not name", more) if more else None


def _sound(row: dict[str, str], columns: Columns, folder: Path, named: set[str]) -> dict[str, Any]:
    cells = columns.cells(row)
    if "audio" not in cells:
        raise Unreadable("no file_name")
    named.add(file := cells["audio"])
    sound = found_file(Place(folder), file, "audio")
    return {"key": f"{folder.name}/{file}", "audio": sound, "caption": cells.get("caption"), "split_from": "its files"}
