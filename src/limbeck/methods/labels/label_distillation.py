"""Label distillation: real samples stay as they are, and what is said of them is learned, in closed form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import log10
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam, Optimizer

from limbeck.constraints import Ge, NotNegative
from limbeck.core import Method, Problem, Synthetic, fitted
from limbeck.core.kept import kept_vectors
from limbeck.core.members import member_costs, member_features
from limbeck.core.synthetic import SOFT
from limbeck.errors import ConfigError, DataError
from limbeck.objectives.contrastive import infonce
from limbeck.objectives.kernel import ridge_map, ridge_tower
from limbeck.objectives.selection import Init, Rule, View, random, rule
from limbeck.runtime.timing import seconds_of
from limbeck.spaces import Encoder
from limbeck.spaces.encoders.pool import members_of

__all__ = ["LabelDistillation"]

READ = 4096  # real samples that the scale of class scores is fitted to
SURE = 0.9  # the share of its own class in a soft label at the start
SHARPEST = 5.0  # root mean square of class scores, at most


@dataclass(frozen=True)
class Tower:
    """What a ridge regression on the kept samples says of real ones, under one encoder: `(x - mean)^T matrix`.

    Args:
        name: of its loss in the log.
        matrix: `float [D, M]`, see `ridge_map`.
        mean: `float [D]` of the kept samples.
        vectors: `float [R, D]`, features of the whole source.
        rows: `int64`, the feature of each candidate.
        device: where it is read.
    """

    name: str
    matrix: Tensor
    mean: Tensor
    vectors: Tensor
    rows: Tensor
    device: str

    def __call__(self, chosen: Tensor) -> Tensor:
        """`float [B, M]` of the candidates at `chosen`."""
        return (self.vectors[self.rows[chosen]].to(self.device) - self.mean) @ self.matrix


@dataclass(frozen=True)
class LabelDistillation(Method):
    """Keeps M real samples unchanged and learns their supervision: a caption of each as a vector, or soft labels.

        f_e(x) = ridge tower of the kept inputs under encoder e    g(c) = ridge tower of the learned vectors t
        vectors    L = mean_e InfoNCE(cos(f_e(x), g(c)) / temperature)    on a batch of real pairs
        labels     L = mean_e CE(s_e f_e(x) u + mean(u), y)               t = softmax(u): soft labels

    Towers are those of `kip`: kernel ridge regressions that tell the M samples apart. Those of the kept inputs never change: they are
    computed once, of what is stored, so that a step runs no network and takes milliseconds, and no pixel is a parameter. Every
    input modality, and every member of a pool (`--space.image pool:NAME+NAME`), has a tower and a loss of its own; the mean of all is
    minimised. A learned caption starts as the mean direction of the sample's own captions, a soft label as nine tenths of the label
    itself; s_e is the scale at which the scores of these fit the real labels best. What was learned leans on pretrained features:
    networks from random weights gain little of it.

    Args:
        steps: number of steps; with 0 nothing is learned, and each sample has the mean direction of its captions (or its label), the
            baseline of the idea.
        batch: real pairs a step, of different samples.
        ridge: of the towers, in units of the mean variance of the set's components.
        temperature: of the softmax over pairs; by default 0.07 (1 + 100/M), at most 0.3: other encoders read the towers of few samples
            better where these are softer. Of class scores the scale is fitted.
        lr: learning rate (Adam, a cosine to zero); by default 0.01 of vectors and 0.05 of the logits of labels.
        init: which real samples to keep: random, herding, kcenter, prototypes or kmeans (medoids); by default random where vectors are
            learned, which makes up for the choice, and herding where labels are.
        learn: what is learned: text, label, or another modality of the data, as vectors of its encoder; the other modalities are kept.
            `auto` is text where there is text beside another modality, else label.
        per_class: choose equally from each class; by default where labels are learned, or the source is labelled and has no text.

    Paper: Bohdal, Yang and Hospedales, Flexible dataset distillation: learn labels instead of images, 2020; for pairs as in
        Nguyen, Chen and Lee, Dataset meta-learning from kernel ridge-regression, ICLR 2021, with pixels that are fixed.

    Example:
        >>> import limbeck as lb
        >>> space = lb.space(image="convnet", text="bag_of_words")
        >>> small = lb.distill(lb.Problem(lb.check.toy_source(), space, lb.Budget(pairs=4)), LabelDistillation(steps=2))
        >>> small.tensors["text"].shape, len(small.moved)
        (torch.Size([4, 256]), 4)
    """

    pools = "all"

    steps: Annotated[int, Ge(0)] = 150
    batch: Annotated[int, Ge(2)] = 512
    ridge: Annotated[float, Ge(1e-6)] = 20.0
    temperature: Annotated[float, Ge(1e-6)] | None = None
    lr: NotNegative | None = None
    init: Init | None = None
    learn: str = "auto"
    per_class: bool | None = None

    @property
    def keeps_images(self) -> bool:
        """Images are real ones."""
        return True

    @property
    def learns_text(self) -> bool:
        """A text that is learned is an embedding."""
        return self.learn in ("auto", "text")

    def lr_schedule(self, t: int) -> float:
        """Cosine decay to zero."""
        return self.cosine(t)

    def check(self, problem: Problem) -> None:
        """Refuses data without what is learned, or without anything to keep beside it."""
        super().check(problem)
        target = self.target(problem)
        known, name = [m for m in problem.modalities if m != target], self.describe()["name"]
        if target == "label" and (problem.source.labels is None or len(problem.source.classes) < 2):
            held = ", ".join(problem.modalities)
            raise DataError(
                f"{name} learns texts, or labels of two classes or more, and {problem.source.name} with this space has {held} alone; "
                f"use data with captions or labels, or choose what is learned of these with --method.learn"
            )
        if target == "image":
            raise ConfigError(
                f"{name} keeps images as they are, it learns what stands beside them; name that with --method.learn, or leave it out"
            )
        if target != "label" and target not in problem.modalities:
            raise ConfigError(
                f"{name} cannot learn {target!r}: {problem.source.name} with this space has {', '.join(problem.modalities)}"
                f"{' and labels' if problem.source.labels is not None else ''}; name one of them with --method.learn"
            )
        if not known:
            raise DataError(
                f"{name} learns the {target} of real samples, and {problem.source.name} with this space has nothing beside it; use "
                "data, or a space, with one modality more"
            )
        if target != "label" and len(members_of(problem.space[target])) > 1:
            raise ConfigError(
                f"{name} learns vectors of one {target} encoder, and this is a pool; pools are for what is kept: name one encoder "
                f"with --space.{target}"
            )

    def target(self, problem: Problem) -> str:
        """What is learned: a modality, or `"label"`."""
        if self.learn != "auto":
            return self.learn
        return "text" if "text" in problem.modalities and len(problem.modalities) > 1 else "label"

    def start(self, problem: Problem) -> Synthetic:
        """Real samples, kept; vectors as the mean of their own, soft labels as their labels."""
        target, per_class = self.target(problem), self.per_class
        if target == "label":
            per_class = True if per_class is None else per_class
        choose = rule(self.init or ("herding" if target == "label" else "random"))
        choose = partial(_labelled, problem, choose) if target == "label" else choose
        learn = [SOFT if target == "label" else target]
        chosen = fitted(problem, self, choose, per_class, learn, partial(self._started, problem, target))
        return self._started(problem, target, chosen)

    def _started(self, problem: Problem, target: str, chosen: Tensor) -> Synthetic:
        pairs = problem.candidates
        index, labels = pairs.sample[chosen], problem.source.labels
        if target == "label":
            learned = _smoothed(self._labels(problem)[index], len(problem.source.classes))
        else:
            learned = problem.features[target].directions(len(problem.source))[index]
        key = SOFT if target == "label" else target
        return Synthetic(
            {key: learned},
            learn=[key],
            origin=index,
            caption=pairs.rows["text"][chosen] if "text" in pairs.rows else None,
            labels=None if labels is None else labels[index],
            kept=[*(m for m in problem.modalities if m != target), *(["mask"] if problem.masked else [])],
            vectors=[target] if target not in ("label", "text") else [],
        ).to(problem.device)

    def optimizer(self, synthetic: Synthetic) -> Optimizer:
        """Adam."""
        usual = 0.05 if SOFT in synthetic.learned else 0.01
        return Adam(synthetic.learned.values(), lr=usual if self.lr is None else self.lr)

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | Tensor]:
        """Reads the towers at a batch of cached real features."""
        target, among = self.target(problem), self._towers(problem, synthetic)[0]
        chosen = among[random([], problem.candidates.sample[among], self.batch, problem.rng("real", t))]
        if target == "label":
            losses = self._label_losses(problem, synthetic, chosen)
        else:
            losses = self._vector_losses(problem, synthetic, chosen, target)
        loss = torch.stack(list(losses.values())).mean()
        loss.backward()
        each = {name: value.detach() for name, value in losses.items()} if len(losses) > 1 else {}
        return {"loss": loss.detach(), **each}

    def _vector_losses(self, problem: Problem, synthetic: Synthetic, chosen: Tensor, target: str) -> dict[str, Tensor]:
        real = problem.features[target].vectors[problem.candidates.rows[target][chosen]].to(problem.device)
        own = F.normalize(synthetic.value(target), dim=1)
        learned = F.normalize(ridge_tower(own, real, self.ridge), dim=1)
        _, towers, _ = self._towers(problem, synthetic)
        temperature = self.temperature_of(len(own))
        return {x.name: infonce(F.normalize(x(chosen), dim=1) @ learned.T / temperature) for x in towers}

    def temperature_of(self, samples: int) -> float:
        """The temperature for so many samples: that which was asked for, else the default.

        Args:
            samples: M.

        Example:
            >>> [round(LabelDistillation().temperature_of(samples), 3) for samples in (8, 100, 1000)]
            [0.3, 0.14, 0.077]
        """
        return self.temperature if self.temperature is not None else min(0.07 * (1 + 100 / samples), 0.3)

    def _label_losses(self, problem: Problem, synthetic: Synthetic, chosen: Tensor) -> dict[str, Tensor]:
        _, towers, scales = self._towers(problem, synthetic)
        labels = self._labels(problem)[problem.candidates.sample[chosen]].to(problem.device)
        logits = synthetic.learned[SOFT]
        common = logits.mean(0)  # towers are centred: without it no step would see how common each class is
        return {
            x.name: F.cross_entropy(scale * (x(chosen) @ logits) + common, labels)
            for x, scale in zip(towers, scales, strict=True)
        }

    def _labels(self, problem: Problem) -> Tensor:
        assert problem.source.labels is not None  # see `check`
        return problem.source.labels

    def _among(self, problem: Problem, target: str) -> Tensor:
        """The candidates that hold what is learned: all, or those with a label."""
        sample = problem.candidates.sample
        return torch.arange(len(sample)) if target != "label" else (self._labels(problem)[sample] >= 0).nonzero()[:, 0]

    def _towers(self, problem: Problem, synthetic: Synthetic) -> tuple[Tensor, list[Tower], list[float]]:
        """Candidates to draw from, a tower for every encoder of what is kept, and the scale of each one's class scores: made once."""
        target = self.target(problem)
        index = synthetic.origin.cpu()

        def make() -> tuple[Tensor, list[Tower], list[float]]:
            among = self._among(problem, target)
            kept = [m for m in problem.modalities if m != target]
            towers = [self._tower(problem, m, *found, index) for m in kept for found in member_features(problem, m)]
            scales = [self._scale(problem, x, index, among) for x in towers] if target == "label" else []
            return among, towers, scales

        return problem.once(("label towers", problem.storage, self.ridge, target, tuple(index.tolist())), make)

    def _tower(self, problem: Problem, modality: str, encoder: Encoder, features: Any, index: Tensor) -> Tower:
        own = kept_vectors(problem, modality, encoder, features, index)
        rows = problem.candidates.rows[modality]
        name = f"{modality} {encoder.describe()['name']}"
        return Tower(name, ridge_map(own, self.ridge), own.mean(0), features.vectors, rows, problem.device)

    def _scale(self, problem: Problem, tower: Tower, index: Tensor, among: Tensor) -> float:
        """The s that minimises CE(s f(x) t, y) of the labels that the samples start with, on up to `READ` real samples."""
        labels = self._labels(problem)
        start = _smoothed(labels[index], len(problem.source.classes)).log().to(problem.device)
        seen = among[random([], problem.candidates.sample[among], READ, problem.rng("scale"))]
        return fitted_scale(tower(seen) @ start, labels[problem.candidates.sample[seen]].to(problem.device))

    def preparation_cost(self, problem: Problem) -> tuple[float, int]:
        """The features of the members of a pool beyond the first."""
        return member_costs(problem)

    def estimates(self, problem: Problem) -> dict[str, Any]:
        """Steps without a network, timed on vectors of the same shapes, and memory for what is learned alone."""
        target = self.target(problem)
        pairs = problem.pairs(self.learns_text, real=True)
        dim = len(problem.source.classes) if target == "label" else problem.space[target].dim
        towers = sum(len(members_of(problem.space[m])) for m in problem.modalities if m != target)
        seconds = seconds_of(_work(pairs, dim, self.batch, towers), problem.device)
        return {
            "seconds of all steps, estimated": self.steps * seconds,
            "memory for what is learned, estimated": 16 * pairs * dim,
        }


def _smoothed(labels: Tensor, classes: int) -> Tensor:
    """Shares of the classes, `float [n, C]`: `SURE` of the label, the rest equally of the others."""
    shares = torch.full((len(labels), classes), (1 - SURE) / (classes - 1))
    return shares.scatter_(1, labels[:, None].cpu(), SURE)


def _labelled(
    problem: Problem, choose: Rule, views: Sequence[View], sample: Tensor, k: int, draw: torch.Generator
) -> Tensor:
    """A rule that chooses among samples with a label alone."""
    labels = problem.source.labels
    assert labels is not None  # see `LabelDistillation.check`
    among = (labels[sample] >= 0).nonzero()[:, 0]
    if k > (most := len(sample[among].unique())):
        raise ConfigError(
            f"{k} pairs are more than the {most} samples of {problem.source.name} that have a label; ask for fewer"
        )
    return among[choose([(vectors, rows[among]) for vectors, rows in views], sample[among], k, draw)]


def fitted_scale(scores: Tensor, labels: Tensor) -> float:
    """The positive s that minimises the cross-entropy of `s * scores`, by bisection of its derivative.

    It is at most `SHARPEST / rms`, so that labels that are all right can still be learned from, and 1 / rms where none is better than 0.

    Args:
        scores: `float [n, C]`.
        labels: `int64 [n]`.

    Example:
        >>> scores = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> round(fitted_scale(scores, torch.tensor([0, 0, 1, 1])), 3)  # three of four are right: log 3
        1.099
    """
    scores = scores.double()
    size = float(scores.square().mean().sqrt())
    if not size > 0:
        return 1.0
    unit = scores / size
    right = unit.gather(1, labels[:, None])[:, 0].mean()

    def slope(log_scale: float) -> float:
        shares = (unit * 10**log_scale).softmax(dim=1)
        return float((shares * unit).sum(1).mean() - right)

    low, high = -3.0, log10(SHARPEST)
    if slope(low) >= 0:
        return 1 / size
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) > 0 else (middle, high)
    return float(10**low / size)


def _work(pairs: int, dim: int, batch: int, towers: int) -> Callable[[], None]:
    """A step on vectors of these sizes that mean nothing."""
    draw = torch.Generator().manual_seed(0)
    own, real = (torch.randn(n, dim, generator=draw) for n in (pairs, batch))
    seen = torch.randn(batch, pairs, generator=draw)

    def step() -> None:
        learned = own.clone().requires_grad_()
        for _ in range(towers):
            infonce(seen @ ridge_tower(learned, real, 1.0).T / pairs).backward()

    return step
