"""The nearest real neighbour of each synthetic sample, and whether it is nearer than chance brings real samples."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.data.source import Source
from limbeck.evaluation.audit.distance import VALUES, Column, closest, closest_vectors, rmse, ssim
from limbeck.spaces import Features
from limbeck.spaces.image_like import IMAGE_LIKE, picture

__all__ = ["EXACT", "RATE", "NearestNeighbours", "bound_of", "nearness"]

RATE = 0.01  # of held-out samples that may be as near to a training sample as what is called memorised
APART = 0.5  # of the mean distance to the next neighbours, at most, is the distance of what is memorised
EXACT = 1e-5  # at or below it two samples are copies
NEXT = 15  # neighbours after the nearest that it is compared with
SAME = 1.5 / 255  # at most so far apart are two pixels that are equal but for rounding


@dataclass(frozen=True)
class NearestNeighbours:
    """The nearest training sample of each synthetic one, by one measure.

        memorised:  d <= EXACT,  or  d <= bound  and  d <= 1/2 mean(d_2, ..., d_16)

    d is the distance to the nearest training sample, d_2 and so on those to the next ones. `bound` is the distance that the
    nearest 1 % of held-out samples keep from the training data. The second condition is there for averages: a blurred mean of many images
    is nearer to each of them than two real images are, and shows none of them.

    Args:
        modality: of what.
        measure: `"rmse"`, in the modality's own units; `"ssim"`, 1 - SSIM; or `"features"`, 1 - cosine of the frozen features.
        distance: to the nearest training sample, one a synthetic sample.
        nearest: the key of that one.
        origin: the distance to the sample that it started from; `None` where that is not among the data.
        memorised: what the rule says.
        held_out: distances of held-out samples to their nearest training sample.
        called: what the rule says of each held-out sample: how often it is wrong.
        bound: see above; `None` without held-out samples, where only copies are called memorised.
        returned: the share of samples whose nearest training sample, or one as near, is their own origin; `None` without origins.
        unchanged: the mean share of pixels that are still those of the origin, within rounding; `None` where not measured.
        alike: the same share between held-out images and their nearest training images.

    Paper: Carlini et al., Extracting training data from diffusion models, USENIX Security 2023 (the second condition).
    """

    modality: str
    measure: str
    distance: tuple[float, ...]
    nearest: tuple[str, ...]
    origin: tuple[float | None, ...]
    memorised: tuple[bool, ...]
    held_out: tuple[float, ...] = ()
    called: tuple[bool, ...] = ()
    bound: float | None = None
    returned: float | None = None
    unchanged: float | None = None
    alike: float | None = None

    def data(self) -> dict[str, Any]:
        """As JSON types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class _Near:
    """What one measure says of some samples: `[Q]` each.

    Args:
        distance, index: of the nearest training sample.
        apart: its distance in mean distances of the next ones; 1 where there are none.
        origin: the distance to the own origin, NaN where there is none.
        same: the share of pixels as in the origin, or where there is none as in the nearest; NaN where not measured.
    """

    distance: Tensor
    index: Tensor
    apart: Tensor
    origin: Tensor
    same: Tensor

    @classmethod
    def of(cls, distance: Tensor, index: Tensor, origin: Tensor | None = None, same: Tensor | None = None) -> "_Near":
        """From the distances `[Q, k]` to the `k` nearest, ascending, and who they are."""
        others = distance[:, 1 : 1 + NEXT]
        mean = others.mean(1) if others.shape[1] else distance[:, 0]
        apart = torch.where(mean > 0, distance[:, 0] / mean.clamp(min=1e-30), torch.ones_like(mean))
        nothing = torch.full_like(mean, torch.nan)
        return cls(
            distance[:, 0], index[:, 0], apart, nothing if origin is None else origin, nothing if same is None else same
        )

    @classmethod
    def join(cls, parts: Sequence["_Near"]) -> "_Near":
        names = ("distance", "index", "apart", "origin", "same")
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def nearness(
    modality: str,
    small: Source,
    source: Source,
    held_out: Sequence[tuple[Source, Tensor]],
    origin: Tensor,
    features: Mapping[str, Features],
    others: Sequence[Features],
) -> list[NearestNeighbours]:
    """Every measure of one modality: RMSE where it is held as tensors, SSIM where it is a picture, frozen features where known.

    RMSE and features are compared with all training samples. SSIM is with the 16 nearest by each of them and the origin, for
    held-out samples likewise.

    Args:
        modality: which.
        small: the set.
        source: the training data.
        held_out: sources and the samples of each that take part, `int64`.
        origin: `int64 [M]`, the training sample of each synthetic one, -1 where it is not among them.
        features: `"set"` and `"source"` to the frozen features of the modality; empty where the space does not encode it.
        others: those of each of `held_out`.

    Returns:
        one a measure; none where no training sample holds the modality.
    """
    asked: list[tuple[Source, Tensor, Tensor, Features | None]] = [
        (small, torch.arange(len(small)), origin, features.get("set"))
    ]
    for i, (data, rows) in enumerate(held_out):
        asked.append((data, rows, torch.full_like(rows, -1), others[i] if features else None))
    search = _Search.of(modality, small, source, features.get("source"))
    if search.held == 0:
        return []
    found = [search.near(*one) for one in asked]
    result = []
    for measure in found[0]:
        rest = [part[measure] for part in found[1:] if measure in part]
        result.append(_judged(modality, measure, found[0][measure], _Near.join(rest) if rest else None, source, origin))
    return result


def bound_of(distance: Tensor, rate: float = RATE) -> float | None:
    """The threshold below which a synthetic sample counts as too near: held-out samples fall below it with probability `rate` at most.

    It is the k-th smallest of n distances, k = floor(rate (n + 1)), or the smallest where k is 0; by exchangeability one more held-out
    sample is at or below it with probability k / (n + 1). Held-out samples that are copies of training samples are left out.

    Args:
        distance: `[n]`, of held-out samples to the training data.
        rate: in (0, 1).

    Example:
        >>> bound_of(torch.arange(1.0, 200.0)), bound_of(torch.tensor([0.0, 3.0, 2.0])), bound_of(torch.zeros(0))
        (2.0, 2.0, None)
    """
    apart = distance[distance > EXACT].sort().values
    if len(apart) == 0:
        return None
    return float(apart[max(1, math.floor(rate * (len(apart) + 1) + 1e-9)) - 1])


def _judged(
    modality: str, measure: str, own: _Near, rest: _Near | None, source: Source, origin: Tensor
) -> NearestNeighbours:
    bound = None if rest is None else bound_of(rest.distance)
    keys, started = source.keys, origin >= 0
    tied = own.origin <= own.distance + EXACT  # data may hold the same sample twice
    index, back = torch.where(tied, origin, own.index), tied[started]
    return NearestNeighbours(
        modality,
        measure,
        distance=tuple(_rounded(own.distance)),
        nearest=tuple(keys[i] for i in index.tolist()),
        origin=tuple(None if math.isnan(x) else x for x in _rounded(own.origin)),
        memorised=tuple(_memorised(own, bound).tolist()),
        held_out=() if rest is None else tuple(_rounded(rest.distance)),
        called=() if rest is None else tuple(_memorised(rest, bound).tolist()),
        bound=bound,
        returned=float(back.float().mean()) if len(back) else None,
        unchanged=_mean(own.same[started]),
        alike=None if rest is None else _mean(rest.same),
    )


def _holding(modality: str, source: Source, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Which of the samples at `rows` hold the modality: `bool [n]`."""
    parts = rows.split(max(1, VALUES // int(torch.Size(shape).numel())))
    return torch.cat(
        [source.batch(part).mask(modality) for part in parts if len(part)] or [torch.zeros(0, dtype=torch.bool)]
    )


def _memorised(near: _Near, bound: float | None) -> Tensor:
    copies = near.distance <= EXACT
    return copies if bound is None else copies | ((near.distance <= bound) & (near.apart <= APART))


def _rounded(values: Tensor) -> list[float]:
    return [round(x, 6) for x in values.tolist()]


def _mean(values: Tensor) -> float | None:
    known = values[values.isfinite()]
    return float(known.mean()) if len(known) else None


@dataclass(frozen=True)
class _Search:
    """Everything that a search for neighbours in one modality needs of the training data.

    Args:
        modality: which.
        source: the training data.
        column: its values; `None` where the modality is not held as tensors, as text.
        position: `int64 [N]`, the row of each sample in the column; -1 where it lacks the modality.
        features: frozen ones, where there are any.
    """

    modality: str
    source: Source
    column: Column | None
    position: Tensor
    features: Features | None

    @classmethod
    def of(cls, modality: str, small: Source, source: Source, features: Features | None) -> "_Search":
        shape, total = small.modalities[modality].shape, len(source)
        if not shape:
            return cls(modality, source, None, torch.full((total,), -1), features)
        every = torch.arange(total)
        rows = every[_holding(modality, source, every, shape) if features is None else features.counts(total) > 0]
        position = torch.full((total,), -1)
        position[rows] = torch.arange(len(rows))
        return cls(modality, source, Column(source, modality, rows, shape), position, features)

    @property
    def held(self) -> int:
        """How many training samples can be compared with."""
        if self.column is not None:
            return len(self.column)
        return 0 if self.features is None else len(self.features.owner.unique())

    def near(self, data: Source, rows: Tensor, origin: Tensor, features: Features | None) -> dict[str, _Near]:
        """Measure to what it says of the samples at `rows` of `data`, whose origins are known or -1."""
        if features is not None:
            kept = features.counts(len(data))[rows] > 0
        else:
            kept = _holding(self.modality, data, rows, self.column.shape if self.column else ())
        rows, origin = rows[kept], origin[kept]
        if len(rows) == 0:
            return {}
        k, result, similar = min(1 + NEXT, self.held), {}, None
        if features is not None and self.features is not None:
            vectors = features.vectors[features.first(len(data))[rows]]
            distance, similar, own = closest_vectors(vectors, self.features, len(self.source), k, origin)
            result["features"] = _Near.of(distance, similar, own)
        if self.column is None:
            return result
        asked, shown, start = Column(data, self.modality, rows, self.column.shape), [], 0
        for part in asked.parts(4 * VALUES):
            span = slice(start, start + len(part))
            start += len(part)
            shown.append(self.shown(part, origin[span], None if similar is None else similar[span], k))
        return {m: _Near.join([part[m] for part in shown]) for m in shown[0]} | result

    def shown(self, queries: Tensor, origin: Tensor, similar: Tensor | None, k: int) -> dict[str, _Near]:
        """RMSE and SSIM of some values to the nearest by RMSE, the nearest by features and the origin of each."""
        assert self.column is not None
        near, found = closest(queries, self.column, k), []
        own = torch.where(origin >= 0, self.position[origin], -1)
        for i, query in enumerate(queries):
            pool = torch.cat([near[i], own[i : i + 1], *([] if similar is None else [self.position[similar[i]]])])
            found.append(self.measured(query, pool[pool >= 0].unique(), int(own[i])))
        return {m: _Near.join([one[m] for one in found]) for m in found[0]}

    def measured(self, query: Tensor, pool: Tensor, own: int) -> dict[str, _Near]:
        """One value against the rows `pool` of the column, of which `own` is its origin, -1 for none."""
        assert self.column is not None
        real = self.column.read(pool)
        kinds, found = {"rmse": rmse(query, real)}, {}
        if self.modality in IMAGE_LIKE and real.ndim == 4:
            x, y = (picture(self.modality, value) for value in (query[None], real))
            kinds["ssim"] = (1 - ssim(x, y)).clamp(min=0)
        for measure, distance in kinds.items():
            order = distance.argsort(stable=True)
            start, same = distance[pool == own], None
            if measure == "rmse" and self.modality == "image":
                seen = pool == own if own >= 0 else torch.arange(len(pool)) == order[0]
                same = ((real[seen] - query).abs() <= SAME).float().flatten(1).mean(1)
            nearest = self.column.rows[pool[order]]
            found[measure] = _Near.of(distance[order][None], nearest[None], start if own >= 0 else None, same)
        return found
