"""ResNet-18, with a stem for small images where they are small."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.networks._init import centred, draw_weights

__all__ = ["ResNet18"]


class ResNet18(nn.Module):
    """Four stages of two residual blocks (64, 128, 256, 512 channels), average-pooled: 512 features.

        y = relu(bn(conv(relu(bn(conv(x))))) + shortcut(x))

    Up to 64 pixels the stem is one 3x3 convolution of stride 1, else the 7x7 convolution of stride 2 and the max
    pooling of the paper.

    Args:
        resolution: pixels a side that the stem is chosen for, at least 8; images of other sizes pass, too.
        generator: of the initial weights; seed 0 where it is left out.

    Raises:
        ConfigError: a resolution below 8.

    Example:
        >>> ResNet18(32).eval()(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 512])

    Paper: He, Zhang, Ren and Sun, Deep residual learning for image recognition, CVPR 2016.
    """

    dim = 512

    def __init__(self, resolution: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if resolution < 8:
            raise ConfigError(f"a ResNet18 needs resolution >= 8, got {resolution}")
        with torch.device("meta"):
            small = resolution <= 64
            first = nn.Conv2d(3, 64, 3, 1, 1, bias=False) if small else nn.Conv2d(3, 64, 7, 2, 3, bias=False)
            pool = nn.Identity() if small else nn.MaxPool2d(3, 2, 1)
            self.stem = nn.Sequential(first, nn.BatchNorm2d(64), nn.ReLU(), pool)
            stages = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
            blocks = [(_Block(old, new, stride), _Block(new, new, 1)) for old, new, stride in stages]
            self.blocks = nn.Sequential(*[block for pair in blocks for block in pair])
        draw_weights(self, generator)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 512"]:
        """Features `[B, 512]` of images `[B, 3, H, W]` in [0, 1]."""
        return self.blocks(self.stem(centred(images))).mean(dim=(2, 3))  # type: ignore[no-any-return]


class _Block(nn.Module):
    def __init__(self, old: int, new: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(old, new, 3, stride, 1, bias=False), nn.BatchNorm2d(new))
        self.second = nn.Sequential(nn.Conv2d(new, new, 3, 1, 1, bias=False), nn.BatchNorm2d(new))
        same = stride == 1 and old == new
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(old, new, 1, stride, bias=False), nn.BatchNorm2d(new))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))
