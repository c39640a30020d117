"""The one loop: zero_grad > step > finite? > clip > optimizer.step > project > log > save."""

import copy
import math
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.core.distilled import DistilledSet, load
from limbeck.core.fit import frozen
from limbeck.core.members import drawn_member
from limbeck.core.method import Method
from limbeck.core.problem import Problem
from limbeck.core.recipe import Recipe
from limbeck.core.synthetic import Synthetic
from limbeck.engine.pixels import in_coordinates, over_views
from limbeck.engine.run import Run
from limbeck.engine.saturation import saturation
from limbeck.errors import ConfigError, Diverged, Fault
from limbeck.runtime import processes
from limbeck.runtime.files import settle_within
from limbeck.runtime.signals import asked, deferred

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
        StorageError: another process works on the run folder; it is free again when this generator is closed.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> [state.step for state in lb.steps(problem, lb.methods.CF(steps=2))]
        [0, 1, 2]
    """
    _check(save_every)
    folder = None if run is None else Run(run, Recipe.of(problem, method))
    with _owned(folder):
        yield from _steps(problem, method, folder, save_every)


def _check(save_every: int) -> None:
    if save_every < 1:
        raise ConfigError(f"save_every counts steps between checkpoints and must be 1 or more, got {save_every}")


def _owned(folder: Run | None) -> AbstractContextManager[None]:
    processes.count()  # several processes choose their devices before anything is put on one
    return nullcontext() if folder is None else folder.owned("distil")


def _steps(problem: Problem, method: Method, folder: Run | None, save_every: int) -> Generator[State]:
    method.check(problem)
    synthetic = in_coordinates(problem, method.start(problem))
    if folder is not None:
        folder.begin()  # a budget that cannot work was refused by now, and has claimed no folder
    optimizer = method.optimizer(synthetic)
    if optimizer is not None:
        synthetic.join(optimizer)
    rates = [] if optimizer is None else [group["lr"] for group in optimizer.param_groups]
    done = 0 if folder is None else folder.restore(synthetic, optimizer)
    stop = False
    with deferred():  # a signal waits until the state is whole, and this ends with `Stopped`
        yield State(done, method.steps, {}, synthetic)
        while done < method.steps and not stop:
            logs = _step(problem, method, synthetic, optimizer, rates, done, folder)
            done += 1
            if folder is not None:
                folder.log({"step": done, **logs})
            stop = processes.agree(asked())
            if folder is not None and (stop or done % save_every == 0 or done == method.steps):
                folder.save(done, synthetic, optimizer)
            if not stop:
                try:
                    yield State(done, method.steps, logs, synthetic)
                except KeyboardInterrupt:  # outside of the command line, while the state is whole
                    if folder is not None:
                        folder.save(done, synthetic, optimizer)
                    raise
    if stop:
        raise KeyboardInterrupt  # the signal reached another process


def _step(
    problem: Problem,
    method: Method,
    synthetic: Synthetic,
    optimizer: Optimizer | None,
    rates: list[float],
    t: int,
    folder: Run | None,
) -> dict[str, float]:
    """Step `t`, in place; returns its scalars."""

    def stop(fault: Fault) -> Diverged:
        return _diverged(fault, t, synthetic, optimizer, folder)

    before = None
    if optimizer is not None:
        optimizer.zero_grad(set_to_none=True)
    seen = drawn_member(problem, t) if method.pools == "drawn" else problem
    try:
        logs = over_views(problem, synthetic, t, method.steps, lambda: method.step(seen, synthetic, t))
    except Diverged as error:
        raise stop(Fault(str(error))) from error
    if bad := [name for name, value in logs.items() if not math.isfinite(value)]:
        raise stop(Fault(f"{bad[0]} = {logs[bad[0]]} is not finite", method.remedy_for(bad[0])))
    if optimizer is not None:
        norm = _gradient_norm(synthetic, method.clip)
        if not math.isfinite(norm):
            raise stop(Fault(f"the gradient norm = {norm} is not finite", method.remedy_for("gradient")))
        before = None if folder is None else copy.deepcopy((synthetic.state_dict(), optimizer.state_dict()))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * method.lr_schedule(t)
        optimizer.step()
        logs["gradient"] = norm
    synthetic.project()
    logs |= saturation(method, synthetic, t)
    if (fault := _fault(method, synthetic)) is not None:
        if optimizer is not None and before is not None:  # what this step was computed from was still good
            synthetic.load_state_dict(before[0])
            optimizer.load_state_dict(before[1])
        raise stop(fault)
    return logs


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
        StorageError: another process works on it, or it cannot be read or written.
        KeyboardInterrupt: a person stopped it; a checkpoint of all whole steps is kept, where the step was not cut short.
    """
    _check(save_every)
    recipe = Recipe.of(problem, method)
    folder = None if run is None else Run(run, recipe)
    if folder is not None and folder.result.is_dir():  # also where others may only read
        folder.settle()
        return load(folder.result)
    with _owned(folder):
        if folder is not None and folder.result.is_dir():  # another process has finished it meanwhile
            return load(folder.result)
        return _distilled(problem, method, recipe, folder, save_every)


def _distilled(problem: Problem, method: Method, recipe: Recipe, folder: Run | None, save_every: int) -> DistilledSet:
    states = _steps(problem, method, folder, save_every)
    for state in states:
        if state.total:
            try:
                problem.runtime.report(f"distil {recipe.method['name']}", state.step, state.total)
            except KeyboardInterrupt as stopped:
                states.throw(stopped)
    made = method.materialize(problem, state.synthetic, None if folder is None else folder.folder)
    small = frozen(problem, recipe, made, learned_text=method.learns_text)
    if folder is not None:
        if processes.is_first():
            small.save(folder.result)
            settle_within(folder.folder)
        processes.wait()
    return small


def _gradient_norm(synthetic: Synthetic, clip: float | None) -> float:
    parameters = [p for p in synthetic.parameters() if p.grad is not None]
    return float(nn.utils.clip_grad_norm_(parameters, math.inf if clip is None else clip))


def _fault(method: Method, synthetic: Synthetic) -> Fault | None:
    """What is wrong with the set after a step; `None` where nothing is."""
    if bad := [name for name, value in synthetic.named_parameters() if not _finite(value)]:
        return Fault(f"the parameter {bad[0]} is not finite", method.remedy_for(bad[0]))
    return method.validate(synthetic)


def _finite(value: Tensor) -> bool:
    """Whether no component is infinite or not a number: a sum keeps either, and costs a tenth of looking at each."""
    return math.isfinite(float(value.detach().sum()))


def _diverged(fault: Fault, t: int, synthetic: Synthetic, optimizer: Optimizer | None, folder: Run | None) -> Diverged:
    """The error for step `t`; before an optimizer's step the state is still good, and is kept."""
    where = "pass `run=` to keep checkpoints"
    if folder is not None:
        if optimizer is not None and all(_finite(p) for p in synthetic.parameters()):
            folder.save(t, synthetic, optimizer)
        kept = folder.latest
        where = f"the last good state is in {kept}" if kept else "it happened before the first checkpoint"
    remedy = f"; {fault.remedy}, in a new run folder" if fault.remedy else ""
    return Diverged(f"step {t + 1}: {fault.what}; {where}{remedy}")
