"""`limbeck bind`: a space from the command line, and its use by other commands."""

import json
from pathlib import Path

import pytest
from PIL import Image

from limbeck.cli import main

FEW = ["--dim", "8", "--hidden", "16", "--steps", "4", "--batch", "8"]
SMALL = ["--space.image", "convnet", "--space.text", "bag_of_words", "--source.resolution", "16"]


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of coloured squares with captions; 12 for training, one of them without a caption, 4 for validation."""
    root = tmp_path_factory.mktemp("squares")
    lines = []
    for i in range(16):
        colour = [(220, 30, 30), (30, 200, 30), (30, 30, 220), (220, 220, 30)][i % 4]
        Image.new("RGB", (16, 16), tuple((c + 3 * i) % 256 for c in colour)).save(root / f"{i}.png")
        line = {"file_name": f"{i}.png", "split": "train" if i < 12 else "val"}
        lines.append(line if i == 3 else {**line, "caption": f"square number {i}"})
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return f"folder:{root}"


def test_bind_reports_and_other_commands_take_the_space(
    squares: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "space"
    words = ["bind", squares, *SMALL, *FEW, "--weights", "image=2", "--normalize", "--out", str(out)]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "measured on the validation split: 4 samples" in said.out and "image -> text" in said.out
    assert "1 samples of folder" in said.err and "have one modality" in said.err
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["report"]["recall"]["text -> image"]["R@5"] == 100.0 and answer["report"]["split"] == "val"
    assert answer["samples"] == {"all": 12, "one_modality": 1, "no_modality": 0, "image": 12, "text": 11}
    manifest = json.loads((out / "space.json").read_text())
    assert manifest["binding"]["weights"] == {"image": 2.0} and manifest["binding"]["normalize"] is True
    bound = ["--space", f"bound:{out}", "--source.resolution", "16"]
    assert main(["embed", squares, *bound, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shapes"]["train"] == {"image": [12, 8], "text": [11, 8]}


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--anchor", "fixed:audio"], 2, "the anchor 'audio' is not among what is bound: image, text"),
        (
            ["--anchor", "all_pairs", "--leave_one_out"],
            2,
            "`leave_one_out=True` of bind is ignored when `anchor=all_pairs`",
        ),
        (["--weights", "image=much"], 2, "--weights takes MODALITY=NUMBER"),
        (["--space.text", "none"], 2, "needs two modalities"),
        (["--device", "abacus"], 2, "--device takes cpu"),
    ],
)
def test_bind_refuses(
    words: list[str], code: int, says: str, squares: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bind", squares, *SMALL, *FEW, "--out", str(tmp_path / "a"), *words]) == code
    assert says in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
