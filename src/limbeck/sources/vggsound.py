"""VGGSound: ten-second clips of 309 classes of sound whose source is seen."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from limbeck.constraints import Share
from limbeck.data.clips import Clips, clip_cells, cut_files, unused_clips
from limbeck.data.form import AudioRate, AudioSeconds, Form, ImageForm, Mels, SoundForm
from limbeck.data.layout import Layout, Listing
from limbeck.data.parse import Unreadable
from limbeck.data.rows import list_rows, translated
from limbeck.data.tables import csv_rows
from limbeck.errors import ConfigError, DataError

__all__ = ["VGGSound"]

COLUMNS = ("video", "start", "label", "split")
LICENCE = "CC BY 4.0 (the list; each video belongs to its owner)"
CUT = """mkdir -p audio frames
for file in video/*.mp4; do
  name=$(basename "$file" .mp4)
  ffmpeg -nostdin -y -i "$file" -map 0:a -ac 1 "audio/$name.wav" -map 0:v -ss 5 -frames:v 1 "frames/$name.jpg"
done"""


@dataclass(frozen=True)
class VGGSound(Layout):
    """The list of VGGSound beside the sounds and frames of those clips that could be had.

        vggsound/
            vggsound.csv                     no header: ---g-f_I2yQ,1,people marching,train
            video/---g-f_I2yQ_000001.mp4     the clips, which are not decoded
            audio/---g-f_I2yQ_000001.wav     their sounds (or flac, ogg, mp3): video, start in six digits
            frames/---g-f_I2yQ_000001.jpg    a frame of each (or png, webp)

    Many of the videos have left YouTube: clips of which a file is lacking are skipped and counted. Where there are no sounds
    or frames at all, the error tells the lines of ffmpeg that cut them. A tenth of train becomes `val` by the hash of the
    clip. The ten classes known as VGGS-10K are chicken crowing; toilet flushing; playing acoustic guitar; playing piano;
    ocean burbling; fireworks banging; child speech, kid speaking; basketball bounce; police radio chatter; driving buses.

    Args:
        path: the folder, or the list in it.
        resolution: pixels a side.
        max_skipped: the largest share of clips that may be lacking or unreadable.
        workers: processes that decode.
        max_pixels: the largest image, mask or depth map that is decoded; larger ones are skipped and counted.
        classes: only clips of these classes; by default of all. Some names hold commas: on the command line give a list in
            brackets, `'["cat purring", "child speech, kid speaking"]'`.
        audio: folder of the sounds, beside the list; empty to leave them out.
        frames: folder of the frames, beside the list; empty to leave them out.
        audio_rate: samples a second, to which sounds are resampled.
        audio_seconds: length; longer sounds are cut at the end, shorter ones padded with silence.
        mels: bands of the log-mel spectrogram that stands for a sound; 0 for waveforms.

    Raises:
        ConfigError: classes that are no list of names, or one that `vggsound.csv` does not have.

    Paper: Chen et al., VGGSound: a large-scale audio-visual dataset, ICASSP 2020.
    """

    requires: ClassVar[tuple[tuple[str, str], ...]] = (("soundfile", "audio"),)

    max_skipped: Share = 0.5
    classes: Sequence[str] = ()
    audio: str = "audio"
    frames: str = "frames"
    audio_rate: AudioRate = 16000
    audio_seconds: AudioSeconds = 2.0
    mels: Mels = 64

    @property
    def forms(self) -> tuple[Form, ...]:
        """Of frames and sounds."""
        return (ImageForm(self.resolution), SoundForm(self.audio_rate, self.audio_seconds, self.mels))

    def read(self) -> Listing:
        """Lists the clips of the wanted classes whose sound and frame exist."""
        root = self.root()
        table = root / "vggsound.csv" if root.is_dir() else root
        if not table.is_file():
            raise DataError(f"{self.name}: no {table.name} in {root.absolute()}; give the path of the list")
        rows = list(csv_rows(table, columns=COLUMNS))
        known = {row["label"] for _, row in rows if isinstance(row, dict) and "label" in row}
        for name in self.classes:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
                hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"it has {len(known)} classes."
                raise ConfigError(f"{self.name}: {table} has no class {name!r}; {hint}")
        if self.classes:
            rows = [(where, row) for where, row in rows if isinstance(row, dict) and row.get("label") in self.classes]
        clips = cut_files(self.name, table.parent, {"audio": self.audio, "frames": self.frames}, CUT)
        listing = list_rows(translated(rows, partial(_clip, clips=clips)), table.parent, table, LICENCE)
        return listing if self.classes else replace(listing, unread=unused_clips(clips, listing.records))


def _clip(row: dict[str, str], clips: Clips) -> dict[str, Any]:
    video, start = row["video"], row["start"]
    if not (start.isascii() and start.isdigit() and len(start) <= 6):
        raise Unreadable("start is no whole number of seconds")
    key = f"{video}_{int(start):06d}"
    return {
        **clip_cells(clips, key),
        "key": key,
        "label": row["label"],
        "split": row["split"],
        "split_from": "its list",
    }
