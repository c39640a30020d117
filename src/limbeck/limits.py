"""What readers refuse because it is too large, all in one place, and one factor for all of it.

A limit is there so that a small file which a stranger made cannot take all memory, or hours. Whoever trusts the data raises all of them
together: `--limits 4`, `with scaled_limits(4):`, or `LIMBECK_LIMITS=4`, which processes that are started inherit. How deep things may lie
in each other is no such limit: there Python's own stack is the reason.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from limbeck.errors import ConfigError

__all__ = ["Limit", "limit_factor", "scaled_limits"]

VARIABLE = "LIMBECK_LIMITS"
LARGEST = 1e6  # what is a factor at all


@dataclass(frozen=True)
class Limit:
    """The most that a reader takes.

    Args:
        number: at a factor of 1.
        unit: of what.

    Example:
        >>> with scaled_limits(2):
        ...     print(Limit(1000, "pixels"))
        more than 2,000 pixels, see --limits (LIMBECK_LIMITS)
    """

    number: int
    unit: str

    @property
    def most(self) -> int:
        """The number, times the factor that holds now.

        Raises:
            ConfigError: `LIMBECK_LIMITS` is no factor.
        """
        return round(self.number * limit_factor())

    def __str__(self) -> str:
        """What a person is told of whatever goes beyond."""
        return f"more than {self.most:,} {self.unit}, see --limits ({VARIABLE})"


@contextmanager
def scaled_limits(factor: float) -> Iterator[None]:
    """Within it, in this process and in those that it starts, every limit of the readers is multiplied by `factor`.

    Args:
        factor: above 0, up to a million.

    Raises:
        ConfigError: no such number.

    Example:
        >>> with scaled_limits(4):
        ...     limit_factor()
        4.0
    """
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = repr(_checked(factor, "limits"))
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def limit_factor() -> float:
    """What every limit is multiplied by: the environment's `LIMBECK_LIMITS`, else 1.

    Raises:
        ConfigError: it is no factor.
    """
    text = os.environ.get(VARIABLE, "")
    return _checked(text, VARIABLE) if text else 1.0


def _checked(factor: object, name: str) -> float:
    try:
        number = float(factor)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(factor, bool) or not 0 < number <= LARGEST:
        raise ConfigError(
            f"{name} is what every limit of the readers is multiplied by, a number above 0 up to a million, got {factor!r}"
        )
    return number


PIXELS = Limit(50_000_000, "pixels")  # of an image, mask or depth map: 0.7 GB at most in the process that decodes it
SIDE = Limit(100_000, "pixels a side")
CROSSINGS = Limit(10_000_000, "crossings")  # of edges of polygons with rows of pixels, in one mask
SAMPLES = Limit(100_000_000, "samples")  # of a sound, those of all channels
CAPTION = Limit(1 << 20, "characters")
NAME = Limit(1000, "characters")  # of a key, a class, a group, a scene
CLASSES = Limit(10**6, "classes")
FILE = Limit(4 << 30, "bytes")  # that is read whole: COCO's largest has 450 MB
TEXT_FILE = Limit(1 << 20, "bytes")  # beside an image, or in a shard; a longer one is no caption
LINE = Limit(1 << 26, "characters")  # or of a cell of a table: a mask of a million corners has 20 million
TABLE = Limit(1 << 28, "bytes")  # in memory, of a Parquet or Arrow table that holds more than `SWELL` times its size
SWELL = Limit(100, "times its size")
SHARDS = Limit(10**6, "shards")
JSON_FILE = Limit(64 << 20, "bytes")  # of a set, a space, scores
YAML_FILE = Limit(256 << 10, "bytes")
YAML_VALUES = Limit(20_000, "values")  # each alias counted as what it stands for
MATLAB = Limit(64_000_000, "bytes")  # of a file of version 4 to 7, and of what is packed in it
HDF5_IMAGES = Limit(10**6, "images")
HDF5_PART = Limit(2**28, "bytes")  # which are unpacked together
SET_TEXTS = Limit(2**29, "bytes")  # of all texts of a set
SET_FILES = Limit(2**31, "bytes")  # of all images and masks of a set
SET_PIXELS = Limit(2**33, "bytes")  # of its images, decoded, and of its masks
