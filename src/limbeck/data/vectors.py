"""`VectorSource`: samples that are plain vectors in memory, one a modality, whatever the modalities are called."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.data.batch import Batch, Captions
from limbeck.data.modality import Modality
from limbeck.data.source import Source
from limbeck.errors import DataError
from limbeck.runtime.cache import digest

__all__ = ["VectorSource"]


class VectorSource(Source):
    """One split of vectors: features that were made elsewhere, or made-up data. The encoder `vectors:D` reads them.

    Args:
        name: what a person calls it.
        vectors: modality to `float [N, D]`; not `image`, `text` or `label`, which have a form of their own.
        labels: `int64 [N]`, -1 where a sample has none.
        present: modality to `bool [N]`; a modality that is not named is present in every sample.
        split: the name of this split.
        licence: of the data.

    Raises:
        DataError: values of different lengths or of another shape, or a number that is not finite where it is present.

    Example:
        >>> VectorSource("mine", {"audio": torch.eye(3), "tags": torch.ones(3, 2)}).batch([2])["audio"]
        tensor([[0., 0., 1.]])
    """

    def __init__(
        self,
        name: str,
        vectors: Mapping[str, Tensor],
        labels: Tensor | None = None,
        present: Mapping[str, Tensor] | None = None,
        split: str = "train",
        licence: str = "unknown",
    ) -> None:
        self.name, self.here, self.licence = name, split, licence
        self._vectors, self._labels, self._present = dict(vectors), labels, dict(present or {})
        self._refuse()
        self.modalities = {m: _modality(m, v) for m, v in vectors.items()}
        if labels is not None:
            self.modalities["label"] = Modality("label")
            self.classes = tuple(str(i) for i in range(int(labels.max()) + 1))
        parts: list[Any] = [split, list(vectors), list(self._present)]
        tensors = [*vectors.values(), *self._present.values(), *([] if labels is None else [labels])]
        self.fingerprint = digest("vectors", *parts, *(_bytes(t) for t in tensors))

    def _refuse(self) -> None:
        if not self._vectors or {"image", "text", "label"} & set(self._vectors):
            raise DataError(
                f"{self.name}: vectors need modalities, and not the names image, text or label; got {list(self._vectors)}"
            )
        lengths = {m: len(v) for m, v in {**self._vectors, **self._present}.items()}
        lengths |= {} if self._labels is None else {"label": len(self._labels)}
        if len(set(lengths.values())) > 1:
            raise DataError(f"{self.name}: every modality has one row a sample, got {lengths}")
        if unknown := sorted(set(self._present) - set(self._vectors)):
            raise DataError(
                f"{self.name}: present names {', '.join(unknown)}, but the vectors are of {list(self._vectors)}"
            )
        for modality, value in self._vectors.items():
            if value.ndim != 2 or not value.is_floating_point():
                raise DataError(f"{self.name}: {modality} must be float [N, D], got {value.dtype} {list(value.shape)}")
            bad = ~value.isfinite().all(dim=1)
            bad &= self._present.get(modality, torch.ones(len(value), dtype=torch.bool))
            if bool(bad.any()):
                row = int(bad.nonzero()[0])
                raise DataError(
                    f"{self.name}: {modality} of sample {row} holds NaN or infinite values; mend or mask it"
                )

    def __len__(self) -> int:
        return len(next(iter(self._vectors.values())))

    def batch(self, index: Sequence[int] | Tensor) -> Batch:
        """The samples at `index`."""
        values: dict[str, Any] = dict(self._vectors)
        if self._labels is not None:
            values["label"] = self._labels
        return Batch(values, self._present).select(index)

    @property
    def keys(self) -> list[str]:
        """Split and row."""
        return [f"{self.here}/{i}" for i in range(len(self))]

    @property
    def captions(self) -> list[Captions]:
        """None."""
        return [()] * len(self)

    @property
    def labels(self) -> Tensor | None:
        """What was given."""
        return self._labels


def _modality(name: str, value: Tensor) -> Modality:
    finite = value[value.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    return Modality(name, tuple(value.shape[1:]), low, high)


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
