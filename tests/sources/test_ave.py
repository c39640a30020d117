"""AVE as it is published, with sounds and frames cut out of its videos, and what can be wrong with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import limbeck as lb
from limbeck.cli import main
from limbeck.data.contract import check_source
from limbeck.errors import ConfigError, DataError

soundfile = pytest.importorskip("soundfile", reason="needs the audio extra")

HEADER = "Category&VideoID&Quality&StartTime&EndTime\n"
CLASSES = ("Church bell", "Male speech, man speaking")
VIDEOS = ["RUhOCu3LNXM", "-_dash3LNXM", "k4Wol9i3OHo", "a_b_c_d_e_f", "valida_tion", "teststests0"]
SMALL: dict[str, Any] = {"resolution": 8, "audio_rate": 8000, "audio_seconds": 0.25, "mels": 0}


def line(video: int, start: int = 0, end: int = 10, category: int | None = None) -> str:
    return f"{CLASSES[video % 2 if category is None else category]}&{VIDEOS[video]}&good&{start}&{end}\n"


@pytest.fixture
def ave(tmp_path: Path, paint: Any, sing: Any) -> Path:
    """Six videos of ten seconds: four train, one val, one test."""
    for i, video in enumerate(VIDEOS):
        paint(tmp_path / f"frames/{video}.jpg", i)
        sing(tmp_path / f"audio/{video}.wav", i, 10.0)
    lines = [line(i) for i in range(6)]
    (tmp_path / "Annotations.txt").write_text(HEADER + "".join(lines))
    for name, part in (("train", lines[:4]), ("val", lines[4:5]), ("test", lines[5:])):
        (tmp_path / f"{name}Set.txt").write_text("".join(part))
    return tmp_path


def test_the_published_layout(ave: Path) -> None:
    source = lb.source(f"ave:{ave}", **SMALL)
    check_source(source)
    assert source.splits == ("train", "val", "test") and list(source.modalities) == ["image", "audio", "label"]
    assert source.keys == [f"{video}_0" for video in VIDEOS[:4]] and source.classes == CLASSES
    assert source.labels is not None and source.labels.tolist() == [0, 1, 0, 1]
    wave, _ = soundfile.read(ave / "audio" / f"{VIDEOS[2]}.wav", dtype="float32")
    assert torch.allclose(source.batch([2])["audio"][0], torch.from_numpy(wave[:2000]))
    assert lb.source(source.describe(), "val").fingerprint == source.split("val").fingerprint


def test_a_header_in_a_list_is_passed_over(ave: Path) -> None:
    before = lb.source(f"ave:{ave}", **SMALL).fingerprint
    (ave / "trainSet.txt").write_text(HEADER + (ave / "trainSet.txt").read_text())
    source = lb.source(f"ave:{ave}", **SMALL)
    assert source.fingerprint == before and not source.skipped  # type: ignore[attr-defined]


def test_a_sample_is_an_event(ave: Path, paint: Any) -> None:
    paint(ave / "frames" / f"{VIDEOS[0]}_6.png", 77)
    (ave / "trainSet.txt").write_text(line(0, 0, 4) + line(0, 6, 10, 1) + line(1, 9, 10))
    source = lb.source(f"ave:{ave}", **{**SMALL, "audio_seconds": 2.0})
    assert source.keys == [f"{VIDEOS[0]}_0", f"{VIDEOS[0]}_6", f"{VIDEOS[1]}_9"]
    batch, wave = source.batch(range(3)), {}
    for i in (0, 1):
        wave[i], _ = soundfile.read(ave / "audio" / f"{VIDEOS[i]}.wav", dtype="float32")
    assert torch.allclose(batch["audio"][0], torch.from_numpy(wave[0][:16000]))
    assert torch.allclose(batch["audio"][1], torch.from_numpy(wave[0][48000:64000])), "the sound begins with its event"
    assert torch.allclose(batch["audio"][2, :8000], torch.from_numpy(wave[1][72000:]))
    assert not batch["audio"][2, 8000:].any(), "the sound ends with its event"
    frame = np.asarray(Image.open(ave / "frames" / f"{VIDEOS[0]}_6.png"))
    assert not torch.equal(batch["image"][0], batch["image"][1]), "each event has the frame of its own name"
    assert abs(float(batch["image"][1].mean()) - frame[:, 3:17].mean() / 255) < 0.02


def test_events_that_start_together_are_one_sample(ave: Path) -> None:
    (ave / "trainSet.txt").write_text("".join([line(0), line(0), line(0, category=1), line(1), line(2)]))
    with pytest.raises(
        DataError, match=r"1 records \(25.0%\) cannot be used and 3 can: 1 another event of its video starts together"
    ):
        lb.source(f"ave:{ave}", **SMALL)
    source = lb.source(f"ave:{ave}", **SMALL, max_skipped=0.5)
    assert len(source) == 3 and source.labels is not None and source.labels.tolist() == [0, 1, 0]


def test_without_lists_the_videos_are_hashed(ave: Path, paint: Any, sing: Any) -> None:
    for name in ("train", "val", "test"):
        (ave / f"{name}Set.txt").unlink()
    lines = [HEADER]
    for i in range(40):
        paint(ave / f"frames/v{i}.jpg", i)
        sing(ave / f"audio/v{i}.wav", i % 9)
        lines += [f"Bus&v{i}&good&{start}&10\n" for start in ("0", "0.25")]
    (ave / "Annotations.txt").write_text("".join(lines))
    source = lb.source(f"ave:{ave}", **SMALL)
    videos = {split: {key.split("_")[0] for key in source.split(split).keys} for split in source.splits}
    assert sum(map(len, videos.values())) == 40 == len(set().union(*videos.values())), "a video lies in one split"
    assert sum(len(source.split(split)) for split in source.splits) == 80


def test_bad_events_are_skipped_with_their_reason(ave: Path) -> None:
    (ave / "frames" / f"{VIDEOS[1]}.jpg").unlink()
    soundfile.write(ave / "audio" / f"{VIDEOS[2]}.wav", np.zeros(80000), 8000)
    soundfile.write(ave / "audio" / f"{VIDEOS[3]}.wav", np.ones(800), 8000)
    more = ["Bus&../RUhOCu3LNXM&good&0&10\n", "Bus&RUhOCu3LNXM&good&4&2\n", "Bus&RUhOCu3LNXM&good&now&2\n"]
    more += ["Bus&&good&0&10\n", "Bus\n", line(3, 5)]
    (ave / "trainSet.txt").write_text((ave / "trainSet.txt").read_text() + "".join(more))
    source = lb.source(f"ave:{ave}", **SMALL, max_skipped=0.9)
    check_source(source)
    assert source.keys == [f"{VIDEOS[0]}_0", f"{VIDEOS[3]}_0"]
    assert [(row["key"], row["reason"]) for row in source.skipped] == [  # type: ignore[attr-defined]
        (f"{VIDEOS[1]}_0", "missing"),
        ("../RUhOCu3LNXM_0", "missing"),
        ("row 5", "ends before it starts"),
        ("row 6", "start or end is no number"),
        ("row 7", "no VideoID"),
        ("row 8", "wrong number of columns"),
        (f"{VIDEOS[2]}_0", "silent at its beginning"),
        (f"{VIDEOS[3]}_5", "shorter than 10 ms"),
    ]


def test_videos_alone_get_the_lines_that_cut_them(ave: Path) -> None:
    (ave / "AVE").mkdir()
    (ave / "audio").rename(ave / "elsewhere")
    with pytest.raises(DataError, match=r"no sound \(.wav, .flac, .ogg, .mp3\) in .*audio; (.|\n)*ffmpeg .*AVE/"):
        lb.source(f"ave:{ave}", **SMALL)
    assert len(lb.source(f"ave:{ave}", **SMALL, audio="elsewhere")) == 4
    assert list(lb.source(f"ave:{ave}", **SMALL, audio="").modalities) == ["image", "label"]
    assert list(lb.source(f"ave:{ave}", **SMALL, audio="elsewhere", frames="").modalities) == ["audio", "label"]
    with pytest.raises(ConfigError, match="audio and frames are both left out"):
        lb.source(f"ave:{ave}", **SMALL, audio="", frames="")
    with pytest.raises(ConfigError, match=r"`audio_seconds` of ave must be from 0\.01"):
        lb.source(f"ave:{ave}", audio_seconds=0.0)
    for path in [*ave.glob("*Set.txt"), ave / "Annotations.txt"]:
        path.unlink()
    with pytest.raises(DataError, match=r"neither trainSet.txt, valSet.txt, testSet.txt nor Annotations.txt in"):
        lb.source(f"ave:{ave}", **SMALL, audio="elsewhere")


def test_doctor(ave: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sized = {"resolution": 32, "audio_rate": 8000, "audio_seconds": 0.5, "mels": 32}
    options = [f"--source.{name}={value}" for name, value in sized.items()]
    words = ["doctor", f"ave:{ave}", *options, "--pairs", "2", "--method", "random", "--space.image", "convnet"]
    code, said = main(words), capsys.readouterr()
    assert code == 0, said.err
    assert "train: samples 4, captions 0, classes 2" in said.out
