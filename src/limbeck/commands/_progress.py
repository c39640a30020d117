"""Progress on stderr: bars with the time left in a terminal, a plain line every ten seconds elsewhere."""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

from limbeck.terminal import say, visible

__all__ = ["Progress"]


@runtime_checkable
class Stream(Protocol):
    """What progress is written to: stderr, or what a test reads."""

    def write(self, text: str, /) -> int: ...

    def flush(self) -> None: ...

    def isatty(self) -> bool: ...


class Progress:
    """Shows what `tick(what, done, total)` reports, until it is closed.

    A `what` that is done leaves the screen. One that has a total of 1 only announces itself and leaves with the next.

    Args:
        stream: where to write.
        every: seconds between plain lines.
        clock: seconds, for tests.
    """

    def __init__(
        self, stream: Stream | None = None, every: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stream: Any = stream or sys.stderr
        self.every, self.clock = every, clock
        self._bars: Any = None
        self._tasks: dict[str, tuple[Any, int]] = {}
        self._started: dict[str, tuple[float, int]] = {}
        self._said = clock()

    def close(self) -> None:
        """Takes the bars off the screen."""
        if self._bars is not None:
            with suppress(OSError, ValueError):
                self._bars.stop()

    def tick(self, what: str, done: int, total: int) -> None:
        """Reports that `done` of `total` pieces of `what` are done."""
        now, what = self.clock(), visible(what)
        if what not in self._started or done < self._started[what][1]:
            self._started[what] = (now, done)
        with suppress(OSError, ValueError):  # a terminal that was closed stops no work
            if self.stream.isatty():
                self._draw(what, done, total)
            elif now - self._said >= self.every and total > 1:
                self._said = now
                say(f"{what} {done}/{total}{self._left(what, done, total, now)}", self.stream)
        if done >= total:
            del self._started[what]

    def _left(self, what: str, done: int, total: int, now: float) -> str:
        start, first = self._started[what]
        if done <= first or done >= total:
            return ""
        seconds = round((now - start) / (done - first) * (total - done))
        return f", {seconds // 60} min {seconds % 60} s left" if seconds >= 60 else f", {seconds} s left"

    def _draw(self, what: str, done: int, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        if self._bars is None:
            columns = [
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            ]
            left = [TextColumn("left"), TimeRemainingColumn()]
            self._bars = Bars(*columns, *left, console=Console(file=self.stream), transient=True)
            self._bars.start()
        for other in [other for other, (_, length) in self._tasks.items() if other != what and length == 1]:
            self._bars.remove_task(self._tasks.pop(other)[0])
        if what not in self._tasks:
            self._tasks[what] = (self._bars.add_task(what, total=total), total)
        self._bars.update(self._tasks[what][0], completed=done, total=total)
        if done >= total:
            self._bars.remove_task(self._tasks.pop(what)[0])
