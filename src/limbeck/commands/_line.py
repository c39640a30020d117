"""From the words on a command line, and a YAML file, to option names with raw values."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from limbeck.commands._recipes import config_file
from limbeck.errors import ConfigError

__all__ = ["NO_VALUE", "Line", "needs_value", "read_config", "read_line"]


NO_VALUE = "\0"  # of an option that is given without a value
REPEATED = "allow"  # an option that may be given several times
TRUST = (REPEATED, "limits")  # options that no file may give
WRITTEN = ("run", "out")  # options that name what is written


@dataclass(frozen=True)
class Line:
    """What was asked for, not yet typed.

    Args:
        given: option name without dashes to raw value: `{"method": "cf", "method.steps": "100"}`.
        words: the values without an option name, in order.
        fingerprints: digests that the configuration file expects of the data and the encoders.
    """

    given: dict[str, str]
    words: tuple[str, ...] = ()
    fingerprints: Mapping[str, str] | None = None


def read_line(
    argv: Sequence[str], flags: Collection[str] = (), first: str = "", mappings: Collection[str] = ()
) -> Line:
    """Reads `--name value`, `--name=value`, flags and plain words; what `--config FILE` says stands behind all of them.

    `-` in a name stands for `_`. An option of a thing, such as `--method.mask`, may lack its value: it is true, where it is true or false.

    Args:
        argv: the words after the command's name.
        flags: names of options without a value.
        first: the option that the first plain word is the value of, so that a file may give it as well.
        mappings: names of options that are given as `--name KEY=VALUE`, once a key.

    Raises:
        ConfigError: an option without its value, or a file that is not a configuration.

    Example:
        >>> read_line(["demo", "--seed=1", "--pairs", "50"])
        Line(given={'seed': '1', 'pairs': '50'}, words=('demo',), fingerprints=None)
    """
    given: dict[str, str] = {}
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            words.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        if not equals and name in flags:
            value = "true"
        elif not equals and (not rest or rest[0].startswith("--")):
            if "." not in name or name in mappings:
                raise needs_value(name)
            value = NO_VALUE
        elif not equals:
            value = rest.pop(0)
        if name in mappings:
            key, equals, value = value.partition("=")
            if not equals or not key or not value:
                raise ConfigError(f"--{name} takes KEY=VALUE, got {key!r}")
            name = f"{name}.{key.strip()}"
        given[name] = f"{given[name]},{value}" if name == REPEATED and name in given else value
    if "config" not in given:
        return Line(given, tuple(words))
    file = given.pop("config")
    filed, fingerprints = read_config(config_file(file))
    if wrong := {*TRUST, "config"} & set(filed):
        raise ConfigError(
            f"the configuration {file} says {', '.join(sorted(wrong))}; that is said on the command line alone"
        )
    for name in (name for name in WRITTEN if name in filed):
        place = PurePath(filed[name])
        if place.is_absolute() or ".." in place.parts or filed[name].startswith("~"):
            raise ConfigError(
                f"the configuration {file} says {name}: {filed[name]}; where something is written outside of the current folder is "
                f"said on the command line alone: --{name} {filed[name]}"
            )
    asked = filed.pop(first, None)
    if not words and asked is not None:
        words.append(asked)
    elif asked is not None and asked not in words:
        filed = {name: value for name, value in filed.items() if not name.startswith(f"{first}.")}
    return Line({**_agreeing(filed, given), **given}, tuple(words), fingerprints)


def needs_value(name: str) -> ConfigError:
    """That an option stands without its value."""
    return ConfigError(f"--{name} needs a value, as in --{name} VALUE")


def read_config(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The options in a YAML file, such as the `recipe.yaml` of a run, and the fingerprints it expects.

    Raises:
        ConfigError: there is no such file, or it is not a mapping in YAML; names the line.
    """
    from limbeck.data.plain_yaml import read_yaml

    tree = read_yaml(path, "check the path and what it says, as in 'method: {name: cf}'", ConfigError)
    if not isinstance(tree, dict):
        raise ConfigError(f"the configuration {path} must be a mapping such as 'method: {{name: cf}}'")
    fingerprints = _mapping(path, tree, "fingerprints", "{source: 3f0c, space: 91ab}")
    budget = _mapping(path, tree, "budget", "{pairs: 100} or {bytes: 1000000}")
    return {**_flatten(tree), **_flatten(budget)}, {str(k): str(v) for k, v in fingerprints.items()}


def _mapping(path: Path, tree: dict[Any, Any], key: str, example: str) -> dict[Any, Any]:
    """Takes the mapping under `key` out of the tree; an empty one where there is none."""
    found = tree.pop(key, None)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(f"the configuration {path}: {key} must be a mapping such as {key}: {example}, got {found!r}")
    return found


def _flatten(tree: Mapping[str, Any], where: str = "") -> dict[str, str]:
    """Names with dots; `method: {name: cf, steps: 1}` becomes `method` and `method.steps`."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{where}.{key}" if where else str(key)
        if isinstance(value, Mapping):
            if isinstance(value.get("name"), Mapping | list):
                raise ConfigError(
                    f"{name}.name in the configuration must be a text such as cf, got {str(value['name'])[:60]}"
                )
            flat |= {name: str(value["name"])} if "name" in value else {}
            flat |= _flatten({k: v for k, v in value.items() if k != "name"}, name)
        elif isinstance(value, list | tuple):
            flat[name] = ",".join(v if isinstance(v, str) else json.dumps(v, default=str) for v in value)
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat


def _agreeing(filed: dict[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The file's options without those of a thing that the command line replaced by another, or of the other budget."""
    replaced = {name for name, value in given.items() if filed.get(name, value) != value} - {
        "pixels"
    }  # those below are no options of it
    kept = {name: value for name, value in filed.items() if not any(name.startswith(f"{r}.") for r in replaced)}
    if {"pairs", "bytes"} & set(given):
        kept = {name: value for name, value in kept.items() if name not in ("pairs", "bytes")}
    return kept
