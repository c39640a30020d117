"""Names to things: a method, source, encoder or another of `KINDS` is one file, and the file's name is its name.

Nothing is imported to list names. A plug-in adds names by an entry point of the group `limbeck.<kind>` (for example
`limbeck.methods`), whose value is `package.module:Class`.
"""

import importlib
import inspect
from dataclasses import fields
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from limbeck.errors import ConfigError, MissingDependency, UnknownName

__all__ = ["KINDS", "get", "named", "names", "parse_spec"]

KINDS = {
    "method": "limbeck.methods",
    "source": "limbeck.sources",
    "encoder": "limbeck.spaces.encoders",
    "protocol": "limbeck.evaluation.protocols",
    "network": "limbeck.networks",
    "captioner": "limbeck.annotation.captioners",
    "segmenter": "limbeck.annotation.segmenters",
}


def names(kind: str) -> list[str]:
    """The registered names of a kind, sorted; imports none of them.

    Example:
        >>> "herding" in names("method")
        True
    """
    folder = Path(__file__).parent.joinpath(*KINDS[kind].split(".")[1:])
    files = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    return sorted(files | {point.name for point in entry_points(group=f"limbeck.{kind}s")})


def get(kind: str, name: str) -> Any:
    """The class registered under `name`.

    Raises:
        UnknownName: no such name; the message lists the nearest ones.
        MissingDependency: the class declares a package that is not installed.
        ConfigError: the file does not export exactly one class.
    """
    if name not in names(kind):
        raise UnknownName(kind, name, names(kind))
    points = {point.name: point for point in entry_points(group=f"limbeck.{kind}s")}
    found = points[name].load() if name in points else _only(importlib.import_module(f"{KINDS[kind]}.{name}"))
    for package, extra in getattr(found, "requires", ()):
        if find_spec(package) is None:
            raise MissingDependency(f"the {kind} {name!r}", package, extra)
    return found


def named(kind: str, spec: str) -> tuple[Any, dict[str, str]]:
    """The class that `"name"` or `"family:argument"` stands for, and what follows the colon as its field `name`.

    Raises:
        UnknownName, MissingDependency: see `get`.
        ConfigError: a family without what follows the colon, or something that is none with it.

    Example:
        >>> found, options = named("captioner", "call:textwrap.wrap")
        >>> found.__name__, options
        ('Call', {'name': 'textwrap.wrap'})
    """
    family, argument = parse_spec(spec)
    found = get(kind, family)
    many = any(field.name == "name" and field.init for field in fields(found))
    if argument and not many:
        raise ConfigError(f"the {kind} {family!r} takes nothing after a colon, got {spec!r}")
    if many and not argument:
        raise ConfigError(f"the {kind} {family!r} is a family: say which model, as in '{family}:NAME'")
    return found, {"name": argument} if many else {}


def _only(module: Any) -> Any:
    exported = [getattr(module, name) for name in module.__all__]
    classes = [thing for thing in exported if inspect.isclass(thing)]
    if len(classes) != 1:
        raise ConfigError(f"{module.__name__} must export exactly one class in __all__, found {len(classes)}")
    return classes[0]


def parse_spec(spec: str) -> tuple[str, str]:
    """`"name:argument"` as (name, argument); the argument is empty where there is no colon.

    Example:
        >>> parse_spec("karpathy:data/flickr8k"), parse_spec("demo")
        (('karpathy', 'data/flickr8k'), ('demo', ''))
    """
    name, _, argument = spec.partition(":")
    return name, argument
