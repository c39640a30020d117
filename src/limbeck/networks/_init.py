"""Weights from an explicit generator: networks are laid out without memory, then drawn layer by layer."""

import torch
from torch import Tensor, nn

from limbeck.errors import DataError

__all__ = ["centred", "draw_weights", "square"]


def draw_weights(network: nn.Module, generator: torch.Generator | None) -> None:
    """Gives every layer of a network made on the `meta` device its memory and its initial weights.

    Convolutions: He normal, std = sqrt(2 / fan_in). Linear layers: normal of std 0.02, truncated at two. Norms: scale
    1, shift 0. Biases: 0. Layers are drawn in the order of `modules()`, so equal generators give equal networks.

    Args:
        network: made under `torch.device("meta")`; filled in place, on the CPU.
        generator: where the numbers come from; seed 0 where it is `None`.
    """
    generator = generator or torch.Generator().manual_seed(0)
    network.to_empty(device="cpu")
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, generator=generator)
        elif isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02, a=-0.04, b=0.04, generator=generator)
        elif isinstance(layer, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
            layer.reset_parameters()
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def centred(images: Tensor) -> Tensor:
    """Images in [0, 1] brought to zero centre and a spread near one."""
    return (images - 0.5) / 0.25


def square(images: Tensor, resolution: int, network: str) -> Tensor:
    """The images, if they are of the one size that the network was built for.

    Raises:
        DataError: they are of another size.
    """
    if images.shape[-2:] != (resolution, resolution):
        height, width = images.shape[-2:]
        raise DataError(
            f"{network} was built for {resolution} x {resolution} pixels and got {height} x {width}; "
            f"build it with another resolution, or resize the images"
        )
    return images
