"""Metrics, as pure functions: retrieval hit rates and accuracy, in percent. Ties and NaN count against the model."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["RETRIEVAL", "accuracy", "first_hit", "retrieval"]

RETRIEVAL = ("IR@1", "IR@5", "IR@10", "TR@1", "TR@5", "TR@10", "mean")

CELLS = 1 << 24  # similarities held in memory at a time


def first_hit(
    queries: Float[Tensor, "q d"],
    gallery: Float[Tensor, "g d"],
    query_owner: Int[Tensor, " q"],
    gallery_owner: Int[Tensor, " g"],
    cells: int = CELLS,
) -> Int[Tensor, " q"]:
    """The rank (from 0) at which each query first meets an item of its own.

        rank_i = #{j : o_j != o_i  and not  s_ij < max_{k : o_k = o_i} s_ik},    s_ij = <query_i, gallery_j>

    An item of another owner that ties with the best own one is counted before it, so a constant model scores nothing,
    and so does one that returns NaN.

    Args:
        queries: vectors, `float [Q, D]`.
        gallery: vectors, `float [G, D]`.
        query_owner: `int64 [Q]`, the sample that each query belongs to.
        gallery_owner: `int64 [G]`.
        cells: similarities computed at a time; bounds the memory, never changes the result.

    Returns:
        `int64 [Q]`, G for a query that owns nothing in the gallery.

    Example:
        >>> eye = torch.eye(3)
        >>> first_hit(eye, eye, torch.arange(3), torch.tensor([0, 2, 1])).tolist()
        [0, 2, 2]
    """
    ranks = []
    step = max(1, cells // max(1, len(gallery)))
    for start in range(0, len(queries), step):
        score = queries[start : start + step] @ gallery.T
        own = query_owner[start : start + step, None] == gallery_owner[None]
        best = score.masked_fill(~own, -torch.inf).amax(dim=1, keepdim=True)
        rank = (~(score < best) & ~own).sum(dim=1)
        ranks.append(torch.where(own.any(dim=1), rank, len(gallery)))
    return torch.cat(ranks) if ranks else torch.zeros(0, dtype=torch.long)


def retrieval(
    image: Float[Tensor, "n d"],
    text: Float[Tensor, "m d"],
    image_owner: Int[Tensor, " n"],
    text_owner: Int[Tensor, " m"],
    cells: int = CELLS,
    ways: tuple[str, str] = ("IR", "TR"),
) -> dict[str, float]:
    """Image-text retrieval as hit rates in percent, both ways, and their mean; any two modalities may take their place.

        IR@K = share of captions whose image is among the K nearest images             (text to image)
        TR@K = share of images with at least one own caption among the K nearest       (image to text)

    An image without a caption, and a caption without its image, asks nothing but stays among what can be found.

    Args:
        image: unit vectors, `float [N, D]`.
        text: unit vectors, `float [M, D]`.
        image_owner: `int64 [N]`, the sample that each image belongs to.
        text_owner: `int64 [M]`.
        cells: see `first_hit`.
        ways: what the hits of each way are called: first those of texts among images, then those of images among texts.

    Returns:
        `IR@1, IR@5, IR@10, TR@1, TR@5, TR@10` and `mean`.

    Example:
        >>> scores = retrieval(torch.eye(4), torch.eye(4), torch.arange(4), torch.tensor([0, 1, 3, 2]))
        >>> scores["IR@1"], scores["TR@5"]
        (50.0, 100.0)

    Paper: Karpathy and Fei-Fei, Deep visual-semantic alignments for generating image descriptions, CVPR 2015.
    """
    asks_text, asks_image = torch.isin(text_owner, image_owner), torch.isin(image_owner, text_owner)
    ranks = {
        ways[0]: first_hit(text[asks_text], image, text_owner[asks_text], image_owner, cells),
        ways[1]: first_hit(image[asks_image], text, image_owner[asks_image], text_owner, cells),
    }
    result = {f"{way}@{k}": _percent(rank < k) for way, rank in ranks.items() for k in (1, 5, 10)}
    return {**result, "mean": sum(result.values()) / len(result)}


def accuracy(scores: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> float:
    """The share of rows whose own class scores strictly above every other, in percent.

    Args:
        scores: logits or probabilities, `float [N, K]`.
        labels: `int64 [N]`.

    Example:
        >>> accuracy(torch.tensor([[2.0, 1.0], [0.5, 0.5]]), torch.tensor([0, 0]))
        50.0
    """
    own = scores.gather(1, labels[:, None])
    return _percent((~(scores < own)).sum(dim=1) == 1)


def _percent(hits: Tensor) -> float:
    return 100.0 * float(hits.double().mean()) if len(hits) else 0.0
