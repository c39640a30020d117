"""From what people write in their files to captions, labels and paths; what cannot be used is told by a reason."""

import ast
import json
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from limbeck.data.batch import Captions
from limbeck.errors import DataError

__all__ = ["Unreadable", "clean_captions", "clean_label", "index_labels", "inside", "parse_json", "read_json"]


class Unreadable(ValueError):
    """One record that cannot be used; its message is the reason under which it is counted and skipped."""


def clean_captions(value: object) -> Captions:
    """Captions from a string or a list of strings: white space made single, empty ones dropped.

    A string that is a list as JSON or Python writes it, which is how a CSV table holds several captions, is that list.

    Raises:
        Unreadable: something that is not text, or the text of a list that is cut off.

    Example:
        >>> clean_captions([" a  cat ", "", "a tabby"])
        ('a cat', 'a tabby')
        >>> clean_captions("['a cat', 'a tabby']")
        ('a cat', 'a tabby')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ()
    if isinstance(value, str) and value.strip().startswith("["):
        value = _listed(value.strip())
    found: list[str] = []
    for text in [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]:
        if not isinstance(text, str):
            raise Unreadable("caption is not text")
        if any("\ud800" <= c <= "\udfff" for c in text):
            raise Unreadable("not UTF-8")
        if tidy := " ".join(text.split()):
            found.append(tidy)
    return tuple(found)


def _listed(text: str) -> object:
    """The list that a text begins; the text itself where it is none, as in `[laughs] a dog`."""
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, RecursionError):
            return read(text)
    if text[1:].lstrip()[:1] in ("'", '"'):
        raise Unreadable("a list of captions that is not whole")
    return text


def clean_label(value: object) -> int | str | None:
    """A label as a whole number or a name; `None` where there is none. A string of digits is a number.

    Raises:
        Unreadable: something else.

    Example:
        >>> clean_label("7"), clean_label(3.0), clean_label("cat"), clean_label("")
        (7, 3, 'cat', None)
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if type(value) is not int:
        raise Unreadable("label is neither a name nor a whole number")
    return value


def index_labels(
    values: Sequence[object], class_names: Sequence[object] | None = None
) -> tuple[list[int | None], tuple[str, ...]]:
    """Labels as indices, and the names of the classes.

    Whole numbers are kept as they are (`class_names`, where given, says what each means); names are sorted.

    Args:
        values: one a record: a whole number, a name, or `None`.
        class_names: one a record: the name of its label, or `None`.

    Raises:
        DataError: numbers and names mixed, or a number below 0.

    Example:
        >>> index_labels(["dog", None, "cat"])
        ([1, None, 0], ('cat', 'dog'))
        >>> index_labels([1, 0], ["dog", "cat"])
        ([1, 0], ('cat', 'dog'))
    """
    held = [v for v in values if v is not None]
    if not held:
        return ([None] * len(values), ()) if class_names is None else index_labels(class_names)
    if all(type(v) is int for v in held):
        numbers: list[int] = [v for v in held if isinstance(v, int)]
        if min(numbers) < 0 or max(numbers) > 10**6:
            raise DataError(f"labels are indices from 0 up, got {min(numbers)} to {max(numbers)}")
        called = {v: n for v, n in zip(values, class_names or [None] * len(values), strict=True) if n is not None}
        names = tuple(str(called.get(i, i)) for i in range(max(numbers) + 1))
        return [v if isinstance(v, int) else None for v in values], names
    if not all(isinstance(v, str) for v in held):
        kinds = ", ".join(sorted({type(v).__name__ for v in held}))
        raise DataError(f"labels are all whole numbers or all names, got {kinds}")
    names = tuple(sorted({str(v) for v in held}))
    position = {n: i for i, n in enumerate(names)}
    return [None if v is None else position[str(v)] for v in values], names


def inside(folder: Path, name: object) -> Path:
    """The file `name` in `folder`.

    Raises:
        Unreadable: not a name, or one that leads out of the folder.
    """
    if not isinstance(name, str) or not name:
        raise Unreadable("no file name")
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or Path(name).is_absolute():
        raise Unreadable("unsafe name")
    return folder / parts


def parse_json(data: bytes | str) -> Any:
    """JSON, or a reason why not.

    Raises:
        Unreadable: `not UTF-8` or `not JSON`.
    """
    try:
        return json.loads(data.decode("utf-8-sig") if isinstance(data, bytes) else data)
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None
    except (json.JSONDecodeError, RecursionError):
        raise Unreadable("not JSON") from None


def read_json(path: Path) -> Any:
    """The JSON file at `path`.

    Raises:
        DataError: it cannot be read or does not parse; the message names the line.
    """
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not JSON: {error.msg}; mend that line") from error
    except RecursionError as error:
        raise DataError(f"{path} is not a caption file: it is nested too deeply") from error
