"""One owner of a folder at a time: a lock that its process cannot outlive."""

import errno
import json
import os
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from limbeck.errors import LimbeckWarning, StorageError

__all__ = ["LOCK", "guard", "is_mine", "lock", "owned", "unlock"]

LOCK = ".limbeck-lock"  # in a folder that one process at a time works on
BUSY = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_mine: dict[
    str, int
] = {}  # real path of each lock of this process to the process that took it: a fork has none of them
guard = threading.RLock()
"""Held by whoever opens a lock file: the first descriptor of a process that is closed drops the lock of all of them."""


def is_mine(path: Path) -> bool:
    """Whether this process has the lock; then the file must not be opened here."""
    return _mine.get(os.path.realpath(path)) == os.getpid()


def lock(path: Path) -> int | None:
    """Takes the lock file `path`, which is made; returns its descriptor, for `unlock`, or `None` where another has it.

    It is a POSIX record lock (on Windows a lock of one byte): the system drops it when the process ends, however it ends, child
    processes do not inherit it, and NFS with its lock service carries it to other machines.

    Raises:
        OSError: the file cannot be made, or the file system knows no locks.
    """
    with guard:
        while not is_mine(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            try:
                _take(descriptor)
            except OSError as error:
                os.close(descriptor)
                if error.errno in BUSY:
                    return None
                raise
            if _same(descriptor, path):
                _mine[os.path.realpath(path)] = os.getpid()
                return descriptor
            os.close(descriptor)  # its owner has removed the file meanwhile
        return None


def unlock(path: Path, descriptor: int) -> None:
    """Gives back what `lock` took, and removes the file."""
    with guard:
        _mine.pop(os.path.realpath(path), None)
        ours = _same(descriptor, path)  # else the folder was replaced, and the file in its place is of another process
        if os.name == "nt":  # which removes no open file
            os.close(descriptor)
        with suppress(OSError):  # while the lock still stands: who waits for it sees that the file is another
            if ours:
                path.unlink(missing_ok=True)
        if os.name != "nt":
            os.close(descriptor)


@contextmanager
def owned(folder: Path, doing: str, *, beside: bool = False) -> Iterator[None]:
    """Makes this process the only one that works on `folder`, which is made where it is not there.

    File systems without locks (some network mounts and FUSE) are worked on without one, with a warning.

    Args:
        folder: which others must not write into.
        doing: what this process does there, for the message that another one gets (`distil`).
        beside: the folder will be replaced whole: the lock lies beside it, and the folder is not made.

    Raises:
        StorageError: another process works on it, the message says which, since when, and what to do; or it cannot be written.
    """
    path = folder.with_name(f"{LOCK}-{folder.name}") if beside else folder / LOCK
    fresh = not beside and not folder.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = lock(path)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL):
            raise StorageError(
                f"{folder} cannot be written: {error}; free space there, or choose a folder that you may write"
            ) from error
        warnings.warn(
            f"{folder} lies on a file system without locks: see to it that no second process works on it",
            LimbeckWarning,
            stacklevel=3,
        )
        yield
        return
    if descriptor is None:
        raise StorageError(
            f"{folder} is in use by {_owner(path)}; wait until it ends, stop it, or choose another folder"
        )
    try:
        facts = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": _now(),
            "doing": doing,
            "argv": sys.argv[:9],
        }
        with suppress(OSError):  # a full disk: the lock stands, and who is refused learns less
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(facts).encode())
        yield
    finally:
        unlock(path, descriptor)
        if fresh:
            with suppress(
                OSError
            ):  # it is removed only where it is empty: the work was refused before it wrote anything
                folder.rmdir()


def _take(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, 2**20, os.SEEK_SET)  # beyond what the file says, which others read
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _same(descriptor: int, path: Path) -> bool:
    try:
        here, there = os.fstat(descriptor), os.stat(path)
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino) or os.name == "nt"


def _owner(path: Path) -> str:
    """Who has the lock, in words, as far as its file says so."""
    if is_mine(path):
        return "this process itself"
    try:
        facts: Any = json.loads(path.read_text(encoding="utf-8"))
        return f"process {facts['pid']} on {facts['host']} ({facts['doing']}, since {facts['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
