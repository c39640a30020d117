"""Constraints on fields: each mark, what passes, what a message says; and a sweep of all registered methods."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, get_args, get_type_hints

import numpy as np
import pytest

from limbeck import constraints, registry
from limbeck.constraints import (
    Check,
    Count,
    Ge,
    Gt,
    Interval,
    Le,
    Lt,
    MinLen,
    NotNegative,
    OnlyIf,
    Positive,
    Share,
    validate,
)
from limbeck.core import Method
from limbeck.errors import ConfigError, UnknownName


def known(name: str) -> None:
    if name != "mean":
        raise UnknownName("rule", name, ["mean"])


@dataclass(frozen=True)
class Base:
    steps: Count = 10
    rate: Annotated[float, Gt(0), Le(1)] = 0.5
    share: Share = 0.5
    drop: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    low: Annotated[int, Lt(3)] = 0
    minutes: Annotated[float, Interval(gt=0, lt=math.inf)] = 1.0
    width: Annotated[int, Ge(8)] | None = None
    also: Annotated[int | None, Ge(8)] = None
    kind: Literal["a", "b", "c"] = "a"
    one: Literal["x"] = "x"
    way: Literal["p", "q"] | None = None
    grid: tuple[NotNegative, ...] = (1.0, 2.0)
    names: Annotated[Sequence[str], MinLen(1)] = ("n",)
    weights: Mapping[str, Positive] = field(default_factory=dict)
    rule: Annotated[str, Check(known)] = "mean"
    rules: tuple[Annotated[str, Check(known)], ...] = ()
    bytes: Count | str = 1
    bank: Annotated[int, Ge(0)] = 8
    batch: Annotated[Count, OnlyIf(lambda o: not o.bank, "a bank is used (`bank={o.bank}`)", "set `bank=0`")] = 64
    extra: Annotated[Mapping[str, int], OnlyIf(lambda o: o.bank > 8, "no bank is large")] = field(default_factory=dict)
    text: str = ""
    anything: Any = None
    made: list[int] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        validate(self, "base")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"steps": np.int64(1), "rate": 1, "share": 0, "drop": np.float32(0.9), "low": -5},
        {"share": 1.0, "width": 8, "also": 8, "way": "q", "kind": "c"},
        {"width": None, "also": None, "way": None, "anything": None},
        {"grid": (), "names": ["n", "m"], "weights": {"a": 1}, "rules": ("mean",), "bytes": "1MB"},
        {"bank": 0, "batch": 1},
        {"batch": 64, "extra": {}},
        {"bank": 9, "extra": {"a": 1}},
    ],
    ids=str,
)
def test_what_is_as_its_field_says_passes(options: dict[str, Any]) -> None:
    Base(**options)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("steps", 0, "must be 1 or more, got 0"),
        ("steps", 1.5, "must be a whole number, got 1.5"),
        ("steps", True, "must be a whole number, got True"),
        ("steps", None, "must be a whole number, got None"),
        ("steps", "5", "must be a whole number, got '5'"),
        ("rate", 0, "must be above 0 and at most 1, got 0"),
        ("rate", 1.1, "must be above 0 and at most 1, got 1.1"),
        ("rate", math.nan, "must be a number, got nan"),
        ("share", -0.1, "must be from 0 to 1, got -0.1"),
        ("drop", 1.0, "must be 0 or more and below 1, got 1.0"),
        ("minutes", math.inf, "must be above 0 and finite, got inf"),
        ("low", 3, "must be below 3, got 3"),
        ("width", 7, "must be 8 or more, got 7"),
        ("also", 7, "must be 8 or more, got 7"),
        ("kind", "d", "must be a, b or c, got 'd'"),
        ("kind", None, "must be a, b or c, got None"),
        ("one", "y", "must be x, got 'y'"),
        ("way", "r", "must be p or q, got 'r'"),
        ("grid", (1.0, -1.0), "must be 0 or more, each of its values, got (1.0, -1.0)"),
        ("grid", (1.0, math.nan), "must be a number, each of its values, got (1.0, nan)"),
        ("grid", 1.0, "must be several values, such as (1.0,), got 1.0"),
        ("names", (), "must be 1 value or more, got ()"),
        ("names", "ab", "must be several values, such as ('ab',), got 'ab'"),
        ("weights", {"a": 0.0}, "must be above 0, each of its values, got {'a': 0.0}"),
        ("text", None, "must be given, got None"),
        ("rule", None, "must be given, got None"),
    ],
)
def test_what_is_not_is_refused_with_its_name(option: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Base(**{option: value})
    assert str(caught.value) == f"`{option}` of base {says}"


@pytest.mark.parametrize("options", [{"rule": "meen"}, {"rules": ("mean", "meen")}])
def test_what_a_function_raises_is_kept(options: dict[str, Any]) -> None:
    with pytest.raises(UnknownName, match="did you mean mean"):
        Base(**options)


def test_what_has_no_effect_is_refused_where_it_was_given() -> None:
    with pytest.raises(ConfigError) as caught:
        Base(batch=9)
    says = "`batch=9` of base is ignored when a bank is used (`bank=8`). Remove it, or set `bank=0`."
    assert str(caught.value) == says
    with pytest.raises(ConfigError, match=r"`extra=\{'a': 1\}` of base is ignored when no bank is large\. Remove it\."):
        Base(extra={"a": 1})


def test_ranges_come_before_conditions() -> None:
    with pytest.raises(ConfigError, match="`batch` of base must be 1 or more"):
        Base(batch=0)


@dataclass(frozen=True)
class Child(Base):
    steps: Annotated[int, Ge(5)] = 10
    depth: Count = 1


def test_a_subclass_inherits_and_overrides() -> None:
    for options, says in [({"depth": 0}, "`depth`"), ({"steps": 4}, "must be 5 or more"), ({"low": 3}, "`low`")]:
        with pytest.raises(ConfigError, match=says):
            Child(**options)  # type: ignore[arg-type]
    assert Base(steps=4).steps == 4


def test_types_are_read_once_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[type] = []

    def read(kind: type, include_extras: bool) -> dict[str, Any]:
        reads.append(kind)
        return get_type_hints(kind, include_extras=include_extras)

    constraints._hints.cache_clear()
    monkeypatch.setattr(constraints, "get_type_hints", read)
    for _ in range(3):
        Base()
        Child()
    assert reads == [Base, Child]


def test_a_thing_is_called_as_its_file_by_default() -> None:
    @dataclass
    class Plain:
        steps: Count = 0

    with pytest.raises(ConfigError, match=f"`steps` of {__name__.rpartition('.')[2]} must be"):
        validate(Plain())


def below(hint: Any) -> Iterator[float]:
    """A value below each lower bound of a field."""
    for mark in getattr(hint, "__metadata__", ()):
        for one in mark if isinstance(mark, Interval) else (mark,):
            if isinstance(one, Ge | Gt):
                yield (one.ge - 1) if isinstance(one, Ge) else one.gt  # type: ignore[operator,misc]
    for inner in () if hasattr(hint, "__metadata__") else get_args(hint):
        yield from below(inner)


def bounded() -> Iterator[tuple[Callable[..., Method], str, float]]:
    for name in registry.names("method"):
        kind = registry.get("method", name)
        hints = get_type_hints(kind, include_extras=True)
        for option in fields(kind):
            yield from ((kind, option.name, low) for low in below(hints[option.name]))


SWEEP = list(bounded())


def test_the_sweep_is_wide() -> None:
    numbers = [
        (name, f.name)
        for name in registry.names("method")
        for f in fields(registry.get("method", name))
        if isinstance(f.default, int | float) and not isinstance(f.default, bool)
    ]
    swept = {(kind.__module__.rpartition(".")[2], name) for kind, name, _ in SWEEP}  # type: ignore[attr-defined]
    assert set(numbers) <= swept, "every number has a lower bound"


@pytest.mark.parametrize(("kind", "option", "low"), SWEEP, ids=lambda x: getattr(x, "__name__", str(x)))
def test_every_number_of_a_method_is_refused_below_its_bound(
    kind: Callable[..., Method], option: str, low: float
) -> None:
    with pytest.raises(ConfigError, match=rf"`{option}` of \w+ must be .*, got {low}"):
        kind(**{option: low})


KINDS = ("method", "source", "protocol", "encoder", "captioner", "segmenter")


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in registry.names(kind)])
def test_a_field_that_is_declared_anew_keeps_its_marks(kind: str, name: str) -> None:
    """A subclass that only wants another default must not lose the range."""
    found = registry.get(kind, name)
    now = get_type_hints(found, include_extras=True)
    for base in found.__mro__[1:]:
        for option, hint in get_type_hints(base, include_extras=True).items():
            assert not hasattr(hint, "__metadata__") or hasattr(now[option], "__metadata__"), option
