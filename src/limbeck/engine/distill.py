"""The one loop: zero_grad > step > finite? > clip > optimizer.step > project > log > save."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.core import processes
from limbeck.core.distilled import DistilledSet, freeze, load
from limbeck.core.method import Method
from limbeck.core.problem import Problem
from limbeck.core.recipe import Recipe
from limbeck.core.synthetic import Synthetic
from limbeck.engine.run import Run
from limbeck.engine.saturation import saturation
from limbeck.errors import ConfigError, Diverged

__all__ = ["State", "distill", "steps"]


@dataclass(frozen=True)
class State:
    """Where a distillation stands after `step` of `total` steps.

    Args:
        step: steps done; 0 is the start.
        total: steps in all; 0 for a one-shot method.
        logs: the scalars of the last step.
        synthetic: the live synthetic set.
    """

    step: int
    total: int
    logs: dict[str, float]
    synthetic: Synthetic


def steps(problem: Problem, method: Method, run: str | Path | None = None, *, save_every: int = 100) -> Iterator[State]:
    """Distils step by step; yields the start (or where a killed run stopped) and then each step.

    Args:
        problem: what to distil.
        method: how.
        run: a run folder; the same call continues it, to the same bits as an uninterrupted run (CPU).
        save_every: steps between checkpoints.

    Raises:
        Diverged: a logged value, the gradient or a parameter is not finite; the last good state is kept.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> [state.step for state in lb.steps(problem, lb.methods.CF(steps=2))]
        [0, 1, 2]
    """
    if save_every < 1:
        raise ConfigError(f"save_every counts steps between checkpoints and must be 1 or more, got {save_every}")
    processes.count()  # several processes choose their devices before anything is put on one
    folder = None if run is None else Run(run, Recipe.of(problem, method))
    method.check(problem)
    synthetic = method.start(problem)
    if folder is not None:
        folder.begin()  # a budget that cannot work was refused by now, and has claimed no folder
    optimizer = method.optimizer(synthetic)
    rates = [] if optimizer is None else [group["lr"] for group in optimizer.param_groups]
    first = 0 if folder is None else folder.restore(synthetic, optimizer)
    yield State(first, method.steps, {}, synthetic)
    for t in range(first, method.steps):

        def stop(what: str, cure: str = "", t: int = t) -> Diverged:
            return _diverged(what, t, synthetic, optimizer, folder, cure)

        before = None
        if optimizer is not None:
            optimizer.zero_grad(set_to_none=True)
        try:
            logs = {name: float(value) for name, value in method.step(problem, synthetic, t).items()}
        except Diverged as error:
            raise stop(str(error)) from error
        if bad := [name for name, value in logs.items() if not math.isfinite(value)]:
            raise stop(f"{bad[0]} = {logs[bad[0]]} is not finite", method.cure(bad[0]))
        if optimizer is not None:
            norm = _gradient_norm(synthetic, method.clip)
            if not math.isfinite(norm):
                raise stop(f"the gradient norm = {norm} is not finite", method.cure("gradient"))
            before = None if folder is None else copy.deepcopy((synthetic.state_dict(), optimizer.state_dict()))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * method.rate(t)
            optimizer.step()
            logs["gradient"] = norm
        synthetic.project()
        logs |= saturation(method, synthetic, t)
        if wrong := _wrong(method, synthetic):
            if optimizer is not None and before is not None:  # what this step was computed from was still good
                synthetic.load_state_dict(before[0])
                optimizer.load_state_dict(before[1])
            raise stop(*wrong)
        if folder is not None:
            folder.log({"step": t + 1, **logs})
            if (t + 1) % save_every == 0 or t + 1 == method.steps:
                folder.save(t + 1, synthetic, optimizer)
        yield State(t + 1, method.steps, logs, synthetic)


def distill(
    problem: Problem,
    method: Method,
    run: str | Path | None = None,
    *,
    save_every: int = 100,
) -> DistilledSet:
    """Distils to the end and freezes the result. The same call with the same `run` resumes, or returns what is finished.

    Args:
        problem: what to distil.
        method: how.
        run: a run folder, or `None` to keep nothing on disk.
        save_every: steps between checkpoints.

    Raises:
        Diverged: see `steps`.
        ConfigError: the run folder belongs to another recipe.
    """
    recipe = Recipe.of(problem, method)
    if run is not None and (done := Run(run, recipe).result).is_dir():
        return load(done)
    for state in steps(problem, method, run, save_every=save_every):
        if problem.tick and state.total:
            problem.tick(f"distil {recipe.method['name']}", state.step, state.total)
    made = method.finish(problem, state.synthetic, None if run is None else Path(run))
    small = freeze(problem, recipe, made, learned_text=method.learns_text)
    if run is not None:
        if processes.is_first():
            small.save(Run(run, recipe).result)
        processes.wait()
    return small


def _gradient_norm(synthetic: Synthetic, clip: float | None) -> float:
    parameters = [p for p in synthetic.parameters() if p.grad is not None]
    return float(nn.utils.clip_grad_norm_(parameters, math.inf if clip is None else clip))


def _wrong(method: Method, synthetic: Synthetic) -> tuple[str, str] | None:
    """What is wrong with the set after a step, and the cure; `None` where nothing is."""
    if bad := [name for name, value in synthetic.named_parameters() if not _finite(value)]:
        return f"the parameter {bad[0]} is not finite", method.cure(bad[0])
    try:
        method.sound(synthetic)
    except Diverged as error:
        what, _, cure = str(error).rpartition("; ")
        return (what, cure) if what else (cure, "")
    return None


def _finite(value: Tensor) -> bool:
    """Whether no component is infinite or not a number: a sum keeps either, and costs a tenth of looking at each."""
    return math.isfinite(float(value.detach().sum()))


def _diverged(
    what: str, t: int, synthetic: Synthetic, optimizer: Optimizer | None, folder: Run | None, cure: str = ""
) -> Diverged:
    """The error for step `t`; before an optimizer's step the state is still good, and is kept."""
    where = "pass `run=` to keep checkpoints"
    if folder is not None:
        if optimizer is not None and all(_finite(p) for p in synthetic.parameters()):
            folder.save(t, synthetic, optimizer)
        kept = folder.latest
        where = f"the last good state is in {kept}" if kept else "it happened before the first checkpoint"
    return Diverged(f"step {t + 1}: {what}; {where}" + (f"; {cure}, in a new run folder" if cure else ""))
