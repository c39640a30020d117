"""From whatever was raised to an error that says what is wrong and what to do."""

import errno
import os

from limbeck.errors import DataError, LimbeckError, OutOfMemory, StorageError

__all__ = ["explain"]

# What allocators say where memory runs out, in errors that are of no type of their own
MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "std::bad_alloc",
    "failed to map segment",  # a library that cannot be loaded
    "can't start new thread",
)
REMEDIES = {
    errno.ENOSPC: "free space there, or choose another place",
    errno.EDQUOT: "free space there, or choose another place",
    errno.EFBIG: "choose a place that takes files of that size, or raise ulimit -f",
    errno.EROFS: "it is read-only; choose another place",
    errno.EMFILE: "raise ulimit -n, or lower --source.workers",
    errno.ENFILE: "close other programs, or lower --source.workers",
    errno.EIO: "the disk or the network failed; look at its log, then give the same command again",
}
USUAL = "check the path, or choose another"


class _Fault(LimbeckError):
    """Nobody's mistake but ours."""


def explain(error: Exception, command: str = "") -> LimbeckError:
    """The error itself where it is one of ours; else one that has a remedy, and the exit code that goes with it.

    Args:
        error: what was raised.
        command: the name of the command.
    """
    if isinstance(error, LimbeckError):
        return error
    text = " ".join(str(error).split()) or type(error).__name__
    if is_memory(error):
        return OutOfMemory(
            f"memory ran out: {text[:300]}; lower {_heavy(command)}, or give it more memory (limbeck doctor estimates what is needed); "
            "what was saved is kept, and the same command continues"
        )
    if isinstance(error, OSError):
        where, reason = _path(error), error.strerror or text
        if isinstance(error, PermissionError):
            if where and not _readable(where):
                return DataError(
                    f"{where} may not be read; give yourself the right to (chmod u+r, of a folder u+rx), or choose other data"
                )
            return StorageError(f"{where or text}: {reason}; give yourself the right to, or choose another place")
        return StorageError(
            f"{where}: {reason}; {REMEDIES.get(error.errno or 0, USUAL)}"
            if where
            else f"{text}; {REMEDIES.get(error.errno or 0, USUAL)}"
        )
    return _Fault(f"{type(error).__name__}: {text} (a fault of Limbeck; the same command with --debug shows where)")


def is_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of an accelerator, whoever says so and in whatever type of error."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if type(error).__name__ == "OutOfMemoryError":  # of torch, which is not loaded for this
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError | ImportError | OSError) and any(words in said for words in MEMORY)


def _path(error: OSError) -> str:
    name = error.filename
    return os.fsdecode(name) if isinstance(name, str | bytes) else ""


def _readable(where: str) -> bool:
    """Whether a path may be read, or the nearest folder above it that is seen may be entered."""
    while not os.path.exists(where) and os.path.dirname(where) not in ("", where):
        where = os.path.dirname(where)
    return os.access(where, os.R_OK | os.X_OK if os.path.isdir(where) else os.R_OK)


def _heavy(command: str) -> str:
    """What of a command takes memory."""
    return {
        "distill": "--pairs, the batch of the method, --source.resolution or --source.workers",
        "compare": "--pairs, the batch of the methods, --source.resolution or --source.workers",
        "train-prior": "--batch, --vae_batch, --channels or --source.resolution",
        "bind": "--batch, --dim, --hidden or --source.resolution",
    }.get(command, "--source.resolution or --source.workers, or choose smaller encoders")
