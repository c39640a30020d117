"""What encoders share that are made of several."""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from torch import nn

from limbeck.errors import ConfigError
from limbeck.spaces.image_like import ImageEncoder
from limbeck.spaces.space import Encoder

__all__ = ["Several"]


@dataclass(frozen=True)
class Several(ImageEncoder):
    """Two encoders or more, whose names are joined by `+`; each has its default options.

    Attributes:
        family: its name in the registry.
        example: of a name, in errors.
    """

    name: str

    family: ClassVar[str]
    example: ClassVar[str]

    def __post_init__(self) -> None:
        super().__post_init__()
        parts = self.names
        if len(parts) < 2 or len(set(parts)) < len(parts):
            article = "an" if self.family[0] in "aeiou" else "a"
            raise ConfigError(
                f"{article} {self.family} is two different encoders or more, as in {self.family}:{self.example}; got {self.name!r}"
            )

    @property
    def names(self) -> list[str]:
        """The names of the members."""
        return self.name.split("+")

    @cached_property
    @abstractmethod
    def members(self) -> tuple[Encoder, ...]:
        """The encoders, in the order of their names."""

    @property
    def licence(self) -> str:
        """All of theirs, as an SPDX expression."""
        return " AND ".join(sorted({member.licence for member in self.members}))

    def identity(self) -> dict[str, Any]:
        """What decides the vectors of each."""
        return {**self.describe(), "name": self.family, "members": [member.identity() for member in self.members]}

    def build(self) -> nn.Module:
        """The networks of all."""
        return nn.ModuleList([member.network for member in self.members])
