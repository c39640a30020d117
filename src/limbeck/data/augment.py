"""Siamese augmentation: one random operation with the *same* parameters for every image of every set."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import ConfigError

__all__ = ["OPERATIONS", "check_operations", "siamese"]


# name -> kornia's class and its parameters
OPERATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "color": ("ColorJitter", {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "p": 1.0}),
    "crop": ("RandomAffine", {"degrees": 0.0, "translate": (0.125, 0.125), "p": 1.0}),
    "cutout": ("RandomErasing", {"scale": (0.25, 0.25), "ratio": (1.0, 1.0), "p": 1.0}),
    "flip": ("RandomHorizontalFlip", {"p": 0.5}),
    "rotate": ("RandomAffine", {"degrees": 15.0, "p": 1.0}),
    "scale": ("RandomAffine", {"degrees": 0.0, "scale": (1 / 1.2, 1.2), "p": 1.0}),
}


def check_operations(operations: Sequence[str]) -> None:
    """Refuses what is not in `OPERATIONS`.

    Raises:
        ConfigError: names it, and those that there are.
    """
    if unknown := set(operations) - set(OPERATIONS):
        raise ConfigError(f"unknown augmentation {', '.join(sorted(unknown))}; known: {', '.join(OPERATIONS)}")


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
    check_operations(operations)
    if not operations:
        return list(sets)
    from kornia import augmentation

    kind, parameters = OPERATIONS[operations[int(torch.randint(len(operations), (), generator=generator))]]
    seed = int(torch.randint(2**31, (), generator=generator))
    moved = []
    for images in sets:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            moved.append(getattr(augmentation, kind)(**parameters, same_on_batch=True)(images))
    return moved
