"""`limbeck export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from limbeck.commands._open import open_set
from limbeck.commands._options import Answer, Command
from limbeck.runtime.progress import ProgressCallback

__all__ = ["Export"]


@dataclass(frozen=True, kw_only=True)
class Export(Command):
    """Writes a set in a layout that other tools read.

    Args:
        small: the folder of a set or of a run.
        to: a Hugging Face dataset repository, tar shards, or images beside metadata.jsonl.
        out: the folder to write, which must be new or empty.
    """

    words = "small"

    small: Path
    to: Literal["hf", "webdataset", "folder"] = "hf"
    out: Path

    def execute(self, tick: ProgressCallback) -> Answer:
        """Writes the folder."""
        from limbeck.core.export import export

        written = export(open_set(self.small), self.out, self.to)
        files = sorted(str(path.relative_to(written)) for path in written.rglob("*") if path.is_file())
        return Answer(f"written: {written} ({len(files)} files)", {"folder": str(written), "files": files})
