"""`Pixels`: in which coordinates images are learned, and how they are seen at every step; one meaning for all methods."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import pi, sqrt
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.constraints import Interval, OnlyIf, Share, validate

__all__ = ["Coordinates", "Pixels", "colour_axes"]

FormName = Literal["raw", "pyramid", "dct"]
Colours = Literal["rgb", "decorrelated"]
VIEWED = OnlyIf(lambda o: o.views, "there are no views (`views=0`)", "set `views=5`")
PYRAMID = OnlyIf(lambda o: o.form == "pyramid", "`form={o.form}`", "set `form=pyramid`")
DCT = OnlyIf(lambda o: o.form == "dct", "`form={o.form}`", "set `form=dct`")
LEAST = 1e-4  # of the variance of an axis of colour, as a share of the mean, so that grey images can take colours


@dataclass(frozen=True)
class Pixels:
    """How images are learned, whatever the method: the coordinates that its optimizer moves, and the views that a step sees.

        image = clamp(start + C (D z) / sqrt(L))      z: what is learned, 0 at the start; D: form; C: colours
        gradient of a step = mean over K views of the gradient of the method's loss

    Args:
        views: K, how often a step sees the images, each of them cropped, mirrored and noised by a draw of its own; the loss is
            averaged. A step costs K times as much. 0 shows them as they are.
        crop: the smallest side of a view's crop, as a share of the image's.
        noise: standard deviation of the noise of a view, where pixels go from 0 to 1.
        form: raw pixels; pyramid, a sum of resolutions of which finer ones join as steps go on; or dct, low frequencies alone.
        levels: L, of the pyramid, each half as wide as the next.
        grown: the share of the steps after which all levels of the pyramid take part.
        window: frequencies a side of dct; the start is the image without the others.
        colours: rgb; or decorrelated, the principal axes of the colours of the data.

    Raises:
        ConfigError: an unknown form or colours, a number out of range, or an option that is unused.

    Example:
        >>> Pixels(views=5, form="pyramid").moves
        True
        >>> Pixels().given
        {}
    """

    views: Annotated[int, Interval(ge=0, le=1000)] = 0
    crop: Annotated[float, Interval(ge=0.05, le=1), VIEWED] = 0.8
    noise: Annotated[Share, VIEWED] = 0.02
    form: FormName = "raw"
    levels: Annotated[int, Interval(ge=2, le=12), PYRAMID] = 4
    grown: Annotated[Share, PYRAMID] = 0.5
    window: Annotated[int, Interval(ge=1, le=1 << 14), DCT] = 32
    colours: Colours = "rgb"

    def __post_init__(self) -> None:
        validate(self)

    @property
    def given(self) -> dict[str, Any]:
        """The options that are not as usual."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}

    @property
    def moves(self) -> bool:
        """Whether other coordinates than the pixels themselves are learned."""
        return self.form != "raw" or self.colours != "rgb"

    def view(self, shape: Sequence[int], draw: torch.Generator) -> Callable[[Tensor], Tensor]:
        """One draw for each image: a square crop back to the full size, a mirroring half of the time, and noise.

        Args:
            shape: of the images, `[M, C, H, W]`.
            draw: of the step and view.

        Returns:
            a differentiable function of such images; it does the same whenever it is called.

        Example:
            >>> draw = torch.Generator().manual_seed(0)
            >>> move = Pixels(views=1, crop=0.5, noise=0.0).view((2, 3, 8, 8), draw)
            >>> round(float(move(torch.ones(2, 3, 8, 8)).min()), 4)
            1.0
        """
        count = shape[0]
        side = self.crop + (1 - self.crop) * torch.rand(count, generator=draw)
        mirrored = 1 - 2 * torch.randint(2, (count,), generator=draw).float()
        places = (2 * torch.rand(count, 2, generator=draw) - 1) * (1 - side)[:, None]
        zero = torch.zeros(count)
        axes = torch.stack([side * mirrored, zero, places[:, 0], zero, side, places[:, 1]], 1).view(count, 2, 3)
        noise = self.noise * torch.randn(tuple(shape), generator=draw) if self.noise else None

        def move(values: Tensor) -> Tensor:
            grid = F.affine_grid(axes.to(values), list(values.shape), align_corners=False)
            seen = F.grid_sample(values, grid, padding_mode="border", align_corners=False)
            return seen if noise is None else seen + noise.to(values)

        return move

    def coordinates(self, images: Tensor, axes: Tensor | None = None) -> "Coordinates":
        """The coordinates of some images, all zero.

        Args:
            images: `[M, 3, H, W]` in [0, 1], that a set starts from.
            axes: of colours, `[3, 3]`, see `colour_axes`; `None` for those of the pixels.
        """
        height, width = images.shape[-2:]
        if self.form == "dct":
            rows, columns = (_cosines(n, min(self.window, n)) for n in (height, width))
            low = [rows / rows.norm(dim=0), columns / columns.norm(dim=0)]
            images = low[0] @ (low[0].T @ images.cpu() @ low[1]) @ low[1].T
            return Coordinates(images, [(rows, columns)], axes)
        count = self.levels if self.form == "pyramid" else 1
        sides = [[max(1, -(-n // 2 ** (count - 1 - i))) for n in (height, width)] for i in range(count)]
        share = count**-0.25  # twice: rows and columns
        return Coordinates(
            images, [(share * _linear(height, h), share * _linear(width, w)) for h, w in sides], axes, self.grown
        )


class Coordinates(nn.Module):
    """Images as what they start from, and a linear map of what is learned; the first level lives in the synthetic set.

    Args:
        start: `[M, 3, H, W]`, the images where all coordinates are zero.
        maps: of each level, coarse to fine, `[H, h]` and `[W, w]`: how its rows and columns make those of the image. The last one's
            columns are orthogonal, of one length.
        axes: of colours, `[3, 3]`; `None` for those of the pixels.
        grown: the share of the steps after which all levels take part.

    Example:
        >>> images = torch.rand(2, 3, 8, 8)
        >>> held = Pixels(form="pyramid", levels=3).coordinates(images)
        >>> torch.equal(held(held.first()), images), [tuple(level.shape) for level in held.finer]
        (True, [(2, 3, 4, 4), (2, 3, 8, 8)])
    """

    start: Tensor
    axes: Tensor

    def __init__(
        self, start: Tensor, maps: list[tuple[Tensor, Tensor]], axes: Tensor | None = None, grown: float = 0.0
    ) -> None:
        super().__init__()
        self.register_buffer("start", start.detach().clone())
        self.register_buffer("axes", torch.eye(3) if axes is None else axes.clone())
        self.maps, self.grown = maps, grown
        self.finer = nn.ParameterList([torch.zeros(*start.shape[:2], r.shape[1], c.shape[1]) for r, c in maps[1:]])

    def first(self) -> Tensor:
        """The coordinates of the coarsest level at the start."""
        rows, columns = self.maps[0]
        return torch.zeros(*self.start.shape[:2], rows.shape[1], columns.shape[1])

    def forward(self, first: Tensor) -> Tensor:
        """The images, kept to [0, 1]; gradients pass as if they were not, so that a pixel at an end can come back."""
        image = self._image(first)
        return image.detach().clamp(0, 1) + (image - image.detach())

    def grow(self, progress: float) -> None:
        """Lets those levels take part that are due; the others have no gradient, and stay at zero.

        Args:
            progress: the share of the steps that are done.
        """
        for i, level in enumerate(self.finer, start=1):
            level.requires_grad_(progress >= self.grown * i / len(self.finer))

    @torch.no_grad()
    def project(self, first: Tensor) -> None:
        """Takes what leaves [0, 1] off the finest level, so that no coordinate runs away behind an end."""
        image = self._image(first)
        over = image.clamp(0, 1) - image
        if not over.any():
            return
        rows, columns = (m.to(over) for m in self.maps[-1])
        size = rows[:, 0].square().sum() * columns[:, 0].square().sum()
        finest = self.finer[-1] if len(self.finer) else first
        finest += rows.T @ _coloured(over, torch.linalg.inv(self.axes)) @ columns / size

    def _image(self, first: Tensor) -> Tensor:
        levels = zip([first, *self.finer], self.maps, strict=True)
        change = torch.stack([rows.to(z) @ z @ columns.T.to(z) for z, (rows, columns) in levels]).sum(0)
        return self.start + _coloured(change, self.axes)


def colour_axes(images: Tensor) -> Tensor:
    """The map `[3, 3]` from decorrelated to pixel colours: the principal axes of the colours of images.

        C = U sqrt(l / mean l),    U l U^T the covariance of colours

    A unit step in every axis has the mean square of one in every colour.

    Args:
        images: `[n, 3, H, W]`.

    Example:
        >>> grey = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1)
        >>> [round(abs(c), 3) for c in colour_axes(grey)[:, 2].tolist()]
        [1.0, 1.0, 1.0]
    """
    colours = images.movedim(1, 0).flatten(1).double()
    values, vectors = torch.linalg.eigh(torch.cov(colours))
    shares = (values / values.mean().clamp(min=1e-12)).clamp(min=LEAST)
    axes: Tensor = (vectors * (shares / shares.mean()).sqrt()).float()
    return axes


def _coloured(values: Tensor, axes: Tensor) -> Tensor:
    return torch.einsum("cd,mdhw->mchw", axes, values)


def _cosines(size: int, count: int) -> Tensor:
    """The first frequencies of the DCT-II as columns `[size, count]`, so scaled that random signs have a mean square of one."""
    at, k = torch.arange(size).double(), torch.arange(count).double()
    waves = torch.cos(pi / size * (at[:, None] + 0.5) * k)
    scaled: Tensor = waves / waves.norm(dim=0) * sqrt(size / count)
    return scaled.float()


def _linear(size: int, count: int) -> Tensor:
    """Linear interpolation from `count` to `size` pixels, `[size, count]`."""
    return F.interpolate(torch.eye(count)[None], size=size, mode="linear", align_corners=False)[0].T.contiguous()
