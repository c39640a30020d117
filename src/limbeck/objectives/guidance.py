"""What captions and masks add to an objective: objects apart from their backgrounds, images that agree with captions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from limbeck.objectives.moments import group_mean

__all__ = ["balance", "caption_distance", "caption_map", "composite", "masked_mean"]


def composite(
    images: Float[Tensor, "b c h w"], masks: Float[Tensor, "b 1 h w"], fill: Float[Tensor, "..."]
) -> Float[Tensor, "b c h w"]:
    """The objects of images before another background: `x * m + (1 - m) * fill`.

    Pixels outside of the mask get no gradient and do not count.

    Args:
        images: x.
        masks: m in [0, 1], 1 on the object.
        fill: the background, of a shape that broadcasts to that of the images.

    Example:
        >>> composite(torch.ones(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]]), torch.tensor(0.25)).flatten().tolist()
        [1.0, 0.25]
    """
    return images * masks + (1 - masks) * fill


def masked_mean(
    features: Float[Tensor, "b c h w"], masks: Float[Tensor, "b 1 h2 w2"], eps: float = 1e-6
) -> Float[Tensor, "b c"]:
    """The mean of a map of features over the object: `sum h m / (sum m + eps)`, with the mask at the map's own resolution.

    The mask is averaged over the area of each position, so that its mean stays. Deep maps see far beyond a position, and so the
    background, too: to leave it out, use `composite` on the input.

    Args:
        features: h, a map of a convolutional network.
        masks: m in [0, 1], at the resolution of the image or of the map.
        eps: keeps an empty mask finite.

    Example:
        >>> round(masked_mean(torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]])).item(), 4)
        3.0
    """
    m = F.interpolate(masks, features.shape[-2:], mode="area")
    return (features * m).sum((2, 3)) / (m.sum((2, 3)) + eps)


def caption_map(
    features: Float[Tensor, "n d"], captions: Float[Tensor, "n t"], ridge: float = 1e-2
) -> tuple[Tensor, Tensor, Tensor]:
    """The affine map from features of images to vectors of their captions that errs least on real pairs: ridge regression.

        W = argmin |(v - mean v) W - (c - mean c)|^2 + ridge * mean variance * n |W|^2

    Args:
        features: v of real images.
        captions: c of their captions.
        ridge: in units of the mean variance of the features.

    Returns:
        mean v `[D]`, W `[D, T]`, mean c `[T]`: apply it as `(v - mean v) @ W + mean c`.

    Example:
        >>> v = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
        >>> centre, weight, offset = caption_map(v, 2 * v + 1, ridge=0)
        >>> torch.allclose((v - centre) @ weight + offset, 2 * v + 1, atol=1e-4)
        True
    """
    v, c = features.mean(0), captions.mean(0)
    x, y = features - v, captions - c
    n, d = x.shape
    scale = x.square().sum() / d
    if n < d:  # the same solution by the smaller matrix
        weight = x.T @ torch.linalg.solve(x @ x.T + (ridge * scale + 1e-9) * torch.eye(n).to(x), y)
    else:
        weight = torch.linalg.solve(x.T @ x + (ridge * scale + 1e-9) * torch.eye(d).to(x), x.T @ y)
    return v, weight, c


def caption_distance(
    own: Float[Tensor, "m t"],
    captions: Float[Tensor, "m t"],
    target: Float[Tensor, "g t"],
    group: Int[Tensor, " m"],
    single: float = 1.0,
) -> Float[Tensor, ""]:
    """How far images are from the captions of their class, in the mean, and each from its own.

        sum_g | mean_g own - target_g |^2 + single * mean_j (1 - cos(own_j, caption_j))

    Args:
        own: what the images say, as vectors of the captions' space.
        captions: the caption of each.
        target: the mean of the real captions of each group.
        group: of each image.
        single: weight of the second term, which alone sees which caption belongs to which image of a class.

    Example:
        >>> c = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), dim=1)
        >>> caption_distance(c, c, c, torch.arange(2)).item(), caption_distance(c.flip(0), c, c, torch.arange(2)).item()
        (0.0, 5.0)
    """
    means = (group_mean(own, group, len(target)) - target).square().sum()
    return means + single * (1 - F.cosine_similarity(own, captions, dim=1)).mean()


def balance(base: Tensor, terms: Sequence[Tensor], inputs: Sequence[Tensor], fraction: float = 0.5) -> list[float]:
    """Weights at which the gradient of each term in the inputs is as long as a fraction of that of the base.

        w_i = fraction * |grad base| / |grad term_i|

    Args:
        base: a scalar.
        terms: scalars; one whose gradient is zero gets weight 0.
        inputs: what is learned.
        fraction: how much of a say each term has.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> balance(4 * x.sum(), [x.sum(), x.sum().detach()], [x])
        [2.0, 0.0]
    """

    def length(value: Tensor) -> float:
        if not value.requires_grad:
            return 0.0
        found = torch.autograd.grad(value, list(inputs), retain_graph=True, allow_unused=True)
        return float(torch.stack([g.square().sum() for g in found if g is not None] or [torch.zeros(())]).sum().sqrt())

    whole = length(base)
    return [fraction * whole / size if (size := length(term)) > 0 else 0.0 for term in terms]
