"""`Synthetic`: holds everything that is learned, and can show itself as a `Batch`."""

from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core.problem import Problem
from limbeck.data.batch import Batch
from limbeck.errors import ConfigError
from limbeck.objectives.selection import Rule

__all__ = ["Synthetic", "chosen_pairs", "select"]


class Synthetic(nn.Module):
    """M synthetic samples. Its `state_dict` is the checkpoint: what is learned are parameters, the rest are buffers.

    Args:
        values: modality to tensor `[M, ...]`: images in [0, 1], text as embeddings; only modalities held as tensors.
        learn: the modalities that are optimised; the others stay as they are.
        origin: `int64 [M]`, the real sample that each synthetic one started from.
        caption: `int64 [M]`, the feature row (of the source's text) that it started from; `None` without text.
        labels: `int64 [M]` or `None`.
        relation: a module without arguments that returns `float [M, M]`, or `None` for the identity.
        hints: learned scalars for the student, such as a learning rate.

    Example:
        >>> s = Synthetic({"image": torch.zeros(2, 3, 4, 4)}, learn=["image"], origin=torch.tensor([5, 9]))
        >>> len(s), [name for name, _ in s.named_parameters()]
        (2, ['learned.image'])
    """

    origin: Tensor
    caption: Tensor | None
    labels: Tensor | None

    def __init__(
        self,
        values: Mapping[str, Tensor],
        *,
        learn: Collection[str] = (),
        origin: Tensor,
        caption: Tensor | None = None,
        labels: Tensor | None = None,
        relation: nn.Module | None = None,
        hints: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        if unknown := set(learn) - set(values):
            raise ConfigError(f"cannot learn {', '.join(sorted(unknown))}: the set holds {', '.join(values)}")
        self.order = tuple(values)
        self.learned = nn.ParameterDict({m: nn.Parameter(v.clone()) for m, v in values.items() if m in learn})
        self.fixed = nn.Module()
        for modality, value in values.items():
            if modality not in learn:
                self.fixed.register_buffer(modality, value.clone())
        self.relation = relation
        self.hints = nn.ParameterDict({k: nn.Parameter(v.clone()) for k, v in (hints or {}).items()})
        self.register_buffer("origin", origin)
        self.register_buffer("caption", caption)
        self.register_buffer("labels", labels)

    def __len__(self) -> int:
        return len(self.origin)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities held as tensors."""
        return self.order

    def value(self, modality: str) -> Tensor:
        """The tensor of one modality: `[M, ...]`, a parameter where it is learned."""
        value: Tensor = self.learned[modality] if modality in self.learned else getattr(self.fixed, modality)
        return value

    def batch(self, index: Tensor | None = None) -> Batch:
        """The samples at `index` (all by default) as a batch; gradients flow to what is learned."""
        values = {m: self.value(m) if index is None else self.value(m)[index] for m in self.modalities}
        if self.labels is not None:
            values["label"] = self.labels if index is None else self.labels[index]
        relation = None if self.relation is None else self.relation()
        if relation is not None and index is not None:
            relation = relation[index][:, index]
        return Batch(values, relation=relation)

    @torch.no_grad()
    def project(self) -> None:
        """Brings what is learned back to where it is valid: pixels into [0, 1], text embeddings to unit length."""
        if "image" in self.learned:
            self.learned["image"].clamp_(0, 1)
        if "text" in self.learned:
            self.learned["text"].copy_(F.normalize(self.learned["text"], dim=-1))


def select(problem: Problem, rule: Rule, pairs: int, per_class: bool | None = None) -> Tensor:
    """Chooses `pairs` of the problem's candidates, in all or class by class.

    Args:
        problem: whose candidates to choose from.
        rule: one of `limbeck.objectives.selection.RULES`.
        pairs: how many to choose.
        per_class: see `Problem.groups`.

    Returns:
        `int64 [M]` positions in `problem.candidates`.
    """
    candidates = problem.candidates
    picks = []
    for group, (among, count) in enumerate(problem.groups(pairs, per_class)):
        views = [(problem.features[m].vectors, candidates.rows[m][among]) for m in problem.modalities]
        picks.append(among[rule(views, candidates.sample[among], count, problem.rng("select", group))])
    return torch.cat(picks)


def chosen_pairs(problem: Problem, chosen: Tensor, learn: Collection[str] = ()) -> Synthetic:
    """A synthetic set that starts as real pairs.

    Args:
        problem: whose candidates they are.
        chosen: `int64 [M]` positions in `problem.candidates`.
        learn: the modalities to optimise.
    """
    pairs = problem.candidates
    index = pairs.sample[chosen]
    batch = problem.source.batch(index)
    caption = pairs.rows["text"][chosen] if "text" in pairs.rows else None
    values = {m: batch[m] for m in problem.modalities if m != "text"}
    if caption is not None:
        values["text"] = problem.features["text"].vectors[caption]
    labels = problem.source.labels
    labels = None if labels is None else labels[index]
    return Synthetic(values, learn=learn, origin=index, caption=caption, labels=labels).to(problem.device)
