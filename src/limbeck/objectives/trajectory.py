"""Trajectory matching: how far a student lands from where an expert went, and three ways to its gradient.

A *tower* is the part of a parameter's name before the first dot: `image.weight` and `image.bias` are one tower.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from limbeck.errors import ConfigError

__all__ = ["GRADIENTS", "Gradient", "Student", "distance", "match"]

Gradient = Literal["unrolled", "truncated", "exact"]
GRADIENTS: tuple[Gradient, ...] = ("unrolled", "truncated", "exact")
Parameters: TypeAlias = Mapping[str, Tensor]


def distance(end: Parameters, start: Parameters, target: Parameters, merged: bool = False) -> dict[str, Tensor]:
    """The normalised distance from where a student ended to where the expert went, tower by tower.

        D_k = |end_k - target_k|^2 / |start_k - target_k|^2        merged: sum_k of the upper / sum_k of the lower

    Args:
        end: parameters of the trained student.
        start, target: two snapshots of the expert; constants.
        merged: one quotient for all towers, under the name `"merged"`.

    Raises:
        ConfigError: parameters of different names, or an expert that did not move.

    Example:
        >>> one, two = {"a.w": torch.ones(2)}, {"a.w": torch.zeros(2)}
        >>> distance(one, one, two)
        {'a': tensor(1.)}
    """
    if not start.keys() == target.keys() == end.keys():
        odd = sorted(start.keys() ^ target.keys() | start.keys() ^ end.keys())
        raise ConfigError(f"student and expert differ in parameters: {', '.join(odd)}; are they of one network?")
    far = _sums({name: (start[name] - target[name]).detach().square().sum() for name in start})
    if still := [tower for tower, value in far.items() if not float(value) > 0]:
        raise ConfigError(f"the expert's {still[0]} tower did not move between its two snapshots; raise its rate")
    near = _sums({name: (end[name] - target[name]).square().sum() for name in start})
    if merged:
        return {"merged": sum(near.values(), torch.zeros(())) / sum(far.values(), torch.zeros(()))}
    return {tower: near[tower] / far[tower] for tower in far}


@dataclass(frozen=True)
class Student:
    """What is trained: a loss of parameters and a batch, with its first and second derivatives.

    Args:
        loss: `loss(parameters, *batch)`, a scalar; twice differentiable; a batch is a tuple of tensors.
        compiled: compile both derivatives; worth it from some hundred steps on.
    """

    loss: Callable[..., Tensor]
    compiled: bool = False

    @cached_property
    def gradient(self) -> Callable[..., dict[str, Tensor]]:
        """`gradient(parameters, *batch)`: of the loss, by name."""
        return _compile(torch.func.grad(self.loss), self.compiled)

    @cached_property
    def pull_back(self) -> Callable[..., Any]:
        """`pull_back((parameters, moving), vector, merge)`: gradient of `<vector, gradient>`, and its part of each tower."""

        def product(at: tuple[dict[str, Tensor], tuple[Tensor, ...]], vector: dict[str, Tensor], fixed: Any) -> Any:
            parameters, moving = at
            gradient = torch.func.grad(self.loss)(parameters, *_merge(moving, fixed))
            parts = _sums({name: (vector[name] * g).sum() for name, g in gradient.items()})
            return torch.stack(list(parts.values())).sum(), parts

        return _compile(torch.func.grad(product, has_aux=True), self.compiled)


def match(
    student: Student,
    start: Parameters,
    target: Parameters,
    batch: Callable[[int], tuple[Tensor, ...]],
    rates: Mapping[str, Tensor],
    steps: int,
    gradient: Gradient = "truncated",
    merged: bool = False,
) -> dict[str, Tensor]:
    """Trains a student on synthetic batches and carries the gradient of its distance to the expert back into them.

        theta_{t+1} = theta_t - rate_k grad loss(theta_t; batch_t),    t = 0 .. T-1,    L = sum_k D_k(theta_T)

    Gradients are added to `.grad` of whatever `batch(t)` and `rates` were computed from, as by `L.backward()`:

    - `"unrolled"` differentiates through all steps. Exact; memory grows with T.
    - `"exact"` goes backwards with the adjoint `a_T = dL/dtheta_T`, `q_t = -rate <a_{t+1}, grad loss(theta_t; batch_t)>`,
      `a_t = a_{t+1} + dq_t/dtheta_t`; dq_t/dbatch_t is the gradient of batch t. The same numbers; memory flat in T but for the
      stored theta_t.
    - `"truncated"` leaves `a_t = a_T`: what TESLA and LoRS do. It drops what earlier batches do to later steps.

    Args:
        student: its loss.
        start: the expert's snapshot that the student starts from.
        target: a later snapshot of the same expert.
        batch: step to the tensors of its batch, computed anew when called; called once more a step on the way back.
        rates: tower to its learning rate, a scalar.
        steps: T.
        gradient: which one.
        merged: see `distance`.

    Returns:
        `"loss"` and the distance of each tower, detached.

    Papers: Cazenavette et al., Dataset distillation by matching training trajectories, CVPR 2022; Cui et al., Scaling up
    dataset distillation to ImageNet-1K with constant memory, ICML 2023.

    Example:
        >>> x, rate = torch.tensor([1.0, 2.0], requires_grad=True), {"a": torch.tensor(0.1)}
        >>> fit = Student(lambda theta, x: (theta["a.w"] * x).sum().square())
        >>> found = match(fit, {"a.w": torch.ones(2)}, {"a.w": torch.zeros(2)}, lambda t: (x,), rate, steps=2)
        >>> sorted(found), x.grad.shape
        (['a', 'loss'], torch.Size([2]))
    """
    if gradient not in GRADIENTS:
        raise ConfigError(f"gradient is one of {', '.join(GRADIENTS)}, got {gradient!r}")
    if steps < 1:
        raise ConfigError(f"a student needs a step or more, got {steps}")
    start = {name: value.detach() for name, value in start.items()}
    if gradient == "unrolled":
        parts = _unroll(student, start, target, batch, rates, steps, merged)
    else:
        parts = _walk_back(student, start, target, batch, rates, steps, merged, exact=gradient == "exact")
    total = torch.stack([part.detach() for part in parts.values()]).sum()
    return {"loss": total, **{tower: part.detach() for tower, part in parts.items()}}


def _unroll(
    student: Student,
    start: Parameters,
    target: Parameters,
    batch: Callable[[int], tuple[Tensor, ...]],
    rates: Mapping[str, Tensor],
    steps: int,
    merged: bool,
) -> dict[str, Tensor]:
    theta = {name: value.clone().requires_grad_() for name, value in start.items()}
    names = list(theta)
    for t in range(steps):
        grads = torch.autograd.grad(student.loss(theta, *batch(t)), [theta[n] for n in names], create_graph=True)
        theta = {n: theta[n] - rates[_tower(n)] * g for n, g in zip(names, grads, strict=True)}
    parts = distance(theta, start, target, merged)
    torch.stack(list(parts.values())).sum().backward()
    return parts


def _walk_back(
    student: Student,
    start: Parameters,
    target: Parameters,
    batch: Callable[[int], tuple[Tensor, ...]],
    rates: Mapping[str, Tensor],
    steps: int,
    merged: bool,
    exact: bool,
) -> dict[str, Tensor]:
    step = {tower: rate.detach() for tower, rate in rates.items()}
    path = [dict(start)]
    for t in range(steps):
        with torch.no_grad():
            values = tuple(value.detach() for value in batch(t))  # else a leaf would chain all steps in memory
        gradient = student.gradient(path[-1], *values)
        path.append({name: value - step[_tower(name)] * gradient[name] for name, value in path[-1].items()})
    with torch.enable_grad():
        end = {name: value.clone().requires_grad_() for name, value in path[-1].items()}
        parts = distance(end, start, target, merged)
        grads = torch.autograd.grad(torch.stack(list(parts.values())).sum(), list(end.values()))
    adjoint = dict(zip(end, grads, strict=True))
    along = {tower: torch.zeros_like(rate) for tower, rate in step.items()}  # sum over steps of -<adjoint, gradient>
    for t in reversed(range(steps)):
        with torch.enable_grad():
            values = batch(t)
        moving = tuple(value for value in values if value.requires_grad)
        fixed = tuple(None if value.requires_grad else value for value in values)
        vector = {name: -step[_tower(name)] * a for name, a in adjoint.items()}
        leaves = tuple(value.detach() for value in moving)
        (back, pulled), products = student.pull_back((path[t], leaves), vector, fixed)
        for tower, product in products.items():
            along[tower] = along[tower] + product / step[tower]
        if exact:
            adjoint = {name: a + back[name] for name, a in adjoint.items()}
        if moving:
            torch.autograd.backward(moving, pulled)
    learned = [tower for tower, rate in rates.items() if rate.requires_grad]
    if learned:
        torch.autograd.backward([rates[tower] for tower in learned], [along[tower] for tower in learned])
    return parts


def _merge(moving: tuple[Tensor, ...], fixed: tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
    """The batch again: each gap of `fixed` is filled by the next of `moving`."""
    rest = iter(moving)
    return tuple(next(rest) if value is None else value for value in fixed)


def _sums(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sum of each tower."""
    sums: dict[str, Tensor] = {}
    for name, part in parts.items():
        tower = _tower(name)
        sums[tower] = sums[tower] + part if tower in sums else part
    return sums


def _tower(name: str) -> str:
    return name.partition(".")[0]


def _compile(function: Callable[..., Any], compiled: bool) -> Callable[..., Any]:
    return torch.compile(function) if compiled else function
