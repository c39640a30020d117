"""Objects and backgrounds: masks of a source, random backgrounds to train on, and backgrounds swapped to test on."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from limbeck.data.source import Source
from limbeck.runtime.cache import Cache
from limbeck.students.inputs import CHUNK, resized_pixels

__all__ = ["backgrounds", "composite", "masks", "swappable", "swapped"]

PATCHES = 4  # colours a side that smooth noise is blended from


def masks(source: Source, resolution: int, cache: Cache) -> UInt8[Tensor, "n 1 r r"] | None:
    """The mask of each sample at one resolution, 255 where the object is; kept in the cache.

    A sample without a mask, or with an empty one, is all object.

    Args:
        source: whose masks.
        resolution: pixels a side.
        cache: where they are kept.

    Returns:
        `None` for a source without masks.
    """
    if "mask" not in source.modalities:
        return None
    held = resized_pixels(source, "mask", resolution, cache)
    result = torch.full((len(source), 1, resolution, resolution), 255, dtype=torch.uint8)
    filled = (held.vectors > 0).flatten(1).any(dim=1)
    result[held.owner[filled]] = held.vectors[filled]
    return result


def backgrounds(count: int, resolution: int, generator: torch.Generator) -> Float[Tensor, "b 3 r r"]:
    """Random backgrounds in [0, 1]: each is, with equal chances, one colour, smooth noise or white noise.

    Args:
        count: how many.
        resolution: pixels a side.
        generator: of the draws.

    Example:
        >>> backgrounds(5, 16, torch.Generator().manual_seed(0)).shape
        torch.Size([5, 3, 16, 16])
    """
    size = (resolution, resolution)
    kind = torch.randint(3, (count,), generator=generator)
    colour = torch.rand(count, 3, 1, 1, generator=generator).expand(-1, -1, *size)
    coarse = torch.rand(count, 3, PATCHES, PATCHES, generator=generator)
    smooth = F.interpolate(coarse, size, mode="bilinear", align_corners=False)
    white = torch.rand(count, 3, *size, generator=generator)
    return torch.stack([colour, smooth, white])[kind, torch.arange(count)]


def composite(images: Tensor, objects: UInt8[Tensor, "b 1 h w"], behind: Tensor) -> Float[Tensor, "b c h w"]:
    """Objects on other backgrounds: `m x + (1 - m) behind`, in [0, 1].

    Args:
        images, behind: `[B, C, H, W]`, `uint8` or float in [0, 1].
        objects: the masks m, 255 where the object is.
    """
    m = _unit(objects)
    return m * _unit(images) + (1 - m) * _unit(behind)


def swappable(objects: UInt8[Tensor, "n 1 r r"]) -> Int[Tensor, " k"]:
    """The samples that have a background to swap: those whose mask leaves some pixel mostly free."""
    return (objects.flatten(1) < 128).any(dim=1).nonzero().squeeze(1)


def swapped(
    images: UInt8[Tensor, "n c r r"], objects: UInt8[Tensor, "n 1 r r"], generator: torch.Generator
) -> UInt8[Tensor, "n c r r"]:
    """Each object on the background of another of the images, drawn so that each serves once.

    Where the other image's own object stood, its background is continued from around it: averages of the free pixels of a
    neighbourhood, as small as one that holds free pixels can be (a pyramid of halved images, filled from the coarse end).

    Args:
        images: two or more.
        objects: their masks, 255 where the object is, each leaving some pixel free.
        generator: of the draw.

    Paper: the filling: Gortler, Grzeszczuk, Szeliski and Cohen, The lumigraph, SIGGRAPH 1996 (push-pull).
    """
    order = torch.randperm(len(images), generator=generator)
    donor = torch.empty_like(order)
    donor[order] = order.roll(1)  # one cycle through all: nobody is its own donor
    parts = []
    for rows in torch.arange(len(images)).split(CHUNK):
        free = 1 - _unit(objects[donor[rows]])
        behind = _continued(_unit(images[donor[rows]]) * free, free)
        parts.append(composite(images[rows], objects[rows], behind).mul(255).round().byte())
    return torch.cat(parts)


def _continued(total: Tensor, weight: Tensor) -> Tensor:
    """Colours everywhere, of `total = weight * colours`: where the weight is below 1 the rest comes from half the resolution."""
    if weight.shape[-1] == 1:
        return total / weight.clamp(min=1e-6)
    coarse = _continued(*(F.avg_pool2d(x, 2, ceil_mode=True) for x in (total, weight)))
    behind = F.interpolate(coarse, weight.shape[-2:], mode="bilinear", align_corners=False)
    return total + (1 - weight) * behind


def _unit(x: Tensor) -> Tensor:
    return x.float() / 255 if x.dtype == torch.uint8 else x
