"""An ablation: from `lors.rank=5,10` to the methods of a comparison."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, get_type_hints

from limbeck import registry
from limbeck.commands._options import Part
from limbeck.commands._types import Option, typed
from limbeck.errors import ConfigError

__all__ = ["varied"]

COMMA = re.compile(r",(?![^\[]*\])")  # not those inside of brackets


def varied(methods: Sequence[Part], vary: Mapping[str, str]) -> tuple[Part, ...]:
    """The methods, each once for every combination of the values of its options.

    Args:
        methods: what is compared.
        vary: `METHOD.OPTION` to values with commas; the method `method` stands for all that have the option.

    Raises:
        ConfigError: no such method or option among them, a value of the wrong type, or an option that is also set.

    Example:
        >>> found = varied([Part("method", "random"), Part("method", "cf")], {"cf.steps": "5,10", "cf.lr": "0.1"})
        >>> [(part.spec, dict(part.options)) for part in found]
        [('random', {}), ('cf', {'steps': 5, 'lr': 0.1}), ('cf', {'steps': 10, 'lr': 0.1})]
    """
    axes: list[dict[str, list[Any]]] = [{} for _ in methods]
    for target, raw in vary.items():
        for i, option in _reached(methods, target):
            name = option.name.rpartition(".")[2]
            if name in methods[i].options or name in axes[i]:
                raise ConfigError(f"--{option.name} is set and varied, or varied twice; give it once")
            values = [typed(option, value.strip()) for value in COMMA.split(raw)]
            if twice := [value for value in values if values.count(value) > 1]:
                raise ConfigError(f"--vary {target}={raw}: {option.name} is given {twice[0]} twice; give it once")
            axes[i][name] = values
    return tuple(
        replace(method, options={**method.options, **dict(zip(axis, values, strict=True))})
        for method, axis in zip(methods, axes, strict=True)
        for values in itertools.product(*axis.values())
    )


def _reached(methods: Sequence[Part], target: str) -> list[tuple[int, Option]]:
    """The positions of the methods that `target` names, with the option of each."""
    head, _, option = target.rpartition(".")
    compared = ", ".join(method.spec for method in methods)
    named = [i for i, method in enumerate(methods) if head in ("method", method.spec)]
    if not named:
        wrong = f"{head} is not compared; " if head else ""
        raise ConfigError(f"--vary {target}: {wrong}write METHOD.OPTION=VALUES, with method or one of {compared}")
    known = {i: _options(methods[i]) for i in named}
    reached = [(i, known[i][option]) for i in named if option in known[i]]
    if not reached:
        listed = "; ".join(f"{methods[i].spec} has: {', '.join(known[i]) or 'none'}" for i in named)
        raise ConfigError(f"--vary {target}: there is no option {option!r} among those of {compared}; {listed}")
    return reached


def _options(method: Part) -> dict[str, Option]:
    found = registry.get("method", method.spec)
    hints = get_type_hints(found)
    return {f.name: Option(f"{method.spec}.{f.name}", hints[f.name], None, "") for f in fields(found)}
