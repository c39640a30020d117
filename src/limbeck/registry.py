"""Names to things: a method, source, encoder or another of `KINDS` is one file, and the file's name is its name.

A file may lie in a folder of its family, such as `methods/coreset/random.py`. Files whose names begin with `_`, and folders within a
family, hold what its members share.

Nothing is imported to list names. A plug-in adds names by an entry point of the group `limbeck.<kind>` (for example
`limbeck.methods`), whose value is `package.module:Class`. It cannot take a name of ours.

Code that is not ours (plug-ins, `call:MODULE.FUNCTION`) runs only where a person names it: within a command, on the command line
itself. A file that the command reads cannot name it, unless the command line says `--allow NAME`.
"""

import importlib
import inspect
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from limbeck.errors import ConfigError, LimbeckWarning, MissingDependency, UnknownName

__all__ = [
    "KINDS",
    "allow",
    "check_options",
    "command_line",
    "file_of",
    "get",
    "is_allowed",
    "name_of",
    "named",
    "names",
    "parse_spec",
]

KINDS = {
    "method": "limbeck.methods",
    "source": "limbeck.sources",
    "encoder": "limbeck.spaces.encoders",
    "protocol": "limbeck.evaluation.protocols",
    "network": "limbeck.networks",
    "captioner": "limbeck.annotation.captioners",
    "segmenter": "limbeck.annotation.segmenters",
}


ROOT = Path(__file__).parent
CALLS = {("captioner", "call")}  # what runs any function that follows its colon

_words: frozenset[str] | None = None  # of the command line; None in Python, where whoever calls names what is used
_allowed: frozenset[str] = frozenset()


@contextmanager
def command_line(words: Sequence[str]) -> Iterator[None]:
    """Within it, code that is not ours runs only if it stands among the words of the command line.

    Args:
        words: as a person gave them.
    """
    global _words
    before, parts = _words, [part for word in words for part in (word, *re.split(r"[\s,=|;+'\"\[\](){}]+", word))]
    _words = frozenset(parts) - {""}
    try:
        yield
    finally:
        _words = before


@contextmanager
def allow(*names: str) -> Iterator[None]:
    """Within it, a set, a space or a configuration may name these: code that runs, data and models that are opened.

    Args:
        names: as the file writes them, such as `"call:textwrap.wrap"`, the name of a plug-in, `"folder:data/pets"`.

    Example:
        >>> with allow("folder:data/pets"):
        ...     is_allowed("folder:data/pets")
        True
        >>> is_allowed("folder:data/pets")
        False
    """
    global _allowed
    before, _allowed = _allowed, _allowed | frozenset(names)
    try:
        yield
    finally:
        _allowed = before


def is_allowed(name: str) -> bool:
    """Whether a person named this: within `allow`, or on the command line.

    Args:
        name: as a file writes it.
    """
    return name in _allowed or name in (_words or ())


def names(kind: str) -> list[str]:
    """The registered names of a kind, sorted; imports none of them.

    Example:
        >>> "herding" in names("method")
        True
    """
    return sorted(_own(kind).keys() | _plugins(kind).keys())


def get(kind: str, name: str) -> Any:
    """The class registered under `name`.

    Raises:
        UnknownName: no such name; the message lists the nearest ones.
        MissingDependency: the class declares a package that is not installed.
        ConfigError: the file does not export exactly one class; or a plug-in that a file names, that another one has the name of,
            or that cannot be used.
    """
    if name not in names(kind):
        raise UnknownName(kind, name, names(kind))
    if (path := file_of(kind, name)) is not None:
        parts = path.relative_to(ROOT).with_suffix("").parts
        found = _only(importlib.import_module(".".join((ROOT.name, *parts))))
        if name in _plugins(kind):
            warnings.warn(
                f"{_of(_plugins(kind)[name][0])} has a {kind} {name!r}, which is a name of Limbeck's own, and is not used",
                LimbeckWarning,
                stacklevel=2,
            )
    else:
        found = _loaded(kind, name, _plugins(kind)[name])
    for package, extra in getattr(found, "requires", ()):
        if find_spec(package) is None:
            raise MissingDependency(f"the {kind} {name!r}", package, extra)
    return found


def name_of(cls: type) -> str:
    """The name of a registered class: that of its file, also of a script that is run.

    Example:
        >>> name_of(get("method", "herding"))
        'herding'
    """
    if cls.__module__ == "__main__":
        return Path(getattr(sys.modules["__main__"], "__file__", None) or "__main__").stem
    return cls.__module__.rpartition(".")[2]


def file_of(kind: str, name: str) -> Path | None:
    """The file of a name of Limbeck's own; `None` for any other.

    Example:
        >>> file_of("method", "herding").parent.name
        'coreset'
    """
    return _own(kind).get(name)


@cache
def _own(kind: str) -> Mapping[str, Path]:
    """Name to file; looked up once, as the files of a package stay."""
    folder = ROOT.joinpath(*KINDS[kind].split(".")[1:])
    files = (*folder.glob("*.py"), *folder.glob("*/*.py"))
    return {path.stem: path for path in files if not path.stem.startswith("_")}


def _plugins(kind: str) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=f"limbeck.{kind}s"):
        found.setdefault(point.name, []).append(point)
    return found


def _of(point: EntryPoint) -> str:
    distribution = getattr(point, "dist", None)
    return f"the package {distribution.name}" if distribution is not None else f"the plug-in {point.value}"


def _loaded(kind: str, name: str, points: Sequence[EntryPoint]) -> Any:
    """The class of a plug-in, which a person named."""
    what = f"the {kind} {name!r} of {' and '.join(_of(point) for point in points)}"
    if len({point.value for point in points}) > 1:
        raise ConfigError(f"{what} is one name for two things; uninstall one of them")
    _refuse_unnamed(what, name)
    try:
        found = points[0].load()
    except Exception as error:  # a plug-in may raise anything while it is imported
        raise ConfigError(
            f"{what} cannot be imported ({points[0].value}): {type(error).__name__}: {error}; update or uninstall it"
        ) from error
    if not inspect.isclass(found) or (kind != "network" and not is_dataclass(found)):
        raise ConfigError(f"{what} is no dataclass ({points[0].value}), as everything registered must be; update it")
    return found


def _refuse_unnamed(what: str, name: str) -> None:
    """Refuses code that a file names, within a command."""
    if _words is not None and not is_allowed(name):
        raise ConfigError(
            f"{what} runs code that is not Limbeck's, and only a file names it; if you trust it, say so on the command "
            f"line: --allow {name}"
        )


def named(kind: str, spec: str) -> tuple[Any, dict[str, str]]:
    """The class that `"name"` or `"family:argument"` stands for, and what follows the colon as its field `name`.

    Raises:
        UnknownName, MissingDependency: see `get`.
        ConfigError: a family without what follows the colon, or something that is none with it; code that a file names.

    Example:
        >>> found, options = named("captioner", "call:textwrap.wrap")
        >>> found.__name__, options
        ('Call', {'name': 'textwrap.wrap'})
    """
    family, argument = parse_spec(spec)
    found = get(kind, family)
    if (kind, family) in CALLS:
        _refuse_unnamed(f"the {kind} {spec!r}", spec)
    many = any(field.name == "name" and field.init for field in fields(found))
    if argument and not many:
        raise ConfigError(f"the {kind} {family!r} takes nothing after a colon, got {spec!r}")
    if many and not argument:
        raise ConfigError(f"the {kind} {family!r} is a family: say which model, as in '{family}:NAME'")
    return found, {"name": argument} if many else {}


def check_options(found: Any, options: Mapping[str, Any], what: str) -> None:
    """Whether options are of the types that the fields of a class say, wherever they were written.

    Args:
        found: a registered class.
        options: field to value.
        what: to call it.

    Raises:
        ConfigError: one is of another type; says which.

    Example:
        >>> check_options(get("encoder", "convnet"), {"width": "wide"}, "the encoder 'convnet'")
        Traceback (most recent call last):
        limbeck.errors.ConfigError: the encoder 'convnet': width takes int, got 'wide'
    """
    hints = get_type_hints(found)
    for name, value in options.items():
        if name in hints and not _fits(value, hints[name]):
            takes = getattr(hints[name], "__name__", str(hints[name])).replace("typing.", "")
            raise ConfigError(f"{what}: {name} takes {takes}, got {repr(value)[:60]}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value can be what a type says; types that no file can give are not looked at."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return any(isinstance(value, type(one)) for one in inner)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, list | tuple) and all(_fits(one, inner[0]) for one in value)
    if hint in (int, float):
        kind = Integral if hint is int else Real
        return isinstance(value, kind) and not isinstance(value, bool)
    return isinstance(value, hint) if hint in (str, bool, type(None)) else True


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
