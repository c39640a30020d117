"""What a method cannot work on is refused before an encoder has seen a single sample, whatever the command."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import limbeck as lb
from limbeck import registry
from limbeck.cli import main
from limbeck.data import Cache
from tiers import slow_but

SMALL = ["--source.resolution", "16", "--space.image", "convnet"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Thirty images a split: `told` has captions and no labels, `sorted` has labels of three classes and no captions."""
    root = tmp_path_factory.mktemp("data")
    draw = np.random.default_rng(0)
    rows: dict[str, list[dict[str, str]]] = {"told": [], "sorted": []}
    for i in range(30):
        Image.fromarray(draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(root / f"{i}.png")
        for split in ("train", "val", "test"):
            row = {"image": f"{i}.png", "split": split, "key": f"{i}-{split}"}
            rows["told"].append({**row, "caption": f"picture number {i}"})
            rows["sorted"].append({**row, "label": "abc"[i % 3]})
    for name, lines in rows.items():
        (root / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return {name: f"manifest:{root}/{name}.jsonl" for name in rows}


def line(command: str, source: str, method: Sequence[str], pairs: str, folder: Path) -> list[str]:
    """A command on a source with one method."""
    name, *options = method
    words = [command, source, *SMALL, *(["--space.text", "bag_of_words"] if "told" in source else []), "--pairs", pairs]
    if command == "compare":
        options = [word.replace("--method.", f"--{name}.") for word in options]
        judge = [] if "told" in source else ["--protocol", "classification"]
        return [*words, "--methods", name, *options, "--out", str(folder), *judge]
    where = ["--run", str(folder)] if command == "distill" else []
    return [*words, "--method", name, *options, *where]


REFUSED = {
    "dc without labels": ("told", ["dc"], "9", 3, "no labels; use cf or dm"),
    "guided without labels": ("told", ["guided"], "9", 3, "no labels; use cf or dm"),
    "classes without labels": ("told", ["herding", "--method.per_class", "true"], "9", 3, "leave per_class out"),
    "fewer pairs than classes": ("sorted", ["cf"], "2", 2, "below one a class: there are 3 classes"),
    "classes of dc": ("sorted", ["dc"], "2", 2, "below one a class: there are 3 classes"),
    "a modality too few": ("sorted", ["kip"], "9", 3, "kip needs image and text"),
    "what is not there to learn": (
        "sorted",
        ["label_distillation", "--method.learn", "text"],
        "9",
        2,
        "cannot learn 'text'",
    ),
    "more pairs than samples": ("told", ["cf"], "31", 2, "larger than the data: 30 samples"),
}


@pytest.mark.parametrize("command", slow_but(["distill", "doctor", "compare"], "distill"))
@pytest.mark.parametrize("case", REFUSED)
def test_no_encoder_is_called(
    command: str,
    case: str,
    data: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, method, pairs, code, says = REFUSED[case]
    monkeypatch.setattr(lb.Encoder, "__call__", lambda self, values: pytest.fail("an encoder was called"))
    words = line(command, data[source], method, pairs, tmp_path / "out")
    assert main(words) == code
    assert says in capsys.readouterr().err


def test_a_method_that_may_leave_classes_out_is_not_refused_for_them(data: dict[str, str], tmp_path: Path) -> None:
    options = ["herding", "--method.per_class", "false"]
    for command in ("doctor", "distill"):
        assert main(line(command, data["sorted"], options, "2", tmp_path / "out")) == 0


@pytest.mark.parametrize("name", registry.names("method"))
def test_no_check_reads_features(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a refusal nor a pass costs a look at the data, for any method."""
    monkeypatch.setattr(lb.Encoder, "__call__", lambda self, values: pytest.fail("an encoder was called"))
    for modalities in (("image", "text", "label"), ("image", "text"), ("image", "label"), ("image",)):
        names = {"image": "convnet", "text": "bag_of_words"}
        space = lb.space(**{m: names[m] for m in modalities if m in names})
        source = lb.check.toy_source(128, modalities=modalities)
        problem = lb.Problem(source, space, lb.Budget(pairs=100), cache=Cache(tmp_path))
        try:
            registry.get("method", name)().check(problem)
        except (lb.errors.DataError, lb.errors.ConfigError) as error:
            assert str(error)
        assert "features" not in vars(problem)


def test_samples_without_a_file_count_before_anything_is_encoded(tmp_path: Path) -> None:
    """Of what a source lists: images without a caption, and captions without an image, make no pair."""
    Image.new("RGB", (16, 16), "red").save(tmp_path / "0.png")
    Image.new("RGB", (16, 16), "blue").save(tmp_path / "1.png")
    rows = [
        {"image": "0.png", "caption": "red", "label": "warm"},
        {"image": "1.png", "caption": "blue", "label": "cold"},
        {"image": "0.png", "label": "warm"},
        {"caption": "green", "label": "none"},
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({**row, "split": "train"}) for row in rows))
    source = lb.source(f"manifest:{tmp_path}/rows.jsonl", resolution=16)
    space = lb.space(image="convnet", text="bag_of_words")
    problem = lb.Problem(source, space, lb.Budget(pairs=2))
    assert problem.available == 2
    problem.refuse_classes(2, per_class=True)  # of the third class no sample is whole
    with pytest.raises(lb.errors.ConfigError, match="there are 2 classes with samples"):
        problem.refuse_classes(1, per_class=True)
    assert "features" not in vars(problem)
    assert len(problem.complete) == 2
    with pytest.raises(lb.errors.ConfigError, match="2 samples can make a pair"):
        lb.Problem(source, space, lb.Budget(pairs=3))
