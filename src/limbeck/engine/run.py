"""A run on disk: recipe, log, environment and checkpoints, each written whole or not at all.

recipe.yaml        what is run, resolved; a run folder belongs to one recipe
environment.json   versions and machine
log.jsonl          one line a step
checkpoint/step-*  the latest state: tensors in safetensors, the rest in JSON
set/               the result, when it is finished
"""

import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.core import processes
from limbeck.core.recipe import Recipe, differences
from limbeck.data.files import write_text
from limbeck.errors import ConfigError, StorageError

__all__ = ["Run"]


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
        elif self.folder.is_dir() and any(p for p in self.folder.iterdir() if not p.name.startswith(".")):
            raise StorageError(f"{self.folder} exists and is not a run; choose another folder")
        self._recipe = recipe

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
        """Loads the latest checkpoint into both; returns the step it was taken after, 0 where there is none."""
        found = self._checkpoints()
        if not found:
            self._trim_log(0)
            processes.wait()
            return 0
        from safetensors.torch import load_file

        folder = found[-1]
        step = _number(folder)
        tensors = load_file(folder / "state.safetensors")
        plain = json.loads((folder / "state.json").read_text())
        try:
            synthetic.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("set.")})
            if optimizer is not None:
                optimizer.load_state_dict(_unflatten(tensors, plain["optimizer"]))
        except (RuntimeError, KeyError, ValueError) as error:
            raise StorageError(
                f"{folder} does not fit this recipe: {error}; delete the run folder to start anew"
            ) from error
        self._trim_log(step)
        processes.wait()
        return step

    def save(self, step: int, synthetic: nn.Module, optimizer: Optimizer | None) -> Path:
        """Writes a checkpoint after `step`, then drops older ones. It appears by one rename."""
        from safetensors.torch import save_file

        root = self.folder / "checkpoint"
        work, final = root / f".step-{step}", root / f"step-{step}"
        if final.is_dir():  # a run repeats itself to the bit: this step's checkpoint is already there
            return final
        if not processes.is_first():
            return final
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        tensors = {f"set.{k}": v.detach().cpu().contiguous() for k, v in synthetic.state_dict().items()}
        plain: dict[str, Any] = {"step": step}
        if optimizer is not None:
            flat, plain["optimizer"] = _flatten(optimizer.state_dict())
            tensors |= flat
        save_file(tensors, work / "state.safetensors")
        (work / "state.json").write_text(json.dumps(plain))
        for path in work.iterdir():
            with path.open("r+b") as file:  # Windows flushes only what can be written
                os.fsync(file.fileno())
        os.replace(work, final)
        for old in self._checkpoints()[:-1]:
            shutil.rmtree(old, ignore_errors=True)
        return final

    def log(self, row: Mapping[str, Any]) -> None:
        """Appends one line to `log.jsonl`."""
        if not processes.is_first():
            return
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(row)) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """The lines of the log, without a torn last one."""
        path = self.folder / "log.jsonl"
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows

    @property
    def latest(self) -> Path | None:
        """The latest checkpoint, `None` where there is none."""
        found = self._checkpoints()
        return found[-1] if found else None

    def _trim_log(self, step: int) -> None:
        if not processes.is_first():
            return
        kept = [row for row in self.history() if row["step"] <= step]
        write_text(self.folder / "log.jsonl", "".join(json.dumps(row) + "\n" for row in kept))

    def _checkpoints(self) -> list[Path]:
        return sorted((self.folder / "checkpoint").glob("step-*[0-9]"), key=_number)


def _number(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


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
