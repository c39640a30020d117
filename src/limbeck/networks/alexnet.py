"""AlexNet for small images: five convolutions without a norm."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.networks._init import centred, draw_weights, square

__all__ = ["AlexNet"]


class AlexNet(nn.Module):
    """Five convolutions (128, 192, 256, 192, 192 channels) with ReLU; max pooling after the first, the second and the last.

    The first one's stride grows with the image, so that it leaves about 32 positions a side, and its kernel with the stride:

        stride = max(1, floor(resolution / 32)),    kernel = 2 stride + 3

    That is 5x5 at stride 1 for 32 pixels, as the distillation literature has it, and 11x11 at stride 4 for 128, as the
    paper has it. 4x4 positions are left from each, laid side by side: 3072 features. The wide linear layers with
    dropout are left to the classifier, which is one linear layer; there is no norm, local or other.

    Args:
        resolution: pixels a side, at least 8.
        generator: of the initial weights; seed 0 where it is left out.

    Raises:
        ConfigError: a resolution below 8.

    Example:
        >>> AlexNet(32)(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 3072])

    Paper: Krizhevsky, Sutskever and Hinton, ImageNet classification with deep convolutional neural networks, NIPS 2012;
    for small images: Zhao, Mopuri and Bilen, Dataset condensation with gradient matching, ICLR 2021.
    """

    def __init__(self, resolution: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if resolution < 8:
            raise ConfigError(f"an AlexNet needs resolution >= 8, got {resolution}")
        self.resolution = resolution
        stride = max(1, resolution // 32)
        side = (resolution - 1) // stride + 1
        with torch.device("meta"):
            self.layers = nn.Sequential(
                *_layer(3, 128, 2 * stride + 3, stride),
                nn.MaxPool2d(2),
                *_layer(128, 192, 5),
                nn.MaxPool2d(2),
                *_layer(192, 256, 3),
                *_layer(256, 192, 3),
                *_layer(192, 192, 3),
                nn.MaxPool2d(2),
            )
        self.dim = 192 * (side // 8) ** 2
        draw_weights(self, generator)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Features `[B, dim]` of images `[B, 3, resolution, resolution]` in [0, 1]."""
        return self.layers(centred(square(images, self.resolution, "this AlexNet"))).flatten(1)  # type: ignore[no-any-return]


def _layer(channels: int, width: int, kernel: int, stride: int = 1) -> tuple[nn.Conv2d, nn.ReLU]:
    return nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2), nn.ReLU()
