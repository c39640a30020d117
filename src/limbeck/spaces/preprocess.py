"""Images and depth to what a network expects, on tensors and differentiably: resize, crop, normalise, invert."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "ImageNetwork",
    "Patches",
    "Preprocess",
    "centre_crop",
    "disparity",
    "log_depth",
    "normalise",
    "resize",
]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
Interpolation = Literal["bilinear", "bicubic"]


def resize(
    images: Float[Tensor, "b c h w"], size: int | tuple[int, int], interpolation: Interpolation = "bilinear"
) -> Float[Tensor, "b c h2 w2"]:
    """Images at another size, antialiased, as Pillow's filters of the same names do it.

    Bicubic results are clipped to [0, 1], as those of 8-bit pixels are.

    Args:
        images: `[B, C, H, W]` in [0, 1].
        size: height and width, or the length of the shorter side (the longer one keeps the aspect, rounded down).
        interpolation: the filter.

    Example:
        >>> resize(torch.rand(1, 3, 40, 60), 20).shape
        torch.Size([1, 3, 20, 30])
    """
    height, width = images.shape[-2:]
    if isinstance(size, int):
        short = min(height, width)
        size = (size * height // short, size * width // short)
    if size == (height, width):
        return images
    resized = F.interpolate(images, size, mode=interpolation, align_corners=False, antialias=True)
    return resized.clamp(0, 1) if interpolation == "bicubic" else resized


def centre_crop(images: Float[Tensor, "b c h w"], height: int, width: int) -> Float[Tensor, "b c {height} {width}"]:
    """The middle of the images; black is added where they are smaller. An odd remainder is cut at the far side.

    Example:
        >>> centre_crop(torch.rand(1, 3, 40, 60), 30, 70).shape
        torch.Size([1, 3, 30, 70])
    """
    rows, columns = images.shape[-2] - height, images.shape[-1] - width
    top, left = rows // 2, columns // 2
    return F.pad(images, (-left, left - columns, -top, top - rows))


def normalise(
    images: Float[Tensor, "b c h w"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Tensor, "b c h w"]:
    """`(images - mean) / std` for each channel."""
    shape = (1, -1, 1, 1)
    centre, spread = torch.tensor(mean).view(shape), torch.tensor(std).view(shape)
    return (images - centre.to(images)) / spread.to(images)


def disparity(depth: Float[Tensor, "b 1 h w"], near: float = 0.5) -> Float[Tensor, "b 1 h w"]:
    """Normalised disparity in [0, 1]: `near / max(depth, near)`, and 0 where there is no reading.

    What is nearer than `near` counts as `near`, and gets no gradient; nor does what is no reading.

    Args:
        depth: `[B, 1, H, W]` in metres; 0 is no reading.
        near: metres.

    Example:
        >>> disparity(torch.tensor([[[[0.0, 0.25, 1.0, 5.0]]]])).tolist()
        [[[[0.0, 1.0, 0.5, 0.10000000149011612]]]]
    """
    held = depth > 0
    return torch.where(held, near / torch.where(held, depth, near).clamp(min=near), 0.0)


def log_depth(depth: Float[Tensor, "b 1 h w"], near: float = 0.5, far: float = 10.0) -> Float[Tensor, "b 1 h w"]:
    """Clipped log depth in [0, 1], 1 at `near` and 0 at `far` as disparity has it, and 0 where there is no reading.

        1 - log(clip(depth, near, far) / near) / log(far / near)

    Args:
        depth: `[B, 1, H, W]` in metres; 0 is no reading.
        near, far: metres; beyond them there is no gradient.

    Example:
        >>> [round(x, 3) for x in log_depth(torch.tensor([[[[0.0, 0.25, 1.0, 20.0]]]])).flatten().tolist()]
        [0.0, 1.0, 0.769, 0.0]
    """
    held = depth > 0
    share = (torch.where(held, depth, far).clamp(near, far) / near).log() / log(far / near)
    return torch.where(held, 1 - share, 0.0)


@dataclass(frozen=True)
class Preprocess:
    """Resize, centre crop, normalise: what an image processor does, on tensors `[B, 3, H, W]` in [0, 1].

    Args:
        size: height and width, or the shorter side; `None` leaves the images as they are.
        crop: height and width of the centre crop; `None` for none.
        interpolation: of the resizing.
        mean, std: of each channel.

    Example:
        >>> Preprocess(size=32, crop=(24, 24))(torch.rand(2, 3, 40, 60)).shape
        torch.Size([2, 3, 24, 24])
    """

    size: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def __call__(self, images: Tensor) -> Tensor:
        """The images as the network expects them."""
        if self.size is not None:
            images = resize(images, self.size, self.interpolation)
        if self.crop is not None:
            images = centre_crop(images, *self.crop)
        return normalise(images, self.mean, self.std)


@dataclass(frozen=True)
class Patches:
    """Resize to at most so many patches, normalise, cut: what a NaFlex image processor does, on `[B, 3, H, W]` in [0, 1].

    Height and width become multiples of the patch, by the largest common scale of which the patches are not too many.

    Args:
        patch: pixels a side.
        most: patches of an image; fewer are padded with zeros and masked.
        interpolation: of the resizing.
        mean, std: of each channel.

    Paper: Tschannen et al., SigLIP 2: multilingual vision-language encoders, 2025.

    Example:
        >>> found = Patches(8, 20)(torch.rand(2, 3, 40, 60))
        >>> found["pixel_values"].shape, found["spatial_shapes"][0].tolist()
        (torch.Size([2, 20, 192]), [4, 5])
    """

    patch: int = 16
    most: int = 256
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Patches down and across of an image of that size.

        Example:
            >>> Patches(16, 256).grid(480, 640)
            (14, 18)
        """

        def at(scale: float) -> tuple[int, int]:
            rows, columns = (max(1, ceil(side * scale / self.patch)) for side in (height, width))
            return rows, columns

        low, high = 1e-6, 100.0
        while high - low >= 1e-5:  # the reference stops so, too
            middle = (low + high) / 2
            rows, columns = at(middle)
            low, high = (middle, high) if rows * columns <= self.most else (low, middle)
        return at(low)

    def __call__(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """What the model takes: values of patches, which of them are real, and how many lie down and across."""
        rows, columns = self.grid(*images.shape[-2:])
        side, batch = self.patch, len(images)
        scaled = resize(images, (rows * side, columns * side), self.interpolation)
        cut = normalise(scaled, self.mean, self.std).unflatten(3, (columns, side)).unflatten(2, (rows, side))
        values = cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, -1)
        mask = torch.zeros(batch, self.most, dtype=torch.int64, device=images.device)
        mask[:, : rows * columns] = 1
        return {
            "pixel_values": F.pad(values, (0, 0, 0, self.most - rows * columns)),
            "pixel_attention_mask": mask,
            "spatial_shapes": torch.tensor([[rows, columns]] * batch, device=images.device),
        }


class ImageNetwork(nn.Module):
    """A pretrained network behind its preprocessing.

    Args:
        model: the network.
        preprocess: of images in [0, 1].
        pool: from the model and what the preprocessing gave to vectors `[B, D]`.
    """

    def __init__(
        self, model: nn.Module, preprocess: Preprocess | Patches, pool: Callable[[nn.Module, Any], Tensor]
    ) -> None:
        super().__init__()
        self.model, self.preprocess, self.pool = model, preprocess, pool

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Vectors `[B, D]` of images `[B, 3, H, W]` in [0, 1]."""
        return self.pool(self.model, self.preprocess(images))
