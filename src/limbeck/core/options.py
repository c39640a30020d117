"""Options of a method that would be set in vain."""

from dataclasses import fields

from limbeck.core.method import Method
from limbeck.errors import ConfigError

__all__ = ["refuse_unread"]


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
