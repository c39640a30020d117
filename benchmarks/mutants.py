"""Mutation testing: changes one operator, constant or statement at a time, and counts which changes the tests notice.

    OMP_NUM_THREADS=1 python benchmarks/mutants.py objectives methods --count 150 --seed 0 --out mutants.jsonl

Needs nothing but the dev extras. Changes are drawn with a seed from the bodies of functions, and are made in memory: no file of the
source is touched. Left out by construction is what no test should hold: docstrings, strings, annotations, defaults, what is said in
errors, warnings and progress, estimates. One run of the tests first records which test calls which function; a mutant is then judged
by the tests that call it, the quickest first, in a process forked from one that has imported torch and pytest. Tests that fail
without a change judge nothing. The default tier alone is run, without its checks of types and shapes. Results are appended to --out:
the same command continues, and tells the score at the end.
"""

import argparse
import ast
import hashlib
import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "limbeck"
TESTS = {  # folder of the source to folders of tests; by default the one of its name
    "objectives": ("objectives", "core", "methods"),
    "methods": ("methods", "core", "students"),
    "core": ("core", "methods", "objectives", "engine"),
    "students": ("students", "evaluation", "methods"),
}
OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
NAMES = {"mean": "sum", "sum": "mean", "min": "max", "max": "min", "amin": "amax", "argmin": "argmax", "argmax": "argmin",
         "cos": "sin", "sin": "cos", "square": "abs", "all": "any", "any": "all"}  # fmt: skip
ADDED = "--import-mode=importlib -m 'not slow and not gpu'"  # no checks of types and shapes: they double the time
SAYS = {"report", "tick", "warn", "print"}  # calls that only say something
TELLS = {
    "remedy_for",
    "describe",
    "__repr__",
    "trouble",
    "costs",
    "cost",
    "prepares",
}  # functions that only say something
PLACES = {"device", "runtime", "tick", "warn_of_noise"}  # where something is computed, or told, and not what


class Change(NamedTuple):
    """One change of a tree.

    Args:
        node: what is changed; `None` in a list that is only read.
        field: its part.
        value: what stands there instead.
        line: of the node.
        function: the outermost function around it.
        text: what is changed to what, in words.
    """

    node: ast.AST
    field: str
    value: Any
    line: int
    function: str
    text: str


def changes(tree: ast.Module) -> Iterator[Change]:
    """Every change of a module, always in the same order."""
    for node, function in _bodies(tree, "", ""):
        for field, value, text in _of_node(node):
            yield Change(node, field, value, getattr(node, "lineno", 0), function, text)


def mutated(path: Path, number: int) -> ast.Module:
    """The tree of a file with the change of that number."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    change = list(changes(tree))[number]
    setattr(change.node, change.field, change.value)
    return ast.fix_missing_locations(tree)


def _bodies(node: ast.AST, path: str, function: str) -> Iterator[tuple[ast.AST, str]]:
    """The nodes in bodies of functions, each with the name of the outermost function around it."""
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or _said(node, field, child):
                continue
            name, inside = path, function
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                name = f"{path}.{child.name}".lstrip(".")
                inside = function or (name if isinstance(child, ast.FunctionDef) else "")
            if inside:
                yield child, inside
            yield from _bodies(child, name, inside)


def _said(parent: ast.AST, field: str, child: ast.AST) -> bool:
    """What is declared or told, and does nothing else."""
    if isinstance(parent, ast.FunctionDef | ast.Lambda | ast.AnnAssign | ast.ClassDef) and field not in (
        "body",
        "value",
    ):
        return True
    if isinstance(child, ast.Raise | ast.Assert | ast.JoinedStr | ast.Import | ast.ImportFrom):
        return True
    if isinstance(child, ast.FunctionDef) and child.name in TELLS:
        return True
    if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
        return True
    if isinstance(child, ast.If) and PLACES & {_name(node) for node in ast.walk(child.test)}:
        return True
    return isinstance(child, ast.Call) and _name(child.func) in SAYS


def _name(node: ast.AST) -> str:
    return str(getattr(node, "attr", getattr(node, "id", "")))


def _of_node(node: ast.AST) -> Iterator[tuple[str, Any, str]]:
    """The changes of one node: its part, what stands there instead, and that in words."""
    text = _short(node)
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and (other := OPERATORS.get(type(node.op))):
        yield "op", other(), f"{text}: {other.__name__}"
    if isinstance(node, ast.Compare) and (other := OPERATORS.get(type(node.ops[0]))):
        yield "ops", [other(), *node.ops[1:]], f"{text}: {other.__name__}"
    if isinstance(node, ast.UnaryOp):
        yield "operand", ast.UnaryOp(node.op, node.operand), f"{text}: without its sign"
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
        value = (
            not node.value if isinstance(node.value, bool) else node.value + 1 if isinstance(node.value, int) else 0.0
        )
        value = 2 * node.value or 1.0 if isinstance(node.value, float) else value
        yield "value", value, f"{node.value}: {value}"
    if isinstance(node, ast.IfExp | ast.If):
        yield "test", ast.UnaryOp(ast.Not(), node.test), f"if {_short(node.test)}: not"
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in NAMES:
        yield "id", NAMES[node.id], f"{node.id}: {NAMES[node.id]}"
    if isinstance(node, ast.Call):
        yield from _of_call(node, text)
    for field in ("body", "orelse"):
        if isinstance(statements := getattr(node, field, None), list):
            for i, statement in enumerate(statements):
                if _acts(statement):
                    yield field, [*statements[:i], ast.Pass(), *statements[i + 1 :]], f"{_short(statement)}: deleted"


def _of_call(node: ast.Call, text: str) -> Iterator[tuple[str, Any, str]]:
    if isinstance(node.func, ast.Attribute) and (other := NAMES.get(node.func.attr)):
        yield "func", ast.Attribute(node.func.value, other, ast.Load()), f"{text}: {other}"
    first = node.args[:2]
    if len(first) > 1 and not any(isinstance(a, ast.Starred) for a in first) and len({*map(ast.dump, first)}) > 1:
        yield "args", [*reversed(first), *node.args[2:]], f"{text}: arguments swapped"
    for i, word in enumerate(node.keywords):
        if word.arg and word.arg not in PLACES | {"strict", "match"}:
            yield "keywords", node.keywords[:i] + node.keywords[i + 1 :], f"{text}: without {word.arg}"


def _acts(statement: ast.AST) -> bool:
    """Whether a statement changes something beyond a new name."""
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return not _name(statement.value.func) in SAYS | PLACES
    return isinstance(statement, ast.AugAssign)


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) < 60 else text[:57] + "..."


def drawn(folders: Sequence[str], count: int, seed: int) -> list[dict[str, Any]]:
    """`count` changes of each folder or file, or all where there are fewer; a larger count begins with those of a smaller one."""
    found = []
    for folder in folders:
        listed = []
        place = SOURCE / folder
        for path in [place] if place.is_file() else sorted(place.rglob("*.py")):
            tree, name = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(SOURCE).as_posix()
            listed += [
                {"file": name, "line": c.line, "function": c.function, "number": i, "text": c.text}
                for i, c in enumerate(changes(tree))
            ]
        random.Random(f"{seed} {folder}").shuffle(listed)
        found += listed[:count]
    return found


class Recorder:
    """Which test calls which function of the source, and its processor seconds; a plug-in of pytest."""

    def __init__(self) -> None:
        self.calls: dict[str, set[str]] = defaultdict(set)
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    def pytest_runtest_protocol(self, item: Any) -> None:
        """Watches a test with all its fixtures."""
        called = self.calls[item.nodeid]
        root = f"{SOURCE}{os.sep}"

        def watch(frame: Any, event: str, argument: Any) -> None:
            if frame.f_code.co_filename.startswith(root):
                called.add(f"{frame.f_code.co_filename[len(root) :]}:{frame.f_code.co_qualname.split('.<locals>')[0]}")

        self.seconds[item.nodeid] = sum(os.times()[:4])
        sys.settrace(watch)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Notes the outcome."""
        if report.failed:
            self.failed.add(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Watches no more."""
        sys.settrace(None)
        self.seconds[nodeid] = sum(os.times()[:4]) - self.seconds[nodeid]


def in_child(work: Callable[[], int], limit: float) -> int | None:
    """The exit code of `work` in a forked process that says nothing; `None` where it took more than `limit` processor seconds."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 5))
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        os.chdir(ROOT)
        code = 70
        try:
            code = work()
        finally:
            os._exit(code)
    end = time.monotonic() + 20 * limit  # of a machine that others use, too
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return None if code in (-signal.SIGXCPU, -signal.SIGKILL) else code
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def run(tests: Sequence[str], *plugins: Any) -> int:
    """Pytest on some tests, until one fails."""
    import pytest

    words = ["-q", "-n0", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:faulthandler", "-o", f"addopts={ADDED}"]
    return int(pytest.main([*words, *([] if plugins else ["-x"]), *tests], list(plugins)))


def test_files(folders: Sequence[str]) -> list[str]:
    """The files of tests that judge changes in these folders or files of the source."""
    parts = [folder.split("/")[0] for folder in folders]
    names = dict.fromkeys(name for part in parts for name in TESTS.get(part, (part,)))
    found = [sorted((ROOT / "tests" / name).rglob("test_*.py")) for name in names]
    return [file.relative_to(ROOT).as_posix() for files in found for file in files]


def record(names: Sequence[str], path: Path) -> dict[str, Any]:
    """What every test of these files calls, and its seconds; only files that changed since are run."""
    held = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    files = {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in names}
    changed = [name for name, digest in files.items() if held.get(name, {}).get("digest") != digest]

    def work() -> int:
        recorder = Recorder()
        code = run(changed, recorder)
        for file in changed:
            tests = {
                test: {"seconds": recorder.seconds[test], "calls": sorted(called)}
                for test, called in recorder.calls.items()
                if test.split("::")[0] == file and test not in recorder.failed
            }
            held[file] = {"digest": files[file], "tests": tests}
        path.write_text(json.dumps(held), encoding="utf-8")
        return code

    if changed:
        code = in_child(work, 3600)
        print(
            f"recorded {len(changed)} files: {'all pass' if code in (0, 5) else 'SOME FAIL, and judge nothing'}",
            flush=True,
        )
        held = json.loads(path.read_text(encoding="utf-8"))
    return {name: test for file in files for name, test in held[file]["tests"].items()}


def judge(mutant: Mapping[str, Any], tests: Mapping[str, Any], budget: float) -> dict[str, Any]:
    """Runs the tests that call a mutant."""
    place = f"{mutant['file']}:{mutant['function']}"
    calling = sorted((t["seconds"], name) for name, t in tests.items() if place in t["calls"])
    chosen, total = [], 0.0
    for seconds, name in calling:
        if chosen and total + seconds > budget:
            break
        chosen.append(name)
        total += seconds
    if not chosen:
        return {**mutant, "result": "not called", "tests": 0}
    path = SOURCE / mutant["file"]

    def work() -> int:
        source = ast.unparse(mutated(path, mutant["number"])).encode()
        read, stats = SourceFileLoader.get_data, SourceFileLoader.path_stats

        def get_data(self: SourceFileLoader, name: str) -> bytes:
            return source if Path(name) == path else read(self, name)

        def path_stats(self: SourceFileLoader, name: str) -> Any:
            if Path(name) == path:
                raise OSError("a mutant is neither read from the byte code that is kept, nor kept")
            return stats(self, name)

        SourceFileLoader.get_data, SourceFileLoader.path_stats = get_data, path_stats  # type: ignore[method-assign]
        return run(chosen)

    code = in_child(work, 60 + 4 * total)
    result = {0: "survived", None: "out of time"}.get(code, "killed")
    return {**mutant, "result": result, "tests": len(chosen), "of": len(calling)}


def score(results: Sequence[Mapping[str, Any]]) -> str:
    """The table of the score by folder, and the survivors."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for found in results:
        counts[found["file"].split("/")[0]][found["result"]] += 1
    lines = [
        "| folder | mutants | killed | out of time | survived | not called | score |",
        "|---|---|---|---|---|---|---|",
    ]
    for folder, count in counts.items():
        noticed = count["killed"] + count["out of time"]
        numbers = (sum(count.values()), count["killed"], count["out of time"], count["survived"], count["not called"])
        lines.append(f"| {folder} | {' | '.join(map(str, numbers))} | {noticed / sum(count.values()):.0%} |")
    lines += ["", *(f"{r['result']}: {r['file']}:{r['line']} {r['function']}: {r['text']}" for r in results
                    if r["result"] in ("survived", "not called"))]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Reads the command line, judges, and tells the score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folders", nargs="+", help="folders or files of src/limbeck, such as objectives spaces/binder.py"
    )
    parser.add_argument("--count", type=int, default=100, help="mutants of each folder or file")
    parser.add_argument(
        "--tests", nargs="+", help="files of tests that judge; by default those of the folders that read them"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=60.0, help="processor seconds of tests a mutant, at most")
    parser.add_argument("--out", type=Path, default=Path("mutants.jsonl"))
    parser.add_argument("--again", action="store_true", help="judge once more what survived")
    asked = parser.parse_args()
    calls = asked.out.with_suffix(".calls.json")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(SOURCE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    sys.path.insert(0, str(SOURCE.parent))
    import beartype, hypothesis, jaxtyping, kornia.augmentation, pytest, scipy.optimize, sklearn.cluster, torch  # noqa: F401, I001

    tests = record(asked.tests or test_files(asked.folders), calls)
    lines = asked.out.read_text(encoding="utf-8").splitlines() if asked.out.is_file() else []
    done = {(r["file"], r["line"], r["number"], r["text"]): r for r in map(json.loads, lines)}
    results = []
    for mutant in drawn(asked.folders, asked.count, asked.seed):
        key = mutant["file"], mutant["line"], mutant["number"], mutant["text"]
        found = done.get(key)
        if found is None or (asked.again and found["result"] in ("survived", "not called")):
            found = judge(mutant, tests, asked.budget)
            with asked.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
            print(f"{found['result']}: {found['file']}:{found['line']} {found['text']}", flush=True)
        results.append(found)
    print(score(results))


if __name__ == "__main__":
    main()
