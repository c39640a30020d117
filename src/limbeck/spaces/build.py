"""`space()`: a Space from names and options."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from limbeck import registry
from limbeck.errors import ConfigError
from limbeck.spaces.ready import ready
from limbeck.spaces.space import Encoder, Space

__all__ = ["space"]


def space(name: str | None = None, /, **encoders: str | Encoder | Mapping[str, Any] | None) -> Space:
    """A `Space` of one encoder a modality, or a ready one of a joint model by its name.

    Args:
        name: a ready space, such as `"clip"` or `"clap:laion/clap-htsat-fused"` (`limbeck.spaces.ready.READY`), or
            `"bound:FOLDER"`. With it a mapping without a name is options for its encoder, `None` leaves a modality out, and
            everything else stands in its place.
        encoders: modality to `"name"`, `"name:argument"` (what follows the colon names a model of the family),
            `{"name": ..., option: value}` as a recipe writes it, or an `Encoder`.

    Returns:
        the space; no weights are read before they are needed.

    Raises:
        UnknownName: no encoder or ready space of that name; the message lists the nearest ones.
        ConfigError: an option that the encoder does not have, or an encoder of another modality.
        MissingDependency: the encoder needs a package that is not installed.

    Example:
        >>> space(image={"name": "convnet", "width": 64}).dims
        {'image': 64}
        >>> space(text="minlm")
        Traceback (most recent call last):
        limbeck.errors.UnknownName: unknown encoder 'minlm'; did you mean minilm?
    """
    if name is not None:
        encoders = _with_ready(name, encoders)
    if not encoders:
        raise ConfigError("a space needs an encoder or more, such as space(image='efficientnet_lite0', text='minilm')")
    return Space({modality: _encoder(modality, spec) for modality, spec in encoders.items()})


def _with_ready(name: str, encoders: Mapping[str, Any]) -> dict[str, Any]:
    """The encoders of the ready space `name`, changed by what was asked for."""
    found: dict[str, Any] = dict(ready(name))
    for modality, spec in encoders.items():
        options = isinstance(spec, Mapping) and "name" not in spec
        if options and modality not in found:
            raise ConfigError(f"the ready space {name!r} has no {modality}; it has {', '.join(found)}")
        found[modality] = {**found[modality], **spec} if options else spec
    return {modality: spec for modality, spec in found.items() if spec is not None}


def _encoder(modality: str, spec: Any) -> Encoder:
    if isinstance(spec, Encoder):
        return spec
    if not isinstance(spec, str | Mapping):
        raise ConfigError(f"the {modality} encoder is a name, a mapping or an Encoder, got {spec!r}")
    options = {} if isinstance(spec, str) else dict(spec)
    given = spec if isinstance(spec, str) else options.pop("name", None)
    if not isinstance(given, str) or not given:
        known_names = ", ".join(registry.names("encoder"))
        raise ConfigError(f"the {modality} encoder needs a name, got {spec!r}; known: {known_names}")
    found, named = registry.named("encoder", given)
    family, known = registry.parse_spec(given)[0], [f.name for f in fields(found) if f.init]
    wrong = sorted(set(options) - set(known))
    if wrong:
        listed = ", ".join(k for k in known if k not in ("name", "modality")) or "none"
        raise ConfigError(f"the encoder {family!r} has no option {', '.join(wrong)}; its options: {listed}")
    registry.check_options(found, options, f"the encoder {family!r}")
    if "modality" in known:
        options.setdefault("modality", modality)
    return found(**options, **named)  # type: ignore[no-any-return]
