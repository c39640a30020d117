"""Several image encoders, each for itself: a method may serve all of them; whoever reads one vector reads that of the first."""

from dataclasses import dataclass
from functools import cached_property

import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.spaces.build import space
from limbeck.spaces.encoders._several import Several
from limbeck.spaces.space import Encoder

__all__ = ["Pool", "members_of"]


@dataclass(frozen=True)
class Pool(Several):
    """Several encoders of one modality, apart: `pool:efficientnet_lite0+efficientnet_lite2`. The first of them is at home.

    `label_distillation` has a tower and a loss of its own for each member. Methods that learn by one encoder (`cf`, `covmatch`,
    `imagebind_dc`, `kip`, `ncfm`) draw a member at each step; others that learn refuse a pool. Whoever else reads vectors (a rule that
    chooses samples, a student, the nearest real image) reads those of the first member, as if it stood alone. The features of each member are kept in the cache under that member, so that a pool
    encodes nothing that was encoded for one of them.

    Args:
        name: two encoders or more, joined by `+`; each has its default options.
        modality: image; or audio or depth, which are seen as grey images.

    Raises:
        ConfigError: fewer than two encoders, one that is named twice, or one of another modality.

    Example:
        >>> Pool("convnet+efficientnet_lite0").dim
        128
    """

    family = "pool"
    example = "efficientnet_lite0+efficientnet_lite2"

    def __post_init__(self) -> None:
        super().__post_init__()
        nested = [part for part in self.names if part.partition(":")[0] == "pool"]
        if nested:
            raise ConfigError(f"a pool has encoders as its members, no other pool; got {nested[0]!r}")
        _ = self.members  # names are checked now, weights are read later

    @cached_property
    def members(self) -> tuple[Encoder, ...]:
        """The encoders, in the order of their names."""
        return tuple(space(**{self.modality: part})[self.modality] for part in self.names)

    @property
    def dim(self) -> int:
        """That of the first."""
        return self.members[0].dim

    def encode(self, network: nn.Module, values: Tensor) -> Tensor:
        """Vectors `[B, dim]` of the first member."""
        assert isinstance(network, nn.ModuleList)
        return self.members[0].encode(network[0], values)

    def encode_images(self, network: nn.Module, images: Tensor) -> Tensor:
        """As `encode`, of images `[B, 3, H, W]` in [0, 1]."""
        return F.normalize(self.encode(network, images), dim=-1)


def members_of(encoder: Encoder) -> tuple[Encoder, ...]:
    """The members of a pool; of any other encoder itself alone.

    Example:
        >>> [member.describe()["name"] for member in members_of(Pool("convnet+mobilenet_v2"))]
        ['convnet', 'mobilenet_v2']
    """
    return encoder.members if isinstance(encoder, Pool) else (encoder,)
