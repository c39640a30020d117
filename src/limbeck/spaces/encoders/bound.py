"""One modality of a bound space: a frozen encoder with the head that `limbeck bind` trained on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.data.trust import check_named
from limbeck.errors import ConfigError, StorageError
from limbeck.spaces.build import space
from limbeck.spaces.heads import made_of, read_heads, read_manifest
from limbeck.spaces.space import Encoder

__all__ = ["Bound"]


@dataclass(frozen=True)
class Bound(Encoder):
    """An encoder with a head that binds it to other modalities: `bound:FOLDER`, the folder that `limbeck bind` wrote.

    The vectors of all modalities of a folder have one dimension and can be compared. Gradients pass head and encoder.

    Args:
        name: the folder.
        modality: which of its modalities; `limbeck.space(image=..., text=...)` fills it in.

    Raises:
        StorageError: the folder holds no bound space, or not the one that was written.
        ConfigError: the space has no such modality.
    """

    name: str
    modality: str = "image"

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the folder says of itself."""
        manifest = read_manifest(Path(self.name).expanduser())
        if self.modality not in manifest["encoders"]:
            held = ", ".join(manifest["encoders"])
            raise ConfigError(f"the bound space {self.name} has no {self.modality}; it has {held}")
        return manifest

    @cached_property
    def member(self) -> Encoder:
        """The frozen encoder below the head.

        Raises:
            ConfigError: it lies elsewhere, the space was not made here, and nobody allowed it.
        """
        named = {self.modality: self.manifest["encoders"][self.modality]}
        instead = "bind a space of your own"
        check_named(f"the bound space {self.name}", made_of(self.manifest), "encoder", named, instead)
        return space(**named)[self.modality]

    @property
    def base(self) -> Encoder:
        """The frozen encoder below the head."""
        return self.member

    @property
    def reads_vectors(self) -> bool:
        """As of the encoder below."""
        return self.member.reads_vectors

    @property
    def parts(self) -> tuple[Encoder, ...]:
        """Those of the encoder below the head."""
        return self.member.parts

    @property
    def dim(self) -> int:
        """Components of the common space."""
        return int(self.manifest["dim"])

    @property
    def licence(self) -> str:
        """Those of all members, as an SPDX expression, the strictest among them: each head was trained on all of them."""
        return " AND ".join(sorted(set(self.manifest["licences"].values())))

    def identity(self) -> dict[str, Any]:
        """The encoder below; the folder is only a place."""
        return {"name": "bound", "modality": self.modality, "encoder": self.member.identity()}

    def build(self) -> nn.Module:
        """The network of the encoder and the head."""
        head = read_heads(Path(self.name).expanduser(), self.manifest)[self.modality]
        if self.member.fingerprint != self.manifest["fingerprints"][self.modality]:
            raise StorageError(
                f"the {self.modality} encoder {self.member.describe()['name']!r} has other weights or options than when "
                f"{self.name} was bound; restore them, or bind again"
            )
        return nn.ModuleDict({"encoder": self.member.network, "head": head})

    def encode(self, network: nn.Module, values: Any) -> Tensor:
        """Vectors `[B, dim]` of what the encoder reads."""
        assert isinstance(network, nn.ModuleDict)
        features = F.normalize(self.member.encode(network["encoder"], values).float(), dim=-1)
        return network["head"](features)  # type: ignore[no-any-return]

    def tokens(self, strings: Sequence[str], length: int) -> Float[Tensor, "b {length} e"]:
        """As of the encoder."""
        return self.member.tokens(strings, length)
