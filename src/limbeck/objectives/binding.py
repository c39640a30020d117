"""Losses that bind several modalities into one space: which anchor each modality is pulled to.

Two views of every sample: `first` gives the anchors, `second` what is pulled to them; all are unit vectors. A term is the symmetric
InfoNCE of `contrastive.infonce`, half the sum of both directions, among the rows that have both sides; what is masked is
never read, so it may hold anything. A term of fewer than two rows is left out, and the loss is the mean of the terms.

    fixed         NCE(z'_a, z_i)           for each modality i other than the anchor a
    centroid      NCE(mean_l z'_l, z_i)    for each modality i: M terms hold all M^2 ordered pairs, those with itself too
    all pairs     NCE(z'_i, z_l)           for each pair i < l
"""

from collections.abc import Mapping
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from limbeck.errors import DataError
from limbeck.objectives.contrastive import infonce

__all__ = ["all_pairs", "centroid", "centroid_terms", "fixed_terms", "mean_of_terms"]

Vectors = Mapping[str, Float[Tensor, "n d"]]
Present = Mapping[str, Bool[Tensor, " n"]] | None
Temperature = float | Float[Tensor, ""]


def centroid(
    vectors: Vectors,
    present: Present = None,
    weights: Mapping[str, float] | None = None,
    normalize: bool = False,
    without: str | None = None,
) -> Float[Tensor, "n d"]:
    """The weighted mean of each sample's present modalities: a_j = sum_l w_l m_lj z_lj / sum_l w_l m_lj.

    Its length is near 1 / sqrt(M) for M unrelated modalities and grows to 1 as they agree.

    Args:
        vectors: modality to z_l, unit vectors.
        present: modality to m_l; a modality that is not named is present in every row.
        weights: modality to w_l; 1 where none is named.
        normalize: bring the centroid to unit length.
        without: a modality that is left out.

    Returns:
        a, zero in rows that have none.

    Example:
        >>> centroid({"a": torch.tensor([[1.0, 0.0]]), "b": torch.tensor([[0.0, 1.0]])})
        tensor([[0.5000, 0.5000]])
    """
    total, weight = torch.zeros(()), torch.zeros(())
    for modality, z in vectors.items():
        if modality != without:
            w = (weights or {}).get(modality, 1.0)
            here = _mask(vectors, present, modality)[:, None]
            total = total.to(z) + w * torch.where(here, z, torch.zeros_like(z))
            weight = weight.to(z) + w * here.to(z)
    mean = total / torch.where(weight > 0, weight, torch.ones_like(weight))
    return F.normalize(mean, dim=-1) if normalize else mean


def centroid_terms(
    first: Vectors,
    second: Vectors,
    temperature: Temperature,
    present: Present = None,
    *,
    weights: Mapping[str, float] | None = None,
    normalize: bool = False,
    detach: bool = False,
    leave_one_out: bool = False,
) -> dict[str, Tensor]:
    """Every modality against the centroid of its sample.

    For the uniform centroid, not normalised, a term is at most the mean over l of the losses against z'_l alone.

    Args:
        first: modality to z', which the centroids are made of.
        second: modality to z.
        temperature: of the logits.
        present: modality to the rows that have it; all of them by default.
        weights: of the modalities in the centroid.
        normalize: bring centroids to unit length, which acts like a lower temperature.
        detach: let no gradient through the centroid.
        leave_one_out: a modality has no part in its own anchor: better retrieval, nothing learned within a modality.

    Returns:
        modality to its term.

    Raises:
        DataError: a row with no modality.

    Paper: CentroBind, arXiv 2410.02086.

    Example:
        >>> z = {"a": torch.eye(2), "b": torch.eye(2)}
        >>> {m: round(term.item(), 4) for m, term in centroid_terms(z, z, 1.0).items()}
        {'a': 0.3133, 'b': 0.3133}
    """
    masks = {m: _mask(first, present, m) for m in first}
    counts = torch.stack(list(masks.values())).sum(0)
    if not bool(counts.all()):
        raise DataError(f"{int((counts == 0).sum())} rows have no modality at all; leave them out before binding")
    terms: dict[str, Tensor] = {}
    whole = None if leave_one_out else centroid(first, masks, weights, normalize)
    for modality, z in second.items():
        rows = masks[modality]
        if leave_one_out:
            anchor = centroid(first, masks, weights, normalize, without=modality)
            rows = rows & (counts > 1)
        else:
            assert whole is not None
            anchor = whole
        _add(terms, modality, anchor.detach() if detach else anchor, z, rows, temperature)
    return terms


def fixed_terms(
    first: Vectors, second: Vectors, temperature: Temperature, present: Present = None, *, anchor: str
) -> dict[str, Tensor]:
    """Every other modality against one that was chosen once. What two others share and the anchor lacks is in no term.

    Args:
        first: modality to z'; only the anchor's are read.
        second: modality to z.
        temperature: of the logits.
        present: modality to the rows that have it.
        anchor: the modality that the others are pulled to. It moves itself unless its vectors are detached.

    Returns:
        the other modalities to their terms.

    Paper: Girdhar et al., ImageBind: one embedding space to bind them all, CVPR 2023.

    Example:
        >>> z = {"a": torch.eye(2), "b": torch.eye(2)}
        >>> list(fixed_terms(z, z, 1.0, anchor="a"))
        ['b']
    """
    terms: dict[str, Tensor] = {}
    for modality, z in second.items():
        if modality != anchor:
            rows = _mask(first, present, anchor) & _mask(first, present, modality)
            _add(terms, modality, first[anchor], z, rows, temperature)
    return terms


def all_pairs(
    first: Vectors, second: Vectors, temperature: Temperature, present: Present = None, *, with_itself: bool = False
) -> dict[str, Tensor]:
    """Every modality against every other: what the centroid stands for, at M (M - 1) / 2 terms.

    Args:
        first: modality to z'.
        second: modality to z.
        temperature: of the logits.
        present: modality to the rows that have it.
        with_itself: also the two views of each modality.

    Returns:
        `"a, b"` to the term of that pair.

    Example:
        >>> z = {"a": torch.eye(2), "b": torch.eye(2), "c": torch.eye(2)}
        >>> list(all_pairs(z, z, 1.0))
        ['a, b', 'a, c', 'b, c']
    """
    terms: dict[str, Tensor] = {}
    pairs = [*combinations(first, 2), *([(m, m) for m in first] if with_itself else [])]
    for a, b in pairs:
        rows = _mask(first, present, a) & _mask(first, present, b)
        _add(terms, f"{a}, {b}", first[a], second[b], rows, temperature)
    return terms


def mean_of_terms(terms: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """The loss: the mean of the terms that there are.

    Raises:
        DataError: there is none.

    Example:
        >>> mean_of_terms({"a": torch.tensor(1.0), "b": torch.tensor(2.0)})
        tensor(1.5000)
    """
    if not terms:
        raise DataError("no two rows of this batch have modalities in common, so nothing can be bound")
    return torch.stack(list(terms.values())).mean()


def _mask(vectors: Vectors, present: Present, modality: str) -> Tensor:
    if present is not None and modality in present:
        return present[modality]
    z = vectors[modality]
    return torch.ones(len(z), dtype=torch.bool, device=z.device)


def _add(terms: dict[str, Tensor], name: str, a: Tensor, z: Tensor, rows: Tensor, temperature: Temperature) -> None:
    """Puts the term of these rows under `name`, if there are two or more."""
    index = rows.nonzero().squeeze(1)
    if len(index) > 1:
        terms[name] = infonce(a[index] @ z[index].T / temperature)
