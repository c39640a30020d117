"""Manifests of audio-visual, RGB-D, audio-text and three-way sets, and what can be wrong with them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import limbeck as lb
from limbeck.data.contract import check_source
from limbeck.data.spectrogram import log_mel
from limbeck.errors import ConfigError, DataError

soundfile = pytest.importorskip("soundfile", reason="needs the audio extra")

SMALL: dict[str, Any] = {"resolution": 8, "audio_rate": 8000, "audio_seconds": 0.2, "mels": 20}
SPLITS = ["train"] * 6 + ["validation"] * 2 + ["test"] * 2


@pytest.fixture
def files(tmp_path: Path, paint: Any) -> Path:
    """Ten images, sounds and depth maps, `0.png`, `0.wav`, `0.npy` onwards."""
    for i in range(10):
        paint(tmp_path / f"{i}.png", i)
        soundfile.write(tmp_path / f"{i}.wav", 0.5 * np.sin(np.arange(2000) * (0.1 + 0.2 * i)), 8000)
        np.save(tmp_path / f"{i}.npy", np.full((14, 20), 1000 + 100 * i, dtype=np.uint16))
    return tmp_path


def table(folder: Path, rows: list[dict[str, Any]], name: str = "all.jsonl") -> str:
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif name.endswith(".csv"):
        columns = list(rows[0])
        lines = [",".join("" if row.get(c) is None else str(row[c]) for c in columns) for row in rows]
        path.write_text("\n".join([",".join(columns), *lines]) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return f"manifest:{path}"


def rows(**columns: str) -> list[dict[str, Any]]:
    """Ten rows; each column is a pattern in which `#` stands for the number."""
    return [{**{c: p.replace("#", str(i)) for c, p in columns.items()}, "split": s} for i, s in enumerate(SPLITS)]


@pytest.mark.parametrize("name", ["all.jsonl", "all.csv", "all.parquet"])
def test_audio_visual(files: Path, name: str) -> None:
    data = [{**row, "label": "dog" if i % 2 else "cat"} for i, row in enumerate(rows(image="#.png", audio="#.wav"))]
    source = lb.source(table(files, data, name), **SMALL)
    check_source(source)
    assert list(source.modalities) == ["image", "audio", "label"] and source.classes == ("cat", "dog")
    assert source.splits == ("train", "val", "test") and source.keys[3] == "3.png+3.wav"
    wave, _ = soundfile.read(files / "3.wav", dtype="float32")
    heard = log_mel(torch.from_numpy(wave[:1600])[None], 8000, 20)
    assert torch.allclose(source.batch([3])["audio"], heard, atol=1e-4)
    assert source.modalities["audio"].shape == heard.shape[1:] == (1, 20, 20)


def test_rgbd(files: Path) -> None:
    source = lb.source(table(files, rows(image="#.png", depth="#.npy")), **SMALL, depth_unit="mm", depth_far=5)
    check_source(source)
    assert source.modalities["depth"].high == 5 and list(source.modalities) == ["image", "depth"]
    assert source.batch([0, 4])["depth"][:, 0, 3, 3].tolist() == pytest.approx([1.0, 1.4])
    inverse = lb.source(table(files, rows(depth="#.npy", image="#.png")), **SMALL, depth_unit="disparity:2000")
    assert float(inverse.batch([0])["depth"].max()) == 2 and inverse.fingerprint != source.fingerprint


def test_audio_text_and_waveforms(files: Path) -> None:
    data: list[dict[str, Any]] = rows(sound="#.wav", words="sound #")
    data[0]["words"] = ["one", "two"]
    spec = table(files, data)
    source = lb.source(spec, **{**SMALL, "mels": 0}, audio="sound", caption="words")
    check_source(source)
    assert list(source.modalities) == ["audio", "text"] and source.captions[:2] == [("one", "two"), ("sound 1",)]
    assert source.modalities["audio"].shape == (1600,) and source.modalities["audio"].low == -1
    wave, _ = soundfile.read(files / "1.wav", dtype="float32")
    assert torch.allclose(source.batch([1])["audio"][0], torch.from_numpy(wave[:1600]))
    assert lb.source(spec, **SMALL, audio="sound", caption="words").fingerprint != source.fingerprint
    assert lb.source(source.describe()).fingerprint == source.fingerprint


@pytest.mark.parametrize("name", ["all.jsonl", "all.csv", "all.parquet"])
def test_three_modalities_with_empty_cells(files: Path, name: str) -> None:
    data: list[dict[str, Any]] = rows(id="k#", image="#.png", audio="#.wav", depth="#.npy", text="a #")
    data[0]["audio"] = data[1]["depth"] = data[2]["image"] = data[2]["text"] = None
    source = lb.source(table(files, data, name), **SMALL, depth_unit="mm")
    check_source(source)
    assert list(source.modalities) == ["image", "audio", "depth", "text"] and source.keys[0] == "k0"
    batch = source.batch([2, 1, 0])
    assert {m: batch.mask(m).tolist() for m in source.modalities} == {
        "image": [False, True, True],
        "audio": [True, True, False],
        "depth": [True, False, True],
        "text": [False, True, True],
    }
    assert not batch["audio"][2].any() and not batch["depth"][1].any() and batch["depth"][0].any()


def test_bytes_in_parquet(files: Path) -> None:
    data = [
        {"image": (files / f"{i}.png").read_bytes(), "audio": {"bytes": (files / f"{i}.wav").read_bytes(), "path": "x"}}
        for i in range(10)
    ]
    held = [{**row, "split": split} for row, split in zip(data, SPLITS, strict=True)]
    source = lb.source(table(files, held, "bytes.parquet"), **SMALL)
    check_source(source)
    same = lb.source(table(files, rows(image="#.png", audio="#.wav")), **SMALL)
    assert source.fingerprint == same.fingerprint and source.keys[1] == "row 1"


def test_what_cannot_be_used_is_skipped_with_its_reason(files: Path) -> None:
    soundfile.write(files / "3.wav", np.zeros(2000), 8000)
    (files / "1.wav").write_bytes(b"no sound")
    (files / "1.npy").write_bytes(b"no depth")
    np.save(files / "4.npy", np.full((14, 20), 60000, dtype=np.uint16))
    data = rows(image="#.png", audio="#.wav", depth="#.npy")
    data[5]["audio"] = "gone.wav"
    more = [{"audio": "../0.wav", "split": "train"}, {"split": "train"}, dict(data[0], id="again"), data[0]]
    more += [dict(data[0], audio=["0.wav", "2.wav"]), dict(data[0], audio=7)]
    with (files / "all.jsonl").open("w") as file:
        file.write("".join(json.dumps(row) + "\n" for row in [*data, *more]) + "[1]\n")
    source = lb.source(f"manifest:{files / 'all.jsonl'}", **SMALL, depth_unit="mm", max_skipped=0.9)
    check_source(source)
    assert {row["key"]: row["reason"] for row in source.skipped} == {  # type: ignore[attr-defined]
        "row 5": "missing",
        "row 10": f"leads out of {files}: say where files may lie with --source.files FOLDER, such as .. (in Python files=)",
        "row 11": "no modality",
        "row 14": "several files in one cell",
        "row 15": "no file name",
        "row 16": "not an object",
        "1.png+1.wav+1.npy": "not a sound",
        "3.png+3.wav+3.npy": "silent at its beginning",
        "4.png+4.wav+4.npy": "most readings out of range, 0.01 to 10 m in unit mm: see depth_unit and depth_far",
    }
    assert source.keys == ["0.png+0.wav+0.npy", "2.png+2.wav+2.npy", "again"]
    whole = source.batch([1])
    assert whole["depth"][0, 0, 0, 0] == pytest.approx(1.2), "rows of the stores still belong together"


def test_captions_of_one_sample_are_joined(files: Path) -> None:
    data = rows(audio="#.wav", caption="a #")
    source = lb.source(table(files, [*data, {**data[0], "caption": "more"}]), **SMALL)
    assert source.captions[0] == ("a 0", "more") and len(source) == 6


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({}, ConfigError, "holds depth, whose unit no file tells; name it with --source.depth_unit"),
        ({"depth_unit": "feet"}, ConfigError, "the unit of depth is m, cm, mm"),
        ({"depth_unit": "mm", "depth_far": 0.2}, ConfigError, "`depth_far` of manifest must be above 0.5"),
        (
            {"depth_unit": "mm", "audio": "sound"},
            DataError,
            "no filled column 'sound'; it has audio, depth, image, split",
        ),
        ({"depth_unit": "mm", "audio_rate": 10}, ConfigError, "`audio_rate` of manifest must be from 1000"),
        ({"depth_unit": "mm", "audio_seconds": 0.0}, ConfigError, "`audio_seconds` of manifest must be from 0.01"),
        ({"depth_unit": "mm", "mels": 500}, ConfigError, "500 mel bands are more than windows of 256 samples"),
        ({"depth_unit": "mm", "audio_seconds": 0.2, "mels": -1}, ConfigError, "`mels` of manifest must be 0 or more"),
    ],
)
def test_options_that_cannot_be(files: Path, options: dict[str, Any], error: type[Exception], says: str) -> None:
    spec = table(files, rows(image="#.png", audio="#.wav", depth="#.npy"))
    with pytest.raises(error, match=says):
        lb.source(spec, **{**SMALL, **options})


def test_tables_that_cannot_be(files: Path) -> None:
    with pytest.raises(
        DataError, match=r"is no table; a manifest is a file that ends in .jsonl, .ndjson, .csv, .tsv, .txt, .parquet"
    ):
        lb.source(f"manifest:{files}")
    (files / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        lb.source(f"manifest:{files / 'bad.parquet'}")
    (files / "short.csv").write_text("image,audio,split\n0.png,0.wav,train\n1.png\n")
    with pytest.raises(DataError, match="1 wrong number of columns"):
        lb.source(f"manifest:{files / 'short.csv'}", **SMALL)


def test_sounds_of_another_rate_and_length_are_fitted(files: Path) -> None:
    soundfile.write(files / "0.wav", 0.5 * np.sin(np.arange(44100) * 0.02), 44100)
    soundfile.write(files / "1.wav", 0.5 * np.sin(np.arange(400) * 0.1), 8000)
    soundfile.write(files / "2.wav", 0.5 * np.sin(np.arange(2000) * 0.1), 900)
    soundfile.write(files / "3.wav", 0.5 * np.sin(np.arange(40) * 0.1), 8000)
    data = rows(audio="#.wav", label="l")
    source = lb.source(table(files, data), **{**SMALL, "mels": 0}, max_skipped=0.5)
    check_source(source)
    reasons = {row["key"]: row["reason"] for row in source.skipped}  # type: ignore[attr-defined]
    assert reasons == {"2.wav": "unlikely sampling rate", "3.wav": "shorter than 10 ms"}
    batch = source.batch([0, 1])["audio"]
    assert torch.allclose(
        batch[0, 100:-100], 0.5 * (torch.arange(1600) * 0.02 * 44100 / 8000).sin()[100:-100], atol=5e-3
    )
    assert batch[1, :400].abs().max() > 0.4 and not batch[1, 400:].any()


def test_a_modality_that_no_row_has(files: Path) -> None:
    """Whether its column is empty, not there, or names files that are not."""
    data: list[dict[str, Any]] = [dict(row, audio=None) for row in rows(image="#.png", caption="a #")]
    spec = table(files, data)
    assert list(lb.source(spec, **SMALL).modalities) == ["image", "text"], "an empty column is no modality"
    with pytest.raises(DataError, match=r"no filled column 'audio'"):
        lb.source(spec, **SMALL, audio="audio")
    spec = table(files, data, "all.csv")
    with pytest.raises(DataError, match=r"no filled column 'audio'; it has caption, image, split"):
        lb.source(spec, **SMALL, audio="audio")
    with pytest.raises(DataError, match=r"no samples in split 'train'; its splits: none; what cannot .*10 missing"):
        lb.source(table(files, rows(image="#.png", audio="gone#.wav")), **SMALL)
    for path in files.glob("*.wav"):
        soundfile.write(path, np.zeros(2000), 8000)
    with pytest.raises(DataError, match=r"6 records \(100.0%\) cannot be used and 0 can: 6 silent"):
        lb.source(table(files, rows(image="#.png", audio="#.wav")), **SMALL)


def test_columns_of_unlike_length(files: Path) -> None:
    """A line that lacks cells, or has too many, is counted; no value moves to the row of another."""
    lines = [f"{i}.png,{i}.wav,{split}" for i, split in enumerate(SPLITS)]
    lines[1], lines[2] = "1.png,train", "2.png,2.wav,train,3.wav"
    (files / "all.csv").write_text("image,audio,split\n" + "\n".join(lines) + "\n")
    source = lb.source(f"manifest:{files / 'all.csv'}", **SMALL, max_skipped=0.5)
    assert source.keys == [f"{i}.png+{i}.wav" for i in (0, 3, 4, 5)]
    reasons = [row["reason"] for row in source.skipped]  # type: ignore[attr-defined]
    assert reasons == ["wrong number of columns"] * 2


def test_a_list_in_the_place_of_lines_is_told_with_its_remedy(files: Path) -> None:
    (files / "list.jsonl").write_text(
        json.dumps([{"image": "0.png", "caption": "a"}, {"image": "1.png", "caption": "b"}], indent=1)
    )
    with pytest.raises(DataError, match=r"not JSON.*; JSON lines hold one object in each line, and no list"):
        lb.source(f"manifest:{files / 'list.jsonl'}")


@pytest.mark.parametrize(
    "start", ["data:image/png;base64,iVBO", "iVBORw0KGgo", "/9j/4AAQ", "UklGR", "R0lGOD", "T2dnUw"]
)
def test_files_that_are_written_as_text_are_told(files: Path, start: str) -> None:
    (files / "text.jsonl").write_text(json.dumps({"image": start + "AAAA" * 20, "caption": "a"}) + "\n")
    with pytest.raises(
        DataError, match=r"1 base64, not a file: write its bytes into a file, or into a cell of Parquet"
    ):
        lb.source(f"manifest:{files / 'text.jsonl'}")


@pytest.mark.parametrize(
    ("before", "separator", "names"),
    [
        ("sep=;\n", ";", ["image", "caption"]),
        ("SEP=|\r\n", "|", ["image", "caption"]),
        ("# made by me, in May\n#\n\n## and more\n", ",", ["image", "caption"]),
        ("# ", ",", ["image", "caption"]),
        ("#", ",", ["image", "caption"]),
    ],
)
def test_what_stands_before_the_header(files: Path, before: str, separator: str, names: list[str]) -> None:
    """Excel's separator and comments are passed over; the name of a column may begin as a comment does."""
    lines = [separator.join(names), *(separator.join([f"{i}.png", f'"a{separator} {i}"']) for i in range(10))]
    (files / "all.csv").write_text(before + "\n".join(lines) + "\n")
    source = lb.source(f"manifest:{files / 'all.csv'}", **SMALL, split_by="hash")
    rows = dict(zip(source.keys, source.batch(range(len(source)))["text"], strict=True))
    assert rows == {f"{i}.png": (f"a{separator} {i}",) for i in range(10) if f"{i}.png" in rows}
    assert len(rows) >= 5


@pytest.mark.parametrize("content", ["", "\n\n", "image,caption\n"])
def test_an_empty_table_is_called_empty(files: Path, content: str) -> None:
    (files / "all.csv").write_text(content)
    with pytest.raises(DataError, match=r"all\.csv is empty: it has not one sample"):
        lb.source(f"manifest:{files / 'all.csv'}")


def test_a_key_of_json_with_two_values(files: Path) -> None:
    """None of the two is chosen without a word; a repetition says nothing new."""
    lines = [
        '{"image": "0.png", "caption": "a", "caption": "b"}',
        '{"image": "1.png", "caption": "c", "image": "1.png"}',
    ]
    (files / "all.jsonl").write_text("\n".join(lines) + "\n")
    source = lb.source(f"manifest:{files / 'all.jsonl'}", max_skipped=0.5, split_by="hash", split="train")
    assert source.keys == ["1.png"]
    assert [row["reason"] for row in source.skipped] == ["the key 'caption' with two values"]  # type: ignore[attr-defined]
