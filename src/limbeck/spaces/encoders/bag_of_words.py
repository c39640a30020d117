"""Bag of words: random word vectors, summed. No weights to fetch; the weakest reasonable baseline for text."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
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
        """Means `[B, D]` of B strings, or of B texts as word vectors `[B, L, D]`."""
        if isinstance(values, Tensor):
            is_word = (values.detach() != 0).any(-1, keepdim=True)
            return (values * is_word).sum(1) / is_word.sum(1).clamp(min=1)
        bags = self._bags(values)
        device = next(network.parameters()).device
        words = torch.tensor([word for bag in bags for word in bag], dtype=torch.long, device=device)
        starts = torch.tensor([0, *(len(bag) for bag in bags[:-1])], dtype=torch.long, device=device).cumsum(0)
        return network(words, starts[: len(bags)])  # type: ignore[no-any-return]

    def tokens(self, strings: Sequence[str], length: int) -> Float[Tensor, "b {length} e"]:
        """Word vectors `[B, length, D]` of B strings, zeros behind them."""
        table: Tensor = self.network.weight  # type: ignore[assignment]
        rows = [table[bag[:length]] for bag in self._bags(strings)]
        return torch.stack([F.pad(row, (0, 0, 0, length - len(row))) for row in rows])

    def _bags(self, strings: Sequence[str]) -> list[list[int]]:
        """The rows of the table that each text reads."""
        words = [re.findall(r"\w+", text.lower()) for text in strings]
        return [[zlib.crc32(word.encode()) % self.buckets for word in text] or [self.buckets] for text in words]
