"""Fuzzes every reader of data with damaged files, and counts tracebacks, hangs, processes that die, and rows lost without a word.

    nice python benchmarks/fuzz_readers.py --minutes 20 [--reader manifest.jsonl,nyuv2] [--seed 0] [--found FOLDER] [--json FILE]

Each reader has a small data set of its own. A case damages one file of it: bits, bytes, lengths, parts that are cut, doubled or moved, words that
mean something to the format, and, where the file is a table, single values of it. Then all splits are opened, as a command does, and a batch
is read. Right is a source, or an error of Limbeck's own. Cases run by the hundred in a process of their own, which may die of one.

A hang is a case that takes more than 10 seconds of CPU, or a minute. A row is lost where the table still has it as an object with a
file name that is there, and it is neither in a record nor among what was skipped, by its line. The smallest input of each kind of failure is kept.
"""

import argparse
import csv
import io
import json
import os
import re
import shutil
import signal
import struct
import tarfile
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CASES = 100  # in one process
CPU, WALL = 10.0, 60.0  # seconds a case may take
MEMORY = 6 << 30  # bytes of a process
WORDS = [
    b"-1",
    b"inf",
    b"nan",
    b"1e309",
    b"9" * 5000,
    b"\xff",
    b"\0",
    b"\xc2\xb2",
    b"../",
    b"/etc/passwd",
    b"[" * 3000,
    b"{",
    b"'",
    b"\\ud800",
    b"\r",
]
ODD: list[Any] = [
    None, True, -1, 0, 7, 2**70, 10**400, 1.5, float("nan"), float("inf"), "", " ", "007", "\ud800", "\0", "a\nb", "../x", "/etc/passwd", "train", "test",
    "[", "['a', 'b']", "[" * 2000, "{}", "-" * 3000, "0.png", [], {}, [None], ["a", 3], [[1, 2], 3], {"raw": "a"}, {"bytes": None, "path": "0.png"},
    {"size": [16, 16], "counts": "o" * 5000}, {"size": [9**9, 9**9], "counts": [1]}, {"size": [16, 16], "polygons": [[0, 0, 9, 0, 9, 9]] * 9},
]  # fmt: skip


class Hang(BaseException):
    """A case that took too long."""


def picture(seed: int, format: str = "png", **options: Any) -> bytes:
    """A noisy image of 16 x 16 pixels."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, format, **options)
    return buffer.getvalue()


def place(folder: Path) -> None:
    """Six images, a mask, a depth map, a vector and a sound."""
    for i in range(6):
        (folder / f"{i}.png").write_bytes(picture(i))
    Image.fromarray((np.eye(16) * 255).astype(np.uint8)).save(folder / "m.png")
    np.save(folder / "d.npy", np.linspace(1, 3, 256).reshape(16, 16))
    np.save(folder / "v.npy", np.ones(2))
    sing(folder / "s.wav")


def sing(path: Path, format: str | None = None, subtype: str | None = None) -> None:
    """A tone of a fifth of a second."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    tone = 0.5 * np.sin(np.arange(1600) / 9)
    soundfile.write(path, np.stack([tone, tone], 1), 8000, format=format, subtype=subtype)


@dataclass
class Case:
    """A data set, and the file of it that is damaged.

    Args:
        spec: what opens it.
        file: which file.
        good: its contents; several to choose from.
        options: of the source.
        words: that are put into it.
        rows: its rows, where it is a table.
        write: rows to contents.
        name: the column that names the image of a row.
        line: how it is told where a row stands, where lost rows are counted.
    """

    spec: str
    file: Path
    good: list[bytes]
    options: dict[str, Any] = field(default_factory=dict)
    words: list[bytes] = field(default_factory=lambda: WORDS)
    rows: list[Any] | None = None
    write: Callable[[list[Any]], bytes] | None = None
    name: str = ""
    line: str = ""


def jsonl(rows: list[Any]) -> bytes:
    """A row a line."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def comma(rows: list[Any]) -> bytes:
    """With a header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(
        buffer, list(rows[0]) if isinstance(rows[0], dict) and rows[0] else ["a"], extrasaction="ignore"
    )
    writer.writeheader()
    writer.writerows(row for row in rows if isinstance(row, dict))
    return buffer.getvalue().encode("utf-8", "surrogatepass")


def table_rows(name: str) -> list[dict[str, Any]]:
    """Six rows with everything that a manifest knows."""
    rows: list[dict[str, Any]] = [
        {name: f"{i}.png", "caption": [f"a {i}", "b"], "label": f"c{i % 2}", "split": "train", "key": f"k{i}"}
        for i in range(6)
    ]
    rows[1]["mask"], rows[2]["mask"] = "m.png", {"size": [16, 16], "counts": [0, 256]}
    rows[3]["mask"] = {"size": [16, 16], "polygons": [[0, 0, 9, 0, 9, 9]]}
    return rows


def manifest_jsonl(d: Path) -> Case:
    rows = table_rows("image")
    rows[4] |= {"depth": "d.npy", "audio": "s.wav"}
    options = {"depth_unit": "m", "audio_seconds": 0.2, "audio_rate": 8000, "mels": 0}
    return table_of_lines(d, rows, options)


def table_of_lines(d: Path, rows: list[dict[str, Any]], options: dict[str, Any]) -> Case:
    """A manifest in JSON lines."""
    return Case(
        f"manifest:{d / 't.jsonl'}",
        d / "t.jsonl",
        [jsonl(rows)],
        options,
        rows=rows,
        write=jsonl,
        name="image",
        line=r"line (\d+)$",
    )


def manifest_csv(d: Path) -> Case:
    rows = [{"image": f"{i}.png", "caption": f"a cat, {i}", "label": f"c{i % 2}", "split": "train"} for i in range(6)]
    words = [*WORDS, b",", b'"', b'""', b"\n", b"x" * 140_000, b";", b"\t", b"\xef\xbb\xbf"]
    return Case(f"manifest:{d / 't.csv'}", d / "t.csv", [comma(rows)], {}, words, rows, comma, "image")


def manifest_parquet(d: Path) -> Case:
    import pyarrow as pa
    import pyarrow.parquet as pq

    good = []
    for packed in ("none", "snappy", "zstd", "gzip"):
        columns = {
            "image": [f"{i}.png" for i in range(6)],
            "caption": [["a", "b"]] * 6,
            "label": pa.array(["x", "y"] * 3).dictionary_encode(),
        }
        mask = [json.dumps({"size": [16, 16], "counts": [0, 256]})] * 6
        buffer = io.BytesIO()
        pq.write_table(
            pa.table({**columns, "mask": mask, "when": pa.array(range(6), pa.timestamp("us"))}),
            buffer,
            compression=packed,
        )
        good.append(buffer.getvalue())
    return Case(f"manifest:{d / 't.parquet'}", d / "t.parquet", good)


def manifest_vectors(d: Path) -> Case:
    rows = [{"image": f"{i}.png", "caption": f"a {i}", "vec": [1.0, i], "split": "train"} for i in range(5)]
    rows.append({"image": "5.png", "caption": "e", "vec": "v.npy", "split": "train"})
    options = {"caption_vectors": "vec"}
    return table_of_lines(d, rows, options)


def without_sounds(d: Path) -> None:
    """The source `folder` refuses folders with sounds and arrays that it would not read."""
    for name in ("s.wav", "d.npy", "v.npy"):
        (d / name).unlink()


def folder_jsonl(d: Path) -> Case:
    without_sounds(d)
    rows = table_rows("file_name")
    path = d / "metadata.jsonl"
    return Case(f"folder:{d}", path, [jsonl(rows)], rows=rows, write=jsonl, name="file_name", line=r"line (\d+)$")


def folder_csv(d: Path) -> Case:
    without_sounds(d)
    rows = [{"file_name": f"{i}.png", "caption": f"a cat, {i}", "label": f"c{i % 2}"} for i in range(6)]
    words = [*WORDS, b",", b'"', b'""', b"\n", b"x" * 140_000]
    return Case(f"folder:{d}", d / "metadata.csv", [comma(rows)], {}, words, rows, comma, "file_name")


def karpathy(d: Path) -> Case:
    rows = [
        {"filename": f"{i}.png", "split": "train", "sentences": [{"raw": f"x {i}"}, {"raw": "y"}]} for i in range(6)
    ]

    def write(images: list[Any]) -> bytes:
        return json.dumps({"images": images}).encode()

    return Case(
        f"karpathy:{d}",
        d / "dataset.json",
        [write(rows)],
        rows=rows,
        write=write,
        name="filename",
        line=r"entry (\d+)$",
    )


def coco(d: Path) -> Case:
    images = [{"id": i, "file_name": f"{i}.png", "width": 16, "height": 16} for i in range(6)]
    polygon = [[0, 0, 9, 0, 9, 9]]
    marks = [
        {"image_id": i, "category_id": 1 + i % 2, "bbox": [0, 0, 9, 9], "area": 40, "segmentation": polygon}
        for i in range(5)
    ]
    marks.append({**marks[0], "image_id": 5, "iscrowd": 1, "segmentation": {"size": [16, 16], "counts": [0, 256]}})

    def write(both: list[Any]) -> bytes:
        return json.dumps(
            {
                "images": both[:6],
                "annotations": both[6:],
                "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
            }
        ).encode()

    (d / "captions_x.json").write_text(
        json.dumps({"annotations": [{"image_id": i, "caption": f"a {i}"} for i in range(6)]})
    )
    return Case(
        f"coco:{d / 'instances_x.json'}",
        d / "instances_x.json",
        [write([*images, *marks])],
        rows=[*images, *marks],
        write=write,
    )


def webdataset(d: Path) -> Case:
    buffer = io.BytesIO()
    described = json.dumps(
        {"caption": "x", "label": 1, "class": "c", "mask": {"size": [16, 16], "counts": [0, 256]}}
    ).encode()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for i in range(3):
            for ending, data in (("png", picture(i)), ("txt", b"a cat"), ("cls", b"3"), ("json", described)):
                entry = tarfile.TarInfo(f"k{i}.{ending}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    (d / "shards").mkdir()
    return Case(f"webdataset:{d / 'shards'}", d / "shards" / "t.tar", [buffer.getvalue()])


def hf_parquet(d: Path) -> Case:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": picture(i), "path": None} for i in range(6)], kind)
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": images, "caption": ["a", "b"] * 3, "label": [0, 1] * 3}), buffer)
    (d / "hf").mkdir()
    return Case(f"hf:{d / 'hf'}", d / "hf" / "train-00000-of-00001.parquet", [buffer.getvalue()])


def clotho(d: Path) -> Case:
    for i in range(6):
        sing(d / "development" / f"v{i}.wav")
    rows = [{"file_name": f"v{i}.wav", "caption_1": f"a {i}", "caption_2": "b"} for i in range(6)]
    options = {"audio_seconds": 0.2, "audio_rate": 8000, "mels": 0}
    return Case(
        f"clotho:{d}",
        d / "clotho_captions_development.csv",
        [comma(rows)],
        options,
        [*WORDS, b",", b'"', b"\n"],
        rows,
        comma,
    )


def ave(d: Path) -> Case:
    for i in range(6):
        sing(d / "audio" / f"v{i}.wav")
        (d / "frames").mkdir(exist_ok=True)
        shutil.copy(d / f"{i}.png", d / "frames" / f"v{i}.png")
    good = b"Category&VideoID&Quality&StartTime&EndTime\n" + b"".join(
        b"Dog%d&v%d&good&0&1\n" % (i % 2, i) for i in range(6)
    )
    options = {"audio_seconds": 0.2, "audio_rate": 8000, "mels": 0}
    return Case(f"ave:{d}", d / "Annotations.txt", [good], options, [*WORDS, b"&", b"inf", b"1e300", b"\n"])


def vggsound(d: Path) -> Case:
    for i in range(6):
        sing(d / "audio" / f"v{i}_000001.wav")
        (d / "frames").mkdir(exist_ok=True)
        shutil.copy(d / f"{i}.png", d / "frames" / f"v{i}_000001.png")
    good = b"".join(b'v%d,1,"dog, %d",train\n' % (i, i % 2) for i in range(6))
    options = {"audio_seconds": 0.2, "audio_rate": 8000, "mels": 0}
    return Case(f"vggsound:{d}", d / "vggsound.csv", [good], options, [*WORDS, b",", b'"', b"\n"])


def nyuv2(d: Path) -> Case:
    import h5py
    from scipy.io import savemat

    path = d / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "w") as file:
        noise = np.random.default_rng(0).integers(0, 255, (6, 3, 12, 10), dtype=np.uint8)
        file.create_dataset("images", data=noise, chunks=(1, 3, 6, 5), compression="gzip")
        file["depths"] = np.full((6, 12, 10), 2, np.float32)
        texts = file.create_group("#refs#")
        for name in ("scenes", "sceneTypes"):
            refs = [
                texts.create_dataset(f"{name}{i}", data=np.array([[ord(c)] for c in f"a{i}"], np.uint16)).ref
                for i in range(6)
            ]
            file.create_dataset(name, data=np.array([refs], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
    savemat(d / "splits.mat", {"trainNdxs": np.arange(1, 5)[:, None], "testNdxs": np.arange(5, 7)[:, None]})
    return Case(f"nyuv2:{d}", path, [path.read_bytes()])


def nyuv2_splits(d: Path) -> Case:
    from scipy.io import savemat

    case, good = nyuv2(d), []
    case.file.write_bytes(case.good[0])
    for format, packed in (("5", False), ("5", True), ("4", False)):
        buffer = io.BytesIO()
        savemat(
            buffer,
            {"trainNdxs": np.arange(1, 5)[:, None], "testNdxs": np.arange(5, 7)[:, None]},
            format=format,
            do_compression=packed,
        )
        good.append(buffer.getvalue())
    return Case(case.spec, d / "splits.mat", good)


def files_of(d: Path, column: str, good: list[bytes], more: dict[str, Any] | None = None, **options: Any) -> Case:
    """A manifest of one row, whose file in `column` is damaged."""
    row = {"caption": "a", "split": "train", "key": "k", **(more or {}), column: "x.bin"}
    (d / "t.jsonl").write_bytes(jsonl([row, {"caption": "b", "split": "train", "key": "l", "image": "0.png"}]))
    return Case(f"manifest:{d / 't.jsonl'}", d / "x.bin", good, options)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def arrays(*values: Any) -> list[bytes]:
    made = []
    for value in values:
        for version in ((1, 0), (2, 0), (3, 0)):
            buffer = io.BytesIO()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                np.lib.format.write_array(buffer, np.asarray(value), version=version)
            made.append(buffer.getvalue())
    return made


def images(d: Path) -> Case:
    noise = Image.open(io.BytesIO(picture(0)))
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [
        ("png", {}),
        ("jpeg", {}),
        ("jpeg", {"progressive": True}),
        ("webp", {}),
        ("gif", {}),
        ("bmp", {}),
        ("ppm", {}),
        ("jpeg2000", {}),
        ("ico", {}),
        ("tga", {}),
    ]
    kinds += [("tiff", {"compression": c}) for c in ("raw", "tiff_deflate", "jpeg", "tiff_lzw")] + [("avif", {})]
    good = [
        encoded(noise, "png", exif=exif),
        encoded(noise.convert("P"), "png", transparency=0),
        encoded(noise.convert("1"), "bmp"),
        encoded(noise, "webp", save_all=True, append_images=[noise]),
    ]
    for format, options in kinds:
        try:
            good.append(encoded(noise, format, **options))
        except (OSError, KeyError):
            continue
    return files_of(d, "image", good)


def masks(d: Path) -> Case:
    segments = [
        {"size": [16, 16], "counts": [0, 256]},
        {"size": [16, 16], "counts": "08OO4"},
        {"size": [16, 16], "polygons": [[0, 0, 9, 0, 9, 9]]},
    ]
    good = [
        (d / "m.png").read_bytes(),
        *arrays(np.eye(16), np.eye(16, dtype=bool)),
        *[json.dumps(s).encode() for s in segments],
        json.dumps(segments).encode(),
    ]
    return files_of(d, "mask", good, {"image": "1.png"})


def depth(d: Path) -> Case:
    steps = np.linspace(1, 3, 256).reshape(16, 16)
    good = [
        *arrays(steps, steps.astype(np.float32), (1000 * steps).astype(np.uint16)),
        encoded(Image.fromarray(steps.astype(np.float32)), "tiff"),
    ]
    good.append(encoded(Image.fromarray((100 * steps).astype(np.uint16)), "png"))
    return files_of(d, "depth", good, {"image": "1.png"}, depth_unit="0.01")


def sounds(d: Path) -> Case:
    good = []
    for format, subtype in (
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("WAV", "ULAW"),
        ("WAV", "IMA_ADPCM"),
        ("FLAC", "PCM_24"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
        ("AIFF", "PCM_16"),
        ("CAF", "ALAC_16"),
        ("RF64", "PCM_16"),
        ("W64", "PCM_16"),
        ("AU", "PCM_16"),
        ("VOC", "PCM_16"),
        ("NIST", "PCM_16"),
        ("HTK", "PCM_16"),
        ("AVR", "PCM_16"),
    ):
        try:
            sing(d / "made", format, subtype)
        except (RuntimeError, TypeError, ValueError):  # a kind that this libsndfile does not write
            continue
        good.append((d / "made").read_bytes())
    return files_of(d, "audio", good, audio_seconds=0.2, audio_rate=8000, mels=0)


def vectors(d: Path) -> Case:
    return files_of(d, "vec", arrays(np.ones(2), np.ones(2, np.float32)), {"image": "1.png"}, caption_vectors="vec")


READERS: dict[str, Callable[[Path], Case]] = {
    "manifest.jsonl": manifest_jsonl, "manifest.csv": manifest_csv, "manifest.parquet": manifest_parquet, "manifest.vectors": manifest_vectors,
    "folder.jsonl": folder_jsonl, "folder.csv": folder_csv, "karpathy": karpathy, "coco": coco, "webdataset": webdataset, "hf.parquet": hf_parquet,
    "clotho": clotho, "ave": ave, "vggsound": vggsound, "nyuv2": nyuv2, "nyuv2.splits": nyuv2_splits,
    "image": images, "mask": masks, "depth": depth, "audio": sounds, "vector": vectors,
}  # fmt: skip


def damaged(rng: np.random.Generator, data: bytes, words: list[bytes]) -> bytes:
    """One to five changes."""
    b = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        if not b:
            break
        kind, at = int(rng.integers(8)), int(rng.integers(len(b)))
        if kind == 0:
            b[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            b[at] = int(rng.integers(256))
        elif kind == 2:
            del b[at : at + int(rng.integers(1, 40))]
        elif kind == 3 and rng.random() < 0.3:
            b = b[:at]
        elif kind == 4:
            b[at:at] = rng.integers(0, 256, int(rng.integers(1, 9)), dtype=np.uint8).tobytes()
        elif kind == 5 and len(b) > 8:
            at = int(rng.integers(len(b) - 8))
            number = int(rng.choice([0, 1, 255, 2**16, 2**31 - 1, 2**32 - 1]))
            b[at : at + 4] = struct.pack("<I" if rng.random() < 0.5 else ">I", number)
        elif kind == 6:
            b[at:at] = words[int(rng.integers(len(words)))]
        else:
            end = int(rng.integers(len(b)))
            b[at:at] = b[min(at, end) : max(at, end)][:200]
    return bytes(b)


def with_odd(rng: np.random.Generator, rows: list[Any]) -> list[Any]:
    """The rows with one to three values replaced, dropped or put elsewhere."""
    tree = json.loads(json.dumps(rows))
    for _ in range(int(rng.integers(1, 4))):
        node, odd = tree, ODD[int(rng.integers(len(ODD)))]
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = keys[int(rng.integers(len(keys)))]
            if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.8:
                node = node[key]
                continue
            if rng.random() < 0.15 and node is not tree:
                node.pop(key)
            else:
                node[key] = odd
            break
    return tree


def checksummed(tar: bytes) -> bytes:
    """A tar whose heads have the right sums, so that what they say is looked at."""
    b = bytearray(tar)
    for at in range(0, len(b) - 511, 512):
        if b[at + 257 : at + 262] == b"ustar":
            b[at + 148 : at + 156] = b" " * 8
            b[at + 148 : at + 156] = b"%06o\0 " % sum(b[at : at + 512])
    return bytes(b)


def opened(case: Case, cache: Any) -> Any:
    """The listing, after each split that can be opened was."""
    from limbeck import registry
    from limbeck.data.records import RecordSource
    from limbeck.errors import LimbeckError
    from limbeck.runtime.runtime import Runtime

    name, path = registry.parse_spec(case.spec)
    layout = registry.get("source", name)(path=path, resolution=16, max_skipped=1.0, workers=0, **case.options)
    listing = layout.read()
    for split in listing.splits:
        try:
            source = RecordSource(layout, listing, split, Runtime(cache=cache))
            source.batch(range(min(len(source), 3)))
            assert source.fingerprint
        except LimbeckError:
            continue
    return listing


def lost(case: Case, rows: list[Any], listing: Any) -> int:
    """Rows that name an image which is there, and are in no record and under no reason."""
    if not case.line:
        return 0
    told, loose = set(), 0
    for skipped in listing.skipped:
        found = re.search(case.line, skipped.where)
        if found:
            told.add(int(found[1]))
        else:
            loose += 1
    seen = {os.path.basename(str(getattr(r.image, "path", ""))) for r in listing.records}
    first = 0 if case.line.startswith("entry") else 1
    gone = 0
    for number, row in enumerate(rows, start=first):
        name = row.get(case.name) if isinstance(row, dict) else None
        here = isinstance(name, str) and re.fullmatch(r"\d\.png", name)
        gone += bool(here and name not in seen and number not in told)
    return max(0, gone - loose)


def place_of(error: BaseException) -> str:
    """Kind of an error, and where in Limbeck it came up."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "/limbeck/" in f.filename] or frames
    return f"{type(error).__name__} at {own[-1].filename.split('limbeck/')[-1]}:{own[-1].lineno}"


def try_cases(name: str, seed: int, folder: Path, report: Path) -> None:
    """`CASES` cases; writes what came of each as a line, before and after."""
    from limbeck.errors import LimbeckError
    from limbeck.runtime.cache import Cache

    case, rng = READERS[name](folder), np.random.default_rng(seed)
    cache = Cache(folder / "cache")
    case.file.write_bytes(case.good[0])
    opened(case, cache)  # what is refused without damage would tell nothing

    def stop(*_: Any) -> None:
        raise Hang

    signal.signal(signal.SIGPROF, stop)
    signal.signal(signal.SIGALRM, stop)
    with report.open("a", encoding="utf-8") as file:

        def say(*words: str) -> None:
            file.write("\t".join(words) + "\n")
            file.flush()

        for _ in range(CASES):
            rows = with_odd(rng, case.rows) if case.rows is not None and rng.random() < 0.5 else None
            good = case.good[int(rng.integers(len(case.good)))]
            try:
                data = case.write(rows) if rows is not None and case.write else damaged(rng, good, case.words)
            except (UnicodeEncodeError, csv.Error):
                continue
            if name == "webdataset" and rng.random() < 0.8:
                data = checksummed(data)
            case.file.write_bytes(data)
            say("begin")
            signal.setitimer(signal.ITIMER_PROF, CPU)
            signal.setitimer(signal.ITIMER_REAL, WALL)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    listing = opened(case, cache)
                gone = lost(case, rows, listing) if rows is not None else 0
                word = ("lost", f"{gone} rows without a word") if gone else ("fine", "")
            except LimbeckError:
                word = ("refused", "")
            except Hang as error:
                word = ("hang", place_of(error))
            except Exception as error:  # noqa: BLE001  what is counted
                word = ("traceback", place_of(error))
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.setitimer(signal.ITIMER_REAL, 0)
            if word[0] not in ("fine", "refused"):
                keep(report.parent, name, word, data)
            say(*word)


def keep(folder: Path, name: str, word: tuple[str, str], data: bytes) -> None:
    """Writes down what failed, if it is the smallest of its kind."""
    path = folder / re.sub(r"[^A-Za-z0-9.]+", "_", f"{name} {' '.join(word)}")[:120]
    if not path.is_file() or path.stat().st_size > len(data):
        path.write_bytes(data)


def round_of(name: str, seed: int, found: Path) -> Counter[tuple[str, str]]:
    """One process of cases."""
    import resource

    folder, report = Path(tempfile.mkdtemp()), found / f".{name}-{os.getpid()}"
    place(folder)
    report.write_text("")
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = 1
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)  # what libraries print of damaged files
            try_cases(name, seed, folder, report)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    lines = [tuple(line.split("\t")) for line in report.read_text(encoding="utf-8").splitlines()]
    counts = Counter((line[0], line[1] if len(line) > 1 else "") for line in lines if line[0] != "begin")
    if status:
        what = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
        counts["died", what] += 1
        bad = [
            p
            for p in folder.rglob("*")
            if p.is_file() and p.stat().st_mtime == max(q.stat().st_mtime for q in folder.rglob("*") if q.is_file())
        ]
        keep(found, name, ("died", what), bad[0].read_bytes() if bad else b"")
    report.unlink()
    shutil.rmtree(folder)  # made by mkdtemp above
    return counts


def main() -> None:
    """Goes round all readers until the time is over, then prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--reader", default=",".join(READERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    asked.found.mkdir(parents=True, exist_ok=True)
    import limbeck
    import limbeck.data.records
    import limbeck.sources  # once, for all processes

    names, totals, turn = asked.reader.split(","), {}, 0
    end = time.monotonic() + 60 * asked.minutes
    while time.monotonic() < end:
        for name in names:
            totals.setdefault(name, Counter()).update(round_of(name, asked.seed + turn, asked.found))
            if time.monotonic() > end:
                break
        turn += 1
        cases = sum(sum(c.values()) for c in totals.values())
        bad = sum(n for c in totals.values() for (word, _), n in c.items() if word not in ("fine", "refused"))
        print(f"round {turn}: {cases} cases, {bad} failures", flush=True)
    words = ("fine", "refused", "traceback", "hang", "died", "lost")
    print("| reader | cases | " + " | ".join(words) + " |\n|---|--:|" + "--:|" * len(words))
    for name, counts in totals.items():
        sums = [sum(n for (word, _), n in counts.items() if word == w) for w in words]
        print(f"| {name} | {sum(sums)} | " + " | ".join(map(str, sums)) + " |")
    kinds = {
        f"{name}: {word} {what}": n
        for name, c in totals.items()
        for (word, what), n in c.items()
        if word not in ("fine", "refused")
    }
    for kind, n in sorted(kinds.items()):
        print(f"{n} x {kind}")
    if asked.json:
        asked.json.write_text(
            json.dumps(
                {
                    "limbeck": limbeck.__version__,
                    "seed": asked.seed,
                    "cases": {n: sum(c.values()) for n, c in totals.items()},
                    "kinds": kinds,
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
