"""CovMatch: matches the covariances of image and text embeddings, within and across the modalities."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from limbeck.constraints import Check, Count, Ge, NotNegative, OnlyIf
from limbeck.core import Method, Problem, Synthetic, chosen_pairs, encode, select, whitened, whitening_of
from limbeck.errors import ConfigError
from limbeck.methods.matching._online_encoders import OnlineTowers
from limbeck.networks._spec import check_student
from limbeck.objectives.contrastive import infonce
from limbeck.objectives.covariance import covariance_angle, covariance_distance, cross_covariance, indexed_covariance
from limbeck.objectives.selection import Init, rule
from limbeck.spaces.encoders.pool import members_of
from limbeck.spaces.trainable import TrainableEncoder
from limbeck.students.two_towers import Head, TwoTowers

__all__ = ["CovMatch"]

TIES = {"tie": ("image", "text"), "image spread": ("image", "image"), "text spread": ("text", "text")}
TRAINED = OnlyIf(lambda o: o.trained, "the towers are frozen (`towers=frozen`)", "set `towers=encoder`")
FROZEN = OnlyIf(lambda o: not o.trained or o.text == "frozen", "both towers are trained")

Vectors = Mapping[str, Tensor]  # modality to vectors [n, D_m], or the name of a term to its target


@dataclass(frozen=True)
class CovMatch(Method):
    """Matches the cross-covariance of image and text embeddings, which is all that a linear contrastive student reads of a set.

        L = D(C_S, C_T) + means * sum_m |mean_S,m - mean_T,m|^2 + spread * sum_m D(V_S,m, V_T,m)

    C is the cross-covariance, V_m the covariance of modality m; D is the distance `|rho C_T - C_S|^2 / |C_T|^2`, or the angle
    `1 - cos(C_S, C_T)`, as a small set overstates the size of what it holds.

    With frozen towers everything of the real data is computed once, over all of it, and a step costs one pass of the synthetic
    images. With `towers` that are trained, as published, the target is that of a batch of real pairs: covariances of what the
    encoders give, means of the joint vectors behind their heads. Then the towers take a step of SGD on that batch (symmetric InfoNCE),
    and after `reset` steps they are pretrained again, with other random heads. Their own loss is logged as `towers`. The
    published figures are recipes.

    Args:
        steps: number of steps.
        match: angle, size, or absolute (size undivided by |C_T|^2, as published).
        rho: how much larger than the real covariance the synthetic one is to be; not read by angle.
        ridge: of the whitening of frozen embeddings, in units of the mean variance; a large one leaves them as they are.
        means: weight of the means.
        spread: weight of the covariance within each modality.
        lr: learning rate of the pixels.
        lr_text: learning rate of the text embeddings.
        update: adam (with a cosine decay to zero) or sgd (constant, as published).
        momentum: of sgd.
        init: which real pairs to start from: random, herding, kcenter, prototypes or kmeans.
        towers: frozen; encoder (the space's image encoder, pretrained and trained on) or a network by name. The options that
            follow are those of trained towers.
        text: the text tower beside it: frozen, or encoder (text is then learned as token embeddings).
        head: linear, mlp (nearest to the published two layers with GELU) or residual (of LoRS; none on an encoder of images).
        dim: components of the joint space, and the least width of an mlp head.
        temperature: of the towers' own loss.
        resolution: pixels a side that an image tower sees; 0 for those of the data.
        tokens: token embeddings a text consists of where its encoder is trained.
        reset: steps until the towers start anew.
        real_batch: real pairs a step, at most, one of a sample.
        online_rate: learning rate of the encoders.
        online_rate_head: learning rate of the heads, which start small: 0.003 stands for the published 0.1.

    Paper: CovMatch, arXiv 2510.18583; frozen towers, whitening, angle and the covariance within are ours.

    Example:
        >>> import limbeck as lb
        >>> space = lb.space(image="convnet", text="bag_of_words")
        >>> len(lb.distill(lb.Problem(lb.check.toy_source(), space, lb.Budget(pairs=4)), CovMatch(steps=2)))
        4
    """

    needs = ("image", "text")
    pools = "drawn"

    steps: Count = 100
    match: Literal["angle", "size", "absolute"] = "angle"
    rho: Annotated[float, Ge(1e-6)] = 1.0
    ridge: Annotated[NotNegative, FROZEN] = 10.0
    means: NotNegative = 1.0
    spread: NotNegative = 0.5
    lr: NotNegative = 0.01
    lr_text: NotNegative = 0.01
    update: Literal["adam", "sgd"] = "adam"
    momentum: NotNegative = 0.5
    init: Init = "random"
    towers: Annotated[str, Check(check_student)] = "frozen"
    text: Annotated[Literal["frozen", "encoder"], TRAINED] = "frozen"
    head: Annotated[Head, TRAINED] = "mlp"
    dim: Annotated[Count, TRAINED] = 2304
    temperature: Annotated[float, Ge(1e-6), TRAINED] = 0.07
    resolution: Annotated[int, Ge(0), TRAINED] = 0
    tokens: Annotated[
        int,
        Ge(3),
        TRAINED,
        OnlyIf(lambda o: o.text == "encoder", "texts are frozen (`text=frozen`)", "set `text=encoder`"),
    ] = 32
    reset: Annotated[Count, TRAINED] = 50
    real_batch: Annotated[int, Ge(2), TRAINED] = 128
    online_rate: Annotated[NotNegative, TRAINED] = 0.01
    online_rate_head: Annotated[NotNegative, TRAINED] = 0.003

    @property
    def trained(self) -> bool:
        """Whether the towers are trained meanwhile."""
        return self.towers != "frozen"

    @property
    def learns_text(self) -> bool:
        """Text is an embedding."""
        return True

    @property
    def text_tokens(self) -> int:
        """`tokens`, where the text encoder is trained."""
        return self.tokens if self.text == "encoder" else 0

    def lr_schedule(self, t: int) -> float:
        """Cosine decay to zero for adam, constant for sgd."""
        return self.cosine(t) if self.update == "adam" else 1.0

    def check(self, problem: Problem) -> None:
        """Refuses encoders that cannot be trained, before anything is encoded."""
        super().check(problem)
        if self.trained and len(members_of(problem.space["image"])) > 1:
            raise ConfigError(
                "covmatch trains one image encoder, and this is a pool; draw its members with --method.towers frozen, or name one encoder"
            )
        if self.text_tokens:
            problem.space["text"].tokens(["a"], self.tokens)
        for modality, name in (("image", self.towers), ("text", self.text)):
            if name == "encoder":
                TrainableEncoder(problem.space[modality])

    def start(self, problem: Problem) -> Synthetic:
        """Real pairs, both of whose modalities are learned."""
        pairs = problem.pairs(self.learns_text, self.text_tokens)
        chosen = select(problem, rule(self.init), pairs, per_class=False)
        return chosen_pairs(problem, chosen, learn=self.needs, tokens=self.text_tokens)

    def optimizer(self, synthetic: Synthetic) -> Optimizer:
        """Adam or SGD, a learning rate for each modality."""
        rates = {"image": self.lr, "text": self.lr_text}
        groups = [{"params": [v], "lr": rates[m]} for m, v in synthetic.learned.items()]
        return Adam(groups) if self.update == "adam" else SGD(groups, lr=self.lr, momentum=self.momentum)

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | Tensor]:
        """Encodes the synthetic samples, and compares their means and covariances with those of the real data."""
        logs: dict[str, float | Tensor] = {}
        if self.trained:
            own, means, target = self._by_trained(problem, synthetic, t)
            logs["towers"] = target["towers"]
        else:
            target = problem.once((type(self), "target", self.ridge), partial(self._target, problem))
            vectors = encode(problem.space, synthetic)
            own = {m: whitening_of(problem, m, self.ridge)(vectors[m]) for m in self.needs}
            means = {m: own[m].mean(0) for m in self.needs}
        terms = {
            name: self._distance(cross_covariance(own[a], own[b]), target[name]) for name, (a, b) in self._ties.items()
        }
        terms |= {f"{m} mean": (means[m] - target[f"{m} mean"]).square().sum() for m in self.needs}
        weights = {"mean": self.means, "spread": self.spread, "tie": 1.0}
        loss = sum(
            (weights[name.split()[-1]] * value for name, value in terms.items()), start=own["text"].new_zeros(())
        )
        loss.backward()
        return {**logs, "loss": loss.detach(), **{name: value.detach() for name, value in terms.items()}}

    def remedy_for(self, name: str) -> str:
        """Which learning rate took the towers too far."""
        return "lower online_rate or online_rate_head" if name == "towers" else super().remedy_for(name)

    @property
    def _ties(self) -> dict[str, tuple[str, str]]:
        """The covariances that have a say, and of what they are."""
        return {name: (a, b) for name, (a, b) in TIES.items() if a != b or self.spread}

    def _distance(self, own: Tensor, target: Tensor) -> Tensor:
        if self.match == "angle":
            return covariance_angle(own, target)
        return covariance_distance(own, target, self.rho, relative=self.match == "size")

    def _target(self, problem: Problem) -> Vectors:
        """Means and covariances over every real pair."""
        real = {m: whitened(problem, m, self.ridge) for m in self.needs}
        rows = {m: problem.candidates.rows[m].to(problem.device) for m in self.needs}
        means = {f"{m} mean": real[m][rows[m]].mean(0) for m in self.needs}
        return means | {n: indexed_covariance(real[a], real[b], rows[a], rows[b]) for n, (a, b) in TIES.items()}

    def _by_trained(self, problem: Problem, synthetic: Synthetic, t: int) -> tuple[Vectors, Vectors, Vectors]:
        """Features of the set, means in the joint space, and the same of a batch of real pairs, by the towers of step t."""
        online = self._online(problem)
        cycle, step = divmod(t, self.reset)
        parameters = online.at(cycle, step)
        with torch.no_grad():
            pairs = dict(zip(self.needs, online.real(cycle, step), strict=True))
            real = {m: online.features(parameters, m, pairs[m]) for m in self.needs}
            joint = {m: online.project(parameters, m, real[m]) for m in self.needs}
            logits = joint["image"] @ joint["text"].T / self.temperature
            target = {"towers": infonce(logits)} | {f"{m} mean": joint[m].mean(0) for m in self.needs}
            target |= {name: cross_covariance(real[a], real[b]) for name, (a, b) in self._ties.items()}
        values = online.towers.synthetic(problem, synthetic)
        own = {m: online.features(parameters, m, values[m]) for m in self.needs}
        return own, {m: online.project(parameters, m, own[m]).mean(0) for m in self.needs}, target

    def _online(self, problem: Problem) -> OnlineTowers:
        towers, rates = self._two_towers(), (self.online_rate, self.online_rate_head)
        key = ("online", towers, rates, self.real_batch)
        return problem.once(key, lambda: OnlineTowers(problem, towers, *rates, self.real_batch))

    def _two_towers(self) -> TwoTowers:
        return TwoTowers(
            self.towers,
            self.text,
            self.head,
            self.dim,
            self.temperature,
            self.ridge,
            resolution=self.resolution,
            tokens=self.tokens,
        )
