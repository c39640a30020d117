"""Follows a method step by step beside a naive computation of the same: logged terms, gradients and what the optimizer makes of them."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

import limbeck as lb
import naive
from limbeck.core import Method, Problem, Synthetic

__all__ = ["follow", "groups", "near", "real_samples"]

Terms = Callable[[int, Mapping[str, Tensor], Synthetic], dict[str, Tensor]]
Update = Callable[[str, Tensor, Tensor, float], Tensor]


def near(found: Tensor, expected: Tensor, tolerance: float = 2e-3) -> bool:
    """Whether two tensors differ little, beside the larger of them."""
    a, b = found.detach().double(), expected.detach().double()
    return float((a - b).norm()) <= tolerance * max(float(a.norm()), float(b.norm()), 1e-12)


def follow(
    problem: Problem,
    method: Method,
    terms: Terms,
    update: Update,
    rate: Callable[[int, str], float],
    steps: int = 3,
    tolerance: float = 2e-3,
) -> list[dict[str, float]]:
    """Runs a method beside the naive computation; returns what it logged.

    Args:
        problem: what is distilled.
        method: which has at least as many steps.
        terms: from step, learned values and the set to every logged term, differentiable in the values; `"loss"` is among them.
        update: the optimizer: from name, value, gradient and rate to the next value.
        rate: of a step and a modality.
        steps: how many.
        tolerance: relative, of each value.
    """
    walk, seen = lb.steps(problem, method), []
    state = next(walk)
    for t in range(steps):
        own = {m: v.detach().clone().requires_grad_() for m, v in state.synthetic.learned.items()}
        expected = terms(t, own, state.synthetic)
        gradients = torch.autograd.grad(expected["loss"], list(own.values()), allow_unused=True)
        state = next(walk)
        logs = {name: value for name, value in state.logs.items() if name != "gradient"}
        assert logs.keys() == expected.keys(), f"step {t}"
        for name, value in expected.items():
            assert logs[name] == pytest.approx(float(value.detach()), rel=tolerance, abs=1e-6), f"{name} of step {t}"
        for (m, value), gradient in zip(own.items(), gradients, strict=True):
            found = state.synthetic.learned[m].grad
            assert (found is None) == (gradient is None), f"the gradient of {m} at step {t}"
            if found is None or gradient is None:
                continue
            assert float(gradient.norm()) > 0 and near(found, gradient, tolerance), f"the gradient of {m} at step {t}"
            moved = update(m, value.detach().double(), found.double(), rate(t, m))
            if m in ("text", *state.synthetic.vectors):
                moved = naive.unit(moved)
            elif m == "image":
                moved = moved.clamp(0, 1)
            assert float((moved - state.synthetic.learned[m].detach().double()).abs().max()) < 1e-5, (
                f"{m} after step {t}"
            )
            assert not torch.equal(value, state.synthetic.learned[m]), f"{m} after step {t}"
        seen.append(logs)
    return seen


def groups(problem: Problem, synthetic: Synthetic, by_class: bool) -> list[tuple[list[int], list[int]]]:
    """The real and the synthetic samples of each class, or of all."""
    if not by_class:
        return [(list(range(len(problem.source))), list(range(len(synthetic))))]
    real, own = problem.source.labels, synthetic.labels
    assert real is not None and own is not None
    return [
        ([i for i, c in enumerate(real.tolist()) if c == label], [j for j, c in enumerate(own.tolist()) if c == label])
        for label in sorted(set(own.tolist()))
    ]


def real_samples(problem: Problem, pool: list[int], n: int, group: int, t: int) -> list[int]:
    """The real samples that a group shows at a step: the first n of a shuffle that step and group seed."""
    order = torch.randperm(len(pool), generator=problem.rng(f"real {group}", t))
    return [pool[i] for i in order[:n].tolist()]
