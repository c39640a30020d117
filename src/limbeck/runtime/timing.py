"""How long work takes, measured on a little of it, for estimates of all of it."""

import time
from collections.abc import Callable

import torch

__all__ = ["seconds_of"]


def seconds_of(work: Callable[[], object], device: str) -> float:
    """The seconds of the second of two calls; the first also prepares what both read.

    Args:
        work: what is measured.
        device: where it runs; a GPU is waited for.

    Example:
        >>> calls = []
        >>> 0 <= seconds_of(lambda: calls.append(None), "cpu") < 1, len(calls)
        (True, 2)
    """
    for _ in range(2):
        begin = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
    return time.perf_counter() - begin
