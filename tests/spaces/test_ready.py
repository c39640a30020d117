"""Ready spaces: one name for the encoders of all modalities of a joint model."""

from typing import Any

import pytest

import limbeck as lb
from limbeck import registry
from limbeck.errors import ConfigError, UnknownName
from limbeck.spaces.ready import READY, ready


@pytest.mark.parametrize("name", list(READY))
def test_every_name_makes_its_encoders_and_reads_nothing(name: str) -> None:
    space = lb.space(name)
    assert space.modalities == READY[name].modalities
    assert READY[name].encoder in registry.names("encoder")
    assert lb.space(**space.describe()).describe() == space.describe()
    assert not any("network" in vars(encoder) for encoder in space.encoders.values())


@pytest.mark.parametrize("name", list(READY))
def test_the_licence_that_is_listed_is_the_one_that_a_set_gets(name: str) -> None:
    """Where the encoder knows it; other models tell theirs in a card that comes with the weights."""
    assert READY[name].licence
    for licence in lb.space(name).licences.values():
        assert licence in ("unknown", READY[name].licence)
    assert "unknown" not in lb.space("imagebind").licences.values()


@pytest.mark.parametrize(
    ("spec", "modality", "expected"),
    [
        ("clip", "image", {"name": "hf:openai/clip-vit-base-patch32"}),
        ("clip:openai/clip-vit-large-patch14", "text", {"name": "hf:openai/clip-vit-large-patch14"}),
        ("clap:laion/clap-htsat-fused", "audio", {"name": "hf:laion/clap-htsat-fused"}),
        ("openclip:ViT-B-16/laion2b", "image", {"name": "openclip:ViT-B-16/laion2b"}),
        ("openclip:hf-hub:owner/model", "image", {"name": "openclip:hf-hub:owner/model"}),
        ("imagebind", "depth", {"name": "imagebind"}),
        ("imagebind:models/huge.pth", "depth", {"name": "imagebind", "weights": "models/huge.pth"}),
        ("languagebind", "text", {"name": "languagebind"}),
    ],
)
def test_specs(spec: str, modality: str, expected: dict[str, Any]) -> None:
    assert ready(spec)[modality] == expected


def test_encoders_beside_a_name() -> None:
    space = lb.space("clap", audio={"rate": 44100}, image="convnet")
    assert space.modalities == ("audio", "text", "image")
    assert space["audio"].describe()["rate"] == 44100 and space["image"].describe()["name"] == "convnet"
    assert space["audio"].describe()["name"] == space["text"].describe()["name"] == "hf:laion/clap-htsat-unfused"
    assert lb.space("clip", text=None).modalities == ("image",)
    assert lb.space("clip", text="bag_of_words")["text"].describe()["name"] == "bag_of_words"
    assert lb.space("clip", text={"name": "bag_of_words"})["text"].describe()["name"] == "bag_of_words"


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("clop", {}, UnknownName, "unknown ready space 'clop'; did you mean .*clip"),
        ("languagebind:x", {}, ConfigError, "takes nothing after a colon"),
        ("bound", {}, ConfigError, "needs a folder"),
        ("clip", {"audio": {"rate": 8000}}, ConfigError, "'clip' has no audio; it has image, text"),
        ("clip", {"image": {"sharpness": 3}}, ConfigError, "has no option sharpness"),
        ("embedding_gemma", {"text": None}, ConfigError, "an encoder or more"),
    ],
)
def test_refusals(name: str, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        lb.space(name, **options)
