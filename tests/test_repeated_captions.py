"""Six different captions on many images, from the command line: retrieval cannot tell, and something else can."""

import json
from pathlib import Path

import pytest
from PIL import Image

from limbeck.cli import main

COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200), "grey": (90, 90, 90), "pink": (240, 120, 160), "black": (5, 5, 5)}  # fmt: skip
SMALL = ["--space.image", "convnet", "--space.text", "bag_of_words"]
SAID = "6 different captions for 40 images: however good a student, IR@1 cannot exceed 15 % and TR@1 0 %"


@pytest.fixture
def folder(tmp_path: Path) -> str:
    root = tmp_path / "data"
    root.mkdir()
    rows = []
    for i in range(100):
        name = list(COLOURS)[i % 6]
        Image.new("RGB", (16, 16), COLOURS[name]).save(root / f"{i:03d}.png")
        split = "train" if i < 40 else "val" if i < 60 else "test"
        rows.append({"file_name": f"{i:03d}.png", "text": f"a photo of a {name} square", "label": name, "split": split})
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return f"folder:{root}"


@pytest.mark.slow
def test_every_command_says_that_retrieval_cannot_tell(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [folder, "--source.resolution", "16"]
    assert main(["doctor", *data, "--method", "random", "--pairs", "6", *SMALL]) == 0
    said = capsys.readouterr().out
    assert f"test: {SAID}" in said and f"train: {SAID}" in said and "judge with --protocol classification" in said
    assert main(["distill", *data, "--method", "random", "--pairs", "6", "--run", str(tmp_path / "r"), *SMALL]) == 0
    assert f"note: {folder} has {SAID}" in capsys.readouterr().err
    judged = ["evaluate", str(tmp_path / "r"), "--seeds", "1", "--protocol.steps", "2"]
    assert main(judged) == 0
    assert f"note: {folder} has {SAID}" in capsys.readouterr().err
    assert main([*judged, "--protocol", "classification"]) == 0
    assert "different captions" not in capsys.readouterr().err
    grid = [
        "--methods",
        "random",
        "--pairs",
        "6",
        "--seeds",
        "1",
        "--protocol.steps",
        "2",
        "--out",
        str(tmp_path / "c"),
    ]
    assert main(["compare", *data, *grid, *SMALL]) == 0
    assert f"note: {folder} has {SAID}" in capsys.readouterr().err
