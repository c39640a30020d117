"""Siamese augmentation: one random operation with the *same* parameters for every image of every set."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from limbeck.errors import ConfigError

__all__ = ["OPERATIONS", "siamese"]


def _color() -> Callable[[Tensor], Tensor]:
    from kornia.augmentation import ColorJitter

    return ColorJitter(0.5, 0.5, 0.5, 0.0, p=1.0, same_on_batch=True)


def _crop() -> Callable[[Tensor], Tensor]:
    from kornia.augmentation import RandomAffine

    return RandomAffine(0.0, translate=(0.125, 0.125), p=1.0, same_on_batch=True)


def _cutout() -> Callable[[Tensor], Tensor]:
    from kornia.augmentation import RandomErasing

    return RandomErasing(scale=(0.25, 0.25), ratio=(1.0, 1.0), p=1.0, same_on_batch=True)


def _flip() -> Callable[[Tensor], Tensor]:
    from kornia.augmentation import RandomHorizontalFlip

    return RandomHorizontalFlip(p=0.5, same_on_batch=True)


def _scale() -> Callable[[Tensor], Tensor]:
    from kornia.augmentation import RandomAffine

    return RandomAffine(0.0, scale=(1 / 1.2, 1.2), p=1.0, same_on_batch=True)


def _rotate() -> Callable[[Tensor], Tensor]:
    from kornia.augmentation import RandomAffine

    return RandomAffine(15.0, p=1.0, same_on_batch=True)


OPERATIONS: dict[str, Callable[[], Callable[[Tensor], Tensor]]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "rotate": _rotate,
    "scale": _scale,
}


def siamese(
    sets: Sequence[Tensor], generator: torch.Generator, operations: Sequence[str] = tuple(OPERATIONS)
) -> list[Tensor]:
    """Applies one operation, drawn from `operations`, with one draw of parameters to several sets of images.

    Differentiable in the pixels. Distribution and gradient matching need it: real and synthetic images must be moved
    alike, or the augmentation itself is what gets matched.

    Args:
        sets: `float [B_i, 3, H, W]` in [0, 1]; the B_i may differ.
        generator: draws operation and parameters; the global random state is left as it was.
        operations: names out of `OPERATIONS`; none of them leaves the sets as they are.

    Raises:
        ConfigError: an unknown operation.

    Paper: Zhao and Bilen, Dataset condensation with differentiable Siamese augmentation, ICML 2021.

    Example:
        >>> a, b = siamese([torch.ones(2, 3, 8, 8), torch.ones(5, 3, 8, 8)], torch.Generator().manual_seed(1))
        >>> torch.equal(a[0], b[4])
        True
    """
    if unknown := set(operations) - set(OPERATIONS):
        raise ConfigError(f"unknown augmentation {', '.join(sorted(unknown))}; known: {', '.join(OPERATIONS)}")
    if not operations:
        return list(sets)
    name = operations[int(torch.randint(len(operations), (), generator=generator))]
    seed = int(torch.randint(2**31, (), generator=generator))
    moved = []
    for images in sets:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            moved.append(OPERATIONS[name]()(images))
    return moved
