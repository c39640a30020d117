"""Tar shards whose members are grouped by the name before their first dot."""

import glob
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from limbeck.data.batch import Captions
from limbeck.data.form import Form, ImageForm, MaskForm
from limbeck.data.layout import ImageRef, Layout, Listing, Record, Skipped, assign_splits, canonical_split, unique
from limbeck.data.parse import Unreadable, clean_captions, index_labels, parse_json
from limbeck.data.rows import mask_of
from limbeck.data.segments import segments_bytes
from limbeck.errors import ConfigError, DataError

__all__ = ["WebDataset"]

IMAGES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "avif")
MASKS = ("mask.png", "mask.npy")
CAPTION = ("captions", "caption", "text")
MAX_TEXT = 1 << 20  # bytes of a text member; a longer one is no caption


@dataclass(frozen=True)
class TarImage(ImageRef):
    """An image or a mask inside a tar file, read by its offset.

    Args:
        path: the tar file.
        offset: of its first byte.
        size: bytes.
        shard: size and times of change of the tar file.
    """

    path: str
    offset: int
    size: int
    shard: tuple[int, ...]

    def read(self) -> bytes:
        """The bytes of the member."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    @property
    def stamp(self) -> Sequence[Any]:
        """Where it lies, and the stamp of the tar file."""
        return self.path, self.offset, self.size, *self.shard


@dataclass
class Sample:
    """The members of one key, as they are met."""

    key: str
    where: str
    split: str | None
    image: TarImage | None = None
    mask: object = None
    captions: Captions = ()
    label: int | str | None = None
    class_name: str | None = None
    extensions: set[str] = field(default_factory=set)
    broken: str = ""


@dataclass(frozen=True)
class WebDataset(Layout):
    """Tar shards: members with the same name before the first dot are one sample.

        shards/
            train-0000.tar           a split in the name of a shard (or of its folder) is its split
                cat01.jpg            the image: jpg, png, webp, ...
                cat01.txt            one caption
                cat01.json           {"caption" or "captions" or "text", "label"?, "class"?, "mask"?}
                cat01.cls            label, a whole number or a name
                cat01.mask.png       the mask of its object, as large as the image (or mask.npy)

    Shards are plain, not compressed: each member is read by its offset. A mask in the JSON is COCO's runs, `{"size": [height,
    width], "counts": ...}`, its polygons, `{"size": ..., "polygons": ...}`, or a list of these; a member of its own goes first.
    Without splits in the names, samples are split 80/10/10 by the hash of their key.

    Args:
        path: a folder of `*.tar`, one tar file, a glob pattern, or a brace pattern such as `train-{0000..0009}.tar`.
        resolution: pixels a side.
        max_skipped: the largest share of unreadable records.
        workers: processes that decode.
        mask_values: what is object in a mask file: auto (255, or, where all numbers are small, all but 0), soft (number / 255),
            nonzero, trimap (1 object, 2 background, 3 border, a half), or numbers such as 1,4,7.
    """

    mask_values: str = "auto"

    @property
    def forms(self) -> tuple[Form, ...]:
        """Of images and masks."""
        return (ImageForm(self.resolution), MaskForm(self.resolution, self.mask_values))

    def read(self) -> Listing:
        """Reads the headers and the text members of every shard once."""
        samples: list[Sample] = []
        skipped: list[Skipped] = []
        for shard in self._shards():
            samples += _read_shard(shard, skipped)
        whole, made = [], []
        for sample in samples:
            try:
                made.append(_record(sample))
                whole.append(sample)
            except Unreadable as error:
                skipped.append(Skipped(sample.key, str(error), sample.where, sample.split))
        if not whole and not skipped:
            raise DataError(f"{self.name}: the shards hold no samples")
        if whole and not any(s.captions or s.label is not None for s in whole):
            raise DataError(f"{self.name}: none of the {len(whole)} samples has a caption or a label")
        labels, classes = index_labels([s.label for s in whole], [s.class_name for s in whole])
        records, again = unique([replace(r, label=n) for r, n in zip(made, labels, strict=True)], self.path)
        return Listing(assign_splits(records), classes, skipped=skipped + again)

    def _shards(self) -> list[Path]:
        if not self.path:
            raise ConfigError("webdataset needs a path, as in 'webdataset:data/shards'")
        spec = str(Path(self.path).expanduser())
        found: list[Path] = []
        for pattern in _braces(spec):
            if Path(pattern).is_dir():
                found += sorted(Path(pattern).rglob("*.tar"))
            elif Path(pattern).is_file():
                found.append(Path(pattern))
            elif "{" in spec:
                raise DataError(f"{self.name}: there is no {pattern}; check the pattern")
            else:
                found += sorted(Path(p) for p in glob.glob(pattern, recursive=True))
        if not found:
            raise DataError(f"{self.name}: there is no tar file at {Path(spec).absolute()}; check the path")
        return found


def _braces(spec: str) -> list[str]:
    """A pattern such as `a-{00..11}.tar` or `{x,y}.tar` spelled out."""
    match = re.search(r"\{([^{}]*)\}", spec)
    if not match:
        return [spec]
    if numbers := re.fullmatch(r"(\d+)\.\.(\d+)", match[1]):
        first, last = int(numbers[1]), int(numbers[2])
        if last - first >= 10**6:
            raise ConfigError(f"{spec} names {last - first + 1} shards, which is more than a million")
        middle = [str(i).zfill(len(numbers[1])) for i in range(first, last + 1)]
    else:
        middle = match[1].split(",")
    return [out for m in middle for out in _braces(spec[: match.start()] + m + spec[match.end() :])]


def _split_of(shard: Path) -> str | None:
    """The split in the name of a shard, else of its folder."""
    for name in (shard.stem, shard.parent.name):
        for word in re.split(r"[^a-z]+", name.lower()):
            if (split := canonical_split(word)) in ("train", "val", "test"):
                return split
    return None


def _read_shard(shard: Path, skipped: list[Skipped]) -> list[Sample]:
    """The samples of one shard; unsafe, special and repeated members are skipped and counted."""
    samples: dict[str, Sample] = {}
    split, stat = _split_of(shard), shard.stat()
    for member, content in _members(shard):
        where = f"{shard}: {member.name}"
        parts = PurePosixPath(member.name.replace("\\", "/"))
        stem, _, extension = parts.name.partition(".")
        if parts.is_absolute() or ".." in parts.parts:
            skipped.append(Skipped(member.name, "unsafe name", where, split))
            continue
        if not member.isreg():
            skipped.append(Skipped(member.name, "not a regular file", where, split))
            continue
        if not stem or not extension:
            continue  # hidden files, and files without an extension, are no part of the format
        key, extension = str(parts.with_name(stem)), extension.lower()
        sample = samples.setdefault(key, Sample(key, where, split))
        if extension in sample.extensions:
            skipped.append(Skipped(key, "duplicate key", where, split))
            continue
        sample.extensions.add(extension)
        try:
            changed = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            held = TarImage(str(shard.absolute()), member.offset_data, member.size, changed)
            if extension in IMAGES and sample.image is None:
                sample.image = held
            elif extension in MASKS:
                sample.mask = held
            elif extension in ("txt", "json", "cls"):
                _read_text(sample, extension, content)
        except Unreadable as error:
            sample.broken = str(error)
    return list(samples.values())


def _record(sample: Sample) -> Record:
    """The sample without its label.

    Raises:
        Unreadable: why it cannot be used.
    """
    if sample.broken:
        raise Unreadable(sample.broken)
    if not (sample.image or sample.captions):
        raise Unreadable("no image and no caption")
    others = {}
    if sample.mask:
        mask = sample.mask if isinstance(sample.mask, TarImage) else segments_bytes(sample.mask)
        others["mask"] = mask_of(Path(), mask, sample.image)
    return Record(sample.key, sample.image, sample.captions, None, sample.split, others)


def _members(shard: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Members in order, with the content of those that are text."""
    try:
        with tarfile.open(shard, "r:", encoding="utf-8", errors="surrogateescape") as tar:
            for member in tar:
                if member.isdir():
                    continue
                text = member.isreg() and member.name.lower().endswith((".txt", ".json", ".cls"))
                file = tar.extractfile(member) if text and member.size <= MAX_TEXT else None
                yield member, file.read() if file else b""
                if member.offset_data + member.size > shard.stat().st_size:
                    raise tarfile.ReadError("unexpected end of data")
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{shard} is no whole, uncompressed tar file ({error}); fetch or write it again") from error
    except OSError as error:
        raise DataError(f"{shard} cannot be read: {error}") from error


def _read_text(sample: Sample, extension: str, content: bytes) -> None:
    if extension == "json":
        facts = parse_json(content)
        if not isinstance(facts, dict):
            raise Unreadable("not an object")
        said = next((facts[name] for name in CAPTION if facts.get(name) is not None), None)
        label, class_name = facts.get("label"), facts.get("class")
        if label is None:
            label, class_name = class_name, None
        if label is not None and type(label) not in (int, str):
            raise Unreadable("label is neither a name nor a whole number")
        sample.label = label if sample.label is None else sample.label
        sample.class_name = class_name if isinstance(class_name, str) else None
        sample.mask = sample.mask or facts.get("mask")
        captions = clean_captions(said)
    else:
        try:
            text = content.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise Unreadable("not UTF-8") from None
        if extension == "cls":
            sample.label = int(text) if text.isascii() and text.isdigit() else text or None
            return
        captions = clean_captions(text)
    sample.captions += tuple(text for text in captions if text not in sample.captions)
