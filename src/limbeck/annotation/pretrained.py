"""What annotators with pretrained weights have in common."""

from dataclasses import dataclass
from functools import cached_property

import torch

from limbeck.annotation.annotator import Annotator
from limbeck.spaces.hub import licence_of

__all__ = ["Pretrained"]


@dataclass(frozen=True)
class Pretrained(Annotator):
    """An annotator of a family of models that transformers opens.

    Args:
        name: a model on the hub or a folder.
    """

    name: str

    requires = (("transformers", "hf"),)

    @cached_property
    def licence(self) -> str | None:
        """As the model's card says, where it has been downloaded."""
        return licence_of(self.name)

    @property
    def versions(self) -> dict[str, str]:
        """Of transformers and torch."""
        import transformers

        return {"transformers": transformers.__version__, "torch": torch.__version__}
