"""What a set or a space that somebody else made may have opened: what comes with Limbeck, and what a person named or allowed.

A set names the data and the encoders that it was made with, and `evaluate` and `audit` open them by default. What lies elsewhere (a
folder, a model on the hub, a plug-in) is opened for a set that this machine made, which the cache remembers by the digest of its
recipe; for any other set only if it is named on the command line or within `limbeck.allow`.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from limbeck.errors import ConfigError, StorageError
from limbeck.registry import is_allowed, parse_spec
from limbeck.runtime.cache import Cache, digest
from limbeck.runtime.files import settle, write_text

__all__ = ["check_named", "named_elsewhere", "remember"]

OURS = {
    "source": {"demo", "scenes"},
    "encoder": {
        "bag_of_words",
        "convnet",
        "efficientnet_lite0",
        "efficientnet_lite2",
        "minilm",
        "mobilenet_v2",
        "vectors",
    },
}
"""Names that read nothing but what was installed with them."""
KIND = "made"  # in the cache: empty files, named by digests


def remember(facts: Any) -> None:
    """Notes in the cache that this machine made something: what it names was named by the person who made it.

    Args:
        facts: JSON types that say what was made, such as a recipe.
    """
    path = Cache().root / KIND / digest(facts)
    with suppress(StorageError, OSError):  # without it a person is asked for --allow, no more
        if path.exists():
            settle(path)  # a process that was killed behind its rename left its work folder
        else:
            write_text(path, "")


def named_elsewhere(kind: str, things: Mapping[str, Any]) -> list[str]:
    """Which of these things read what did not come with Limbeck.

    Args:
        kind: `"source"` or `"encoder"`.
        things: by what they are for; each a mapping with `"name"`, as a recipe writes it.

    Example:
        >>> named_elsewhere("encoder", {"image": {"name": "convnet"}, "text": {"name": "hf:some/model"}})
        ['hf:some/model']
    """
    return list(
        dict.fromkeys(name for thing in things.values() for name in _elsewhere(kind, str(thing.get("name", ""))))
    )


def _elsewhere(kind: str, name: str) -> Iterator[str]:
    family, argument = parse_spec(name)
    if kind == "encoder" and family in ("ensemble", "pool"):
        for part in argument.split("+"):
            yield from _elsewhere(kind, part)
    elif family not in OURS[kind]:
        yield name


def check_named(owner: str, facts: Any, kind: str, things: Mapping[str, Any], instead: str) -> list[str]:
    """Refuses what a file names and nobody allowed.

    Args:
        owner: what the file describes, as a person calls it.
        facts: of what was made, as they were remembered.
        kind: `"source"` or `"encoder"`.
        things: that the file names; see `named_elsewhere`.
        instead: the option that names one in its place.

    Returns:
        those that read what did not come with Limbeck, all of them allowed.

    Raises:
        ConfigError: one is not allowed, and this machine did not make the set.
    """
    found = named_elsewhere(kind, things)
    refused = [name for name in found if not is_allowed(name)]
    if refused and not (Cache().root / KIND / digest(facts)).is_file():
        raise ConfigError(
            f"{owner} was not made here, and names {', '.join(refused)}, which it would have opened; if you trust it, say so: "
            f"{' '.join(f'--allow {name}' for name in refused)} (in Python: with limbeck.allow({refused[0]!r}, ...)), or {instead}"
        )
    return found
