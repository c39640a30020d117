"""Diversity of generated pairs: how alike the joint vectors of a batch are."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from limbeck.errors import DataError

__all__ = ["diversity"]


def diversity(
    image: Float[Tensor, "b d"],
    text: Float[Tensor, "b e"],
    per_modality: bool = True,
    ignored: Bool[Tensor, "b b"] | None = None,
) -> Float[Tensor, ""]:
    """The mean cosine of two different pairs of a batch, of which less is more diverse.

        c_i = [x_i ; y_i] / |[x_i ; y_i]|,    L = 2 / (b (b - 1)) sum_{i < j} <c_i, c_j>

    Args:
        image: x, vectors of images.
        text: y, vectors of their captions.
        per_modality: bring each half to unit length first, so that both have the same say; without it the half with the longer
            vectors decides, as in the published code.
        ignored: where True, two pairs are not compared, such as two captions of one image.

    Raises:
        DataError: fewer than two pairs, of which no two differ.

    Paper: Zhao et al., Efficient multimodal dataset distillation via generative models (EDGE), NeurIPS 2025.

    Example:
        >>> round(diversity(torch.eye(3), torch.eye(3)).item(), 4), round(diversity(torch.ones(3, 2), torch.ones(3, 2)).item(), 4)
        (0.0, 1.0)
    """
    if len(image) < 2:
        raise DataError(f"diversity compares two pairs or more, got {len(image)}; raise the batch")
    halves = [F.normalize(half, dim=1) for half in (image, text)] if per_modality else [image, text]
    joint = F.normalize(torch.cat(halves, dim=1), dim=1)
    compared = ~torch.eye(len(joint), dtype=torch.bool, device=joint.device)
    if ignored is not None:
        compared = compared & ~ignored
    return ((joint @ joint.T) * compared).sum() / compared.sum().clamp(min=1)
