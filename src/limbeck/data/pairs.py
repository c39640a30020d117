"""`PairIndex`: which rows of each modality's features belong to which sample."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

__all__ = ["PairIndex", "first_of_each", "first_rows"]


@dataclass(frozen=True)
class PairIndex:
    """Which rows of each modality's features belong to which sample; it holds positions and no values.

    The rows of one sample stand together: an image has one row, a text one row a caption, a sample that lacks a modality none.

    Args:
        sample: `int64 [n]`, samples of a source.
        first: modality to `int64 [n]`, the first row of each sample; -1 where it has none.
        counts: modality to `int64 [n]`, how many rows each sample has.

    Example:
        >>> owners = {"image": torch.tensor([0, 1, 2]), "text": torch.tensor([0, 0, 2])}
        >>> index = PairIndex.of(owners, samples=3)
        >>> index.counts["text"].tolist(), index.first["text"].tolist(), index.complete.tolist()
        ([2, 0, 1], [0, -1, 2], [True, False, True])
        >>> pairs = index.aligned(["image", "text"])
        >>> pairs.sample.tolist(), pairs.rows["image"].tolist(), pairs.rows["text"].tolist()
        ([0, 0, 2], [0, 0, 2], [0, 1, 2])
    """

    sample: Int[Tensor, " n"]
    first: Mapping[str, Tensor]
    counts: Mapping[str, Tensor]

    @classmethod
    def of(cls, owners: Mapping[str, Tensor], samples: int) -> "PairIndex":
        """The index of all samples of a source.

        Args:
            owners: modality to `int64 [R]`, the sample of each row, ascending.
            samples: how many the source has.
        """
        counts = {m: torch.bincount(owner, minlength=samples) for m, owner in owners.items()}
        return cls(torch.arange(samples), {m: first_rows(count) for m, count in counts.items()}, counts)

    def __len__(self) -> int:
        return len(self.sample)

    @property
    def rows(self) -> Mapping[str, Tensor]:
        """Of an aligned index: modality to the row of each pair, `int64 [n]`."""
        return self.first

    def present(self, modality: str) -> Bool[Tensor, " n"]:
        """Which samples have a row of `modality`."""
        return self.counts[modality] > 0

    @property
    def num_present(self) -> Int[Tensor, " n"]:
        """How many modalities each sample has."""
        return torch.stack([count > 0 for count in self.counts.values()]).sum(0)

    @property
    def complete(self) -> Bool[Tensor, " n"]:
        """Which samples have every modality."""
        return self.num_present == len(self.counts)

    def take(self, index: Tensor) -> "PairIndex":
        """The samples at `index`; rows keep their positions.

        Args:
            index: `int64 [k]`, positions among the samples.
        """
        first, counts = ({m: x[index] for m, x in which.items()} for which in (self.first, self.counts))
        return PairIndex(self.sample[index], first, counts)

    def all_rows(self, modality: str) -> tuple[Tensor, Tensor]:
        """Every row of a modality, sample by sample.

        Returns:
            `int64 [R]`: the rows, and the position among the samples that each belongs to.
        """
        count = self.counts[modality]
        owner = torch.arange(len(self)).repeat_interleave(count)
        return self.first[modality][owner] + _position_within(count), owner

    def aligned(self, modalities: Iterable[str]) -> "PairIndex":
        """Every pair of the samples that have all of `modalities`: one row of each modality, once for each caption.

        Args:
            modalities: which; one of them may have several rows a sample.
        """
        names = tuple(modalities)
        several = torch.stack([self.counts[m] for m in names]).amax(0)
        some = torch.stack([self.counts[m] > 0 for m in names]).all(0)
        each = several * some
        owner, within = torch.arange(len(self)).repeat_interleave(each), _position_within(each)
        rows = {m: self.first[m][owner] + within.minimum(self.counts[m][owner] - 1) for m in names}
        return PairIndex(self.sample[owner], rows, {m: torch.ones_like(owner) for m in names})

    def draw_one(self, modality: str, index: Tensor, generator: torch.Generator) -> Int[Tensor, " k"]:
        """One row of each sample at `index`, uniformly among its own; -1 where it has none.

        Args:
            modality: whose rows.
            index: `int64 [k]`, positions among the samples.
            generator: of the draws, one a sample.
        """
        count = self.counts[modality][index]
        drawn = (torch.rand(len(index), generator=generator) * count).long()
        return self.first[modality][index] + drawn.minimum((count - 1).clamp(min=0))


def first_rows(counts: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """The first row of each sample, whose rows stand one after the other; -1 where it has none.

    Args:
        counts: how many rows each sample has.

    Example:
        >>> first_rows(torch.tensor([2, 0, 1])).tolist()
        [0, -1, 2]
    """
    return torch.where(counts > 0, counts.cumsum(0) - counts, torch.full_like(counts, -1))


def first_of_each(sample: Int[Tensor, " r"]) -> Int[Tensor, " n"]:
    """The position at which each distinct sample stands first, in ascending order of samples.

    Args:
        sample: the sample of each candidate, in any order.

    Example:
        >>> first_of_each(torch.tensor([2, 0, 2, 1])).tolist()
        [1, 3, 0]
    """
    _, position = torch.unique(sample, return_inverse=True)
    first = torch.full((int(position.max()) + 1,), len(sample))
    return first.scatter_reduce(0, position, torch.arange(len(sample)), "amin")


def _position_within(count: Tensor) -> Tensor:
    """0 to count - 1 for each sample, one after the other."""
    total = torch.arange(int(count.sum()))
    return total - (count.cumsum(0) - count).repeat_interleave(count)
