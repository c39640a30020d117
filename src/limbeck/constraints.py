"""Constraints of options: they stand on the fields of a dataclass, and `validate` reads them there.

    steps: Annotated[int, Ge(1)] = 100                        a range; None passes where the type has it
    match: Literal["angle", "size"] = "angle"                 choices
    noise: tuple[Annotated[float, Ge(0)], ...] = (0.5, 1.0)   a range of each value
    init: Annotated[str, Check(rule)] = "random"              a function that raises for a bad value
    batch: Annotated[int, OnlyIf(lambda o: not o.bank, "a bank is used", "set `bank=0`")] = 4096

The last one is refused where it was given and has no effect.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from math import inf, isnan
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, GroupedMetadata, Gt, Interval, Le, Lt, MinLen

from limbeck.errors import ConfigError
from limbeck.registry import name_of

__all__ = [
    "Check",
    "Count",
    "Ge",
    "Gt",
    "Interval",
    "Le",
    "Lt",
    "MinLen",
    "NotNegative",
    "OnlyIf",
    "Positive",
    "Share",
    "validate",
]

Count = Annotated[int, Ge(1)]
NotNegative = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
Share = Annotated[float, Interval(ge=0, le=1)]

RANGES: Mapping[type, tuple[Callable[[Any, Any], bool], str]] = {
    Ge: (operator.ge, "{} or more"),
    Gt: (operator.gt, "above {}"),
    Le: (operator.le, "at most {}"),
    Lt: (operator.lt, "below {}"),
}


@dataclass(frozen=True)
class Check:
    """Marks a field whose value is good if a function does not raise.

    Args:
        function: of the value.
    """

    function: Callable[[Any], object]


@dataclass(frozen=True)
class OnlyIf:
    """Marks a field that has an effect only under a condition, and is refused where it was given in vain.

    Args:
        condition: of the options, whether this one has an effect.
        otherwise: when it has none, in words; `{o.bank}` is the value of another option.
        remedy: what can be done instead of removing it.
    """

    condition: Callable[[Any], object]
    otherwise: str
    remedy: str = ""


def validate(options: Any, name: str = "") -> None:
    """Refuses options that are not as their fields say; for `__post_init__` of a dataclass.

    Args:
        options: the dataclass.
        name: what to call it; by default as its file.

    Raises:
        ConfigError: names the first option that cannot be, its value and what to do.

    Example:
        >>> @dataclass
        ... class Training:
        ...     steps: Count = 100
        >>> validate(Training(0), "training")
        Traceback (most recent call last):
        limbeck.errors.ConfigError: `steps` of training must be 1 or more, got 0
    """
    name = name or name_of(type(options))
    hints = _hints(options.__class__)
    for option, hint in hints.items():
        if need := _need(value := getattr(options, option), hint):
            raise ConfigError(f"`{option}` of {name} must be {need}, got {value!r}")
    for field in fields(options):
        value = getattr(options, field.name)
        usual = field.default if field.default_factory is MISSING else field.default_factory()
        for mark in getattr(hints.get(field.name), "__metadata__", ()) if value != usual else ():
            if isinstance(mark, OnlyIf) and not mark.condition(options):
                why, remedy = mark.otherwise.format(o=options), f", or {mark.remedy}" if mark.remedy else ""
                raise ConfigError(f"`{field.name}={value}` of {name} is ignored when {why}. Remove it{remedy}.")


@cache
def _hints(kind: type) -> dict[str, Any]:
    """The types of the options of a dataclass, with their marks."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind) if field.init}


def _need(value: Any, hint: Any) -> str:
    """What a value has to be and is not, in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _need(value, inner[0]) or ("" if value is None else _marked(value, list(_flat(inner[1:]))))
    if origin in (Union, UnionType):
        needs = [_need(value, one) for one in inner if one is not NoneType]
        return "" if "" in needs or (value is None and NoneType in inner) else " or ".join(needs)
    if origin is Literal:
        *others, last = map(str, inner)
        return "" if value in inner else f"{', '.join(others)} or {last}" if others else last
    if isinstance(origin, type) and issubclass(origin, Sequence):
        if isinstance(value, str) or not isinstance(value, Iterable):
            return f"several values, such as ({value!r},)"
        return next((f"{need}, each of its values" for one in value if (need := _need(one, inner[0]))), "")
    if isinstance(origin, type) and issubclass(origin, Mapping):
        values = value.values() if isinstance(value, Mapping) else ()
        return next((f"{need}, each of its values" for one in values if (need := _need(one, inner[1]))), "")
    if hint in (int, float):
        fits = isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
        return "" if fits and not isnan(value) else "a whole number" if hint is int else "a number"
    return "given" if value is None and hint in (str, bool) else ""


def _marked(value: Any, marks: Sequence[Any]) -> str:
    """What the marks of a field ask for and a value is not, in words."""
    for mark in marks:
        if isinstance(mark, Check):
            mark.function(value)
        if isinstance(mark, MinLen) and len(value) < mark.min_length:
            return f"{mark.min_length} value or more"
    limits = {type(mark): getattr(mark, type(mark).__name__.lower()) for mark in marks if type(mark) in RANGES}
    if all(RANGES[kind][0](value, limit) for kind, limit in limits.items()):
        return ""
    if set(limits) == {Ge, Le}:
        return f"from {limits[Ge]} to {limits[Le]}"
    words = (RANGES[kind][1].format(limit) if limit != inf else "finite" for kind, limit in limits.items())
    return " and ".join(words)


def _flat(marks: Iterable[Any]) -> Iterator[Any]:
    for mark in marks:
        yield from mark if isinstance(mark, GroupedMetadata) else (mark,)
