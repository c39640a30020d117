"""Siamese augmentation: every set is moved alike, masks with their images, and colours leave masks alone."""

import pytest
import torch
from torch import Tensor

from limbeck.data.augment import OPERATIONS, siamese, siamese_masked
from limbeck.errors import ConfigError, DataError

GEOMETRY = [name for name in OPERATIONS if name != "color"]
SEEDS = range(6)


def at(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def soft(count: int, channels: int = 1, height: int = 24, width: int = 20, seed: int = 0) -> Tensor:
    return torch.rand(count, channels, height, width, generator=at(seed))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_image_of_every_set_gets_the_same_parameters(operation: str) -> None:
    image = soft(1, 3)
    for seed in SEEDS:
        a, b = siamese([image.expand(2, -1, -1, -1), image.expand(5, -1, -1, -1)], at(seed), [operation])
        assert all(torch.equal(a[0], other) for other in (a[1], *b))


@pytest.mark.parametrize("operation", GEOMETRY)
def test_an_image_that_is_its_mask_is_moved_as_its_mask(operation: str) -> None:
    masks = [soft(3), (soft(4, seed=1) > 0.5).float()]
    for seed in SEEDS:
        images, moved = siamese_masked([m.expand(-1, 3, -1, -1) for m in masks], masks, at(seed), [operation])
        for image, mask in zip(images, moved, strict=True):
            assert torch.equal(image, mask.expand(-1, 3, -1, -1))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_masks_do_not_change_what_becomes_of_images(operation: str) -> None:
    sets = [soft(2, 3), soft(5, 3, seed=1)]
    for seed in SEEDS:
        draw, twin = at(seed), at(seed)
        alone = siamese(sets, draw, [operation])
        images, masks = siamese_masked(sets, [soft(2), soft(5)], twin, [operation])
        assert all(torch.equal(a, b) for a, b in zip(alone, images, strict=True))
        assert torch.equal(draw.get_state(), twin.get_state())
        assert all(float(m.min()) >= 0 and float(m.max()) <= 1 + 1e-6 for m in masks)


def test_colours_leave_masks_alone_and_a_cutout_empties_them() -> None:
    image, mask = soft(2, 3), torch.ones(2, 1, 24, 20)
    (changed,), (own,) = siamese_masked([image], [mask], at(0), ["color"])
    assert torch.equal(own, mask) and not torch.equal(changed, image)
    (changed,), (own,) = siamese_masked([image], [mask], at(0), ["cutout"])
    assert 0 < (own == 0).sum() < own.numel() and torch.equal((changed == 0).all(dim=1, keepdim=True), own == 0)


@pytest.mark.parametrize("operation", ["crop", "rotate"])
def test_what_fills_an_image_up_is_background(operation: str) -> None:
    filled = False
    for seed in SEEDS:
        (image,), (mask,) = siamese_masked(
            [torch.ones(1, 3, 24, 24)], [torch.ones(1, 1, 24, 24)], at(seed), [operation]
        )
        assert torch.equal(image[:, :1], mask)
        filled |= bool((mask == 0).any())
    assert filled


@pytest.mark.parametrize("operation", OPERATIONS)
def test_gradients_reach_the_pixels_in_double_precision(operation: str) -> None:
    image, mask = soft(1, 3, 6, 6).double().mul(0.5).add(0.25).requires_grad_(), soft(1, 1, 6, 6)
    (moved,), (own,) = siamese_masked([image], [mask], at(3), [operation])
    moved.sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0 and own.dtype == torch.float64


def test_masks_of_another_type_are_moved_alike() -> None:
    """The random numbers of a type are not those of another."""
    mask = (soft(2) > 0.5).float()
    (image,), (own,) = siamese_masked([mask.double().expand(-1, 3, -1, -1)], [mask], at(5), ["rotate"])
    assert torch.equal(image[:, :1], own)


def test_no_operation_moves_nothing() -> None:
    image, mask = soft(1, 3), soft(1)
    (same,), (own,) = siamese_masked([image], [mask], at(0), [])
    assert torch.equal(same, image) and torch.equal(own, mask) and torch.equal(siamese([image], at(0), [])[0], image)


@pytest.mark.parametrize(
    "masks", [[], [soft(2)], [soft(3), soft(3)], [soft(2, 3), soft(3)], [soft(2, height=12), soft(3)]]
)
def test_masks_that_do_not_belong_are_refused(masks: list[Tensor]) -> None:
    with pytest.raises(DataError, match=r"need masks of \[\(2, 1, 24, 20\), \(3, 1, 24, 20\)\], one mask an image"):
        siamese_masked([soft(2, 3), soft(3, 3)], masks, at(0))


def test_unknown_operations_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown augmentation spin; known: color, crop"):
        siamese_masked([soft(1, 3)], [soft(1)], at(0), ["spin"])
