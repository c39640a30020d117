"""Several processes that work on one set, as `accelerate launch` starts them; everything here is at rest where there is one.

Every process runs the same program. Work that can be split takes `share`; vectors that all of them need are put together by
`gathered`, whose gradient reaches the process that a row came from; gradients are then summed over all by `sum_gradients`. One
process, the first, writes.
"""

import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from limbeck.errors import MissingDependency

__all__ = ["agree", "count", "gathered", "is_first", "rank", "share", "sum_gradients", "wait"]

T = TypeVar("T")


@lru_cache
def _state() -> Any:
    """The state of accelerate; `None` where this process is alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise MissingDependency("work in several processes", "accelerate", "diffusion") from error
    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")  # accelerate launch --cpu
    return PartialState(cpu=asked or not torch.cuda.is_available())


def count() -> int:
    """How many processes there are.

    Example:
        >>> count(), rank(), share(range(5))
        (1, 0, [0, 1, 2, 3, 4])
    """
    return 1 if _state() is None else int(_state().num_processes)


def rank() -> int:
    """The number of this process, from 0."""
    return 0 if _state() is None else int(_state().process_index)


def is_first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def agree(here: bool) -> bool:
    """Whether it is so in any process; each of them gets the same answer.

    Args:
        here: whether it is so in this one.
    """
    if _state() is None:
        return here
    anywhere = torch.tensor(float(here), device=_state().device)
    torch.distributed.all_reduce(anywhere, op=torch.distributed.ReduceOp.MAX)
    return bool(anywhere)


def wait() -> None:
    """Goes on when every process has come here."""
    if _state() is not None:
        _state().wait_for_everyone()


def share(items: Sequence[T]) -> list[T]:
    """Those of `items` that are this process's work: every n-th, for n processes."""
    return list(items)[rank() :: count()]


def gathered(rows: Tensor) -> Tensor:
    """The rows of all processes, one process after the other; each process has as many, and gradients go back to theirs."""
    if _state() is None:
        return rows
    from torch.distributed.nn.functional import all_gather

    return torch.cat(all_gather(rows.contiguous()))


def sum_gradients(parameters: Iterable[Tensor]) -> None:
    """Puts the sum over all processes into the gradient of each parameter.

    Each process has computed the same loss of all gathered rows, and the gradient of `gathered` sums over processes what they
    ask of a row; so the sum is brought to the mean of the processes, which is the gradient that one process would have had.
    """
    if _state() is None:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= count()
