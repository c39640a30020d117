"""Rendered scenes: a coloured shape with its exact mask, on a background that tells the class unless it is untied."""

import io
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from limbeck.constraints import Ge, Interval, Le, Share
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

    resolution: Annotated[int, Interval(ge=16, le=4096)] = 32
    shapes: Annotated[int, Interval(ge=2, le=len(SHAPES))] = 6
    tie: Share = 0.95
    positions: Place = "five"
    clutter: Share = 0.5
    samples: Annotated[int, Le(10**6)] = 1500
    seed: Annotated[int, Ge(0)] = 0
    words: bool = True
    told: Told = "object"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path:
            raise ConfigError(f"the source 'scenes' takes nothing after a colon, got {self.path!r}")
        if self.samples < 2 * self.shapes:
            raise ConfigError(f"`samples` of scenes must be two a class or more, {2 * self.shapes}, got {self.samples}")

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
