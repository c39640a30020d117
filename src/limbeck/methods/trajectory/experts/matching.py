"""`TrajectoryMatching`: what MTT-VL and LoRS share."""

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from limbeck.constraints import Check, Count, Ge, Interval, MinLen, NotNegative, OnlyIf, Positive
from limbeck.core import Method, Problem, Synthetic, chosen_pairs, leaves, select
from limbeck.data.augment import Augment, siamese
from limbeck.errors import ConfigError, Diverged, Fault
from limbeck.methods.trajectory.experts.draws import Mix, chunks, draw, mix
from limbeck.methods.trajectory.experts.learned_rate import LearnedRate
from limbeck.methods.trajectory.experts.store import Experts, ExpertTraining
from limbeck.networks._spec import check_student
from limbeck.objectives.contrastive import false_negatives
from limbeck.objectives.selection import Init, rule
from limbeck.objectives.similarity import Similarity, summary
from limbeck.objectives.trajectory import Gradient, Student, match
from limbeck.students.two_towers import Head, TwoTowers

__all__ = ["TrajectoryMatching"]

MIXED = OnlyIf(
    lambda o: set(o.students) == {"frozen"},
    "networks are trained: it mixes features of frozen towers",
    "set `students=frozen`",
)
RATES = (1e-4, 10.0)  # the least and the largest learning rate of a student
ENDS = (1.1e-4, 9.0)  # beyond them it counts as having reached an end
REMEDIES = {"relation": "lr_similarity", "hints": "lr_rate", "learned.text": "lr_text", "learned.image": "lr"}
FAR = 1e6  # and so has a student at such a distance
RATE_BYTES = 8  # of both learned rates in a set


@dataclass(frozen=True)
class TrajectoryMatching(Method, ABC):
    """Learns pairs on which a student, started where an expert was, lands where that expert went.

        L = sum_k |theta_T,k - theta*_k|^2 / |theta_0,k - theta*_k|^2,      theta_{t+1} = theta_t - rate_k grad loss(theta_t; batch_t)

    for the image and the text tower k, with T steps on batches of the synthetic set, theta_0 an expert's snapshot and theta* a later
    one. Where a tower is frozen, each synthetic sample is encoded once a step, for all segments of that step.

    Args:
        steps: number of steps.
        students: what is trained: frozen (two heads on frozen features), encoder (the space's image encoder, pretrained), or
            networks by name; of several, each segment draws one.
        text: the text tower: frozen, or encoder (text is then learned as token embeddings).
        head: linear, mlp or residual (as published).
        dim: components of the joint space.
        temperature: of the logits.
        ridge, components: of the components that heads on frozen features see.
        resolution: pixels a side that a network is trained at; 0 for those of the data.
        tokens: token embeddings a text consists of where its encoder is trained.
        experts: how many experts.
        expert_rate, expert_batch, expert_captions, expert_noise, expert_augment, expert_precision: see `ExpertTraining`.
        mask: captions of one image for experts, and pairs that started from equal captions for students, are no negatives of
            each other.
        max_start: experts' epochs that a segment may start from: 0 to max_start - 1.
        max_start_text: the same for the text tower alone, drawn apart; 0 starts both together.
        expert_epochs: epochs from the start of a segment to its target.
        inner_steps: T, steps of the student.
        inner_batch: synthetic pairs a step of the student; 0 takes all.
        segments: segments a step, whose gradients are averaged.
        gradient: unrolled, exact (the same in flat memory) or truncated (as published).
        merged: one quotient for both towers instead of one each.
        blend: weights of mixed pairs are drawn from Beta(blend, blend); 0 mixes none (RepBlend; frozen towers only).
        augment: Siamese operations that synthetic images are moved by, one draw a step; empty for none.
        compiled: compile the student's derivatives; pays for towers that are networks.
        student_rate: the student's learning rate at the start; learned from there, between 1e-4 and 10, whose ends stop the run.
        lr, lr_text, lr_rate: learning rates of pixels, text and the student's learning rates.
        update: adam (with a cosine decay to zero) or sgd (constant, as published).
        momentum: of sgd.
        init: which real pairs to start from: random, herding, kcenter, prototypes or kmeans.
        average: decay of a moving average of what is learned, which is the result; 0 takes the last state.
        max_norm: largest norm of the whole gradient; 0 for none.
    """

    needs = ("image", "text")

    steps: Count = 60
    students: Annotated[tuple[Annotated[str, Check(check_student)], ...], MinLen(1)] = ("frozen",)
    text: Literal["frozen", "encoder"] = "frozen"
    head: Head = "linear"
    dim: Count = 256
    temperature: Annotated[float, Ge(1e-6)] = 0.07
    ridge: NotNegative = 30.0
    components: Count = 512
    resolution: Annotated[int, Ge(0)] = 0
    tokens: Annotated[int, Ge(3)] = 32
    experts: Count = 20
    expert_rate: Positive = 0.01
    expert_batch: Annotated[int, Ge(2)] = 128
    expert_captions: Literal["all", "one"] = "all"
    expert_noise: NotNegative = 0.0
    expert_augment: bool = True
    expert_precision: Literal["float32", "bfloat16"] = "float32"
    mask: bool = False
    max_start: Count = 1
    max_start_text: Annotated[int, Ge(0)] = 0
    expert_epochs: Count = 1
    inner_steps: Count = 4
    inner_batch: Annotated[int, Ge(0)] = 0
    segments: Count = 4
    gradient: Gradient = "truncated"
    merged: bool = False
    blend: Annotated[NotNegative, MIXED] = 0.0
    augment: Augment = ()
    compiled: bool = False
    student_rate: Annotated[float, Interval(gt=ENDS[0], lt=ENDS[1])] = 0.02
    lr: NotNegative = 0.01
    lr_text: NotNegative = 0.01
    lr_rate: NotNegative = 0.02
    update: Literal["adam", "sgd"] = "adam"
    momentum: NotNegative = 0.5
    init: Init = "random"
    average: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    max_norm: NotNegative = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inner_batch == 1:
            raise ConfigError("inner_batch must be 2 or more, or 0 for all pairs: one pair alone teaches nothing")
        for name in ("students", "augment"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def contrast(self) -> str:
        """The student's loss on the synthetic set, one of `limbeck.objectives.contrastive.LOSSES`."""
        return "infonce"

    @property
    def learns_text(self) -> bool:
        """Text is an embedding."""
        return True

    @property
    def text_tokens(self) -> int:
        """`tokens`, where the text encoder is trained."""
        return self.tokens if self.text == "encoder" else 0

    @property
    def clip(self) -> float | None:
        """`max_norm`."""
        return self.max_norm or None

    def lr_schedule(self, t: int) -> float:
        """Cosine decay to zero for adam, constant for sgd."""
        return self.cosine(t) if self.update == "adam" else 1.0

    def learned_similarity(self, problem: Problem, pairs: int) -> Similarity | None:
        """How much synthetic image i matches synthetic text j, learned; `None` for the identity."""
        return None

    def check(self, problem: Problem) -> None:
        """Refuses what needs no encoder to be seen: budgets that are too small for the batches."""
        super().check(problem)
        if problem.budget.pairs is not None:
            self.fits(problem.budget.pairs)
        units = len(problem.captions) if self.expert_captions == "all" else len(problem.source)
        if units < self.expert_batch:
            raise ConfigError(f"expert_batch is {self.expert_batch}, but an epoch has {units} pairs at most; lower it")

    def fits(self, pairs: int) -> None:
        """Refuses a set that is too small.

        Raises:
            ConfigError: fewer than two pairs, or fewer than an inner batch.
        """
        if pairs < 2:
            raise ConfigError(f"trajectory matching needs two pairs or more, got {pairs}: one alone teaches nothing")
        if self.inner_batch > pairs:
            raise ConfigError(
                f"inner_batch is {self.inner_batch}, but the set has {pairs} pairs; lower inner_batch (0 takes all) or ask for more"
            )

    def start(self, problem: Problem) -> Synthetic:
        """Real pairs, the student's learning rates and, where it is learned, their similarity; all experts that will be read."""
        pairs = problem.pairs(self.learns_text, self.text_tokens)
        self.fits(pairs)
        similarity = self.learned_similarity(problem, pairs)
        if (limit := problem.budget.limit) is not None:  # the similarity is paid for with pairs
            each = problem.sample_bytes(self.learns_text, self.text_tokens)
            fixed = problem.fixed_bytes + RATE_BYTES
            while pairs > 2 and pairs * each + fixed + _bytes(similarity) > limit:
                pairs -= 1
                self.fits(pairs)
                similarity = self.learned_similarity(problem, pairs)
        for student in self.students:
            self._experts(problem, student).check()
        chosen = select(problem, rule(self.init), pairs, per_class=False)
        synthetic = chosen_pairs(
            problem,
            chosen,
            learn=problem.modalities,
            tokens=self.text_tokens,
            relation=similarity,
            hints={f"rate_{tower}": LearnedRate(self.student_rate, *RATES) for tower in ("image", "text")},
            training={"loss": self.contrast, "temperature": self.temperature},
            average=self.average,
        )
        for student in self.students:
            experts = self._experts(problem, student)
            for k in range(self.experts):
                experts.snapshot(k, self._last)
        return synthetic

    def preparation_cost(self, problem: Problem) -> tuple[float, int]:
        """Those of the experts."""
        costs = [self._experts(problem, student).cost(self.experts, self._last) for student in self.students]
        return sum(seconds for seconds, _ in costs), sum(size for _, size in costs)

    @property
    def _last(self) -> int:
        """The last epoch that is read."""
        return max(self.max_start, self.max_start_text) - 1 + self.expert_epochs

    def optimizer(self, synthetic: Synthetic) -> Optimizer:
        """Adam or SGD, a learning rate for each kind of thing that is learned."""
        rates = {"image": self.lr, "text": self.lr_text}
        groups = [{"params": [value], "lr": rates[m]} for m, value in synthetic.learned.items()]
        groups.append({"params": list(synthetic.hints.parameters()), "lr": self.lr_rate})
        if synthetic.relation is not None:
            groups.append({"params": list(synthetic.relation.parameters()), "lr": self.lr_relation})
        return Adam(groups) if self.update == "adam" else SGD(groups, lr=self.lr, momentum=self.momentum)

    @property
    def lr_relation(self) -> float:
        """Learning rate of the similarity."""
        return 0.0

    def remedy_for(self, name: str) -> str:
        """Which learning rate a parameter, or the student, has taken too far."""
        field = next((field for start, field in REMEDIES.items() if name.startswith(start)), "student_rate or lr")
        return f"lower {field}"

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | Tensor]:
        """Draws segments, trains a student on each from its start, and averages the gradients of where they end."""
        logs: dict[str, Tensor] = {}
        kinds = [draw(problem.rng(f"segment {s}", t), len(self.students)) for s in range(self.segments)]
        for kind in sorted(set(kinds)):
            experts = self._experts(problem, self.students[kind])
            moved = partial(self._moved, problem.rng("augment", t))
            with leaves(experts.towers.synthetic(problem, synthetic, moved)) as values:
                for s in (s for s, own in enumerate(kinds) if own == kind):
                    found = self._segment(problem, experts, synthetic, values, problem.rng(f"segment {s} batches", t))
                    logs = {name: logs.get(name, 0) + value / self.segments for name, value in found.items()}
        for value in synthetic.parameters():
            if value.grad is not None:
                value.grad /= self.segments
        if float(logs["loss"]) > FAR:
            raise Diverged(
                f"students end {float(logs['loss']):.0f} times as far from the expert as they began; lower student_rate or lr_rate"
            )
        return {**logs, **self._state(synthetic)}

    def _segment(
        self,
        problem: Problem,
        experts: Experts,
        synthetic: Synthetic,
        values: Mapping[str, Tensor],
        rng: torch.Generator,
    ) -> dict[str, Tensor]:
        expert, begin = draw(rng, self.experts), {"image": draw(rng, self.max_start)}
        begin["text"] = draw(rng, self.max_start_text) if self.max_start_text else begin["image"]
        read = {e: experts.snapshot(expert, e) for first in begin.values() for e in (first, first + self.expert_epochs)}
        start, target = (
            {n: v for tower, e in begin.items() for n, v in read[e + more].items() if n.startswith(f"{tower}.")}
            for more in (0, self.expert_epochs)
        )
        batches = chunks(len(synthetic), self.inner_batch, self.inner_steps, rng)
        mixes = [mix(len(index), self.blend, rng) for index in batches]
        return match(
            problem.once((self, "student", experts.towers), partial(self._student, experts)),
            start,
            target,
            lambda t: self._batch(problem, synthetic, values, batches[t].to(problem.device), mixes[t]),
            {tower: synthetic.hints[f"rate_{tower}"]() for tower in ("image", "text")},
            self.inner_steps,
            self.gradient,
            self.merged,
        )

    def _batch(
        self,
        problem: Problem,
        synthetic: Synthetic,
        values: Mapping[str, Tensor],
        index: Tensor,
        mixed: Mix | None,
    ) -> tuple[Tensor, ...]:
        """Image, text and similarity of one step of the student, and which entries are false negatives."""
        image, text = values["image"][index], values["text"][index]
        if mixed is not None:
            order, weight = mixed
            image, text = (weight * x + (1 - weight) * x[order.to(x.device)] for x in (image, text))
        relation = synthetic.relation
        similarity = torch.eye(len(index), device=image.device) if relation is None else relation(index)
        ignored = (false_negatives(self._wording(problem, synthetic)[index]),) if self.mask else ()
        return image, text, similarity, *ignored

    def _wording(self, problem: Problem, synthetic: Synthetic) -> Tensor:
        """A number for each pair, equal where the captions that they started from are."""

        def make() -> Tensor:
            assert synthetic.caption is not None
            texts = [problem.captions[row] for row in synthetic.caption.tolist()]
            first = {text: i for i, text in reversed(list(enumerate(texts)))}
            return torch.tensor([first[text] for text in texts], device=synthetic.caption.device)

        return problem.once(("wording", len(synthetic)), make)

    def _moved(self, rng: torch.Generator, images: Tensor) -> Tensor:
        """The images under one random operation, the same for all."""
        return siamese([images], rng, self.augment)[0]

    def _student(self, experts: Experts) -> Student:
        return Student(experts.towers.loss(experts.network, self.contrast), self.compiled)

    def _towers(self, student: str) -> TwoTowers:
        return TwoTowers(
            student,
            self.text,
            self.head,
            self.dim,
            self.temperature,
            self.ridge,
            self.components,
            self.resolution,
            self.tokens,
        )

    def _experts(self, problem: Problem, student: str) -> Experts:
        training = ExpertTraining(
            rate=self.expert_rate,
            batch=self.expert_batch,
            captions=self.expert_captions,
            mask=self.mask,
            noise=self.expert_noise,
            augment=self.expert_augment,
            precision=self.expert_precision,
        )
        towers = self._towers(student)
        return problem.once(("experts", towers, training), lambda: Experts(problem, towers, training))

    def validate(self, synthetic: Synthetic) -> Fault | None:
        """A student's learning rate or a similarity that has gone too far."""
        with torch.no_grad():
            ended = [name for name, rate in synthetic.hints.items() if not ENDS[0] < float(rate()) < ENDS[1]]
        if ended:
            return Fault(
                f"the learned {ended[0]} reached an end of its range, {RATES[0]:g} to {RATES[1]:g}", "lower lr_rate"
            )
        similarity = synthetic.relation
        if isinstance(similarity, Similarity) and (trouble := similarity.trouble()):
            bound = ", or bound it" if similarity.bound == "none" else ""
            return Fault(f"the learned similarity {trouble}", f"lower lr_similarity{bound}")
        return None

    def _state(self, synthetic: Synthetic) -> dict[str, float | Tensor]:
        """The learned learning rates and, in numbers, the similarity."""
        with torch.no_grad():
            state: dict[str, float | Tensor] = {name: rate() for name, rate in synthetic.hints.items()}
            if synthetic.relation is not None:
                state |= {f"similarity_{name}": value for name, value in summary(synthetic.relation()).items()}
        return state


def _bytes(similarity: Similarity | None) -> int:
    return 0 if similarity is None else similarity.nbytes
