"""`limbeck embed`."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.commands._open import Encoded, open_source, report_skipped
from limbeck.commands._options import Answer, Part, part
from limbeck.runtime.progress import ProgressCallback

if TYPE_CHECKING:
    from limbeck.data import Source
    from limbeck.spaces import Features

__all__ = ["Embed"]


@dataclass(frozen=True, kw_only=True)
class Embed(Encoded):
    """Encodes data once; every other command then reads the features from the cache.

    Every split is encoded, unless --source.split names one.

    Args:
        source: the data, such as demo or karpathy:data/flickr8k.
        batch_size: values encoded at a time.
        out: a safetensors file to write as well: for each split and modality the unit vectors and the sample of each row.
    """

    words = "source"
    resumes = "the same command continues after the last shard"

    source: Part | None = part("source")
    batch_size: int = 128
    out: Path | None = None

    def execute(self, tick: ProgressCallback) -> Answer:
        """Encodes every modality of every split."""
        from limbeck.data import Cache
        from limbeck.spaces import embed_source

        start, cache = time.perf_counter(), Cache()
        found: dict[str, dict[str, Features]] = {}
        splits = self._splits(tick)
        for split, source in splits.items():
            report_skipped(source)
            space = self.space(source)
            found[split] = embed_source(source, space, cache, batch_size=self.batch_size, device=self.device, tick=tick)
        seconds = time.perf_counter() - start
        if self.out is not None:
            _write(self.out, found)
        shapes = {split: {m: list(f.vectors.shape) for m, f in held.items()} for split, held in found.items()}
        lines = [
            f"{split}, {modality}: {rows} vectors of {dim} components"
            for split, held in shapes.items()
            for modality, (rows, dim) in held.items()
        ]
        text = "\n".join(
            [*lines, f"{seconds:.1f} s", f"cache: {cache.root}", *([f"file:  {self.out}"] if self.out else [])]
        )
        name = next(iter(splits.values())).name
        return Answer(text, {"source": name, "seconds": seconds, "shapes": shapes, "cache": str(cache.root)})

    def _splits(self, tick: ProgressCallback) -> "dict[str, Source]":
        """The split that was asked for, or all of them; `all` where the data have none."""
        first = open_source(self.source, tick)
        if self.source is not None and "split" in self.source.options:
            return {self.source.options["split"]: first}
        return {name: first.split(name) for name in first.splits} or {"all": first}


def _write(path: Path, found: "Mapping[str, Mapping[str, Features]]") -> None:
    from limbeck.runtime.files import save_tensors, whole_file

    tensors = {
        f"{split}.{modality}.{key}": getattr(features, key)
        for split, held in found.items()
        for modality, features in held.items()
        for key in ("vectors", "owner")
    }
    with whole_file(path) as made:
        save_tensors(tensors, made)
