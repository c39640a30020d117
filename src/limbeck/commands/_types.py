"""One option of a command line: its type from a word, its line in the help."""

from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from limbeck.commands._line import NO_VALUE, needs_value
from limbeck.errors import ConfigError

__all__ = ["Option", "add", "is_mapping", "typed"]


@dataclass(frozen=True)
class Option:
    """One option of a command line: where it goes, what it takes, what it says."""

    name: str
    type: Any
    default: Any
    help: str
    group: str = ""


def typed(option: Option, raw: str) -> Any:
    """The raw value as the option's type."""
    from jsonargparse import ArgumentParser

    if is_flag(option):
        if raw not in ("true", "false"):
            raise ConfigError(f"--{option.name} takes true or false, got {raw!r}")
        return raw == "true"
    either = get_args(option.type) if get_origin(option.type) in (UnionType, Union) else (option.type,)
    if raw == NO_VALUE:
        if bool not in either:
            raise needs_value(option.name)
        return True
    several = any(get_origin(one) in (tuple, list, Sequence) for one in either) and not raw.startswith(("[", "null"))
    parser = ArgumentParser(exit_on_error=False)
    add(parser, option)
    try:
        (value,) = vars(parser.parse_args([f"--{option.name}={f'[{raw}]' if several else raw}"])).values()
    except (ArgumentError, ValueError) as error:
        raise ConfigError(f"--{option.name} takes {_readable(option.type)}, got {raw!r}") from error
    return value


def is_flag(option: Option) -> bool:
    return option.type is bool and "." not in option.name


def is_mapping(type_: Any) -> bool:
    """Whether it is given as `--name KEY=VALUE`, once a key."""
    return get_origin(type_) is Mapping


def add(parser: Any, option: Option) -> None:
    """Adds the option to a jsonargparse parser (or a group of one), which knows its type."""
    target, text = option.name.replace(".", "__"), option.help.rstrip(".")
    if is_flag(option):
        parser.add_argument(f"--{option.name}", dest=target, action="store_true", help=text.replace("%", "%%"))
        return
    kind, shown = option.type, str(option.type)
    named = {} if "Literal" in shown or "bool" in shown else {"metavar": _readable(option.type).split(" ")[0].upper()}
    if not _is_empty(option.default):
        shown = ",".join(map(str, option.default)) if isinstance(option.default, tuple) else option.default
        text += f" (default: {shown})"
    if is_mapping(kind):
        kind, named = str, {"metavar": "KEY=VALUE"}
    parser.add_argument(f"--{option.name}", dest=target, type=kind, default=None, help=text.replace("%", "%%"), **named)


def _is_empty(default: Any) -> bool:
    return default is None or default is MISSING or default in ("", ())


def _readable(type_: Any) -> str:
    """A type in words: `int`, `float or null`, `'clean' or 'paper'`."""
    if get_origin(type_) is Literal:
        return " or ".join(repr(value) for value in get_args(type_))
    if isinstance(type_, UnionType) or get_origin(type_) is Union:
        return " or ".join(_readable(one) for one in get_args(type_))
    if get_origin(type_) in (tuple, list, Sequence):
        return f"{_readable(get_args(type_)[0])},..."
    names = {type(None): "null", str: "text", bool: "true or false", Path: "path"}
    return names.get(type_, getattr(type_, "__name__", str(type_)))
