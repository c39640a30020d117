"""The names that people may rely on, and how quickly they come."""

import ast
import dataclasses
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import limbeck
from limbeck import registry
from limbeck.commands._describe import arguments
from limbeck.errors import ConfigError, LimbeckError

PUBLIC = [
    "Batch", "Budget", "Cache", "DistilledSet", "Encoder", "Method", "Modality", "Pixels", "Problem", "Recipe", "Score", "Source", "Space",
    "Storage", "Synthetic", "__version__", "allow", "auto", "check", "compare", "distill", "errors", "evaluate", "load", "methods", "report", "source", "space",
    "steps", "table",
]  # fmt: skip


def test_public_names_are_exactly_these() -> None:
    assert sorted(limbeck.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(limbeck, name) is not None
    assert dir(limbeck) == PUBLIC
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        assert limbeck.distil


def test_import_brings_nothing_heavy() -> None:
    code = "import sys, limbeck, limbeck.cli; print(sorted({'torch', 'numpy', 'PIL', 'rich', 'yaml', 'jsonargparse'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("words", [["--help"], ["list"], ["list", "methods", "--json"], ["--version"]])
def test_help_and_list_are_quick_and_light(words: list[str]) -> None:
    code = f"import sys; from limbeck.cli import main; rc = main({words!r}); assert 'torch' not in sys.modules; sys.exit(rc)"
    spent = []
    for _ in range(3):  # processor seconds, and the least of three: other work on the machine is no fault of ours
        before = os.times()
        done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
        after = os.times()
        spent.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert done.returncode == 0, done.stderr
    assert min(spent) < 0.5, spent


def test_every_error_has_an_exit_code_that_is_documented() -> None:
    from limbeck.cli import EXIT_CODES

    tree = [LimbeckError]
    for error in tree:
        tree += error.__subclasses__()
        assert error.exit_code in EXIT_CODES


@pytest.mark.parametrize("kind", sorted(registry.KINDS))
def test_every_registered_thing_is_one_documented_class(kind: str) -> None:
    for name in registry.names(kind):
        try:
            found = registry.get(kind, name)
        except limbeck.errors.MissingDependency:
            continue
        assert inspect.getdoc(found)
        if dataclasses.is_dataclass(found):
            missing = [field for field, says in arguments(found).items() if not says]
            assert not missing, f"{name}: Args does not say what {missing} are"
            assert getattr(found, "__dataclass_params__").frozen  # noqa: B009


def test_every_public_dataclass_names_its_fields() -> None:
    for name in PUBLIC:
        found = getattr(limbeck, name)
        if inspect.isclass(found) and dataclasses.is_dataclass(found):
            assert not [f for f, says in arguments(found).items() if not says], name


def test_public_functions_and_classes_have_docstrings() -> None:
    missing = []
    for path in sorted(Path(limbeck.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        listed = next((ast.literal_eval(n.value) for n in tree.body if _is_all(n)), [])  # type: ignore[attr-defined]
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in listed and not ast.get_docstring(node):
                missing.append(f"{path.name}:{node.name}")
            if isinstance(node, ast.ClassDef) and node.name in listed:
                own = [n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
                missing += [
                    f"{path.name}:{node.name}.{n.name}" for n in own if not ast.get_docstring(n) and not _override(n)
                ]
    assert not missing


def _is_all(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "__all__"
        and ast.unparse(node.value).find("*") < 0
    )


def _override(node: ast.FunctionDef) -> bool:
    return node.name == "forward"


def test_unknown_names_give_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean herding"):
        registry.get("method", "herdin")
    with pytest.raises(AttributeError, match="known: "):
        assert limbeck.methods.Nothing
