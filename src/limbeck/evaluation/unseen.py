"""Encoders that a set is judged with beside those of its space, and whether one took part in making it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from limbeck import registry
from limbeck.data.source import Source
from limbeck.errors import ConfigError, LimbeckError
from limbeck.evaluation.protocol import Protocol
from limbeck.spaces import Encoder, Space
from limbeck.spaces.build import space
from limbeck.spaces.image_like import IMAGE_LIKE

__all__ = ["Maker", "Spec", "Unseen", "home_name", "open_unseen", "refuse_seen", "refuse_unread"]

Spec = str | Encoder | Mapping[str, Any]


@dataclass(frozen=True)
class Maker:
    """What made a set, as its recipe says.

    Args:
        encoders: modality to encoder with its options.
        method: name and options; one that names an encoder counts.
        small: the set, where somebody else may have written the recipe.
    """

    encoders: Mapping[str, Any]
    method: Mapping[str, Any]
    small: Source | None = None

    @classmethod
    def of(cls, small: Source) -> "Maker | None":
        """What made a set; `None` of real data."""
        if small.recipe is None:
            return None
        return cls(small.recipe.space, small.recipe.method, small)

    def used(self, encoder: Encoder) -> bool:
        """Whether a network of `encoder` has the weights of one that made the set, each alone or as a part of others.

        One that the recipe names and that cannot be opened here is compared by its name.

        Example:
            >>> maker = Maker({"image": {"name": "convnet", "seed": 1}}, {})
            >>> [maker.used(space(image={"name": "convnet", "seed": seed})["image"]) for seed in (0, 1)]
            [False, True]
        """
        mine = encoder.all_weights
        for modality, described in [*self.encoders.items(), *(("image", named) for named in _named(self.method))]:
            try:
                if self.small is not None:
                    self.small.refuse_strangers("encoder", {modality: described}, "")
                same = bool(mine & _weights_of(modality, json.dumps(described, sort_keys=True)))
            except LimbeckError:
                same = described["name"] in {part.describe()["name"] for part in (encoder, *encoder.parts)}
            if same:
                return True
        return False


@dataclass(frozen=True)
class Unseen:
    """An encoder that stands in for that of a space.

    Args:
        name: in tables; with the modality before it where that is not image.
        modality: whose encoder it takes the place of.
        encoder: the encoder.
    """

    name: str
    modality: str
    encoder: Encoder

    def within(self, home: Space) -> Space:
        """The space with this encoder in the place of its own; the others stay, that of texts among them."""
        return Space({**home.encoders, self.modality: self.encoder})


def open_unseen(specs: Sequence[Spec], home: Space) -> tuple[Unseen, ...]:
    """The encoders that `specs` name, with their weights.

    Args:
        specs: a name of an image encoder, `"MODALITY:NAME"` of another modality, a mapping of such a name and options, or an encoder.
        home: the space whose encoders they stand in for.

    Raises:
        UnknownName: no encoder of that name.
        ConfigError: one of texts or of another modality, of a modality that the space lacks, one that is the space's own, or one twice.
        MissingDependency: its weights are not installed.

    Example:
        >>> [other.name for other in open_unseen([{"name": "convnet", "seed": 1}], space(image="convnet"))]
        ['convnet(seed=1)']
    """
    found: list[Unseen] = []
    for spec in [specs] if isinstance(specs, str) else specs:
        other = _open(spec, home)
        twice = [one for one in found if (one.modality, one.encoder) == (other.modality, other.encoder)]
        if twice:
            raise ConfigError(f"the unseen encoder {other.name} is named twice; name each once")
        if other.encoder.all_weights & home[other.modality].all_weights:
            raise ConfigError(
                f"{other.name} has weights of the space's own {other.modality} encoder, {home[other.modality].describe()['name']}, so it "
                "is not unseen; name another with --unseen (in Python unseen=)"
            )
        found.append(other)
    return tuple(found)


def _open(spec: Spec, home: Space) -> Unseen:
    if isinstance(spec, Encoder):
        modality, encoder = spec.modality, spec
    else:
        options = dict(spec) if isinstance(spec, Mapping) else {}
        modality, name = _split(str(options.pop("name", "")) if isinstance(spec, Mapping) else spec)
        encoder = space(**{modality: {"name": name, **options}})[modality]
    label = _label(encoder) if modality == "image" else f"{modality}:{_label(encoder)}"
    if modality not in IMAGE_LIKE:
        raise ConfigError(
            f"--unseen takes encoders of {', '.join(IMAGE_LIKE)}, got {label}: a text that a set learned belongs to its own encoder"
        )
    if modality not in home:
        held = [m for m in home.modalities if m in IMAGE_LIKE]
        remedy = f"write --unseen {held[0]}:{label}" if held and modality == "image" else "leave it out"
        raise ConfigError(
            f"the unseen encoder {label} would stand in for that of {modality}, and the space encodes "
            f"{', '.join(home.modalities)}; {remedy}"
        )
    encoder.weights  # noqa: B018  reads the weights: what is not installed is refused before data are encoded
    return Unseen(label, modality, encoder)


def _split(name: str) -> tuple[str, str]:
    """Modality and encoder of `MODALITY:NAME`; a plain name is one of images."""
    first, colon, rest = name.partition(":")
    return (first, rest) if colon and first in (*IMAGE_LIKE, "text") else ("image", name)


def _label(encoder: Encoder) -> str:
    """The name of an encoder, and the options that are not its default."""
    changed = [
        f"{f.name}={getattr(encoder, f.name)}"
        for f in fields(encoder)
        if f.name not in ("name", "modality") and getattr(encoder, f.name) != f.default
    ]
    return str(encoder.describe()["name"]) + (f"({', '.join(changed)})" if changed else "")


def home_name(home: Space, protocol: Protocol) -> str:
    """The names of the encoders that a student reads of a space, but that of texts; with their modalities where these are several."""
    read = {m: _label(home[m]) for m in home.modalities if m in IMAGE_LIKE and protocol.reads(m)}
    return next(iter(read.values())) if len(read) == 1 else ", ".join(f"{m}:{name}" for m, name in read.items())


def refuse_unread(unseen: Sequence[Unseen], protocols: Sequence[Protocol]) -> None:
    """Refuses encoders that no student would read.

    Raises:
        ConfigError: all students see that modality as pixels.
    """
    for other in unseen:
        if not any(protocol.reads(other.modality) for protocol in protocols):
            students = ", ".join(dict.fromkeys(protocol.student for protocol in protocols))
            raise ConfigError(
                f"students {students} learn {other.modality} from pixels and read no encoder of it, so {other.name} changes "
                "nothing; leave --unseen out, or judge with the student frozen or encoder as well"
            )


def refuse_seen(unseen: Sequence[Unseen], makers: Sequence[Maker | None]) -> None:
    """Refuses encoders that took part in making every set.

    Args:
        unseen: the encoders.
        makers: what made each set; `None` for real data.

    Raises:
        ConfigError: one took part in all of them.
    """
    for other in unseen:
        if makers and all(maker is not None and maker.used(other.encoder) for maker in makers):
            raise ConfigError(
                f"{other.name} took part in making every set of this comparison, so it is unseen by none; name another with "
                "--unseen (in Python unseen=)"
            )


@cache
def _weights_of(modality: str, described: str) -> frozenset[str]:
    """Digests of the weights of an encoder as a recipe writes it."""
    return space(**{modality: json.loads(described)})[modality].all_weights


def _named(value: Any) -> Iterator[Mapping[str, Any]]:
    """The encoders that the options of a method name; names that are of a network as well are of a random one."""
    if isinstance(value, str):
        try:
            family, _ = registry.parse_spec(value)
        except ConfigError:
            return
        if family in set(registry.names("encoder")) - set(registry.names("network")):
            yield {"name": value}
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _named(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _named(part)
