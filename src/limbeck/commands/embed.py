"""`limbeck embed`."""

import time
from dataclasses import dataclass
from pathlib import Path

from limbeck.commands._open import Encoded, open_source, report_skipped
from limbeck.commands._options import Answer, Part, part
from limbeck.commands._progress import Tick

__all__ = ["Embed"]


@dataclass(frozen=True, kw_only=True)
class Embed(Encoded):
    """Encodes data once; every other command then reads the features from the cache.

    Args:
        source: the data, such as demo or karpathy:data/flickr8k.
        batch_size: values encoded at a time.
        out: a safetensors file to write as well: for each modality its unit vectors and the sample of each row.
    """

    words = "source"
    resumes = "the same command continues after the last shard"

    source: Part | None = part("source")
    batch_size: int = 128
    out: Path | None = None

    def execute(self, tick: Tick) -> Answer:
        """Encodes every modality."""
        from limbeck.data import Cache
        from limbeck.spaces import embed_source

        source, cache = open_source(self.source, tick), Cache()
        report_skipped(source)
        start = time.perf_counter()
        found = embed_source(
            source, self.space(source), cache, batch_size=self.batch_size, device=self.device, tick=tick
        )
        seconds = time.perf_counter() - start
        if self.out is not None:
            from safetensors.torch import save_file

            self.out.parent.mkdir(parents=True, exist_ok=True)
            tensors = {f"{m}.{k}": getattr(f, k).contiguous() for m, f in found.items() for k in ("vectors", "owner")}
            save_file(tensors, self.out)
        shapes = {modality: list(features.vectors.shape) for modality, features in found.items()}
        lines = [f"{modality}: {rows} vectors of {dim} components" for modality, (rows, dim) in shapes.items()]
        text = "\n".join(
            [
                f"{source.name}, {seconds:.1f} s",
                *lines,
                f"cache: {cache.root}",
                *([f"file:  {self.out}"] * bool(self.out)),
            ]
        )
        return Answer(text, {"source": source.name, "seconds": seconds, "shapes": shapes, "cache": str(cache.root)})
