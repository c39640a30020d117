"""From what people write in their files to captions, labels and paths; what cannot be used is told by a reason."""

import ast
import codecs
import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from limbeck.data.batch import Captions
from limbeck.data.plain import shorten
from limbeck.errors import DataError
from limbeck.limits import CAPTION, CLASSES, NAME

__all__ = [
    "WORDS",
    "Unreadable",
    "clean_captions",
    "clean_label",
    "clean_name",
    "decode_text",
    "encoding_of",
    "index_labels",
    "index_names",
    "is_utf8",
    "json_of",
    "names_of",
    "parse_json",
]

WORDS = ("raw", "caption", "captions", "text", "sentence", "value")  # fields of a struct under which a caption stands
NUMBER = re.compile(r"-1(\.0+)?|(0|[1-9][0-9]{0,17})(\.0+)?")  # a label as a table of text writes a number
LITERAL = re.compile(r"'(?:[^'\\]|\\.)*+'" r'|"(?:[^"\\]|\\.)*+"', re.DOTALL)  # a string as Python writes it
LIST = re.compile(rf"\[\s*+(?:(?:{LITERAL.pattern})\s*+,?\s*+)*+\]", re.DOTALL)


class Unreadable(ValueError):
    """One record that cannot be used; its message is the reason under which it is counted and skipped."""


def clean_captions(value: object) -> Captions:
    """Captions from a string, a list of strings, or structs that hold them: white space made single, empty ones dropped.

    A string that is a list as JSON, Python or NumPy writes it, which is how a CSV table holds several captions, is that list.
    Of a struct the text is what stands under `raw`, `caption`, `text` or another of `WORDS`.

    Raises:
        Unreadable: something that is not text, the text of a list that is cut off, or more than a `CAPTION` may have.

    Example:
        >>> clean_captions([" a  cat ", "", {"raw": "a tabby", "tokens": ["a", "tabby"]}])
        ('a cat', 'a tabby')
        >>> clean_captions("['a cat', 'a tabby']")
        ('a cat', 'a tabby')
    """
    captions: list[str] = []
    for text in _texts(value, 0):
        if len(text) > CAPTION.most:
            raise Unreadable(f"caption of {CAPTION}")
        if not is_utf8(text):
            raise Unreadable("not UTF-8")
        tidy = " ".join(text.split())
        if any(
            c.isprintable() for c in tidy if c != " "
        ):  # else nobody sees anything, as where it is a space of no width
            captions.append(tidy)
    return tuple(captions)


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8: it holds no half of a pair, as names of files do that are of another encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _texts(value: object, depth: int) -> Iterator[str]:
    """The strings in a value."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return
    if isinstance(value, Unreadable):
        raise value
    if isinstance(value, str) and depth == 0 and value.lstrip()[:1] == "[":
        value = _listed(value.strip())
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple) and depth < 3:
        for inner in value:
            yield from _texts(inner, depth + 1)
    elif isinstance(value, dict) and depth < 3:
        caption = next((value[name] for name in WORDS if value.get(name) is not None), None)
        if caption is None:
            raise Unreadable(f"caption is not text but holds {', '.join(map(str, value))[:60] or 'nothing'}")
        yield from _texts(caption, depth + 1)
    else:
        raise Unreadable("caption is not text")


def _listed(text: str) -> object:
    """The list that a text begins; the text itself where it is none, as in `[laughs] a dog`."""
    with suppress(Unreadable):
        values = parse_json(text)
        return text if any(isinstance(one, int | float) for one in values) else values
    if LIST.fullmatch(text) and len(text) <= CAPTION.most:
        with suppress(ValueError, SyntaxError, MemoryError):
            return [ast.literal_eval(part) for part in LITERAL.findall(text)]
    if text[1:].lstrip()[:1] in ("'", '"'):
        raise Unreadable("a list of captions that is not whole")
    return text


def clean_name(value: object, what: str) -> str:
    """A key, a group or a class as text.

    Args:
        value: text or a number.
        what: it is, for the reason.

    Raises:
        Unreadable: something else, more than 1,000 characters, or text that is not UTF-8.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, Unreadable):
        raise value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Unreadable(f"{what} is neither a name nor a whole number")
    if isinstance(value, int) and abs(value) >= 10**18:
        raise Unreadable(f"{what} is too large a number")
    name = str(value).strip()
    if not is_utf8(name):
        raise Unreadable(f"{what} is not UTF-8")
    if len(name) > NAME.most:
        raise Unreadable(f"{what} of {NAME}")
    return name


def clean_label(value: object) -> int | str | None:
    """A label as a whole number or as it is written; `None` where there is none.

    Raises:
        Unreadable: something else.

    Example:
        >>> clean_label("7"), clean_label(3.0), clean_label(" cat "), clean_label(""), clean_label(True)
        ('7', 3, 'cat', None, 'True')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value)
    name = clean_name(value, "label")
    if isinstance(value, str):
        return name or None
    return int(name)


def index_labels(
    values: Sequence[int | str | None], class_names: Sequence[object] | None = None
) -> tuple[list[int | None], tuple[str, ...]]:
    """Labels as indices, and the names of the classes.

    Whole numbers are kept as they are, -1 is no label (`class_names`, where given, says what each means). Texts are numbers where all of
    them are, as in a CSV table, which knows nothing but text: 3, 10.0, -1 for none. Else, and where one is written with
    leading zeros, all are names, which are sorted.

    Args:
        values: one a record, as `clean_label` gives them.
        class_names: one a record: the name of its label, or `None`; not used unless each number has one name of its own.

    Raises:
        DataError: numbers and names mixed, or a number below 0.

    Example:
        >>> index_labels(["dog", None, "cat"])
        ([1, None, 0], ('cat', 'dog'))
        >>> index_labels([1, 0], ["dog", "cat"])
        ([1, 0], ('cat', 'dog'))
        >>> index_labels(["1.0", "-1", "0.0"]), index_labels(["007", "10"])
        (([1, None, 0], ('0', '1')), ([0, 1], ('007', '10')))
    """
    given = [v for v in values if v is not None]
    if not given:
        return [None] * len(values), ()
    texts = [v for v in given if isinstance(v, str)]
    if all(map(NUMBER.fullmatch, texts)):
        numbers = [int(v.partition(".")[0]) if isinstance(v, str) else v for v in given]
        if len(texts) < len(given) or max(numbers) <= CLASSES.most:
            return _numbered(values, numbers, class_names or [None] * len(values))
    if len(texts) < len(given):
        number, name = (
            next(v for v in given if not isinstance(v, str)),
            next(v for v in texts if not NUMBER.fullmatch(v)),
        )
        raise DataError(
            f"labels are all whole numbers or all names, got the number {number} and the name {name!r}: write both as text"
        )
    return index_names([None if v is None else str(v) for v in values])


def index_names(values: Sequence[str | None]) -> tuple[list[int | None], tuple[str, ...]]:
    """Names as indices into their sorted list, whatever they look like.

    Example:
        >>> index_names(["10", None, "2"])
        ([0, None, 1], ('10', '2'))
    """
    names = tuple(sorted({v for v in values if v is not None}))
    position = {n: i for i, n in enumerate(names)}
    return [None if v is None else position[v] for v in values], names


def _numbered(
    values: Sequence[int | str | None], numbers: Sequence[int], class_names: Sequence[object]
) -> tuple[list[int | None], tuple[str, ...]]:
    if set(numbers) == {-1, 1}:
        raise DataError("labels are -1 and 1, and -1 stands for no label: write 0 and 1, or names")
    if max(numbers) > CLASSES.most:
        raise DataError(f"labels are indices of classes, got {max(numbers)}, and these would be {CLASSES}")
    if min(numbers) < -1:
        raise DataError(f"labels are indices from 0 up, got {min(numbers)} to {max(numbers)}")
    rest = iter(numbers)
    indices = [None if v is None or (n := next(rest)) == -1 else n for v in values]
    called = names_of(indices, class_names)
    return indices, tuple(called.get(i, str(i)) for i in range(max(numbers) + 1))


def names_of(indices: Sequence[int | None], class_names: Sequence[object]) -> dict[int, str]:
    """What each number is called; nothing where a number has two names, or two numbers have one."""
    pairs = {(i, str(n)) for i, n in zip(indices, class_names, strict=True) if i is not None and n is not None}
    called = dict(pairs)
    return called if len(called) == len(pairs) == len(set(called.values())) else {}


def parse_json(data: bytes | str) -> Any:
    """JSON, or a reason why not.

    Raises:
        Unreadable: `not UTF-8`, `not JSON`, a number that is too long, or one key with two values.
    """
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        if not is_utf8(text):
            raise Unreadable("not UTF-8")
        return json.loads(text, object_pairs_hook=_object)
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None
    except (json.JSONDecodeError, RecursionError):
        raise Unreadable("not JSON") from None
    except ValueError as error:  # a number of more digits than Python reads
        raise error if isinstance(error, Unreadable) else Unreadable("a number of too many digits") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; a key may stand there twice where both values are the same."""
    cells = dict(pairs)
    if len(cells) < len(pairs):
        for name, value in pairs:
            if cells[name] is not value and cells[name] != value:
                raise Unreadable(f"the key {shorten(name)} with two values")
    return cells


def decode_text(data: bytes, path: Path) -> str:
    """A file as text: UTF-8, or UTF-16 and UTF-32 where they begin with their mark, as Windows writes them.

    Raises:
        DataError: neither; the message names the byte and the remedy.
    """
    try:
        return data.decode(encoding_of(data[:4]))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error


def encoding_of(start: bytes) -> str:
    """The encoding that the first four bytes of a file tell."""
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    return "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"


def json_of(data: bytes, path: Path) -> Any:
    """What a JSON file holds.

    Args:
        data: its bytes.
        path: where they are from.

    Raises:
        DataError: it does not parse; the message names the line.
    """
    try:
        return json.loads(decode_text(data, path), object_pairs_hook=_object)
    except DataError:
        raise
    except Unreadable as error:
        raise DataError(f"{path} cannot be read: {error}; leave one of them") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not JSON: {error.msg}; mend that line") from error
    except RecursionError as error:
        raise DataError(f"{path} is not a caption file: it is nested too deeply") from error
    except ValueError as error:
        raise DataError(f"{path} holds a number of too many digits; mend it") from error
