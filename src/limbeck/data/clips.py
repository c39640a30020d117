"""Sounds and frames that were cut out of videos, found by the names of the clips. Videos themselves are not decoded."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.data.audio import cut_audio
from limbeck.data.layout import FileImage, ImageRef, Record
from limbeck.data.parse import Unreadable
from limbeck.data.regular import Place
from limbeck.errors import ConfigError, DataError

__all__ = ["Clips", "SoundSpan", "clip_cells", "cut_files", "unused_clips"]

Clips = Mapping[str, Mapping[str, Path]]  # modality to name without extension to file

KINDS = {
    "audio": ("audio", "sound", (".wav", ".flac", ".ogg", ".mp3")),
    "frames": ("image", "frame", (".jpg", ".jpeg", ".png", ".webp")),
}


@dataclass(frozen=True)
class SoundSpan(ImageRef):
    """A part of a sound file.

    Args:
        file: the whole.
        start, stop: seconds.
    """

    file: FileImage
    start: float
    stop: float

    def read(self) -> bytes:
        """The part, as a WAV file."""
        return cut_audio(self.file.read(), self.start, self.stop)

    @property
    def stamp(self) -> tuple[Any, ...]:
        """That of the file, and the part."""
        return *self.file.stamp, self.start, self.stop


def cut_files(name: str, root: Path, folders: Mapping[str, str], commands: str) -> Clips:
    """The files of each modality.

    Args:
        name: of the source.
        root: the folder of the dataset.
        folders: the options `audio` and `frames`: a folder in `root`, or empty for a modality that is left out.
        commands: shell lines that make both folders out of the videos.

    Raises:
        ConfigError: both are left out.
        DataError: a folder that is not there, or holds no such file.
    """
    held: dict[str, dict[str, Path]] = {}
    for option, given in folders.items():
        modality, what, endings = KINDS[option]
        if not given:
            continue
        folder = root / given
        files = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []  # of two endings, the first stays
        place = Place(folder)
        held[modality] = {file.stem: file for file in files if file.suffix.lower() in endings and _within(place, file)}
        if not held[modality]:
            raise DataError(
                f"{name}: no {what} ({', '.join(endings)}) in {folder.absolute()}; name their folder with "
                f"--source.{option} (in Python {option}=), '' to leave them out. Videos are not decoded: cut them in "
                f"{root.absolute()} with\n\n{commands}"
            )
    if not held:
        raise ConfigError(f"{name}: {' and '.join(folders)} are both left out; a clip needs one of them")
    return held


def _within(place: Place, file: Path) -> bool:
    """Whether a file lies in the folder also after links are followed; a clip that does not is lacking."""
    try:
        place.check(file)
    except Unreadable:
        return False
    return True


def unused_clips(clips: Clips, records: Sequence[Record]) -> dict[str, dict[str, int]]:
    """How many files of each modality no sample was made of."""
    used = {str(ref.stamp[0]) for record in records for m in clips if (ref := record.ref(m))}
    left = {m: sum(os.path.abspath(file) not in used for file in files.values()) for m, files in clips.items()}
    return {"files": {f"{m} of no sample": count for m, count in left.items() if count}} if any(left.values()) else {}


def clip_cells(clips: Clips, *names: str) -> dict[str, Path | Unreadable]:
    """The file of each modality for the first of these names that has one; a modality without one is `missing`."""
    return {
        modality: next((files[name] for name in names if name in files), Unreadable("missing"))
        for modality, files in clips.items()
    }
