"""`limbeck distill` without a method: a search, an ordinary recipe, the same set again."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import limbeck.search
from limbeck.cli import main
from limbeck.commands import distill
from limbeck.commands._options import Part, parse
from limbeck.errors import ConfigError
from limbeck.search import candidates

TINY = ["--source.resolution", "16", "--space.image", "convnet", "--space.image.width", "8"]
TEXT = ["--space.text", "bag_of_words"]
JUDGE = ["--judge", "convnet", "--judge.width", "8", "--judge.seed", "1"]
Said = tuple[int, str, str]
Limbeck = Callable[..., Said]


@pytest.fixture(scope="module", autouse=True)
def _short() -> Iterator[None]:
    """Few storages, and students of few steps."""
    short = {"steps": 2, "longest": 2, "looks": 1, "noise": (1.0,)}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("QUICK", "USUAL"):
            patch.setattr(sys.modules["limbeck.search.auto"], name, short)
        patch.setattr(candidates, "GRID", ((0, 1.0, 20),))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twenty-four pictures with captions, half of them for training."""
    root = tmp_path_factory.mktemp("data")
    rows = []
    for i in range(24):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i}.png")
        split = ("train", "train", "val", "test")[i % 4]
        rows.append({"file_name": f"{i}.png", "caption": f"thing {i}", "split": split})
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"folder:{root}"


@pytest.fixture
def limbeck_says(capsys: pytest.CaptureFixture[str]) -> Limbeck:
    """Runs a command; its exit code, and what it says."""

    def command(*words: object) -> Said:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        assert "Traceback" not in said.err and "fault of Limbeck" not in said.err
        return code, said.out, said.err

    return command


@pytest.mark.slow
def test_the_winner_is_an_ordinary_recipe_that_makes_the_same_set_again(
    data: str, tmp_path: Path, limbeck_says: Limbeck
) -> None:
    asked = ["distill", data, *TINY, *TEXT, *JUDGE, "--bytes", "11kB", "--minutes", "0.001", "--run", tmp_path / "a"]
    code, out, err = limbeck_says(*asked)
    assert code == 0 and "judged by home convnet and unseen convnet" in err
    assert "the minutes ended the search after 1 trial;" in err
    assert out.startswith((tmp_path / "a/auto.txt").read_text())
    recipe = (tmp_path / "a/recipe.yaml").read_text()
    assert "name: label_distillation" in recipe and "name: auto" not in recipe
    code, out, _ = limbeck_says("distill", "--config", tmp_path / "a/recipe.yaml", "--run", tmp_path / "b", "--json")
    assert code == 0 and "trials" not in json.loads(out)
    files = {p.relative_to(tmp_path / "a") for p in (tmp_path / "a/set").rglob("*") if p.is_file()}
    assert len(files) == 4
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sum((tmp_path / "a" / name).stat().st_size for name in files) <= 11_000
    code, out, _ = limbeck_says(*asked, "--json")  # what is finished is opened
    told = json.loads(out)
    assert code == 0 and told["method"]["name"] == "label_distillation" and len(told["trials"]) == 1


@pytest.mark.slow
def test_a_storage_option_that_is_given_is_kept(data: str, tmp_path: Path, limbeck_says: Limbeck) -> None:
    given = ["--storage.codec", "jpeg", "--storage.vectors", "int8", "--judge", "none"]
    run = tmp_path / "run"
    asked = ["distill", data, *TINY, *TEXT, *given, "--bytes", "11kB", "--minutes", "0.001", "--run", run, "--json"]
    code, out, err = limbeck_says(*asked)
    assert code == 0 and "no other encoder judged" in err
    stored = [trial["candidate"]["storage"] for trial in json.loads(out)["trials"]]
    assert {(s["codec"], s["vectors"]) for s in stored} == {("jpeg", "int8")}


def test_auto_is_the_default_and_a_named_method_searches_nothing(
    data: str, tmp_path: Path, limbeck_says: Limbeck, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parse(distill.Distill, ["demo", "--pairs", "3", "--run", "a"]).method == Part("method", "auto")
    monkeypatch.setattr(limbeck.search, "auto", lambda *given, **more: pytest.fail("it searched"))
    named = ["distill", data, *TINY, *TEXT, "--method", "random", "--pairs", "3", "--run", tmp_path / "run"]
    assert limbeck_says(*named)[0] == 0
    assert not (tmp_path / "run/auto.json").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--minutes", "0"], "`minutes` of distill must be above 0 and finite, got 0"),
        (["--minutes", "nan"], "--minutes takes float, got 'nan'"),
        (["--method", "cf", "--minutes", "3"], "--minutes is an option of --method auto, and this is cf"),
        (["--method", "cf", "--judge", "convnet"], "--judge is an option of --method auto, and this is cf"),
        (["--judge", "mobilnet_v2"], "unknown encoder 'mobilnet_v2'; did you mean mobilenet_v2"),
        (["--method.steps", "3"], "--method.steps is an option of a method, and auto searches for one"),
        (["--judge", "convnet", "--judge.width", "8"], "convnet takes part in making the set"),
    ],
)
def test_what_cannot_work_is_refused(
    words: list[str], says: str, data: str, tmp_path: Path, limbeck_says: Limbeck
) -> None:
    run = tmp_path / "run"
    code, _, err = limbeck_says("distill", data, *TINY, *TEXT, "--pairs", "3", "--run", run, *words)
    assert (code, err.count("\n")) == (2, 1) and says in err
    assert not run.exists()


@pytest.mark.parametrize("command", [["doctor"], ["compare", "--out", "a", "--methods"]])
def test_a_search_is_of_distill_alone(command: list[str], data: str, limbeck_says: Limbeck) -> None:
    method = ["auto"] if "--methods" in command else ["--method", "auto"]
    code, _, err = limbeck_says(command[0], data, *TINY, *TEXT, *command[1:], *method)
    assert code == 2 and "auto is no method but a search for one, by limbeck distill; name a method here" in err


def test_data_without_a_validation_split_are_told_the_remedy(data: str, tmp_path: Path, limbeck_says: Limbeck) -> None:
    """Data in files always have one; a set has not."""
    some = ["distill", data, *TINY, *TEXT, "--method", "random", "--pairs", "6", "--run", tmp_path / "some"]
    assert limbeck_says(*some)[0] == 0
    code, _, err = limbeck_says("distill", tmp_path / "some", *TINY[2:], *TEXT, "--pairs", "3", "--run", tmp_path / "b")
    assert code == 3 and "has no validation split to choose a method on" in err and "--method label_distillation" in err


def test_a_part_makes_no_search() -> None:
    with pytest.raises(ConfigError, match="auto is no method"):
        Part("method", "auto").make()
