"""VGG-11 for small images, with instance norm as in the distillation literature."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.networks._init import centred, draw_weights, square

__all__ = ["VGG11"]

STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))  # channels of the convolutions between two poolings


class VGG11(nn.Module):
    """Eight 3x3 convolutions in five stages, each with instance norm and ReLU; 2x2 max pooling ends a stage.

    The positions that are left are laid side by side, 512 features each: one position from 32 pixels, four from 64. The three wide
    linear layers of the paper are left to the classifier, which is one linear layer. A norm of a single position
    would be zero, so below 32 pixels the poolings that would lead to one are left out, but for the last.

    Args:
        resolution: pixels a side, at least 8.
        generator: of the initial weights; seed 0 where it is left out.

    Raises:
        ConfigError: a resolution below 8.

    Example:
        >>> VGG11(32)(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 512])

    Paper: Simonyan and Zisserman, Very deep convolutional networks for large-scale image recognition, ICLR 2015; the
    norm: Ulyanov, Vedaldi and Lempitsky, Instance normalization, 2016.
    """

    def __init__(self, resolution: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if resolution < 8:
            raise ConfigError(f"a VGG11 needs resolution >= 8, got {resolution}")
        self.resolution = resolution
        layers: list[nn.Module] = []
        side, channels = resolution, 3
        with torch.device("meta"):
            for i, stage in enumerate(STAGES):
                for width in stage:
                    norm = nn.GroupNorm(width, width)  # one group a channel is instance norm
                    layers += [nn.Conv2d(channels, width, 3, padding=1), norm, nn.ReLU()]
                    channels = width
                if side >= 4 or i == len(STAGES) - 1:
                    layers.append(nn.MaxPool2d(2))
                    side //= 2
            self.layers = nn.Sequential(*layers)
        self.dim = channels * side * side
        draw_weights(self, generator)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Features `[B, dim]` of images `[B, 3, resolution, resolution]` in [0, 1]."""
        return self.layers(centred(square(images, self.resolution, "this VGG11"))).flatten(1)  # type: ignore[no-any-return]
