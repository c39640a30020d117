"""`Budget`: how much the synthetic set may hold, in pairs or in bytes; both are always reported."""

from bisect import bisect_right
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.data.modality import Modality
from limbeck.errors import ConfigError

__all__ = ["Budget", "per_class", "sample_bytes"]


@dataclass(frozen=True)
class Budget:
    """A limit in pairs or in bytes (exactly one of them).

    Args:
        pairs: number of synthetic samples M; a sample is one image with one learned text, all captions of a real one, or a label.
        bytes: total size of what a student reads: pixels, masks, 32-bit sound and depth, 32-bit embeddings or UTF-8 captions,
            labels. Compressed files are smaller, those of real images by far; `compare` says by how much.
        pixels: `"uint8"` stores images as a PNG would, `"float32"` their exact floats at four times the bytes.

    Raises:
        ConfigError: neither or both given, or not positive.

    Example:
        >>> Budget(bytes=1_000_000).resolve(sample_bytes=12_288, available=5000)
        81
    """

    pairs: int | None = None
    bytes: int | None = None
    pixels: str = "uint8"

    def __post_init__(self) -> None:
        if (self.pairs is None) == (self.bytes is None):
            raise ConfigError("a budget needs either pairs or bytes, not both and not neither")
        value = self.pairs if self.pairs is not None else self.bytes
        if self.pixels not in ("uint8", "float32"):
            raise ConfigError(f"pixels are stored as 'uint8' or 'float32', got {self.pixels!r}")
        if value is None or value <= 0:
            raise ConfigError(f"a budget must be positive, got {value}")

    def resolve(self, sample_bytes: int, available: int) -> int:
        """The number of pairs M that this budget allows.

        Args:
            sample_bytes: bytes of one synthetic sample.
            available: number of real samples, the most that M can be.

        Raises:
            ConfigError: less than one pair, or more pairs than there are real samples.
        """
        pairs = self.pairs if self.pairs is not None else (self.bytes or 0) // sample_bytes
        if pairs < 1:
            raise ConfigError(f"a budget of {self.bytes} bytes holds no pair: one takes {sample_bytes} bytes")
        if pairs > available:
            raise ConfigError(
                f"a budget of {pairs} pairs is larger than the data: {available} samples can make a pair; ask for fewer"
            )
        return pairs


def sample_bytes(modalities: dict[str, Modality], text_bytes: float, pixel_bytes: int = 1) -> int:
    """Bytes of one synthetic sample: pixels, sound, depth + `text_bytes` + 8 for a label, for the modalities that are there.

    A mask takes one byte a pixel, however the image is stored.

    Args:
        modalities: of the set.
        text_bytes: of one text.
        pixel_bytes: of one value of an image.

    Example:
        >>> sample_bytes({"image": Modality("image", (3, 64, 64)), "text": Modality("text")}, text_bytes=4 * 384)
        13824
    """
    fixed = sum((pixel_bytes if name == "image" else 1) * modality.nbytes for name, modality in modalities.items())
    return round(fixed + (text_bytes if "text" in modalities else 0) + (8 if "label" in modalities else 0))


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
