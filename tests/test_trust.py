"""A file that somebody else made names code, data and models; nothing of it is used unless a person said so."""

import json
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
import torch
from PIL import Image

import limbeck as lb
from limbeck import registry
from limbeck.cli import main
from limbeck.commands._line import read_line
from limbeck.data.trust import named_elsewhere, remember
from limbeck.errors import ConfigError
from limbeck.spaces.binder import Binding, bind, load_space
from whole import whole_set, with_manifest

Caught = pytest.CaptureFixture[str]
ENCODERS = ["--space.image", "convnet", "--space.text", "bag_of_words"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures of noise with captions, and a set of them."""
    root = tmp_path_factory.mktemp("trust")
    draw, lines = torch.Generator().manual_seed(0), []
    for i in range(40):
        pixels = torch.randint(0, 256, (16, 16, 3), generator=draw, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(root / f"{i}.png")
        split = "train" if i < 24 else "val" if i < 32 else "test"
        lines.append({"file_name": f"{i}.png", "caption": f"picture {i}", "split": split})
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = ["distill", f"folder:{root}", "--source.resolution", "16", "--method", "random", "--pairs", "6"]
    assert main([*words, *ENCODERS, "--run", str(root / "run")]) == 0
    return root


def test_a_set_that_was_made_here_opens_its_data_and_says_so(data: Path, capsys: Caught) -> None:
    assert main(["audit", str(data / "run"), "--seeds", "0"]) == 0
    assert f"note: folder:{data}: opened because" in capsys.readouterr().err


def test_a_set_that_was_made_elsewhere_opens_what_a_person_allows(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Caught
) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    for command in ("audit", "evaluate"):
        assert main([command, str(data / "run"), "--seeds", "0"]) == 2
        err = capsys.readouterr().err
        assert "was not made here, and names" in err and f"--allow folder:{data}" in err
    words = ["audit", str(data / "run"), "--seeds", "0"]
    assert main([*words, "--allow", f"folder:{data}"]) == 0
    assert f"note: folder:{data}: opened because" in capsys.readouterr().err
    assert main([*words, "--against", f"folder:{data}", "--against.resolution", "16"]) == 0
    assert "opened because" not in capsys.readouterr().err


def test_encoders_of_a_set_are_opened_where_they_come_with_limbeck(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))

    def change(manifest: dict) -> None:  # type: ignore[type-arg]
        manifest["recipe"]["space"]["image"] = {"name": "hf:some/model"}

    small = lb.load(with_manifest(data / "run" / "set", tmp_path / "set", change))
    on = lb.source(f"folder:{data}", split="test", resolution=16)
    with pytest.raises(
        ConfigError, match=r"names hf:some/model.*--allow hf:some/model \(in Python: with limbeck\.allow"
    ):
        lb.evaluate(small, on, seeds=1)
    with lb.allow("hf:some/model"), pytest.raises(ConfigError, match="the model 'some/model' cannot be read"):
        lb.evaluate(small, on, seeds=1)
    plain = lb.load(data / "run" / "set")
    assert lb.evaluate(plain, on, seeds=1, steps=2)


def test_what_comes_with_limbeck_is_named_freely() -> None:
    spaces = {
        "image": {"name": "ensemble:convnet+hf:x+timm:y"},
        "text": {"name": "minilm"},
        "audio": {"name": "bound:/x"},
    }
    assert named_elsewhere("encoder", spaces) == ["hf:x", "timm:y", "bound:/x"]
    assert named_elsewhere("encoder", {"image": {"name": "pool:convnet+hf:x"}}) == ["hf:x"]
    assert named_elsewhere("source", {"data": {"name": "demo"}}) == []
    assert named_elsewhere("source", {"data": {"name": "set:x"}}) == ["set:x"]
    assert named_elsewhere("encoder", {"image": {}}) == [""]


def test_a_bound_space_opens_encoders_that_a_person_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = Binding(dim=8, hidden=(16,), steps=2, batch=16)
    bind(lb.check.toy_source(), lb.space(image="convnet", text="bag_of_words"), tmp_path / "space", few)

    def change(manifest: dict) -> None:  # type: ignore[type-arg]
        manifest["encoders"]["image"] = {"name": "hf:some/model"}

    changed = with_manifest(tmp_path / "space", tmp_path / "other", change)
    with pytest.raises(ConfigError, match="was not made here, and names hf:some/model"):
        _ = load_space(changed)["image"].member  # type: ignore[attr-defined]
    with lb.allow("hf:some/model"):
        assert load_space(changed)["image"].member.name == "some/model"  # type: ignore[attr-defined]
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    assert load_space(tmp_path / "space")["image"].network is not None  # of encoders that come with Limbeck


CALLS = "import pathlib\ndef touch(*given):\n    pathlib.Path(__file__).with_name('ran').touch()\n    return []\n"


@pytest.mark.parametrize("text", ["call:helpful_function.touch", '"c\\x61ll:helpful_function.touch"'])
def test_a_configuration_does_not_call_functions(
    text: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Caught
) -> None:
    (tmp_path / "helpful_function.py").write_text(CALLS)
    monkeypatch.syspath_prepend(tmp_path)
    config = tmp_path / "recipe.yaml"
    config.write_text(f"captions: {text}\n")
    assert main(["annotate", str(data), "--out", str(tmp_path / "out"), "--config", str(config)]) == 2
    assert "call:helpful_function.touch" in (err := capsys.readouterr().err) and "runs code" in err
    assert not (tmp_path / "ran").exists() and "helpful_function" not in sys.modules


@pytest.mark.parametrize("method", ["edge", "prior"])
def test_a_recipe_does_not_call_functions(method: str, tmp_path: Path, capsys: Caught) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text(f"source: demo\nmethod: {{name: {method}, captions: 2, captioner: 'call:os.system'}}\npairs: 4\n")
    words = ["distill", "--config", str(config), "--run", str(tmp_path / "run")]
    assert main(words) == 2 and "'call:os.system' runs code" in capsys.readouterr().err
    assert main([*words, "--vary", "x=call:os.system"]) == 2 and "no option --vary" in capsys.readouterr().err


def test_a_configuration_does_not_name_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Caught) -> None:
    points = EntryPoints([EntryPoint("evil", "evil_module:Evil", f"limbeck.{k}s") for k in registry.KINDS])
    monkeypatch.setattr(registry, "entry_points", lambda group: points.select(group=group))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil_module.py").write_text("raise SystemExit('it ran')")
    config = tmp_path / "recipe.yaml"
    for text in ("source: 'evil:x'", "method: evil", "space: {image: evil}", "method: {name: evil, steps: 1}"):
        config.write_text(f"{text}\npairs: 4\n")
        words = [
            "distill",
            *([] if "source" in text else ["demo"]),
            "--config",
            str(config),
            "--run",
            str(tmp_path / "r"),
        ]
        assert main(words) == 2, text
        assert "runs code that is not Limbeck's, and only a file names it" in capsys.readouterr().err
        main([*words, "--help"])  # as far as help goes
    assert "evil_module" not in sys.modules


def test_only_the_command_line_allows(tmp_path: Path) -> None:
    config = tmp_path / "recipe.yaml"
    config.write_text("allow: [call:os.system]\n")
    with pytest.raises(ConfigError, match="says allow; that is said on the command line alone"):
        read_line(["--config", str(config)])
    config.write_text("config: other.yaml\n")
    with pytest.raises(ConfigError, match="says config"):
        read_line(["--config", str(config)])
    assert read_line(["--allow", "a", "--allow=b:c"]).given == {"allow": "a,b:c"}


@pytest.mark.parametrize("place", ["/etc/limbeck", "../x", "a/../../x", "~/x"])
def test_a_configuration_writes_below_the_current_folder(place: str, tmp_path: Path) -> None:
    config = tmp_path / "recipe.yaml"
    for name in ("run", "out"):
        config.write_text(f"{name}: {place}\n")
        with pytest.raises(ConfigError, match=f"says {name}: {place}; .*--{name} {place}"):
            read_line(["--config", str(config)])
        config.write_text(f"{name}: runs/a\n")
        assert read_line(["--config", str(config)]).given == {name: "runs/a"}


def test_a_set_is_never_trusted_for_being_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    recipe = lb.Recipe(source={"name": "folder:/somewhere"}, method={"name": "cf"})
    small = lb.load(whole_set(recipe=recipe).save(tmp_path / "set"))
    small.save(tmp_path / "copy")
    with pytest.raises(ConfigError, match="was not made here"):
        lb.load(tmp_path / "copy").refuse_strangers("source", {"data": small.recipe.source}, "name others")


def test_what_a_killed_note_left_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed behind the rename of a note: the next one finds it there, writes nothing, and still removes the work folder."""
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    remember({"made": 1})
    (note,) = (tmp_path / "made").iterdir()
    left = tmp_path / "made" / ".limbeck-work-0123abcd"
    left.mkdir()
    (left / "owner.json").write_text(json.dumps({"limbeck": "work", "target": note.name}))
    remember({"made": 1})
    assert list((tmp_path / "made").iterdir()) == [note]
