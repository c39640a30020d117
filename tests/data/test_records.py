"""`RecordSource`: opening once, content addresses, skipped records, batches."""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.data import Cache, decode, verifying
from limbeck.data.contract import check_source
from limbeck.data.decode import decode_image
from limbeck.data.layout import FileImage, Layout, Listing, Record, Skipped, assign_splits
from limbeck.data.parse import Unreadable, clean_captions, index_labels
from limbeck.data.records import RecordSource
from limbeck.data.regular import Place
from limbeck.data.splits import hash_split
from limbeck.errors import ConfigError, DataError, LimbeckWarning, StorageError
from limbeck.runtime.cache import Contents
from limbeck.runtime.runtime import Runtime


@dataclass(frozen=True)
class Given(Layout):
    """A layout whose listing is given."""

    listing: Any = field(default=None, compare=False)

    def read(self) -> Listing:
        return self.listing

    def describe(self) -> dict[str, Any]:
        return {"name": "given"}


def write(folder: Path, count: int, offset: int = 0) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(count):
        pixels = np.random.default_rng(i + offset).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        paths.append(folder / f"{i}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def records(paths: list[Path], split: str = "train") -> list[Record]:
    return [Record(p.name, FileImage.of(p), (f"an {i}", f"the {i}"), i % 2, split) for i, p in enumerate(paths)]


def opened(listing: Listing, cache: Path, split: str = "train", tick: Any = None, **options: Any) -> RecordSource:
    layout = Given(resolution=options.pop("resolution", 8), listing=listing, **options)
    return RecordSource(layout, layout.read(), split, Runtime(cache=Cache(cache), progress=tick))


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    return Listing(records(write(tmp_path / "data", 6)), ("even", "odd"), "CC0-1.0")


def test_contract_and_pixels(listing: Listing, tmp_path: Path) -> None:
    source = opened(listing, tmp_path / "cache")
    check_source(source)
    assert list(source.modalities) == ["image", "text", "label"] and source.licence == "CC0-1.0"
    expected = decode_image(listing.records[4].image.read(), 8)
    assert np.array_equal((source.batch([4])["image"][0] * 255).round().byte().numpy(), expected)
    assert source.batch([2])["text"] == [("an 2", "the 2")]


def test_worker_processes_decode_the_same(listing: Listing, tmp_path: Path) -> None:
    alone = opened(listing, tmp_path / "a", workers=0)
    before = torch.get_rng_state()
    parallel = opened(listing, tmp_path / "b", workers=2)
    assert torch.equal(alone.batch(range(6))["image"], parallel.batch(range(6))["image"])
    assert alone.fingerprint == parallel.fingerprint and torch.equal(before, torch.get_rng_state())


def test_second_opening_reads_no_image(listing: Listing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(listing, tmp_path / "cache")
    content = first.batch(range(6))["image"]

    def refuse(self: FileImage) -> bytes:
        raise AssertionError("read again")

    monkeypatch.setattr(FileImage, "read", refuse)
    second = opened(listing, tmp_path / "cache")
    assert torch.equal(second.batch(range(6))["image"], content) and second.fingerprint == first.fingerprint


def test_fingerprint_is_of_content_alone(listing: Listing, tmp_path: Path) -> None:
    first = opened(listing, tmp_path / "cache")
    shutil.copytree(tmp_path / "data", tmp_path / "moved")
    for i, path in enumerate((tmp_path / "moved").iterdir()):
        os.utime(path, (i, i))
    moved = [
        Record(f"x{r.key}", FileImage.of(tmp_path / "moved" / r.key), r.captions, r.label, "train")
        for r in listing.records
    ]
    assert opened(Listing(moved, listing.classes), tmp_path / "cache").fingerprint == first.fingerprint
    assert len(list((Cache(tmp_path / "cache").folder / "pixels").glob("*/*"))) == 1, "moved data share the store"
    others = [
        opened(Listing(moved[::-1], listing.classes), tmp_path / "cache"),
        opened(Listing(moved, ("a", "b")), tmp_path / "cache"),
        opened(
            Listing([*moved[:-1], Record("y", moved[-1].image, ("else",), 1, "train")], listing.classes),
            tmp_path / "cache",
        ),
        opened(listing, tmp_path / "cache", resolution=9),
    ]
    assert len({first.fingerprint, *(o.fingerprint for o in others)}) == 5


def test_a_changed_file_is_read_again(listing: Listing, tmp_path: Path) -> None:
    first = opened(listing, tmp_path / "cache")
    before = first.batch([0])["image"]
    write(tmp_path / "data", 1, offset=77)
    os.utime(tmp_path / "data" / "0.png", (5, 5))
    second = opened(Listing(records(sorted((tmp_path / "data").iterdir())), listing.classes), tmp_path / "cache")
    assert not torch.equal(second.batch([0])["image"], before) and second.fingerprint != first.fingerprint


@pytest.mark.parametrize("how", ["copy", "in place"])
def test_a_file_replaced_with_size_and_mtime_kept_is_noticed(tmp_path: Path, how: str) -> None:
    path = tmp_path / "0.ppm"
    pixels = bytes(range(3 * 16))

    def replace(data: bytes) -> None:
        before = path.stat() if path.exists() else None
        made = path if how == "in place" else tmp_path / "new"
        made.write_bytes(b"P6 4 4 255\n" + data)
        if before:
            os.utime(made, ns=(before.st_atime_ns, before.st_mtime_ns))
        os.replace(made, path)

    replace(pixels)
    first = opened(Listing(records([path])), tmp_path / "cache").batch([0])["image"]
    time.sleep(0.02)  # a tick of the file system's clock
    replace(pixels[::-1])
    assert path.stat().st_size == len(pixels) + 11
    assert not torch.equal(opened(Listing(records([path])), tmp_path / "cache").batch([0])["image"], first)


def test_verifying_reads_every_file_and_sees_what_no_stamp_tells(listing: Listing, tmp_path: Path) -> None:
    first = opened(listing, tmp_path / "cache").batch([0])["image"]
    with verifying() as contents:
        assert torch.equal(opened(listing, tmp_path / "cache").batch([0])["image"], first)
    assert contents == Contents(entries=2, files=6)
    write(tmp_path / "data", 1, offset=77)  # the listing keeps its old stamps
    assert torch.equal(opened(listing, tmp_path / "cache").batch([0])["image"], first), "nobody looked"
    with (
        verifying() as contents,
        pytest.warns(LimbeckWarning, match=r"1 files of train .*0\.png; they are decoded anew"),
    ):
        changed = opened(listing, tmp_path / "cache").batch([0])["image"]
    assert contents.changed == 1 and not torch.equal(changed, first)
    assert torch.equal(opened(listing, tmp_path / "cache").batch([0])["image"], changed), "and kept"


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "truncated": lambda p: os.truncate(p, p.stat().st_size - 7),
    "longer": lambda p: p.write_bytes(p.read_bytes() + b"x"),
    "empty": lambda p: p.write_bytes(b""),
    "a bit": lambda p: p.write_bytes(
        (data := bytearray(p.read_bytes())) and data[:60] + bytes([data[60] ^ 4]) + data[61:]
    ),
    "zeros": lambda p: p.write_bytes(bytes(p.stat().st_size)),
    "missing": lambda p: p.unlink(),
    "a list": lambda p: p.write_text("[]"),
    "nested": lambda p: p.write_text("[" * 99_999),
    "a folder": lambda p: (p.unlink(), p.mkdir()),
    "not UTF-8": lambda p: p.write_bytes(b"\xff\xfe" * 9),
    "of a finer shape": lambda p: p.write_text(json.dumps({"content": 1, "digests": [], "failed": []})),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize(
    "name", ["opened/*/*/index.json", "pixels/*/*/pixels.bin", "opened/*/*/entry.json", "pixels/*/*/entry.json"]
)
def test_what_is_damaged_in_the_cache_is_made_anew(listing: Listing, tmp_path: Path, name: str, how: str) -> None:
    first, cache = opened(listing, tmp_path / "cache").batch(range(6))["image"], Cache(tmp_path / "cache")
    (path,) = cache.folder.glob(name)
    before = path.read_bytes()
    DAMAGE[how](path)
    with pytest.warns(
        LimbeckWarning, match=r"the cache entry .* is damaged \(.*\); it is made anew where it is needed"
    ):
        assert torch.equal(opened(listing, tmp_path / "cache").batch(range(6))["image"], first)
    assert path.read_bytes() == before, "mended"
    assert torch.equal(opened(listing, tmp_path / "cache").batch(range(6))["image"], first), "and without a word"


def test_a_store_that_was_deleted_is_made_again(listing: Listing, tmp_path: Path) -> None:
    first = opened(listing, tmp_path / "cache").batch([0])["image"]
    shutil.rmtree(Cache(tmp_path / "cache").folder / "pixels")
    assert torch.equal(opened(listing, tmp_path / "cache").batch([0])["image"], first)


def test_a_cache_deleted_while_it_is_filled_or_used(listing: Listing, tmp_path: Path) -> None:
    source = opened(listing, tmp_path / "cache", tick=lambda *_: shutil.rmtree(tmp_path / "cache"))
    with pytest.raises(StorageError, match="removed it meanwhile, give the same command again"):
        len(source)
    source = opened(listing, tmp_path / "cache")
    first = source.batch(range(6))["image"]
    shutil.rmtree(tmp_path / "cache")
    assert torch.equal(source.batch(range(6))["image"], first)


def test_a_cache_that_cannot_be_written_says_so(listing: Listing, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StorageError, match="LIMBECK_CACHE"):
        len(opened(listing, tmp_path / "cache"))


def test_a_read_error_that_passes_is_forgotten(
    listing: Listing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, calls = FileImage.read, [0]

    def flaky(self: FileImage) -> bytes:
        calls[0] += 1
        if self.path.endswith(("2.png", "4.png")):
            raise OSError(5, "Input/output error")
        return read(self)

    monkeypatch.setattr(FileImage, "read", flaky)
    for expected in (6, 2):  # the second time, only what could not be read is tried again
        calls[0] = 0
        source = opened(listing, tmp_path / "cache", max_skipped=0.5)
        assert len(source) == 4 and [s["reason"] for s in source.skipped] == ["cannot be read"] * 2
        assert calls[0] == expected
    monkeypatch.setattr(FileImage, "read", read)
    healed = opened(listing, tmp_path / "cache")
    assert len(healed) == 6 and not healed.skipped
    assert healed.fingerprint == opened(listing, tmp_path / "other").fingerprint


def test_a_format_that_pillow_learns_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write(tmp_path / "data", 4)
    paths[3] = paths[3].rename(paths[3].with_suffix(".webp"))
    Image.new("RGB", (9, 9)).save(paths[3])
    listed = Listing(records(paths))
    less = tuple(name for name in decode._formats() if name != "WEBP")
    with monkeypatch.context() as patch:
        patch.setattr(decode, "_formats", lambda: less)
        assert len(opened(listed, tmp_path / "cache", max_skipped=0.5)) == 3
    assert len(opened(listed, tmp_path / "cache")) == 4


def test_broken_images_are_skipped_counted_and_written(listing: Listing, tmp_path: Path) -> None:
    paths = [FileImage.of(p) for p in sorted((tmp_path / "data").iterdir())]
    (tmp_path / "data" / "1.png").write_bytes(b"")
    (tmp_path / "data" / "3.png").write_bytes((tmp_path / "data" / "3.png").read_bytes()[:200])
    (tmp_path / "data" / "5.png").unlink()
    rows = [Record(Path(p.path).name, p, ("a",), None, "train") for p in paths]
    listed = Listing(
        rows, skipped=[Skipped("line 9", "not JSON", "x.jsonl, line 9"), Skipped("z", "missing", "z", "test")]
    )
    source = opened(listed, tmp_path / "cache", max_skipped=0.65)
    assert source.keys == ["0.png", "2.png", "4.png"]
    reasons = [row["reason"] for row in source.skipped]
    assert reasons == ["not JSON", "empty file", "truncated", "missing"]
    lines = source.write_skipped(tmp_path / "run").read_text().splitlines()
    assert [json.loads(line)["reason"] for line in lines] == reasons
    with pytest.raises(
        DataError, match=r"4 records \(64.3%\) cannot be used and 3 can: .*1 not JSON.*--source.max_skipped 0.65 "
    ):
        len(opened(listed, tmp_path / "cache", max_skipped=0.5))


def test_rows_stay_aligned_around_skipped_and_missing_images(tmp_path: Path) -> None:
    paths = write(tmp_path / "data", 4)
    paths[1].write_bytes(b"no image")
    rows = records(paths)
    rows.insert(2, Record("words only", None, ("text",), None, "train"))
    source = opened(Listing(rows, ("even", "odd")), tmp_path / "cache", max_skipped=0.3)
    assert source.keys == ["0.png", "words only", "2.png", "3.png"]
    batch = source.batch([3, 1, 2])
    assert batch.mask("image").tolist() == [True, False, True] and batch["label"].tolist() == [1, -1, 0]
    for row, path in ((0, paths[3]), (2, paths[2])):
        assert np.array_equal((batch["image"][row] * 255).round().byte().numpy(), decode_image(path.read_bytes(), 8))
    assert batch["image"][1].abs().max() == 0 and batch.mask("label").tolist() == [True, False, True]
    check_source(source)


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    paths = write(tmp_path / "data", 2)
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"2 records \(100.0%\) .* 2 empty file"):
        len(opened(Listing(records(paths)), tmp_path / "cache", max_skipped=1.0))


def test_text_without_images(tmp_path: Path) -> None:
    rows = [Record(str(i), None, (f"text {i}",), None, "train") for i in range(3)]
    source = opened(Listing(rows), tmp_path / "cache")
    assert list(source.modalities) == ["text"] and source.batch([2, 0])["text"] == [("text 2",), ("text 0",)]
    check_source(source)


def test_empty_and_unknown_splits(listing: Listing, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no samples in split 'test'; its splits: train"):
        opened(listing, tmp_path / "cache", split="test")
    with pytest.raises(DataError, match="is empty: it has not one sample"):
        opened(Listing([]), tmp_path / "cache")


@pytest.mark.parametrize(
    "index", [[6], [-1], torch.tensor([0.5]), torch.tensor([True, False]), torch.tensor([[0, 1]]), range(5, 7)]
)
def test_wrong_indices(listing: Listing, tmp_path: Path, index: Any) -> None:
    with pytest.raises(DataError, match=r"position"):
        opened(listing, tmp_path / "cache").batch(index)


def test_an_empty_index(listing: Listing, tmp_path: Path) -> None:
    batch = opened(listing, tmp_path / "cache").batch([])
    assert batch["image"].shape == (0, 3, 8, 8) and batch["text"] == [] and len(batch["label"]) == 0


def test_progress(listing: Listing, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    len(opened(listing, tmp_path / "cache", tick=lambda *what: told.append(what)))
    assert told[-1] == ("decoding train", 6, 6)


@pytest.mark.parametrize(
    "options", [{"resolution": 0}, {"resolution": "64"}, {"resolution": True}, {"max_skipped": 1.5}, {"workers": -1}]
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Given(**options)


def test_hashed_splits_are_stable_and_near_80_10_10() -> None:
    keys = [f"key {i}" for i in range(5000)]
    few = {r.key: r.split for r in assign_splits([Record(k) for k in keys[:1000]])}
    many = {r.key: r.split for r in assign_splits([Record(k) for k in keys])}
    assert all(many[k] == few[k] for k in few), "more data move nothing"
    shares = {s: sum(v == s for v in many.values()) / 5000 for s in ("train", "val", "test")}
    assert abs(shares["val"] - 0.1) < 0.015 and abs(shares["test"] - 0.1) < 0.015
    assert many == {k: hash_split(k) for k in keys}


def test_splits_of_the_data_are_kept() -> None:
    def splits(*given: str | None) -> list[str | None]:
        return [r.split for r in assign_splits([Record(f"k{i}", split=s) for i, s in enumerate(given)])]

    assert splits("train", "val", "test") == ["train", "val", "test"]
    assert splits("test", "test") == ["test", "test"]
    assert splits("train", "val") == ["train", "val"]
    carved = splits(*["train"] * 200, "test")
    assert 5 < carved.count("val") < 40 and carved[-1] == "test", "a tenth of train becomes val where there is none"


@pytest.mark.parametrize("written", ['["a cat", "a tabby"]', "['a cat', 'a tabby']"])
def test_a_list_in_a_cell_of_text_is_a_list(written: str) -> None:
    """A CSV table can hold several captions in no other way."""
    assert clean_captions(written) == ("a cat", "a tabby")
    assert clean_captions("[sighs] a cat") == ("[sighs] a cat",) and clean_captions("[]") == ()
    assert clean_captions(["\u200b", " \u200b \u2060", "\0", "a\u200bb", "é"]) == ("a\u200bb", "é"), (
        "what nobody sees is none"
    )


def test_a_list_in_a_cell_of_text_that_is_none_is_told() -> None:
    assert clean_captions('["caf\\u00e9 \\ud83d\\ude00"]') == ("café 😀",), "JSON writes one sign as two numbers"
    for cut in ("['a cat', 'a tab", '["a cat"'):
        with pytest.raises(Unreadable, match="a list of captions that is not whole"):
            clean_captions(cut)
    with pytest.raises(Unreadable, match="caption is not text"):
        clean_captions('["a", [true]]')
    assert clean_captions("[0.1, -0.2]") == ("[0.1, -0.2]",) and clean_captions('["a", null]') == ("a",)


def test_helpers_refuse() -> None:
    for value in (3, ["a", 3], {"tokens": "a"}, {}, [[[["a"]]]]):
        with pytest.raises(Unreadable, match="not text"):
            clean_captions(value)
    with pytest.raises(Unreadable, match="UTF-8"):
        clean_captions("a\ud800b")
    for labels in ([1, "a"], [-2, 0], [-1, 1], [10**7]):
        with pytest.raises(DataError, match="labels are"):
            index_labels(labels)
    bad: Callable[[object], Path] = lambda name: Place(Path("x")).path(name)
    for name in ("../a", "/etc/passwd", "a/../../b", "..\\b", "", None, 3):
        with pytest.raises(Unreadable):
            bad(name)


def test_a_few_unplaced_lines_do_not_sink_a_small_split(tmp_path: Path) -> None:
    rows = [Record(f"r{i}", None, ("x",), None, "train" if i < 990 else "val") for i in range(1000)]
    loose = [Skipped("?", "not JSON", f"line {i}") for i in range(5)]
    assert len(opened(Listing(rows, skipped=loose), tmp_path / "cache", split="val")) == 10
    placed = [Skipped("?", "not JSON", "line 0", "val")]
    with pytest.raises(DataError, match="max_skipped"):
        len(opened(Listing(rows, skipped=placed), tmp_path / "cache", split="val"))


def test_a_folder_with_the_name_of_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(Unreadable, match="not a regular file"):
        FileImage.of(tmp_path / "a.png")
