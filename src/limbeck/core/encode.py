"""Encoding a whole synthetic set at every step, in memory that does not grow with the set."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import ceil

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from limbeck.core.synthetic import Synthetic
from limbeck.data.batch import Batch
from limbeck.spaces import Space

__all__ = ["chunked", "encode", "leaves"]

VALUES = 3 * 2**20  # of a chunk: 64 images of 128 pixels, whose graph takes about 2 GB in a small convolutional network


def encode(
    space: Space, synthetic: Synthetic, values: int = VALUES, moved: Callable[[Tensor], Tensor] | None = None
) -> dict[str, Tensor]:
    """Unit vectors of every synthetic sample, as `space.embed` gives them, whose gradient costs the memory of one chunk.

    The samples pass in chunks. Only the last chunk keeps its graph; the others are encoded once more when the gradient
    reaches them, one after the other. A set of one chunk is encoded once.

    Args:
        space: encoders of the modalities; those that it does not know are left out.
        synthetic: the set; gradients flow to what it learns.
        values: numbers (pixels times channels) a chunk holds, at most; a sample is never split.
        moved: an augmentation that images pass first.

    Returns:
        modality to `float [M, D_m]`. One `backward` may pass through them; for several see `leaves`.

    Example:
        >>> import limbeck as lb
        >>> s = Synthetic({"image": torch.rand(6, 3, 16, 16)}, learn=["image"], origin=torch.arange(6))
        >>> encode(lb.space(image="convnet"), s, values=2 * 3 * 16 * 16)["image"].sum().backward()
        >>> s.value("image").grad.shape
        torch.Size([6, 3, 16, 16])

    Paper: Chen et al., Training deep nets with sublinear memory cost, arXiv 1604.06174.
    """
    vectors = {}
    for modality in (m for m in synthetic.modalities if m in space):

        def embed(part: Tensor, modality: str = modality) -> Tensor:
            return space.embed(Batch({modality: part}))[modality]

        value = synthetic.value(modality)
        if modality == "image" and moved is not None:
            value = moved(value)
        space[modality].to(value.device)  # built here, as what happens inside a chunk happens twice
        vectors[modality] = chunked(embed, value, values)
    return vectors


def chunked(function: Callable[[Tensor], Tensor], value: Tensor, values: int = VALUES) -> Tensor:
    """`function(value)` of a function that treats every row alone, chunk by chunk: see `encode`.

    Args:
        function: of some rows of `value`; called once more for a chunk when the gradient reaches it.
        value: `float [M, ...]`.
        values: numbers a chunk holds, at most; a row is never split.

    Example:
        >>> chunked(torch.sin, torch.zeros(5, 3), values=6).shape
        torch.Size([5, 3])
    """
    chunks = min(ceil(value.numel() / values), len(value))
    *parts, last = value.split(ceil(len(value) / chunks))
    done = [checkpoint(function, part, use_reentrant=False, preserve_rng_state=False) for part in parts]
    return torch.cat([*done, function(last)])


@contextmanager
def leaves(vectors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Detached copies of `vectors`, on which `backward` may be called several times; on leaving, one backward pass through the encoders.

    Gradients add up in the copies. The pass at the end carries the sums to what the vectors were computed from, so that each encoder
    is passed once, however many losses there are.

    Args:
        vectors: what `encode` returned.

    Example:
        >>> import limbeck as lb
        >>> s = Synthetic({"image": torch.rand(6, 3, 16, 16)}, learn=["image"], origin=torch.arange(6))
        >>> with leaves(encode(lb.space(image="convnet"), s)) as vectors:
        ...     for k in range(3):
        ...         vectors["image"][k].sum().backward()
        >>> s.value("image").grad.flatten(1).any(dim=1).tolist()
        [True, True, True, False, False, False]
    """
    lent = {m: v.detach().requires_grad_(v.requires_grad) for m, v in vectors.items()}
    yield lent
    moved = [m for m, leaf in lent.items() if leaf.grad is not None]
    if moved:
        torch.autograd.backward([vectors[m] for m in moved], [lent[m].grad for m in moved])
