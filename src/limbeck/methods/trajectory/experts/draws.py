"""What a segment draws: its expert, the batches of its student, and how their pairs are mixed."""

from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

__all__ = ["Mix", "chunks", "draw", "mix"]

Mix: TypeAlias = tuple[Tensor, float]


def draw(rng: torch.Generator, count: int) -> int:
    """A number from 0 to `count - 1`."""
    return int(torch.randint(count, (), generator=rng))


def chunks(pairs: int, size: int, steps: int, rng: torch.Generator) -> list[Tensor]:
    """The synthetic pairs of each step: chunks of a permutation, drawn anew when too few are left.

    Args:
        pairs: in the set.
        size: pairs a step; 0 takes all.
        steps: how many.
        rng: of the permutations.

    Example:
        >>> [len(chunk) for chunk in chunks(5, 2, 3, torch.Generator().manual_seed(0))]
        [2, 2, 2]
    """
    size, queue, batches = size or pairs, torch.zeros(0, dtype=torch.long), []
    for _ in range(steps):
        if len(queue) < size:
            queue = torch.randperm(pairs, generator=rng)
        batches.append(queue[:size])
        queue = queue[size:]
    return batches


def mix(size: int, blend: float, rng: torch.Generator) -> Mix | None:
    """RepBlend's mixture of a batch: a permutation, and a weight from Beta(blend, blend); `None` where blend is 0."""
    if not blend:
        return None
    seed = int(torch.randint(2**31, (), generator=rng))
    return torch.randperm(size, generator=rng), float(np.random.default_rng(seed).beta(blend, blend))
