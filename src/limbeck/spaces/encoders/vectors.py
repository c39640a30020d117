"""Plain vectors as they are: features that were made elsewhere, and made-up data."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from limbeck.errors import ConfigError, DataError
from limbeck.spaces.space import Encoder

__all__ = ["Vectors"]


@dataclass(frozen=True)
class Vectors(Encoder):
    """Vectors brought to unit length and nothing else: `vectors:64` for 64 components.

    Args:
        name: the number of components.
        modality: whose vectors they are; `limbeck.space(audio="vectors:64")` fills it in.

    Raises:
        ConfigError: the number is none.

    Example:
        >>> import torch
        >>> Vectors("2", "audio")(torch.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])
    """

    name: str
    modality: str = "vector"

    licence = "CC0-1.0"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name.isdecimal() or int(self.name) < 1:
            raise ConfigError(f"vectors needs the number of components, as in vectors:64; got {self.name!r}")

    @property
    def reads_vectors(self) -> bool:
        """It does."""
        return True

    @property
    def dim(self) -> int:
        """The number of components."""
        return int(self.name)

    def build(self) -> nn.Module:
        """Nothing that has weights."""
        return nn.Identity()

    def encode(self, network: nn.Module, values: Any) -> Tensor:
        """The vectors `[B, dim]` themselves.

        Raises:
            DataError: they have another shape, or are texts.
        """
        if not isinstance(values, Tensor):
            raise DataError(
                f"the {self.modality} encoder vectors:{self.dim} reads vectors, and these are texts; take an encoder of texts, or "
                "a manifest that holds their vectors (--source.caption_vectors, in Python caption_vectors=)"
            )
        if values.ndim != 2 or values.shape[1] != self.dim:
            found = tuple(values.shape)
            raise DataError(f"the {self.modality} encoder vectors:{self.dim} takes [B, {self.dim}], got {found}")
        return network(values)  # type: ignore[no-any-return]
