"""Ctrl-C, SIGTERM and SIGHUP: a loop that keeps checkpoints ends its step and saves, and the command ends with a code of its own.

Only the command line catches signals (`catch`), in the main thread; a program that imports Limbeck keeps its own handlers.
"""

import _thread
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

__all__ = ["Stopped", "asked", "catch", "deferred", "leave"]

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
AGAIN = 5.0  # seconds in which a repeated SIGTERM or SIGHUP is the same request: `timeout` and launchers send two


class Stopped(KeyboardInterrupt):
    """A signal asks this process to stop.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number, self.code = signal.Signals(number), 128 + number


class _State:
    process = 0  # that catches signals; what it forks does not
    waiting = 0  # loops that stop by themselves
    number: int | None = None  # of the first signal
    since = 0.0
    leaving = False


_state = _State()


def catch() -> None:
    """Handles the signals from now on to the end of the process, but for those that it was started to ignore (`nohup`)."""
    _state.process = os.getpid()
    for name in NAMES:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            with suppress(ValueError):  # not the main thread
                signal.signal(number, _handle)
    usual = sys.unraisablehook

    def unraisable(what: Any) -> None:
        if isinstance(what.exc_value, Stopped) and not _state.leaving:  # within a callback that lets no error out
            _state.number = None
            _thread.interrupt_main(what.exc_value.number)
        else:
            usual(what)

    sys.unraisablehook = unraisable


def leave(stopped: bool = False) -> None:
    """Says that the command is over: SIGTERM and SIGHUP end the process at once, and quietly; so does Ctrl-C.

    Args:
        stopped: a signal has ended the command: another Ctrl-C changes nothing.
    """
    _state.leaving = True
    if stopped and _state.process == os.getpid():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def asked() -> bool:
    """Whether a signal waits for a loop to stop."""
    return _state.number is not None


@contextmanager
def deferred() -> Iterator[None]:
    """Lets the first signal wait until a loop has looked at `asked`, where its state is whole; a second one does not wait.

    The loop saves, and leaves by raising `Stopped`, which the end of this context does too, where a signal waits.
    """
    _state.waiting += 1
    try:
        yield
    finally:
        _state.waiting -= 1
    if _state.number is not None and not _state.waiting:
        raise Stopped(_state.number)


def _handle(number: int, frame: Any) -> None:
    if os.getpid() != _state.process:  # a worker that was forked ends as if nothing were caught
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        signal.raise_signal(number)
        return
    first, now = _state.number is None, time.monotonic()
    if not first and number != signal.SIGINT and now - _state.since < AGAIN:
        return
    if _state.leaving:
        os._exit(128 + number)
    if first:
        _state.number, _state.since = number, now
        if _state.waiting:
            with suppress(OSError):  # the terminal may be gone; `print` must not be called here
                os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")
            return
    raise Stopped(number)
