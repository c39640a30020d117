"""Carries out the options of `Pixels` for any method: the loop learns in their coordinates, and takes each step over their views."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from limbeck.core.pixels import colour_axes
from limbeck.core.problem import Problem
from limbeck.core.synthetic import Synthetic
from limbeck.errors import ConfigError

__all__ = ["in_coordinates", "over_views"]

SEEN = 256  # real images that show how colours go together


def in_coordinates(problem: Problem, synthetic: Synthetic) -> Synthetic:
    """The set with its images learned in the problem's coordinates, where those are others than the pixels themselves.

    Args:
        problem: whose `pixels`.
        synthetic: as a method starts it.

    Raises:
        ConfigError: it learns no pixels.
    """
    if problem.pixels.given and "image" not in synthetic.learned:
        raise ConfigError("this method learns no pixels, so the options of pixels are ignored; leave them out")
    if problem.pixels.moves:
        axes = None
        if problem.pixels.colours == "decorrelated":
            axes = colour_axes(problem.source.batch(problem.draw(SEEN, 0, "colours"))["image"])
        synthetic.learn_in("image", problem.pixels.coordinates(synthetic.value("image").detach().cpu(), axes))
    return synthetic


def over_views(
    problem: Problem, synthetic: Synthetic, t: int, steps: int, step: Callable[[], Mapping[str, float | Tensor]]
) -> dict[str, float]:
    """One step of a method, or the mean of its scalars and gradients over the views of step t.

    Args:
        problem: whose `pixels`, and random streams.
        synthetic: is seen in each view in turn.
        t: step.
        steps: how many there are, for levels that join as steps go on.
        step: adds to the gradients, which are cleared, and returns scalars.
    """
    if not problem.pixels.given:
        return {name: float(value) for name, value in step().items()}
    for held in synthetic.coordinates.values():
        held.grow(t / steps)  # type: ignore[operator]
    count, shape = max(problem.pixels.views, 1), synthetic.value("image").shape
    logs: dict[str, float] = {}
    total: dict[torch.nn.Parameter, Tensor] = {}
    for k in range(count):
        synthetic.zero_grad(set_to_none=True)
        draw = problem.rng(f"view {k} of pixels", t)
        with synthetic.seen("image", problem.pixels.view(shape, draw) if problem.pixels.views else None):
            found = step()
        logs = {name: logs.get(name, 0.0) + float(value) / count for name, value in found.items()}
        for p in synthetic.parameters():
            if p.grad is not None:
                total[p] = total.get(p, torch.zeros_like(p)) + p.grad / count
    for p, gradient in total.items():
        p.grad = gradient
    return logs
