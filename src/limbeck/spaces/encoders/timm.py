"""Any image model of timm (PyTorch Image Models): an optional adapter."""

from dataclasses import asdict, dataclass
from functools import cached_property
from math import floor
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.spaces.hub import optional
from limbeck.spaces.image_like import ImageEncoder
from limbeck.spaces.preprocess import ImageNetwork, Preprocess

__all__ = ["Timm"]


@dataclass(frozen=True)
class Timm(ImageEncoder):
    """The features before the classifier of a pretrained timm model: `timm:NAME`.

    Images are resized, cropped and normalised by the numbers of the model's own data configuration.

    Args:
        name: a model of `timm.list_models(pretrained=True)`, such as `resnet18.a1_in1k`.
        modality: image; or audio or depth, which are seen as grey images.

    Raises:
        ConfigError: no such model, or weights that cannot be fetched.

    Example:
        >>> Timm("resnet18.a1_in1k").describe()
        {'name': 'timm:resnet18.a1_in1k'}
    """

    name: str

    @cached_property
    def dim(self) -> int:
        """Read off the vectors of one probe."""
        device = next(self.network.parameters()).device
        with torch.no_grad():
            return self.encode(self.network, torch.full((1, 3, 64, 64), 0.5, device=device)).shape[1]

    @cached_property
    def licence(self) -> str:
        """As the model's configuration says."""
        network = self.network
        assert isinstance(network, ImageNetwork)
        return str(getattr(network.model, "pretrained_cfg", {}).get("license") or "unknown")

    def identity(self) -> dict[str, Any]:
        """Preprocessing; the name is only a place."""
        network = self.network
        assert isinstance(network, ImageNetwork)
        return {**self.describe(), "name": "timm", "reading": asdict(network.preprocess)}

    def build(self) -> nn.Module:
        """The model without its classifier, behind its preprocessing."""
        timm = optional("timm", "timm", f"the encoder 'timm:{self.name}'")
        try:
            model = timm.create_model(self.name, pretrained=True, num_classes=0)
        except (RuntimeError, OSError) as error:
            raise ConfigError(
                f"timm:{self.name} cannot be made: {error}; see timm.list_models(pretrained=True)"
            ) from error
        numbers = timm.data.resolve_model_data_config(model)
        return ImageNetwork(model, read_preprocess(numbers, self.name), _call)

    def encode_images(self, network: nn.Module, images: Tensor) -> Tensor:
        """Features `[B, dim]` of images `[B, 3, H, W]` in [0, 1]."""
        return network(images)  # type: ignore[no-any-return]


def read_preprocess(numbers: dict[str, Any], name: str) -> Preprocess:
    """The evaluation preprocessing of a timm data configuration.

    With the crop mode `center` the shorter side becomes floor(size / crop_pct); with `squash`, both sides.

    Raises:
        ConfigError: a crop mode or an interpolation that tensors here cannot follow.
    """
    height, width = numbers["input_size"][-2:]
    scaled = (floor(height / numbers["crop_pct"]), floor(width / numbers["crop_pct"]))
    mode, interpolation = numbers.get("crop_mode", "center"), numbers["interpolation"]
    if interpolation not in ("bilinear", "bicubic"):
        raise ConfigError(f"timm:{name} resizes by {interpolation!r}, which tensors here cannot follow")
    if mode not in ("center", "squash") or (mode == "center" and height != width):
        raise ConfigError(f"timm:{name} crops by {mode!r} to {height} x {width}, which tensors here cannot follow")
    size = scaled[0] if mode == "center" else scaled
    return Preprocess(size, (height, width), interpolation, tuple(numbers["mean"]), tuple(numbers["std"]))


def _call(model: nn.Module, images: Tensor) -> Tensor:
    return model(images)  # type: ignore[no-any-return]
