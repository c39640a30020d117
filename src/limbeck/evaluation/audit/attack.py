"""Attacks that tell members from others by what a student says of them, and how good an attack is."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Interval", "auc", "confidence", "lira", "rates", "tpr_at"]

PER_SAMPLE = 32  # students of each kind from which on every sample has variances of its own


@dataclass(frozen=True)
class Interval:
    """A value and the interval [`low`, `high`] that holds it in 95 of 100 bootstrap samples."""

    value: float
    low: float
    high: float


def confidence(logits: Float[Tensor, "n k"], right: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The logit-scaled confidence in the right answer: log(p_y / (1 - p_y)) = z_y - log sum_{j != y} exp z_j.

    The cross-entropy is log(1 + exp(-phi)) of it, so that both rank alike.

    Args:
        logits: `[N, K]`, of two answers or more.
        right: `int64 [N]`, which of them is right.

    Example:
        >>> confidence(torch.tensor([[2.0, 0.0, -torch.inf]]), torch.tensor([0])).tolist()
        [2.0]
    """
    own = F.one_hot(right, logits.shape[1]).bool()
    return logits[own] - logits.masked_fill(own, -torch.inf).logsumexp(1)


def lira(
    target: Float[Tensor, " n"], shadows: Float[Tensor, "s n"], inside: Bool[Tensor, "s n"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """The likelihood-ratio attack: how much more the target's confidence is that of students that saw the sample.

        online   log N(phi; m_in, s_in^2) - log N(phi; m_out, s_out^2)         offline   (phi - m_out) / s_out

    m and s are mean and spread, sample by sample, over the shadow students that saw it and those that did not; with fewer than 32 of
    either the variance is the mean over all samples, as the paper does it. The target's confidences are first brought to the mean and spread of
    the shadows': a student of synthetic samples may be surer, or less sure, of everything.

    Args:
        target: logit-scaled confidences.
        shadows: those of S shadow students.
        inside: whether shadow student s saw sample i; each sample was seen by some and not by others.

    Returns:
        two scores, larger for members.

    Paper: Carlini et al., Membership inference attacks from first principles, IEEE S&P 2022.
    """
    spread = shadows.std(1).mean()
    scaled = (target - target.mean()) / target.std().clamp(min=1e-12) * spread + shadows.mean()
    fits = [_normal(shadows, seen) for seen in (inside, ~inside)]
    online = [-(scaled - mean).square() / (2 * variance) - variance.log() / 2 for mean, variance in fits]
    mean, variance = fits[1]
    return online[0] - online[1], (scaled - mean) / variance.sqrt()


def _normal(values: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each column over the rows that are `seen`."""
    count = seen.sum(0)
    mean = values.where(seen, 0).sum(0) / count.clamp(min=1)
    square = (values - mean).square().where(seen, 0).sum(0)
    if int(count.min()) < PER_SAMPLE:
        return mean, (square.sum() / (count - 1).clamp(min=0).sum().clamp(min=1)).clamp(min=1e-12).expand_as(mean)
    return mean, (square / (count - 1)).clamp(min=1e-12)


def auc(members: Float[Tensor, " m"], others: Float[Tensor, " n"]) -> float:
    """The probability that a member scores above another sample; ties count half. 0.5 is chance.

    Example:
        >>> auc(torch.tensor([3.0, 1.0]), torch.tensor([2.0, 1.0]))
        0.625
    """
    return float(_wins(members, others).mean())


def tpr_at(members: Float[Tensor, " m"], others: Float[Tensor, " n"], rate: float = 0.01) -> float:
    """The share of members above a threshold that at most a share `rate` of the others is above.

    With fewer than 1 / `rate` others, none of them is.

    Example:
        >>> tpr_at(torch.tensor([3.0, 2.0]), torch.tensor([2.5, 1.0, 0.0, 0.0]), 0.25), tpr_at(torch.ones(3), torch.ones(3))
        (1.0, 0.0)
    """
    allowed = math.floor(rate * len(others) + 1e-9)
    return float((members > others.sort(descending=True).values[allowed]).float().mean())


def rates(
    members: Float[Tensor, "s m"],
    others: Float[Tensor, "s n"],
    generator: torch.Generator,
    rate: float = 0.01,
    draws: int = 1000,
) -> tuple[Interval, Interval]:
    """AUC and TPR at a false positive rate, means over students, with bootstrap intervals over the samples.

    Args:
        members, others: scores by each of S students.
        generator: draws the bootstrap samples, the same for all students.
        rate: false positive rate.
        draws: bootstrap samples.

    Returns:
        AUC; TPR.

    Example:
        >>> x = torch.arange(50.0)[None]
        >>> [(i.value, i.low, i.high) for i in rates(x + 100, x, torch.Generator().manual_seed(0))]
        [(1.0, 1.0, 1.0), (1.0, 1.0, 1.0)]
    """
    m, n = members.shape[1], others.shape[1]
    mine, theirs = (torch.randint(size, (draws, size), generator=generator) for size in (m, n))
    areas, caught = torch.zeros(draws, dtype=torch.double), torch.zeros(draws, dtype=torch.double)
    allowed = math.floor(rate * n + 1e-9)
    for x, y in zip(members, others, strict=True):
        wins = _wins(x, y).double()
        areas += ((_counts(mine, m) @ wins) * _counts(theirs, n)).sum(1) / (m * n)
        threshold = y[theirs].sort(1, descending=True).values[:, allowed]
        caught += (x[mine] > threshold[:, None]).double().mean(1)
    students = len(members)
    return (
        _interval(sum(auc(x, y) for x, y in zip(members, others, strict=True)) / students, areas / students),
        _interval(sum(tpr_at(x, y, rate) for x, y in zip(members, others, strict=True)) / students, caught / students),
    )


def _wins(members: Tensor, others: Tensor) -> Tensor:
    """1 where a member scores above another sample, 1/2 where both score the same: `[m, n]`."""
    return (members[:, None] > others).float() + 0.5 * (members[:, None] == others).float()


def _counts(drawn: Tensor, size: int) -> Tensor:
    """How often each of `size` samples is in each draw `[draws, size]`."""
    return torch.zeros(len(drawn), size, dtype=torch.double).scatter_add(
        1, drawn, torch.ones_like(drawn, dtype=torch.double)
    )


def _interval(value: float, drawn: Tensor) -> Interval:
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.double)).tolist()
    return Interval(value, low, high)
