"""A pretrained encoder as a network that is trained: the student and the expert of the papers."""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from limbeck.errors import ConfigError
from limbeck.spaces.image_like import IMAGE_LIKE
from limbeck.spaces.space import Encoder

__all__ = ["TrainableEncoder"]


class TrainableEncoder(nn.Module):
    """A copy of an encoder's network, with its pretrained weights, all of them trainable.

    Parameters are named `network.*` and are those that the vectors depend on; the others (a classifier behind the
    features, the table of word vectors where tokens are given as vectors) are buffers. The network stays in eval mode:
    dropout is off and batch norms use the statistics that they came with, so that a step is a function of its batch.

    Args:
        encoder: whose network to copy; it stays frozen itself.

    Raises:
        ConfigError: nothing in the network can be trained.

    Example:
        >>> import limbeck as lb
        >>> tower = TrainableEncoder(lb.space(image="convnet")["image"])
        >>> tower(torch.rand(2, 3, 32, 32)).shape, tower.dim
        (torch.Size([2, 128]), 128)
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.network = copy.deepcopy(encoder.network).requires_grad_(True)
        self.dim = encoder.dim
        self._encoder = replace(encoder)  # the options alone: a copy of this module must not copy the frozen network
        self._keep_what_moves(self._probe(encoder))
        self.eval()

    def forward(self, values: Tensor) -> Tensor:
        """Vectors `[B, D]`, not of unit length, of images `[B, 3, H, W]` in [0, 1] or of tokens `[B, L, E]`."""
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            return self._encoder.encode(self.network, values)

    def train(self, mode: bool = True) -> "TrainableEncoder":
        """Stays in eval mode, see above."""
        return super().train(False)

    def _probe(self, encoder: Encoder) -> Tensor:
        if encoder.modality in IMAGE_LIKE:
            return torch.full((1, 3, 64, 64), 0.5, device=_device(self.network))
        return encoder.tokens(["a photo"], 8)

    def _keep_what_moves(self, probe: Tensor) -> None:
        """Turns the parameters that the vectors do not depend on into buffers."""
        named = [(name, value) for name, value in self.network.named_parameters() if value.is_floating_point()]
        total = self(probe).sum()
        moving: tuple[Any, ...] = (None,) * len(named)
        if named and total.requires_grad:
            moving = torch.autograd.grad(total, [value for _, value in named], allow_unused=True)
        if all(gradient is None for gradient in moving):
            raise ConfigError(
                f"the encoder {self._encoder.describe()['name']!r} has no weights that its vectors depend on "
                "differentiably, so it cannot be trained; choose another encoder, or a frozen one"
            )
        for (name, value), gradient in zip(named, moving, strict=True):
            if gradient is None:
                path, _, leaf = name.rpartition(".")
                owner = self.network.get_submodule(path)
                delattr(owner, leaf)
                owner.register_buffer(leaf, value.detach())


def _device(network: nn.Module) -> torch.device:
    first = next(network.parameters(), None)
    return torch.device("cpu") if first is None else first.device
