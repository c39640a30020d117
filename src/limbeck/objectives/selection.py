"""Choosing k real pairs: random, herding, k-center greedy, matched prototypes.

A *view* of the candidates is one modality: vectors `[U, D]` and, for each of the R candidates, the row it reads. Several
captions of one image share that image's row, so nothing is copied. A sample is chosen at most once.
"""

from collections.abc import Callable, Sequence
from typing import Annotated

import torch
from jaxtyping import Int
from torch import Tensor

from limbeck.constraints import Check
from limbeck.data.pairs import first_of_each
from limbeck.errors import UnknownName

__all__ = ["RULES", "Init", "Rule", "View", "herding", "kcenter", "kmeans", "prototypes", "random", "rule"]

View = tuple[Tensor, Tensor]  # vectors float [U, D] and the row of each candidate int64 [R]
Rule = Callable[[Sequence[View], Tensor, int, torch.Generator], Tensor]


def random(views: Sequence[View], sample: Int[Tensor, " r"], k: int, generator: torch.Generator) -> Int[Tensor, " k"]:
    """K candidates of different samples, uniformly over samples, then over the candidates of each.

    Args:
        views: not read.
        sample: the sample of each candidate.
        k: how many to choose; at most the number of samples.
        generator: the random stream.

    Example:
        >>> len(random([], torch.tensor([0, 0, 1, 2]), 3, torch.Generator().manual_seed(0)))
        3
    """
    order = torch.randperm(len(sample), generator=generator)
    first = first_of_each(sample[order])
    chosen = torch.randperm(len(first), generator=generator)[:k]
    return order[first[chosen]]


def herding(views: Sequence[View], sample: Int[Tensor, " r"], k: int, generator: torch.Generator) -> Int[Tensor, " k"]:
    """Greedily keeps the mean of the chosen close to the mean of all, in the concatenation of the views.

        x_t = argmax <w_t, x>,   w_{t+1} = w_t + mean - x_t,   w_0 = mean

    Args:
        views: the modalities.
        sample: the sample of each candidate.
        k: how many to choose.
        generator: not read.

    Returns:
        positions of the chosen candidates, in the order of choice.

    Paper: Welling, Herding dynamical weights to learn, ICML 2009.

    Example:
        >>> x = torch.tensor([[-1.0], [0.0], [1.0], [0.1]])
        >>> herding([(x, torch.arange(4))], torch.arange(4), 1, torch.Generator()).tolist()
        [2]
    """
    means = [vectors[rows].mean(0) for vectors, rows in views]
    weights = [mean.clone() for mean in means]
    free = torch.ones(len(sample), dtype=torch.bool)
    chosen = []
    for _ in range(k):
        score = torch.stack([(vectors @ w)[rows] for (vectors, rows), w in zip(views, weights, strict=True)]).sum(0)
        pick = int(score.masked_fill(~free, -torch.inf).argmax())
        chosen.append(pick)
        free &= sample != sample[pick]
        weights = [w + m - v[r[pick]] for w, m, (v, r) in zip(weights, means, views, strict=True)]
    return torch.tensor(chosen)


def kcenter(views: Sequence[View], sample: Int[Tensor, " r"], k: int, generator: torch.Generator) -> Int[Tensor, " k"]:
    """Farthest-point greedy: each choice is the candidate farthest from all chosen; the first is random.

    A 2-approximation of the smallest radius that covers all candidates, in the concatenation of the views.

    Args:
        views: the modalities.
        sample: the sample of each candidate.
        k: how many to choose.
        generator: draws the first.

    Paper: Gonzalez, Clustering to minimize the maximum intercluster distance, 1985.

    Example:
        >>> x = torch.tensor([[0.0], [0.1], [5.0]])
        >>> sorted(kcenter([(x, torch.arange(3))], torch.arange(3), 2, torch.Generator().manual_seed(1)).tolist())[1]
        2
    """
    nearest = torch.full((len(sample),), torch.inf)
    free = torch.ones(len(sample), dtype=torch.bool)
    pick = int(torch.randint(len(sample), (), generator=generator))
    chosen = []
    for _ in range(k):
        chosen.append(pick)
        free &= sample != sample[pick]
        far = [((vectors - vectors[rows[pick]]).square().sum(1))[rows] for vectors, rows in views]
        nearest = torch.minimum(nearest, torch.stack(far).sum(0))
        pick = int(nearest.masked_fill(~free, -torch.inf).argmax())
    return torch.tensor(chosen)


def prototypes(
    views: Sequence[View], sample: Int[Tensor, " r"], k: int, generator: torch.Generator
) -> Int[Tensor, " k"]:
    """Clusters each view, matches the clusters of the views, and takes the medoid of each match.

    k-means gives k clusters a view. Clusters of the first view are matched with those of each other view by the
    assignment that maximises how many candidates they share. A match's medoid is the candidate nearest to its centroids.

    Args:
        views: the modalities.
        sample: the sample of each candidate.
        k: how many to choose.
        generator: seeds k-means.

    Example:
        >>> x = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
        >>> sorted(prototypes([(x, torch.arange(4))], torch.arange(4), 2, torch.Generator()).tolist())[0] < 2
        True
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import KMeans

    seed = int(torch.randint(2**31, (), generator=generator))
    distances, assigned = [], []
    for vectors, rows in views:
        used, position = torch.unique(rows, return_inverse=True)
        x = vectors[used]
        centres = torch.from_numpy(KMeans(k, n_init=1, random_state=seed).fit(x.numpy()).cluster_centers_).to(x)
        d = torch.cdist(x, centres).square()[position]
        distances.append(d)
        assigned.append(d.argmin(1))
    total = distances[0]
    for d, cluster in zip(distances[1:], assigned[1:], strict=True):
        shared = torch.zeros(k, k).index_put_((assigned[0], cluster), torch.ones(len(sample)), accumulate=True)
        _, match = linear_sum_assignment(shared.numpy(), maximize=True)
        total = total + d[:, torch.as_tensor(match)]
    return _nearest(total, sample)


def kmeans(views: Sequence[View], sample: Int[Tensor, " r"], k: int, generator: torch.Generator) -> Int[Tensor, " k"]:
    """Clusters the concatenation of the views, and takes the medoid of each cluster.

    Args:
        views: the modalities.
        sample: the sample of each candidate.
        k: how many to choose.
        generator: seeds k-means.

    Example:
        >>> x = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
        >>> sorted(kmeans([(x, torch.arange(4))], torch.arange(4), 2, torch.Generator()).tolist())[0] < 2
        True
    """
    from sklearn.cluster import MiniBatchKMeans

    seed = int(torch.randint(2**31, (), generator=generator))
    joint = torch.cat([vectors[rows] for vectors, rows in views], dim=1)
    fit = MiniBatchKMeans(k, n_init=1, random_state=seed, batch_size=max(1024, 4 * k)).fit(joint.numpy())
    far = torch.cdist(joint, torch.from_numpy(fit.cluster_centers_).to(joint))
    return _nearest(far, sample)


def _nearest(distances: Tensor, sample: Tensor) -> Tensor:
    """The nearest candidate of each cluster in turn, each of another sample.

    Args:
        distances: `float [R, k]` of each candidate from each cluster.
        sample: the sample of each candidate.
    """
    free = torch.ones(len(sample), dtype=torch.bool)
    chosen = []
    for distance in distances.T:
        pick = int(distance.masked_fill(~free, torch.inf).argmin())
        chosen.append(pick)
        free &= sample != sample[pick]
    return torch.tensor(chosen)


RULES: dict[str, Rule] = {
    "random": random,
    "herding": herding,
    "kcenter": kcenter,
    "prototypes": prototypes,
    "kmeans": kmeans,
}


def rule(name: str) -> Rule:
    """The rule of that name.

    Args:
        name: one of `RULES`.

    Raises:
        UnknownName: there is no such rule; the message lists the nearest.

    Example:
        >>> rule("herding") is herding
        True
    """
    if name not in RULES:
        raise UnknownName("selection rule", name, RULES)
    return RULES[name]


Init = Annotated[str, Check(rule)]  # an option that names a rule
