"""Ready spaces: one name of a joint model for the encoders of all its modalities."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.errors import ConfigError, UnknownName
from limbeck.registry import parse_spec

__all__ = ["READY", "Ready", "ready"]


@dataclass(frozen=True)
class Ready:
    """A family of joint models.

    Args:
        encoder: the encoder that serves it.
        modalities: that it serves.
        licence: of the weights of the default checkpoint, as far as we know; a set takes what the model's card says.
        checkpoint: by default; empty where there is one model only.
        option: of the encoder, that takes what follows the colon where the encoder has no `name`.
    """

    encoder: str
    modalities: tuple[str, ...]
    licence: str
    checkpoint: str = ""
    option: str = ""

    def encoders(self, argument: str) -> dict[str, dict[str, Any]]:
        """Modality to encoder, of the model that `argument` names."""
        name = argument or self.checkpoint
        spec: dict[str, Any] = {"name": f"{self.encoder}:{name}" if name and not self.option else self.encoder}
        spec |= {self.option: argument} if self.option and argument else {}
        return {modality: dict(spec) for modality in self.modalities}


READY = {
    "clip": Ready("hf", ("image", "text"), "MIT (the code's)", "openai/clip-vit-base-patch32"),
    "siglip2": Ready("hf", ("image", "text"), "Apache-2.0", "google/siglip2-base-patch16-224"),
    "clap": Ready("hf", ("audio", "text"), "Apache-2.0", "laion/clap-htsat-unfused"),
    "pe_av": Ready("hf", ("audio", "text"), "Apache-2.0", "facebook/pe-av-small"),
    "embedding_gemma": Ready("hf", ("text",), "Apache-2.0", "google/embeddinggemma-2"),
    "openclip": Ready("openclip", ("image", "text"), "of the checkpoint", "ViT-B-32/laion2b_s34b_b79k"),
    "imagebind": Ready("imagebind", ("image", "text", "audio", "depth"), "CC-BY-NC-SA-4.0", option="weights"),
    "languagebind": Ready(
        "languagebind", ("image", "text", "audio", "depth"), "MIT (trained on VIDAL-10M, CC-BY-NC-4.0)"
    ),
}
"""Literals alone: `limbeck list` reads them from this text."""


def ready(spec: str) -> dict[str, dict[str, Any]]:
    """The encoders of a ready space, as a recipe writes them.

    Args:
        spec: a name of `READY`, or `"name:argument"`: which checkpoint (of ImageBind, which file of weights). `bound:FOLDER`
            is all modalities of a folder that `limbeck bind` wrote.

    Returns:
        modality to name and options of its encoder.

    Raises:
        UnknownName: no ready space of that name.
        ConfigError: an argument that it does not take, or one that it lacks.

    Example:
        >>> ready("clap")["text"]
        {'name': 'hf:laion/clap-htsat-unfused'}
    """
    family, argument = parse_spec(spec)
    if family == "bound":
        from limbeck.spaces.heads import read_manifest

        if not argument:
            raise ConfigError("the ready space 'bound' needs a folder, as in bound:spaces/flickr8k")
        manifest = read_manifest(Path(argument).expanduser())
        return {modality: {"name": spec} for modality in manifest["encoders"]}
    if family not in READY:
        raise UnknownName("ready space", family, [*READY, "bound"])
    found = READY[family]
    if argument and not found.checkpoint and not found.option:
        raise ConfigError(f"the ready space {family!r} takes nothing after a colon, got {spec!r}")
    return found.encoders(argument)
