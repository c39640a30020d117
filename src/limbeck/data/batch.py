"""`Batch`: aligned values of several modalities, the one data noun that flows through everything.

Axis letters of the whole package:

    N real samples    M synthetic samples    B batch    K frequencies    T time
    D embedding       C channels             H height   W width
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import DataError

__all__ = ["Batch", "Captions"]

Captions = tuple[str, ...]  # the captions of one sample: none, one or several


@dataclass(frozen=True)
class Batch:
    """Aligned values per modality: row `i` of every value belongs to sample `i`.

    Args:
        values: modality name to value. Images are `float [B, C, H, W]` in [0, 1]; labels are `int64 [B]`; text is
            either a list of B tuples of captions or embeddings `float [B, D]` or tokens `float [B, L, E]`.
        present: modality name to `bool [B]`; a modality that is not named is present in every row.
        relation: optional `float [B, B]`, how much row i of the first modality matches row j of the second;
            `None` means the identity.

    Raises:
        DataError: values of different lengths, or a modality that the batch does not hold.

    Example:
        >>> batch = Batch({"image": torch.zeros(2, 3, 8, 8), "text": [("a cat",), ("a dog", "a hound")]})
        >>> len(batch), batch.modalities
        (2, ('image', 'text'))
        >>> batch.select([1])["text"]
        [('a dog', 'a hound')]
    """

    values: Mapping[str, Any]
    present: Mapping[str, Tensor] = field(default_factory=dict)
    relation: Tensor | None = None

    def __post_init__(self) -> None:
        sizes = {name: len(value) for name, value in {**self.values, **self.present}.items()}
        if len(set(sizes.values())) > 1:
            raise DataError(f"a batch needs values of one length, got {sizes}")

    def __len__(self) -> int:
        return next((len(value) for value in self.values.values()), 0)

    def __contains__(self, modality: str) -> bool:
        return modality in self.values

    def __getitem__(self, modality: str) -> Any:
        if modality not in self.values:
            raise DataError(f"this batch has no {modality!r}; it holds {', '.join(self.values) or 'nothing'}")
        return self.values[modality]

    @property
    def modalities(self) -> tuple[str, ...]:
        """The names of the values held."""
        return tuple(self.values)

    def mask(self, modality: str) -> Tensor:
        """Which rows hold `modality`: `bool [B]`."""
        self[modality]
        return self.present.get(modality, torch.ones(len(self), dtype=torch.bool))

    def select(self, index: Sequence[int] | Tensor) -> "Batch":
        """The rows at `index`, in that order."""
        rows = torch.as_tensor(index, dtype=torch.long)
        relation = None if self.relation is None else self.relation[rows][:, rows]
        return Batch(
            {name: _rows(value, rows) for name, value in self.values.items()},
            {name: mask[rows] for name, mask in self.present.items()},
            relation,
        )

    def to(self, device: str | torch.device) -> "Batch":
        """The same batch with every tensor on `device`."""
        move = {n: v.to(device) if isinstance(v, Tensor) else v for n, v in self.values.items()}
        relation = None if self.relation is None else self.relation.to(device)
        return replace(self, values=move, relation=relation)


def _rows(value: Any, rows: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value[rows.to(value.device)]
    return [value[i] for i in rows.tolist()]
