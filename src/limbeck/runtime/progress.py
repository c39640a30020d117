"""What long work tells of itself as it proceeds."""

from collections.abc import Callable

__all__ = ["ProgressCallback"]

ProgressCallback = Callable[[str, int, int], None]
"""Called with (what, done, total): what is being done, how many of its pieces are done, and how many there are."""
