"""Names to things, and plug-ins by entry point."""

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

import limbeck as lb
from limbeck import registry
from limbeck.errors import ConfigError, LimbeckWarning, MissingDependency, UnknownName

PLUGIN = '''
from dataclasses import dataclass
from limbeck.core import Method, chosen_pairs
import torch

@dataclass(frozen=True)
class First(Method):
    """The first pairs."""

    def start(self, problem):
        return chosen_pairs(problem, torch.arange(problem.pairs(learned_text=False)))

class Needy(First):
    requires = (("no_such_package_here", "needy"),)

def function():
    """No class."""

class Bare:
    """No dataclass."""
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is not ours, with two entry points."""
    (tmp_path / "limbeck_first.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    points = EntryPoints(
        EntryPoint(name, f"limbeck_first:{name.title()}", "limbeck.methods") for name in ("first", "needy")
    )
    monkeypatch.setattr(registry, "entry_points", lambda group: points.select(group=group))
    monkeypatch.delitem(sys.modules, "limbeck_first", raising=False)


@pytest.mark.usefixtures("plugin")
def test_a_plugin_is_a_method_like_any_other() -> None:
    assert "first" in registry.names("method") and "cf" in registry.names("method")
    method = registry.get("method", "first")()
    problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=3))
    assert [key.split("/")[1] for key in lb.distill(problem, method).origins] == ["0", "1", "2"]


@pytest.mark.usefixtures("plugin")
def test_a_missing_package_is_named_with_its_remedy() -> None:
    with pytest.raises(
        MissingDependency,
        match=r"no_such_package_here.*pip install 'limbeck\[needy\]' \(in a clone: pip install -e '\.\[needy\]'\)",
    ):
        registry.get("method", "needy")


@pytest.mark.parametrize("kind", sorted(registry.KINDS))
def test_every_name_gives_one_class(kind: str) -> None:
    for name in registry.names(kind):
        try:
            found = registry.get(kind, name)
        except MissingDependency:
            continue
        assert isinstance(found, type) and found.__module__.rsplit(".", 1)[-1] == name


def test_unknown_names_list_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown method 'hearding'; did you mean herding"):
        registry.get("method", "hearding")
    with pytest.raises(UnknownName, match="known: "):
        registry.get("protocol", "zzzzzz")


def test_a_file_must_export_one_class() -> None:
    with pytest.raises(ConfigError, match="exactly one class"):
        registry._only(registry)


def point(name: str, value: str, kind: str = "method") -> EntryPoint:
    return EntryPoint(name, value, f"limbeck.{kind}s")


def plug(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints(points).select(group=group))


def test_a_plugin_cannot_take_a_name_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, point("cf", "no_such_module:Evil"), point("folder", "no_such_module:Evil", "source"))
    with pytest.warns(LimbeckWarning, match=r"no_such_module:Evil has a method 'cf', which is a name of Limbeck's own"):
        assert registry.get("method", "cf").__module__ == "limbeck.methods.matching.cf"
    with pytest.warns(LimbeckWarning, match="has a source 'folder'"):
        assert registry.get("source", "folder").__module__ == "limbeck.sources.folder"
    assert registry.names("method").count("cf") == 1


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("no_such_module:X", r"cannot be imported \(no_such_module:X\): ModuleNotFoundError"),
        ("limbeck_first:Absent", "cannot be imported .*AttributeError"),
        ("limbeck_first:function", "is no dataclass"),
        ("limbeck_first:Bare", "is no dataclass"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, value: str, says: str) -> None:
    plug(monkeypatch, point("mine", value))
    with pytest.raises(ConfigError, match=f"the method 'mine' of the plug-in {value} {says}"):
        registry.get("method", "mine")


def test_two_plugins_of_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    plug(monkeypatch, point("mine", "a:X"), point("mine", "b:X"))
    with pytest.raises(ConfigError, match="is one name for two things"):
        registry.get("method", "mine")


@pytest.mark.usefixtures("plugin")
def test_a_plugin_runs_where_a_person_names_it() -> None:
    with registry.command_line(["demo", "--config", "x.yaml"]):
        with pytest.raises(ConfigError, match=r"only a file names it.*--allow first"):
            registry.get("method", "first")
        with registry.allow("first"):
            registry.get("method", "first")
    for words in (["--method", "first"], ["--method=first"], ["--methods", "cf,first"], ["--allow", "first"]):
        with registry.command_line(words):
            registry.get("method", "first")
    registry.get("method", "first")  # in Python whoever calls names it


def test_what_calls_a_function_runs_where_a_person_names_it() -> None:
    with registry.command_line(["demo", "--config", "x.yaml", "--allow", "call:textwrap.fill"]):
        with pytest.raises(ConfigError, match=r"'call:textwrap\.wrap' runs code .*--allow call:textwrap\.wrap"):
            registry.named("captioner", "call:textwrap.wrap")
        assert registry.named("captioner", "call:textwrap.fill")[1] == {"name": "textwrap.fill"}


@pytest.mark.parametrize(
    ("kind", "name", "options", "says"),
    [
        ("encoder", "convnet", {"width": "wide"}, "width takes int, got 'wide'"),
        ("encoder", "convnet", {"width": True}, "width takes int, got True"),
        ("encoder", "convnet", {"pooled": 1}, "pooled takes bool, got 1"),
        ("encoder", "hf", {"pooling": 5}, "pooling takes .*, got 5"),
        ("source", "folder", {"resolution": None}, "resolution takes int, got None"),
        ("source", "vggsound", {"classes": [1]}, r"classes takes .*, got \[1\]"),
    ],
)
def test_options_are_of_their_types(kind: str, name: str, options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=f"it: {says}"):
        registry.check_options(registry.get(kind, name), options, "it")


def test_options_of_the_right_types_pass() -> None:
    registry.check_options(registry.get("encoder", "hf"), {"pooling": None, "name": "x"}, "it")
    registry.check_options(registry.get("source", "vggsound"), {"classes": ["a"], "max_skipped": 1}, "it")


def test_a_class_of_a_script_has_the_name_of_the_script(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text("from limbeck import registry\nclass Mine: pass\nprint(registry.name_of(Mine))\n")
    assert subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True).stdout == "mine\n"
    done = subprocess.run([sys.executable, "-c", script.read_text()], capture_output=True, text=True, check=True)
    assert done.stdout == "__main__\n"
