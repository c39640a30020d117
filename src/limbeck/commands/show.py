"""`limbeck show`."""

import io
import shutil
from dataclasses import dataclass
from pathlib import Path

from limbeck.commands._open import open_set, open_source
from limbeck.commands._options import Answer, Command, Part, part
from limbeck.runtime.progress import ProgressCallback

__all__ = ["Show"]


@dataclass(frozen=True, kw_only=True)
class Show(Command):
    """Tells what is in a set and writes a page with its pictures.

    Args:
        small: the folder of a set or of a run.
        source: the data it came from, for the pictures that its samples started from.
        out: the page; by default report.html in a run, and beside a set.
    """

    words = "small"

    small: Path
    source: Part | None = part("source")
    out: Path | None = None

    def execute(self, tick: ProgressCallback) -> Answer:
        """Writes the page."""
        from rich.console import Console

        from limbeck.report import show

        source = open_source(self.source, tick) if self.source else None
        text = io.StringIO()
        page = show(
            self.small,
            source=source,
            out=self.out,
            console=Console(file=text, width=shutil.get_terminal_size().columns),
        )
        small = open_set(self.small)
        facts = {"name": small.name, "pairs": small.pairs, "bytes": dict(small.sizes), "licence": small.licence}
        return Answer(f"{text.getvalue()}\npage: {page}", {**facts, "recipe": small.recipe.plain(), "page": str(page)})
