"""`Budget`: how much the synthetic set may hold, in pairs or in bytes; both are always reported."""

import re
from bisect import bisect_right
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import torch
from torch import Tensor

from limbeck.constraints import Count, validate
from limbeck.errors import ConfigError

__all__ = ["Budget", "byte_count", "per_class"]

UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def byte_count(text: str | int) -> int:
    """A number of bytes as a person writes it: kB, MB and GB are thousands, KiB, MiB and GiB are 1024s.

    Raises:
        ConfigError: it is no number of bytes.

    Example:
        >>> byte_count("1.2MB"), byte_count("500 kB"), byte_count("1MiB"), byte_count(2000)
        (1200000, 500000, 1048576, 2000)
    """
    parts = re.fullmatch(r"(-?\d+(?:[_,]\d+)*(?:\.\d+)?)\s*([A-Za-z]*)", str(text).strip(), re.ASCII)
    if not parts or parts[2].lower() not in UNITS:
        raise ConfigError(
            f"bytes are a number with B, kB, MB, GB, KiB, MiB or GiB, such as 1.2MB, got {str(text)[:60]!r}"
        )
    return int(Decimal(re.sub("[_,]", "", parts[1])) * UNITS[parts[2].lower()])


@dataclass(frozen=True)
class Budget:
    """A limit in pairs or in bytes (exactly one of them).

    Args:
        pairs: number of synthetic samples M; a sample is one image with one learned text, all captions of a real one, or a label.
        bytes: total size of the files of the set's folder, as a number or as text: 1_200_000, "1.2MB".
        pixels: `"uint8"` stores images as files, see `Storage`; `"float32"` their exact floats at four bytes each.

    Raises:
        ConfigError: neither or both given, or not positive, or bytes in an unknown unit.

    Example:
        >>> Budget(bytes="1MB").resolve(sample_bytes=12_288, available=5000, fixed=10_000)
        80
    """

    pairs: Count | None = None
    bytes: int | str | None = None
    pixels: Literal["uint8", "float32"] = "uint8"

    def __post_init__(self) -> None:
        validate(self)
        if (self.pairs is None) == (self.bytes is None):
            raise ConfigError("a budget needs either pairs or bytes, not both and not neither")
        if self.bytes is not None:
            object.__setattr__(self, "bytes", byte_count(self.bytes))
            if self.limit is None or self.limit < 1:
                raise ConfigError(f"`bytes` of budget must be 1 or more, got {self.limit}")

    @property
    def limit(self) -> int | None:
        """The bytes as a number; `None` for a budget in pairs."""
        return None if self.bytes is None else byte_count(self.bytes)

    def resolve(self, sample_bytes: int, available: int, fixed: int = 0) -> int:
        """The number of pairs M that this budget allows.

        Args:
            sample_bytes: bytes of one synthetic sample.
            available: number of real samples, the most that M can be; bytes that would hold more are not used up.
            fixed: bytes that a set takes before its first sample.

        Raises:
            ConfigError: less than one pair, or more pairs than there are real samples.
        """
        limit = self.limit
        pairs = self.pairs if limit is None else min((limit - fixed) // sample_bytes, available)
        if pairs is None or pairs < 1:
            raise ConfigError(
                f"a budget of {limit or 0:,} bytes holds no pair: one takes about {sample_bytes:,} bytes, and a set {fixed:,} for its "
                "card, its manifest and its table; give it more bytes, or store less: a codec, a quality or a side (--storage.codec jpeg)"
            )
        if pairs > available:
            raise ConfigError(
                f"a budget of {pairs} pairs is larger than the data: {available} samples can make a pair; ask for fewer"
            )
        return pairs


def per_class(pairs: int, labels: Tensor, classes: int) -> list[int]:
    """How many of `pairs` each class gets: as equal as possible, never more than it has, the rest to the first classes.

    Every class gets min(what it has, level), where the level is the highest that `pairs` can pay for.

    Args:
        pairs: the total to spread.
        labels: `int64 [N]` labels of the real data.
        classes: the number of classes.

    Raises:
        ConfigError: less than one pair a class.

    Example:
        >>> per_class(5, torch.tensor([0, 0, 0, 1, 2, 2]), 3)
        [2, 1, 2]
    """
    have = torch.bincount(labels[labels >= 0], minlength=classes).tolist()
    wanted = sum(1 for count in have if count)
    if pairs < wanted:
        raise ConfigError(f"a budget of {pairs} pairs is below one a class: there are {wanted} classes with samples")
    levels = range(max(have, default=0) + 1)
    level = bisect_right(levels, pairs, key=lambda height: sum(min(count, height) for count in have)) - 1
    share = [min(count, level) for count in have]
    richer = [c for c, count in enumerate(have) if count > level]
    for c in richer[: pairs - sum(share)]:
        share[c] += 1
    return share
