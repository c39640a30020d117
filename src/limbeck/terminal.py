"""What is printed: control characters of captions, names and paths are shown, not obeyed, and no encoding ends in an error."""

import re
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["columns", "note", "say", "visible"]

# C0 but for tab and newline, DEL and C1, what turns the direction of text, other line ends, and halves of characters
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """A text whose control characters are escaped, as `\\x1b`; tabs and newlines stay.

    Bytes of file names that are not UTF-8 are shown as bytes.

    Example:
        >>> print(visible("a" + chr(27) + "[2J"), visible("caf" + chr(0xDCE9) + ".png"))
        a\\x1b[2J caf\\xe9.png
    """
    return CONTROL.sub(lambda found: _escape(ord(found[0])), text)


def columns(lines: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """The lines of a table whose cells stand below each other, two blanks apart.

    Args:
        lines: their cells, as many in each.
        left: the number of first columns that stand to the left; the others, numbers, stand to the right.

    Example:
        >>> print(*columns([["set", "pairs"], ["random", "9"]]), sep="\\n")
        set     pairs
        random      9
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    form = "  ".join(f"{{:{'<' if i < left else '>'}{width}}}" for i, width in enumerate(widths))
    return [form.format(*line).rstrip() for line in lines]


def say(text: object, stream: Any = None) -> None:
    """Prints a text, visibly and whatever the encoding of the stream; by default to stdout."""
    stream = stream or sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(visible(str(text)).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def note(text: object) -> None:
    """Prints a line for the person who looks on, to stderr."""
    say(f"note: {text}", sys.stderr)


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8, as Python keeps it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
