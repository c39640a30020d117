"""What methods refuse alike: options that would be set in vain, modalities that would be left as they were."""

from dataclasses import fields

from limbeck.core.method import Method
from limbeck.core.problem import Problem
from limbeck.errors import ConfigError, DataError

__all__ = ["refuse_others", "refuse_unread"]


def refuse_others(method: Method, problem: Problem, matched: dict[str, str], instead: str = "") -> None:
    """Refuses modalities that a method would leave as they were; for `check`.

    Args:
        method: which.
        problem: whose modalities.
        matched: those that it matches, each with its name in the message.
        instead: what else can be done than to leave the others out.

    Raises:
        DataError: names them, and how to leave them out.
    """
    if others := [m for m in problem.modalities if m not in matched]:
        raise DataError(
            f"{method.describe()['name']} matches {' and '.join(matched.values())}, and would leave {' and '.join(others)} as it was; "
            f"{instead}leave it out with {' '.join(f'--space.{m} none' for m in others)}"
        )


def refuse_unread(method: Method, why: str, *names: str) -> None:
    """Refuses options that were given and have no say; for `__post_init__`.

    Args:
        method: whose options.
        why: where they have none, and what to do: "frequencies are banked; leave it out, or set bank to 0".
        names: the options, each of which must be as by default.

    Raises:
        ConfigError: names the first that is not.
    """
    defaults = {field.name: field.default for field in fields(method)}
    if given := [name for name in names if getattr(method, name) != defaults[name]]:
        raise ConfigError(f"{given[0]} = {getattr(method, given[0])!r} has no say where {why}")
