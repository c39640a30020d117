"""ImageBindDC: matches distributions in a unified space, by characteristic functions: each modality, every two together, all together."""

from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Annotated, Literal

import torch
from torch import Tensor

from limbeck.constraints import Ge, Interval, NotNegative, OnlyIf
from limbeck.core import Problem, Synthetic
from limbeck.errors import ConfigError, DataError
from limbeck.methods.matching._characteristic import CharacteristicMatching
from limbeck.methods.matching._targets import JOINT, CharacteristicTargets, Group, MatchingStep, pair_name
from limbeck.methods.matching._views import Views, spread
from limbeck.objectives.characteristic import (
    characteristic,
    gaussian_kernel,
    kernel_distance,
    root_distance,
    square_distance,
)
from limbeck.objectives.pairing import Moments, cosine_terms, hybrid_sums, pair_moments
from limbeck.objectives.selection import Init

__all__ = ["ImageBindDC"]

PUBLISHED = 1 / 30  # weight of the cosine terms beside a distance that is not multiplied by 300
SAMPLED = OnlyIf(lambda o: o.frequencies, "the closed form is taken (`frequencies=0`)", "set `frequencies`")


@dataclass(frozen=True)
class ImageBindDC(CharacteristicMatching):
    """Matches characteristic functions in a unified space on three levels: each modality, every two together, all together.

        L = mean_c ( uni * sum_m D(x_m) + cross * sum_(m < n) D(x_m, x_n) + joint * D(x_1, ..., x_M) ),
        D = mean_k |Phi_S(t_k) - Phi_T(t_k)|^2

    for each class c. What stands for two modalities and for all is the `variant`:

    - cf: the characteristic functions of the paired sums x_m + x_n, and of the concatenation of all. Both see which sample belongs to which.
    - hybrid: the joint function as in cf, but D between those of a_i + w_i and v_i + b_i, where (a, v) are as many real pairs as
      there are synthetic ones (b, w), drawn anew at each step. It hardly sees the pairing, and less the larger the set.
    - cosine: two inner products, as published, see `limbeck.objectives.pairing.cosine_terms`. They are no distances.

    Hybrid and cosine add and multiply embeddings of two modalities component by component, so they mean something in a space
    with shared coordinates alone, and encoders of different widths are refused; in cf the narrower is padded.

    Every tenth step logs how hard each level pulls at the embeddings, as the norm of its weighted gradient: a level that is far
    below the others has no influence. A real sample that misses a modality counts in the functions that do not ask for it.

    Real samples are encoded once, and at banked frequencies a step reads none of them, only the functions of all. Every step treats
    all classes, each of which is compared with its own real samples; with `RowAdam`, no class moves another.

    Args:
        steps: number of steps.
        variant: cf, hybrid or cosine.
        uni: weight of the modalities alone.
        cross: weight of every two; by default 1, and for cosine 1/30, as published.
        joint: weight of all together; by default as cross.
        frequencies: K Gaussian frequencies; 0 takes the closed form of infinitely many, which is also the cheaper for few samples.
        bank: sets of frequencies that are drawn once and used in turn, at which the real functions are computed once, over all
            real pairs; 0 draws anew at each step.
        batch: real pairs a class and step, at most, where there is no bank.
        scale: of the frequencies, in units of 1 / (median distance of real embeddings).
        drop: probability with which a joint frequency leaves out a modality, each by itself; then joint sees every few, too.
        distance: square, or root for the mean of |Phi_S - Phi_T| / sqrt(2), which the published code takes.
        lr: learning rate (RowAdam), in units of the range of a modality. Larger ones make images that no other encoder can read;
            plain vectors take 0.01 and more.
        lr_text: learning rate of the text embeddings.
        init: which real pairs to start from: random, herding, kcenter, prototypes or kmeans.
        augment: Siamese operations to draw from, for images alone; empty for none.
        views: augmented views of the real images that are encoded and kept.
        per_class: match class by class; by default where the source is labelled and has no text.

    Paper: ImageBindDC, arXiv 2511.08263. Its abstract describes hybrid, its formulas cosine; cf is ours.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> len(lb.distill(problem, ImageBindDC(steps=2, frequencies=64)))
        4
    """

    variant: Literal["cf", "hybrid", "cosine"] = "cf"
    uni: NotNegative = 1.0
    cross: NotNegative | None = None
    joint: NotNegative | None = None
    bank: Annotated[int, Ge(0), SAMPLED] = 8
    drop: Annotated[
        float, Interval(ge=0, lt=1), OnlyIf(lambda o: o._targets.joint, "no joint function is compared")
    ] = 0.0
    distance: Annotated[Literal["square", "root"], SAMPLED] = "square"
    init: Init = "herding"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(self.weights.values()):
            raise ConfigError(
                "`uni`, `cross` and `joint` of imagebind_dc are all 0, so nothing is matched; give one a weight"
            )

    @property
    def weights(self) -> dict[str, float]:
        """Of the three levels."""
        usual = PUBLISHED if self.variant == "cosine" else 1.0
        cross = usual if self.cross is None else self.cross
        return {"uni": self.uni, "cross": cross, "joint": usual if self.joint is None else self.joint}

    def check(self, problem: Problem) -> None:
        """Refuses a space whose embeddings cannot be added or multiplied, and a loss without a term."""
        super().check(problem)
        widths = {m: problem.space.dims[m] for m in problem.modalities}
        if self.variant != "cf" and len(set(widths.values())) > 1:
            raise DataError(
                f"variant = {self.variant!r} takes embeddings component by component, so all need one width, got {widths}; bind "
                "the encoders into one space, or use variant = 'cf'"
            )
        if len(widths) == 1 and not self.uni:
            raise DataError(f"uni = 0 leaves no term for {problem.source.name}, which has one modality with this space")

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | Tensor]:
        """Encodes the synthetic samples, and compares their characteristic functions with those of the real data, group by group."""
        matching, weights = self._targets.at(problem, t), self.weights
        logs: dict[str, Tensor] = {}
        zero = torch.zeros((), device=problem.device)
        levels = {name: zero for name, weight in weights.items() if weight}
        groups = list(matching.groups(synthetic, self.per_class))
        for group in groups:
            terms = matching.terms(group, self._distance)
            if self.variant == "hybrid" and weights["cross"]:
                terms |= self._hybrid(matching, group)
            if self.variant == "cosine":
                terms |= self._cosine(matching, group)
            for name, value in terms.items():
                level = "uni" if name in group.own else JOINT if name.split()[0] == JOINT else "cross"
                if level in levels:
                    levels[level] = levels[level] + weights[level] * value / len(groups)
                logs[name] = logs.get(name, zero) + value.detach() / len(groups)
        if t % 10 == 0:
            logs |= _pulls(levels, [z for group in groups for z in group.own.values()])
        loss = torch.stack([*levels.values()]).sum()
        loss.backward()
        return {"loss": loss.detach(), **logs}

    @property
    def _targets(self) -> CharacteristicTargets:
        cf, joint = self.variant == "cf", self.variant != "cosine" and bool(self.weights["joint"])
        cross, views = cf and bool(self.weights["cross"]), Views(self.augment, self.views)
        return CharacteristicTargets(
            self.frequencies, self.bank, self.batch, views, self.scale, self.drop, cross, joint
        )

    def _distance(self, x: Tensor, y: Tensor) -> Tensor:
        return square_distance(x, y) if self.distance == "square" else root_distance(x, y)

    def _hybrid(self, matching: MatchingStep, group: Group) -> dict[str, Tensor]:
        """The hybrid sums of every two modalities, with real pairs drawn for this step."""
        among, own = group.among, group.own
        order = torch.randperm(len(among), generator=matching.problem.rng(f"hybrid {group.number}", matching.t))
        real = matching.vectors(among[order[: len(next(iter(own.values())))]])
        kernel = partial(gaussian_kernel, scale=self.scale)
        terms = {}
        for m, n in combinations(own, 2):
            x, y = hybrid_sums((real[m], real[n]), (own[m], own[n]))
            if self.frequencies:
                value = self._distance(characteristic(x @ matching.freqs[m]), characteristic(y @ matching.freqs[m]))
            else:
                value = kernel_distance(kernel(x, x), kernel(x, y), kernel(y, y))
            terms[pair_name(m, n)] = value
        return terms

    def _cosine(self, matching: MatchingStep, group: Group) -> dict[str, Tensor]:
        """The two published terms of every two modalities, of unit vectors, against all real pairs of the group."""
        terms = {}
        for m, n in combinations(group.own, 2):
            sizes = [spread(matching.problem, x) for x in (m, n)]
            key = (self, "moments", m, n, group.number, len(group.among), matching.view)
            real = matching.problem.once(key, partial(self._moments, matching, group.among, (m, n), sizes))
            own = pair_moments(group.own[m] * sizes[0], group.own[n] * sizes[1])
            terms[pair_name(m, n)], terms[f"{JOINT} {pair_name(m, n)}"] = cosine_terms(real, own)
        return terms

    def _moments(self, matching: MatchingStep, among: Tensor, names: tuple[str, str], sizes: list[float]) -> Moments:
        vectors = matching.vectors(among)
        x, y = (vectors[m] * size for m, size in zip(names, sizes, strict=True))
        return pair_moments(x, y)


def _pulls(levels: dict[str, Tensor], vectors: list[Tensor]) -> dict[str, Tensor]:
    """The norm of each level's gradient in the embeddings."""
    norms = {}
    for name, value in levels.items():
        if value.requires_grad:
            found = torch.autograd.grad(value, vectors, retain_graph=True, allow_unused=True)
            norms[f"{name} gradient"] = torch.cat([g.flatten() for g in found if g is not None]).norm()
    return norms
