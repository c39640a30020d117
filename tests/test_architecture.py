"""The plan of the house: who may import whom, and how large a thing may be."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import limbeck

ROOT = Path(limbeck.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
HEAVY = {
    "torch",
    "numpy",
    "transformers",
    "datasets",
    "PIL",
    "pyarrow",
    "kornia",
    "sklearn",
    "scipy",
    "matplotlib",
    "rich",
}

# A package may import from those of lower rank, from itself, and where it is said from its equals.
RANK = {
    "errors": 0,
    "constraints": 1,
    "limits": 1,
    "runtime": 1,
    "terminal": 0,
    "registry": 1,
    "data": 2,
    "spaces": 3,
    "objectives": 3,
    "networks": 3,
    "core": 4,
    "annotation": 4,
    "engine": 5,
    "students": 5,
    "evaluation": 6,
    "methods": 6,
    "sources": 7,
    "report": 8,
    "search": 8,
    "check": 8,
    "commands": 9,
    "cli": 10,
    "__main__": 11,
}
EQUALS = {("constraints", "registry"), ("spaces", "networks"), ("spaces", "objectives")}
LAZY = {("sources", "core"), ("report", "sources"), ("spaces", "core")}  # inside functions


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def area(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Every imported module, and whether the import is at the top level of the file (type checking apart)."""
    top = {id(node) for node in getattr(tree, "body", [])}
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in guarded:
            assert node.level == 0, "imports are absolute"
            yield node.module, id(node) in top
            for name in node.names if node.module == "limbeck" else ():
                yield f"limbeck.{name.name}", id(node) in top
        elif isinstance(node, ast.Import) and id(node) not in guarded:
            for name in node.names:
                yield name.name, id(node) in top


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    here = area(path)
    if here == "__init__":
        return
    for module, at_top in imports(tree_of(path)):
        parts = module.split(".")
        if parts[0] != "limbeck" or len(parts) < 2 or parts[1] not in RANK:
            continue
        there = parts[1]
        allowed = RANK[there] < RANK[here] or there == here or (here, there) in EQUALS
        allowed |= not at_top and (here, there) in LAZY
        assert allowed, f"{path.relative_to(ROOT)} ({here}) must not import {module}"
        if here == there and here in ("methods", "sources"):
            shared = len(parts) > 3 and (parts[3].startswith("_") or ROOT.joinpath(*parts[1:4]).is_dir())
            family = here == "methods" and parts[2] == path.relative_to(ROOT).parts[1]
            assert family and shared, f"{path.relative_to(ROOT)} imports {module}: a {here[:-1]} never imports another"


@pytest.mark.parametrize(
    "name",
    ["__init__.py", "cli.py", "errors.py", "registry.py", "constraints.py", "commands/list.py", "commands/_options.py"],
)
def test_what_help_and_list_need_is_light(name: str) -> None:
    found = {m.split(".")[0] for m, top in imports(ast.parse((ROOT / name).read_text())) if top}
    assert not found & HEAVY


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_sizes_and_manners(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.isascii(), "source is ASCII"
    assert len(text.splitlines()) <= 400, "a file has at most 400 lines"
    tree = tree_of(path)
    assert path.name == "__init__.py" or ast.get_docstring(tree), "a module says what it is"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = node.end_lineno - node.body[0].lineno + 1  # type: ignore[operator]
            doc = node.body[0] if ast.get_docstring(node) else None
            size -= doc.end_lineno - doc.lineno + 1 if doc else 0  # type: ignore[operator]
            assert size <= 60, f"{node.name} has {size} lines; at most 60"
            names = {a.arg for a in [*node.args.args, *node.args.kwonlyargs]}
            assert not names & {"args", "cfg"}, f"{node.name}: name what it takes, not a bag"
            assert len(names & {"device", "cache", "tick"}) < 2 or "runtime" in names, f"{node.name}: take a Runtime"
        if isinstance(node, ast.keyword) and node.arg == "type":
            assert not (isinstance(node.value, ast.Name) and node.value.id == "bool"), "type=bool reads 'false' as true"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_pickle_no_global_seed_no_clock_seed(path: Path) -> None:
    tree = tree_of(path)
    modules = {module.split(".")[0] for module, _ in imports(tree)}
    assert not modules & {"pickle", "dill", "cloudpickle", "joblib", "random"}
    assert "__future__" not in modules, "jaxtyping needs real annotations"
    forked = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.With) and "fork_rng" in ast.unparse(node.items[0])
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert id(node) in forked or called not in {
            "torch.manual_seed",
            "torch.seed",
            "np.random.seed",
            "torch.save",
        }, called
        if called == "torch.load":
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)


def test_only_one_training_loop_of_synthetic_sets() -> None:
    found = [p.relative_to(ROOT).as_posix() for p in FILES if "method.step(" in p.read_text(encoding="utf-8")]
    assert found == ["engine/distill.py"]


def test_text_is_printed_in_one_place() -> None:
    """Elsewhere control characters of data would steer the terminal."""
    for path in FILES:
        calls = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
        printed = [call for call in calls if ast.unparse(call.func) == "print"]
        assert not printed or path.name == "terminal.py", (
            f"{path.relative_to(ROOT)} prints; call limbeck.terminal.say or note"
        )


GENERIC = ("engine", "evaluation", "report", "search", "commands", "spaces", "core")
PROBED = {"source", "small", "split", "problem", "method", "encoder", "space"}  # what has a contract


def test_generic_code_asks_contracts_and_not_types() -> None:
    for path in (p for p in FILES if area(p) in GENERIC):
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or len(node.args) < 2:
                continue
            name, first, second = node.func.id, ast.unparse(node.args[0]), node.args[1]
            where = f"{path.relative_to(ROOT)}, line {node.lineno}: {ast.unparse(node)}"
            if name == "isinstance":
                assert ast.unparse(second) != "DistilledSet", f"{where}: ask the source"
            if name in ("getattr", "hasattr") and isinstance(second, ast.Constant):
                assert first not in PROBED, f"{where}: give the contract a default"


LOOPS = {  # where an optimizer steps, and what is trained there
    "engine/distill.py": "the synthetic set",
    "students/training.py": "students",
    "spaces/binder.py": "the heads of a bound space, below students",
    "methods/matching/_classifier.py": "the classifier of dc, a few steps between two of the set",
    "methods/generative/diffusion/training.py": "a diffusion model from scratch",
}


def test_there_is_no_other_training_loop() -> None:
    stepping = {
        str(path.relative_to(ROOT))
        for path in FILES
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("optimizer.step")
    }
    assert stepping == set(LOOPS)


def test_no_message_is_parsed() -> None:
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                takes_apart = node.func.attr in ("partition", "rpartition", "split", "rsplit", "splitlines")
                text = ast.unparse(node.func.value) if takes_apart else ""
                where = f"{path.relative_to(ROOT)}, line {node.lineno}: {text}"
                assert not re.fullmatch(r"str\((error|wrong|exception)\)", text), where
