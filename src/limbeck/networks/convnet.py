"""ConvNet: the small network of the distillation literature, with a depth that follows the resolution."""

from math import log2

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.networks._init import centred, draw_weights, square

__all__ = ["ConvNet"]


class ConvNet(nn.Module):
    """Blocks of 3x3 convolution, instance norm, ReLU and 2x2 average pooling, until about 4x4 positions are left.

        depth = floor(log2(resolution)) - 2        (3 blocks for 32 pixels, 4 for 64, 5 for 128)

    Average pooling and a norm without running statistics make it twice differentiable and free of state.

    Args:
        resolution: pixels a side that the depth is chosen for, at least 8.
        width: channels of every block.
        pooled: average the last positions (any image size then works) instead of laying them side by side.
        generator: of the initial weights; seed 0 where it is left out.

    Raises:
        ConfigError: a resolution below 8 or a width below 1.

    Example:
        >>> ConvNet(32, width=16)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 256])

    Paper: Gidaris and Komodakis, Dynamic few-shot visual learning without forgetting, CVPR 2018; by resolution:
    Zhao, Mopuri and Bilen, Dataset condensation with gradient matching, ICLR 2021.
    """

    def __init__(
        self, resolution: int, width: int = 128, pooled: bool = False, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        if resolution < 8 or width < 1:
            raise ConfigError(f"a ConvNet needs resolution >= 8 and width >= 1, got {resolution} and {width}")
        depth = int(log2(resolution)) - 2
        side = resolution // 2**depth
        self.resolution, self.pooled = resolution, pooled
        self.dim = width if pooled else width * side * side
        with torch.device("meta"):
            self.blocks = nn.Sequential(*[_block(3 if i == 0 else width, width) for i in range(depth)])
        draw_weights(self, generator)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Features `[B, dim]` of images `[B, 3, H, W]` in [0, 1]."""
        if self.pooled:
            return self.blocks(centred(images)).mean(dim=(2, 3))  # type: ignore[no-any-return]
        return self.blocks(centred(square(images, self.resolution, "this ConvNet"))).flatten(1)  # type: ignore[no-any-return]


def _block(channels: int, width: int) -> nn.Sequential:
    norm = nn.GroupNorm(width, width)  # one group a channel is instance norm
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), norm, nn.ReLU(), nn.AvgPool2d(2))
