"""Names to things, and plug-ins by entry point."""

import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

import limbeck as lb
from limbeck import registry
from limbeck.errors import ConfigError, MissingDependency, UnknownName

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
def test_a_missing_package_is_named_with_its_cure() -> None:
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
