"""Captions of any Python function."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from limbeck.annotation.annotator import Captioner
from limbeck.errors import ConfigError

__all__ = ["Call"]


@dataclass(frozen=True)
class Call(Captioner):
    """A Python function that a person has written, such as one that asks a service: `call:package.module.function`.

    It is called with a list of Pillow images and a number, and returns a list of as many texts for each image; for texts
    (`stage paraphrase`) it is called with a list of texts. The module must be importable where the command is given.

    Args:
        name: package, module and function, with dots.

    Raises:
        ConfigError: there is no such function, or it returns something else.

    Example:
        >>> Call("textwrap.wrap").describe()["name"]
        'call:textwrap.wrap'
    """

    name: str

    @property
    def what(self) -> str:
        """Whose they are."""
        return f"these captions were written by the function {self.name}"

    @cached_property
    def function(self) -> Any:
        """The function itself."""
        module, _, name = self.name.rpartition(".")
        if not module:
            raise ConfigError(f"call:{self.name} names no function of a module, as in call:package.module.function")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"call:{self.name} cannot be found: {error}; put its module on PYTHONPATH") from error
        if not callable(found):
            raise ConfigError(f"call:{self.name} is no function but {type(found).__name__}")
        return found

    def ready(self) -> None:
        """Finds the function."""
        self.function  # noqa: B018

    def caption(self, images: Sequence[Any], classes: Sequence[str | None]) -> list[str]:
        """One text for each image."""
        return [(texts or [""])[0] for texts in self.describe_each(images, 1)]

    def describe_each(self, images: Sequence[Any], count: int) -> list[list[str]]:
        """What the function returns for the images."""
        return self._asked(list(images), count)

    def rewrite(self, texts: Sequence[str], count: int) -> list[list[str]]:
        """What the function returns for the texts."""
        return self._asked(list(texts), count)

    def _asked(self, values: list[Any], count: int) -> list[list[str]]:
        said = self.function(values, count)
        whole = isinstance(said, list | tuple) and len(said) == len(values)
        if not whole or not all(isinstance(s, list | tuple) and all(isinstance(t, str) for t in s) for s in said):
            raise ConfigError(
                f"call:{self.name} must return a list of {len(values)} lists of texts, one for each it was given, got {str(said)[:80]!r}"
            )
        return [list(texts) for texts in said]
