"""Pastes the help texts of the command line into docs/cli.md, between the markers; `--check` only compares."""

import os
import re
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("cli.md")
BLOCK = re.compile(r"(<!-- help: limbeck(?P<words>[^>]*?) -->\n```text\n)(?P<text>.*?)(```)", re.DOTALL)


def real(words: str) -> str:
    """What `limbeck WORDS --help` prints."""
    from limbeck.cli import help_of_line

    return help_of_line(words.split())


def main() -> int:
    """Rewrites the page; returns 1 where `--check` finds a difference."""
    old = PAGE.read_text(encoding="utf-8")
    new = BLOCK.sub(lambda m: m[1] + real(m["words"].strip()) + "\n" + m[4], old)
    if "--check" in sys.argv:
        return int(old != new)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    os.environ["NO_COLOR"] = "1"
    sys.exit(main())
