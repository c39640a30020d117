"""Bag of words: random word vectors, summed. No weights to fetch; the weakest reasonable baseline for text."""

import re
import zlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.spaces.space import Encoder

__all__ = ["BagOfWords"]


@dataclass(frozen=True)
class BagOfWords(Encoder):
    """The mean of random word vectors: similar exactly as far as two texts share words.

    Args:
        width: components of a vector D.
        buckets: rows of the table that words are hashed into.
        seed: of the table.

    Example:
        >>> a, b, c = BagOfWords()(["a red cat", "A red dog", "jet engines roar"])
        >>> bool(a @ b > a @ c)
        True
    """

    width: int = 256
    buckets: int = 16384
    seed: int = 0

    modality = "text"
    licence = "CC0-1.0"

    @property
    def dim(self) -> int:
        """`width`."""
        return self.width

    def build(self) -> nn.Module:
        """The table, drawn from the seed; its last row is that of an empty text."""
        table = torch.randn(self.buckets + 1, self.width, generator=torch.Generator().manual_seed(self.seed))
        return nn.EmbeddingBag.from_pretrained(table, mode="mean")

    def encode(self, network: nn.Module, values: Any) -> Tensor:
        """Means `[B, D]` of B strings."""
        bags = [
            [zlib.crc32(word.encode()) % self.buckets for word in re.findall(r"\w+", text.lower())] for text in values
        ]
        bags = [bag or [self.buckets] for bag in bags]
        device = next(network.parameters()).device
        words = torch.tensor([word for bag in bags for word in bag], dtype=torch.long, device=device)
        starts = torch.tensor([0, *(len(bag) for bag in bags[:-1])], dtype=torch.long, device=device).cumsum(0)
        return network(words, starts[: len(bags)])  # type: ignore[no-any-return]
