"""The distance of two gradients of a network, filter by filter."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["gradient_distance"]


def gradient_distance(x: Sequence[Tensor], y: Sequence[Tensor], eps: float = 1e-6) -> Float[Tensor, ""]:
    """One minus the cosine of the gradients of each output unit, summed over units and layers.

        D = sum_l sum_r 1 - <x_lr, y_lr> / (|x_lr| |y_lr|)      l: a layer, r: a row, what leads to one output channel

    Biases and the scales of norms, tensors of one dimension, have no rows and count nothing. The value does not see the size
    of a gradient, so that few synthetic images can be compared with many real ones.

    Args:
        x: a gradient tensor a parameter.
        y: of the same network, in the same order; gradients flow to both.
        eps: keeps the quotient finite where a gradient is zero; such a row counts 1.

    Example:
        >>> w, b = torch.eye(2), torch.ones(2)
        >>> gradient_distance([w, b], [3 * w, b]), gradient_distance([w, b], [-w, b])
        (tensor(0.), tensor(4.))

    Paper: Zhao, Mopuri and Bilen, Dataset condensation with gradient matching, ICLR 2021.
    """
    total = torch.zeros((), device=x[0].device, dtype=x[0].dtype)
    for a, b in zip(x, y, strict=True):
        if a.ndim > 1:
            a, b = a.flatten(1), b.flatten(1)
            size = (a.square().sum(1) * b.square().sum(1) + eps**4).sqrt()
            total = total + (1 - (a * b).sum(1) / size).sum()
    return total
