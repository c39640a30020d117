"""Siamese augmentation: one random operation with the *same* parameters for every image of every set, and its mask."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from torch import Tensor

from limbeck.constraints import Check
from limbeck.errors import ConfigError, DataError

__all__ = ["OPERATIONS", "Augment", "by_group", "check_operations", "siamese", "siamese_masked"]


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


Augment = Annotated[tuple[str, ...], Check(check_operations)]  # an option that names operations


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
    drawn = _drawn(generator, operations)
    return [_moved(images, drawn) for images in sets]


def siamese_masked(
    sets: Sequence[Tensor],
    masks: Sequence[Tensor],
    generator: torch.Generator,
    operations: Sequence[str] = tuple(OPERATIONS),
) -> tuple[list[Tensor], list[Tensor]]:
    """`siamese` of images that have masks: what moves an image moves its mask alike, and colours leave the mask as it is.

    A cutout, and what an image is filled up with where it was moved away, has mask 0. The images are those that `siamese` gives.

    Args:
        sets: `float [B_i, 3, H, W]` in [0, 1].
        masks: of each set, `float [B_i, 1, H, W]` in [0, 1].
        generator, operations: as of `siamese`.

    Returns:
        The moved sets, and their moved masks in the type of the images.

    Raises:
        ConfigError: an unknown operation.
        DataError: masks that do not belong to the images: other sets, samples or sizes.

    Example:
        >>> image, mask = torch.rand(2, 3, 8, 8), torch.ones(2, 1, 8, 8)
        >>> (moved,), (own,) = siamese_masked([image], [mask], torch.Generator().manual_seed(1), ["cutout"])
        >>> torch.equal(moved == 0, (own == 0).expand(-1, 3, -1, -1)), int((own[0] == 0).sum())
        (True, 16)
    """
    wanted = [(len(images), 1, *images.shape[-2:]) for images in sets]
    if (found := [tuple(mask.shape) for mask in masks]) != wanted:
        raise DataError(f"the images need masks of {wanted}, one mask an image and as large, got {found}")
    drawn = _drawn(generator, operations)
    still = drawn is None or drawn[0] == "color"
    own = [mask.to(images) for images, mask in zip(sets, masks, strict=True)]  # the type decides what is drawn
    return [_moved(images, drawn) for images in sets], own if still else [_moved(mask, drawn) for mask in own]


def by_group(
    sets: Sequence[Tensor], groups: Sequence[Tensor], move: Callable[[int, list[Tensor]], Sequence[Tensor]]
) -> list[Tensor]:
    """Augments each group by itself, with one draw for the group in every set; papers on dataset distillation draw one for each class.

    Args:
        sets: `[B_i, ...]`, each in the order of its groups.
        groups: `int64 [B_i]`, the group of each sample, from 0 up and never falling; the same groups in every set.
        move: augments the parts of one group: from its number and its samples of every set to the same samples, augmented.

    Example:
        >>> by_group([torch.ones(3)], [torch.tensor([0, 0, 1])], lambda g, parts: [10 * g + part for part in parts])
        [tensor([ 1.,  1., 11.])]
    """
    parts = [x.split(torch.bincount(group).tolist()) for x, group in zip(sets, groups, strict=True)]
    moved = [move(g, list(found)) for g, found in enumerate(zip(*parts, strict=True))]
    return [torch.cat(found) for found in zip(*moved, strict=True)]


def _drawn(generator: torch.Generator, operations: Sequence[str]) -> tuple[str, int] | None:
    """An operation and the seed of its parameters; `None` where there are no operations."""
    check_operations(operations)
    if not operations:
        return None
    name = operations[int(torch.randint(len(operations), (), generator=generator))]
    return name, int(torch.randint(2**31, (), generator=generator))


def _moved(values: Tensor, drawn: tuple[str, int] | None) -> Tensor:
    """One set under an operation; the same parameters for every set, whatever its channels."""
    if drawn is None:
        return values
    from kornia import augmentation

    kind, parameters = OPERATIONS[drawn[0]]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(drawn[1])
        moved: Tensor = getattr(augmentation, kind)(**parameters, same_on_batch=True)(values)
    return moved
