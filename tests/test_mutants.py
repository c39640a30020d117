"""The mutation tester changes what tests should hold, and nothing that is only declared or told."""

import ast
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "mutants.py"
SOURCE = '''
"""A module."""

LIMIT = 3


class Box:
    """A box."""

    size: int = 5

    def area(self, side: float = 2.0, *, deep: bool = True) -> float:
        """The area."""
        if side < 0:
            raise ValueError(f"{side + 1} is no side")
        if self.tick and side > 1:
            self.tick("area", 0, 1)
        total = side * self.scale(side, LIMIT)
        self.note(total)
        return total if deep else -total

    def describe(self) -> str:
        """Says it."""
        return "box" * 2
'''
EXPECTED = {
    "side < 0: LtE", "0: 1", "if side < 0: not", "side * self.scale(side, LIMIT): Div",
    "self.scale(side, LIMIT): arguments swapped", "self.note(total): deleted", "if deep: not", "-total: without its sign",
}  # fmt: skip


@pytest.fixture(scope="module")
def mutants() -> ModuleType:
    """The program."""
    spec = util.spec_from_file_location("mutants", PROGRAM)
    assert spec and spec.loader
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pytestmark = pytest.mark.skipif(not PROGRAM.is_file(), reason="a copy without benchmarks")


def test_what_is_changed(mutants: ModuleType) -> None:
    found = list(mutants.changes(ast.parse(SOURCE)))
    assert {change.text for change in found} == EXPECTED
    assert {change.function for change in found} == {"Box.area"}


def test_each_change_is_made_alone(mutants: ModuleType, tmp_path: Path) -> None:
    """As many different modules as changes, each of which is Python, and none the module itself."""
    path = tmp_path / "box.py"
    path.write_text(SOURCE)
    count = len(list(mutants.changes(ast.parse(SOURCE))))
    made = {ast.unparse(mutants.mutated(path, i)) for i in range(count)}
    assert len(made) == count and ast.unparse(ast.parse(SOURCE)) not in made
    for text in made:
        compile(text, "box", "exec")


def test_a_seed_draws_the_same_and_more_draw_the_same_first(mutants: ModuleType) -> None:
    few, many = (mutants.drawn(["objectives"], count, 0) for count in (20, 40))
    assert few == many[:20] and few != mutants.drawn(["objectives"], 20, 1)
    assert all(mutant["file"].startswith("objectives/") for mutant in many)


def test_a_file_is_drawn_from_alone_and_judged_by_the_tests_of_its_folder(mutants: ModuleType) -> None:
    found = mutants.drawn(["spaces/binder.py", "students"], 15, 0)
    assert {mutant["file"] for mutant in found[:15]} == {"spaces/binder.py"} and len(found) == 30
    assert {mutant["file"].split("/")[0] for mutant in found[15:]} == {"students"}
    assert (
        set(mutants.test_files(["spaces/binder.py"]))
        == set(mutants.test_files(["spaces"]))
        > {"tests/spaces/test_binder.py"}
    )


def test_the_score(mutants: ModuleType) -> None:
    rows = [
        {"file": "core/a.py", "line": 3, "function": "f", "text": f"{i}: {i + 1}", "result": result}
        for i, result in enumerate(["killed", "killed", "out of time", "survived"])
    ]
    told = mutants.score(rows).splitlines()
    assert told[2] == "| core | 4 | 2 | 1 | 1 | 0 | 75% |"
    assert told[-1] == "survived: core/a.py:3 f: 3: 4"
