"""CovMatch: matches the covariances of image and text embeddings, within and across the modalities."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import cos, pi
from typing import Literal

from torch import Tensor
from torch.optim import Adam, Optimizer

from limbeck.core import Method, Problem, Synthetic, chosen_pairs, encode, select, whitened, whitening_of
from limbeck.errors import ConfigError
from limbeck.objectives.covariance import covariance_angle, covariance_distance, cross_covariance, indexed_covariance
from limbeck.objectives.selection import rule

__all__ = ["CovMatch"]

TIES = {"tie": ("image", "text"), "image spread": ("image", "image"), "text spread": ("text", "text")}


@dataclass(frozen=True)
class CovMatch(Method):
    """Matches the cross-covariance of image and text embeddings, which is all that a linear contrastive student reads of a set.

        L = D(C_S, C_T) + means * sum_m |mean_S,m - mean_T,m|^2 + spread * sum_m D(V_S,m, V_T,m)

    C is the cross-covariance, V_m the covariance of modality m; D is the distance `|rho C_T - C_S|^2 / |C_T|^2`, or the angle
    `1 - cos(C_S, C_T)`, as a small set overstates the size of what it holds. The towers are frozen: everything of the real
    data is computed once, over all of it, and a step costs one pass of the synthetic images.

    The published method matches raw embeddings by the distance, without V (`ridge=1e6, match="size", rho=2, spread=0` and
    `means=0.1` at 100 pairs), and trains its encoders meanwhile, which this one does not.

    Args:
        steps: number of steps.
        match: angle, or size.
        rho: how much larger than the real covariance the synthetic one is to be; read by size alone.
        ridge: of the whitening of the embeddings, in units of the mean variance; a large one leaves them as they are.
        means: weight of the means.
        spread: weight of the covariance within each modality.
        lr: learning rate of the pixels (Adam).
        lr_text: learning rate of the text embeddings (Adam).
        init: which real pairs to start from: random, herding, kcenter or prototypes.

    Paper: CovMatch, arXiv 2510.18583; whitening, angle and the covariance within are ours.

    Example:
        >>> import limbeck as lb
        >>> space = lb.space(image="convnet", text="bag_of_words")
        >>> len(lb.distill(lb.Problem(lb.check.toy_source(), space, lb.Budget(pairs=4)), CovMatch(steps=2)))
        4
    """

    needs = ("image", "text")

    steps: int = 100
    match: Literal["angle", "size"] = "angle"
    rho: float = 1.0
    ridge: float = 10.0
    means: float = 1.0
    spread: float = 0.5
    lr: float = 0.05
    lr_text: float = 0.01
    init: str = "random"

    def __post_init__(self) -> None:
        self.require(steps=1, rho=1e-6, ridge=0, means=0, spread=0, lr=0, lr_text=0)
        if self.match not in ("angle", "size"):
            raise ConfigError(f"match is 'angle' or 'size', got {self.match!r}")
        rule(self.init)

    @property
    def learns_text(self) -> bool:
        """Text is an embedding."""
        return True

    def rate(self, t: int) -> float:
        """Cosine decay to zero."""
        return (1 + cos(pi * t / self.steps)) / 2

    def start(self, problem: Problem) -> Synthetic:
        """Real pairs, both of whose modalities are learned."""
        chosen = select(problem, rule(self.init), problem.pairs(learned_text=True), per_class=False)
        return chosen_pairs(problem, chosen, learn=self.needs)

    def optimizer(self, synthetic: Synthetic) -> Optimizer:
        """Adam, a learning rate for each modality."""
        rates = {"image": self.lr, "text": self.lr_text}
        return Adam([{"params": [v], "lr": rates[m]} for m, v in synthetic.learned.items()])

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | Tensor]:
        """Encodes the synthetic samples, and compares their means and covariances with those of the real data."""
        target = problem.once((type(self), "target", self.ridge), partial(self._target, problem))
        vectors = encode(problem.space, synthetic)
        own = {m: whitening_of(problem, m, self.ridge)(vectors[m]) for m in self.needs}
        terms = {
            name: self._distance(cross_covariance(own[a], own[b]), target[name])
            for name, (a, b) in TIES.items()
            if a != b or self.spread
        }
        terms |= {f"{m} mean": (own[m].mean(0) - target[f"{m} mean"]).square().sum() for m in self.needs}
        weights = {"mean": self.means, "spread": self.spread, "tie": 1.0}
        loss = sum(
            (weights[name.split()[-1]] * value for name, value in terms.items()), start=vectors["text"].new_zeros(())
        )
        loss.backward()
        return {"loss": loss.detach(), **{name: value.detach() for name, value in terms.items()}}

    def _distance(self, own: Tensor, target: Tensor) -> Tensor:
        return covariance_angle(own, target) if self.match == "angle" else covariance_distance(own, target, self.rho)

    def _target(self, problem: Problem) -> Mapping[str, Tensor]:
        """Means and covariances over every real pair."""
        real = {m: whitened(problem, m, self.ridge) for m in self.needs}
        rows = {m: problem.candidates.rows[m].to(problem.device) for m in self.needs}
        means = {f"{m} mean": real[m][rows[m]].mean(0) for m in self.needs}
        return means | {n: indexed_covariance(real[a], real[b], rows[a], rows[b]) for n, (a, b) in TIES.items()}
