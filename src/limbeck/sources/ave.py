"""AVE: audio-visual events of 28 classes, in ten-second videos."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from limbeck.constraints import Share
from limbeck.data.clips import Clips, SoundSpan, clip_cells, cut_files, unused_clips
from limbeck.data.form import AudioRate, AudioSeconds, Form, ImageForm, Mels, SoundForm
from limbeck.data.layout import FileImage, Layout, Listing
from limbeck.data.parse import Unreadable
from limbeck.data.rows import list_rows, translated
from limbeck.data.tables import Row, csv_rows
from limbeck.errors import DataError

__all__ = ["Ave"]

LONGEST = 86400.0  # seconds of a video
COLUMNS = ("Category", "VideoID", "Quality", "StartTime", "EndTime")
SETS = {"trainSet.txt": "train", "valSet.txt": "val", "testSet.txt": "test"}
CUT = """mkdir -p audio frames
tail -n +2 Annotations.txt | tr -d '\\r' | while IFS='&' read -r _ id _ start end; do
  ffmpeg -nostdin -y -i "AVE/$id.mp4" -map 0:a -ac 1 "audio/$id.wav" \\
    -map 0:v -ss $(((start + end) / 2)) -frames:v 1 "frames/${id}_$start.jpg"
done"""


@dataclass(frozen=True)
class Ave(Layout):
    """The AVE dataset: a sample is an event, which has a class, a sound and a frame.

        AVE_Dataset/
            Annotations.txt          Category&VideoID&Quality&StartTime&EndTime, then a line an event
            trainSet.txt             such lines without the header; also valSet.txt, testSet.txt
            AVE/RUhOCu3LNXM.mp4      the videos, which are not decoded
            audio/RUhOCu3LNXM.wav    the sound of the whole video (or flac, ogg, mp3)
            frames/RUhOCu3LNXM.jpg   a frame (or png, webp); RUhOCu3LNXM_4.jpg: of the event that starts at 4 seconds

    The sound of a sample begins and ends with its event. Where sounds or frames are not there, the error tells the lines of
    ffmpeg that cut them. The three lists are kept as they are, even where they share a video; without them, events are split
    80/10/10 by the hash of their video. Of events of one video that start together the first is kept.

    Args:
        path: the folder.
        resolution: pixels a side.
        max_skipped: the largest share of events that may be skipped: those of videos that are lacking or cannot be read,
            and those that start together with another one.
        workers: processes that decode.
        max_pixels: the largest image, mask or depth map that is decoded; larger ones are skipped and counted.
        audio: folder of the sounds, in `path`; empty to leave them out.
        frames: folder of the frames, in `path`; empty to leave them out.
        audio_rate: samples a second, to which sounds are resampled.
        audio_seconds: length; longer sounds are cut at the end, shorter ones padded with silence.
        mels: bands of the log-mel spectrogram that stands for a sound; 0 for waveforms.

    Paper: Tian et al., Audio-visual event localization in unconstrained videos, ECCV 2018.
    """

    requires: ClassVar[tuple[tuple[str, str], ...]] = (("soundfile", "audio"),)

    max_skipped: Share = 0.05
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
        """Lists the events whose sound and frame exist."""
        root = self.root()
        if not any((root / file).is_file() for file in (*SETS, "Annotations.txt")):
            raise DataError(
                f"{self.name}: neither {', '.join(SETS)} nor Annotations.txt in {root.absolute()}; check the path"
            )
        clips = cut_files(self.name, root, {"audio": self.audio, "frames": self.frames}, CUT)
        again = "another event of its video starts together with it"
        listing = list_rows(self._rows(clips), root, root / "Annotations.txt", again=again)
        return replace(listing, unread=unused_clips(clips, listing.records))

    def _rows(self, clips: Clips) -> Iterator[Row]:
        root = self.root()
        lists = {file: split for file, split in SETS.items() if (root / file).is_file()}
        for file, split in lists.items() or [("Annotations.txt", None)]:
            rows = csv_rows(root / file, columns=COLUMNS, separator="&")
            yield from translated(rows, partial(_event, clips=clips), split)


def _event(row: dict[str, str], clips: Clips) -> dict[str, Any]:
    video, start = row["VideoID"], row["StartTime"]
    cells: dict[str, Any] = clip_cells(clips, f"{video}_{start}", video)
    try:
        span = float(start), float(row["EndTime"])
    except ValueError:
        raise Unreadable("start or end is no number") from None
    if not span[1] < LONGEST:
        raise Unreadable("start or end is no time within a day")
    if not 0 <= span[0] < span[1]:
        raise Unreadable("ends before it starts")
    sound = cells.get("audio")
    if isinstance(sound, Path) and sound.stem == video:
        cells["audio"] = SoundSpan(FileImage.of(sound), *span)
    return {**cells, "key": f"{video}_{start}", "group": video, "label": row["Category"], "split_from": "its lists"}
