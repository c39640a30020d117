"""Captions without a model: a sentence around the class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.annotation.annotator import Captioner
from limbeck.errors import ConfigError

__all__ = ["Template"]

PLACE = "{class}"


@dataclass(frozen=True)
class Template(Captioner):
    """The class of an image in a sentence; an image without a class gets none.

    Such captions hold the class word and nothing else: they can stand for labels, not for what an image shows.

    Args:
        template: the sentence, with {class} in the place of the class.

    Raises:
        ConfigError: the sentence has no {class}.

    Example:
        >>> Template().caption([None, None], ["tabby_cat", None])
        ['a photo of a tabby cat', '']
    """

    template: str = "a photo of a {class}"

    def __post_init__(self) -> None:
        super().__post_init__()
        if PLACE not in self.template:
            raise ConfigError(f"template needs {PLACE} in the place of the class, got {self.template!r}")

    @property
    def what(self) -> str:
        """That they are no descriptions."""
        return "these captions hold the class word and nothing else of the image"

    def caption(self, images: Sequence[Any], classes: Sequence[str | None]) -> list[str]:
        """The sentence of each class; the images are not looked at."""
        return [self.template.replace(PLACE, name.replace("_", " ")) if name else "" for name in classes]
