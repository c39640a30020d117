"""The command line: what it takes, what it refuses and how, and what it prints."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from limbeck.cli import commands, main
from limbeck.commands import compare, distill, evaluate
from limbeck.commands._describe import options, spaces, summary
from limbeck.commands._line import read_line
from limbeck.commands._open import check_device
from limbeck.commands._options import Part, help_of, parse
from limbeck.commands._progress import Progress
from limbeck.commands._types import Option, typed
from limbeck.commands._vary import varied
from limbeck.data import Cache
from limbeck.errors import ConfigError, UnknownName

SMALL = ["--space.image", "convnet", "--space.text", "bag_of_words"]
Run = Callable[[Sequence[str]], tuple[int, str, str]]


@pytest.fixture
def limbeck(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process: exit code, stdout, stderr."""

    def run(words: Sequence[str]) -> tuple[int, str, str]:
        code = main(list(words))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of coloured squares with captions, 12 for training, 4 for validation, 4 for testing, and one broken file."""
    root = tmp_path_factory.mktemp("pets")
    lines = []
    for i in range(20):
        colour = [(220, 30, 30), (30, 200, 30), (30, 30, 220), (220, 220, 30)][i % 4]
        Image.new("RGB", (16, 16), tuple((c + 3 * i) % 256 for c in colour)).save(root / f"{i}.png")
        split = "train" if i < 12 else "val" if i < 16 else "test"
        text = f"a {('red', 'green', 'blue', 'yellow')[i % 4]} square number {i}"
        lines.append({"file_name": f"{i}.png", "caption": text, "split": split})
    (root / "broken.png").write_bytes(b"")
    lines.append({"file_name": "broken.png", "caption": "nothing", "split": "train"})
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return f"folder:{root}"


@pytest.fixture(scope="module")
def run_folder(pets: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs") / "a"
    words = [
        "distill",
        pets,
        "--source.max_skipped",
        "0.2",
        "--source.resolution=16",
        "--method",
        "cf",
        "--method.steps",
        "2",
    ]
    assert main([*words, "--pairs", "4", "--run", str(folder), *SMALL]) == 0
    return folder


def test_help_names_every_command_and_exit_code(limbeck: Run) -> None:
    code, out, _ = limbeck(["--help"])
    assert code == 0
    assert all(f"\n  {name}" in out for name in commands()) and "130" in out
    assert limbeck([])[1] == out


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_has_a_sentence_and_a_help_for_every_option(name: str, limbeck: Run) -> None:
    assert commands()[name].endswith(".")
    code, out, _ = limbeck([name, "--help"])
    assert code == 0 and out.startswith(f"usage: limbeck {name}")
    for line in out.splitlines():
        if line.startswith("  --") and len(line) < 30:
            following = out.splitlines()[out.splitlines().index(line) + 1]
            assert following.startswith("    ") and following.strip(), f"{line} says nothing"


def test_help_shows_the_options_of_what_was_chosen_and_of_nothing_else(limbeck: Run) -> None:
    assert "--method.steps" in limbeck(["distill", "--method", "cf", "--help"])[1]
    assert "--method." not in limbeck(["distill", "--help"])[1]
    herding = limbeck(["distill", "--method", "herding", "--help"])[1]
    assert "--method.steps" not in herding and "--method.per_class" in herding
    assert "--source.annotations" in limbeck(["distill", "karpathy:nowhere", "--help"])[1]
    encoders = [word for name in ("hf:a", "convnet", "imagebind") for word in ("--space.image", name)]
    for words in (["distill"], ["embed", *encoders[:2]], ["doctor", *encoders[2:4]], ["bind", *encoders[4:]]):
        assert ".modality" not in limbeck([*words, "--help"])[1], "the place of an encoder says which it encodes"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lst"], "unknown command 'lst'; did you mean list?"),
        (
            ["distill", "demo", "--method", "herding", "--method.steps", "3"],
            "--method.steps is an option of avdd, cf, ",
        ),
        (["distill", "demo", "--method", "cf", "--method.stepz", "3"], "did you mean --method.steps? cf has: steps"),
        (["distill", "demo", "--method.steps", "3"], "and auto searches for one; name it, as in --method cf"),
        (["distill", "demo", "--method", "cf", "--steps", "3"], "has no option --steps; did you mean --method.steps?"),
        (["evaluate", "demo", "--steps", "3"], "has no option --steps; did you mean --protocol.steps?"),
        (["compare", "demo", "--steps", "3"], "did you mean --cf.steps or --protocol.steps?"),
        (["distill", "demo", "--method", "cf", "--step", "3"], "did you mean --method.steps?"),
        (["distill", "demo", "--design", "google"], "did you mean --source.design?"),
        (
            ["distill", "demo", "--space.image.modality", "audio"],
            "--space.image.modality is no option: --space.image encodes",
        ),
        (["embed", "demo", "--space.text.modality", "image"], "--space.text.modality is no option"),
        (
            ["distill", "folder:a", "--source.path", "b"],
            "--source.path is no option: what it says stands behind the colon",
        ),
        (["distill", "demo", "--pears", "3"], "has no option --pears; did you mean --pairs"),
        (["distill", "demo", "--method", "herdin"], "unknown method 'herdin'; did you mean herding?"),
        (["distill", "demo", "--space.image", "convnett"], "unknown encoder 'convnett'; did you mean convnet?"),
        (["distill", "--run", "a"], "limbeck distill needs SOURCE"),
        (["distill", "demo"], "limbeck distill needs --run"),
        (["distill", "demo", "--pairs"], "--pairs needs a value"),
        (["distill", "demo", "--pairs", "--run"], "--pairs needs a value"),
        (["distill", "demo", "--method", "cf", "--method.steps", "--run", "a"], "--method.steps needs a value"),
        (["distill", "demo", "--space.image", "--run", "a"], "--space.image needs a value"),
        (["distill", "demo", "--pairs", "many", "--run", "a"], "--pairs takes int or null, got 'many'"),
        (["distill", "demo", "--pixels", "int8", "--run", "a"], "--pixels takes 'uint8' or 'float32', got 'int8'"),
        (
            ["distill", "demo", "--method", "cf", "--method.per_class", "maybe", "--run", "a"],
            "takes true or false or null, got 'maybe'",
        ),
        (["distill", "demo", "again", "--run", "a"], "does not know what to do with 'again'"),
        (["distill", "--config", "nowhere.yaml"], "nowhere.yaml cannot be read: No such file"),
        (
            ["compare", "demo", "--out", "a", "--methods", "cf,herding", "--random.per_class", "true"],
            "no option --random.per_class",
        ),
        (["list", "methodz"], "unknown kind 'methodz'; did you mean methods?"),
        (["distill", "demo", "--run", "a", "--save_every", "0"], "`save_every` of distill must be 1 or more, got 0"),
        (["distill", "demo", "--run", "a", "--pairs", "0"], "`pairs` of budget must be 1 or more, got 0"),
        (["distill", "demo", "--run", "a", "--pairs", "4", "--method", "cf", "--method.steps", "-1"], "steps"),
        (["distill", "demo", "--run", "a", "--pairs", "4", "--method", "dm", "--method.steps=-1"], "steps"),
        (
            ["embed", "demo", "--device", "foo"],
            "--device takes cpu, cuda, cuda:N (the N-th GPU, from 0) or mps, got 'foo'",
        ),
        (["doctor", "demo", "--device", "cuda:x"], "--device takes cpu"),
        (["evaluate", "demo", "--device", "mps:0"], "--device takes cpu"),
        (["evaluate", "demo", "--protocol.student", "convnet"], "--protocol.student is --student here"),
        (["compare", "demo", "--protocol.student", "convnet", "--out", "a"], "--protocol.student is --students here"),
    ],
)
def test_mistakes_get_one_line_with_the_remedy(words: list[str], says: str, limbeck: Run) -> None:
    code, out, err = limbeck(words)
    assert (code, out) == (2, "")
    assert says in err and err.startswith("error: ") and err.count("\n") == 1


def test_booleans_are_flags_and_hyphens_are_underscores() -> None:
    words = ["demo", "--method", "lors", "--method.mask", "--save-every", "7", "--method.lr-text=0.5", "--run", "a-b"]
    asked = parse(distill.Distill, words)
    assert asked.save_every == 7 and str(asked.run) == "a-b"
    assert asked.method.options == {"mask": True, "lr_text": 0.5}


def test_exit_codes_tell_mistakes_from_bad_data_and_faults(
    limbeck: Run, pets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--pairs", "4", "--run", str(tmp_path / "r"), *SMALL]
    code, _, err = limbeck(["distill", "folder:nowhere", *words])
    assert code == 3 and "nowhere" in err
    code, _, err = limbeck(["show", str(tmp_path)])
    assert code == 5 and "neither a distilled set" in err
    monkeypatch.setattr("limbeck.commands.list.List.execute", lambda self, tick: {}[1])
    code, _, err = limbeck(["list"])
    assert code == 1 and "--debug" in err and "KeyError" in err
    with pytest.raises(KeyError):
        main(["list", "--debug"])


@pytest.mark.parametrize("command", [["distill", "--run", "a"], ["compare", "--out", "a"], ["evaluate"], ["embed"]])
def test_a_device_that_is_not_there_is_refused_before_data_are_read(
    command: list[str], limbeck: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*command, "folder:nowhere", "--device"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "cuda:1", "mps"):
        code, out, err = limbeck([*words, name])
        assert (code, out) == (2, "") and err.count("\n") == 1
        assert err.startswith(f"error: --device {name}: this torch") and "leave the option out" in err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    code, _, err = limbeck([*words, "cuda:2"])
    assert code == 2 and "there are 2 GPUs, the last of them is cuda:1" in err
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    for name in ("cuda", "cuda:1", "mps"):
        check_device(name)


def test_a_run_cannot_be_a_file(pets: str, tmp_path: Path, limbeck: Run) -> None:
    (tmp_path / "r").write_text("here")
    words = ["distill", pets, "--source.max_skipped", "0.2", "--source.resolution=16", "--method", "random", *SMALL]
    code, out, err = limbeck([*words, "--pairs", "4", "--run", str(tmp_path / "r")])
    assert (code, out, err.count("\n")) == (5, "", 1) and "is a file" in err


def test_options_are_found_without_reading_annotations_from_a_class() -> None:
    """Python 3.14 keeps no `__annotations__` in a class's namespace."""
    import limbeck.commands

    for path in Path(limbeck.commands.__path__[0]).glob("*.py"):
        assert "__annotations__" not in path.read_text(encoding="utf-8"), path.name


@pytest.mark.draws_globally
def test_a_test_that_moves_the_global_generator_fails(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text())
    pytester.makepyfile(
        "import pytest, torch\n"
        "def test_still(): torch.rand(1, generator=torch.Generator())\n"
        "def test_moved(): torch.rand(1)\n"
        "@pytest.mark.draws_globally\n"
        "def test_allowed(): torch.rand(1)\n"
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-W", "ignore")
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_moved*", "something drew from torch's global generator*"])


def test_one_of_several_processes_speaks(limbeck: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert limbeck(["list", "methods"])[1]
    monkeypatch.setenv("RANK", "1")
    assert limbeck(["list", "methods"]) == (0, "", "")


def test_ctrl_c_says_how_to_go_on(limbeck: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: object, tick: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("limbeck.commands.compare.Compare.execute", stop)
    code, out, err = limbeck(["compare", "demo", "--out", "nowhere"])
    assert (code, out) == (130, "") and "stopped: the same command does what is missing" in err


def test_options_become_typed_fields() -> None:
    words = [
        "demo",
        "--run",
        "r",
        "--method",
        "dm",
        "--method.steps",
        "7",
        "--method.lr=1e-2",
        "--pairs",
        "9",
        "--space.text",
        "none",
        "--source.design",
        "google",
    ]
    task = parse(distill.Distill, words)
    assert task.source == Part("source", "demo", {"design": "google"})
    assert task.method == Part("method", "dm", {"steps": 7, "lr": 0.01})
    assert (task.pairs, task.bytes, task.run, task.text) == (9, None, Path("r"), None)
    grid = parse(
        compare.Compare,
        [
            "demo",
            "--out",
            "o",
            "--pairs",
            "1,2",
            "--methods",
            "random,cf",
            "--cf.steps",
            "3",
            "--students",
            "frozen,convnet",
        ],
    )
    assert grid.pairs == (1, 2) and grid.students == ("frozen", "convnet")
    assert grid.methods == (Part("method", "random"), Part("method", "cf", {"steps": 3}))
    judge = parse(
        evaluate.Evaluate,
        ["some/run", "--on", "demo", "--on.resolution", "32", "--protocol.selection", "paper", "--json"],
    )
    assert judge.small == Part("source", "some/run") and judge.on == Part("source", "demo", {"resolution": 32})
    assert judge.protocol.options == {"selection": "paper"} and judge.json


def test_false_is_false() -> None:
    for word, value in (("true", True), ("false", False), ("null", None)):
        task = parse(distill.Distill, ["demo", "--run", "r", "--method", "cf", f"--method.per_class={word}"])
        assert task.method.options == {"per_class": value}


def test_an_ablation_is_a_row_for_each_value(tmp_path: Path) -> None:
    words = ["demo", "--out", "o", "--methods", "random,cf,dm"]
    grid = parse(
        compare.Compare, [*words, "--vary", "method.steps=5,7", "--vary=cf.init=random,herding", "--cf.lr", "1"]
    )
    rows = [(part.spec, dict(part.options)) for part in varied(grid.methods, grid.vary)]
    assert rows == [
        ("random", {}),
        ("cf", {"lr": 1.0, "steps": 5, "init": "random"}),
        ("cf", {"lr": 1.0, "steps": 5, "init": "herding"}),
        ("cf", {"lr": 1.0, "steps": 7, "init": "random"}),
        ("cf", {"lr": 1.0, "steps": 7, "init": "herding"}),
        ("dm", {"steps": 5}),
        ("dm", {"steps": 7}),
    ]
    several = varied([Part("method", "dm")], {"dm.augment": "flip,[flip,crop]", "dm.per_class": "null,true"})
    assert [tuple(part.options.values()) for part in several] == [
        (augment, per_class) for augment in (("flip",), ("flip", "crop")) for per_class in (None, True)
    ]
    path = tmp_path / "c.yaml"
    path.write_text("{methods: [cf], vary: {cf: {steps: [5, 7], lr: 0.1}}}")
    filed = ["demo", "--out", "o", "--config", str(path)]
    assert parse(compare.Compare, filed).vary == {"cf.steps": "5,7", "cf.lr": "0.1"}
    assert parse(compare.Compare, [*filed, "--vary", "cf.steps=9"]).vary == {"cf.steps": "9", "cf.lr": "0.1"}
    path.write_text("vary: cf.steps=5")
    with pytest.raises(ConfigError, match=r"vary is a mapping, as in vary: \{KEY: VALUE\}"):
        parse(compare.Compare, filed)


@pytest.mark.parametrize(
    ("vary", "says"),
    [
        ("cf.steps=1,x", "--cf.steps takes int, got 'x'"),
        ("cf.steps", "--vary takes KEY=VALUE, got 'cf.steps'"),
        ("cf.stepz=1", "there is no option 'stepz' among those of random, herding, cf; cf has: steps"),
        ("method.rank=1", "there is no option 'rank' among those of random, herding, cf; random has: per_class; "),
        ("dm.steps=1", "--vary dm.steps: dm is not compared"),
        ("steps=1", "--vary steps: write METHOD.OPTION=VALUES, with method or one of random, herding, cf"),
        ("cf.lr=1,1", "cf.lr is given 1.0 twice"),
        ("cf.steps=1,0", "`steps` of cf must be 1 or more, got 0"),
        ("cf.init=random,first", "unknown selection rule 'first'"),
    ],
)
def test_a_wrong_ablation_is_refused_before_data_are_read(vary: str, says: str, limbeck: Run) -> None:
    code, out, err = limbeck(["compare", "folder:nowhere", "--out", "a", "--cf.ridge", "1", "--vary", vary])
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1
    code, _, err = limbeck(["compare", "folder:nowhere", "--out", "a", "--cf.ridge", "1", "--vary", "cf.ridge=2,3"])
    assert code == 2 and "--cf.ridge is set and varied" in err


def test_the_line_stands_above_the_file(tmp_path: Path) -> None:
    tree = {
        "source": {"name": "demo", "resolution": 32},
        "method": {"name": "cf", "steps": 5},
        "budget": {"pairs": 10},
        "seed": 3,
    }
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(tree))
    base = ["--config", str(path), "--run", "r"]
    task = parse(distill.Distill, base)
    assert task.source == Part("source", "demo", {"resolution": 32}) and task.method.options == {"steps": 5}
    assert (task.pairs, task.seed) == (10, 3)
    assert parse(distill.Distill, [*base, "--method.steps", "6"]).method.options == {"steps": 6}
    assert parse(distill.Distill, [*base, "--method", "herding"]).method == Part("method", "herding")
    assert parse(distill.Distill, [*base, "folder:x"]).source == Part("source", "folder:x")
    fewer = parse(distill.Distill, [*base, "--bytes", "1.2MB"])
    assert (fewer.pairs, fewer.bytes) == (None, "1.2MB")
    path.write_text("method: {name: herding, steps: 5}")
    with pytest.raises(ConfigError, match=r"--method\.steps is an option of avdd, cf, .*dm, .*not of herding"):
        parse(distill.Distill, base)
    path.write_text("- a")
    with pytest.raises(ConfigError, match="must be a mapping"):
        read_line(base)
    path.write_text("a: [")
    with pytest.raises(ConfigError, match="is not YAML"):
        read_line(base)
    path.write_text("budget: 5")
    with pytest.raises(ConfigError, match=r"budget must be a mapping such as budget: \{pairs: 100\}.*got 5"):
        read_line(base)
    path.write_text("fingerprints: [a]")
    with pytest.raises(ConfigError, match="fingerprints must be a mapping"):
        read_line(base)
    path.write_text("cf: {since: [2026-01-01]}")
    assert read_line(base).given["cf.since"] == "2026-01-01"  # as on a command line


def test_distil_says_what_it_made_and_what_it_left_out(run_folder: Path) -> None:
    assert {p.name for p in run_folder.iterdir()} >= {
        "recipe.yaml",
        "log.jsonl",
        "set",
        "skipped.jsonl",
        "environment.json",
    }
    (row,) = [json.loads(line) for line in (run_folder / "skipped.jsonl").read_text().splitlines()]
    assert "broken.png" in row["key"]


@pytest.mark.slow
def test_images_without_captions_are_counted_and_one_caption_in_all_is_refused(tmp_path: Path, limbeck: Run) -> None:
    def folder(name: str, said: Callable[[int], str | None]) -> str:
        root, rows = tmp_path / name, []
        root.mkdir()
        for i in range(12):
            Image.new("RGB", (16, 16), (20 * i, 255 - 20 * i, 0)).save(root / f"{i}.png")
            split = "train" if i < 6 else "val" if i < 9 else "test"
            rows.append(json.dumps({"file_name": f"{i}.png", "split": split, "caption": said(i)}))
        (root / "metadata.jsonl").write_text("\n".join(rows))
        return f"folder:{root}"

    words = ["--method", "random", "--pairs", "3", *SMALL, "--source.resolution=16", "--run"]
    some = folder("some", lambda i: None if i in (1, 4, 7) else f"number {i}")
    code, _, err = limbeck(["distill", some, *words, str(tmp_path / "a")])
    assert code == 0 and f"note: 2 of the 6 samples of {some} do not hold image and text" in err
    rows = [json.loads(line) for line in (tmp_path / "some" / "metadata.jsonl").read_text().splitlines()]
    rows = [{**row, "label": "dog" if i in (1, 4, 7) else "cat"} for i, row in enumerate(rows)]
    (tmp_path / "some" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, _, err = limbeck(["distill", some, *words, str(tmp_path / "named")])
    assert code == 0 and f"2 of the 6 samples of {some}, among them all of dog, do not hold image and text" in err
    code, _, err = limbeck(["distill", some, *words, str(tmp_path / "b"), "--space.text", "none"])
    assert code == 0 and "do not hold" not in err and "left out" not in err, "it was asked for"
    judged = ["--seeds", "1", "--protocol.steps", "2", "--protocol.looks", "1", *SMALL]
    code, _, err = limbeck(["evaluate", some, *judged])
    assert code == 0 and "2 of the 6 samples" in err
    same = folder("same", lambda i: "a square")
    for command in (["distill", same, *words, str(tmp_path / "c")], ["evaluate", same, *judged]):
        code, out, err = limbeck(command)
        assert (code, out) == (3, "") and f"{same} has one caption in all, 'a square' (6 of its 6 samples" in err
    assert not (tmp_path / "c").exists()
    compared = ["--methods", "random", "--pairs", "3", "--seeds", "1", *SMALL, "--out", str(tmp_path / "d")]
    code, _, err = limbeck(["compare", same, *compared])
    assert code == 3 and "one caption in all" in err and not (tmp_path / "d" / "runs").exists()


def test_a_recipe_makes_the_same_set_again(run_folder: Path, tmp_path: Path, limbeck: Run) -> None:
    import limbeck as lb

    code, out, err = limbeck(
        ["distill", "--config", str(run_folder / "recipe.yaml"), "--run", str(tmp_path / "b"), "--json"]
    )
    assert code == 0 and "note: the data" not in err and "1 records" in err
    again, first = lb.load(tmp_path / "b" / "set"), lb.load(run_folder / "set")
    assert json.loads(out)["fingerprint"] == again.fingerprint == first.fingerprint
    assert torch.equal(again.tensors["text"], first.tensors["text"])
    code, _, err = limbeck(
        ["distill", "--config", str(run_folder / "recipe.yaml"), "--run", str(run_folder), "--seed", "1"]
    )
    assert code == 2 and "seed: 0 -> 1" in err


def test_a_recipe_of_other_data_is_noted(run_folder: Path, tmp_path: Path, limbeck: Run) -> None:
    recipe = yaml.safe_load((run_folder / "recipe.yaml").read_text())
    recipe["fingerprints"]["source"] = "0" * 32
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    code, _, err = limbeck(["distill", "--config", str(tmp_path / "r.yaml"), "--run", str(tmp_path / "b")])
    assert code == 0 and "note: the data are not those of the recipe" in err


def test_evaluate_finds_data_and_encoders_in_the_set(run_folder: Path, tmp_path: Path, limbeck: Run) -> None:
    out_file = tmp_path / "scores.json"
    words = [
        "evaluate",
        str(run_folder),
        "--seeds",
        "1",
        "--protocol.steps",
        "4",
        "--protocol.looks",
        "2",
        "--name",
        "mine",
    ]
    code, out, err = limbeck([*words, "--out", str(out_file), "--json"])
    assert code == 0, err
    assert json.loads(out)["rows"] == json.loads(out_file.read_text())["rows"]
    assert {row["name"] for row in json.loads(out)["rows"]} == {"mine"}
    code, text, _ = limbeck(words)
    assert code == 0 and "IR@1 +- std" in text
    code, _, err = limbeck([*words, "--space.image", "none"])
    assert code == 2 and "share text that the space encodes (text), and retrieval takes two modalities or more" in err
    code, other, err = limbeck([*words, "--json", "--space.image", "convnet", "--space.image.seed", "1"])
    assert code == 0, err  # its learned text is read by the text encoder that it was distilled with
    assert json.loads(other)["rows"][0]["fingerprint"] != json.loads(out)["rows"][0]["fingerprint"]


@pytest.mark.slow
def test_embed_show_export_doctor(run_folder: Path, pets: str, tmp_path: Path, limbeck: Run) -> None:
    from safetensors.torch import load_file

    file = tmp_path / "f" / "features.safetensors"
    code, out, _ = limbeck(["embed", pets, "--source.max_skipped", "0.2", *SMALL, "--out", str(file), "--json"])
    assert code == 0
    assert {split: held["image"] for split, held in json.loads(out)["shapes"].items()} == {
        "train": [12, 128],
        "val": [4, 128],
        "test": [4, 128],
    }
    assert load_file(file)["train.image.owner"].tolist() == list(range(12))
    assert load_file(file)["test.text.vectors"].shape == (4, 256)
    words = ["embed", pets, "--source.max_skipped", "0.2", "--source.split", "val", *SMALL]
    assert set(json.loads(limbeck([*words, "--json"])[1])["shapes"]) == {"val"}
    assert "val, image: 4 vectors of 128 components" in limbeck(words)[1]
    assert set(
        json.loads(limbeck(["embed", str(run_folder), *SMALL[:2], "--space.text", "none", "--json"])[1])["shapes"]
    ) == {"all"}
    code, out, _ = limbeck(["show", str(run_folder), "--out", str(tmp_path / "page.html"), "--json"])
    assert code == 0 and json.loads(out)["pairs"] == 4 and (tmp_path / "page.html").is_file()
    assert "page:" in limbeck(["show", str(run_folder), "--out", str(tmp_path / "page.html")])[1]
    code, out, _ = limbeck(["export", str(run_folder), "--to", "folder", "--out", str(tmp_path / "x"), "--json"])
    assert code == 0 and "metadata.jsonl" in json.loads(out)["files"]
    code, _, err = limbeck(["export", str(run_folder), "--to", "folder", "--out", str(tmp_path / "x")])
    assert code == 5 and "not empty" in err
    code, out, _ = limbeck(["doctor", pets, "--source.max_skipped", "0.2", "--pairs", "4", *SMALL, "--json"])
    found = json.loads(out)
    assert code == 0 and found["splits"]["train"]["samples"] == 12 and found["task"]["pairs"] == 4
    assert found["splits"]["train"]["skipped"] and any("skipped" in line for line in found["advice"])
    assert found["shared files"] == {"image": {"train and val": 0, "train and test": 0, "val and test": 0}}
    image, text = found["encoders"]["image"], found["encoders"]["text"]
    assert image["with their gradient, measured"] > 0 and text["with their gradient, measured"] is None
    seconds = 100 * 4 / image["with their gradient, measured"]
    assert found["task"]["seconds of all steps, estimated"] == pytest.approx(seconds)


def test_doctor_finds_an_image_in_two_splits(tmp_path: Path, limbeck: Run) -> None:
    for i in range(6):
        Image.new("RGB", (16, 16), (40 * i, 0, 0)).save(tmp_path / f"{i}.png")
    (tmp_path / "5.png").write_bytes((tmp_path / "0.png").read_bytes())
    splits = ["train", "train", "train", "val", "test", "test"]
    rows = [json.dumps({"file_name": f"{i}.png", "caption": f"number {i}", "split": s}) for i, s in enumerate(splits)]
    rows[1] = json.dumps({"file_name": "1.png", "caption": "", "split": "train"})
    (tmp_path / "metadata.jsonl").write_text("\n".join(rows))
    code, out, err = limbeck(["doctor", f"folder:{tmp_path}", "--method", "random", *SMALL])
    assert code == 0, err
    assert "1 image files are in both train and test" in out
    assert "\n  pairs: 2\n" in out, "as many as hold image and text"
    assert "\n  image: train and val 0, train and test 1, val and test 0\n" in out
    assert "with their gradient" not in out and "seconds of all steps, estimated: 0\n" in out, "random has no step"


def test_doctor_times_texts_that_pass_their_encoder_in_every_step() -> None:
    """Those that are learned as tokens; one vector needs no encoder."""
    import limbeck as lb
    from limbeck.commands.doctor import _encoder

    encoder, source = lb.space(text="bag_of_words")["text"], lb.check.toy_source(8)
    tokens, vector = lb.methods.MTTVL(text="encoder", tokens=4), lb.methods.MTTVL()
    assert _encoder(encoder, source, "cpu", tokens)["with their gradient, measured"] > 0
    assert _encoder(encoder, source, "cpu", vector)["with their gradient, measured"] is None


def test_doctor_counts_experts_and_stores_none(
    pets: str, tmp_path: Path, limbeck: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    words = ["doctor", pets, "--source.max_skipped", "0.2", "--source.resolution", "16", "--pairs", "4", *SMALL]
    matching = [
        *words,
        "--method",
        "mtt_vl",
        "--method.dim",
        "8",
        "--method.experts",
        "3",
        "--method.expert_batch",
        "4",
    ]
    code, out, err = limbeck([*matching, "--method.expert_epochs", "2", "--json"])
    assert code == 0, err
    task = json.loads(out)["task"]
    heads = 8 * sum(1 + min(11, dim) for dim in (128, 256))  # twelve samples span eleven components
    assert task["disk for experts and views, estimated"] == 3 * 2 * 4 * heads
    assert task["seconds of experts and views, estimated"] > 0
    assert not (Cache(tmp_path).folder / "experts").exists()
    code, out, err = limbeck(words)
    assert code == 0 and "disk for experts and views, estimated: 0\n" in out, err
    code, _, err = limbeck([*words, "--method", "mtt_vl"])
    assert code == 2 and "expert_batch is 128, but an epoch has 12 pairs at most" in err


@pytest.mark.slow
def test_compare_writes_one_table_and_resumes(pets: str, tmp_path: Path, limbeck: Run) -> None:
    words = [
        "compare",
        pets,
        "--source.max_skipped",
        "0.2",
        "--methods",
        "random,cf",
        "--cf.steps",
        "2",
        "--pairs",
        "4",
        "--seeds",
        "1",
    ]
    words += [*SMALL, "--protocol.steps", "4", "--protocol.looks", "2", "--out", str(tmp_path / "c")]
    words += ["--vary", "cf.ridge=1,2"]
    code, out, err = limbeck(words)
    assert code == 0, err
    assert "\ncf(steps=2, ridge=1.0) " in out and "\ncf(steps=2, ridge=2.0) " in out
    assert "full data" in out and (tmp_path / "c" / "scores.json").is_file()
    before = (tmp_path / "c" / "scores.json").read_text()
    rows = {(row["name"], row["pairs"], tuple(row["seeds"])) for row in json.loads(before)["rows"]}
    names = {(f"cf(steps=2, ridge={ridge})", 4) for ridge in (1.0, 2.0)} | {("random", 4), ("full data", 12)}
    assert rows == {(*name, (0,)) for name in names}
    assert limbeck(words)[0] == 0 and (tmp_path / "c" / "scores.json").read_text() == before


def test_list_reads_every_kind(limbeck: Run) -> None:
    found = json.loads(limbeck(["list", "--json"])[1])
    kinds = {"methods", "sources", "encoders", "protocols", "networks", "captioners", "segmenters"}
    assert set(found) == kinds | {"spaces", "recipes"}
    assert all(says for entries in found.values() for says in entries.values())
    assert "herding" in limbeck(["list", "methods"])[1]
    assert "clap " in limbeck(["list", "space"])[1]


def test_list_says_what_each_ready_space_is() -> None:
    from limbeck.spaces.ready import READY

    said = spaces()
    assert list(said) == [*READY, "bound"]
    for name, space in READY.items():
        parts = [", ".join(space.modalities), space.checkpoint, f"licence: {space.licence}"]
        assert said[name] == "; ".join(part for part in parts if part)


def test_what_is_read_from_source_text_is_what_is_there() -> None:
    from dataclasses import fields

    from limbeck import registry

    for name in registry.names("method"):
        cls = registry.get("method", name)
        assert options("method", name) == [f.name for f in fields(cls)]
        assert summary("method", name).startswith((cls.__doc__ or "")[:20])
    with pytest.raises(UnknownName):
        registry.get("method", "nothing")


def test_progress_is_a_line_now_and_then_outside_of_a_terminal() -> None:
    import io

    stream, now = io.StringIO(), [0.0]
    progress = Progress(stream, every=10, clock=lambda: now[0])
    progress.tick("weights", 0, 1)
    for done in range(0, 101, 10):
        progress.tick("image", done, 100)
        now[0] += 4
    progress.close()
    assert stream.getvalue().splitlines() == [
        "image 30/100, 28 s left",
        "image 60/100, 16 s left",
        "image 90/100, 4 s left",
    ]


def test_progress_in_a_terminal_draws_bars_and_leaves_nothing() -> None:
    import io

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = Progress(stream)
    progress.tick("weights", 0, 1)
    for done in (0, 50, 100):
        progress.tick("image", done, 100)
    progress.close()
    assert not progress._tasks and "image" in stream.getvalue()


@pytest.mark.parametrize(("words", "expected"), [("1", (1.0,)), ("0.5,2", (0.5, 2.0)), ("[3]", (3.0,)), ("null", None)])
def test_an_option_of_several_numbers_or_none_takes_both(words: str, expected: object) -> None:
    option = Option("protocol.noise", tuple[float, ...] | None, None, "")
    assert typed(option, words) == expected


@pytest.mark.parametrize(
    ("data", "shown"),
    [("demo", False), ("folder:pets", False), ("scenes:x", False), ("manifest:rows.csv", True)],
)
def test_help_shows_no_encoders_of_what_the_data_lack(data: str, shown: bool) -> None:
    text = help_of(distill.Distill, [data, "--method", "cf", "--help"])
    assert ("--space.audio" in text) == ("--space.depth.resolution" in text) == shown
    assert "--space.image.resolution" in text and "--method.ridge" in text
