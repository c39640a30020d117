"""Several image encoders at once, as one: what is distilled in it must serve all of their architectures."""

from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.spaces.build import space
from limbeck.spaces.pictures import ImageEncoder
from limbeck.spaces.space import Encoder

__all__ = ["Ensemble"]


@dataclass(frozen=True)
class Ensemble(ImageEncoder):
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

    name: str

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = self.name.split("+")
        if len(parts) < 2 or len(set(parts)) < len(parts):
            raise ConfigError(
                f"an ensemble is two different encoders or more, as in ensemble:efficientnet_lite0+mobilenet_v2; "
                f"got {self.name!r}"
            )
        _ = self.members  # names are checked now, weights are read later

    @cached_property
    def members(self) -> tuple[Encoder, ...]:
        """The encoders, in the order of their names."""
        return tuple(space(image=part)["image"] for part in self.name.split("+"))

    @property
    def dim(self) -> int:
        """The sum of theirs."""
        return sum(member.dim for member in self.members)

    @property
    def licence(self) -> str:
        """All of theirs, as an SPDX expression."""
        return " AND ".join(sorted({member.licence for member in self.members}))

    def identity(self) -> dict[str, Any]:
        """What decides the vectors of each."""
        return {**self.describe(), "name": "ensemble", "members": [member.identity() for member in self.members]}

    def build(self) -> nn.Module:
        """The networks of all."""
        return nn.ModuleList([member.network for member in self.members])

    def encode_images(self, network: nn.Module, images: Tensor) -> Tensor:
        """Vectors `[B, dim]` of images `[B, 3, H, W]` in [0, 1]."""
        assert isinstance(network, nn.ModuleList)
        pairs = zip(self.members, network, strict=True)
        parts = [F.normalize(member.encode(its, images), dim=-1) for member, its in pairs]
        return torch.cat(parts, dim=-1) / sqrt(len(parts))
