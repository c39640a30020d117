"""Rendered scenes: a coloured shape with its exact mask, on a background that tells the class unless it is untied."""

import io
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from limbeck.data.form import Form, ImageForm, MaskForm
from limbeck.data.layout import ImageRef, Layout, Listing, Record
from limbeck.data.scene import BACKGROUNDS, COLOURS, PLACES, RADIUS, SHAPES, Scene, Seen, inside, pixels, sentences
from limbeck.errors import ConfigError

__all__ = ["Scenes"]

RENDERER = 1  # part of every stamp; raise it whenever the same options render other pixels

Place = Literal["centre", "five"]
Told = Literal["object", "scene"]

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Scenes(Layout):
    """Shapes on textured backgrounds: data whose background is a shortcut to the class, with masks, captions and labels.

        scenes/                      nothing lies on disk: a scene is rendered, from its number, when it is first read

    The class is the shape: disc, square, triangle, cross, ring, star, crescent, heart. Each class has one of six backgrounds as
    its own (grass, sea, sand, bricks, sky, tiles). A scene shows it with probability `tie`, else one of the six by chance, so that

        P(own background | class) = tie + (1 - tie) / 6

    and with `tie` 0 the background tells nothing. Colour, place, size and turn of the shape do not depend on the class, nor on
    `tie`: the same scenes with `tie` 0 are a test of what a student learned besides backgrounds (`--on scenes --on.tie 0`). Edges
    are hard, so that a mask is exact: 1 where the shape is, 0 where the background is. Two captions tell colour and shape, and
    place, never the background; or four each tell all of it (`told` scene). Without `words`, the shape is called "shape". Every
    class has as many scenes as any other.

    Args:
        path: not used.
        resolution: pixels a side.
        max_skipped: the largest share of unreadable records.
        workers: processes that render.
        max_pixels: the largest image, mask or depth map that is decoded; larger ones are skipped and counted.
        shapes: classes, 2 to 8.
        tie: how surely a class shows its own background, from 0 to 1.
        positions: where the shape lies: centre, or five, of which one is the centre.
        clutter: how strong the texture of a background is, and the noise on all, from 0 to 1: the difficulty.
        samples: scenes of the training split; val and test have half as many each.
        seed: of everything that is drawn.
        words: name the shape in the captions.
        told: what captions tell: object, in two captions, or scene, with the background, in four.
    """

    resolution: int = 32
    shapes: int = 6
    tie: float = 0.95
    positions: Place = "five"
    clutter: float = 0.5
    samples: int = 1500
    seed: int = 0
    words: bool = True
    told: Told = "object"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path:
            raise ConfigError(f"the source 'scenes' takes nothing after a colon, got {self.path!r}")
        if self.resolution < 16:
            raise ConfigError(
                f"a scene needs 16 pixels a side for its shapes to differ, got resolution {self.resolution}"
            )
        if type(self.shapes) is not int or not 2 <= self.shapes <= len(SHAPES):
            raise ConfigError(f"shapes is a number of classes from 2 to {len(SHAPES)}, got {self.shapes!r}")
        for name in ("tie", "clutter"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is a number from 0 to 1, got {getattr(self, name)!r}")
        if self.positions not in get_args(Place):
            raise ConfigError(f"positions is one of {', '.join(get_args(Place))}, got {self.positions!r}")
        if self.told not in get_args(Told):
            raise ConfigError(f"told is one of {', '.join(get_args(Told))}, got {self.told!r}")
        if type(self.samples) is not int or not 2 * self.shapes <= self.samples <= 10**6:
            raise ConfigError(
                f"samples is a number of scenes, at least two a class and at most a million, got {self.samples!r}"
            )
        if type(self.seed) is not int or self.seed < 0:
            raise ConfigError(f"seed is a whole number from 0 up, got {self.seed!r}")

    @property
    def forms(self) -> tuple[Form, ...]:
        """Of images and masks."""
        return (ImageForm(self.resolution), MaskForm(self.resolution, "soft"))

    def read(self) -> Listing:
        """Lists the scenes; renders none."""
        records = []
        names = tuple(SHAPES)[: self.shapes]
        for split in SPLITS:
            for number in range(self.samples if split == "train" else self.samples // 2):
                scene = _draw(self, split, number)
                captions = self._captions(scene)
                image, mask = Rendered(scene, "image"), Rendered(scene, "mask")
                records.append(Record(f"{split}/{number:05d}", image, captions, scene.shape, split, {"mask": mask}))
        return Listing(records, names, "CC0-1.0")

    def _captions(self, scene: Scene) -> tuple[str, ...]:
        shape = list(SHAPES)[scene.shape] if self.words else None
        seen = Seen(scene.colour, shape, scene.place, list(BACKGROUNDS)[scene.background])
        if self.told == "scene":
            return sentences(seen)
        thing = f"a {scene.colour} {shape or 'shape'}"
        return thing, f"{thing} {scene.place}"


@dataclass(frozen=True)
class Rendered(ImageRef):
    """The image of a scene, or its mask.

    Args:
        scene: what is rendered.
        part: `image` or `mask`.
    """

    scene: Scene
    part: str

    def read(self) -> bytes:
        """A PPM of the image, an NPY of the mask."""
        shape = inside(self.scene)
        if self.part == "mask":
            buffer = io.BytesIO()
            np.save(buffer, shape)
            return buffer.getvalue()
        size = self.scene.resolution
        return b"P6 %d %d 255\n" % (size, size) + pixels(self.scene, shape).tobytes()

    @property
    def stamp(self) -> tuple[Any, ...]:
        """Everything that it is rendered from."""
        return RENDERER, self.part, *vars(self.scene).values()


def _draw(layout: Scenes, split: str, number: int) -> Scene:
    """One scene. What is drawn does not depend on `tie`, except which background it leads to."""
    noise = (layout.seed, SPLITS.index(split), number)
    rng = np.random.Generator(np.random.PCG64(noise))
    draws = rng.random(9).tolist()
    shape = number % layout.shapes
    place = list(PLACES)[int(draws[0] * len(PLACES)) if layout.positions == "five" else 0]
    x, y = PLACES[place]
    own = shape % len(BACKGROUNDS)
    return Scene(
        shape,
        own if draws[1] < layout.tie else int(draws[2] * len(BACKGROUNDS)),
        list(COLOURS)[int(draws[3] * len(COLOURS))],
        place,
        (x + 0.09 * (draws[4] - 0.5), y + 0.09 * (draws[5] - 0.5)),
        RADIUS * (0.85 + 0.3 * draws[6]),
        0.5 * (draws[7] - 0.5),
        layout.resolution,
        layout.clutter,
        noise,
    )
