"""A tiny text-to-image pipeline with random weights, in a folder as `save_pretrained` writes it."""

from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

from limbeck.check import toy_source

GENERATIVE = ("edge", "prior", "prototype_prior")  # methods that draw from a prior
CAPTIONS = [text for sample in toy_source(24).captions for text in sample]


@lru_cache
def tiny_prior(prediction: str = "epsilon", resolution: int = 16) -> str:
    """The folder; made once a process."""
    from limbeck.methods.generative.diffusion.logging_off import logging_off
    from limbeck.methods.generative.diffusion.small import small_pipeline

    folder = Path(mkdtemp(prefix="limbeck-prior-"))
    pipe = small_pipeline(CAPTIONS, resolution, (16, 16), 32, prediction=prediction, length=16)
    with logging_off():
        pipe.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    return str(folder)
