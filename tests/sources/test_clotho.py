"""Clotho's caption files and folders of sounds, and what can be wrong with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import limbeck as lb
from limbeck.data.contract import check_source
from limbeck.errors import DataError

soundfile = pytest.importorskip("soundfile", reason="needs the audio extra")

SMALL: dict[str, Any] = {"audio_rate": 8000, "audio_seconds": 0.3, "mels": 20}
HEADER = "file_name," + ",".join(f"caption_{i}" for i in range(1, 6)) + "\n"
PARTS = {"development": 6, "validation": 3, "evaluation": 2}


def row(name: str, number: int) -> str:
    return f'{name},"A sound, number {number}.",' + ",".join(f"in words {j} {number}" for j in range(4)) + "\n"


@pytest.fixture
def clotho(tmp_path: Path, sing: Any) -> Path:
    """Six sounds for development, three for validation, two for evaluation."""
    for at, (part, size) in enumerate(PARTS.items()):
        names = [f"{part} noise {i}.wav" for i in range(size)]
        for i, name in enumerate(names):
            sing(tmp_path / part / name, 10 * at + i)
        text = HEADER + "".join(row(name, 10 * at + i) for i, name in enumerate(names))
        (tmp_path / f"clotho_captions_{part}.csv").write_text(text)
    return tmp_path


def test_the_published_layout(clotho: Path) -> None:
    source = lb.source(f"clotho:{clotho}", **SMALL)
    check_source(source)
    assert {split: len(source.split(split)) for split in source.splits} == {"train": 6, "val": 3, "test": 2}
    assert list(source.modalities) == ["audio", "text"] and source.keys[0] == "development/development noise 0.wav"
    assert source.captions[1] == ("A sound, number 1.", *(f"in words {j} 1" for j in range(4)))
    assert "non-commercial" in source.licence and source.modalities["audio"].shape == (1, 20, 30)
    assert lb.source(source.describe(), "test").fingerprint == source.split("test").fingerprint


def test_folders_that_are_named_and_version_1(clotho: Path) -> None:
    before = lb.source(f"clotho:{clotho}", **SMALL).split("test").fingerprint
    (clotho / "csv").mkdir()
    (clotho / "sounds").mkdir()
    for part in ("development", "evaluation"):
        (clotho / f"clotho_captions_{part}.csv").rename(clotho / "csv" / f"clotho_captions_{part}.csv")
        (clotho / part).rename(clotho / "sounds" / part)
    source = lb.source(f"clotho:{clotho}", **SMALL, captions="csv", audio="sounds")
    assert source.split("test").fingerprint == before
    held = {split: len(source.split(split)) for split in source.splits}
    assert held["test"] == 2 and held["train"] + held.get("val", 0) == 6, "val comes from development"


def test_bad_rows_are_skipped_with_their_reason(clotho: Path) -> None:
    table = clotho / "clotho_captions_development.csv"
    more = [row("gone.wav", 1), row("../validation/validation noise 0.wav", 2), row("", 3), "a.wav,one caption\n"]
    table.write_text(table.read_text() + "".join(more))
    soundfile.write(clotho / "development/development noise 2.wav", np.zeros(4000), 8000)
    source = lb.source(f"clotho:{clotho}", **SMALL, max_skipped=0.9)
    assert [(row["key"], row["reason"]) for row in source.skipped] == [  # type: ignore[attr-defined]
        ("development/gone.wav", "missing"),
        ("development/../validation/validation noise 0.wav", f"leads out of {clotho / 'development'}"),
        ("row 8", "no file_name"),
        ("row 9", "wrong number of columns"),
        ("development/development noise 2.wav", "silent at its beginning"),
    ]
    assert len(source) == 5 and not source.split("val").skipped, "each is counted in its own part"  # type: ignore[attr-defined]


def test_missing_things(clotho: Path) -> None:
    with pytest.raises(DataError, match=r"no clotho_captions_development.csv, nor .* captions="):
        lb.source(f"clotho:{clotho}", captions="csv")
    with pytest.raises(DataError, match=r"no folder .*sounds.development with its sounds; unpack them"):
        lb.source(f"clotho:{clotho}", audio="sounds")
    (clotho / "clotho_captions_development.csv").write_text("name,caption_1\nx,y\n")
    with pytest.raises(DataError, match="has no column 'file_name'; it has name, caption_1"):
        lb.source(f"clotho:{clotho}", **SMALL)
