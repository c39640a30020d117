"""How many bytes a sample will take in files, before there is a set: what a budget in bytes is divided by."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from limbeck.core.codec import exact_bytes, vector_bytes

if TYPE_CHECKING:
    from limbeck.core.problem import Problem

__all__ = ["image_bytes", "text_bytes"]

LOOKED_AT = 64  # real samples whose files are encoded to estimate the bytes of all
NEAREST = 3  # captions named for a sample
MOVED = 12  # letters of how far a learned text has moved
LEARNED = 1.5  # times the bytes of a real image does a learned one take in a lossy codec, about


def text_bytes(problem: "Problem", learned: bool, tokens: int, captions: int) -> float:
    """Of the text of one sample, as vector or as strings, and of the captions that are nearest to it.

    Args:
        problem: whose texts.
        learned, tokens, captions: see `Problem.sample_bytes`.
    """
    letters = sum(len(caption.encode()) for caption in problem.captions)
    mean = letters / max(len(problem.captions), 1)
    if learned or "text" in problem.source.embeddings:
        encoder = problem.space["text"]
        rows = encoder.tokens(["a"], tokens)[0] if tokens else torch.empty(1, encoder.dim)
        return len(rows) * vector_bytes(problem.storage.vectors, rows.shape[-1]) + (1 + NEAREST) * mean + MOVED
    own = captions * mean if captions else letters / max(sum(map(bool, problem.source.captions)), 1)
    return own + NEAREST * mean


def image_bytes(problem: "Problem", held: Tensor, real: bool) -> float:
    """Of one image: the most that exact codecs take, else the mean of some real ones.

    Args:
        problem: whose images, and how they are stored.
        held: `int64`, the samples that have one.
        real: whether it is one of a real sample.
    """
    channels, height, width = problem.source.modalities["image"].shape
    if problem.budget.pixels == "float32":
        return 4 * channels * height * width + exact_bytes(channels, height, width)
    if not (real or problem.storage.lossy):
        return exact_bytes(channels, height, width)
    some = held[torch.linspace(0, len(held) - 1, min(len(held), LOOKED_AT)).long()]
    mean = problem.once(("bytes", problem.storage), lambda: problem.stored_images(some).nbytes / len(some))
    return mean if real else LEARNED * mean
