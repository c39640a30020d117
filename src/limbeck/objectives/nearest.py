"""Who is most alike: cosine similarities of many vectors with very many, in memory that does not grow with either."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["CELLS", "largest", "nearest", "similarities"]

CELLS = 2**24  # similarities held in memory at a time: 64 MB


def similarities(
    queries: Float[Tensor, "q d"], rows: Float[Tensor, "r d"], owner: Int[Tensor, " r"], owners: int, cells: int = CELLS
) -> Iterator[Float[Tensor, "b {owners}"]]:
    """The similarity of every query with every owner, some queries at a time.

        s(x, i) = max over the rows v of owner i of  <x, v>

    Args:
        queries: unit vectors.
        rows: unit vectors, in any order.
        owner: which of the `owners` each row belongs to.
        owners: how many there are; the similarity with one that has no row is -inf.
        cells: similarities computed at a time, at most (and those of one query at least).

    Example:
        >>> [s.tolist() for s in similarities(torch.eye(2), torch.eye(2), torch.tensor([0, 0]), 2)]
        [[[1.0, -inf], [1.0, -inf]]]
    """
    for part in queries.split(max(1, cells // max(1, len(rows)))):
        score = part.new_full((len(part), owners), -torch.inf)
        yield score.scatter_reduce(1, owner.expand(len(part), -1), part @ rows.T, "amax")


def largest(scores: Float[Tensor, "b n"], k: int) -> tuple[Float[Tensor, "b {k}"], Int[Tensor, "b {k}"]]:
    """The `k` largest of each row, largest first, and where they are; of equals the first comes first.

    Args:
        scores: `[B, N]`, with k of them above -inf in each row.
        k: how many, at most N.

    Example:
        >>> largest(torch.tensor([[1.0, 3.0, 3.0]]), 2)[1].tolist()
        [[1, 2]]
    """
    scores, values, places = scores.clone(), [], []
    for _ in range(k):
        value, place = scores.max(dim=1)  # the first of equals, which `topk` does not promise
        scores.scatter_(1, place[:, None], -torch.inf)
        values.append(value)
        places.append(place)
    return torch.stack(values, 1), torch.stack(places, 1)


def nearest(
    queries: Float[Tensor, "q d"],
    rows: Float[Tensor, "r d"],
    owner: Int[Tensor, " r"],
    owners: int,
    k: int,
    cells: int = CELLS,
) -> tuple[Float[Tensor, "q {k}"], Int[Tensor, "q {k}"]]:
    """The `k` owners most alike each query, most alike first (of equals the first), and their similarity.

    Args:
        queries, rows, owner, owners, cells: see `similarities`.
        k: at most as many as there are owners with a row.

    Returns:
        similarities; owners.

    Example:
        >>> [x.tolist() for x in nearest(torch.eye(3)[:1], torch.eye(3), torch.tensor([1, 0, 0]), 2, k=1)]
        [[[1.0]], [[1]]]
    """
    parts = [largest(score, k) for score in similarities(queries, rows, owner, owners, cells)]
    if not parts:
        return queries.new_zeros(0, k), torch.zeros(0, k, dtype=torch.long)
    values, places = zip(*parts, strict=True)
    return torch.cat(values), torch.cat(places)
