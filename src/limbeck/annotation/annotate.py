"""`annotate`: makes the captions and masks that data lack, into a folder beside them."""

import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck import __version__
from limbeck.annotation.annotator import Annotator, Captioner, Segmenter
from limbeck.annotation.files import Sample, samples_of, write_mask
from limbeck.data.decode import pixel_limit, whole_image
from limbeck.data.parse import Unreadable
from limbeck.data.plain import renamed
from limbeck.data.records import RecordSource
from limbeck.data.regular import read_json
from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError, LimbeckWarning, StorageError
from limbeck.runtime.cache import digest
from limbeck.runtime.files import flush_all, write_bytes, write_text, writing
from limbeck.runtime.locks import owned
from limbeck.runtime.progress import ProgressCallback
from limbeck.runtime.runtime import Runtime

__all__ = ["TABLE", "annotate"]

FACTS, TABLE = "annotated.json", "annotated.jsonl"
OLD_KEYS = {  # of folders that were written before keys were identifiers
    "without an image": "without_image",
    "no caption": "missing",
    "found nothing": "missing",
    "classes without one": "classes_without_caption",
}
SAME = ("data", "splits", "captions", "masks")  # what calls that continue each other agree in
BATCH = 8  # images at a time, where neither annotator says how many


def annotate(
    source: Source,
    folder: str | Path,
    captions: Captioner | None = None,
    masks: Segmenter | None = None,
    *,
    splits: Sequence[str] | None = None,
    device: str | None = None,
    tick: ProgressCallback | None = None,
    runtime: Runtime | None = None,
) -> dict[str, Any]:
    """Writes a table that the source `manifest` opens: the data, with captions and masks where they had none.

    What the data have is kept. Whole images are looked at, not the squares that a batch holds, of as many pixels as the source
    allows. The same call continues one that was stopped, and ends with the same files.

        annotated.jsonl     a sample a line: key, split, image, caption, label, mask, and which of these were made
        annotated.json      what made them, and how many
        images/             hard links to the originals; copies where there can be none, or an image is no file of its own
        masks/              8 bits, white on the object, as large as the image

    Args:
        source: data on disk.
        folder: where to write; new, empty, or that of the call to continue.
        captions: for samples without a caption; `None` makes none.
        masks: for samples without a mask; `None` makes none.
        splits: by default all.
        device, tick, runtime: a `Runtime`, or one by one its device and progress (`tick`); not both.

    Returns:
        what `annotated.json` holds.

    Raises:
        ConfigError: nothing to make, a source in memory, or a folder with annotations of other data or options.
        DataError: a split that is not there, an image that can no longer be read, or an annotator that breaks its contract.
        StorageError: the folder holds something else, another process works on it, or it cannot be written.

    Example:
        >>> import limbeck as lb, tempfile
        >>> from limbeck.annotation.captioners.template import Template
        >>> scenes = lb.source("scenes", samples=12)
        >>> annotate(scenes, tempfile.mkdtemp(), Template(), splits=["val"])["captions"]["kept"]
        6
    """
    runtime = Runtime.of(runtime, device=device, tick=tick)
    if captions is None and masks is None:
        raise ConfigError("annotate makes captions, masks or both: name a captioner or a segmenter, as --masks grabcut")
    if not isinstance(source, RecordSource):
        raise ConfigError(
            f"{source.name} lies in memory or is a distilled set, and annotate reads the whole images of data on disk; write "
            "it to a folder first (for a set: limbeck export SET --to folder --out FOLDER), then annotate folder:FOLDER"
        )
    described, folder = source.describe(), Path(folder)
    names = list(source.splits if splits is None else splits)
    parts = [source if name == described["split"] else source.split(name) for name in names]
    samples = samples_of(parts)
    facts = {
        "schema": 1,
        "source": {name: value for name, value in described.items() if name != "split"},
        "data": digest(*[[part.fingerprint, list(part.keys)] for part in parts]),
        "splits": names,
        "captions": _about(captions),
        "masks": _about(masks),
    }
    if held := _finished(folder, facts):
        return held
    with owned(folder, "annotate"), pixel_limit(described["max_pixels"]):
        if held := _finished(folder, facts):  # by another process, meanwhile
            return held
        _write_rows(folder, facts, samples, captions, masks, runtime)
        with writing(folder):
            flush_all(folder)  # what the table names is on the disk before it is called finished
        held = {**facts, **_counted(folder / TABLE, facts), "versions": _versions(captions, masks)}
        write_text(folder / FACTS, _json(held))
    return held


def _about(part: Annotator | None) -> dict[str, Any] | None:
    return None if part is None else {"by": part.describe(), "licence": part.licence, "what": part.what}


def _held(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the folder says of the annotations in it; nothing where it is new.

    Raises:
        StorageError: it holds something else.
        ConfigError: they are of other data, or by other options.
    """
    if not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir()):
        return {}
    if not (folder / FACTS).is_file():
        raise StorageError(f"{folder} is not empty and holds no annotations; name another folder with --out")
    try:
        held: Any = read_json(folder / FACTS)
    except DataError as error:
        raise StorageError(f"{error}; name another folder with --out, or remove this one") from error
    if not isinstance(held, dict):
        raise StorageError(f"{folder / FACTS} is not of annotate; name another folder with --out, or remove this one")
    if differ := [name for name in SAME if _made_by(held, name) != _made_by(facts, name)]:
        were = ", ".join(f"{name} {json.dumps(_made_by(held, name))}" for name in differ if name != "data")
        raise ConfigError(
            f"{folder} holds annotations with other {' and '.join(differ)} than asked for now"
            f"{f' ({were})' if were else ''}; name another folder with --out, or remove this one"
        )
    return renamed(held, OLD_KEYS)  # type: ignore[no-any-return]


def _finished(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the folder says of annotations that are finished; nothing where they are not, or their table has a row twice."""
    held = _held(folder, facts)
    if held.get("samples") is None or not (folder / TABLE).is_file():
        return {}
    keys = [key for key, _ in _rows_of(folder / TABLE)]
    return held if len(set(keys)) == len(keys) else {}


def _rows_of(table: Path) -> list[tuple[str, bytes]]:
    """Key and line of every whole row of a table."""
    rows = []
    for line in table.read_bytes().split(b"\n")[:-1] if table.is_file() else ():
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            rows.append((str(json.loads(line)["key"]), line + b"\n"))
    return rows


def _kept(table: Path, samples: Sequence[Sample], batch: int) -> int:
    """Brings a table back to the whole batches that it begins with, each row once; returns how many rows these are.

    Two commands on one folder, which earlier versions allowed, leave rows twice: the first of each is kept.

    Raises:
        StorageError: a row is of none of the samples.
    """
    rows, known = _rows_of(table), {sample.key for sample in samples}
    lines: dict[str, bytes] = {}
    for key, line in rows:
        lines.setdefault(key, line)
    if odd := [key for key in lines if key not in known]:
        raise StorageError(
            f"{table} has a row of {odd[0]!r}, which is no sample of these data; remove it, or name another folder with --out"
        )
    if twice := len(rows) - len(lines):
        warnings.warn(
            f"{table} had {twice} rows twice, as two commands at once leave them; the first of each is kept",
            LimbeckWarning,
            stacklevel=4,
        )
    done = next((i for i, sample in enumerate(samples) if sample.key not in lines), len(samples))
    done -= done % batch if done < len(samples) else 0
    text = b"".join(lines[sample.key] for sample in samples[:done])
    if not table.is_file() or table.read_bytes() != text:
        write_bytes(table, text)
    return done


def _append(table: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with writing(table), table.open("ab") as file:
        file.write(b"".join(map(_line, rows)))


def _made_by(facts: Mapping[str, Any], name: str) -> Any:
    return facts[name]["by"] if isinstance(facts.get(name), dict) else facts.get(name)


def _write_rows(
    folder: Path,
    facts: Mapping[str, Any],
    samples: Sequence[Sample],
    captions: Captioner | None,
    masks: Segmenter | None,
    runtime: Runtime,
) -> None:
    """Appends the rows that the table lacks, batch by batch; the batches are the same wherever it was stopped."""
    write_text(folder / FACTS, _json(facts))
    sizes = [size for part in (captions, masks) if (size := getattr(part, "batch_size", None))]
    batch = min(sizes, default=BATCH)
    done = _kept(folder / TABLE, samples, batch)
    for part in (captions, masks):
        if part is not None and done < len(samples):
            part.to(runtime.device)
    for start in range(done, len(samples), batch):
        rows = _rows(samples[start : start + batch], folder, captions, masks)
        _append(folder / TABLE, rows)
        runtime.report("annotating", start + len(rows), len(samples))


def _rows(
    samples: Sequence[Sample], folder: Path, captions: Captioner | None, masks: Segmenter | None
) -> list[dict[str, Any]]:
    """The rows of one batch, with what could be made of what they lack."""
    seen = [sample for sample in samples if sample.record.image is not None]
    silent = [s for s in seen if captions is not None and not s.record.captions]
    bare = [s for s in seen if masks is not None and s.record.ref("mask") is None]
    images = {s.number: _whole(s) for s in seen if s in silent or s in bare}
    texts = {} if captions is None or not silent else _texts(captions, silent, images)
    shares = {} if masks is None or not bare else _shares(masks, bare, images)
    rows = []
    for sample in samples:
        row, made = sample.row(folder), []
        if text := texts.get(sample.number):
            row["caption"] = [text]
            made.append("caption")
        if (share := shares.get(sample.number)) is not None:
            row["mask"] = write_mask(folder, sample.stem, share)
            made.append("mask")
        rows.append({**row, "made": made} if made else row)
    return rows


def _whole(sample: Sample) -> Any:
    try:
        return whole_image(sample.read("image"))
    except Unreadable as error:
        raise sample.unreadable("image", error) from error


def _texts(captions: Captioner, samples: Sequence[Sample], images: Mapping[int, Any]) -> dict[int, str]:
    """Number of a sample to its caption, which may be empty."""
    made = captions.caption([images[s.number] for s in samples], [s.label for s in samples])
    if len(made) != len(samples) or not all(isinstance(text, str) for text in made):
        raise DataError(
            f"the captioner {captions.describe()['name']!r} must give one text for each of {len(samples)} images, got "
            f"{len(made)} {'of these' if all(isinstance(text, str) for text in made) else 'values that are no texts'}"
        )
    return {s.number: " ".join(text.split()) for s, text in zip(samples, made, strict=True)}


def _shares(masks: Segmenter, samples: Sequence[Sample], images: Mapping[int, Any]) -> dict[int, NDArray[Any]]:
    """Number of a sample to its mask, where an object was found: something, and not everything."""
    made = masks.segment([images[s.number] for s in samples], [s.label for s in samples])
    name, found = masks.describe()["name"], {}
    if len(made) != len(samples):
        raise DataError(f"the segmenter {name!r} must give one mask for each of {len(samples)} images, got {len(made)}")
    for sample, share in zip(samples, made, strict=True):
        width, height = images[sample.number].size
        if share.shape != (height, width) or not ((share >= 0) & (share <= 1)).all():
            raise DataError(
                f"the segmenter {name!r} must give a mask of {height} rows and {width} columns in [0, 1] for {sample.key}, got "
                f"{list(share.shape)} from {share.min():g} to {share.max():g}"
            )
        if 0 < np.count_nonzero(share >= 0.5) < share.size:
            found[sample.number] = share
    return found


def _counted(table: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the finished table holds."""
    rows = [json.loads(line) for line in table.read_bytes().splitlines()]
    found: dict[str, Any] = {"samples": len(rows), "without_image": sum("image" not in row for row in rows)}
    for name, cell in (("captions", "caption"), ("masks", "mask")):
        if facts[name] is not None:
            made = sum(cell in row.get("made", ()) for row in rows)
            held = sum(cell in row for row in rows)
            none = sum(cell not in row and "image" in row for row in rows)
            found[name] = {**facts[name], "made": made, "kept": held - made, "missing": none}
    if facts["captions"] is not None:
        captioned = {row.get("label") for row in rows if "caption" in row}
        without = {row["label"] for row in rows if "label" in row} - captioned
        found["captions"]["classes_without_caption"] = sorted(without)
    return found


def _versions(*parts: Annotator | None) -> dict[str, str]:
    found = {"limbeck": __version__}
    for part in parts:
        found |= part.versions if part is not None else {}
    return found


def _json(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, indent=1, ensure_ascii=True) + "\n"


def _line(row: Mapping[str, Any]) -> bytes:
    """The row as a line; what is no text in UTF-8, as in names of files, is escaped."""
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
