"""`Synthetic`: holds everything that is learned, and can show itself as a `Batch`."""

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.core.masks import object_masks
from limbeck.core.pixels import Coordinates
from limbeck.core.problem import Problem
from limbeck.data.batch import Batch, Captions
from limbeck.errors import ConfigError
from limbeck.objectives.selection import Rule
from limbeck.objectives.similarity import Similarity

__all__ = ["SOFT", "Synthetic", "chosen_pairs", "learned_pairs", "select"]

SOFT = "soft_label"  # the shares of the classes in each sample


class Synthetic(nn.Module):
    """M synthetic samples. Its `state_dict` is the checkpoint: what is learned are parameters, the rest are buffers.

    Args:
        values: modality to tensor `[M, ...]`: images in [0, 1], text as embeddings (vectors, or tokens), masks in [0, 1]; only
            modalities held as tensors. `"soft_label"` `[M, C]` are shares of the classes, learned as their logarithms.
        learn: the modalities that are optimised; the others stay as they are.
        origin: `int64 [M]`, the real sample that each synthetic one started from.
        caption: `int64 [M]`, the feature row (of the source's text) that it started from; `None` without text.
        labels: `int64 [M]` or `None`.
        relation: how much image i matches text j, learned; `None` for the identity.
        hints: modules without arguments that return a scalar for the student, such as a `LearnedRate`.
        training: how a student should be trained on the set: `"loss"`, a name of `limbeck.objectives.contrastive`, and
            `"temperature"`. Plain values, not learned.
        average: decay of a moving average of everything learned, see `averaged`; 0 keeps none.
        ranges: modality to the least and largest valid value, where `project` shall keep to it; images keep to [0, 1].
        generator: what the samples are drawn from in the end, where weights are learned instead of samples.
        texts: the captions of each sample, where they are not those that it started from.
        kept: the modalities that are those of the real sample at `origin`, unchanged; they are held nowhere else.
        vectors: the modalities, beside text, whose values are vectors of their encoder, kept at unit length.
        generation: how samples and captions were generated: plain values, kept with the set.

    Raises:
        ConfigError: it should learn what it does not hold, hold what it keeps, or `average` is not in [0, 1).

    Example:
        >>> s = Synthetic({"image": torch.zeros(2, 3, 4, 4)}, learn=["image"], origin=torch.tensor([5, 9]))
        >>> len(s), [name for name, _ in s.named_parameters()]
        (2, ['learned.image'])
    """

    origin: Tensor
    caption: Tensor | None
    labels: Tensor | None
    averages: Tensor

    def __init__(
        self,
        values: Mapping[str, Tensor],
        *,
        learn: Collection[str] = (),
        origin: Tensor,
        caption: Tensor | None = None,
        labels: Tensor | None = None,
        relation: Similarity | None = None,
        hints: Mapping[str, nn.Module] | None = None,
        training: Mapping[str, str | float] | None = None,
        average: float = 0.0,
        ranges: Mapping[str, tuple[float, float]] | None = None,
        generator: nn.Module | None = None,
        texts: Sequence[Captions] = (),
        generation: Mapping[str, Any] | None = None,
        kept: Collection[str] = (),
        vectors: Collection[str] = (),
    ) -> None:
        super().__init__()
        if twice := set(kept) & set(values):
            raise ConfigError(f"{', '.join(sorted(twice))} cannot be both kept and held")
        if not 0 <= average < 1:
            raise ConfigError(f"average is a decay from 0 (none) to below 1, got {average}")
        if unknown := set(learn) - set(values):
            raise ConfigError(f"cannot learn {', '.join(sorted(unknown))}: the set holds {', '.join(values)}")
        self.order, self.kept, self.vectors = tuple(values), tuple(kept), tuple(vectors)
        self.ranges = {"image": (0.0, 1.0), **(ranges or {})}
        starts = {m: v.log() if m == SOFT else v for m, v in values.items() if m in learn}
        self.learned = nn.ParameterDict({m: nn.Parameter(v.clone()) for m, v in starts.items()})
        self.fixed = nn.Module()
        for modality, value in values.items():
            if modality not in learn:
                self.fixed.register_buffer(modality, value.clone())
        self.coordinates = nn.ModuleDict()  # modality to its `Coordinates`, where it is learned in others than its own
        self.relation = relation
        self.hints = nn.ModuleDict(dict(hints or {}))
        self.training_options = dict(training or {})
        self.generator, self.texts, self.generation = generator, tuple(texts), dict(generation or {})
        self.register_buffer("origin", origin)
        self.register_buffer("caption", caption)
        self.register_buffer("labels", labels)
        self.average = average
        if average:
            self.register_buffer("averages", torch.zeros((), dtype=torch.long))  # how many states they are of
            self._begin_averages()
        self.started = self.at_ends()
        self.warned: set[str] = set()  # modalities of which a person knows that they stand at the ends

    def __len__(self) -> int:
        return len(self.origin)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities held as tensors."""
        return self.order

    def value(self, modality: str) -> Tensor:
        """The tensor of one modality, `[M, ...]`: a parameter where it is learned, or made of parameters by its coordinates."""
        value: Tensor = self.learned[modality] if modality in self.learned else getattr(self.fixed, modality)
        if modality in self.coordinates:
            value = self.coordinates[modality](value)
        return value.softmax(dim=1) if modality == SOFT and modality in self.learned else value

    def learn_in(self, modality: str, coordinates: Coordinates) -> None:
        """Learns a modality in other coordinates from now on: `learned` holds those of the first level.

        Args:
            modality: that is learned.
            coordinates: of its values as they are now.
        """
        device = self.learned[modality].device
        self.coordinates[modality] = coordinates.to(device)
        self.learned[modality] = nn.Parameter(coordinates.first().to(device))
        self._begin_averages()

    def join(self, optimizer: Optimizer) -> None:
        """Gives finer levels to the group of an optimizer that has their first level: the same rate for all.

        Args:
            optimizer: of the parameters in `learned`.
        """
        for modality, held in self.coordinates.items():
            for group in optimizer.param_groups:
                known = {id(p) for p in group["params"]}
                if id(self.learned[modality]) in known:
                    group["params"] += [p for p in held.finer if id(p) not in known]  # type: ignore[union-attr]

    @contextmanager
    def seen(self, modality: str, view: Callable[[Tensor], Tensor] | None = None) -> Iterator[None]:
        """Within it `learned` holds a modality as it is seen: a leaf, whatever it is made of; in the end its gradient is carried back.

        Args:
            modality: that is learned.
            view: a function of its values, such as `Pixels.view`; `None` shows them as they are.
        """
        own, value = self.learned[modality], self.value(modality)
        held = self.coordinates.pop(modality) if modality in self.coordinates else None
        value = value if view is None else view(value)
        leaf = self.learned[modality] = nn.Parameter(value.detach().clone())
        try:
            yield
        finally:
            self.learned[modality] = own
            if held is not None:
                self.coordinates[modality] = held
        if leaf.grad is not None:
            value.backward(leaf.grad)

    def batch(self, index: Tensor | None = None) -> Batch:
        """The samples at `index` (all by default) as a batch; gradients flow to what is learned."""
        values = {m: self.value(m) if index is None else self.value(m)[index] for m in self.modalities}
        if self.labels is not None:
            values["label"] = self.labels if index is None else self.labels[index]
        return Batch(values, relation=None if self.relation is None else self.relation(index))

    @torch.no_grad()
    def project(self) -> None:
        """Brings what is learned back to where it is valid: pixels into [0, 1], sound and depth into their ranges, vectors
        to unit length.

        What is valid then enters the moving average, where there is one.
        """
        self._make_valid()
        if self.average:
            self.averages += 1
            share = (1 - self.average) / (1 - self.average ** int(self.averages))
            for name, value in self.named_parameters():
                self.get_buffer(_average_of(name)).lerp_(value, share)

    @torch.no_grad()
    def averaged(self) -> "Synthetic":
        """The set with the moving average of everything learned in place of its last state; itself where none is kept.

            a_t = (1 - d) / (1 - d^t) sum_{i <= t} d^(t - i) x_i        d: `average`; x_i: the state after step i

        It is corrected for its beginning, as Adam's moments are: the start of the set, real pairs, has no part in it.
        """
        if not self.average:
            return self
        mean = copy.deepcopy(self)
        for name, value in mean.named_parameters():
            value.copy_(self.get_buffer(_average_of(name)))
        mean._make_valid()
        return mean

    @torch.no_grad()
    def at_ends(self) -> dict[str, float]:
        """The share of the values of each learned modality that stand at an end of their range, or beyond."""
        return {
            m: float(((self.value(m) <= low) | (self.value(m) >= high)).float().mean())
            for m, (low, high) in self.ranges.items()
            if m in self.learned
        }

    def _begin_averages(self) -> None:
        for name, value in list(self.named_parameters()) if self.average else ():
            self.register_buffer(_average_of(name), value.detach().clone())

    def _make_valid(self) -> None:
        for modality, (low, high) in self.ranges.items():
            if modality in self.coordinates:
                self.coordinates[modality].project(self.learned[modality])  # type: ignore[operator]
            elif modality in self.learned:
                self.learned[modality].clamp_(low, high)
        for modality in (m for m in ("text", *self.vectors) if m in self.learned and self.learned[m].ndim == 2):
            self.learned[modality].copy_(F.normalize(self.learned[modality], dim=-1))


def _average_of(parameter: str) -> str:
    """The buffer that holds the moving average of a parameter; a buffer's name has no dot."""
    return "average_" + parameter.replace(".", "_")


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


def learned_pairs(problem: Problem, rule: Rule, per_class: bool | None = None) -> Synthetic:
    """A synthetic set that starts as real pairs, all of whose modalities are learned, texts as vectors.

    Args:
        problem: whose budget says how many.
        rule, per_class: see `select`.
    """
    chosen = select(problem, rule, problem.pairs(learned_text=True), per_class)
    return chosen_pairs(problem, chosen, learn=problem.modalities)


def chosen_pairs(
    problem: Problem,
    chosen: Tensor,
    learn: Collection[str] = (),
    tokens: int = 0,
    relation: Similarity | None = None,
    hints: Mapping[str, nn.Module] | None = None,
    training: Mapping[str, str | float] | None = None,
    average: float = 0.0,
) -> Synthetic:
    """A synthetic set that starts as real pairs. It carries their masks, which stay as they are, where the source has masks.

    Args:
        problem: whose candidates they are.
        chosen: `int64 [M]` positions in `problem.candidates`.
        learn: the modalities to optimise.
        tokens: token embeddings that each text is made of; 0 for the vector of the whole text.
        relation, hints, training, average: see `Synthetic`.
    """
    pairs = problem.candidates
    index = pairs.sample[chosen]
    batch = problem.source.batch(index)
    caption = pairs.rows["text"][chosen] if "text" in pairs.rows else None
    values = {m: batch[m] for m in problem.modalities if m != "text"}
    if caption is not None and tokens:
        values["text"] = problem.space["text"].tokens([problem.captions[row] for row in caption.tolist()], tokens)
    elif caption is not None:
        values["text"] = problem.features["text"].vectors[caption]
    if problem.masked:
        values["mask"] = object_masks(batch)
    labels, kinds = problem.source.labels, problem.source.modalities
    labels = None if labels is None else labels[index]
    return Synthetic(
        values,
        learn=learn,
        origin=index,
        caption=caption,
        labels=labels,
        relation=relation,
        hints=hints,
        training=training,
        average=average,
        ranges={m: (kinds[m].low, kinds[m].high) for m in values if m in ("audio", "depth")},
    ).to(problem.device)
