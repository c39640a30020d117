"""Contrastive losses of a batch of image-text pairs, with soft labels: how much image i matches text j.

Logits z are similarities over the temperature, rows images and columns texts. Labels S are as they are, not brought to
sum one. `ignored` leaves entries out: false negatives, never the diagonal. All losses have second derivatives.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from limbeck.errors import UnknownName

__all__ = ["LOSSES", "Loss", "bce", "contrastive", "cwcl", "directions", "ence", "false_negatives", "infonce", "wbce"]

Square = Float[Tensor, "b b"]
LossName = Literal["infonce", "ence", "cwcl", "bce", "wbce"]
Mask = Bool[Tensor, "b b"] | None
Loss = Callable[[Tensor, Tensor | None, Tensor | None], Tensor]  # (logits, labels or None for the identity, ignored)


def infonce(logits: Square, target: Square | None = None, ignored: Mask = None) -> Float[Tensor, ""]:
    """InfoNCE, symmetric: each image finds its text among the batch, and each text its image.

        L = -1/(2b) sum_i [ log softmax_row(z)_ii + log softmax_col(z)_ii ]

    Args:
        logits: z.
        target: not read; the labels are the identity.
        ignored: where True, an entry is no negative.

    Paper: Radford et al., Learning transferable visual models from natural language supervision, ICML 2021.

    Example:
        >>> round(infonce(torch.zeros(4, 4)).item(), 4)  # log 4
        1.3863
    """
    rows, columns = _log_softmax(logits, ignored)
    return -(rows.diagonal().mean() + columns.diagonal().mean()) / 2


def directions(logits: Square, ignored: Mask = None) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The two halves of InfoNCE: each image finds its text, and each text its image.

        -1/b sum_i log softmax_row(z)_ii,    -1/b sum_i log softmax_col(z)_ii

    Args:
        logits: z.
        ignored: where True, an entry is no negative, in both directions.

    Example:
        >>> [round(half.item(), 3) for half in directions(torch.tensor([[2.0, 0.0], [2.0, 2.0]]))]
        [0.41, 0.41]
    """
    rows, columns = _log_softmax(logits, ignored)
    return -rows.diagonal().mean(), -columns.diagonal().mean()


def ence(logits: Square, target: Square | None = None, ignored: Mask = None) -> Float[Tensor, ""]:
    """Extended InfoNCE: cross-entropies with soft labels, whose scale weighs the loss.

        L = -1/(2b) sum_ij S_ij [ log softmax_row(z)_ij + log softmax_col(z)_ij ]

    Args:
        logits: z.
        target: S; `None` for the identity, which gives InfoNCE.
        ignored: where True, an entry is neither positive nor negative.

    Paper: Xu et al., Low-rank similarity mining for multimodal dataset distillation, ICML 2024.

    Example:
        >>> z = torch.tensor([[3.0, 1.0], [0.0, 2.0]])
        >>> bool(torch.isclose(ence(z, 2 * torch.eye(2)), 2 * infonce(z)))
        True
    """
    rows, columns = _log_softmax(logits, ignored)
    return -(_labels(logits, target) * (rows + columns)).sum() / (2 * len(logits))


def cwcl(logits: Square, target: Square | None = None, ignored: Mask = None) -> Float[Tensor, ""]:
    """Continuously weighted contrastive loss: as `ence`, the labels of each image and of each text brought to sum one.

        L = -1/(2b) sum_ij [ S_ij / sum_k S_ik  log softmax_row(z)_ij + S_ij / sum_k S_kj  log softmax_col(z)_ij ]

    Args:
        logits: z.
        target: S, not negative; `None` for the identity.
        ignored: where True, an entry is neither positive nor negative.

    Paper: Srinivasa et al., CWCL: cross-modal transfer with continuously weighted contrastive loss, NeurIPS 2023.

    Example:
        >>> z = torch.tensor([[3.0, 1.0], [0.0, 2.0]])
        >>> bool(torch.isclose(cwcl(z, 2 * torch.eye(2)), infonce(z)))
        True
    """
    target = _labels(logits, target)
    if ignored is not None:
        target = target.masked_fill(ignored, 0)
    found = _log_softmax(logits, ignored)
    shares = [target / target.sum(dim=d, keepdim=True).clamp(min=1e-6) for d in (1, 0)]
    each = [-(s * x).sum(dim=d).mean() for s, x, d in zip(shares, found, (1, 0), strict=True)]
    return (each[0] + each[1]) / 2


def bce(logits: Square, target: Square | None = None, ignored: Mask = None) -> Float[Tensor, ""]:
    """Binary cross-entropy of every entry, p = sigmoid(z).

        L = mean_ij l_ij,    l_ij = -S_ij log p_ij - (1 - S_ij) log(1 - p_ij)

    Args:
        logits: z.
        target: S; `None` for the identity. Beyond [0, 1] the loss has no lower bound.
        ignored: where True, an entry is left out of the mean.

    Example:
        >>> round(bce(torch.zeros(3, 3)).item(), 4)  # log 2
        0.6931
    """
    kept = torch.ones_like(logits) if ignored is None else (~ignored).to(logits)
    return _mean(_entropies(logits, _labels(logits, target)), kept)


def wbce(logits: Square, target: Square | None = None, ignored: Mask = None) -> Float[Tensor, ""]:
    """Weighted binary cross-entropy: the few positive entries count as much as the many negative ones.

        L = ( mean_{S_ij > 0.5} l_ij + mean_{S_ij <= 0.5} l_ij ) / 2,    l as in `bce`

    The threshold only decides which mean an entry belongs to; its label stays soft. A mean over nothing is zero.

    Args:
        logits: z.
        target: S; `None` for the identity. Beyond [0, 1] the loss has no lower bound.
        ignored: where True, an entry is left out of its mean.

    Paper: Xu et al., Low-rank similarity mining for multimodal dataset distillation, ICML 2024.

    Example:
        >>> round(wbce(torch.tensor([[9.0, -9.0], [-9.0, 9.0]])).item(), 4)
        0.0001
    """
    target = _labels(logits, target)
    positive = (target > 0.5).to(logits)
    kept = torch.ones_like(logits) if ignored is None else (~ignored).to(logits)
    found = _entropies(logits, target)
    return (_mean(found, positive * kept) + _mean(found, (1 - positive) * kept)) / 2


LOSSES: dict[str, Loss] = {"infonce": infonce, "ence": ence, "cwcl": cwcl, "bce": bce, "wbce": wbce}


def contrastive(name: str) -> Loss:
    """The loss of that name.

    Args:
        name: one of `LOSSES`.

    Raises:
        UnknownName: there is no such loss; the message lists the nearest.

    Example:
        >>> contrastive("wbce") is wbce
        True
    """
    if name not in LOSSES:
        raise UnknownName("contrastive loss", name, LOSSES)
    return LOSSES[name]


def false_negatives(owner: Int[Tensor, " b"]) -> Bool[Tensor, "b b"]:
    """Which pairs of a batch are no negatives of each other: two different rows of one owner, such as one image.

    Args:
        owner: what each row belongs to.

    Example:
        >>> false_negatives(torch.tensor([4, 7, 4])).nonzero().tolist()
        [[0, 2], [2, 0]]
    """
    return (owner[:, None] == owner) & ~torch.eye(len(owner), dtype=torch.bool, device=owner.device)


def _labels(logits: Tensor, target: Tensor | None) -> Tensor:
    return torch.eye(len(logits), dtype=logits.dtype, device=logits.device) if target is None else target


def _log_softmax(logits: Tensor, ignored: Tensor | None) -> tuple[Tensor, Tensor]:
    """Log-probabilities along rows and along columns; an ignored entry has no part in them, and is zero itself."""
    if ignored is None:
        return logits.log_softmax(dim=1), logits.T.log_softmax(dim=1).T
    left = logits.masked_fill(ignored, -torch.inf)
    return left.log_softmax(dim=1).masked_fill(ignored, 0), left.T.log_softmax(dim=1).T.masked_fill(ignored, 0)


def _entropies(logits: Tensor, target: Tensor) -> Tensor:
    return -target * F.logsigmoid(logits) - (1 - target) * F.logsigmoid(-logits)


def _mean(values: Tensor, kept: Tensor) -> Tensor:
    return (values * kept).sum() / kept.sum().clamp(min=1)
