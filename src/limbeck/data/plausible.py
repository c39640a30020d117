"""Whether depth maps can be what they claim: as an image lies, of one unit, with readings that differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.data.decode import image_size
from limbeck.data.depth import depth_size
from limbeck.data.layout import ImageRef
from limbeck.data.parse import Unreadable

__all__ = ["DepthFacts", "DepthOf", "depth_doubts"]

CHUNK = 1024  # maps that are looked at together
CLOSE = 0.1  # metres; where a whole data set is nearer, its unit is wrong
FOLD = 4.0  # that the depth of two halves of one data set do not differ by
FEW = 0.02  # of the maps: fewer are single bad ones, not a group


@dataclass(frozen=True)
class DepthOf(ImageRef):
    """The depth map of an image, which must have the proportions of the image; depth cameras often have fewer pixels.

    Args:
        depth: where its bytes lie.
        image: where those of the image lie.
    """

    depth: ImageRef
    image: ImageRef

    def read(self) -> bytes:
        """The bytes of the depth map.

        Raises:
            Unreadable: it cannot lie upon the image, upright, to the pixel.
        """
        data = self.depth.read()
        try:
            (width, height), (wide, high) = depth_size(data), image_size(self.image.read())
        except (Unreadable, OSError):
            return data  # the one that cannot be read has that reason itself
        if abs(width * high - height * wide) > max(wide, high):
            raise Unreadable(f"depth map of {width}x{height} pixels for an image of {wide}x{high}")
        return data

    @property
    def stamp(self) -> tuple[Any, ...]:
        """Of both."""
        return *self.depth.stamp, *self.image.stamp


@dataclass(frozen=True)
class DepthFacts:
    """What the depth maps of one split are like.

    Args:
        median: metres, of the readings of each map.
        missing: the share of the pixels of each map that hold no reading.
        constant: whether all readings of a map are the same.
    """

    median: NDArray[np.float64]
    missing: NDArray[np.float64]
    constant: NDArray[np.bool_]

    @classmethod
    def of(cls, maps: NDArray[Any], rows: NDArray[np.int64]) -> "DepthFacts":
        """Looks at the maps of a split.

        Args:
            maps: `[N, 1, R, R]`, metres; 0 where there is no reading.
            rows: which of them.
        """
        median, missing, constant = [], [], []
        for start in range(0, len(rows), CHUNK):
            part = maps[rows[start : start + CHUNK]].astype(np.float64).reshape(-1, int(np.prod(maps.shape[1:])))
            read = np.where(part > 0, part, np.nan)
            median.append(np.nanmedian(read, axis=1))
            missing.append(np.isnan(read).mean(axis=1))
            constant.append((np.nanmax(read, axis=1) == np.nanmin(read, axis=1)) & (read.shape[1] > 1))
        return cls(*map(np.concatenate, (median, missing, constant)))

    def doubts(self, name: str) -> list[str]:
        """What a person should look at, a sentence each.

        Args:
            name: of the split.
        """
        total, doubts = len(self.median), []
        groups = self._groups()
        if groups:
            low, high = groups
            doubts.append(
                f"the depth maps of {name} are of two kinds, {len(low)} near {np.median(low):.2g} m and {len(high)} near "
                f"{np.median(high):.2g} m: are they of one unit? one depth_unit is taken for all"
            )
        elif np.mean(self.median < CLOSE) > 0.5:
            doubts.append(
                f"the depth of {name} is nearer than {100 * CLOSE:g} cm (the median is {np.median(self.median):.2g} m): is the "
                "unit right? see depth_unit"
            )
        if constant := int(self.constant.sum()):
            doubts.append(f"{constant} of the {total} depth maps of {name} are constant: they tell nothing of a scene")
        if missing := int((self.missing > 0.5).sum()):
            doubts.append(f"{missing} of the {total} depth maps of {name} have no reading in most of their pixels")
        return doubts

    def _groups(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """The maps on either side of the widest gap between medians, where these are two groups."""
        ordered = np.sort(self.median)
        if len(ordered) < 2:
            return None
        gap = int(np.argmax(ordered[1:] / ordered[:-1])) + 1
        least = max(2.0, FEW * len(ordered))
        near, far = ordered[:gap], ordered[gap:]
        return (near, far) if far[0] / near[-1] >= FOLD and min(len(near), len(far)) >= least else None


def depth_doubts(splits: Mapping[str, Any]) -> list[str]:
    """What a person should look at in the depth maps of several splits, each and beside each other.

    Args:
        splits: by name; those that keep no `depth_facts` are passed over.
    """
    facts = {name: of for name, split in splits.items() if (of := split.depth_facts) is not None}
    doubts = [doubt for name, of in facts.items() for doubt in of.doubts(name)]
    for (a, first), (b, second) in combinations(facts.items(), 2):
        here, there = float(np.median(first.median)), float(np.median(second.median))
        fold = max(here, there) / min(here, there)
        if fold >= FOLD:
            doubts.append(
                f"{a} and {b} differ {fold:.0f}-fold in depth ({here:.2g} and {there:.2g} m): are they of one unit? one depth_unit "
                "is taken for all"
            )
    return doubts
