"""`Samples` and `Trainer`: what students read, and how those of one set are trained, chosen and asked.

A protocol judges sets with them and an audit attacks with them, so that both speak of the same students.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

__all__ = ["Samples", "Trainer"]


class Samples(ABC):
    """What students read of some samples of a source.

    Attributes:
        rows: `int64 [n]`, which samples of their source they are.
    """

    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    @abstractmethod
    def complete(self) -> Tensor:
        """Which of them hold every modality: `bool [n]`."""

    @abstractmethod
    def take(self, index: Tensor) -> "Samples":
        """Those at `index`, as if there had never been others."""

    @classmethod
    @abstractmethod
    def join(cls, parts: Sequence[Any]) -> "Samples":
        """Several one after the other; `rows` stay what they were."""


S = TypeVar("S", bound=Samples)


class Trainer(ABC, Generic[S]):
    """All students of one set: they share its samples, and what is learned from it before any training, such as components."""

    @abstractmethod
    def chosen(self, judge: S | None, tick: Callable[[int], None] | None = None) -> nn.Module:
        """The student whose score comes first in a row: trained at every point of the grid, the best on `judge`.

        Args:
            judge: validation data; without them nothing is chosen: the first point of the grid, after its last step.
            tick: called with the number of looks done.
        """

    @abstractmethod
    def answers(self, student: nn.Module, samples: S) -> list[tuple[Tensor, Tensor]]:
        """What a student says of samples that hold every modality, one item a way to ask: logits `[n, k]`, and which of the k is right.

        Args:
            student: one of these.
            samples: of any source.
        """
