"""The command line: `limbeck COMMAND ...`. Only the command that is asked for is imported."""

import ast
import importlib
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck import __version__
from limbeck.commands._faults import explain
from limbeck.errors import LimbeckWarning, UnknownName
from limbeck.runtime import signals
from limbeck.terminal import note, say, visible

if TYPE_CHECKING:
    from limbeck.commands._options import Answer, Command

__all__ = ["EXIT_CODES", "commands", "help_of_line", "help_text", "main"]

EXIT_CODES = {
    0: "done",
    1: "an unexpected error, a fault of Limbeck",
    2: "an option, a name or a budget that cannot work",
    3: "data that cannot be read, or that lack what was asked of them",
    4: "an optional package is missing; the message has the command that installs it",
    5: "a run, a cache or a set on disk that is not what it should be, or that another process works on",
    6: "diverged: a value stopped being finite; the last good state is kept",
    7: "memory ran out; the message says what to lower",
    129: "stopped by SIGHUP, as when a terminal is closed; a run has saved its state",
    130: "stopped by Ctrl-C (SIGINT); a run has saved its state",
    143: "stopped by SIGTERM, as batch systems do; a run has saved its state",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code (see `EXIT_CODES`).

    Args:
        argv: the words after `limbeck`; by default those of the process, whose signals are then handled to its end.

    Example:
        >>> main(["--version"])
        limbeck 0.1.0
        0
    """
    if argv is not None:
        return _guarded(list(argv))
    signals.catch()
    try:
        return _guarded(sys.argv[1:])
    finally:
        signals.leave()


def _guarded(words: list[str]) -> int:
    """Runs a command; whatever goes wrong is a line on stderr and an exit code."""
    try:
        return _run(words)
    except KeyboardInterrupt as error:
        signals.leave(stopped=True)
        resumes = getattr(_loaded(words[0]), "resumes", "nothing is kept of it") if words[:1] else "nothing was begun"
        _complain(f"\nstopped: {resumes}")
        return error.code if isinstance(error, signals.Stopped) else 130
    except BrokenPipeError:  # the reader of a pipe has gone; there is nobody to tell
        with suppress(OSError, ValueError):  # else the end of the process would try to write what is left
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if "--debug" in words:
            raise
        explained = explain(error, words[0] if words else "")
        _complain(f"error: {str(explained).strip()}")
        return explained.exit_code


def _complain(text: str) -> None:
    with suppress(OSError, ValueError):  # the terminal may be gone
        say(text, sys.stderr)


def commands() -> dict[str, str]:
    """The names of the commands with the first sentence of each; imports none of them."""
    folder = Path(__file__).parent / "commands"
    found = {}
    for path in sorted(folder.glob("[!_]*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        found[path.stem.replace("_", "-")] = next(
            (ast.get_docstring(n) or "" for n in body if isinstance(n, ast.ClassDef)), ""
        ).split("\n")[0]
    return found


def help_of_line(words: Sequence[str]) -> str:
    """What `limbeck WORDS --help` prints."""
    if not words:
        return help_text()
    from limbeck.commands._options import help_of

    return help_of(_loaded(words[0]), words[1:]).rstrip()


def help_text() -> str:
    """What `limbeck --help` prints."""
    lines = [
        "usage: limbeck COMMAND [options]",
        "",
        "Turns a large multimodal dataset into a tiny one that trains almost as well.",
    ]
    lines += ["", "commands:", *[f"  {name:<11} {says}" for name, says in commands().items()]]
    lines += [
        "",
        "limbeck COMMAND --help tells the options of a command; every command takes --json, --verify, --limits and --debug.",
    ]
    return "\n".join([*lines, "", "exit codes:", *[f"  {code:<4} {says}" for code, says in EXIT_CODES.items()]])


def _run(words: list[str]) -> int:
    from limbeck.registry import command_line

    with command_line(words[1:]):
        return _run_within(words)


def _run_within(words: list[str]) -> int:
    if words[:1] == ["--version"]:
        say(f"limbeck {__version__}")
        return 0
    if not words or words[0] in ("-h", "--help", "help"):
        say(help_text())
        return 0
    if "-h" in words or "--help" in words:
        say(help_of_line(words))
        return 0
    from limbeck.commands._options import parse

    asked = parse(_loaded(words[0]), words[1:])
    answer = _answer(asked)
    if _is_first():
        say(_json(answer.data) if asked.json else answer.text)
    return 0


def _json(data: Any) -> str:
    """JSON that the encoding of stdout can write and that `visible` does not change."""
    text = json.dumps(data, indent=1, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(data, indent=1)
    return text if visible(text) == text else json.dumps(data, indent=1)


def _answer(asked: "Command") -> "Answer":
    from limbeck.commands._progress import Progress
    from limbeck.registry import allow

    with (
        closing(Progress()) as progress,
        _notes(),
        _limits(asked.limits),
        _verifying(asked.verify),
        allow(*asked.allow),
    ):
        return asked.execute(progress.tick if _is_first() else lambda what, done, total: None)


def _limits(factor: float | None) -> AbstractContextManager[None]:
    """The limits of the readers: of the option, else of the environment, which is looked at before anything is read."""
    from limbeck.limits import limit_factor, scaled_limits

    return scaled_limits(limit_factor() if factor is None else factor)


@contextmanager
def _verifying(asked: bool) -> Iterator[None]:
    """Says what was compared where a person asked for it."""
    if not asked:
        yield
        return
    from limbeck.data import verifying

    with verifying() as contents:
        yield
    if _is_first():
        note(f"verified {contents}")


def _is_first() -> bool:
    """Whether this process speaks for all, where `accelerate launch` started several; told without importing torch."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _notes() -> Iterator[None]:
    """Our warnings as one line on stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", LimbeckWarning)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, LimbeckWarning):
                if _is_first():
                    note(message)
            else:
                usual(message, category, *where, **more)

        warnings.showwarning = show
        yield


def _loaded(name: str) -> Any:
    """The class of a command."""
    if name not in commands():
        raise UnknownName("command", name, commands())
    module = importlib.import_module(f"limbeck.commands.{name.replace('-', '_')}")
    return getattr(module, module.__all__[0])
