"""A run on disk: recipe, log, environment and checkpoints, each written whole or not at all.

recipe.yaml        what is run, resolved; a run folder belongs to one recipe
environment.json   versions and machine
log.jsonl          one line a step
checkpoint/step-*  the two latest states: tensors in safetensors, the rest in JSON, and the SHA-256 of both
set/               the result, when it is finished
auto.json, .txt    what a search tried before the method was chosen, where there was one
.limbeck-lock      while a process works on the folder: which
"""

import json
import platform
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.core.recipe import Recipe, differences
from limbeck.engine import log
from limbeck.engine.checkpoints import Checkpoint, Checkpoints
from limbeck.errors import ConfigError, LimbeckWarning, StorageError
from limbeck.runtime import processes
from limbeck.runtime.files import settle_within, write_text
from limbeck.runtime.locks import LOCK, owned

__all__ = ["Run"]


SEARCHED = ("auto.json", "auto.txt")  # what `limbeck.search` leaves in the folder of the run that it is for


class Run:
    """A run folder: new, or to be continued if it belongs to the same recipe. Nothing is written before `begin`.

    Args:
        folder: where it lives.
        recipe: what is run.

    Raises:
        ConfigError: the folder belongs to another recipe; the message names what differs.
        StorageError: the folder holds something else.
    """

    def __init__(self, folder: str | Path, recipe: Recipe) -> None:
        self.folder = Path(folder)
        path = self.folder / "recipe.yaml"
        if self.folder.is_file():
            raise StorageError(f"{self.folder} is a file, a run needs a folder; choose another path")
        if path.is_file():
            if changed := differences(Recipe.read(path).plain(), recipe.plain()):
                raise ConfigError(
                    f"the run folder {self.folder} belongs to another recipe: {'; '.join(changed[:5])}; "
                    "choose another folder, or delete this one to start anew"
                )
        elif self.folder.is_dir() and any(
            p for p in self.folder.iterdir() if not p.name.startswith(".") and p.name not in SEARCHED
        ):
            raise StorageError(f"{self.folder} exists and is not a run; choose another folder")
        self._recipe = recipe
        self._checkpoints = Checkpoints(self.folder / "checkpoint")

    @contextmanager
    def owned(self, doing: str) -> Iterator[None]:
        """Makes this process the only one that works on the folder; of several that work together the first is it for all.

        Args:
            doing: what it does, for the message that another process gets.

        Raises:
            StorageError: another process works on it, or the folder cannot be written.
        """
        if not processes.is_first():
            yield
            return
        with owned(self.folder, doing):
            yield

    def settle(self) -> None:
        """Ends what a killed process left in a finished run; does nothing where another works on it, or it is read-only."""
        settle_within(self.folder)
        with suppress(OSError):
            if (self.folder / LOCK).exists():
                with self.owned("tidy"):
                    pass

    def begin(self) -> None:
        """Makes the folder and writes recipe and environment, where they are not there yet; the first process does."""
        if not processes.is_first():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        texts = {"recipe.yaml": self._recipe.yaml(), "environment.json": json.dumps(_environment(), indent=1) + "\n"}
        for name, text in texts.items():
            if not (self.folder / name).is_file():
                write_text(self.folder / name, text)

    @property
    def result(self) -> Path:
        """Where the finished set is."""
        return self.folder / "set"

    def restore(self, synthetic: nn.Module, optimizer: Optimizer | None) -> int:
        """Loads the newest whole checkpoint into both; returns the step it was taken after, 0 where there is none.

        Raises:
            StorageError: it does not fit what is run.
        """
        if not processes.is_first():
            processes.wait()  # until the first has set aside what is damaged
        found = self._checkpoints.newest()
        step = 0 if found is None else found.step
        if found is not None:
            try:
                _load(found, synthetic, optimizer)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
                reason = " ".join(str(error).split())[:300]
                raise StorageError(
                    f"{found.folder} does not fit this recipe: {reason}; delete the run folder to start anew"
                ) from error
        if processes.is_first():
            self._checkpoints.drop_older(step)
            self._trim_log(step)
            processes.wait()
        return step

    def save(self, step: int, synthetic: nn.Module, optimizer: Optimizer | None) -> Path:
        """Writes a checkpoint after `step`, then drops all older ones but one; it appears whole or not at all.

        Raises:
            StorageError: it cannot be written.
        """
        if not processes.is_first():
            return self._checkpoints.path(step)
        tensors = {f"set.{k}": v for k, v in synthetic.state_dict().items()}
        plain: dict[str, Any] = {}
        if optimizer is not None:
            flat, plain["optimizer"] = _flatten(optimizer.state_dict())
            tensors |= flat
        log.flush(self.folder / "log.jsonl")  # no checkpoint is ahead of its log, whatever the power does
        return self._checkpoints.save(step, tensors, plain)

    def log(self, row: Mapping[str, Any]) -> None:
        """Appends one line to `log.jsonl`."""
        if processes.is_first():
            log.append(self.folder / "log.jsonl", row)

    def history(self) -> list[dict[str, Any]]:
        """The rows of the log, one a step; says which lines cannot be read."""
        path = self.folder / "log.jsonl"
        rows, lost = log.read(path)
        if lost:
            warnings.warn(f"{path}: {_lines(lost)} cannot be read, and is left out", LimbeckWarning, stacklevel=2)
        return rows

    @property
    def latest(self) -> Path | None:
        """The latest checkpoint, `None` where there is none."""
        return self._checkpoints.latest

    def _trim_log(self, step: int) -> None:
        """Keeps one row of each step until `step`, and says which of them are lost."""
        path = self.folder / "log.jsonl"
        rows, lost = log.read(path)
        kept = [row for row in rows if row["step"] <= step]
        if len(kept) < step:
            reason = f"; its {_lines(lost)} cannot be read" if lost else ""
            warnings.warn(
                f"{path} lacks {step - len(kept)} of the {step} steps that are done{reason}; the set is not changed by it, its curve is",
                LimbeckWarning,
                stacklevel=3,
            )
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))


def _lines(numbers: list[int]) -> str:
    listed = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
    return f"line{'s' if len(numbers) > 1 else ''} {listed}"


def _load(found: Checkpoint, synthetic: nn.Module, optimizer: Optimizer | None) -> None:
    """Raises what torch raises where a checkpoint is of something else."""
    state = None if optimizer is None else _unflatten(found.tensors, found.plain["optimizer"])
    if optimizer is not None and state is not None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for i, slots in state["state"].items():
            wrong = [k for k, v in slots.items() if isinstance(v, Tensor) and v.shape not in ((), parameters[i].shape)]
            if wrong:
                raise ValueError(f"{wrong[0]} of the optimizer has another shape than what it is of")
    synthetic.load_state_dict({k[4:]: v for k, v in found.tensors.items() if k.startswith("set.")})
    if optimizer is not None and state is not None:
        optimizer.load_state_dict(state)


def _flatten(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {
        f"optimizer.{i}.{k}": v.detach().cpu().contiguous()
        for i, slots in state["state"].items()
        for k, v in slots.items()
        if isinstance(v, Tensor)
    }
    plain = {
        str(i): {k: v for k, v in slots.items() if not isinstance(v, Tensor)} for i, slots in state["state"].items()
    }
    return tensors, {"state": plain, "param_groups": state["param_groups"]}


def _unflatten(tensors: dict[str, Tensor], plain: dict[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {int(i): dict(slots) for i, slots in plain["state"].items()}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, i, slot = name.split(".", 2)
            state[int(i)][slot] = value
    return {"state": state, "param_groups": plain["param_groups"]}


def _environment() -> dict[str, Any]:
    from limbeck import __version__

    return {
        "limbeck": __version__,
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
