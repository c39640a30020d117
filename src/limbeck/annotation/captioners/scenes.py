"""An oracle for rendered scenes: colour, shape, place and background, read off the pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.annotation.annotator import Captioner
from limbeck.data.scene import BACKGROUNDS, COLOURS, PLACES, RADIUS, SHAPES, Scene, Seen, inside, sentences, told

__all__ = ["Scenes"]

CLIP = 0.5  # a square distance that says no more than that a colour is another


@dataclass(frozen=True)
class Scenes(Captioner):
    """Describes images of the source `scenes`, real or generated: analysis by synthesis, without any training.

        argmin over background b, colour k and outline m of    sum_{p not in m} d(p, b) + sum_{p in m} d(p, k)

    d is the square distance of a pixel's colour from the palette of a background, or from the colour of a shape; outlines are
    those of every shape at every place, in a few sizes, turns and shifts. It rewrites texts as well: what a caption says, in
    other words, and nothing where it says none of the four.

    Example:
        >>> Scenes().rewrite(["a red disc at the top left"], 1)
        [['a red disc at the top left is there']]
    """

    @property
    def what(self) -> str:
        """That they know four things."""
        return "these captions hold colour, shape, place and background of a rendered scene, read off its pixels"

    def caption(self, images: Sequence[Any], classes: Sequence[str | None]) -> list[str]:
        """One sentence for each image."""
        return [texts[0] for texts in self.describe_each(images, 1)]

    def describe_each(self, images: Sequence[Any], count: int) -> list[list[str]]:
        """Up to four sentences for each image, each of which says all of it."""
        return [list(sentences(self.see(np.asarray(image.convert("RGB"))))[:count]) for image in images]

    def rewrite(self, texts: Sequence[str], count: int) -> list[list[str]]:
        """What each text says, in up to three other sentences."""
        known = [(text, told(text)) for text in texts]
        return [
            [other for other in sentences(seen) if other != text][:count] if any(seen) else [] for text, seen in known
        ]

    def see(self, pixels: NDArray[np.uint8]) -> Seen:
        """What an image `[R, R, 3]` shows.

        Raises:
            ValueError: it is not square.
        """
        side = len(pixels)
        if pixels.shape != (side, side, 3):
            raise ValueError(f"a scene is a square RGB image, got {pixels.shape}")
        names, masks = _outlines(side)
        values: NDArray[Any] = pixels.reshape(-1, 3).astype(np.float32) / 255
        ground = np.stack([_from_palette(values, np.array(b[0]), np.array(b[1])) for b in BACKGROUNDS.values()])
        shape = np.stack([((values - np.array(c, np.float32)) ** 2).sum(1) for c in COLOURS.values()])
        ground, shape = np.minimum(ground, CLIP), np.minimum(shape, CLIP)
        gain = ground[:, None] - shape[None]  # [backgrounds, colours, pixels]: what is won by calling a pixel shape
        won = masks @ gain.reshape(-1, gain.shape[-1]).T
        cost = ground.sum(1)[:, None] - won.reshape(len(masks), len(ground), len(shape)).max(0)
        b, k = np.unravel_index(int(cost.argmin()), cost.shape)
        outline = int(won.reshape(len(masks), len(ground), len(shape))[:, b, k].argmax())
        name, place = names[outline]
        return Seen(list(COLOURS)[k], name, place, list(BACKGROUNDS)[b])


def _from_palette(values: NDArray[Any], colour: NDArray[Any], other: NDArray[Any]) -> NDArray[np.float32]:
    """Square distances from the colours between the two of a background, as far as its texture goes."""
    along = other - colour
    share = np.clip((values - colour) @ along / (along @ along), 0, 1)
    distance: NDArray[np.float32] = ((values - colour - share[:, None] * along) ** 2).sum(1).astype(np.float32)
    return distance


@lru_cache(maxsize=4)
def _outlines(side: int) -> tuple[list[tuple[str, str]], NDArray[np.float32]]:
    """Names and outlines `[n, side * side]` of every shape at every place, in three sizes, five turns and nine shifts."""
    names, masks = [], []
    blank = Scene(0, 0, "red", "", (0.5, 0.5), RADIUS, 0.0, side, 0.0, (0,))
    for shape, place in product(range(len(SHAPES)), PLACES):
        for size, turn, dx, dy in product(
            (0.88, 1.0, 1.12), (-0.2, -0.1, 0.0, 0.1, 0.2), (-0.03, 0, 0.03), (-0.03, 0, 0.03)
        ):
            x, y = PLACES[place]
            one = replace(blank, shape=shape, centre=(x + dx, y + dy), radius=RADIUS * size, turn=turn)
            names.append((list(SHAPES)[shape], place))
            masks.append(inside(one).reshape(-1))
    return names, np.stack(masks).astype(np.float32)
