"""Several image encoders at once, as one: what is distilled in it must serve all of their architectures."""

from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.spaces.build import space
from limbeck.spaces.encoders._several import Several
from limbeck.spaces.space import Encoder

__all__ = ["Ensemble"]


@dataclass(frozen=True)
class Ensemble(Several):
    """The unit vectors of several image encoders side by side: `ensemble:efficientnet_lite0+mobilenet_v2`.

    Each of the n is divided by sqrt(n), so that the whole has length 1 and a cosine is the mean of theirs. A set that
    is distilled in this space can be judged in the space of each one, or of an encoder that was not among them.

    Args:
        name: two encoders or more, joined by `+`; each has its default options.
        modality: image; or audio or depth, which are seen as grey images.

    Raises:
        ConfigError: fewer than two encoders, or one that is named twice.

    Example:
        >>> Ensemble("convnet+efficientnet_lite0").dim
        1408
    """

    family = "ensemble"
    example = "efficientnet_lite0+mobilenet_v2"

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.members  # names are checked now, weights are read later

    @cached_property
    def members(self) -> tuple[Encoder, ...]:
        """The encoders, in the order of their names."""
        return tuple(space(image=part)["image"] for part in self.names)

    @property
    def dim(self) -> int:
        """The sum of theirs."""
        return sum(member.dim for member in self.members)

    def encode_images(self, network: nn.Module, images: Tensor) -> Tensor:
        """Vectors `[B, dim]` of images `[B, 3, H, W]` in [0, 1]."""
        assert isinstance(network, nn.ModuleList)
        pairs = zip(self.members, network, strict=True)
        parts = [F.normalize(member.encode(its, images), dim=-1) for member, its in pairs]
        return torch.cat(parts, dim=-1) / sqrt(len(parts))
