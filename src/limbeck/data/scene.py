"""Rendered scenes: a coloured shape on a textured background, the words for what it shows, and its pixels."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "PLACES",
    "RADIUS",
    "SHAPES",
    "Scene",
    "Seen",
    "inside",
    "pixels",
    "sentences",
    "told",
]

Plane = NDArray[np.float64]
Colour = tuple[float, float, float]

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
RADIUS = 0.23  # of a shape, as a share of the side


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


class Seen(NamedTuple):
    """What is said of a scene, in its own words; `None` where nothing is.

    Example:
        >>> Seen("red", "disc", "at the top left", "grass").background
        'grass'
    """

    colour: str | None = None
    shape: str | None = None
    place: str | None = None
    background: str | None = None


def sentences(seen: Seen) -> tuple[str, ...]:
    """Four captions that each say all of it, in orders and words of their own; what is not seen is not said.

    Example:
        >>> for text in sentences(Seen("red", "disc", "at the top left", "grass")):
        ...     print(text)
        a red disc at the top left on grass
        grass with a red disc at the top left
        at the top left, a red disc before grass
        there is a disc at the top left, it is red, behind it is grass
        >>> sentences(Seen("red", "disc"))[:2]
        ('a red disc', 'a red disc is there')
    """
    thing = " ".join(filter(None, ("a", seen.colour, seen.shape or "shape")))
    placed = f"{thing} {seen.place}" if seen.place else thing
    bare = " ".join(filter(None, ("there is a", seen.shape or "shape", seen.place)))
    ground = seen.background
    return (
        f"{placed} on {ground}" if ground else placed,
        f"{ground} with {placed}" if ground else f"{placed} is there",
        (f"{seen.place}, {thing}" if seen.place else f"look, {thing}") + (f" before {ground}" if ground else ""),
        bare + (f", it is {seen.colour}" if seen.colour else "") + (f", behind it is {ground}" if ground else ""),
    )


def told(text: str) -> Seen:
    """What a caption says of a scene: the words of `Seen` that stand in it.

    Example:
        >>> told("there is a disc at the top left, it is red")
        Seen(colour='red', shape='disc', place='at the top left', background=None)
    """
    words = f" {' '.join(re.findall('[a-z]+', text.lower()))} "
    found = (
        next((name for name in names if f" {name} " in words), None) for names in (COLOURS, SHAPES, PLACES, BACKGROUNDS)
    )
    return Seen(*found)


def inside(scene: Scene) -> NDArray[np.bool_]:
    """`[R, R]`: the pixels whose middle lies in the shape."""
    middle = (np.arange(scene.resolution) + 0.5) / scene.resolution
    x, y = (middle[None, :] - scene.centre[0]) / scene.radius, (middle[:, None] - scene.centre[1]) / scene.radius
    cos, sin = np.cos(scene.turn), np.sin(scene.turn)
    return list(SHAPES.values())[scene.shape](cos * x + sin * y, cos * y - sin * x)


def pixels(scene: Scene, shape: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """`[R, R, 3]`. Background, shape and noise are drawn apart, so that the shape is the same on every background."""
    texture, noise = (np.random.Generator(np.random.PCG64((*scene.noise, part))) for part in (1, 2))
    colour, other, pattern = list(BACKGROUNDS.values())[scene.background]
    size = scene.resolution
    place = (np.arange(size) + 0.5) / size
    share = scene.clutter * pattern(place[None, :], place[:, None], texture)[..., None]
    whole = (1 - share) * np.array(colour) + share * np.array(other)
    whole = np.where(shape[..., None], np.array(COLOURS[scene.colour]), whole)
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
