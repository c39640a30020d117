"""Readers to be fuzzed: each writes well-formed data, of which one file is then changed, and reads it."""

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from limbeck import registry
from limbeck.data.layout import Listing
from limbeck.errors import LimbeckError

from .conftest import image_bytes
from .written import TEXT, TYPED, karpathy

ROWS = [
    {"caption": ["a cat", "a tabby"], "label": 1, "class": "cat", "split": "train"},
    {"caption": ["a dog"], "label": 0, "class": "dog", "split": "test"},
    {"caption": None, "label": -1, "class": "", "split": "val"},
]
TOKENS = [
    b'"', b"'", b"[", b"]", b"{", b"}", b",", b";", b"\t", b"|", b"\n", b"\r", b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf",
    b"9" * 400, b"1e999", b"-1", b"NaN", b"null", b"true", b"[" * 300, b'{"a":' * 300, b"../", b"/etc/", b"\\ud800", b"\xc2\xb2",
]  # fmt: skip


def coco(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    """COCO's instances, with captions beside."""
    images, held, said = [], [], []
    for i, row in enumerate(rows):
        (folder / f"{i}.png").write_bytes(image_bytes(i))
        images.append({"id": i, "file_name": f"{i}.png", "height": 14, "width": 20})
        held.append(
            {"image_id": i, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]], "area": 9.0, "bbox": [1, 1, 8, 8]}
        )
        said.append({"image_id": i, "caption": row["caption"]})
    (folder / "captions_train.json").write_text(json.dumps({"annotations": said}))
    instances = {"images": images, "annotations": held, "categories": [{"id": 1, "name": "cat"}]}
    (folder / "instances_train.json").write_text(json.dumps(instances))
    return f"coco:{folder}"


def vggsound(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    """VGGSound's list, with frames alone."""
    (folder / "frames").mkdir()
    for i in range(len(rows)):
        (folder / "frames" / f"v{i}_{i:06d}.png").write_bytes(image_bytes(i))
    (folder / "vggsound.csv").write_text("".join(f'v{i},{i},"cat, purring",train\n' for i in range(len(rows))))
    return f"vggsound:{folder}"


def ave(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    """AVE's annotations, with frames alone."""
    (folder / "frames").mkdir()
    for i in range(len(rows)):
        (folder / "frames" / f"v{i}.png").write_bytes(image_bytes(i))
    lines = "".join(f"Church bell&v{i}&good&0&10\n" for i in range(len(rows)))
    (folder / "Annotations.txt").write_text("Category&VideoID&Quality&StartTime&EndTime\n" + lines)
    return f"ave:{folder}"


def clotho(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    """Clotho's captions, with sounds that nobody decodes."""
    (folder / "development").mkdir()
    for i in range(len(rows)):
        (folder / "development" / f"{i}.wav").write_bytes(b"RIFF")
    lines = "".join(f"{i}.wav,a,b,c,d,e\n" for i in range(len(rows)))
    header = "file_name," + ",".join(f"caption_{i}" for i in range(1, 6))
    (folder / "clotho_captions_development.csv").write_text(f"{header}\n{lines}")
    return f"clotho:{folder}"


def beside(folder: Path, rows: Sequence[dict[str, Any]]) -> str:
    """Images with their captions in files beside them."""
    for i, row in enumerate(rows):
        (folder / f"{i}.png").write_bytes(image_bytes(i))
        (folder / f"{i}.json").write_text(json.dumps(row))
    return f"folder:{folder}"


READERS: dict[str, tuple[Callable[[Path, Any], str], str, dict[str, Any]]] = {
    "manifest_jsonl": (TYPED["manifest_jsonl"], "t.jsonl", {}),
    "manifest_parquet": (TYPED["manifest_parquet"], "t.parquet", {}),
    "manifest_csv": (TEXT["manifest_csv"], "t.csv", {}),
    "manifest_tsv": (TEXT["manifest_tsv"], "t.tsv", {}),
    "folder_jsonl": (TYPED["folder_jsonl"], "metadata.jsonl", {}),
    "folder_csv": (TEXT["folder_csv"], "metadata.csv", {}),
    "beside": (beside, "0.json", {}),
    "webdataset": (TYPED["webdataset"], "0.tar", {}),
    "karpathy": (karpathy, "c.json", {}),
    "coco": (coco, "instances_train.json", {}),
    "coco_captions": (coco, "captions_train.json", {}),
    "vggsound": (vggsound, "vggsound.csv", {"audio": ""}),
    "ave": (ave, "Annotations.txt", {"audio": ""}),
    "clotho": (clotho, "clotho_captions_development.csv", {}),
}
"""Name to how its data are written, which file of them is changed, and the options with which they are read."""


def read(spec: str, **options: Any) -> Listing:
    """What a source lists."""
    name, path = registry.parse_spec(spec)
    found: Listing = registry.get("source", name)(path=path, **options).read()
    return found


def read_changed(name: str, folder: Path, change: Callable[[bytes], bytes]) -> Listing | None:
    """Writes the data of a reader into an empty folder, changes their file, and reads them.

    Returns:
        the listing, or `None` where the data are refused as they should be; every other error is a fault.
    """
    write, file, options = READERS[name]
    spec = write(folder, [dict(row) for row in ROWS])
    path = folder / file
    path.write_bytes(change(path.read_bytes()))
    try:
        return read(spec, **options)
    except LimbeckError as error:
        assert str(error)
        return None


edits = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True), st.integers(0, 40), st.one_of(st.sampled_from(TOKENS), st.binary(max_size=4))
    ),
    min_size=1,
    max_size=6,
)
"""Where, how many bytes go, and what comes in their place."""


def edited(data: bytes, changes: Sequence[tuple[float, int, bytes]]) -> bytes:
    """The bytes after some edits."""
    for at, gone, come in changes:
        start = int(at * (len(data) + 1))
        data = data[:start] + come + data[start + gone :]
    return data


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(10**15, 10**30),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(
            ["0.png", "../0.png", "/0.png", "[1", "['a'", "007", "-1", "10.0", "train", "\ud800", "a\0b", "x" * 2000]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["raw", "bytes", "path", "size", "counts", "polygons", "x"]), inner, max_size=3
        ),
    ),
    max_leaves=6,
)
"""Anything that JSON can hold."""


def shard_of(rows: Sequence[Any], path: Path) -> None:
    """A shard whose samples have these JSON members."""
    with tarfile.open(path, "w") as tar:
        for i, row in enumerate(rows):
            for name, data in ((f"{i}.png", image_bytes(i)), (f"{i}.json", json.dumps(row).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
