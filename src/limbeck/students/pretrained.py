"""The space's own image encoder as the student's network: pretrained, and trained on."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.spaces import Encoder
from limbeck.spaces.trainable import TrainableEncoder
from limbeck.students.components import PCAWhitener

__all__ = ["Pretrained"]


class Pretrained(nn.Module):
    """A trainable copy of an encoder, whose unit vectors are seen in whitened principal components.

    The components are those of the frozen encoder's features of the training set, and stay as they are. So a student begins where
    the one on frozen features begins, and what it gains is gained by training the encoder.

    Args:
        encoder: of images; it stays frozen itself.
        components: of the features that it gives for the training set.
        ridge: of the whitening.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, encoder: Encoder, components: PCAWhitener, ridge: float) -> None:
        super().__init__()
        self.encoder = TrainableEncoder(encoder)
        self.dim = len(components.variance)
        self.register_buffer("mean", components.mean)
        self.register_buffer("basis", components.whiten(components.mean + torch.eye(len(components.mean)), ridge))

    def forward(self, images: Tensor) -> Tensor:
        """Whitened components `[B, dim]` of images `[B, 3, H, W]` in [0, 1]."""
        return (F.normalize(self.encoder(images), dim=-1) - self.mean) @ self.basis
