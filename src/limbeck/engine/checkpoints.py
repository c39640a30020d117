"""Checkpoints: each appears whole, with the SHA-256 of its files; the newest whole one is used, and damage is told.

step-N/state.safetensors   the tensors
step-N/state.json          the rest
step-N/checksums.json      the SHA-256 of both, as `files`
"""

import json
import os
import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.errors import LimbeckWarning, StorageError
from limbeck.runtime.files import checksums, foreign_files, save_tensors, sha256, whole_folder, work_folder, writing

__all__ = ["Checkpoint", "Checkpoints"]

NAME = re.compile(r"step-(0|[1-9][0-9]{0,17})")
ASIDE = re.compile(r"damaged-step-[0-9]+(-[0-9]+)?")
TENSORS, PLAIN, SUMS = "state.safetensors", "state.json", "checksums.json"
KEPT = 2  # the newest may be damaged


@dataclass(frozen=True)
class Checkpoint:
    """A state after `step` steps: tensors, and what is no tensor."""

    step: int
    folder: Path
    tensors: dict[str, Tensor]
    plain: dict[str, Any]


class _Damaged(Exception):
    """A checkpoint that cannot be used, and why."""


class Checkpoints:
    """The checkpoints of one run; the two newest are kept.

    Args:
        root: the folder that holds them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._whole: Path | None = None

    @property
    def latest(self) -> Path | None:
        """The checkpoint that was written or read last; before that the one of the last step, `None` where there is none."""
        if self._whole is not None:
            return self._whole
        folders = self._folders()
        return folders[-1] if folders else None

    def newest(self) -> Checkpoint | None:
        """The newest whole checkpoint; `None` where there is none. Newer ones are set aside under another name, and told.

        Raises:
            StorageError: one may not be read, or set aside.
        """
        damaged: list[str] = []
        whole = None
        for folder in reversed(self._folders()):
            try:
                whole = _read(folder)
                break
            except _Damaged as error:
                damaged.append(f"{folder} cannot be used ({error}) and is now {self._set_aside(folder).name}")
        if stray := self._strays():
            warnings.warn(
                f"{self.root} holds {', '.join(stray[:5])}: no checkpoints, and left alone",
                LimbeckWarning,
                stacklevel=3,
            )
        goes_on = f"goes on from step {whole.step}" if whole else "starts anew from step 0, as no other is whole"
        for text in damaged:
            warnings.warn(f"{text}; the run {goes_on}", LimbeckWarning, stacklevel=3)
        self._whole = None if whole is None else whole.folder
        return whole

    def save(self, step: int, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> Path:
        """Writes the state after `step`, then drops all older ones but the newest of them.

        Raises:
            StorageError: it cannot be written.
        """
        final = self.path(step)
        if self._whole == final:
            return final
        with whole_folder(final, SUMS) as made:
            save_tensors(tensors, made / TENSORS)
            (made / PLAIN).write_text(json.dumps({"schema": 1, "step": step, **plain}), encoding="utf-8")
            (made / SUMS).write_text(json.dumps({"limbeck": "checkpoint", "files": checksums(made)}), encoding="utf-8")
        self._whole = final
        self.drop_older(step)
        return final

    def drop_older(self, step: int) -> None:
        """Drops the checkpoints before `step`, but for the newest of them; also those that a killed process could not drop any more."""
        older = [folder for folder in self._folders() if _number(folder) < step]
        for folder in older[: -(KEPT - 1)]:
            if _is_ours(folder):
                with suppress(OSError), work_folder(folder) as work:
                    os.replace(folder, work / "gone")  # ours: its checksums name every file in it

    def path(self, step: int) -> Path:
        """Where the checkpoint after `step` lies."""
        return self.root / f"step-{step}"

    def _folders(self) -> list[Path]:
        return sorted((p for p in self._entries() if NAME.fullmatch(p.name) and p.is_dir()), key=_number)

    def _strays(self) -> list[str]:
        names = [p.name for p in self._entries() if not p.name.startswith(".") and not ASIDE.fullmatch(p.name)]
        return sorted(set(names) - {p.name for p in self._folders()})

    def _entries(self) -> list[Path]:
        try:
            return list(self.root.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(
                f"{self.root} cannot be read: {error.strerror}; see to it that it is a folder that you may read"
            ) from error

    def _set_aside(self, folder: Path) -> Path:
        aside, count = folder.with_name(f"damaged-{folder.name}"), 1
        while aside.exists():
            count += 1
            aside = folder.with_name(f"damaged-{folder.name}-{count}")
        with writing(folder):
            return folder.rename(aside)  # nothing is removed, and the name is free


def _number(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _read(folder: Path) -> Checkpoint:
    """The state in a checkpoint; those of before there were checksums are taken as they are.

    Raises:
        _Damaged: a file is missing, is not what its checksum says, or holds something else.
        StorageError: a file may not be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        sums = _sums(folder)
        for name in (TENSORS, PLAIN):
            if not (folder / name).is_file():
                raise _Damaged(f"{name} is missing")
            if sums is not None and sha256(folder / name) != sums[name]:
                raise _Damaged(f"{name} differs from its checksum")
        plain = json.loads((folder / PLAIN).read_text(encoding="utf-8"))
        if plain["step"] != _number(folder) or not isinstance(plain.get("optimizer", {}), dict):
            raise _Damaged(f"{PLAIN} is of something else")
        if sums is None and "schema" in plain:
            raise _Damaged(f"{SUMS} is missing")
        return Checkpoint(_number(folder), folder, load_file(folder / TENSORS), plain)
    except PermissionError as error:
        raise StorageError(f"{error.filename} may not be read; give yourself the right to, and try again") from error
    except SafetensorError as error:
        raise _Damaged(f"{TENSORS} cannot be read: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _Damaged(f"{PLAIN} cannot be read: {' '.join(str(error).split())[:200]}") from error


def _sums(folder: Path) -> dict[str, str] | None:
    """The checksums of a checkpoint's two files; `None` where it has none.

    Raises:
        _Damaged: they are not what they should be.
    """
    path = folder / SUMS
    if not path.exists():
        return None
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {name: str(files[name]) for name in (TENSORS, PLAIN)}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _Damaged(f"{SUMS} cannot be read") from error


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds a checkpoint and nothing else."""
    try:
        if _sums(folder) is not None:
            return not foreign_files(folder, SUMS)
        plain = json.loads((folder / PLAIN).read_text(encoding="utf-8"))
        return plain["step"] == _number(folder) and set(foreign_files(folder)) == {TENSORS, PLAIN}
    except (_Damaged, OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
