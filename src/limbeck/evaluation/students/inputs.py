"""What a student reads of a source: feature rows or pixels, and the sample that each belongs to."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.data.cache import Cache, digest
from limbeck.data.source import Source
from limbeck.spaces import Features
from limbeck.spaces.preprocess import resize

__all__ = ["Side", "pixels", "shaken", "side_of"]

CHUNK = 256  # images decoded at a time


@dataclass(frozen=True)
class Side:
    """One modality of the samples that take part: which rows each sample may draw from.

    Args:
        values: `[R, ...]`, features or `uint8` pixels.
        start, count: `int64 [n]`, the rows of each sample are `start` to `start + count - 1`.
    """

    values: Tensor
    start: Tensor
    count: Tensor

    def draw(self, samples: Tensor, generator: torch.Generator) -> Tensor:
        """One row of each of `samples`, uniformly: `int64`."""
        pick = torch.rand(len(samples), generator=generator) * self.count[samples]
        return self.start[samples] + pick.long().clamp(max=int(self.count.max()) - 1)


def side_of(features: Features, samples: Tensor, total: int) -> Side:
    """The side of a modality whose features are given.

    Args:
        features: of the whole source.
        samples: `int64 [n]`, the samples that take part.
        total: samples of the source.
    """
    return Side(features.vectors, features.first(total)[samples], features.counts(total)[samples])


def pixels(source: Source, resolution: int, cache: Cache) -> Tensor:
    """Every image of the source at one resolution, `uint8 [N, 3, R, R]`; kept in the cache."""

    def read() -> dict[str, Tensor]:
        parts = [torch.zeros(0, 3, resolution, resolution, dtype=torch.uint8)]
        for start in range(0, len(source), CHUNK):
            image = source.batch(range(start, min(start + CHUNK, len(source))))["image"]
            parts.append(resize(image, (resolution, resolution)).clamp(0, 1).mul(255).round().byte())
        return {"image": torch.cat(parts)}

    return cache.tensors("pixels", digest(source.fingerprint, resolution), read)["image"]


def shaken(images: Tensor, generator: torch.Generator) -> Tensor:
    """Light augmentation: each image mirrored with probability 1/2, all moved by up to an eighth of their side.

    Args:
        images: `[B, 3, R, R]`, `uint8` or float.
        generator: of the draws.
    """
    mirrored = torch.rand(len(images), generator=generator).to(images.device) < 0.5
    images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    size = images.shape[-1]
    reach = size // 8
    top, left = torch.randint(2 * reach + 1, (2,), generator=generator).tolist()
    padded = nn.functional.pad(images.float(), [reach] * 4, mode="replicate")
    return padded[..., top : top + size, left : left + size].to(images.dtype)
