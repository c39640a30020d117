"""A distillation as several commands describe it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from limbeck.commands._open import Encoded, open_source
from limbeck.commands._options import Part, part
from limbeck.commands._pixels import Pixelled
from limbeck.commands._stored import Stored
from limbeck.errors import ConfigError
from limbeck.runtime.progress import ProgressCallback

if TYPE_CHECKING:
    from limbeck.core import Method, Problem
    from limbeck.data import Source

__all__ = ["Task"]


@dataclass(frozen=True, kw_only=True)
class Task(Pixelled, Stored, Encoded):
    """A distillation as a command line describes it.

    Args:
        source: the data, such as demo, folder:data/pets or karpathy:data/flickr8k.
        method: how to distil; limbeck list methods names them.
        pairs: how many pairs the set may hold.
        bytes: how many bytes the files of the set may take, instead of pairs, such as 500kB or 1.2MB.
        pixels: images as files, or exact floats of four bytes.
        seed: of everything that is drawn.
    """

    words = "source"

    source: Part | None = part("source")
    method: Part = part("method", "cf")
    pairs: int | None = None
    bytes: str | None = None
    pixels: Literal["uint8", "float32"] = "uint8"
    seed: int = 0

    def problem(self, tick: ProgressCallback) -> "tuple[Problem, Method, Source]":
        """Opens the data: what to distil, how, and the data themselves, of which the problem only shows a part.

        Raises:
            ConfigError: neither pairs nor bytes, or both.
        """
        method = self.method.make()
        problem, source = self.opened(tick)
        return problem, method, source

    def opened(self, tick: ProgressCallback) -> "tuple[Problem, Source]":
        """What to distil, and the data themselves.

        Raises:
            ConfigError: neither pairs nor bytes, or both.
        """
        from limbeck.core import Budget, Problem
        from limbeck.runtime import processes

        processes.count()  # each of several processes chooses its device before anything is put on one
        if (self.pairs is None) == (self.bytes is None):
            raise ConfigError("say how much the set may hold: --pairs N or --bytes N, one of them")
        budget = Budget(pairs=self.pairs, bytes=self.bytes, pixels=self.pixels)
        storage, pixels = self.storage(), self.learned_as()
        source = open_source(self.source, tick)
        ways: Any = {"storage": storage, "pixels": pixels, "tick": tick}
        return Problem(source, self.space(source), budget, self.seed, self.device, **ways), source
