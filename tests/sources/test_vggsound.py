"""VGGSound's list with those clips that could be had, and what can be wrong with it."""

from pathlib import Path
from typing import Any

import pytest

import limbeck as lb
from limbeck.data.contract import check_source
from limbeck.errors import ConfigError, DataError

soundfile = pytest.importorskip("soundfile", reason="needs the audio extra")

SMALL: dict[str, Any] = {"resolution": 8, "audio_rate": 8000, "audio_seconds": 0.2, "mels": 20}
LABELS = ("people marching", "child speech, kid speaking", "basketball bounce")


@pytest.fixture
def vggsound(tmp_path: Path, paint: Any, sing: Any) -> Path:
    """Sixty clips of three classes, a third for testing; five are lacking."""
    lines = []
    for i in range(60):
        key = f"--v_{i:07d}_{i * 10:06d}"
        if i not in (3, 4, 5):
            paint(tmp_path / f"frames/{key}.jpg", i)
        if i not in (5, 6, 7):
            sing(tmp_path / f"audio/{key}.flac", i)
        label = f'"{LABELS[i % 3]}"' if "," in LABELS[i % 3] else LABELS[i % 3]
        lines.append(f"--v_{i:07d},{i * 10},{label},{'test' if i >= 40 else 'train'}\n")
    (tmp_path / "vggsound.csv").write_text("".join(lines))
    return tmp_path


def test_the_published_layout(vggsound: Path) -> None:
    source = lb.source(f"vggsound:{vggsound}", **SMALL)
    check_source(source)
    assert source.splits == ("train", "val", "test") and source.classes == tuple(sorted(LABELS))
    assert len(source) + len(source.split("val")) == 35 and len(source.split("test")) == 20
    assert source.keys[0] == "--v_0000000_000000" and source.licence.startswith("CC BY 4.0")
    skipped = source.skipped  # type: ignore[attr-defined]
    assert {row["key"][-3:] for row in skipped} == {f"{i:02d}0" for i in range(3, 8)}
    assert {row["reason"] for row in skipped} == {"missing"} and skipped[0]["where"].endswith("vggsound.csv, line 4")
    by_file = lb.source(f"vggsound:{vggsound / 'vggsound.csv'}", **SMALL)
    assert by_file.fingerprint == source.fingerprint


def test_too_many_lacking_clips_are_an_error(vggsound: Path) -> None:
    for path in sorted((vggsound / "audio").iterdir())[:30]:
        path.unlink()
    with pytest.raises(DataError, match=r"33 records .* cannot be used and 7 can: 33 missing"):
        lb.source(f"vggsound:{vggsound}", **SMALL)
    assert len(lb.source(f"vggsound:{vggsound}", **SMALL, max_skipped=0.95)) == 7


def test_classes_are_chosen(vggsound: Path) -> None:
    source = lb.source(f"vggsound:{vggsound}", **SMALL, classes=LABELS[:2])
    check_source(source)
    assert source.classes == (LABELS[1], LABELS[0]) and len(source.split("test")) == 13
    assert lb.source(source.describe()).fingerprint == source.fingerprint
    assert len(source.skipped) == 4, "clips of other classes are not counted"  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="no class 'people march'; did you mean 'people marching'"):
        lb.source(f"vggsound:{vggsound}", classes=("people march",))
    with pytest.raises(ConfigError, match="no class 'xyzzy'; it has 3 classes"):
        lb.source(f"vggsound:{vggsound}", classes=["xyzzy"])
    with pytest.raises(ConfigError, match=r"classes .*, got 'people marching'"):
        lb.source(f"vggsound:{vggsound}", classes="people marching")


def test_bad_rows_are_skipped_with_their_reason(vggsound: Path) -> None:
    lines = (vggsound / "vggsound.csv").read_text()
    (vggsound / "vggsound.csv").write_text(lines + "a,b,c,train\na,1,,train\na,1,bus\n--v_0000008,80,x,test\n")
    source = lb.source(f"vggsound:{vggsound}", **SMALL)
    reasons = [row["reason"] for row in source.skipped]  # type: ignore[attr-defined]
    assert reasons[5:] == ["start is no whole number of seconds", "no label", "wrong number of columns"]
    again = source.split("test").skipped[-1]  # type: ignore[attr-defined]
    assert again["key"] == "--v_0000008_000080" and again["reason"] == "duplicate key"


def test_missing_things(vggsound: Path) -> None:
    for path in (vggsound / "frames").iterdir():
        path.unlink()
    with pytest.raises(
        DataError, match=r"no frame \(.jpg, .jpeg, .png, .webp\) in .*frames; (.|\n)*ffmpeg .*audio/\$name"
    ):
        lb.source(f"vggsound:{vggsound}", **SMALL)
    (vggsound / "vggsound.csv").unlink()
    with pytest.raises(DataError, match=r"no vggsound.csv in .*; give the path of the list"):
        lb.source(f"vggsound:{vggsound}", **SMALL)
