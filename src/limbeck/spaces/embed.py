"""Features of a whole source, once: sharded, cached by content, resumable."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.pairs import first_rows
from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError
from limbeck.runtime.cache import Cache, digest
from limbeck.runtime.progress import ProgressCallback
from limbeck.runtime.runtime import Runtime
from limbeck.spaces.encoders.pool import members_of
from limbeck.spaces.space import Encoder, Space

__all__ = ["Features", "check_features", "embed_source"]

SHARD = 4096  # values a cache entry
Read = Callable[[int, int], tuple[Any, Tensor]]  # values `start` to `stop`, and the sample each belongs to


@dataclass(frozen=True)
class Features:
    """Unit vectors of one modality of a source.

    Args:
        vectors: `float32 [R, D]`.
        owner: `int64 [R]`, the sample that each row belongs to, ascending. An image has one row, a text one row a
            caption, a sample that lacks the modality none.

    Raises:
        DataError: not one owner a row.

    Example:
        >>> f = Features(torch.eye(3), torch.tensor([0, 0, 1]))
        >>> f.rows(torch.tensor([1])).tolist(), f.counts(2).tolist()
        ([2], [2, 1])
    """

    vectors: Tensor
    owner: Tensor

    def __post_init__(self) -> None:
        if self.vectors.shape[0] != self.owner.shape[0]:
            rows, owners = self.vectors.shape[0], self.owner.shape[0]
            raise DataError(f"features need one owner a row, got {rows} rows and {owners} owners")

    def counts(self, samples: int) -> Tensor:
        """How many rows each of the `samples` samples has: `int64 [samples]`."""
        return torch.bincount(self.owner, minlength=samples)

    def rows(self, index: Tensor) -> Tensor:
        """The rows that belong to the samples at `index`, in order."""
        return torch.isin(self.owner, index).nonzero().squeeze(1)

    def first(self, samples: int) -> Tensor:
        """The first row of each sample: `int64 [samples]`; -1 where it has none."""
        return first_rows(self.counts(samples))

    def directions(self, samples: int) -> Tensor:
        """The mean direction of each sample's rows: `float [samples, D]`, of length 1; zero where it has none."""
        total = torch.zeros(samples, self.vectors.shape[1]).index_add_(0, self.owner, self.vectors)
        return F.normalize(total, dim=1)


def embed_source(
    source: Source,
    space: Space,
    cache: Cache | None = None,
    *,
    batch_size: int = 128,
    shard: int = SHARD,
    device: str | None = None,
    tick: ProgressCallback | None = None,
    runtime: Runtime | None = None,
) -> dict[str, Features]:
    """Features of every modality that source and space share.

    Each shard of `shard` values is a cache entry of its own, keyed by the source's content, the encoder's weights and
    the range, so a killed run continues where it stopped. Of a pool the features are those of its first member.

    Args:
        source: what to embed.
        space: the encoders.
        batch_size: values encoded at a time.
        shard: values a cache entry.
        cache, device, tick, runtime: a `Runtime`, or one by one its cache, device and progress (`tick`); not both.

    Returns:
        modality name to `Features`, on the CPU.

    Raises:
        ConfigError: a batch or shard size below 1.
        DataError: the source holds embeddings of another encoder, or a vector is not finite.

    Example:
        >>> import limbeck as lb
        >>> from tempfile import mkdtemp
        >>> embed_source(lb.check.toy_source(6), lb.space(image="convnet"), Cache(mkdtemp()))["image"].vectors.shape
        torch.Size([6, 128])
    """
    if batch_size < 1 or shard < 1:
        raise ConfigError(f"embedding needs batch_size >= 1 and shard >= 1, got {batch_size} and {shard}")
    runtime = Runtime.of(runtime, device=device, cache=cache, tick=tick)
    given = {m: _given(source, m, e, runtime.device) for m, e in space.encoders.items() if m in source.embeddings}
    result = {}
    for modality, pooled in space.encoders.items():
        encoder = members_of(pooled)[0]
        if runtime.device != "cpu" and (modality in given or modality in source.modalities):
            encoder.to(runtime.device)  # also where every shard is cached: what is learned will be encoded there
        if modality in given:
            result[modality] = given[modality]
        elif modality in source.modalities:
            _same_rate(source, encoder)
            total, read = _strings(source) if modality == "text" else _decoded(source, modality)
            parts = []
            for span, key in _shards(source, encoder, total, shard):
                make = partial(_encode, source, encoder, read, span, total, batch_size, runtime)
                parts.append(runtime.cache.tensors("features", key, make))
                runtime.report(modality, span.stop, total)
            vectors = torch.cat([torch.zeros(0, encoder.dim), *(part["vectors"] for part in parts)])
            owner = torch.cat([torch.zeros(0, dtype=torch.long), *(part["owner"] for part in parts)])
            result[modality] = Features(vectors, owner)
    return result


def check_features(source: Source, space: Space, cache: Cache | None = None) -> int:
    """Looks at the features of a source that are in the cache; tells what is damaged, and encodes nothing.

    Args:
        source, space, cache: see `embed_source`.

    Returns:
        how many shards are there and whole.
    """
    whole, cache = 0, cache or Cache()
    for modality, pooled in space.encoders.items():
        encoder = members_of(pooled)[0]
        if modality in source.modalities and modality not in source.embeddings:
            total = (_strings(source) if modality == "text" else _decoded(source, modality))[0]
            whole += sum(cache.whole("features", key) is not None for _, key in _shards(source, encoder, total, SHARD))
    return whole


def _shards(source: Source, encoder: Encoder, total: int, size: int) -> Iterator[tuple[range, str]]:
    """The ranges that are entries of their own, and their keys."""
    for start in range(0, total, size):
        stop = min(start + size, total)
        yield range(start, stop), digest(source.fingerprint, encoder.modality, encoder.fingerprint, start, stop)


def _same_rate(source: Source, encoder: Encoder) -> None:
    """Refuses waveforms of another rate than the encoder was told, where both are known."""
    found = source.modalities[encoder.modality]
    rate = encoder.sample_rate
    if len(found.shape) == 1 and found.rate and rate not in (None, found.rate):
        raise ConfigError(
            f"{source.name} has sounds of {found.rate} samples a second, and the encoder {encoder.describe()['name']!r} takes "
            f"them for {rate}; set its option, as in --space.audio.rate {found.rate}"
        )


def _given(source: Source, modality: str, encoder: Encoder, device: str) -> Features:
    given = source.embeddings[modality]
    owner = given.flatten(1).any(dim=1).nonzero().squeeze(1)  # zeros are no vector
    given = given[owner]
    by = source.embedded_by.get(modality)
    plain = encoder.reads_vectors and encoder.base.fingerprint == by
    if by != encoder.fingerprint and not plain:
        raise DataError(
            f"{source.name}: its {modality} is embeddings of another encoder than {encoder.describe()}; "
            f"use the encoder named in the set's manifest.json, or, for a table of caption vectors, vectors:{given.shape[-1]} "
            f"(--space.{modality} vectors:{given.shape[-1]})"
        )
    if plain or given.ndim == 3:  # vectors or tokens, which the encoder reads
        with torch.no_grad():
            vectors = encoder.to(device)(given.to(device)).cpu()
    else:
        vectors = F.normalize(given, dim=-1)
    _refuse_infinite(source, encoder, given, vectors, owner)
    return Features(vectors, owner)


def _refuse_infinite(source: Source, encoder: Encoder, values: Any, vectors: Tensor, owner: Tensor) -> None:
    """Names the first sample whose vector holds what is no finite number, and whether its value already did."""
    if math.isfinite(float(vectors.sum())):
        return
    row = int((~vectors.isfinite()).any(dim=1).nonzero()[0])
    modality, key = encoder.modality, source.keys[int(owner[row])]
    if isinstance(values, Tensor) and not values[row].isfinite().all():
        raise DataError(
            f"{source.name}: the {modality} of sample {key!r} holds NaN or infinite values; mend it or drop it"
        )
    raise DataError(
        f"{source.name}: the encoder {encoder.describe()['name']!r} gives NaN or infinite values for the {modality} of "
        f"sample {key!r}; check its weights, or use another encoder"
    )


def _strings(source: Source) -> tuple[int, Read]:
    """The captions of all samples in one row: their number, and how to read a range of them with their owners."""
    captions = [text for sample in source.captions for text in sample]
    owner = torch.tensor([i for i, sample in enumerate(source.captions) for _ in sample], dtype=torch.long)
    return len(captions), lambda start, stop: (captions[start:stop], owner[start:stop])


def _decoded(source: Source, modality: str) -> tuple[int, Read]:
    """The samples: their number, and how to read those of a range that hold the modality, with their indices."""

    def read(start: int, stop: int) -> tuple[Tensor, Tensor]:
        batch = source.batch(range(start, stop))
        here = batch.mask(modality)
        values, owner = batch[modality], torch.arange(start, stop)
        return (values, owner) if here.all() else (values[here], owner[here])

    return len(source), read


def _encode(
    source: Source, encoder: Encoder, read: Read, span: range, total: int, batch_size: int, runtime: Runtime
) -> dict[str, Tensor]:
    """The vectors and owners of the values in `span`, batch by batch."""
    encoder.to(runtime.device)
    vectors, owners = [torch.zeros(0, encoder.dim)], [torch.zeros(0, dtype=torch.long)]
    with torch.no_grad():
        for start in span[::batch_size]:
            stop = min(start + batch_size, span.stop)
            values, owner = read(start, stop)
            if len(owner):
                vectors.append(encoder(values.to(runtime.device) if isinstance(values, Tensor) else values).cpu())
                owners.append(owner)
                _refuse_infinite(source, encoder, values, vectors[-1], owner)
            runtime.report(encoder.modality, stop, total)
    return {"vectors": torch.cat(vectors), "owner": torch.cat(owners)}
