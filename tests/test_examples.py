"""The examples run, at toy size, and use public names alone."""

import ast
import contextlib
import importlib
import io
import json
import re
import runpy
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import limbeck as lb
from limbeck import registry
from limbeck.evaluation import Score, read_scores

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOK = EXAMPLES / "tour.ipynb"

Example = Callable[..., str]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Example:
    """Runs a script as a person does, in a folder of its own: what it prints."""

    def run(name: str, *words: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(EXAMPLES)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--toy", "--out", "out", *words])
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        monkeypatch.delitem(sys.modules, name, raising=False)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        sys.modules.pop(name, None)
        return said.getvalue()

    return run


def in_range(scores: list[Score]) -> bool:
    """Whether there are scores, and all of them are percents."""
    return bool(scores) and all(0 <= value <= 100 for score in scores for value in score.values)


def test_a_folder_becomes_a_set_and_a_score(example: Example, tmp_path: Path) -> None:
    said = example("own_folder")
    assert re.search(r"home: convnet +of full +unseen: convnet\(seed=1\)", said)
    rows = {line[:25].strip(): line[25:].split() for line in said.split("\n\n")[0].splitlines()[2:]}
    size = int(rows["label_distillation"][1])
    assert int(rows["random, as many bytes"][1]) <= size <= 22_000 < int(rows["the whole folder"][1])
    for row in rows.values():
        assert 0 <= float(row[2]) <= 100 and 0 <= float(row[7]) <= 100
    small = lb.load("out/set")
    assert small.nbytes == size and f"{len(small)} in {size:,} bytes" in said
    assert sum(path.stat().st_size for path in Path("out/set").rglob("*") if path.is_file()) == size
    assert Path("out/report.html").is_file()


@pytest.mark.slow
def test_a_folder_of_ones_own_and_a_budget_in_pairs(example: Example, tmp_path: Path) -> None:
    example("own_folder", "--pairs", "4")
    (tmp_path / "out" / "images").rename(tmp_path / "pets")
    (tmp_path / "out").rename(tmp_path / "first")
    said = example("own_folder", "pets", "--pairs", "5")
    assert "32 images became 5 in" in said and not (tmp_path / "out" / "images").exists()


def test_a_method_of_ones_own_is_checked_and_compared(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    said = example("own_method")
    assert "keeps the contract" in said and "own_method(steps=5, lr=0.005) - best coreset" in said
    scores = read_scores(Path("out/scores.json"))
    assert in_range(scores)
    assert {score.method for score in scores} == {"random", "herding", "own_method", "full"}

    point = EntryPoint("own_method", "own_method:LikeCaptions", "limbeck.methods")
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints([point]).select(group=group))
    try:
        found = registry.get("method", "own_method")
    finally:
        sys.modules.pop("own_method", None)
    assert found().describe()["name"] == "own_method"
    text = (EXAMPLES / "own_method.py").read_text(encoding="utf-8")
    assert f'[project.entry-points."{point.group}"]' in text


@pytest.mark.draws_globally  # as training loops of one's own do
def test_a_model_of_ones_own_is_trained_on_a_set(example: Example) -> None:
    said = example("train_your_model")
    assert not find_spec("datasets") or "datasets.load_dataset reads the same: True" in said
    assert "48 test images, 4 classes" in said
    found = dict(re.findall(r"^(distilled|random), 8 .*? ([\d.]+) \+- [\d.]+ %$", said, re.MULTILINE))
    assert set(found) == {"distilled", "random"} and all(0 <= float(value) <= 100 for value in found.values())
    assert len(lb.load("out/set")) == 8


@pytest.mark.slow
def test_sound_and_image_are_one_table(example: Example) -> None:
    pytest.importorskip("soundfile", reason="needs the audio extra")
    said = example("audio_visual")
    scores = read_scores(Path("out/scores.json"))
    assert in_range(scores)
    assert {score.metric.split()[0] for score in scores} == {"joint", "late", "image", "audio"}
    assert {score.method for score in scores} == {"random", "herding", "avdd", "imagebind_dc", "full"}
    assert all(name in said for name in ("joint accuracy", "imagebind_dc(steps=2)", "full data"))
    assert {score.pairs for score in scores if score.method != "full"} == {18}


@pytest.mark.slow
def test_one_set_is_judged_by_many_students(example: Example) -> None:
    said = example("cross_architecture")
    assert re.search(r"home: convnet +of full +unseen: convnet\(seed=1\)", said)
    assert re.search(r"frozen \+- std +convnet:8 \+- std +alexnet \+- std", said)
    scores = read_scores(Path("out/scores.json"))
    assert in_range(scores) and len({score.fingerprint for score in scores}) == 4
    assert Path("out/table.md").is_file() and Path("out/score_vs_bytes.svg").is_file()


def cells() -> list[dict[str, Any]]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return list(notebook["cells"])


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXAMPLES_TOY", "1")
    monkeypatch.setattr("tempfile.mkdtemp", lambda: str(tmp_path))
    plt.switch_backend("agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    for i, cell in enumerate(cells()):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, cell {i}", "exec"), names)  # noqa: S102  as a notebook runs them
    figures = plt.get_fignums()
    plt.close("all")
    said = capsys.readouterr().out
    assert len(figures) == 3 and in_range(names["scores"])
    assert "now nearest to" in said and "mean +- std" in said and said.rstrip().endswith("report.html True")
    assert (tmp_path / "report.html").is_file() and len(lb.load(tmp_path / "small")) == 8


def test_the_notebook_is_one_without_outputs() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    notebook = json.loads(text)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert set(notebook) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in cells()]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", one) for one in ids)
    for cell in cells():
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert cell["cell_type"] in ("code", "markdown")
        assert set(cell) == {"cell_type", "id", "metadata", "source", *code}
        assert all(isinstance(line, str) for line in cell["source"]) and cell["metadata"] == {}
        assert not cell.get("outputs") and cell.get("execution_count") is None
    assert text.isascii() and not re.search(r"/(work|root|home|opt|tmp|Users)/", text)


def trees() -> list[tuple[str, ast.Module]]:
    code = "\n".join("".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code")
    return [(NOTEBOOK.name, ast.parse(code)), *((path.name, ast.parse(path.read_text("utf-8"))) for path in SCRIPTS)]


@pytest.mark.parametrize(("name", "tree"), trees(), ids=lambda x: x if isinstance(x, str) else "")
def test_examples_use_public_names(name: str, tree: ast.Module) -> None:
    docs = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert all(alias.name.split(".")[0] != "limbeck" or alias.name == "limbeck" for alias in node.names), name
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "limbeck":
            exported = getattr(importlib.import_module(node.module), "__all__", [])
            for alias in node.names:
                told = re.search(rf"^::: {re.escape(f'{node.module}.{alias.name}')}$", docs, re.MULTILINE)
                assert alias.name in exported or told, f"{name}: {node.module}.{alias.name} is not public"
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), f"{name}: {node.attr}"
            if ast.unparse(node.value) == "lb":
                assert node.attr in lb.__all__, f"{name}: lb.{node.attr}"


def test_examples_are_five_short_scripts_and_linked() -> None:
    assert len(SCRIPTS) == 5
    for path in SCRIPTS:
        text = path.read_text(encoding="utf-8")
        assert text.isascii() and 40 <= len(text.splitlines()) <= 120, path.name
        assert f"python examples/{path.name} --toy" in (ast.get_docstring(ast.parse(text)) or ""), path.name
    for page in ("README.md", "docs/index.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for path in (*SCRIPTS, NOTEBOOK):
            assert f"examples/{path.name})" in text, f"{page} does not link {path.name}"
