"""A table with one column a modality: image, audio, depth, mask, captions, in any mix."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from limbeck.data.columns import Columns, known_names
from limbeck.data.form import AudioRate, AudioSeconds, DepthFar, DepthForm, Form, ImageForm, MaskForm, Mels, SoundForm
from limbeck.data.layout import Listing, NamedLayout
from limbeck.data.regular import Place
from limbeck.data.rows import list_rows, translated
from limbeck.data.tables import TABLES, table_rows
from limbeck.data.unread import Unread, is_empty, kind_of
from limbeck.errors import ConfigError, DataError, MissingDependency
from limbeck.spaces.encoders.vectors import Vectors

__all__ = ["Manifest"]

ROLES = ("image", "audio", "depth", "mask", "caption", "caption_vectors", "label", "class", "split", "key")


@dataclass(frozen=True)
class Manifest(NamedLayout):
    """A table with one column a modality, for audio-visual, RGB-D, masked and other sets: JSON lines, CSV, TSV or Parquet.

        clips/
            clips.jsonl      {"image": "a.jpg", "audio": "a.wav", "caption": "a dog barks", "label": "dog", "split": "train"}
            a.jpg            (or clips.csv, clips.tsv, clips.parquet with those columns)
            a.wav

    Cells of image, audio, depth and mask are paths relative to the table (in Parquet also encoded bytes); captions and labels
    are values, captions also lists. A mask is as large as its image; it may also be COCO's runs, `{"size": [height, width],
    "counts": ...}`, its polygons, `{"size": ..., "polygons": ...}`, or a list of these. An empty cell means that the sample
    lacks the modality. Columns are known by their usual names, see above. A sample's key is that of its key column, else the names
    of its files, else its row. Rows of one key, files, split and label are joined, with the captions of all. Without splits of
    their own, samples are split 80/10/10 by the hash of their key.

    Args:
        path: the table.
        resolution: pixels a side, of images, depth and masks.
        max_skipped: the largest share of unreadable records.
        workers: processes that decode.
        max_pixels: the largest image, mask or depth map that is decoded; larger ones are skipped and counted.
        split_by: hash, or column:NAME; by default the column of the split, where there is one.
        ignore: columns that are left out, with commas between them: they are not reported.
        files: another folder in which files may lie and their names may begin, relative to that of the table, such as ../audio.
        image: column of the images; by default one called so or alike (img, image_path, filename, ...).
        audio: column of the sounds; by default one called so or alike (sound, wav, ...).
        depth: column of the depth maps.
        mask: column of the masks of objects.
        caption: column of the captions, or several with commas between them; by default those called caption, captions,
            caption_0, text, sentence, title, or alike.
        caption_vectors: column of vectors in place of captions, which the encoder `vectors:D` reads: lists of D numbers, or
            names of NPY files of shape `[D]`. A sample has one, beside at most one caption, which then is for people alone; by
            default none.
        label: column of the label; by default label, target, class, category, or alike; where it holds numbers, another of these
            names the classes.
        split_column: column of the split; by default split, set, subset or partition.
        key: column of the key; by default key or id.
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

    ways: ClassVar[tuple[str, ...]] = ("hash", "column")

    files: str = ""
    image: str = ""
    audio: str = ""
    depth: str = ""
    mask: str = ""
    caption: str = ""
    caption_vectors: str = ""
    label: str = ""
    split_column: str = ""
    key: str = ""
    audio_rate: AudioRate = 16000
    audio_seconds: AudioSeconds = 2.0
    mels: Mels = 64
    depth_unit: str = ""
    depth_far: DepthFar = 10.0
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
        if not table.is_file() or table.suffix.lower() not in TABLES:
            known = ", ".join(TABLES)
            other = "; lists in JSON are read by karpathy:" if table.suffix.lower() == ".json" else ""
            raise DataError(
                f"{self.name}: {table.absolute()} is no table; a manifest is a file that ends in {known}{other}"
            )
        unread = Unread(self.ignore)
        named = {"split": self.column_of_split or self.split_column}
        named |= {role: getattr(self, role) for role in ROLES if role not in ("class", "split")}
        columns = Columns(table, ROLES, named, unread)

        def wanted(cells: Mapping[str, list[Any]], count: int) -> Collection[str]:
            """Leaves out the columns of no role, after a look at what they hold."""
            held = columns.wanted(tuple(cells))
            for name in (name for name in cells if name not in held):
                if filled := [cell for cell in cells[name] if not is_empty(cell)]:
                    unread.add("columns", name, count, filled)
            return held

        more = table.parent / Path(self.files).expanduser() if self.files else None
        remedy = "say where files may lie with --source.files FOLDER, such as .. (in Python files=)"
        rows = translated(table_rows(table, wanted), lambda row: self._cells(columns, row))
        listing = list_rows(rows, Place(table.parent, more, remedy), table, unread=unread)
        self._refuse(table, columns, listing)
        length = next((len(record.vector) // 4 for record in listing.records if record.vector), 0)
        return replace(listing, embedded_by={"text": Vectors(str(length), "text").fingerprint} if length else {})

    def _cells(self, columns: Columns, row: Mapping[str, Any]) -> dict[str, Any]:
        """What `list_rows` reads of a row."""
        cells = columns.cells(row)
        if "split" in cells:
            cells["split_from"] = columns.said("split")
        if self.split_by == "hash":
            cells.pop("split", None)
        if self.caption_vectors and "caption_vectors" not in cells:
            cells.pop("caption", None)  # no encoder reads both
        return cells

    def _refuse(self, table: Path, columns: Columns, listing: Listing) -> None:
        """Refuses what would otherwise be found out late, or never."""
        records = listing.records
        columns.check()
        files = [m for m in ("image", "audio", "depth", "mask") if any(record.ref(m) for record in records)]
        for ours in ("image", "audio", "depth", "mask"):
            if getattr(self, ours) and records and ours not in files:
                raise DataError(f"{self.name}: no row holds a file in the column {getattr(self, ours)!r}")
        used = {role for role, _ in columns.used}
        if columns.met and not used & {"image", "audio", "depth", "caption", "caption_vectors"}:
            raise DataError(self._no_columns(table, list(columns.met)))
        if records:
            columns.unread.refuse_lost(self.name, records, {"image": "image", "audio": "audio", "text": "caption"})
        if not self.depth_unit and any(record.ref("depth") for record in records):
            raise ConfigError(
                f"{self.name} holds depth, whose unit no file tells; name it with --source.depth_unit (in Python depth_unit=): "
                "m, cm, mm, metres a count such as 0.0002, or disparity:FACTOR"
            )
        if any(record.ref("audio") for record in records) and find_spec("soundfile") is None:
            raise MissingDependency("decoding audio", "soundfile", "audio")

    def _no_columns(self, table: Path, met: list[str]) -> str:
        """Why nothing was found in a table, by what stands in the place of the names of its columns."""
        known = "; ".join(f"{role} ({known_names(role)}, ...)" for role in ("image", "audio", "caption"))
        guess = ""
        if any(kind_of(name) for name in met):
            guess = " Its first line looks like a row: put the names of the columns above it."
        elif len(met) == 1 and table.suffix.lower() in (".csv", ".tsv", ".txt"):
            guess = " It has one column: cells stand apart by commas, tabs, semicolons or bars."
        return (
            f"{table} has no column of images, sounds or captions; it has {', '.join(map(repr, met))}.{guess} Known are {known}; name "
            "another with --source.image, --source.audio, --source.caption (in Python image=, ...)"
        )
