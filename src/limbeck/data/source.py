"""`Source`: an indexable collection of aligned samples. A random subset, a coreset, a distilled set, the full data
are all sources, so that one path judges them all."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from limbeck.data.batch import Batch, Captions
from limbeck.data.modality import Modality
from limbeck.errors import DataError

__all__ = ["Source", "TrainingView"]


class Source(ABC):
    """An indexable collection of aligned samples of one split.

    Attributes:
        name: what a person calls it (`karpathy:data/flickr8k`).
        modalities: name to `Modality`; `"label"` is among them where the samples are labelled.
        classes: the names of the labels, `()` where there are none.
        licence: the licence of the data, `"unknown"` where nobody said.
        fingerprint: hex digest of the *content*: two sources with the same fingerprint hold the same samples.
        embeddings: modality to `float32 [N, D]`, or tokens `[N, L, E]`, for modalities whose samples *are* embeddings of
            an encoder: a learned text, or captions that the data hold as vectors (zeros where a sample has none).
        embedded_by: modality to the fingerprint of the encoder that those embeddings belong to.
        recipe: how a distilled set was made; `None` for real data.
        training: how a student should be trained on a distilled set; see `DistilledSet`.
        similarity: what describes the similarity that a distilled set learned.
        origins: the key of the real sample that each sample of a distilled set started from.
    """

    name: str
    modalities: Mapping[str, Modality]
    classes: tuple[str, ...] = ()
    licence: str = "unknown"
    fingerprint: str
    embeddings: Mapping[str, Tensor] = MappingProxyType({})
    embedded_by: Mapping[str, str] = MappingProxyType({})
    recipe: Any = None
    training: Mapping[str, str | float] = MappingProxyType({})
    similarity: Mapping[str, Any] = MappingProxyType({})
    origins: Sequence[str] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, index: Sequence[int] | Tensor) -> Batch:
        """The samples at `index`, in that order: images decoded to `float32 [B, C, H, W]` in [0, 1]."""

    @property
    @abstractmethod
    def keys(self) -> Sequence[str]:
        """A stable name for each sample (a path, a row), unique within the source."""

    @property
    @abstractmethod
    def captions(self) -> Sequence[Captions]:
        """The captions of each sample, without decoding anything; empty tuples where there are none."""

    @property
    @abstractmethod
    def labels(self) -> Tensor | None:
        """`int64 [N]` labels, without decoding anything; `None` for an unlabelled source."""

    def digests(self, modality: str) -> Sequence[str | None] | None:
        """What tells the file of each sample from others, `None` where it has none; `None` for a source that does not know files.

        Args:
            modality: image, audio or depth.
        """
        return None

    def files(self, modality: str, index: Sequence[int]) -> Sequence[bytes | None]:
        """The bytes of the file of each sample at `index`, as it lies on the disk; `None` where it has none, or it cannot be read.

        Args:
            modality: image, mask, audio or depth.
            index: positions.
        """
        return [None] * len(index)

    @property
    def pairs(self) -> int:
        """What a budget in pairs counts: samples."""
        return len(self)

    @property
    def nbytes(self) -> int | None:
        """Bytes of the folder of a distilled set; `None` for real data."""
        return None

    @property
    def soft_labels(self) -> Tensor | None:
        """Learned shares of the classes, `float32 [N, C]`, of a distilled set that has them."""
        return None

    @property
    def relation(self) -> Tensor | None:
        """How much image i matches text j, `float32 [N, N]`, of a distilled set that learned it; `None` for the identity."""
        return None

    @property
    def hints(self) -> Mapping[str, float]:
        """Learned scalars for the student of a distilled set, such as a learning rate."""
        return {}

    @property
    def skipped(self) -> Sequence[Mapping[str, str]]:
        """What was left out of this split: key, reason and where."""
        return ()

    @property
    def unread(self) -> Mapping[str, Mapping[str, int]]:
        """What lies beside the samples and was not used: kind of thing to name to count."""
        return {}

    @property
    def unmasked(self) -> Mapping[str, int]:
        """How many samples count as object everywhere, by reason."""
        return {}

    @property
    def split_by(self) -> str:
        """How the splits came about; empty where nobody knows."""
        return ""

    @property
    def forms(self) -> Sequence[Any]:
        """How the files of each modality are decoded, see `limbeck.data.form.Form`."""
        return ()

    @property
    def depth_facts(self) -> Any:
        """What the depth maps are like, see `limbeck.data.plausible.DepthFacts`; `None` where there are none."""
        return None

    def write_skipped(self, folder: str | Path) -> Path | None:
        """Writes `skipped.jsonl`, one line a record that was left out, into `folder`; `None` where no records are kept."""
        return None

    def refuse_strangers(self, kind: Any, things: Mapping[str, Any], instead: str) -> list[str]:
        """Refuses what a set names that was made elsewhere; real data name nothing. See `DistilledSet`."""
        return []

    @property
    def splits(self) -> tuple[str, ...]:
        """The names that `split` accepts."""
        return ()

    def split(self, name: str) -> "Source":
        """The sibling split `name` of the same data.

        Raises:
            DataError: there is no such split; the message names those that exist.
        """
        raise DataError(f"{self.name} has no split {name!r}; it has {', '.join(self.splits) or 'no splits'}")

    def describe(self) -> dict[str, Any]:
        """What opens this source again, as it is written in a recipe: name, split and options."""
        return {"name": self.name}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {len(self)} samples of {', '.join(self.modalities)}>"


class TrainingView(Source):
    """A source without its siblings: what a method is given, so that no test split is within its reach.

    Args:
        source: the training split.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name, self.licence = source.name, source.licence
        self.modalities, self.classes = source.modalities, source.classes
        self.fingerprint = source.fingerprint
        self.embeddings, self.embedded_by = source.embeddings, source.embedded_by

    def __len__(self) -> int:
        return len(self._source)

    def batch(self, index: Sequence[int] | Tensor) -> Batch:
        """As of the source."""
        return self._source.batch(index)

    @property
    def keys(self) -> Sequence[str]:
        """As of the source."""
        return self._source.keys

    @property
    def captions(self) -> Sequence[Captions]:
        """As of the source."""
        return self._source.captions

    @property
    def labels(self) -> Tensor | None:
        """As of the source."""
        return self._source.labels

    def digests(self, modality: str) -> Sequence[str | None] | None:
        """As of the source."""
        return self._source.digests(modality)

    def files(self, modality: str, index: Sequence[int]) -> Sequence[bytes | None]:
        """As of the source."""
        return self._source.files(modality, index)

    def describe(self) -> dict[str, Any]:
        """As of the source."""
        return self._source.describe()
