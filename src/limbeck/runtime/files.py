"""Files and folders written whole or not at all, and the only place that removes folders.

Whatever is written is made in a work folder beside its place, `.limbeck-work-` and eight hex digits, flushed to the disk, and
put into its place by one rename. A work folder holds `owner.json`, locked by the process that made it. Only a folder of that
name, with that file, whose lock nobody has, is ever swept.
"""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from limbeck.errors import LimbeckError, StorageError
from limbeck.runtime.locks import LOCK, guard, is_mine, lock, unlock

__all__ = [
    "WORK",
    "checksums",
    "flush",
    "foreign_files",
    "save_tensors",
    "settle",
    "settle_within",
    "sha256",
    "whole_file",
    "whole_folder",
    "work_folder",
    "write_bytes",
    "write_text",
    "writing",
]

WORK = re.compile(r"\.limbeck-work-[0-9a-f]{8}")
OWNER = "owner.json"  # in a work folder: what it is for
REMEDY = "free space there, or choose another place"
GONE = "if something removed it meanwhile, give the same command again; else "


@contextmanager
def writing(path: Path, remedy: str = REMEDY) -> Iterator[None]:
    """Turns what the file system refuses, also as libraries tell it, into a `StorageError` that names the path and the remedy."""
    from safetensors import SafetensorError

    try:
        yield
    except LimbeckError:
        raise
    except (OSError, SafetensorError) as error:  # errors of input and output of safetensors are no OSError
        gone = GONE if isinstance(error, FileNotFoundError) else ""
        raise StorageError(f"{path} cannot be written: {error}; {gone}{remedy}") from error


@contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, gone at the end; those of dead processes beside it go first.

    Args:
        target: what is made in it; its parents are made.
    """
    parent = target.parent
    parent.mkdir(parents=True, exist_ok=True)
    settle(target)
    folder, descriptor = _locked_folder(parent)
    try:
        if descriptor is not None:  # written once it is locked: what holds it unlocked is of the dead
            os.write(descriptor, json.dumps({"limbeck": "work", "target": target.name}).encode())
        yield folder
    finally:
        if (folder / "old").exists() and not target.exists():  # stopped between the two renames of `whole_folder`
            os.replace(folder / "old", target)
        _remove(folder, descriptor)  # ours: it was made above, under a name that did not exist


def _locked_folder(parent: Path) -> tuple[Path, int | None]:
    """A new work folder and the descriptor of its lock; without one where the file system has no locks: it is never swept."""
    while True:
        folder = parent / f".limbeck-work-{uuid.uuid4().hex[:8]}"
        folder.mkdir()  # not mkdtemp: whoever may read the parent may read what is made
        try:
            descriptor = lock(folder / OWNER)
        except FileNotFoundError:  # another process has taken the folder, still empty, for one of the dead
            continue
        except OSError:
            return folder, None
        if descriptor is not None:
            return folder, descriptor


def settle(target: Path) -> None:
    """Ends what dead processes left beside `target`: removes their work folders, and puts back what they were to replace."""
    try:
        left = [p for p in target.parent.iterdir() if WORK.fullmatch(p.name)]
    except OSError:
        return
    for folder in left:
        with guard, suppress(OSError):
            owner = folder / OWNER
            name = _target_of(owner)
            if folder.is_symlink() or is_mine(owner) or not (name or _is_empty(folder)):
                continue
            if (descriptor := lock(owner)) is None:
                continue
            if name is None:  # killed before it wrote whose it is
                unlock(owner, descriptor)
                folder.rmdir()  # which takes nothing but an empty folder
                continue
            try:
                if (folder / "old").exists() and not (target.parent / name).exists():
                    os.replace(folder / "old", target.parent / name)
            finally:
                _remove(folder, descriptor)  # ours: its name, its owner.json, and nobody alive has it


def settle_within(folder: Path) -> None:
    """`settle` for everything in a folder and in the folders right below it; a folder that may only be read stays as it is."""
    with suppress(OSError):
        for place in (folder, *(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink())):
            if not WORK.fullmatch(place.name):
                settle(place / "any")


def _remove(folder: Path, descriptor: int | None) -> None:
    """Removes a work folder that this process has; what says whose it is goes last, so that another one can go on with it."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != OWNER:
            path.unlink(missing_ok=True)
    if descriptor is not None:
        unlock(folder / OWNER, descriptor)
    shutil.rmtree(folder, ignore_errors=True)


def _is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing, or an `owner.json` without a byte."""
    return all(p.name == OWNER and not p.is_symlink() and p.stat().st_size == 0 for p in folder.iterdir())


def _target_of(owner: Path) -> str | None:
    """The name of what a work folder was made for; `None` where `owner.json` is not one of ours."""
    try:
        facts = json.loads(owner.read_text(encoding="utf-8"))
        name = str(facts["target"]) if facts["limbeck"] == "work" else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return name if name and "/" not in name and name not in (".", "..") else None


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Lends a path to write a file at; it appears at `path`, in place of the file there, by one rename. Links are followed.

    Raises:
        StorageError: it cannot be written, or what is there is no file.
    """
    path = _followed(path)
    if os.path.lexists(path) and not path.is_file():
        raise StorageError(f"{path} is not a file; choose another path")
    with writing(path), work_folder(path) as work:
        made = work / f"new{path.suffix}"
        yield made
        flush(made)
        os.replace(made, path)  # a file, which the caller was told to write
        _flush_folder(path.parent)


@contextmanager
def whole_folder(final: Path, manifest: str | None = None) -> Iterator[Path]:
    """Lends an empty folder that takes the place of `final` at the end; an error inside leaves `final` as it was. Links are followed.

    Args:
        final: which appears; it may be empty already. With `manifest` a folder of ours is replaced.
        manifest: name of the JSON file of such a folder whose `files` name all that is ours in it.

    Raises:
        StorageError: `final` holds what is not ours, or cannot be written.
    """
    final = _followed(final)
    with writing(final):
        if os.path.lexists(final) and (foreign := foreign_files(final, manifest)):
            raise StorageError(
                f"{final} holds {', '.join(foreign[:3])}, which is not part of what is written there; choose another folder"
            )
        with work_folder(final) as work:
            made = work / "new"
            made.mkdir()
            yield made
            flush_all(made)
            if final.exists():  # holds nothing but ours, see above
                os.replace(final, work / "old")
            try:
                os.replace(made, final)
            except OSError:
                if (work / "old").exists():
                    os.replace(work / "old", final)
                raise
            _flush_folder(final.parent)


def foreign_files(folder: Path, manifest: str | None = None, ours: Collection[str] = ()) -> list[str]:
    """What lies in `folder`, files and empty folders, that its manifest does not name; with `manifest=None` whatever lies there.

    Args:
        folder: a folder; of a file or a link the answer is its name.
        manifest: the JSON file in it whose `files` (a list, or the keys of a mapping) are names relative to the folder, and
            which has a `schema` or says `limbeck`, as ours do.
        ours: names that are of ours also where the manifest does not say so.
    """
    if folder.is_symlink() or not folder.is_dir():
        return [folder.name]
    known: set[str] = {LOCK, *ours}
    if manifest is not None and (folder / manifest).is_file():
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            facts = json.loads((folder / manifest).read_text(encoding="utf-8"))
            if {"schema", "limbeck"} & set(facts):  # others have files of that name, too
                known |= {manifest, *map(str, facts["files"])}
    folders = {parent.as_posix() for name in known for parent in PurePosixPath(name).parents}
    foreign = []
    for path in folder.rglob("*"):
        name, inner = path.relative_to(folder).as_posix(), path.is_dir() and not path.is_symlink()
        if name not in known and not (inner and (name in folders or any(path.iterdir()))):
            foreign.append(name)
    return sorted(foreign)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    with whole_file(path) as made:
        made.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes a text file, UTF-8, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    write_bytes(path, text.encode("utf-8"))


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes named tensors to a safetensors file with the mode that the umask says.

    Call it within `whole_folder`, `whole_file` or `writing`, which turn its errors into those that name the place and the remedy.
    """
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode & 0o777
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path)
    path.chmod(mode)  # safetensors makes files that only their owner reads


def checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, by its relative name; not of its lock."""
    return {p.relative_to(folder).as_posix(): sha256(p) for p in _files(folder)}


def sha256(path: Path) -> str:
    """The hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _followed(path: Path) -> Path:
    """The absolute path, with a link at its end followed: what it leads to is written, and the link stays."""
    return path.resolve() if path.is_symlink() else path.absolute()


def flush(path: Path) -> None:
    """Sees to it that a file's bytes, or a folder's names, are on the disk."""
    if path.is_dir():
        _flush_folder(path)
    elif not path.is_symlink():
        with path.open("r+b" if os.name == "nt" else "rb") as file:  # Windows flushes only what can be written
            os.fsync(file.fileno())


def flush_all(folder: Path) -> None:
    """Sees to it that everything below a folder is on the disk."""
    for path in _files(folder):
        flush(path)
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            flush(path)
    flush(folder)


def _files(folder: Path) -> list[Path]:
    """Every file below a folder but its lock, which must not be opened: closing it again would give it up."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != LOCK)


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    with suppress(OSError):  # some network file systems flush no folders
        descriptor: Any = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
