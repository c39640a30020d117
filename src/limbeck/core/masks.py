"""Masks of objects: what a batch says of them, and what is taken where it says nothing."""

import torch
from jaxtyping import Float
from torch import Tensor

from limbeck.data.batch import Batch
from limbeck.errors import DataError

__all__ = ["object_masks"]


def object_masks(batch: Batch) -> Float[Tensor, "b 1 h w"]:
    """The mask of every image of a batch: 1 on the object, 0 on the background.

    An image without a mask, or whose mask holds no object, counts as object everywhere: it gets ones.

    Args:
        batch: holds `"mask"` `float [B, 1, H, W]` in [0, 1], and `"image"` of the same height and width where it holds images.

    Raises:
        DataError: masks of another size than the images, or values outside [0, 1].

    Example:
        >>> masks = torch.zeros(3, 1, 2, 2)
        >>> masks[:2, :, 0] = 1
        >>> held = {"mask": torch.tensor([True, False, True])}
        >>> object_masks(Batch({"mask": masks}, held)).mean(dim=(1, 2, 3)).tolist()
        [0.5, 1.0, 1.0]
    """
    masks: Tensor = batch["mask"]
    wanted = tuple(batch["image"].shape[-2:]) if "image" in batch else tuple(masks.shape[-2:])
    if tuple(masks.shape[1:]) != (1, *wanted):
        raise DataError(
            f"masks of {list(masks.shape[1:])} do not fit images of {wanted[0]} x {wanted[1]} pixels; a mask is "
            "[1, H, W], cropped and resized as its image"
        )
    own = batch.mask("mask").to(masks.device)
    extremes = masks[own].flatten().aminmax() if own.any() else None
    if extremes and not (extremes.min >= 0 and extremes.max <= 1):  # NaN fails, too
        raise DataError(
            f"masks lie in [0, 1], 1 on the object; these go from {extremes.min:.4g} to {extremes.max:.4g}; divide by the "
            "largest value"
        )
    own = own & (masks.flatten(1).amax(dim=1) > 0)
    return torch.where(own[:, None, None, None], masks, torch.ones_like(masks))
