"""`limbeck annotate` from a folder of pictures to a table that the other commands open."""

import json
import shlex
from pathlib import Path

import pytest

from annotators import write_pets
from limbeck.cli import main
from limbeck.errors import MissingDependency


@pytest.fixture
def pets(tmp_path: Path) -> str:
    return f"folder:{write_pets(tmp_path / 'pets')}"


def test_fallbacks_say_what_they_are_and_what_comes_next(
    pets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2", reason="needs the masks extra")
    options = ["--source.mask_values", "trimap", "--source.resolution", "24"]
    assert main(["annotate", pets, *options, "--captions", "template", "--masks", "grabcut"]) == 0
    out = capsys.readouterr().out
    table = tmp_path / "pets_annotated" / "annotated.jsonl"
    assert f"{pets}: 12 samples of train, val, test" in out and f"written: {table}" in out
    assert "captions: 7 made by template, 4 kept, 1 no caption\n  these captions hold the class word and nothing" in out
    assert "masks: 9 made by grabcut, 3 kept, 0 found nothing\n  these masks come from colours alone" in out
    assert f"next:  limbeck distill manifest:{table} --source.resolution 24 --pairs 100" in out
    again = shlex.split(out.splitlines()[-1])[3:-2]
    encoders = ["--space.image", "convnet", "--space.text", "bag_of_words"]
    assert main(["distill", *again, *encoders, "--method", "random", "--pairs", "2", "--run", str(tmp_path / "r")]) == 0


def test_json_options_of_parts_and_one_split(pets: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["annotate", pets, "--source.split", "train", "--source.mask_values", "trimap", "--json"]
    words += ["--captions", "template", "--captions.template", "{class}", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    said = capsys.readouterr()
    data = json.loads(said.out)
    assert data["captions"]["by"] == {"name": "template", "template": "{class}"} and data["masks"] is None
    assert (data["samples"], data["splits"], data["captions"]["made"]) == (4, ["train"], 2)
    assert data["opens"] == [f"manifest:{tmp_path / 'out' / 'annotated.jsonl'}"]
    assert "a table of train alone is split anew" in said.err
    assert main(words) == 0 and json.loads(capsys.readouterr().out) == data
    assert main([*words, "--captions.template", "a {class}"]) == 2
    assert "other captions than asked for now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "captions, masks or both: name a captioner or a segmenter"),
        (["--captions", "hf"], "the captioner 'hf' is a family: say which model, as in 'hf:NAME'"),
        (["--masks", "grabcut:x"], "the segmenter 'grabcut' takes nothing after a colon"),
        (["--masks", "grabcat"], "unknown segmenter 'grabcat'; did you mean grabcut"),
        (["--masks", "grabcut", "--masks.template", "x"], "not an option of grabcut"),
        pytest.param(
            ["--captions", "hf:no-such/model"], "model 'no-such/model' cannot be read", marks=pytest.mark.slow
        ),
        (["--captions", "template", "--device", "tpu"], "--device takes cpu"),
    ],
)
def test_what_cannot_be_is_refused(pets: str, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "grabcut" in " ".join(words):
        pytest.importorskip("cv2", reason="needs the masks extra")
    assert main(["annotate", pets, "--source.mask_values", "trimap", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_missing_package_is_named_with_its_extra(pets: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limbeck.registry.find_spec", lambda name: None)
        assert main(["annotate", pets, "--masks", "grabcut"]) == MissingDependency.exit_code
    assert "needs the package 'cv2'" in (said := capsys.readouterr().err) and "limbeck[masks]" in said


def test_captioners_and_segmenters_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "captioners", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["captioners"]) == ["call", "hf", "retrieval", "scenes", "template"]
    assert main(["list", "segmenters", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["segmenters"]) == ["grabcut", "hf"]
