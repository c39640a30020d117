"""The exception tree: every error a user can cause says what was wrong, where, and what to do.

LimbeckError
|-- ConfigError (ValueError)          an option, a name or a budget that cannot work
|   `-- UnknownName                   a name that is in no registry, with the nearest ones
|-- DataError (ValueError)            data that cannot be read, or lacks what was asked of it
|-- MissingDependency (ImportError)   an optional package, with the command that installs it
|-- StorageError (OSError)            a run, a cache or a set on disk that is not what it should be
|-- OutOfMemory (MemoryError)         memory ran out; the message says what to lower
`-- Diverged (RuntimeError)           a value stopped being finite; the last good state is kept
"""

import difflib
from collections.abc import Iterable
from typing import NamedTuple

__all__ = [
    "ConfigError",
    "DataError",
    "Diverged",
    "Fault",
    "LimbeckError",
    "LimbeckWarning",
    "MissingDependency",
    "OutOfMemory",
    "StorageError",
    "UnknownName",
]


class LimbeckError(Exception):
    """Base of everything that Limbeck raises on purpose. `exit_code` is what the command line returns."""

    exit_code = 1


class LimbeckWarning(UserWarning):
    """Something that works and will most likely disappoint; the command line prints it as a note."""


class ConfigError(LimbeckError, ValueError):
    """An option, a name or a budget that cannot work."""

    exit_code = 2


class UnknownName(ConfigError):
    """A name that is in no registry; the message lists the nearest ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}."
        super().__init__(f"unknown {kind} {name!r}; {hint}")


class DataError(LimbeckError, ValueError):
    """Data that cannot be read, or that lacks what was asked of it."""

    exit_code = 3


class MissingDependency(LimbeckError, ImportError):
    """An optional package is not installed; the message carries the command that installs it.

    Args:
        what: that needs it.
        package: its name.
        extra: the extra of ours that brings it, or, where none can, the whole command that installs it.
    """

    exit_code = 4

    def __init__(self, what: str, package: str, extra: str | None = None) -> None:
        command = f"pip install {package}"
        if extra and extra.startswith("pip "):
            command = extra
        elif extra:
            command = f"pip install 'limbeck[{extra}]' (in a clone: pip install -e '.[{extra}]')"
        super().__init__(f"{what} needs the package {package!r}, which is not installed; run: {command}")


class StorageError(LimbeckError, OSError):
    """A run folder, a cache entry or a distilled set on disk that is not what it should be."""

    exit_code = 5


class OutOfMemory(LimbeckError, MemoryError):
    """Memory of the machine or of the accelerator ran out."""

    exit_code = 7


class Diverged(LimbeckError, RuntimeError):
    """A logged value, gradient or parameter stopped being finite; the last good state is kept."""

    exit_code = 6


class Fault(NamedTuple):
    """What is wrong with a state, and what to do; a value, of which the loop makes a `Diverged` that names step and checkpoint.

    Args:
        what: is wrong.
        remedy: what to do in a new run; empty where nobody knows.
    """

    what: str
    remedy: str = ""
