"""Real samples that a set keeps as they are: what is stored of them, how encoders see it, and how far what is learned beside them moved."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.core.encode import chunked
from limbeck.core.masks import object_masks
from limbeck.core.problem import Problem
from limbeck.core.synthetic import Synthetic
from limbeck.spaces import Encoder, Features

__all__ = ["kept_values", "kept_vectors", "moved"]


def kept_values(problem: Problem, synthetic: Synthetic) -> dict[str, Tensor]:
    """What a set keeps of the real samples at its origins: modality to tensor `[M, ...]`; texts that are strings are not among it.

    Args:
        problem: whose source holds the samples.
        synthetic: says which modalities are kept.
    """
    index = synthetic.origin.cpu()
    values = {m: problem.stored(m, index).cpu() for m in synthetic.kept if m not in ("text", "mask")}
    if "mask" in synthetic.kept:
        values["mask"] = object_masks(problem.source.batch(index))
    if "text" in synthetic.kept and "text" in problem.source.embeddings and synthetic.caption is not None:
        values["text"] = problem.features["text"].vectors[synthetic.caption.cpu()]
    return values


@torch.no_grad()
def kept_vectors(problem: Problem, modality: str, encoder: Encoder, features: Features, index: Tensor) -> Tensor:
    """Unit vectors of real samples as they are stored, `float [n, D]`; of a sample's captions their mean direction.

    Each sample is read once for a problem and those that share what is computed of its data, see `Problem.but`.

    Args:
        problem: whose source.
        modality: which.
        encoder: that reads it.
        features: of the whole source under that encoder.
        index: `int64 [n]`, which samples.
    """
    if modality == "text" or modality in problem.source.embeddings:
        return features.directions(len(problem.source))[index].to(problem.device)
    encoder.to(problem.device)

    def seen(part: Any) -> Tensor:
        return encoder(part.to(problem.device))

    how = problem.storage if modality == "image" else None
    known: dict[int, Tensor] = problem.once(("kept", modality, encoder.fingerprint, how), dict)
    new = [i for i in dict.fromkeys(index.tolist()) if i not in known]
    for part in torch.tensor(new, dtype=torch.long).split(256) if new else ():
        known |= zip(part.tolist(), chunked(seen, problem.stored(modality, part)), strict=True)
    return torch.stack([known[i] for i in index.tolist()])


def moved(problem: Problem, synthetic: Synthetic) -> list[float]:
    """The cosine of each learned vector with the real sample's own, of texts with the mean direction of its captions.

    Args:
        problem: whose features.
        synthetic: after the last step. Of a set without learned vectors nothing is returned.
    """
    learned = [m for m in ("text", *synthetic.vectors) if m in synthetic.learned and synthetic.learned[m].ndim == 2]
    if not learned:
        return []
    own = problem.features[learned[0]].directions(len(problem.source))[synthetic.origin.cpu()]
    found = F.normalize(synthetic.learned[learned[0]].detach().cpu(), dim=1)
    return [round(cosine, 4) for cosine in (found * own).sum(1).tolist()]
