"""Sound and depth on the command line: from a manifest to a set, a score and a page."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from limbeck.cli import main

soundfile = pytest.importorskip("soundfile", reason="needs the audio extra")

SMALL = [
    "--source.resolution", "16", "--source.audio_rate", "8000", "--source.audio_seconds", "0.2", "--source.mels", "20",
    "--source.depth_unit", "mm",
]  # fmt: skip
ENCODERS = [
    word for m in ("image", "audio", "depth") for word in (f"--space.{m}", "convnet", f"--space.{m}.width", "8")
]


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Thirty rooms of two kinds, seen, heard and measured; of the second kind there are only three to train on."""
    root = tmp_path_factory.mktemp("rooms")
    draw = np.random.default_rng(0)
    lines = []
    for i in range(30):
        small = i % 10 == 0
        Image.fromarray(draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(root / f"{i}.png")
        Image.fromarray(np.full((16, 16), 800 if small else 4000, np.uint16)).save(root / f"{i}-depth.png")
        tone = 0.5 * np.sin(2 * np.pi * (300 if small else 1500) * np.arange(1600) / 8000)
        soundfile.write(root / f"{i}.wav", tone + 0.01 * draw.normal(size=1600), 8000)
        files = {"image": f"{i}.png", "audio": f"{i}.wav", "depth": f"{i}-depth.png"}
        lines += [
            {**files, "label": "closet" if small else "hall", "split": split, "key": f"{i}-{split}"}
            for split in ("train", "val", "test")
        ]
    (root / "rooms.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return f"manifest:{root}/rooms.jsonl"


def said(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(list(words))
    found = capsys.readouterr()
    return code, found.out, found.err


@pytest.mark.slow
def test_three_modalities_from_a_table_to_a_page(
    rooms: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    words = ["distill", rooms, *SMALL, *ENCODERS, "--method", "imagebind_dc", "--method.steps", "2", "--pairs", "10"]
    code, out, err = said([*words, "--method.scale", "9", "--run", run], capsys)
    assert code == 0, err
    assert err.count("note: at scale = 9 the characteristic functions of image + audio + depth vanish") == 1, err
    assert "--protocol classification" in out
    assert "note: 1 classes have fewer complete samples than 5 each: closet 3; others hold more" in err
    few = ["--protocol.steps", "5", "--protocol.looks", "1", "--seeds", "1"]
    code, out, err = said(["evaluate", run, "--protocol", "classification", *few, "--json"], capsys)
    assert code == 0, err
    metrics = [row["metric"] for row in json.loads(out)["rows"]]
    assert metrics[:2] == ["joint accuracy", "late accuracy"] and {m.split()[0] for m in metrics[2:]} == {
        "image", "audio", "depth",
    }  # fmt: skip
    code, out, err = said(["evaluate", run, *few, "--student", "convnet", "--json"], capsys)
    assert code == 0, err
    assert len(json.loads(out)["rows"]) == 19
    code, out, err = said(["evaluate", run, "--space.audio", "none", *few], capsys)
    assert code == 0, err
    assert "depth to image R@1" in out and "audio" not in out
    page = tmp_path / "page.html"
    code, out, err = said(["show", run, "--out", str(page)], capsys)
    assert code == 0, err
    assert page.read_text().count("<audio controls") == 10


def test_doctor_looks_at_every_modality(rooms: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each file is in all three splits, and there are as many different depth maps as kinds of room."""
    words = ["doctor", rooms, *SMALL, *ENCODERS, "--method", "imagebind_dc", "--pairs", "10"]
    code, out, err = said([*words, "--json"], capsys)
    assert code == 0, err
    found = json.loads(out)
    counts = {modality: set(shared.values()) for modality, shared in found["shared files"].items()}
    assert counts == {"image": {30}, "audio": {30}, "depth": {2}}
    assert found["encoders"]["depth"]["metres, median"] == pytest.approx(4.0), "27 of 30 rooms"
    speeds = [found["encoders"][m]["with their gradient, measured"] for m in ("image", "audio", "depth")]
    seconds = 100 * 10 * sum(1 / speed for speed in speeds)
    assert found["task"]["seconds of all steps, estimated"] == pytest.approx(seconds)
    assert found["task"]["disk for experts and views, estimated"] == 0, "nothing is augmented"
    code, out, err = said([*words, "--method.augment", "crop", "--method.views", "2"], capsys)
    assert code == 0, err
    assert "30 audio files are in both train and val" in out and "2 depth files are in both val and test" in out
    size = next(line for line in out.splitlines() if "bytes of features" in line).rsplit(" ", 1)[1].replace(",", "")
    assert f"\n  disk for experts and views, estimated: {2 * int(size):,}\n" in out


def test_doctor_times_a_modality_that_few_samples_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """None of the first seventy has a sound."""
    tone = np.sin(np.arange(1600) / 3)
    lines = []
    for i in range(80):
        Image.new("RGB", (16, 16), (3 * i, 0, 0)).save(tmp_path / f"{i}.png")
        sound = {"audio": f"{i}.wav"} if i >= 70 else {}
        if sound:
            soundfile.write(tmp_path / f"{i}.wav", tone * (i - 65) / 20, 8000)
        lines.append({"image": f"{i}.png", **sound, "split": "train"})
    lines.append({**lines[0], "split": "val", "key": "again"})
    (tmp_path / "few.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = ["doctor", f"manifest:{tmp_path}/few.jsonl", *SMALL[:8], *ENCODERS[:8], "--method", "random", "--json"]
    code, out, err = said([*words, "--pairs", "4"], capsys)
    assert code == 0, err
    found = json.loads(out)
    width = found["encoders"]["image"]["bytes of features"] // 80
    assert found["encoders"]["audio"]["bytes of features"] == 10 * width
    assert found["shared files"] == {"image": {"train and val": 1}, "audio": {"train and val": 0}}


def manifest(path: Path, lines: Sequence[dict[str, str]]) -> list[str]:
    path.write_text("\n".join(map(json.dumps, lines)))
    return [f"manifest:{path}", "--source.resolution", "16", "--source.depth_unit", "mm"]


@pytest.fixture
def few(tmp_path: Path) -> list[dict[str, str]]:
    """Depth in four of twelve samples, and in none of class b; one sample to choose on and one to test on."""
    lines = []
    for i in range(12):
        Image.new("RGB", (16, 16), (20 * i, 0, 0)).save(tmp_path / f"{i}.png")
        line = {"image": f"{i}.png", "label": "ab"[i % 2], "split": "train", "key": str(i)}
        if i in (0, 2, 4, 6):
            np.save(tmp_path / f"{i}.npy", np.full((16, 16), 1000 + 100 * i, np.uint16))
            line["depth"] = f"{i}.npy"
        lines.append(line)
    return lines + [{**lines[0], "split": split, "key": split} for split in ("val", "test")]


@pytest.mark.slow
def test_what_a_class_or_a_space_lacks_is_said(
    few: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rooms, image, depth = manifest(tmp_path / "few.jsonl", few), ENCODERS[:4], ENCODERS[8:]
    words = ["distill", *rooms, "--method", "imagebind_dc", "--method.steps", "1", "--pairs", "2"]
    code, _, err = said([*words, *image, *depth, "--run", str(tmp_path / "a")], capsys)
    assert code == 0, err
    assert "note: 8 of the 12 samples" in err and "do not hold image and depth; the set starts from the others" in err
    assert "fewer complete samples than 1 each: b 0; others hold more" in err
    code, out, err = said(["doctor", *rooms, *image, *depth, "--pairs", "2", "--method", "random"], capsys)
    assert code == 0, err
    assert "no sample of b holds image and depth: a set gets none of them" in out
    code, _, err = said([*words, *image, "--space.depth", "none", "--run", str(tmp_path / "b")], capsys)
    assert code == 0 and "complete samples" not in err and "do not hold" not in err, err
    code, _, err = said([*words, *image, *depth, *ENCODERS[4:6], "--run", str(tmp_path / "c")], capsys)
    assert code == 2 and "--space.audio: no sample of" in err and "holds audio, only image, depth, label" in err


@pytest.mark.slow
def test_what_the_test_data_or_every_sample_lacks_is_said(
    few: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoders, run = ["--space.text", "none", *ENCODERS[:4], *ENCODERS[8:]], str(tmp_path / "run")
    words = ["distill", *manifest(tmp_path / "few.jsonl", few), *encoders, "--method", "random", "--pairs", "2"]
    code, out, err = said([*words, "--run", run], capsys)
    assert code == 0, err
    code, out, err = said(["show", run, "--out", str(tmp_path / "page.html")], capsys)
    assert code == 0 and "class" in out and "captions" not in out, "no column of captions where there is none"
    flat = manifest(tmp_path / "flat.jsonl", [{k: v for k, v in line.items() if k != "depth"} for line in few])
    judged = ["--protocol", "classification", "--protocol.steps", "2", "--protocol.looks", "1", "--seeds", "1"]
    code, _, err = said(["evaluate", run, "--on", flat[0], "--on.resolution", "16", *judged], capsys)
    assert code == 0 and "note: depth of" in err and "is not judged" in err, err
    apart = [{k: v for k, v in line.items() if k != ("image" if "depth" in line else "depth")} for line in few]
    words = ["distill", *manifest(tmp_path / "apart.jsonl", apart), *encoders, "--method", "random", "--pairs", "2"]
    code, _, err = said([*words, "--run", str(tmp_path / "apart")], capsys)
    assert code == 3 and "no sample has all of image, depth, and a set starts from samples that do; leave out" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--space", "clab"], "unknown ready space 'clab'; did you mean clap"),
        (["--space", "imagebind"], "pip install git+https://github.com/facebookresearch/ImageBind"),
        (["--source.mels", "0"], "ask the source for spectrograms (--source.mels 64)"),
        (["--space.image", "none", "--space.audio", "none", "--space.depth", "none"], "name an encoder of one of them"),
        (["--source.depth_unit", "furlong"], "furlong"),
    ],
)
def test_what_cannot_be_read_says_so(
    words: list[str], says: str, rooms: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [] if words[0].startswith("--space") else ENCODERS
    line = [
        "distill",
        rooms,
        *SMALL,
        *given,
        "--method",
        "random",
        "--pairs",
        "4",
        "--run",
        str(tmp_path / "a"),
        *words,
    ]
    code, _, err = said(line, capsys)
    assert code != 0 and says in err and err.startswith("error: ") and err.count("\n") == 1
