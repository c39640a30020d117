"""The edge of a mask as one SVG path, drawn over its image."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["Outline", "outline"]

LONGEST = 4000  # characters of a path; a mask with a longer edge is drawn coarser
Point = tuple[int, int]  # column, row


@dataclass(frozen=True)
class Outline:
    """Lines along the borders of pixels.

    Args:
        path: the `d` of an SVG path, of closed lines.
        width, height: of the image, in the units of the path.
    """

    path: str
    width: float
    height: float


def outline(mask: Float[Tensor, "1 h w"]) -> Outline | None:
    """The edge of where a mask is one half or more; `None` where that is everywhere or nowhere.

    Args:
        mask: of one image, in [0, 1].

    Example:
        >>> import torch
        >>> outline(F.pad(torch.ones(1, 2, 2), (1, 1, 1, 1)))
        Outline(path='M1 1h2v2h-2v-2z', width=4.0, height=4.0)
    """
    scale, (height, width) = 1, mask.shape[-2:]
    inside = mask >= 0.5
    if inside.all() or not inside.any():
        return None
    path = _path(inside[0])
    while len(path) > LONGEST:
        scale *= 2
        path = _path(F.avg_pool2d(mask, scale, ceil_mode=True)[0] >= 0.5)
    return Outline(path, width / scale, height / scale)


def _path(inside: Tensor) -> str:
    """Closed lines around every region of `bool [H, W]`, clockwise, the region on their right."""
    onward = _edges(inside)
    lines = []
    while onward:
        start = here = next(iter(onward))
        steps: list[list[int]] = []  # (columns, rows) of each straight piece
        while here in onward:
            ends = onward[here]
            there = ends.pop()
            if not ends:
                del onward[here]
            step = [there[0] - here[0], there[1] - here[1]]
            if steps and (steps[-1][0] == 0) == (step[0] == 0):
                steps[-1] = [steps[-1][0] + step[0], steps[-1][1] + step[1]]
            else:
                steps.append(step)
            here = there
        lines.append(f"M{start[0]} {start[1]}{''.join(f'h{x}' if x else f'v{y}' for x, y in steps)}z")
    return "".join(lines)


def _edges(inside: Tensor) -> dict[Point, list[Point]]:
    """From each corner of a pixel to those that the edge goes on to."""
    wide = F.pad(inside, (1, 1, 1, 1))
    onward: dict[Point, list[Point]] = {}
    sides = (  # which neighbour is outside: from and to which corner of the pixel the edge goes
        (wide[:-2, 1:-1], (0, 0), (1, 0)),
        (wide[1:-1, 2:], (1, 0), (1, 1)),
        (wide[2:, 1:-1], (1, 1), (0, 1)),
        (wide[1:-1, :-2], (0, 1), (0, 0)),
    )
    for neighbour, start, end in sides:
        for y, x in (inside & ~neighbour).nonzero().tolist():
            onward.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))
    return onward
