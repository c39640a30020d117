"""A random ConvNet: features without any training, for tests and as the weakest reasonable baseline."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.networks.convnet import ConvNet as Network
from limbeck.spaces.image_like import ImageEncoder
from limbeck.spaces.preprocess import resize

__all__ = ["ConvNet"]


@dataclass(frozen=True)
class ConvNet(ImageEncoder):
    """A ConvNet with random weights; its depth follows the resolution.

    Args:
        resolution: pixels a side; images of another size are resized to it (bilinear, antialiased).
        width: channels of every block.
        seed: of the weights.
        pooled: average the last positions (`width` features) instead of laying them side by side.
        modality: image; or audio or depth, which are seen as grey images.

    Example:
        >>> ConvNet(resolution=16, width=8)(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 8])
    """

    resolution: int = 32
    width: int = 128
    seed: int = 0
    pooled: bool = True

    licence = "CC0-1.0"

    @property
    def dim(self) -> int:
        """`width` where pooled, else `width` times the last positions."""
        return self.width if self.pooled else self.network.dim  # type: ignore[return-value]

    def build(self) -> nn.Module:
        """The network, drawn from the seed."""
        generator = torch.Generator().manual_seed(self.seed)
        return Network(self.resolution, self.width, self.pooled, generator)

    def encode_images(self, network: nn.Module, images: Tensor) -> Tensor:
        """Features `[B, dim]` of images `[B, 3, H, W]` in [0, 1]."""
        return network(resize(images, (self.resolution, self.resolution)))  # type: ignore[no-any-return]
