"""A network by its name, or by name and width."""

from collections.abc import Callable
from functools import partial
from inspect import signature

from torch import nn

from limbeck import registry
from limbeck.errors import ConfigError

__all__ = ["check_student", "network"]


def network(spec: str) -> Callable[..., nn.Module]:
    """What builds a network, `network(spec)(resolution, generator=generator)`.

    Args:
        spec: a name, such as `resnet18`, or a name and the channels of its blocks, such as `convnet:32`.

    Raises:
        UnknownName: no such network.
        ConfigError: a width that is none, or of a network that has one width only.

    Example:
        >>> network("convnet:32")(16).dim
        512
    """
    name, width = registry.parse_spec(spec)
    found: Callable[..., nn.Module] = registry.get("network", name)
    if not width:
        return found
    if "width" not in signature(found).parameters:
        raise ConfigError(f"{name} has one width only, so nothing follows its name; got {spec!r}")
    if not (width.isascii() and width.isdigit() and int(width) > 0):
        raise ConfigError(f"the width of a network is a number of channels, as in {name}:32; got {spec!r}")
    return partial(found, width=int(width))


def check_student(name: str) -> None:
    """Refuses what is neither frozen features, nor the encoder itself, nor a network.

    Args:
        name: `"frozen"`, `"encoder"` or a network, see `network`.

    Raises:
        UnknownName: no such network.
        ConfigError: see `network`.
    """
    if name not in ("frozen", "encoder"):
        network(name)
