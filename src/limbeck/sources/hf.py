"""Anything that `datasets.load_dataset` opens: a hub name, or a local folder of Parquet, JSON or images."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from limbeck.data.arrow import cells_in, content_of, file_kind, is_said, is_segments, is_text, refs_in
from limbeck.data.columns import ROLES, Columns, plain_name, role_of
from limbeck.data.form import AudioRate, AudioSeconds, Form, ImageForm, MaskForm, Mels, SoundForm
from limbeck.data.layout import Listing, NamedLayout
from limbeck.data.parse import Unreadable, clean_captions
from limbeck.data.regular import Place
from limbeck.data.rows import list_rows
from limbeck.data.splits import canonical_split, file_split, word_split
from limbeck.data.tables import Row, check_parquet
from limbeck.data.unread import KEPT, Unread, is_empty
from limbeck.errors import ConfigError, DataError, MissingDependency

__all__ = ["HuggingFace"]

MASKS = ROLES["mask"][0] + ROLES["mask"][1]
VALUES = ("caption", "label", "class", "split")  # roles of columns that are no files


@dataclass(frozen=True)
class HuggingFace(NamedLayout):
    """A dataset of the Hugging Face hub or in its formats on disk.

        hf:nlphuji/flickr30k         a name on the hub
        hf:data/pets                 a local folder, or one that save_to_disk wrote:
            train-00000.parquet          an image column (bytes), a sound column, captions (text, or a list), a label, a mask, a split
            test-00000.parquet

    Columns are found by their type and their usual names: the one image, the one sound, the one text, the one class label, which
    is a class label of `datasets`, a whole number or a name. Where that leaves a choice, name the column. A column called mask,
    masks or segmentation_mask holds masks as large as the images: images, or COCO's runs and polygons as in `manifest`, also as
    JSON text where the column is named. A column called split tells the split of each row; `validation` becomes `val`.

    Rows of one image, mask, split and label are joined into one record with the captions of all. One image is the same bytes,
    or the same path where the table holds no bytes. Without splits of their own, records are split 80/10/10 by the hash
    of their image (of their caption where they have none), so all rows of an image come into one split.

    Args:
        path: what `datasets.load_dataset` takes.
        resolution: pixels a side.
        max_skipped: the largest share of unreadable records.
        workers: processes that decode.
        max_pixels: the largest image, mask or depth map that is decoded; larger ones are skipped and counted.
        split_by: column:NAME, files (what `datasets` makes of the names of files), or hash; by default the column `split`, else the
            files.
        ignore: columns that are left out, with commas between them: they are not reported.
        config: name of the configuration, where the dataset has several.
        image: image column.
        audio: sound column.
        caption: caption column, or several with commas between them.
        label: label column.
        mask: column of the masks of objects.
        audio_rate: samples a second, to which sounds are resampled.
        audio_seconds: length; longer sounds are cut at the end, shorter ones padded with silence.
        mels: bands of the log-mel spectrogram that stands for a sound; 0 for waveforms.
        mask_values: what is object in a mask file: auto (255, or, where all numbers are small, all but 0), soft (number / 255),
            nonzero, trimap (1 object, 2 background, 3 border, a half), or numbers such as 1,4,7.
    """

    requires: ClassVar[tuple[tuple[str, str], ...]] = (("datasets", "hf"),)
    ways: ClassVar[tuple[str, ...]] = ("column", "files", "hash")

    config: str = ""
    image: str = ""
    audio: str = ""
    caption: str = ""
    label: str = ""
    mask: str = ""
    audio_rate: AudioRate = 16000
    audio_seconds: AudioSeconds = 2.0
    mels: Mels = 64
    mask_values: str = "auto"

    @property
    def forms(self) -> tuple[Form, ...]:
        """Of images, sounds and masks."""
        sound = SoundForm(self.audio_rate, self.audio_seconds, self.mels)
        return (ImageForm(self.resolution), sound, MaskForm(self.resolution, self.mask_values))

    def read(self) -> Listing:
        """Opens the tables; reads captions, labels and the bytes of files that lie in them; decodes none."""
        tables = self._load()
        first = next(iter(tables.values()))
        unread = Unread(self.ignore)
        files = self._files(first)
        columns, label = self._columns(first, files, unread)
        told = self._told(tables)
        rows: list[Row] = []
        licence = "unknown"
        for split, table in tables.items():
            licence = (table.info.license if table.info else "") or licence
            rows += self._rows(table, split, files, columns, told)
        listing = list_rows(rows, self._place(), self.name, str(licence), unread=unread)
        columns.check()
        records = listing.records
        unread.refuse_lost(self.name, records, {"image": "image", "audio": "audio", "text": "caption"})
        if records and not any(r.captions or r.label is not None for r in records):
            raise DataError(f"{self.name}: none of the {len(records)} rows has a caption or a label; {_listed(first)}")
        if any(r.ref("audio") for r in records) and find_spec("soundfile") is None:
            raise MissingDependency("decoding audio", "soundfile", "audio")
        named = tuple(getattr(first.features[label], "names", None) or ()) if label else ()
        return _with_classes(listing, named) if named else listing

    def _load(self) -> dict[str, Any]:
        import datasets

        if not self.path:
            raise ConfigError("hf needs a dataset, as in 'hf:nlphuji/flickr30k' or 'hf:data/pets'")
        local = Path(self.path).expanduser()
        if os.path.isdir(local) and (
            odd := next((p for p in local.rglob("*") if p.exists() and not (p.is_file() or p.is_dir())), None)
        ):
            raise DataError(f"{self.name}: {odd} is not a regular file; remove it")
        if os.path.isdir(local):
            for table in sorted(local.rglob("*.parquet")):
                check_parquet(table)
        saved = any((local / name).is_file() for name in ("state.json", "dataset_dict.json"))
        try:
            if saved:
                loaded = datasets.load_from_disk(str(local))
            else:
                loaded = datasets.load_dataset(str(local) if os.path.exists(local) else self.path, self.config or None)
        except Exception as error:  # whatever builders, Arrow, the hub and the network raise
            inner = error.__cause__ or error  # what "An error occurred while generating the dataset" hides
            reason = (str(inner).strip().splitlines() or [type(inner).__name__])[0]
            verb = "load_from_disk" if saved else "load_dataset"
            raise DataError(f"{self.name} cannot be opened by datasets.{verb}: {reason}") from error
        if isinstance(loaded, datasets.Dataset):
            loaded = {str(loaded.split or "train"): loaded}
        tables = {str(split): table for split, table in loaded.items() if len(table)}
        if not tables:
            raise DataError(f"{self.name} has no rows")
        return tables

    def _place(self) -> Place:
        """Where files lie that the tables name by their path: in the local folder, or where `datasets` puts what it fetched."""
        import datasets

        local, fetched = Path(self.path).expanduser(), Path(datasets.config.DOWNLOADED_DATASETS_PATH)
        hub = Path(getattr(datasets.config, "HF_CACHE_HOME", fetched)).expanduser()
        return Place(local.absolute(), fetched) if os.path.exists(local) else Place(hub, fetched)

    def _told(self, tables: Mapping[str, Any]) -> bool:
        """Whether the splits are told by whole words in the names of files and folders, and not by `datasets` alone."""
        local = Path(self.path).expanduser()
        if not os.path.isdir(local) or len(tables) < 2 or (local / "dataset_dict.json").is_file():
            return True
        names = [p.relative_to(local) for p in local.rglob("*") if p.is_file()]
        words = {file_split(p.stem) for p in names} | {word_split(part) for p in names for part in p.parts[:-1]}
        beside = any(
            name.name.lower() in ("readme.md", "dataset_infos.json") for name in names
        )  # which may declare splits
        return beside or bool(words & {canonical_split(split) for split in tables})

    def _files(self, table: Any) -> dict[str, str]:
        """The columns of images, sounds and masks."""
        held = {name: kind for name in table.features if (kind := file_kind(table, name))}
        masks = [
            n
            for n in table.features
            if plain_name(n) in MASKS and (held.get(n) == "image" or is_segments(table.features[n]))
        ]
        mask = self._choose("mask", self.mask, [n for n in masks if n != self.image], table)
        found = {"mask": mask}
        for role in ("image", "audio"):
            fit = [n for n, kind in held.items() if kind == role and n not in (mask, *self.ignore.split(","))]
            usual = next((same for tier in ROLES[role] if (same := [n for n in fit if plain_name(n) in tier])), fit)
            found[role] = self._choose(role, getattr(self, role), usual, table)
        if not found["image"] and not found["audio"]:
            raise DataError(f"{self.name} has no image column; {_listed(table)}; name it with image=")
        return {role: name for role, name in found.items() if name}

    def _columns(self, table: Any, files: Mapping[str, str], unread: Unread) -> tuple[Columns, str]:
        """What reads the values of a row, and the label column."""
        ignored = {*files.values(), *unread.ignored}
        free = {name: kind for name, kind in table.features.items() if name not in ignored}
        caption, label = self.caption, self.label or self._label(table, free)
        if not caption and not any(role_of(n, ("caption",)) and is_text(kind) for n, kind in free.items()):
            texts = [
                n
                for n, kind in free.items()
                if is_text(kind) and n != label and role_of(n) is None and is_said(table, n)
            ]
            caption = self._choose("caption", "", texts, table)
        for role, name in (("caption", self.caption), ("label", self.label)):
            if name and name not in table.features and "," not in name:
                self._choose(role, name, (), table)
        if not label and not caption and not any(role_of(n, VALUES) in ("caption", "label") for n in free):
            remedy = "name one with --source.caption (in Python caption=)"
            raise DataError(f"{self.name} has no caption or label column; {_listed(table)}; {remedy}")
        return Columns(
            self.name, VALUES, {"caption": caption, "label": label, "split": self.column_of_split}, unread
        ), label

    def _label(self, table: Any, free: Mapping[str, Any]) -> str:
        import datasets

        held = [name for name, kind in free.items() if isinstance(kind, datasets.ClassLabel)]
        usual = next((same for tier in ROLES["label"] if (same := [n for n in held if plain_name(n) in tier])), held)
        return self._choose("label", "", usual, table)

    def _choose(self, what: str, named: str, held: Sequence[str], table: Any) -> str:
        if named and named not in table.features:
            raise DataError(f"{self.name} has no column {named!r} for {what}=; {_listed(table)}")
        if not named and len(held) > 1:
            choice = " or ".join(held)
            raise DataError(f"{self.name}: {choice} could be the {what}; choose with {what}=. {_listed(table)}")
        return named or next(iter(held), "")

    def _rows(self, table: Any, split: str, files: Mapping[str, str], columns: Columns, told: bool) -> Iterator[Row]:
        """The rows of one table of `datasets`."""
        rest = [name for name in table.features if name not in files.values()]
        wanted = [name for name in columns.wanted(tuple(rest)) if file_kind(table, name) is None]
        for name in (name for name in rest if name not in wanted):
            if filled := [cell for cell in cells_in(table, name, KEPT) if not is_empty(cell)]:
                columns.unread.add("columns", name, len(table), filled)
        values = {name: cells_in(table, name) for name in rest if name in wanted}
        place = self._place()
        refs = {role: list(refs_in(table, name, place)) for role, name in files.items()}
        known = {"split": canonical_split(split), "split_from": "the splits of the dataset"}
        for row in range(len(table)):
            key = f"{known['split']}/{row}"
            try:
                cells = columns.cells({name: column[row] for name, column in values.items()})
                if self.split_by not in ("files", "hash") and "split" in cells:
                    cells["split_from"] = columns.said("split")
                else:
                    cells |= known if told and self.split_by != "hash" else {"split": None}
                held = {role: column[row] for role, column in refs.items() if column[row] is not None}
                yield f"{self.name}, row {row}", {**cells, **held, **_identity(cells, held, place), "key": key}
            except Unreadable as error:
                yield f"{self.name}, row {row}", {"image": error, "key": key, "split": known["split"]}


def _identity(cells: Mapping[str, Any], held: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """What tells a row from others, and by what it is split."""
    same = {role: content_of(ref, place) for role, ref in held.items()}
    name = same.get("image") or same.get("audio")
    group = name or " ".join(clean_captions(cells.get("caption")))
    return {"same": tuple(sorted(same.items())) if name else None, **({"group": group} if group else {})}


def _with_classes(listing: Listing, names: tuple[str, ...]) -> Listing:
    """The listing with the classes that the table declares; a number beyond them is no label."""
    records = [
        replace(r, label=r.label if r.label is not None and r.label < len(names) else None) for r in listing.records
    ]
    return replace(listing, records=records, classes=names)


def _listed(table: Any) -> str:
    columns: Iterable[str] = (f"{name} ({type(kind).__name__})" for name, kind in table.features.items())
    return f"its columns: {', '.join(columns)}"
