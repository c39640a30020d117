"""Sounds and frames that were cut out of videos, found by the names of the clips. Videos themselves are not decoded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.data.audio import cut_audio
from limbeck.data.layout import FileImage, ImageRef
from limbeck.data.parse import Unreadable
from limbeck.errors import ConfigError, DataError

__all__ = ["Clips", "SoundSpan", "clip_cells", "cut_files"]

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
        held[modality] = {file.stem: file for file in files if file.suffix.lower() in endings}
        if not held[modality]:
            raise DataError(
                f"{name}: no {what} ({', '.join(endings)}) in {folder.absolute()}; name their folder with "
                f"--source.{option} (in Python {option}=), '' to leave them out. Videos are not decoded: cut them in "
                f"{root.absolute()} with\n\n{commands}"
            )
    if not held:
        raise ConfigError(f"{name}: {' and '.join(folders)} are both left out; a clip needs one of them")
    return held


def clip_cells(clips: Clips, *names: str) -> dict[str, Path | Unreadable]:
    """The file of each modality for the first of these names that has one; a modality without one is `missing`."""
    return {
        modality: next((files[name] for name in names if name in files), Unreadable("missing"))
        for modality, files in clips.items()
    }
