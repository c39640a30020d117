"""What strangers put into data: nothing of it ends in a traceback, hangs, or reads what lies elsewhere."""

import io
import json
import os
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import limbeck as lb
from limbeck import registry
from limbeck.data.layout import Listing
from limbeck.data.shards import expand
from limbeck.data.tables import check_parquet
from limbeck.errors import ConfigError, DataError
from limbeck.limits import CAPTION, NAME, TEXT_FILE, scaled_limits

from .conftest import image_bytes
from .written import (
    TEXT,
    TYPED,
    folder_csv,
    hf,
    karpathy,
    manifest_csv,
    manifest_jsonl,
    manifest_parquet,
    names,
    webdataset,
)

datasets = pytest.importorskip("datasets")

LONG = "9" * 5000
DEEP = 100_000


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("hf")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", root)
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", root / "downloads")
    datasets.disable_progress_bars()


def read(spec: str, **options: Any) -> Listing:
    name, path = registry.parse_spec(spec)
    found: Listing = registry.get("source", name)(path=path, **options).read()
    return found


def rows(count: int = 12, **more: Any) -> list[dict[str, Any]]:
    """Rows with a caption each, of which the first is odd."""
    made: list[dict[str, Any]] = [{"caption": f"picture number {i}"} for i in range(count)]
    made[0] |= more
    return made


def why(listing: Listing) -> list[str]:
    return [s.reason for s in listing.skipped]


@pytest.mark.parametrize("source", [*TYPED, *TEXT])
@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"label": LONG}, f"label of {NAME}"),
        ({"caption": "x" * ((1 << 20) + 1)}, f"caption of {CAPTION}"),
        ({"caption": "['a', 'b"}, "a list of captions that is not whole"),
    ],
)
def test_one_bad_value_costs_one_row(tmp_path: Path, source: str, cells: dict[str, Any], reason: str) -> None:
    if source == "webdataset" and len(str(cells)) > 1 << 20:
        reason = f"a text of {TEXT_FILE}"
    found = read({**TYPED, **TEXT}[source](tmp_path, rows(**cells)))
    assert why(found) == [reason] and len(found.records) == 11


@pytest.mark.parametrize("source", [*TYPED, *TEXT])
def test_a_caption_of_many_signs_is_a_caption(tmp_path: Path, source: str) -> None:
    signs = "[" + "-" * 9000 + "1]"
    found = read({**TYPED, **TEXT}[source](tmp_path, rows(caption=signs)))
    assert not found.skipped and (signs,) in [r.captions for r in found.records]


@pytest.mark.parametrize(
    "line",
    [
        '{"image": "0.png", "x": ' + LONG + "}",
        '{"image": "0.png", "caption": ' + "[" * DEEP,
        '{"image": "0.png", "caption": "caf\udce9"}',
        '{"image": "0.png", "label": "c\\ud83d"}',
        '{"image": "0.png", "key": "c\\ud83d"}',
        '{"image": "0.png", "split": "c\\ud83d"}',
        '{"image": "c\\ud83d.png"}',
        '{"image": "0\\u0000.png"}',
        '{"image": "http://a/b.png"}',
        '{"image": "0.png", "caption": {"a": {"b": 1}}}',
        '{"image": "0.png", "label": {"a": 1}}',
        '{"image": "0.png", "label": 1' + "0" * 400 + "}",
        '{"image": "0.png", "split": 7}',
        '{"image": "0.png", "key": [1]}',
    ],
    ids=range(14),
)
def test_lines_of_json(tmp_path: Path, line: str) -> None:
    table = Path(manifest_jsonl(tmp_path, rows()).partition(":")[2])
    table.write_bytes(table.read_bytes() + line.encode("utf-8", "surrogateescape") + b"\n")
    found = read(f"manifest:{table}")
    assert len(found.records) == 12 and len(found.skipped) == 1, why(found)
    lb.source(f"manifest:{table}", resolution=8, max_skipped=0.5)


@pytest.mark.parametrize("source", ["karpathy", "coco"])
@pytest.mark.parametrize(
    "text", ["[" * DEEP, '{"images": [{"id": ' + LONG + "}]}", '{"images": 3}', "\udce9", '"' + "x" * 9]
)
def test_json_files(tmp_path: Path, source: str, text: str) -> None:
    (tmp_path / "instances_x.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError):
        read(f"{source}:{tmp_path}")


@pytest.mark.parametrize(
    "annotation",
    [
        {"bbox": [None] * 4},
        {"bbox": ["a", "b", "c", "d"]},
        {"bbox": [{}, {}, {}, {}]},
        {"bbox": [[1], [1], [1], [1]]},
        {"bbox": [0, 0, 10**400, 10**400]},
        {"area": 10**400},
        {"area": "large", "bbox": 7},
        {"area": float("nan")},
        {"segmentation": "x"},
        {"segmentation": {"counts": [10**30], "size": [14, 20]}},
    ],
)
def test_instances_of_coco(tmp_path: Path, annotation: dict[str, Any]) -> None:
    (tmp_path / "0.png").write_bytes(image_bytes(0))
    images = [{"id": 0, "file_name": "0.png", "width": 20, "height": 14}]
    one = {"image_id": 0, "category_id": 1, **annotation}
    held = {"images": images, "annotations": [one, {**one, "area": 3}], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "instances_train.json").write_text(json.dumps(held))
    found = read(f"coco:{tmp_path}")
    assert found.classes in (("cat",), ())
    (tmp_path / "captions_train.json").write_text('{"annotations": [{"image_id": [1], "caption": "x"}]}')
    with pytest.raises(DataError, match="image_id that is neither a number nor a name"):
        read(f"coco:{tmp_path}")


QUOTE = "a quote opens there that is never closed, so that all lines behind it are lost"


@pytest.mark.parametrize("write", [manifest_csv, folder_csv])
def test_a_quote_that_is_not_closed(tmp_path: Path, write: Callable[..., str]) -> None:
    path = Path(write(tmp_path, rows(200)).partition(":")[2])
    table = path / "metadata.csv" if path.is_dir() else path
    mark = ";" if path.is_dir() else ","
    lines = table.read_text().splitlines()
    spec = f"{'folder' if path.is_dir() else 'manifest'}:{path}"

    def stray(*at: int) -> None:
        cut = [line.partition(mark) for line in lines]
        held = [f'{a}{m}"{b}' if i in at else f"{a}{m}{b}" for i, (a, m, b) in enumerate(cut)]
        table.write_text("\n".join(held) + "\n")

    stray(100)
    with pytest.raises(DataError, match=f"line 101: {QUOTE}"):
        read(spec)
    stray(100, 150)
    with pytest.raises(DataError, match="lines 101 to 151: a quoted cell goes on behind its closing quote"):
        read(spec)
    stray(100)
    table.write_text(table.read_text().replace("number 149\n", 'number 149"\n'))
    with pytest.raises(DataError, match="line 101: a quote opens there that takes whole rows into its cell"):
        read(spec)


def test_quotes_that_are_closed(tmp_path: Path) -> None:
    table = Path(manifest_csv(tmp_path, rows(2)).partition(":")[2])
    table.write_text('image,caption\n0.png,"one, ""two""\nthree, four\nfive"\n1.png,a 5" disk\n')
    assert [r.captions[0] for r in read(f"manifest:{table}").records] == ['one, "two" three, four five', 'a 5" disk']


def test_long_cells(tmp_path: Path) -> None:
    table = Path(manifest_csv(tmp_path, rows(3)).partition(":")[2])
    table.write_text(table.read_text() + '2.png,"' + "y" * 200_000 + '"\n')
    assert max(len(c) for r in read(f"manifest:{table}").records for c in r.captions) == 200_000
    table.write_text("image," + "x" * 140_000 + "\n0.png,a\n")
    assert list(read(f"manifest:{table}").unread["columns"]) == ["x" * 140_000]


def test_parquet(tmp_path: Path) -> None:
    spec = manifest_parquet(tmp_path, rows(6))
    table = Path(spec.partition(":")[2])
    files = [f"{i}.png" for i in range(6)]
    raw = [None, pa.py_buffer(struct.pack("<7i", *range(7))), pa.py_buffer(b"ab\xff\xfede")]
    pq.write_table(pa.table({"image": files, "caption": pa.Array.from_buffers(pa.string(), 6, raw)}), table)
    found = read(spec)
    assert why(found) == ["not UTF-8"] * 2 and len(found.records) == 4
    day = pa.array([2**30] * 6, pa.int32()).cast(pa.date32())
    pq.write_table(pa.table({"image": files, "caption": ["x"] * 6, "day": day}), table)
    assert read(spec).unread == {"columns": {"day": 6}}
    pq.write_table(pa.table({"image": files, "caption": day}), table)
    assert why(read(spec)) == ["a value that cannot be read"] * 6
    data = table.read_bytes()
    for at in (10, len(data) // 2, len(data) - 9):
        table.write_bytes(data[:at] + b"\xff\xff" + data[at + 2 :])
        try:
            read(spec)
        except DataError as error:
            assert "cannot be read as Parquet" in str(error) or "no column" in str(error)


@pytest.mark.slow
def test_a_dictionary_bomb(tmp_path: Path) -> None:
    table = tmp_path / "t.parquet"
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 4000, pa.int32()), pa.array(["a" * 900_000]))
    pq.write_table(pa.table({"caption": text}), table, compression="zstd")
    assert table.stat().st_size < 200_000
    for spec in (f"manifest:{table}", f"hf:{tmp_path}"):
        with pytest.raises(DataError, match="it was made to fill the memory, or repeats itself"):
            read(spec)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", [pa.string(), pa.binary()])
def test_tables_are_unpacked_by_datasets_only_where_they_do_not_swell(
    tmp_path: Path, kind: pa.DataType, nested: bool
) -> None:
    texts = pa.array(["a" * 9000] * 300, kind)
    if nested:
        texts = pa.ListArray.from_arrays(pa.array(range(301), pa.int32()), texts)
    image = [image_bytes(i % 9) for i in range(300)]
    pq.write_table(pa.table({"image": image, "caption": texts}), tmp_path / "train.parquet")
    check_parquet(tmp_path / "train.parquet")
    with scaled_limits(0.005), pytest.raises(DataError, match="more than 0 times its size, see --limits"):
        check_parquet(tmp_path / "train.parquet")
    with scaled_limits(0.02):
        check_parquet(tmp_path / "train.parquet")


def test_hf_reads_no_file_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "private.png").write_bytes(image_bytes(5))
    folder = tmp_path / "data"
    folder.mkdir()
    held = [{"image": {"bytes": image_bytes(i), "path": None}, "caption": f"a {i}"} for i in range(4)]
    held += [{"image": {"bytes": None, "path": str(tmp_path / "private.png")}, "caption": "b"}]
    held += [{"image": {"bytes": None, "path": "../private.png"}, "caption": "c"}]
    held += [{"image": {"bytes": None, "path": "/proc/kmsg"}, "caption": "d"}]
    pq.write_table(pa.Table.from_pylist(held), folder / "train-0.parquet")
    found = read(f"hf:{folder}")
    assert len(found.records) == 4 and len(found.skipped) == 3
    assert {reason.split(" /")[0] for reason in why(found)} == {"an absolute path outside", "leads out of"}


@pytest.mark.parametrize("write", [manifest_jsonl, manifest_csv, folder_csv, karpathy])
def test_links_that_lead_out_are_not_followed(tmp_path: Path, write: Callable[..., str]) -> None:
    (tmp_path / "data").mkdir()
    spec = write(tmp_path / "data", rows(4))
    (tmp_path / "private.png").write_bytes(image_bytes(9))
    (tmp_path / "data" / "0.png").unlink()
    (tmp_path / "data" / "0.png").symlink_to(tmp_path / "private.png")
    (tmp_path / "data" / "inner.png").symlink_to(tmp_path / "data" / "1.png")
    found = read(spec)
    assert len(found.records) == 3 and "a link that leads out of" in why(found)[0]
    if write is not karpathy:
        assert len(read(spec, files="..").records) == 4, "a person allows the folder"


def test_links_in_class_folders(tmp_path: Path) -> None:
    for name in ("a/0.png", "b/1.png"):
        (tmp_path / "data" / name).parent.mkdir(parents=True)
        (tmp_path / "data" / name).write_bytes(image_bytes(1))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "2.png").write_bytes(image_bytes(2))
    (tmp_path / "data" / "c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "a" / "round").symlink_to(tmp_path / "data")
    found = read(f"folder:{tmp_path / 'data'}")
    assert [r.key for r in found.records] == ["a/0.png", "b/1.png"] and len(found.skipped) == 1
    assert len(read(f"folder:{tmp_path / 'data'}", files="../elsewhere").records) == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_fifos_do_not_hang(tmp_path: Path) -> None:
    for name in ("t.jsonl", "t.csv", "t.parquet", "t.tar", "t.json"):
        os.mkfifo(tmp_path / name)
    for spec in (
        "manifest:t.jsonl",
        "manifest:t.csv",
        "manifest:t.parquet",
        "webdataset:t.tar",
        "karpathy:t.json",
        "coco:t.json",
    ):
        source, _, name = spec.partition(":")
        with pytest.raises(DataError, match="is not a regular file"):
            read(f"{source}:{tmp_path / name}")
    for source in ("webdataset", "hf"):
        with pytest.raises(DataError, match="not a regular file"):
            read(f"{source}:{tmp_path}")
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "a" / "0.png")
    (tmp_path / "a" / "1.png").write_bytes(image_bytes(1))
    assert why(read(f"folder:{tmp_path}")) == ["not a regular file"]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "good.png").write_bytes(image_bytes(1))
        with open(os.fsencode(tmp_path / kind) + b"/photo\xe9.png", "wb") as file:
            file.write(image_bytes(2))
    found = read(f"folder:{tmp_path}")
    assert len(found.records) == 2 and why(found) == ["its name is not UTF-8: rename it"] * 2
    with pytest.raises(ConfigError, match="is not UTF-8"):
        read("folder:caf\udce9")
    path = Path(webdataset(tmp_path, rows(3)).partition(":")[2]) / "0.tar"
    with tarfile.open(path, "a", encoding="latin-1", format=tarfile.GNU_FORMAT) as tar:
        for name, data in (("caf\xe9.png", image_bytes(1)), ("caf\xe9.txt", b"coffee")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert why(read(f"webdataset:{path}")) == ["key is not UTF-8"]


@pytest.mark.parametrize(
    "pattern",
    [
        "{0..99999999999999999999}.tar",
        "{a,b}" * 31 + ".tar",
        "{" * 5000 + "}" * 5000,
        "{0..999999999}x.tar",
        "a" * 5000,
    ],
)
def test_patterns_of_shards(tmp_path: Path, pattern: str) -> None:
    with pytest.raises((DataError, ConfigError)):
        read(f"webdataset:{tmp_path}/{pattern}")
    assert expand("a{b}c") == ["abc"]


def test_members_that_are_too_large(tmp_path: Path) -> None:
    path = Path(webdataset(tmp_path, rows(3)).partition(":")[2]) / "0.tar"
    with tarfile.open(path, "a") as tar:
        for name, data in (
            ("9.png", image_bytes(1)),
            ("9.cls", b"9" * 5000),
            ("8.png", image_bytes(2)),
            ("8.txt", b"x" * (2 << 20)),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert why(read(f"webdataset:{path}")) == [f"label of {NAME}", f"a text of {TEXT_FILE}"]


@pytest.mark.parametrize("pattern", ["/abs/*.json", "../*.json", "**x", ""])
def test_patterns_of_annotations(tmp_path: Path, pattern: str) -> None:
    karpathy(tmp_path, rows(2))
    for source in ("karpathy", "coco"):
        try:
            read(f"{source}:{tmp_path}", annotations=pattern)
        except (DataError, ConfigError) as error:
            assert str(error)


def test_the_share_of_what_is_skipped_is_never_above_one(tmp_path: Path) -> None:
    held = [{**row, "split": "train"} for row in names(tmp_path, [{"caption": f"a {i}"} for i in range(3)], "file")]
    held += [{"file": f"gone{i}.png", "split": "train"} for i in range(9)]
    (tmp_path / "c.json").write_text(json.dumps([*held, *[{"split": "train", "x": i} for i in range(9)], *[7] * 9]))
    with pytest.raises(DataError, match=r"--source.max_skipped 1 "):
        lb.source(f"karpathy:{tmp_path}", resolution=8)
    assert lb.source(f"karpathy:{tmp_path}", resolution=8, max_skipped=1.0).captions[0]


def test_hf_texts_that_are_not_utf8(tmp_path: Path) -> None:
    hf(tmp_path, [])
    raw = [None, pa.py_buffer(struct.pack("<5i", *range(5))), pa.py_buffer(b"ab\xff\xfe")]
    held = {"image": [image_bytes(i) for i in range(4)], "caption": pa.Array.from_buffers(pa.string(), 4, raw)}
    pq.write_table(pa.table(held), tmp_path / "train-00000-of-00001.parquet")
    try:
        assert why(read(f"hf:{tmp_path}")) == ["not UTF-8"] * 2
    except DataError as error:
        assert "cannot be opened by datasets" in str(error)


READS = """
import sys
from pathlib import Path
import limbeck as lb
from limbeck.data.tables import check_parquet
from limbeck.errors import DataError
path, refused = Path(sys.argv[1]), 0
data = path.read_bytes()
footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
for place in (i for i in range(footer, len(data) - 8) if data[i] == 12):
    path.write_bytes(data[:place] + bytes([8]) + data[place + 1 :])
    for read in (lambda: lb.source(f"manifest:{path}"), lambda: check_parquet(path)):
        try:
            read()
        except DataError as error:
            refused += "does not support FLOAT" in str(error)
print(refused)
"""


@pytest.mark.slow
def test_damage_to_what_parquet_says_of_a_column_does_not_end_the_process(tmp_path: Path) -> None:
    """Of a text that the footer calls a number pyarrow throws an error that nobody can catch, where the column is asked for."""
    (tmp_path / "0.png").write_bytes(image_bytes(0))
    pq.write_table(pa.table({"image": ["0.png"] * 4, "caption": ["a", "b", "c", "d"]}), tmp_path / "t.parquet")
    done = subprocess.run(
        [sys.executable, "-c", READS, str(tmp_path / "t.parquet")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout) >= 1
