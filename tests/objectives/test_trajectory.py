"""The three gradients of the matching loss against each other, central differences, and what must come out."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.errors import ConfigError
from limbeck.objectives.contrastive import contrastive
from limbeck.objectives.similarity import Similarity
from limbeck.objectives.trajectory import GRADIENTS, Gradient, Student, distance, match

N, BATCH = 12, 5
Parameters = dict[str, Tensor]


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss_of(kind: str) -> Callable[..., Tensor]:
    measure = contrastive(kind)

    def loss(p: Parameters, x: Tensor, y: Tensor, s: Tensor) -> Tensor:
        u = torch.tanh(x @ p["image.a"]) @ p["image.b"]
        v = torch.tanh(y @ p["text.a"])
        u, v = u / u.norm(dim=1, keepdim=True), v / v.norm(dim=1, keepdim=True)
        return measure(u @ v.T / 0.3, s, None)

    return loss


class Case:
    """A small expert, a small synthetic set, and the gradients that `match` leaves in it."""

    def __init__(self, kind: str = "wbce", steps: int = 4, rate: float = 0.1, compiled: bool = False) -> None:
        self.start = {"image.a": normal(7, 6, seed=1), "image.b": normal(6, 4, seed=2), "text.a": normal(5, 4, seed=3)}
        self.target = {k: v + 0.1 * normal(*v.shape, seed=9) for k, v in self.start.items()}
        self.x, self.y = normal(N, 7, seed=4).requires_grad_(), normal(N, 5, seed=5).requires_grad_()
        self.s = Similarity(N, "lowrank", rank=3).double()
        with torch.no_grad():
            self.s.right.copy_(0.3 * normal(N, 3, seed=6))
        self.rates = {k: torch.tensor(rate, dtype=torch.float64, requires_grad=True) for k in ("image", "text")}
        rng = torch.Generator().manual_seed(7)
        self.index = [torch.randperm(N, generator=rng)[:BATCH] for _ in range(steps)]
        self.steps, self.student = steps, Student(loss_of(kind), compiled)

    @property
    def learned(self) -> list[Tensor]:
        return [self.x, self.y, *self.s.parameters(), *self.rates.values()]

    def batch(self, t: int) -> tuple[Tensor, ...]:
        i = self.index[t]
        return self.x[i], self.y[i], self.s(i)

    def run(self, gradient: Gradient, merged: bool = False) -> tuple[float, list[Tensor]]:
        for value in self.learned:
            value.grad = None
        found = match(self.student, self.start, self.target, self.batch, self.rates, self.steps, gradient, merged)
        return float(found["loss"]), [torch.zeros_like(v) if v.grad is None else v.grad for v in self.learned]


def cosine(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()))


@pytest.mark.parametrize("kind", ["infonce", "ence", "bce", "wbce"])
@pytest.mark.parametrize("merged", [False, True])
def test_one_step_has_one_gradient(kind: str, merged: bool) -> None:
    case = Case(kind, steps=1)
    loss, expected = case.run("unrolled", merged)
    for gradient in GRADIENTS[1:]:
        other, found = case.run(gradient, merged)
        assert other == pytest.approx(loss, rel=1e-12)
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kind", ["infonce", "ence", "bce", "wbce"])
@pytest.mark.parametrize("merged", [False, True])
def test_the_adjoint_is_the_unrolled_gradient(kind: str, merged: bool) -> None:
    case = Case(kind, steps=6)
    expected, found = case.run("unrolled", merged), case.run("exact", merged)
    assert found[0] == pytest.approx(expected[0], rel=1e-12)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("gradient", ["unrolled", "exact"])
def test_central_differences(gradient: Gradient) -> None:
    case = Case("ence", steps=3)
    _, grads = case.run(gradient)
    expected = [float((g * normal(*g.shape, seed=20 + i)).sum()) for i, g in enumerate(grads)]
    for i, value in enumerate(case.learned):
        direction = normal(*value.shape, seed=20 + i)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                value += sign * 1e-6 * direction
            ends.append(case.run(gradient)[0])
            with torch.no_grad():
                value -= sign * 1e-6 * direction
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(expected[i], rel=1e-5, abs=1e-8)


def test_truncated_is_another_gradient() -> None:
    case = Case("ence", steps=8, rate=0.3)
    (_, exact), (_, truncated) = case.run("exact"), case.run("truncated")
    assert cosine(exact[0], truncated[0]) < 0.99, "nobody swaps them unnoticed"
    assert cosine(exact[0], truncated[0]) > 0.3


def test_truncated_is_the_published_formula() -> None:
    """2 (rate (target - start) + rate^2 G)^T dg_t / |target - start|^2, with G the sum of all gradients; and for a rate, where G
    is a constant, -2 (end - target)^T G / |target - start|^2.
    """
    case = Case(steps=3)
    _, found = case.run("truncated")
    theta, gradients = dict(case.start), []
    for t in range(case.steps):
        leaf = {k: v.clone().requires_grad_() for k, v in theta.items()}
        loss = case.student.loss(leaf, *case.batch(t))
        g = dict(zip(leaf, torch.autograd.grad(loss, list(leaf.values()), create_graph=True), strict=True))
        gradients.append(g)
        theta = {k: v - case.rates[k.split(".")[0]].detach() * g[k].detach() for k, v in theta.items()}
    batched = [case.x, case.y, *case.s.parameters()]
    expected, of_rates = [torch.zeros_like(value) for value in batched], []
    for tower, names in {"image": ["image.a", "image.b"], "text": ["text.a"]}.items():
        rate = case.rates[tower].detach()
        far = torch.stack([(case.start[k] - case.target[k]).square().sum() for k in names]).sum()
        total = {k: torch.stack([h[k].detach() for h in gradients]).sum(0) for k in names}
        for g in gradients:
            product = torch.zeros((), dtype=torch.float64)
            for k in names:
                vector = rate * (case.target[k] - case.start[k]) + rate**2 * total[k]
                product = product + 2 * (vector * g[k]).sum() / far
            parts = torch.autograd.grad(product, batched, retain_graph=True, materialize_grads=True)
            expected = [value + part for value, part in zip(expected, parts, strict=True)]
        of_rates.append(torch.stack([-2 * ((theta[k] - case.target[k]) * total[k]).sum() / far for k in names]).sum())
    torch.testing.assert_close(found, [*expected, *of_rates], rtol=1e-9, atol=1e-12)


def test_a_student_that_hardly_moves_stays_at_distance_one() -> None:
    case = Case(rate=1e-12)
    assert case.run("exact")[0] == pytest.approx(2.0, abs=1e-9)
    assert case.run("exact", merged=True)[0] == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_planted_target_is_reached(gradient: Gradient) -> None:
    case = Case(steps=3)
    theta = dict(case.start)
    for t in range(case.steps):
        leaf = {k: v.clone().requires_grad_() for k, v in theta.items()}
        g = torch.autograd.grad(case.student.loss(leaf, *case.batch(t)), list(leaf.values()))
        theta = {k: v - 0.1 * x for (k, v), x in zip(theta.items(), g, strict=True)}
    case.target = theta
    loss, grads = case.run(gradient)
    assert loss == pytest.approx(0, abs=1e-24)
    assert max(float(g.abs().max()) for g in grads) < 1e-10


def test_merged_is_separate_where_the_experts_went_equally_far() -> None:
    one, two = {"a.w": normal(3, seed=1), "b.w": normal(3, seed=2)}, {"a.w": normal(3, seed=3)}
    unit = normal(3, seed=4)
    two = {"a.w": one["a.w"] + unit, "b.w": one["b.w"] - unit.flip(0)}
    end = {k: v + 0.1 for k, v in one.items()}
    parts = distance(end, one, two)
    assert float(distance(end, one, two, merged=True)["merged"]) == pytest.approx(float(parts["a"] + parts["b"]) / 2)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradients_are_scattered(gradient: Gradient) -> None:
    case = Case(steps=2)
    case.index = [torch.tensor([0, 1, 2, 3, 4]), torch.tensor([2, 3, 4, 5, 6])]
    _, (both, *_) = case.run(gradient)
    assert (both[7:] == 0).all(), "what no step saw has no gradient"
    assert (both[:7].abs().sum(1) > 0).all()


def test_gradients_add_up() -> None:
    case = Case(steps=2)
    _, once = case.run("exact")
    once = [g.clone() for g in once]
    match(case.student, case.start, case.target, case.batch, case.rates, case.steps, "exact")
    torch.testing.assert_close([v.grad for v in case.learned], [2 * g for g in once])


def test_what_is_not_learned_gets_nothing() -> None:
    case = Case(steps=2)
    case.y.requires_grad_(False)
    (_, expected), (_, found) = case.run("unrolled"), case.run("exact")
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)
    assert (found[1] == 0).all()


def in_a_process(script: str, *words: str) -> str:
    """What a script prints in a process of its own, which gives freed memory back at once."""
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "500000", "MALLOC_TRIM_THRESHOLD_": "500000"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SCRIPT = """
import torch
from test_trajectory import Case
expected, found = Case(steps=3).run("exact"), Case(steps=3, compiled=True).run("exact")
torch.testing.assert_close(found[1], expected[1], rtol=1e-8, atol=1e-12)
print("equal")
"""


@pytest.mark.slow
def test_compiled_gradients_are_the_same() -> None:
    """In a process of its own: the checks of shapes that tests run under cannot be compiled."""
    assert in_a_process(SCRIPT) == "equal"


TOWERS = """
import torch
from limbeck.runtime.random import stream
from limbeck.students.two_towers import TwoTowers
from limbeck.students.two_towers import _Pair
from limbeck.students import Tower
from limbeck.networks.convnet import ConvNet
from limbeck.objectives.trajectory import Student, match
rng = stream(0, "test")
network = _Pair(Tower(0, 8, rng, ConvNet(32, width=8, generator=rng)), Tower(12, 8, rng))
start = {name: value.detach() for name, value in network.named_parameters()}
target = {name: value + 0.01 * torch.randn(value.shape, generator=rng) for name, value in start.items()}
x, y = torch.rand(6, 3, 32, 32, generator=rng), torch.randn(6, 12, generator=rng)
found = []
for compiled in (False, True):
    learned = [x.clone().requires_grad_(), y.clone().requires_grad_(), *(torch.tensor(0.02, requires_grad=True) for _ in "ab")]
    student = Student(TwoTowers("convnet").loss(network, "infonce"), compiled)
    rates = {"image": learned[2], "text": learned[3]}
    match(student, start, target, lambda t: (learned[0], learned[1], torch.eye(6)), rates, 2, "exact")
    found.append([value.grad for value in learned])
for one, other in zip(*found):
    assert (one - other).norm() <= 1e-4 * one.norm(), ((one - other).norm(), one.norm())
print("equal")
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_compiled_gradients_of_towers_are_the_same() -> None:
    assert in_a_process(TOWERS) == "equal"


MEMORY = """
import sys
import torch
from limbeck.objectives.trajectory import Student, match
torch.set_num_threads(1)

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

def loss(theta, x):
    for value in theta.values():
        x = torch.tanh(x @ value)
    return x.square().mean()

rng = torch.Generator().manual_seed(0)
start = {f"image.{i}": torch.randn(64, 64, generator=rng) / 8 for i in range(4)}
target = {name: value + 0.1 for name, value in start.items()}
x = torch.randn(4096, 64, generator=rng, requires_grad=True)
rate = torch.tensor(0.1, requires_grad=True)
before = peak()
match(Student(loss), start, target, lambda t: (x,), {"image": rate}, int(sys.argv[2]), sys.argv[1])
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from Linux's /proc")
def test_memory_of_the_gradients_is_flat_in_the_steps() -> None:
    """A process each: `ru_maxrss` would begin at the peak of the process that starts it, VmHWM begins anew."""

    def growth(gradient: Gradient) -> float:
        few, many = (int(in_a_process(MEMORY, gradient, str(steps))) for steps in (4, 16))
        return many / few

    assert growth("exact") < 1.3
    assert growth("truncated") < 1.3
    assert growth("unrolled") > 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": 0}, "a step or more"),
        ({"target": {"image.a": torch.zeros(1)}}, "differ in parameters: image.b, text.a"),
    ],
)
def test_what_cannot_work_is_refused(change: dict[str, Any], says: str) -> None:
    case = Case()
    given = {"start": case.start, "target": case.target, "batch": case.batch, "rates": case.rates, "steps": 2}
    with pytest.raises(ConfigError, match=says):
        match(case.student, **{**given, **change})


def test_an_expert_that_did_not_move_is_refused() -> None:
    case = Case()
    with pytest.raises(ConfigError, match="image tower did not move"):
        match(case.student, case.start, case.start, case.batch, case.rates, 1, "exact")
