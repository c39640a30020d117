"""Plain values in JSON that somebody else may have written: read with bounds, checked by one description.

A description of what a value must be is plain as well: a `Kind`; a list of one description (a list of such values); a tuple (any of
them); a mapping from keys to descriptions, where `"key?"` may be left out and `"*"` stands for all other keys.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.errors import LimbeckError, StorageError
from limbeck.limits import JSON_FILE, Limit

__all__ = [
    "COUNT",
    "DIGEST",
    "INTEGER",
    "NONE",
    "NUMBER",
    "PLAIN",
    "SIZE",
    "TEXT",
    "Kind",
    "check",
    "dump_json",
    "escape_surrogates",
    "read_json",
    "read_sealed",
    "read_text",
    "seal",
    "shorten",
]

LARGEST = 2**63 - 1  # an integer that every library takes
DEPTH = 32  # of lists and mappings in each other


@dataclass(frozen=True)
class Kind:
    """A kind of plain value.

    Args:
        says: what it is, as in "must be a text".
        holds: whether a value is one.
    """

    says: str
    holds: Callable[[Any], bool]


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def _is_plain(value: Any, depth: int = DEPTH) -> bool:
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        named = isinstance(value, list) or all(isinstance(key, str) for key in value)
        return depth > 0 and named and all(_is_plain(part, depth - 1) for part in parts)
    return value is None or isinstance(value, bool | str | float) or _is_integer(value)


TEXT = Kind("a text", lambda value: isinstance(value, str))
INTEGER = Kind("a whole number", _is_integer)
COUNT = Kind("a whole number from 0", lambda value: _is_integer(value) and value >= 0)
SIZE = Kind("a whole number from 1", lambda value: _is_integer(value) and value >= 1)
NUMBER = Kind("a finite number", _is_number)
NONE = Kind("null", lambda value: value is None)
DIGEST = Kind("a SHA-256", lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None)
PLAIN = Kind("made of texts, numbers, lists and mappings", _is_plain)


def check(value: Any, shape: Any, where: str = "") -> None:
    """Holds a value against the description of what it must be.

    Args:
        value: of JSON or YAML.
        shape: the description, see the module.
        where: what to call the value; empty where whoever catches it says so.

    Raises:
        ValueError: it is something else; says where and what.

    Example:
        >>> check({"name": "a", "rows": [1, -1]}, {"name": TEXT, "rows": [COUNT], "licence?": TEXT}, "set.json")
        Traceback (most recent call last):
        ValueError: set.json: rows[1] must be a whole number from 0, got -1
    """
    if wrong := _mistake(value, shape, ""):
        raise ValueError(f"{where}: {wrong}" if where else wrong)


def _mistake(value: Any, shape: Any, at: str) -> str:
    """What is wrong with a value, empty where nothing is."""
    here = at or "it"
    if isinstance(shape, Kind):
        return "" if shape.holds(value) else f"{here} must be {shape.says}, got {shorten(value)}"
    if isinstance(shape, tuple):
        wrong = [_mistake(value, one, at) for one in shape]
        return "" if "" in wrong else wrong[-1]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{here} must be a list, got {shorten(value)}"
        return next(filter(None, (_mistake(one, shape[0], f"{at}[{i}]") for i, one in enumerate(value))), "")
    if not isinstance(value, dict):
        return f"{here} must be a mapping, got {shorten(value)}"
    known = {key.removesuffix("?") for key in shape} - {"*"}
    lacking = sorted(key for key in shape if key not in value and not key.endswith("?") and key != "*")
    if lacking:
        return f"{here} lacks {', '.join(lacking)}"
    for key, one in value.items():
        if not isinstance(key, str) or (key not in known and "*" not in shape):
            return f"{here} has the key {shorten(key)}, which does not belong there"
        below = shape.get(key, shape.get(f"{key}?", shape.get("*")))
        if wrong_below := _mistake(one, below, f"{at}.{key}".lstrip(".")):
            return wrong_below
    return ""


def shorten(value: Any) -> str:
    """A value as an error shows it, in few characters."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "a number of too many digits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def read_json(path: Path, shape: Any, remedy: str, error: type[LimbeckError] = StorageError) -> Any:
    """The value in a JSON file, once it was checked.

    Args:
        path: of the file.
        shape: what it must be, see `check`.
        remedy: what a person can do where it is not.
        error: to raise.

    Raises:
        LimbeckError: of the type `error`: it is no JSON, or larger than a `JSON_FILE` may be, a key stands there twice, or it is something else.
    """
    try:
        value = json.loads(read_text(path, JSON_FILE), object_pairs_hook=_once)
        check(value, shape)
    except RecursionError:
        raise error(f"{path} cannot be read: it is nested too deeply; {remedy}") from None
    except (OSError, ValueError) as wrong:
        raise error(f"{path} cannot be read: {wrong}; {remedy}") from wrong
    return value


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Plain data with other keys, at every depth; for files that were written with older ones.

    Args:
        value: dictionaries, lists and what they hold.
        names: old key to new key.

    Example:
        >>> renamed({"of none": 1, "b": [{"of none": 2}]}, {"of none": "no_modality"})
        {'no_modality': 1, 'b': [{'no_modality': 2}]}
    """
    if isinstance(value, dict):
        return {names.get(key, key): renamed(inner, names) for key, inner in value.items()}
    return [renamed(inner, names) for inner in value] if isinstance(value, list) else value


def read_sealed(path: Path, shape: Any, what: str, schema: int, remedy: str) -> dict[str, Any]:
    """What a JSON file says that `seal` closed, once its schema, its digest and all of it were checked; of before there were digests, without one.

    Args:
        path: of the file.
        shape: what it must be, see `check`.
        what: it is, as in "a manifest of a set".
        schema: the newest that is read.
        remedy: what a person can do where it is not.

    Raises:
        StorageError: it is of a newer schema, or not what it should be.
    """
    content: dict[str, Any] = read_json(path, {"schema": COUNT, "*": PLAIN}, remedy)
    if content["schema"] > schema:
        raise StorageError(f"{path} has schema {content['schema']}, this version reads up to {schema}; upgrade limbeck")
    if "digest" in content and seal(content)["digest"] != content["digest"]:
        raise StorageError(f"{path} differs from the digest in it; {remedy}")
    try:
        check(content, {**shape, "digest?": DIGEST})
    except ValueError as error:
        raise StorageError(f"{path} is not {what}: {error}; {remedy}") from error
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {shorten(next(n for n in names if names.count(n) > 1))} stands there twice")
    return found


def read_text(path: Path, limit: Limit) -> str:
    """The text of a file in UTF-8.

    Args:
        path: of the file.
        limit: of its bytes.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is larger, no file, or not UTF-8.
    """
    if path.exists() and not path.is_file():
        raise ValueError("it is not a file")
    with path.open("rb") as file:
        data = file.read(limit.most + 1)
    if len(data) > limit.most:
        raise ValueError(f"it has {limit}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start})") from None


def dump_json(value: Any) -> str:
    """A value as JSON text that a person can read; what is not UTF-8 is escaped, so that it comes back the same.

    Example:
        >>> print(dump_json({"a": "caf\\xe9 \\udce9"}), end="")
        {
         "a": "caf\xe9 \\udce9"
        }
    """
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def seal(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with the digest of all else that it says.

    Args:
        manifest: as JSON types.

    Example:
        >>> seal({"name": "a"})["digest"][:8], seal({"name": "b"})["digest"][:8]
        ('d9d719b2', '4990ff99')
    """
    content = {key: value for key, value in manifest.items() if key != "digest"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return {**content, "digest": hashlib.sha256(canonical.encode("ascii")).hexdigest()}


_SURROGATE = re.compile("[\ud800-\udfff]")


def escape_surrogates(text: str) -> str:
    r"""A text that can be written as UTF-8: bytes of a name that are none are shown as `\xNN`.

    Example:
        >>> escape_surrogates("photo\udce9.png")
        'photo\\xe9.png'
    """
    if text.isascii():
        return text

    def shown(found: re.Match[str]) -> str:
        code = ord(found[0])
        return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"

    return _SURROGATE.sub(shown, text)
