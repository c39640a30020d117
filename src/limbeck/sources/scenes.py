"""Rendered scenes: a coloured shape with its exact mask, on a background that tells the class unless it is untied."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from limbeck.data.form import Form, ImageForm, MaskForm
from limbeck.data.layout import ImageRef, Layout, Listing, Record
from limbeck.errors import ConfigError

__all__ = ["Scenes"]

RENDERER = 1  # part of every stamp; raise it whenever the same options render other pixels

Plane = NDArray[np.float64]
Colour = tuple[float, float, float]
Place = Literal["centre", "five"]

COLOURS = {
    "red": (0.90, 0.12, 0.12),
    "green": (0.10, 0.85, 0.15),
    "blue": (0.15, 0.20, 0.95),
    "yellow": (0.98, 0.92, 0.10),
    "magenta": (0.92, 0.15, 0.85),
    "cyan": (0.10, 0.88, 0.92),
    "white": (0.98, 0.98, 0.98),
    "black": (0.04, 0.04, 0.04),
}
PLACES = {
    "in the middle": (0.5, 0.5),
    "at the top left": (0.32, 0.32),
    "at the top right": (0.68, 0.32),
    "at the bottom left": (0.32, 0.68),
    "at the bottom right": (0.68, 0.68),
}
SPLITS = ("train", "val", "test")
RADIUS = 0.23  # of a shape, as a share of the side


@dataclass(frozen=True)
class Scenes(Layout):
    """Shapes on textured backgrounds: data whose background is a shortcut to the class, with masks, captions and labels.

        scenes/                      nothing lies on disk: a scene is rendered, from its number, when it is first read

    The class is the shape: disc, square, triangle, cross, ring, star, crescent, heart. Each class has one of six backgrounds as
    its own (grass, sea, sand, bricks, sky, tiles). A scene shows it with probability `tie`, else one of the six by chance, so that

        P(own background | class) = tie + (1 - tie) / 6

    and with `tie` 0 the background tells nothing. Colour, place, size and turn of the shape do not depend on the class, nor on
    `tie`: the same scenes with `tie` 0 are a test of what a student learned besides backgrounds (`--on scenes --on.tie 0`). Edges
    are hard, so that a mask is exact: 1 where the shape is, 0 where the background is. Captions tell colour and shape, and
    place, never the background; without `words`, the shape is called "shape". Every class has as many scenes as any other.

    Args:
        path: not used.
        resolution: pixels a side.
        max_skipped: the largest share of unreadable records.
        workers: processes that render.
        shapes: classes, 2 to 8.
        tie: how surely a class shows its own background, from 0 to 1.
        positions: where the shape lies: centre, or five, of which one is the centre.
        clutter: how strong the texture of a background is, and the noise on all, from 0 to 1: the difficulty.
        samples: scenes of the training split; val and test have half as many each.
        seed: of everything that is drawn.
        words: name the shape in the captions.
    """

    resolution: int = 32
    shapes: int = 6
    tie: float = 0.95
    positions: Place = "five"
    clutter: float = 0.5
    samples: int = 1500
    seed: int = 0
    words: bool = True

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
                thing = f"a {scene.colour} {names[scene.shape] if self.words else 'shape'}"
                captions = (thing, f"{thing} {scene.place}")
                image, mask = Rendered(scene, "image"), Rendered(scene, "mask")
                records.append(Record(f"{split}/{number:05d}", image, captions, scene.shape, split, {"mask": mask}))
        return Listing(records, names, "CC0-1.0")


@dataclass(frozen=True)
class Scene:
    """What one scene shows; all of it is drawn before any pixel.

    Args:
        shape, background: positions in `SHAPES` and `BACKGROUNDS`.
        colour: of the shape.
        place: where it lies, in words.
        centre: where it lies, as shares of the side.
        radius: a share of the side.
        turn: radians.
        resolution: pixels a side.
        clutter: of the source.
        noise: seed of texture and noise.
    """

    shape: int
    background: int
    colour: str
    place: str
    centre: tuple[float, float]
    radius: float
    turn: float
    resolution: int
    clutter: float
    noise: tuple[int, ...]


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
        inside = _inside(self.scene)
        if self.part == "mask":
            buffer = io.BytesIO()
            np.save(buffer, inside)
            return buffer.getvalue()
        size = self.scene.resolution
        return b"P6 %d %d 255\n" % (size, size) + _pixels(self.scene, inside).tobytes()

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


def _inside(scene: Scene) -> NDArray[np.bool_]:
    """`[R, R]`: the pixels whose middle lies in the shape."""
    middle = (np.arange(scene.resolution) + 0.5) / scene.resolution
    x, y = (middle[None, :] - scene.centre[0]) / scene.radius, (middle[:, None] - scene.centre[1]) / scene.radius
    cos, sin = np.cos(scene.turn), np.sin(scene.turn)
    return list(SHAPES.values())[scene.shape](cos * x + sin * y, cos * y - sin * x)


def _pixels(scene: Scene, inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """`[R, R, 3]`. Background, shape and noise are drawn apart, so that the shape is the same on every background."""
    texture, noise = (np.random.Generator(np.random.PCG64((*scene.noise, part))) for part in (1, 2))
    colour, other, pattern = list(BACKGROUNDS.values())[scene.background]
    size = scene.resolution
    place = (np.arange(size) + 0.5) / size
    share = scene.clutter * pattern(place[None, :], place[:, None], texture)[..., None]
    whole = (1 - share) * np.array(colour) + share * np.array(other)
    whole = np.where(inside[..., None], np.array(COLOURS[scene.colour]), whole)
    whole = whole + 0.15 * scene.clutter * noise.standard_normal(whole.shape)
    pixels: NDArray[np.uint8] = np.rint(255 * np.clip(whole, 0, 1)).astype(np.uint8)
    return pixels


def _star(x: Plane, y: Plane) -> NDArray[np.bool_]:
    """Five points: the radius falls along straight edges from 1 at a point to 0.4 between two."""
    angle = np.abs((np.arctan2(x, -y) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    along, across = np.hypot(x, y) * np.cos(angle), np.hypot(x, y) * np.sin(angle)
    inner = 0.4 * np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)])
    inside: NDArray[np.bool_] = (1 - along) * inner[1] > across * (1 - inner[0])
    return inside


# of x to the right and y down, within the unit disc
SHAPES: dict[str, Callable[[Plane, Plane], NDArray[np.bool_]]] = {
    "disc": lambda x, y: np.hypot(x, y) < 0.95,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) < 0.75,
    "triangle": lambda x, y: (y < 0.55) & (1.7 * abs(x) < y + 1),
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) < 0.3) & (np.maximum(abs(x), abs(y)) < 0.95),
    "ring": lambda x, y: (np.hypot(x, y) < 1) & (np.hypot(x, y) > 0.55),
    "star": _star,
    "crescent": lambda x, y: (np.hypot(x, y) < 1) & (np.hypot(x - 0.5, y) > 0.75),
    "heart": lambda x, y: (1.25 * x) ** 2 + (1.35 * y - 0.25 + abs(1.25 * x) ** (2 / 3)) ** 2 < 1,
}


def _waves(x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    turns = 6 * y + 0.4 * np.sin(2 * np.pi * (2 * x + rng.random())) + rng.random()
    share: Plane = 0.5 + 0.5 * np.sin(2 * np.pi * turns)
    return share


def _bricks(x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    row = 6 * y + rng.random()
    across = 3 * x + 0.5 * (np.floor(row) % 2) + rng.random()
    share: Plane = ((row % 1 < 0.25) | (across % 1 < 0.12)).astype(np.float64)
    return share


def _clouds(x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    share: Plane = 0.5 + 0.5 * np.cos(4 * (y + 0.3 * x + rng.random()))
    return share


def _checks(x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    share: Plane = (np.floor(5 * x + rng.random()) + np.floor(5 * y + rng.random())) % 2
    return share


def _blades(x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    return rng.random((y.size, x.size))


def _grains(x: Plane, y: Plane, rng: np.random.Generator) -> Plane:
    return (rng.random((y.size, x.size)) > 0.75).astype(np.float64)


# colour, the other colour, and how much of it a place has
BACKGROUNDS: dict[str, tuple[Colour, Colour, Callable[[Plane, Plane, np.random.Generator], Plane]]] = {
    "grass": ((0.22, 0.50, 0.20), (0.45, 0.75, 0.25), _blades),
    "sea": ((0.10, 0.32, 0.62), (0.45, 0.68, 0.88), _waves),
    "sand": ((0.78, 0.68, 0.45), (0.52, 0.42, 0.22), _grains),
    "bricks": ((0.58, 0.27, 0.20), (0.78, 0.72, 0.66), _bricks),
    "sky": ((0.45, 0.65, 0.95), (0.92, 0.95, 1.00), _clouds),
    "tiles": ((0.32, 0.32, 0.36), (0.68, 0.68, 0.72), _checks),
}
