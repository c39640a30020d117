"""Tar shards whose members are grouped by the name before their first dot."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from limbeck.data.columns import Columns
from limbeck.data.form import AudioRate, AudioSeconds, Form, ImageForm, MaskForm, Mels, SoundForm
from limbeck.data.layout import Listing, NamedLayout, Skipped
from limbeck.data.parse import Unreadable, clean_captions, clean_label, parse_json
from limbeck.data.regular import Place
from limbeck.data.rows import list_rows
from limbeck.data.segments import segments_bytes
from limbeck.data.shards import Member, Sample, names_of_shards, read_shard, shards_in
from limbeck.data.splits import files_splits
from limbeck.data.tables import Row
from limbeck.data.unread import IMAGES, SOUNDS, Unread
from limbeck.errors import ConfigError, DataError, MissingDependency
from limbeck.limits import TEXT_FILE

__all__ = ["WebDataset"]

MASKS = ("mask.png", "mask.npy", "masks.png", "masks.npy")
FORMATS = {
    "image": frozenset(ending[1:] for ending in IMAGES),
    "audio": frozenset(ending[1:] for ending in SOUNDS),
    "caption": frozenset(("txt", "text", "caption")),
    "json": frozenset(("json",)),
    "label": frozenset(("cls", "cls2")),
}
NO_PICTURE = (
    "mask",
    "masks",
    "seg",
    "segm",
    "segmentation",
    "depth",
    "disparity",
    "normal",
    "normals",
    "edge",
    "edges",
    "flow",
    "pose",
)
ROLES = ("caption", "label", "class", "mask", "split")  # fields of the JSON


@dataclass(frozen=True)
class WebDataset(NamedLayout):
    """Tar shards: members with the same name before the first dot are one sample.

        shards/
            train-0000.tar           a split in the names of all shards (or of their folders) is their split
                cat01.jpg            the image: jpg, png, webp, ...
                cat01.flac           the sound: wav, flac, ogg, mp3, ...
                cat01.txt            one caption
                cat01.json           {"caption" or "captions" or "text", "label"?, "class"?, "mask"?, "split"?}
                cat01.cls            label, a whole number or a name
                cat01.mask.png       the mask of its object, as large as the image (or mask.npy)

    Shards are plain, not compressed: each member is read by its offset. The last part of an extension is the format, so that
    `cat01.input.jpg` is an image; of several images of a sample that with the shortest extension (`jpg`) is taken, else one
    must be named. A mask in the JSON is COCO's runs, `{"size": [height, width], "counts": ...}`, its polygons, `{"size": ...,
    "polygons": ...}`, or a list of these; a member of its own goes first. A key is unique in its shard: where shards repeat keys, the
    name of the shard stands before each. Without splits in the names, samples are split 80/10/10 by the hash of their key.

    Args:
        path: a folder of `*.tar`, one tar file, a glob pattern, or a brace pattern such as `train-{0000..0009}.tar`.
        resolution: pixels a side.
        max_skipped: the largest share of unreadable records.
        workers: processes that decode.
        max_pixels: the largest image, mask or depth map that is decoded; larger ones are skipped and counted.
        split_by: files (the names of the shards), folders (those of their folders), hash, or column:NAME (a field of the JSON);
            by default the field `split`, else the files, else the folders.
        ignore: extensions of members, or fields of the JSON, that are left out, with commas between them, such as left.png: they
            are not reported.
        image: extension of the images, such as left.png; by default whatever is one.
        audio: extension of the sounds; by default whatever is one.
        caption: extension of the captions, such as en.txt, or a field of the JSON; by default txt, and usual names of fields.
        label: a field of the JSON; by default cls, and usual names of fields.
        audio_rate: samples a second, to which sounds are resampled.
        audio_seconds: length; longer sounds are cut at the end, shorter ones padded with silence.
        mels: bands of the log-mel spectrogram that stands for a sound; 0 for waveforms.
        mask_values: what is object in a mask file: auto (255, or, where all numbers are small, all but 0), soft (number / 255),
            nonzero, trimap (1 object, 2 background, 3 border, a half), or numbers such as 1,4,7.
    """

    ways: ClassVar[tuple[str, ...]] = ("files", "folders", "hash", "column")

    image: str = ""
    audio: str = ""
    caption: str = ""
    label: str = ""
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
        """Reads the headers and the text members of every shard once."""
        if not self.path:
            raise ConfigError("webdataset needs a path, as in 'webdataset:data/shards'")
        spec = Path(self.path).expanduser()
        shards, unread = shards_in(str(spec), self.name), Unread(self.ignore)
        splits, way = files_splits(shards, self.split_by, self.name)
        skipped: list[Skipped] = []
        samples = [sample for shard in shards for sample in read_shard(shard, splits[shard], skipped)]
        if not samples and not skipped:
            raise DataError(f"{self.name}: the shards hold no samples")
        if spec.is_dir():
            others = (p for p in spec.rglob("*") if p.is_file() and p.suffix != ".tar" and not p.name.startswith("."))
            for ending, count in Counter(p.suffix.lower() or p.name for p in others).items():
                unread.add("files", ending, count)
        named = {"caption": "" if self._is_extension(self.caption) else self.caption, "label": self.label}
        fields = Columns(self.name, ROLES, {**named, "split": self.column_of_split}, unread, "field")
        rows = list(self._rows(samples, splits, way, fields, unread))
        listing = list_rows(rows, Place(spec), self.path, unread=unread)
        fields.check()
        unread.refuse_lost(self.name, listing.records, {"image": "image", "audio": "audio", "text": "caption"})
        records = listing.records
        if records and not any(r.captions or r.label is not None for r in records):
            raise DataError(f"{self.name}: none of the {len(records)} samples has a caption or a label")
        if any(r.ref("audio") for r in records) and find_spec("soundfile") is None:
            raise MissingDependency("decoding audio", "soundfile", "audio")
        return Listing(
            records,
            listing.classes,
            skipped=[*skipped, *listing.skipped],
            split_by=listing.split_by,
            unread=listing.unread,
        )

    def _is_extension(self, name: str) -> bool:
        return name.rpartition(".")[2].lower() in FORMATS["caption"]

    def _rows(
        self, samples: Sequence[Sample], splits: Mapping[Path, str | None], way: str, fields: Columns, unread: Unread
    ) -> Iterator[Row]:
        """A row for each sample."""
        met = Counter(sample.key for sample in samples)
        repeated = len(met) < len(samples)
        names = names_of_shards(list(splits))
        for sample in samples:
            key = f"{names[sample.shard]}/{sample.key}" if repeated else sample.key
            known = {"key": key, "split": splits[sample.shard], "split_from": way}
            try:
                yield sample.where, {**known, **self._cells(sample, fields, unread)}
            except Unreadable as error:
                yield sample.where, {**known, "image": error}

    def _cells(self, sample: Sample, fields: Columns, unread: Unread) -> dict[str, Any]:
        """What `list_rows` reads of a sample.

        Raises:
            Unreadable: why it cannot be used.
            DataError: two members that could be the image, the sound or the caption.
        """
        chosen = {role: self._choose(role, sample, unread.ignored) for role in FORMATS}
        mask = next((m for m in MASKS if m in sample.members), None)
        for extension, member in sample.members.items():
            if extension not in (*chosen.values(), mask):
                text = member.text.decode("utf-8", "replace") if member.text else f"x.{extension}"
                unread.add("members", extension, 1, [text])
        cells: dict[str, Any] = {role: sample.members[e] for role in ("image", "audio") if (e := chosen[role])}
        read = {role: _text(sample.members[e]) for role in ("caption", "json", "label") if (e := chosen[role])}
        facts = self._facts(read.pop("json"), fields) if "json" in read else {}
        said = {chosen["json"]: facts.pop("caption", None), chosen["caption"]: read.get("caption")}
        texts = [text for extension in sample.members if extension in said for text in clean_captions(said[extension])]
        cells["caption"] = list(dict.fromkeys(texts))
        cells |= {name: value for name, value in facts.items() if name != "mask"}
        if clean_label(read.get("label")) is not None:
            cells["label"] = read["label"]
        if not (cells.keys() & {"image", "audio"} or cells["caption"]):
            raise Unreadable("no image and no caption")
        if mask or "mask" in facts:
            cells["mask"] = sample.members[mask] if mask else segments_bytes(facts["mask"])
        return cells

    def _choose(self, role: str, sample: Sample, ignored: Collection[str]) -> str | None:
        """The extension of the member that holds something; `None` where there is none."""
        wanted = getattr(self, role, "").lower().lstrip(".")
        if wanted and (role in ("image", "audio") or self._is_extension(wanted)):
            return wanted if wanted in sample.members else None
        held = [e for e in sample.members if _format(e) == role and e not in MASKS and e not in ignored]
        if role == "image":
            held = [e for e in held if not set(e.split(".")[:-1]) & set(NO_PICTURE)]
        plain = [e for e in held if "." not in e] or held
        if len(plain) > 1 and role in ("image", "audio", "caption"):
            raise DataError(
                f"{self.name}: the members {', '.join(plain[:8])}{f' and {len(plain) - 8} others' if len(plain) > 8 else ''} of {sample.key} could each be the {role}; choose with --source.{role} "
                f"{plain[0]} (in Python {role}=), or leave out others with --source.ignore {plain[-1]}"
            )
        return plain[0] if plain else None

    def _facts(self, text: str, fields: Columns) -> dict[str, Any]:
        """What the JSON of a sample holds."""
        row = parse_json(text)
        if not isinstance(row, dict):
            raise Unreadable("not an object")
        facts = fields.cells(row)
        if self.split_by in ("files", "folders", "hash"):
            facts.pop("split", None)
        return facts | ({"split_from": fields.said("split")} if "split" in facts else {})


def _format(extension: str) -> str | None:
    """What a member holds by the last part of its extension."""
    last = extension.rpartition(".")[2]
    return next((role for role, known in FORMATS.items() if last in known), None)


def _text(member: Member) -> str:
    """The text of a member.

    Raises:
        Unreadable: not UTF-8, or longer than any caption.
    """
    if member.text is None:
        raise Unreadable(f"a text of {TEXT_FILE}")
    try:
        return member.text.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None
