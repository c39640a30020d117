"""Families of many models, on tiny random ones saved in a folder, or on stand-ins for packages that are not here."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import limbeck as lb
from limbeck.errors import ConfigError, MissingDependency
from limbeck.spaces.contract import check_encoder
from limbeck.spaces.encoders import hf
from limbeck.spaces.hub import licence_of
from tiny import TEXTS, TINY, loud, write_processor, write_tokenizer


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of tiny models: clip, siglip, vit, bert."""
    import transformers as t

    folders = {name: tmp_path_factory.mktemp(name) for name in ("clip", "siglip", "vit", "bert")}
    vision, text = (
        {**TINY, "image_size": 32, "patch_size": 8},
        {**TINY, "vocab_size": 20, "max_position_embeddings": 16},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ends = {"eos_token_id": 18, "bos_token_id": 2, "pad_token_id": 0}
        clip = t.CLIPConfig(text_config={**text, **ends}, vision_config=vision, projection_dim=16)
        made: dict[str, Any] = {
            "clip": t.CLIPModel(clip),
            "siglip": t.SiglipModel(t.SiglipConfig(text_config={**text, "projection_size": 32}, vision_config=vision)),
            "vit": t.ViTModel(t.ViTConfig(**vision)),
            "bert": t.BertModel(t.BertConfig(**text)),
        }
        for model in made.values():
            loud(model)
    for name, folder in folders.items():
        made[name].save_pretrained(folder)
        write_tokenizer(folder, ["input_ids"] if name == "siglip" else ["input_ids", "attention_mask"])
    crop = {"do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
    write_processor(folders["clip"], "CLIPImageProcessor", size={"shortest_edge": 32}, **crop)
    write_processor(folders["siglip"], "SiglipImageProcessor", size={"height": 32, "width": 32})
    write_processor(folders["vit"], "ViTImageProcessor", size={"height": 32, "width": 32})
    (folders["clip"] / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n# Tiny\n")
    return {name: str(folder) for name, folder in folders.items()}


IMAGES = torch.rand(3, 3, 40, 56, generator=torch.Generator().manual_seed(0))
CASES = [
    ("clip", "image"),
    ("clip", "text"),
    ("siglip", "image"),
    ("siglip", "text"),
    ("vit", "image"),
    ("bert", "text"),
]


@pytest.mark.parametrize(("model", "modality"), CASES)
def test_contract(models: dict[str, str], model: str, modality: str) -> None:
    encoder = lb.space(**{modality: f"hf:{models[model]}"})[modality]
    check_encoder(
        encoder, IMAGES if modality == "image" else TEXTS, other={"pooling": "mean"} if model != "bert" else None
    )


def test_models_of_text_alone_read_tokens(models: dict[str, str]) -> None:
    encoder = lb.space(text=f"hf:{models['bert']}")["text"]
    torch.testing.assert_close(encoder(encoder.tokens(TEXTS, 16)), encoder(TEXTS), rtol=0, atol=1e-5)
    for pooling in (None, "mean"):
        joint = lb.space(text={"name": f"hf:{models['clip']}", "pooling": pooling})["text"]
        with pytest.raises(ConfigError, match="reads no token embeddings"):
            joint.tokens(TEXTS, 16)


@pytest.mark.parametrize("model", ["clip", "siglip"])
def test_joint_features_are_the_models_own(models: dict[str, str], model: str) -> None:
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    space = lb.space(image=f"hf:{models[model]}", text=f"hf:{models[model]}")
    whole, tokenizer = AutoModel.from_pretrained(models[model]).eval(), AutoTokenizer.from_pretrained(models[model])
    processor = AutoImageProcessor.from_pretrained(models[model], use_fast=False)
    pixels = (IMAGES * 255).round().byte()
    pictures = [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in pixels]
    tokens = tokenizer(TEXTS, padding="max_length", max_length=16, return_tensors="pt")
    with torch.no_grad():
        inputs = torch.stack([torch.as_tensor(processor(images=p)["pixel_values"][0]) for p in pictures])
        seen = whole(pixel_values=inputs, **tokens)
    torch.testing.assert_close(space["text"](TEXTS), seen.text_embeds, rtol=0, atol=1e-5)
    # Random pixels are the worst case: the reference rounds each of them to 8 bits after each resizing pass.
    torch.testing.assert_close(space["image"](pixels.float() / 255), seen.image_embeds, rtol=0, atol=2e-2)
    assert space.dims["image"] == space.dims["text"] == seen.image_embeds.shape[1]


def test_pooling(models: dict[str, str]) -> None:
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(models["bert"]) for kind in (AutoModel, AutoTokenizer))
    with torch.no_grad():
        hidden = model(**tokenizer(["a red dog"], return_tensors="pt")).last_hidden_state[0]
    for pooling, expected in (("cls", hidden[0]), ("mean", hidden.mean(0)), (None, hidden.mean(0))):
        encoder = hf.HuggingFace(models["bert"], "text", pooling=pooling)
        torch.testing.assert_close(encoder(["a red dog"])[0], F.normalize(expected, dim=0), rtol=0, atol=1e-5)


def test_only_one_tower_is_kept(models: dict[str, str]) -> None:
    space = lb.space(image=f"hf:{models['clip']}", text=f"hf:{models['clip']}")
    assert not any("text" in name for name, _ in space["image"].network.named_parameters())
    assert not any("vision" in name or "visual" in name for name, _ in space["text"].network.named_parameters())


def test_the_same_weights_elsewhere_are_the_same_encoder(models: dict[str, str], tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(models["clip"], tmp_path / "elsewhere")
    here, there = (lb.space(image=f"hf:{folder}") for folder in (models["clip"], copy))
    assert here.fingerprint == there.fingerprint
    write_processor(copy, "CLIPImageProcessor", size={"height": 32, "width": 32})
    assert lb.space(image=f"hf:{copy}").fingerprint != here.fingerprint


@pytest.mark.draws_globally
def test_both_returns_of_transformers(models: dict[str, str]) -> None:
    features = torch.rand(2, 3)
    assert hf._features(features) is features
    assert hf._features(SimpleNamespace(pooler_output=features)) is features


@pytest.mark.draws_globally
def test_a_convolutional_model_is_averaged_over_positions() -> None:
    class Grid(nn.Module):
        def forward(self, pixel_values: Tensor) -> SimpleNamespace:
            return SimpleNamespace(last_hidden_state=pixel_values)

    grid = torch.rand(2, 5, 3, 3)
    torch.testing.assert_close(hf._pooled_image("cls")(Grid(), grid), grid.mean((2, 3)))


def test_licence_is_read_from_the_card(models: dict[str, str]) -> None:
    assert lb.space(image=f"hf:{models['clip']}").licences == {"image": "mit"}
    assert lb.space(image=f"hf:{models['vit']}").licences == {"image": "unknown"}
    assert licence_of("a/b/c/d") == licence_of("nobody/nothing") == "unknown"


def test_a_licence_of_another_name_is_told_by_it(tmp_path: Path) -> None:
    for front, says in (
        ("license: other\nlicense_name: 'Noto Emoji: CC BY 4.0'", "Noto Emoji: CC BY 4.0"),
        ("license: other\nlicense_link: https://example.org/terms", "https://example.org/terms"),
        ("license: [mit, apache-2.0]", "mit, apache-2.0"),
        ("license: other", "other"),
        ("tags: [a", "unknown"),
    ):
        (tmp_path / "README.md").write_text(f"---\n{front}\n---\n# A model\n")
        assert licence_of(str(tmp_path)) == says


class FakeModel(nn.Module):
    """Stands for a model of timm or open_clip; keeps what it was called with."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3 * 16 * 16, 12, generator=generator))
        self.words = nn.Parameter(torch.randn(100, 12, generator=generator))
        self.pretrained_cfg = {"license": "apache-2.0"}

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[1:] == (3, 16, 16)
        return images.flatten(1) @ self.weight

    encode_image = forward

    def encode_text(self, ids: Tensor) -> Tensor:
        return self.words[ids].mean(1)


@pytest.fixture
def fake_packages(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []
    timm, open_clip = ModuleType("timm"), ModuleType("open_clip")
    numbers = {"interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.5,) * 3}

    def create_timm(name: str, pretrained: bool, num_classes: int) -> FakeModel:
        calls.append((name, pretrained, num_classes))
        if name == "nothing":
            raise RuntimeError("Unknown model (nothing)")
        return FakeModel()

    def create_clip(name: str, pretrained: str | None) -> FakeModel:
        calls.append((name, pretrained))
        return FakeModel()

    def tokenize(texts: list[str]) -> Tensor:
        return torch.tensor([[sum(map(ord, t)) % 100, len(t) % 100] for t in texts])

    timm.create_model = create_timm  # type: ignore[attr-defined]
    config = {**numbers, "input_size": (3, 16, 16), "crop_pct": 0.9, "crop_mode": "center"}
    timm.data = SimpleNamespace(resolve_model_data_config=lambda model: config)  # type: ignore[attr-defined]
    open_clip.create_model = create_clip  # type: ignore[attr-defined]
    open_clip.get_tokenizer = lambda name: tokenize  # type: ignore[attr-defined]
    open_clip.get_model_preprocess_cfg = lambda model: {**numbers, "size": (16, 16)}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "open_clip", open_clip)
    return calls


def test_timm(fake_packages: list[Any]) -> None:
    encoder = lb.space(image="timm:resnet18.a1_in1k")["image"]
    check_encoder(encoder, IMAGES)
    assert fake_packages[0] == ("resnet18.a1_in1k", True, 0)
    assert (encoder.dim, encoder.licence) == (12, "apache-2.0")
    with pytest.raises(ConfigError, match="Unknown model"):
        _ = lb.space(image="timm:nothing")["image"].network


def test_openclip(fake_packages: list[Any]) -> None:
    space = lb.space(image="openclip:ViT-B-32/laion2b", text="openclip:ViT-B-32/laion2b")
    check_encoder(space["image"], IMAGES)
    check_encoder(space["text"], TEXTS)
    assert fake_packages[0] == ("ViT-B-32", "laion2b") and space.dims == {"image": 12, "text": 12}
    _ = lb.space(image="openclip:hf-hub:owner/model")["image"].network
    assert fake_packages[-1] == ("hf-hub:owner/model", None)
    with pytest.raises(ConfigError, match="openclip:ViT-B-32/WEIGHTS"):
        lb.space(image="openclip:ViT-B-32")


@pytest.mark.parametrize(("spec", "package"), [("timm:x", "timm"), ("openclip:x/y", "open_clip_torch")])
def test_optional_packages_are_named(spec: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, spec.split(":")[0].replace("openclip", "open_clip"), None)
    with pytest.raises(MissingDependency, match=f"pip install {package}$"):
        _ = lb.space(image=spec)["image"].network
