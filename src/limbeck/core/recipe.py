"""`Recipe`: a complete, plain description of one distillation, written into its run and into its result."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from limbeck.core.method import Method
from limbeck.core.problem import Problem
from limbeck.data.plain import INTEGER, PLAIN, TEXT, check
from limbeck.data.plain_yaml import read_yaml
from limbeck.errors import StorageError

__all__ = ["SHAPE", "Recipe", "differences"]

REMEDY = "put a copy of it back, or delete the folder to start anew"
_ENCODER = {"name": TEXT, "*": PLAIN}
SHAPE = {
    "source?": {"name?": TEXT, "*": PLAIN},
    "space?": {"*": _ENCODER},
    "method?": {"name?": TEXT, "*": PLAIN},
    "budget?": {"*": PLAIN},
    "storage?": {"*": PLAIN},
    "pixels?": {"*": PLAIN},
    "seed?": INTEGER,
    "fingerprints?": {"*": TEXT},
}
"""What a recipe must be, in a file; see `limbeck.data.plain.check`."""


@dataclass(frozen=True)
class Recipe:
    """What makes a distilled set: plain values only, so that it can be printed, compared and read by a person.

    Args:
        source: name, split and options of the training source.
        space: modality to encoder name and options.
        method: name and every hyper-parameter.
        budget: pairs or bytes.
        storage: codec, quality, side and type of vectors, those that are not as usual.
        pixels: how images are learned, likewise; not written where nothing is given.
        seed: of all named random streams.
        fingerprints: digests of the source's content, of the encoders' weights and of what else the method reads.

    Example:
        >>> Recipe(method={"name": "cf", "steps": 100}).yaml().splitlines()[0]
        'source: {}'
    """

    source: Mapping[str, Any] = field(default_factory=dict)
    space: Mapping[str, Any] = field(default_factory=dict)
    method: Mapping[str, Any] = field(default_factory=dict)
    budget: Mapping[str, Any] = field(default_factory=dict)
    storage: Mapping[str, Any] = field(default_factory=dict)
    pixels: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, problem: Problem, method: Method) -> "Recipe":
        """The recipe of a problem and a method."""
        return cls(
            source=problem.source.describe(),
            space=problem.space.describe(),
            method=method.describe(),
            budget={k: v for k, v in asdict(problem.budget).items() if v is not None},
            storage={
                f.name: v for f in fields(problem.storage) if (v := getattr(problem.storage, f.name)) != f.default
            },
            pixels=problem.pixels.given,
            seed=problem.seed,
            fingerprints={
                "source": problem.source.fingerprint,
                "space": problem.space.fingerprint,
                **method.extra_fingerprints(),
            },
        )

    def plain(self) -> dict[str, Any]:
        """The recipe as JSON types."""
        tree: dict[str, Any] = _plain(asdict(self))
        return {key: value for key, value in tree.items() if key != "pixels" or value}

    def yaml(self) -> str:
        """The recipe as YAML text."""
        return yaml.safe_dump(self.plain(), sort_keys=False)

    @classmethod
    def read(cls, path: Path) -> "Recipe":
        """The recipe in a YAML file.

        Raises:
            StorageError: the file is not a recipe.
        """
        tree = read_yaml(path, REMEDY, StorageError)
        try:
            check(tree, SHAPE)
        except ValueError as error:
            raise StorageError(f"{path} is not a recipe: {error}; {REMEDY}") from error
        return cls(**tree)


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """The places where two plain trees differ, as `key: old -> new`.

    Example:
        >>> differences({"a": {"b": 1}}, {"a": {"b": 2}, "c": 3})
        ['a.b: 1 -> 2', 'c: None -> 3']
    """
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted(set(old) | set(new))
        return [d for k in keys for d in differences(old.get(k), new.get(k), f"{where}.{k}" if where else str(k))]
    return [] if old == new else [f"{where}: {old!r} -> {new!r}"]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
