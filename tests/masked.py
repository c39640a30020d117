"""The toy source with the exact mask of each square: a small source of images that have masks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.check import toy_source
from limbeck.data import Batch, Captions, Modality, Source

__all__ = ["Masked"]


class Masked(Source):
    """Coloured squares and their masks. Every fifth sample from the second on has none, every fifth from the third an empty one.

    Args:
        n: samples a split.
        here: which of `train`, `val`, `test`.
        modalities: beside the mask.
        resolution: pixels a side.
    """

    licence = "CC0-1.0"

    def __init__(
        self,
        n: int = 24,
        here: str = "train",
        modalities: tuple[str, ...] = ("image", "text", "label"),
        resolution: int = 16,
    ) -> None:
        self.plain = toy_source(n, here, modalities, resolution)
        self.name, self.here, self.classes = f"masked[{here}]", here, self.plain.classes
        self.modalities = {**self.plain.modalities, "mask": Modality("mask", (1, resolution, resolution))}
        self.fingerprint = self.plain.fingerprint[:-4] + "beef"
        half, said = resolution // 2, toy_source(n, here).captions
        self.masks = torch.zeros(n, 1, resolution, resolution)
        for i, (caption, _) in enumerate(said):
            y, x = half * ("bottom" in caption), half * ("right" in caption)
            self.masks[i, :, y : y + half, x : x + half] = 1
        self.masks[2::5] = 0
        self.held = torch.arange(n) % 5 != 1

    def __len__(self) -> int:
        return len(self.plain)

    def batch(self, index: Sequence[int] | Tensor) -> Batch:
        """The samples at `index`; a mask that is absent is given as NaN, which nobody may read."""
        rows = torch.as_tensor(index if isinstance(index, Tensor) else list(index), dtype=torch.long)
        absent = torch.full_like(self.masks, torch.nan)
        masks = torch.where(self.held[:, None, None, None], self.masks, absent)[rows]
        return Batch({**self.plain.batch(rows).values, "mask": masks}, {"mask": self.held[rows]})

    @property
    def keys(self) -> Sequence[str]:
        """Those of the toy source."""
        return self.plain.keys

    @property
    def captions(self) -> Sequence[Captions]:
        """Those of the toy source."""
        return self.plain.captions

    @property
    def labels(self) -> Tensor | None:
        """Those of the toy source."""
        return self.plain.labels

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of the toy source."""
        return self.plain.splits

    def split(self, name: str) -> Source:
        """Another split of the same kind."""
        self.plain.split(name)
        kinds = tuple(m for m in self.modalities if m != "mask")
        return Masked(len(self), name, kinds, self.modalities["image"].shape[-1])

    def describe(self) -> dict[str, Any]:
        """Name, split and options."""
        return {**self.plain.describe(), "name": "masked"}
