"""How alike two samples are: root mean square error, structural similarity, and who is nearest among very many."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.data.source import Source
from limbeck.errors import DataError
from limbeck.objectives.nearest import CELLS, largest, similarities
from limbeck.spaces import Features
from limbeck.spaces.preprocess import resize

__all__ = ["Column", "closest", "closest_vectors", "rmse", "ssim"]

VALUES = 2**24  # numbers of one modality that are read at a time: 64 MB


@dataclass(frozen=True)
class Column:
    """One modality of some samples of a source, read when it is asked for.

    Args:
        source: whose samples.
        modality: which of its modalities, held as a tensor.
        rows: `int64 [n]`, the samples that take part; each must hold the modality.
        shape: of one value; images of another size are resized to it.

    Raises:
        DataError: values of another shape that are no images.

    Example:
        >>> import limbeck as lb
        >>> column = Column(lb.check.toy_source(), "image", torch.arange(9), (3, 8, 8))
        >>> column.read(torch.tensor([2, 5])).shape, [len(part) for part in column.parts(4 * 3 * 8 * 8)]
        (torch.Size([2, 3, 8, 8]), [4, 4, 1])
    """

    source: Source
    modality: str
    rows: Tensor
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        found = self.source.modalities[self.modality].shape
        if found != self.shape and self.modality != "image":
            raise DataError(
                f"{self.source.name} has {self.modality} of shape {list(found)}, the set of {list(self.shape)}; open the data "
                "with the options that the set was made with"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: Int[Tensor, " b"]) -> Float[Tensor, "b ..."]:
        """The values of the samples at `index` of `rows`."""
        values = self.source.batch(self.rows[index])[self.modality].float()
        return values if tuple(values.shape[1:]) == self.shape else resize(values, (self.shape[-2], self.shape[-1]))

    def parts(self, values: int = VALUES) -> Iterator[Tensor]:
        """All values in order, at most so many numbers at a time (and one sample at least)."""
        numbers = max(1, int(torch.Size(self.shape).numel()))
        for index in torch.arange(len(self)).split(max(1, values // numbers)):
            if len(index):
                yield self.read(index)


def rmse(x: Float[Tensor, "..."], y: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
    """The root mean square of `x - y`, one a row of `y`.

    Example:
        >>> rmse(torch.zeros(3, 2, 2), torch.tensor([0.0, 0.5]).view(2, 1, 1, 1).expand(-1, 3, 2, 2)).tolist()
        [0.0, 0.5]
    """
    return (x - y).flatten(1).square().mean(1).sqrt()


def ssim(
    x: Float[Tensor, "#b c h w"], y: Float[Tensor, "b c h w"], window: int = 11, sigma: float = 1.5
) -> Float[Tensor, " b"]:
    """Structural similarity of images in [0, 1], one a pair: 1 for equal ones, about 0 for unrelated ones.

        SSIM = mean over pixels and channels of
               (2 m_x m_y + c1) (2 s_xy + c2) / ((m_x^2 + m_y^2 + c1) (s_x^2 + s_y^2 + c2)),   c1 = 0.01^2, c2 = 0.03^2

    with local means m, variances s^2 and covariances s_xy under a Gaussian window, at the pixels where the whole window
    lies in the image.

    Args:
        x: `[B, C, H, W]`, or one image `[1, C, H, W]` for all of `y`.
        y: `[B, C, H, W]`.
        window: pixels a side, odd; smaller where the image is smaller.
        sigma: of the Gaussian, in pixels.

    Paper: Wang et al., Image quality assessment: from error visibility to structural similarity, IEEE TIP 2004.

    Example:
        >>> image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> round(ssim(image, image).item(), 4), ssim(image, 1 - image).item() < 0
        (1.0, True)
    """
    bell = min(window, *x.shape[-2:])
    down, across = (_blur(size, bell - 1 + bell % 2, sigma).to(x) for size in x.shape[-2:])  # an even side loses one
    m_x, m_y, xx, yy, xy = (down @ plane @ across.T for plane in (x, y, x * x, y * y, x * y))
    c1, c2 = 0.01**2, 0.03**2
    likeness = (2 * m_x * m_y + c1) * (2 * (xy - m_x * m_y) + c2)
    found: Tensor = likeness / ((m_x**2 + m_y**2 + c1) * (xx - m_x**2 + yy - m_y**2 + c2))
    return found.flatten(1).mean(1)


@lru_cache(maxsize=8)
def _blur(size: int, window: int, sigma: float) -> Tensor:
    """The matrix `[size - window + 1, size]` whose rows are a Gaussian window, each moved by one."""
    bell = torch.exp(-(torch.arange(window) - window // 2).square() / (2 * sigma**2))
    rows = torch.zeros(size - window + 1, size)
    for i in range(len(rows)):
        rows[i, i : i + window] = bell / bell.sum()
    return rows


def closest(queries: Float[Tensor, "q ..."], train: Column, k: int) -> Int[Tensor, "q {k}"]:
    """The `k` samples of `train` nearest to each query by RMSE, nearest first, up to the rounding of float32.

    Args:
        queries: values of the shape of the column.
        train: read chunk by chunk, so that memory does not grow with it.
        k: at most as many as there are samples.
    """
    flat = queries.flatten(1)
    best = torch.full((len(flat), k), torch.inf)
    where = torch.zeros(len(flat), k, dtype=torch.long)
    start = 0
    for part in train.parts():
        rows = part.flatten(1)
        square = rows.square().sum(1) - 2 * flat @ rows.T  # less |x|^2, which moves no order
        index = torch.arange(start, start + len(rows)).expand(len(flat), -1)
        start += len(rows)
        best, order = torch.cat([best, square], 1).topk(k, largest=False)
        where = torch.cat([where, index], 1).gather(1, order)
    return where


def closest_vectors(
    queries: Float[Tensor, "q d"], train: Features, samples: int, k: int, origin: Int[Tensor, " q"]
) -> tuple[Float[Tensor, "q {k}"], Int[Tensor, "q {k}"], Float[Tensor, " q"]]:
    """The `k` samples nearest to each query by cosine distance, and the distance to its own origin.

        d(x, i) = min over the rows v of sample i of  1 - <x, v>

    Args:
        queries: unit vectors.
        train: the rows of all samples; one that has none is never near.
        samples: how many there are.
        k: at most as many as there are samples with a row.
        origin: a sample for each query, -1 for none.

    Returns:
        distances, nearest first; the samples they belong to; the distance to the origin, NaN without one.

    Example:
        >>> found = closest_vectors(torch.eye(3)[:1], Features(torch.eye(3), torch.tensor([0, 0, 2])), 3, 2, torch.tensor([2]))
        >>> [x.tolist() for x in found]
        [[[0.0, 1.0]], [[0, 2]], [1.0]]
    """
    distances, index, own, first = [], [], [], 0
    for score in similarities(queries, train.vectors, train.owner, samples, CELLS):
        start = origin[first : first + len(score)]
        first += len(score)
        top, found = largest(score, k)
        to_start = score.gather(1, start.clamp(min=0)[:, None]).squeeze(1)
        distances.append((1 - top).clamp(min=0))
        index.append(found)
        own.append(torch.where((start >= 0) & to_start.isfinite(), (1 - to_start).clamp(min=0), torch.nan))
    return torch.cat(distances), torch.cat(index), torch.cat(own)
