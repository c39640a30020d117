"""How every student is trained and chosen: one loop, one rule."""

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from limbeck.constraints import Count, Ge, Positive, validate
from limbeck.errors import ConfigError
from limbeck.networks._spec import network as by_name
from limbeck.runtime.random import stream
from limbeck.spaces.trainable import TrainableEncoder

__all__ = ["Candidate", "Schedule", "Tower", "add_noise", "best_student", "chunk_of", "fit", "last_student"]

Candidate = tuple[nn.Module, Iterator[int], Callable[[nn.Module], float]]  # a student, its training, how it is judged

CHUNK = 1024 * 3 * 32 * 32  # numbers that are judged at a time
PRETRAINED = 0.1  # of the rate, for weights that are pretrained


@dataclass(frozen=True)
class Schedule:
    """How many updates of what kind; the student is looked at `looks` times on the way.

    Args:
        steps: updates; the same number for every set, so that all get the same compute.
        batch: samples an update.
        rate: learning rate at the start.
        decay: weight decay of AdamW.
        looks: how many times it is judged, evenly spread, the last at the end.
        optimizer: `"adamw"` with a cosine from `rate` to 0, or `"sgd"` with momentum 0.9, weight decay 5e-4 and a tenth of `rate`
            from half of the steps on.
    """

    steps: Count
    batch: Annotated[int, Ge(2)]
    rate: Positive
    decay: float = 1e-2
    looks: Count = 2
    optimizer: Literal["adamw", "sgd"] = "adamw"

    def __post_init__(self) -> None:
        validate(self, "schedule")
        if self.looks > self.steps:
            raise ConfigError(f"`looks` must be at most the {self.steps} steps of a schedule, got {self.looks}")


class Tower(nn.Module):
    """A head on features, or on a network that is trained with it.

    Args:
        inputs: components of a feature; ignored with a network.
        outputs: components of the result.
        generator: of the initial weights.
        network: a network of `limbeck.networks` by name, with or without a width, or a network that has `dim`; `None` for features.
        resolution: pixels a side that the network is built for.
        hidden: width of a hidden layer; 0 for a linear head.
        gain: of the last layer's initial weights; small, so that what is not learned adds little; 1 before a nonlinearity.

    Attributes:
        inputs: components of what its head reads.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        generator: torch.Generator,
        network: str | nn.Module | None = None,
        resolution: int = 0,
        hidden: int = 0,
        gain: float = 0.1,
    ) -> None:
        super().__init__()
        if isinstance(network, str):
            network = by_name(network)(resolution, generator=generator)
        self.network: nn.Module | None = network
        self.inputs = inputs if network is None else cast(int, network.dim)
        sizes = [self.inputs, hidden, outputs] if hidden else [self.inputs, outputs]
        layers: list[nn.Module] = []
        for a, b in pairwise(sizes):
            last = len(layers) == 2 * len(sizes) - 4
            layers += [_linear(a, b, generator, gain if last else 1.0), nn.GELU()]
        self.head = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """`[B, outputs]` of features `[B, inputs]` or of `uint8` or float images `[B, C, R, R]`, grey or of three channels."""
        if self.network is not None:
            x = x.expand(-1, 3, -1, -1)
            x = self.network(x.float().div(255) if x.dtype == torch.uint8 else x)
        return self.head(x)  # type: ignore[no-any-return]

    @torch.no_grad()
    def encode(self, x: Tensor, device: str) -> Tensor:
        """`forward` in eval mode, chunk by chunk, on the CPU."""
        was = self.training
        self.eval()
        result = torch.cat([self(part.to(device)).cpu() for part in torch.split(x, chunk_of(x))])
        self.train(was)
        return result


def chunk_of(x: Tensor) -> int:
    """How many rows of `x` are judged at a time: 1024 of features or of small images, fewer of large ones."""
    return max(1, min(1024, CHUNK // max(1, x[0].numel()))) if len(x) else 1


def _linear(inputs: int, outputs: int, generator: torch.Generator, gain: float) -> nn.Linear:
    with warnings.catch_warnings():
        if not inputs:
            warnings.simplefilter("ignore", UserWarning)  # that nothing is drawn
        layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)
    with torch.no_grad():
        layer.weight.normal_(0, gain / math.sqrt(max(inputs, 1)), generator=generator)  # of a constant nothing is seen
        layer.bias.zero_()
    return layer


def fit(
    student: nn.Module,
    loss: Callable[[Tensor, int], Tensor],
    samples: int,
    schedule: Schedule,
    seed: int,
    device: str,
    rates: Mapping[str, float] | None = None,
) -> Iterator[int]:
    """Trains `student`; yields the number of steps done at each look.

    Args:
        student: changed in place.
        loss: of the samples at `int64 [B]` in step t.
        samples: how many there are; every epoch takes them in a new order.
        schedule: how.
        seed: of the orders.
        device: where it is trained.
        rates: child module to learning rate, where the set brings its own: SGD at these rates takes the place of the
            schedule's optimizer and rate.
    """
    student.to(device).train()
    optimizer, factor = _optimizer(student, schedule, rates or {})
    initial = [group["lr"] for group in optimizer.param_groups]
    looks = {math.ceil(schedule.steps * (i + 1) / schedule.looks) for i in range(schedule.looks)}
    queue, epoch = torch.zeros(0, dtype=torch.long), 0
    for t in range(schedule.steps):
        if len(queue) < min(
            schedule.batch, samples
        ):  # what is left of an epoch is dropped: no sample is twice in a batch
            queue = torch.randperm(samples, generator=stream(seed, "student order", epoch))
            epoch += 1
        index, queue = queue[: schedule.batch], queue[schedule.batch :]
        for group, rate in zip(optimizer.param_groups, initial, strict=True):
            group["lr"] = rate * factor(t)
        optimizer.zero_grad(set_to_none=True)
        loss(index, t).backward()
        optimizer.step()
        if t + 1 in looks:
            yield t + 1


def _optimizer(
    student: nn.Module, schedule: Schedule, rates: Mapping[str, float]
) -> tuple[Optimizer, Callable[[int], float]]:
    """The optimizer, and what its rates are multiplied by at step t."""
    groups: list[dict[str, Any]]
    if rates:
        groups = [{"params": list(student.get_submodule(n).parameters()), "lr": rate} for n, rate in rates.items()]
    else:
        towers = [m for m in student.modules() if isinstance(m, TrainableEncoder)]
        pretrained = [p for tower in towers for p in tower.parameters()]
        known = {id(p) for p in pretrained}
        groups = [{"params": [p for p in student.parameters() if id(p) not in known], "lr": schedule.rate}]
        if pretrained:
            groups.append({"params": pretrained, "lr": PRETRAINED * schedule.rate})
    if rates or schedule.optimizer == "sgd":
        return SGD(groups, momentum=0.9, weight_decay=5e-4), lambda t: 1.0 if t < schedule.steps / 2 else 0.1
    optimizer = AdamW(groups, lr=schedule.rate, weight_decay=schedule.decay)
    return optimizer, lambda t: 0.5 * (1 + math.cos(math.pi * t / schedule.steps))


def best_student(
    candidates: Iterable[Candidate],
    tick: Callable[[int], None] | None = None,
    longer: Callable[[int], Iterable[Candidate]] | None = None,
) -> nn.Module:
    """The student with the best value at any look of any candidate; the earliest of equals.

    Args:
        candidates: one a point of the grid.
        tick: called with the number of looks done.
        longer: from the position of the best candidate to others of its kind that are trained for longer, shortest first. The
            next one is tried as long as the last was better than everything before.
    """
    best: tuple[float, int, nn.Module] | None = None
    done = 0

    def improved(position: int, candidate: Candidate) -> bool:
        nonlocal best, done
        student, training, judge = candidate
        before = best
        for _ in training:
            value = judge(student)
            if best is None or value > best[0]:
                best = (value, position, copy.deepcopy(student))
            done += 1
            if tick:
                tick(done)
        return best is not before

    for i, candidate in enumerate(candidates):
        improved(i, candidate)
    if best is None:
        raise ConfigError("the grid of the protocol is empty; give it a ridge and a noise or more")
    for candidate in longer(best[1]) if longer else ():
        if not improved(best[1], candidate):
            break
    return best[2]


def last_student(candidate: Candidate, tick: Callable[[int], None] | None = None) -> nn.Module:
    """A student after all its steps, where nothing is chosen.

    Args:
        candidate: the student and its training; it is not judged.
        tick: called with the number of looks done.
    """
    student, training, _ = candidate
    for done, _ in enumerate(training):
        if tick:
            tick(done + 1)
    return student


def add_noise(x: Float[Tensor, "b r"], noise: float, dim: int, generator: torch.Generator) -> Float[Tensor, "b r"]:
    """`x` with white noise of norm `noise` over all `dim` components of a feature; `x` holds the leading ones."""
    return x + noise / math.sqrt(dim) * torch.randn(x.shape, generator=generator).to(x.device)
