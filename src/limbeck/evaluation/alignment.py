"""How well the modalities of a space agree: retrieval of every ordered pair, linear probes, and the shape of the space."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations, permutations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.data.source import Source
from limbeck.errors import ConfigError
from limbeck.evaluation.metrics import first_hit
from limbeck.objectives.binding import centroid
from limbeck.runtime.cache import Cache
from limbeck.runtime.progress import ProgressCallback
from limbeck.runtime.runtime import Runtime
from limbeck.spaces import Features, Space, embed_source
from limbeck.terminal import columns

__all__ = ["Alignment", "alignment", "effective_rank"]


@dataclass(frozen=True)
class Alignment:
    """What a space does with data that it was not trained on.

    Args:
        samples: N.
        recall: `"a -> b"` to R@1, R@5 and R@10 in percent: queries of a whose own b is among the K nearest.
        centroid: mean length of the samples' centroids: 1 / sqrt(M) for M unrelated modalities, 1 where all agree.
        gap: `"a, b"` to the distance between the means of two modalities.
        rank: modality to the number of dimensions in use, `effective_rank`.
        probes: modality, or `all` for their vectors side by side, to the accuracy of a linear probe in percent.
    """

    samples: int
    recall: Mapping[str, Mapping[str, float]]
    centroid: float
    gap: Mapping[str, float]
    rank: Mapping[str, float]
    probes: Mapping[str, float]

    def data(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)

    def text(self) -> str:
        """As a table and three lines, for a person."""
        table = [["retrieval", "   R@1", "  R@5", " R@10"]]  # wide enough for 100.0
        table += [[way, *(f"{value:.1f}" for value in recall.values())] for way, recall in self.recall.items()]
        lines = [*columns(table), f"centroid length: {self.centroid:.3f}"]
        summaries = {"modality gap": self.gap, "effective rank": self.rank, "linear probe": self.probes}
        for name, values in summaries.items():
            form = ".3f" if name == "modality gap" else ".1f"
            if values:
                lines.append(f"{name}: " + "; ".join(f"{key} {value:{form}}" for key, value in values.items()))
        return "\n".join(lines)


def alignment(
    source: Source,
    space: Space,
    train: Source | None = None,
    *,
    cache: Cache | None = None,
    device: str | None = None,
    tick: ProgressCallback | None = None,
    runtime: Runtime | None = None,
) -> Alignment:
    """Measures a space whose modalities have one dimension, bound here or ready-made, on data it was not trained on.

    Args:
        source: what it is measured on.
        space: the encoders.
        train: where labels exist, linear probes are fitted on these data and tested on `source`; none without them.
        cache, device, tick, runtime: a `Runtime`, or one by one its cache, device and progress (`tick`); not both.

    Raises:
        ConfigError: fewer than two modalities in common, or vectors of different dimensions.

    Example:
        >>> import limbeck as lb
        >>> from tempfile import mkdtemp
        >>> space = lb.space(image={"name": "convnet", "width": 64}, text={"name": "bag_of_words", "width": 64})
        >>> sorted(alignment(lb.check.toy_source(), space, cache=lb.Cache(mkdtemp())).recall)
        ['image -> text', 'text -> image']
    """
    runtime = Runtime.of(runtime, device=device, cache=cache, tick=tick)
    shared = Space({m: e for m, e in space.encoders.items() if m in source.modalities or m in source.embeddings})
    if len(shared.modalities) < 2 or len(set(shared.dims.values())) > 1:
        raise ConfigError(
            f"what is compared are two modalities or more in one dimension; {source.name} shares {shared.dims} with the space"
        )
    found = embed_source(source, shared, runtime=runtime)
    recall = {}
    for a, b in permutations(found, 2):
        asks = torch.isin(found[a].owner, found[b].owner)
        rank = first_hit(found[a].vectors[asks], found[b].vectors, found[a].owner[asks], found[b].owner)
        recall[f"{a} -> {b}"] = {f"R@{k}": 100.0 * float((rank < k).double().mean()) for k in (1, 5, 10)}
    means = {m: f.vectors.mean(0) for m, f in found.items()}
    labelled = train is not None and train.labels is not None and source.labels is not None
    probes = {}
    if labelled and train is not None:
        probes = _probes(train, embed_source(train, shared, runtime=runtime), source, found)
    samples, present = _aligned(found, len(source))
    some = torch.stack(list(present.values())).any(0)
    return Alignment(
        samples=len(source),
        recall=recall,
        centroid=float(centroid(samples, present)[some].norm(dim=1).mean()),
        gap={f"{a}, {b}": float((means[a] - means[b]).norm()) for a, b in combinations(means, 2)},
        rank={m: effective_rank(f.vectors) for m, f in found.items()},
        probes=probes,
    )


def effective_rank(vectors: Float[Tensor, "n d"]) -> float:
    """The number of dimensions in use: exp of the entropy of the shares of variance along the principal components.

    Args:
        vectors: `[N, D]`.

    Paper: Roy and Vetterli, The effective rank, EUSIPCO 2007, with variances for singular values.

    Example:
        >>> round(effective_rank(torch.cat([torch.eye(4), -torch.eye(4)])), 3)
        4.0
    """
    variance = torch.linalg.svdvals((vectors - vectors.mean(0)).double()).square()
    share = variance / variance.sum().clamp(min=1e-300)
    return float(torch.special.entr(share).sum().exp())


def _aligned(found: Mapping[str, Features], samples: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The first vector of each sample, by modality, and which samples have one."""
    first = {m: f.first(samples) for m, f in found.items()}
    present = {m: index >= 0 for m, index in first.items()}
    zero = {m: f.vectors.new_zeros(1, f.vectors.shape[1]) for m, f in found.items()}
    return {m: torch.cat([found[m].vectors, zero[m]])[first[m]] for m in found}, present


def _probes(
    train: Source, fitted: Mapping[str, Features], test: Source, tested: Mapping[str, Features]
) -> dict[str, float]:
    """Accuracy in percent of a logistic regression on each modality, and on all of them side by side."""
    assert train.labels is not None and test.labels is not None
    (x, there), (y, here) = _aligned(fitted, len(train)), _aligned(tested, len(test))
    sets = {m: [m] for m in tested} | {"all": list(tested)}
    found = {}
    for name, members in sets.items():
        rows = torch.stack([there[m] for m in members]).all(0) & (train.labels >= 0)
        asked = torch.stack([here[m] for m in members]).all(0) & (test.labels >= 0)
        labels = train.labels[rows]
        if asked.any() and len(labels.unique()) > 1:
            sides = [torch.cat([v[m] for m in members], dim=1) for v in (x, y)]
            right = _predicted(sides[0][rows], labels, sides[1][asked]) == test.labels[asked]
            found[name] = 100.0 * float(right.double().mean())
    return found


def _predicted(x: Tensor, labels: Tensor, y: Tensor) -> Tensor:
    """The classes of the rows y by a multinomial logistic regression on the standardised rows x, with a light ridge."""
    from sklearn.linear_model import LogisticRegression

    mean, deviation = x.mean(0), x.std(0, correction=0).clamp(min=1e-8)
    model = LogisticRegression(max_iter=1000).fit(((x - mean) / deviation).numpy(), labels.numpy())
    return torch.from_numpy(model.predict(((y - mean) / deviation).numpy()))
