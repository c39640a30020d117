"""`limbeck train-prior`."""

import shlex
import time
from dataclasses import dataclass, fields
from pathlib import Path

from limbeck.commands._open import Device, open_source, report_skipped
from limbeck.commands._options import Answer, Command, Part, part
from limbeck.constraints import Count
from limbeck.methods.generative.diffusion.training import PriorTraining, losses, train_prior
from limbeck.runtime.progress import ProgressCallback
from limbeck.terminal import note

__all__ = ["TrainPrior"]


@dataclass(frozen=True, kw_only=True)
class TrainPrior(PriorTraining, Command):
    """Trains a small text-to-image pipeline on images and captions, for the methods that generate; the same command continues.

    The folder is a pipeline of diffusers: --method.prior takes it, and DiffusionPipeline.from_pretrained opens it.

    Args:
        source: the data, such as demo or karpathy:data/flickr8k.
        out: the folder of the pipeline.
        save_every: steps between checkpoints.
        device: where it trains: cpu, cuda, cuda:1, mps.
    """

    words = "source"
    resumes = "the same command continues from the last checkpoint"

    source: Part | None = part("source")
    out: Path
    save_every: Count = 200
    device: Device = "cpu"

    def execute(self, tick: ProgressCallback) -> Answer:
        """Trains to the end, and tells what the losses have come to."""
        start = time.perf_counter()
        source = open_source(self.source, tick)
        report_skipped(source)
        how = PriorTraining(**{f.name: getattr(self, f.name) for f in fields(PriorTraining)})
        prior = train_prior(source, self.out, how, save_every=self.save_every, device=self.device, tick=tick)
        captions = [text for sample in source.captions for text in sample]
        if cut := len(prior.truncated(captions)):
            note(f"{cut} of {len(captions)} captions have more than --length {self.length} tokens, and were cut")
        seconds, found = time.perf_counter() - start, losses(self.out)
        said = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
        text = f"{self.out}: makes images of {prior.resolution} pixels; losses at the end: {said}; {seconds:.1f} s\n"
        text += f"licence: {prior.licence}\nnext: give --method prior --method.prior {shlex.quote(str(self.out))} (or --method edge) to limbeck distill"
        data = {"prior": str(self.out), "resolution": prior.resolution, "losses": dict(found), "licence": prior.licence}
        return Answer(text, {**data, "seconds": seconds})
