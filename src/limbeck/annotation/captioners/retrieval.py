"""Captions without a model that writes: those of the real captions that are nearest."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from limbeck.annotation.annotator import Captioner, Knowledge
from limbeck.errors import ConfigError

__all__ = ["Retrieval"]


@dataclass(frozen=True)
class Retrieval(Captioner):
    """The real captions nearest to an image in a joint space: real sentences, offline, of what the image looks like.

        texts of image x: the captions c with the largest <f(x), g(c)>, no string twice

    Rewriting a text gives the captions nearest to it, besides itself.

    Args:
        knowledge: real captions with their vectors, given by the method that asks.

    Raises:
        ConfigError: it is asked by what has no real captions to choose from.
    """

    knowledge: Knowledge | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def what(self) -> str:
        """That they belong to other images."""
        return "these captions were written for other images, the nearest of the training data"

    def describe(self) -> dict[str, Any]:
        """Its name."""
        return {"name": "retrieval"}

    def informed(self, knowledge: Knowledge) -> "Retrieval":
        """With captions to choose from."""
        told = copy(self)
        object.__setattr__(told, "knowledge", knowledge)
        return told

    def caption(self, images: Sequence[Any], classes: Sequence[str | None]) -> list[str]:
        """The nearest real caption of each image."""
        return [texts[0] for texts in self.describe_each(images, 1)]

    def describe_each(self, images: Sequence[Any], count: int) -> list[list[str]]:
        """The `count` nearest real captions of each image."""
        import numpy as np

        known = self._known()
        sizes = {image.size for image in images}
        if len(sizes) > 1:
            return [self.describe_each([image], count)[0] for image in images]
        pixels = torch.stack(
            [torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1) for image in images]
        )
        with torch.no_grad():
            vectors = torch.cat([known.see(part.float() / 255).cpu() for part in pixels.split(64)])
        return self._nearest(vectors, [None] * len(images), count)

    def rewrite(self, texts: Sequence[str], count: int) -> list[list[str]]:
        """The `count` real captions nearest to each text, besides itself."""
        known = self._known()
        with torch.no_grad():
            vectors = known.read(list(texts)).cpu()
        return self._nearest(vectors, list(texts), count)

    def _known(self) -> Knowledge:
        if self.knowledge is None:
            raise ConfigError(
                "the captioner 'retrieval' chooses among the captions of training data, which it is given by methods that generate; "
                "for data without captions choose template or hf:NAME"
            )
        return self.knowledge

    def _nearest(self, vectors: Tensor, own: Sequence[str | None], count: int) -> list[list[str]]:
        known = self._known()
        found = []
        for vector, text in zip(vectors, own, strict=True):
            order = (known.vectors @ vector).argsort(descending=True, stable=True).tolist()
            texts: dict[str, None] = {}
            for row in order:
                if known.captions[row] != text:
                    texts.setdefault(known.captions[row])
                if len(texts) == count:
                    break
            found.append(list(texts))
        return found
