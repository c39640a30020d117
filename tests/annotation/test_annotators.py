"""Captioners and segmenters one by one; those of transformers on tiny random models in a folder."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from annotators import disc
from limbeck import registry
from limbeck.annotation import Captioner, Segmenter
from limbeck.annotation.captioners.hf import HuggingFace as Captions
from limbeck.annotation.captioners.template import Template
from limbeck.annotation.segmenters.grabcut import GrabCut
from limbeck.annotation.segmenters.hf import HuggingFace as Masks
from limbeck.errors import ConfigError, MissingDependency
from tiny import TINY, WORDS, loud, write_processor, write_tokenizer

IMAGES = [disc(i, size) for i, size in enumerate(((50, 40), (20, 32), (64, 64)))]
NONE = [None, None, None]
VISION = {**TINY, "image_size": 32, "patch_size": 8}
TOKENS = {"bos_token_id": 2, "eos_token_id": len(WORDS) + 3, "pad_token_id": 0}
LABELS = {0: "background", 1: "dog", 2: "traffic light"}


@pytest.mark.parametrize("kind", ["captioner", "segmenter"])
def test_every_registered_one_keeps_its_kind(kind: str) -> None:
    for name in registry.names(kind):
        found = registry.get(kind, name)
        many = any(field.name == "name" for field in fields(found))
        made = found(**({"name": "a/model"} if many else {}))
        assert isinstance(made, Captioner if kind == "captioner" else Segmenter)
        assert made.what and made.describe()["name"] == (f"{name}:a/model" if many else name)


def test_template_puts_the_class_into_a_sentence() -> None:
    assert Template("{class}: a {class}!").caption(NONE[:2], ["hot_dog", None]) == ["hot dog: a hot dog!", ""]
    assert "class word and nothing else" in Template().what
    with pytest.raises(ConfigError, match=r"needs \{class\} in the place of the class, got 'a photo'"):
        Template("a photo")


def test_grabcut_finds_a_disc_and_is_deterministic() -> None:
    pytest.importorskip("cv2", reason="needs the masks extra")
    large = disc(0, (600, 400))
    for image in (*IMAGES, large):
        (mask,) = GrabCut().segment([image], [None])
        true = np.asarray(image)[..., 0].astype(int) - np.asarray(image)[..., 1] > 100
        assert mask.shape == true.shape and mask.dtype == bool
        assert (mask & true).sum() / (mask | true).sum() > 0.9
    assert all(map(np.array_equal, GrabCut().segment(IMAGES, NONE), GrabCut().segment(IMAGES, NONE)))
    small = GrabCut(inset=0.3).segment([disc(0, (40, 40))], [None])[0]
    assert not small[:, :12].any() and not small[28:].any()  # outside of the rectangle is background


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (3, 3), (40, 40)])
def test_grabcut_finds_nothing_in_what_is_plain_or_too_small(size: tuple[int, int]) -> None:
    pytest.importorskip("cv2", reason="needs the masks extra")
    (mask,) = GrabCut().segment([Image.new("RGB", size, "teal")], [None])
    assert mask.shape == size[::-1] and (not mask.any() or size == (40, 40))


def test_grabcut_refuses_what_cannot_be_and_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for options in ({"inset": 0.0}, {"inset": 0.5}, {"iterations": 0}, {"side": 8}):
        with pytest.raises(ConfigError, match=f"`{next(iter(options))}` of grabcut must be"):
            GrabCut(**options)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingDependency, match=r"pip install 'limbeck\[masks\]'"):
        GrabCut().segment(IMAGES, NONE)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of tiny models: BLIP and GIT say, SegFormer segments."""
    import transformers as t

    folders = {name: tmp_path_factory.mktemp(name) for name in ("blip", "git", "segformer")}
    words = {"vocab_size": len(WORDS) + 4, "max_position_embeddings": 64, **TOKENS}
    wide = {"encoder_hidden_size": 32, "projection_dim": 16, "sep_token_id": TOKENS["eos_token_id"]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blip = t.BlipConfig(text_config={**TINY, **words, **wide}, vision_config=VISION, projection_dim=16)
        layers = {"num_encoder_blocks": 1, "depths": [1], "sr_ratios": [1], "hidden_sizes": [8], "patch_sizes": [7]}
        layers |= {"strides": [4], "num_attention_heads": [1], "mlp_ratios": [2], "decoder_hidden_size": 16}
        made: dict[str, Any] = {
            "blip": t.BlipForConditionalGeneration(blip),
            "git": t.GitForCausalLM(t.GitConfig(vision_config=VISION, **TINY, **words)),
            "segformer": t.SegformerForSemanticSegmentation(
                t.SegformerConfig(**layers, id2label=LABELS, label2id={name: i for i, name in LABELS.items()})
            ),
        }
        for model in made.values():
            loud(model)
    kinds = {"blip": ("BlipImageProcessor", "BlipProcessor"), "git": ("CLIPImageProcessor", "GitProcessor")}
    for name, folder in folders.items():
        made[name].save_pretrained(folder)
        image, both = kinds.get(name, ("SegformerImageProcessor", ""))
        named = {"processor_class": both} if both else {}
        write_processor(folder, image, size={"height": 32, "width": 32}, do_center_crop=False, **named)
        if both:
            write_tokenizer(folder, ["input_ids", "attention_mask"])
    (folders["blip"] / "README.md").write_text("---\nlicense: bsd-3-clause\n---\n")
    return {name: str(folder) for name, folder in folders.items()}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["blip", "git"])
def test_models_caption_greedily_whatever_the_batch(models: dict[str, str], model: str) -> None:
    texts = Captions(models[model], max_tokens=5).caption(IMAGES, NONE)
    assert len(texts) == 3 and (len(set(texts)) > 1 or model == "git")  # whose tiny weights hardly see
    assert all(set(text.split()) <= set(WORDS) and len(text.split()) <= 5 for text in texts) and any(texts)
    assert Captions(models[model], max_tokens=5, batch_size=2).to("cpu").caption(IMAGES, ["dog"] * 3) == texts


@pytest.mark.slow
def test_captioners_of_models_say_what_they_are(models: dict[str, str]) -> None:
    captioner = Captions(models["blip"])
    assert captioner.licence == "bsd-3-clause" and set(captioner.versions) == {"transformers", "torch"}
    with pytest.raises(ConfigError, match="does not chat; leave prompt out"):
        Captions(models["blip"], prompt="What is it?").caption(IMAGES, NONE)
    with pytest.raises(ConfigError, match="no processor of both images and texts"):
        Captions(models["segformer"]).caption(IMAGES, NONE)
    with pytest.raises(ConfigError, match="`batch_size` of hf must be 1 or more, got 0"):
        Captions("a/model", batch_size=0)
    for part in (Captions("no-such/model"), Masks("no-such/model")):
        with pytest.raises(ConfigError, match=r"'no-such/model' cannot be read.*a folder that save_pretrained wrote"):
            part.to("cpu")


@pytest.mark.slow
def test_models_that_chat_are_asked_and_their_question_is_cut_off(tmp_path: Path) -> None:
    import transformers as t
    from tokenizers import AddedToken

    write_tokenizer(tmp_path, ["input_ids", "attention_mask"])
    write_processor(tmp_path, "CLIPImageProcessor", size={"height": 32, "width": 32}, do_center_crop=False)
    tokenizer = t.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens([AddedToken("<image>", special=True)])
    tokenizer.model_max_length = 512
    said = "{% for m in messages %}{% for c in m['content'] %}{{ '<image> ' if c['type'] == 'image' else c['text'] }}"
    t.LlavaProcessor(
        t.AutoImageProcessor.from_pretrained(tmp_path),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=said + "{% endfor %}{% endfor %}",
    ).save_pretrained(tmp_path)
    words = t.LlamaConfig(**TINY, vocab_size=len(WORDS) + 5, max_position_embeddings=256, **TOKENS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        image = {"vision_config": t.CLIPVisionConfig(**VISION), "image_token_index": len(WORDS) + 4}
        config = t.LlavaConfig(text_config=words, **image)
        loud(t.LlavaForConditionalGeneration(config)).save_pretrained(tmp_path)
    texts = [Captions(str(tmp_path), max_tokens=4, prompt=p).caption(IMAGES, NONE) for p in ("", "a red dog at night")]
    assert texts[0] != texts[1] and all(len(text.split()) <= 4 for text in texts[1])
    assert Captions(str(tmp_path), max_tokens=4, batch_size=1).caption(IMAGES, NONE) == texts[0]


@pytest.mark.slow
def test_segments_of_the_class_or_all_but_background_are_object(models: dict[str, str]) -> None:
    one = Masks(models["segformer"])
    masks = one.to("cpu").segment(IMAGES, ["guide dog", "cat", None])
    assert [mask.shape for mask in masks] == [(40, 50), (32, 20), (64, 64)]
    parts = {name: Masks(models["segformer"], label=name).segment(IMAGES, NONE) for name in LABELS.values()}
    for i in range(3):  # every pixel is of one segment
        assert (sum(cover[i].astype(int) for cover in parts.values()) == 1).all()
    assert np.array_equal(masks[0], parts["dog"][0])
    for i in (1, 2):
        assert np.array_equal(masks[i], ~parts["background"][i]) and 0 < masks[i].mean() < 1
    both = Masks(models["segformer"], label="dog, background").segment(IMAGES, NONE)
    assert np.array_equal(both[0], parts["dog"][0] | parts["background"][0])


@pytest.mark.slow
def test_segmenters_refuse_other_labels_and_other_models(models: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="no label 'cat'; it has background, dog, traffic light"):
        Masks(models["segformer"], label="dog,cat").segment(IMAGES, NONE)
    with pytest.raises(ConfigError, match="BlipForConditionalGeneration, which makes no segments"):
        Masks(models["blip"]).segment(IMAGES, NONE)
    with pytest.raises(ConfigError, match="`threshold` of hf must be from 0 to 1, got 2"):
        Masks("a/model", threshold=2.0)


@pytest.mark.slow
def test_models_of_objects_keep_those_that_they_are_sure_of(tmp_path: Path) -> None:
    import transformers as t

    swin = t.SwinConfig(image_size=32, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=4, out_features=["stage1", "stage2", "stage3", "stage4"])  # fmt: skip
    sizes = {"feature_size": 32, "mask_feature_size": 32, "hidden_dim": 32, "encoder_layers": 1, "decoder_layers": 2}
    sizes |= {"num_attention_heads": 2, "encoder_feedforward_dim": 16, "dim_feedforward": 16, "num_queries": 8}
    labels = {0: "dog", 1: "cat"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = t.Mask2FormerConfig(backbone_config=swin, **sizes, id2label=labels, label2id={"dog": 0, "cat": 1})
        loud(t.Mask2FormerForUniversalSegmentation(config)).save_pretrained(tmp_path)
    write_processor(tmp_path, "Mask2FormerImageProcessor", size={"height": 64, "width": 64})
    found = Masks(str(tmp_path), threshold=0.1).segment(IMAGES, NONE)
    assert [mask.shape for mask in found] == [(40, 50), (32, 20), (64, 64)] and any(mask.any() for mask in found)
    assert not any(mask.any() for mask in Masks(str(tmp_path), threshold=1.0).segment(IMAGES, NONE))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["blip", "git"])
def test_beams_give_several_captions_of_an_image(models: dict[str, str], model: str) -> None:
    voice = Captions(models[model], max_tokens=5)
    several = voice.describe_each(IMAGES, 3)
    assert [len(texts) for texts in several] == [3] * len(IMAGES) and several == voice.describe_each(IMAGES, 3)
    assert [texts[0] for texts in voice.describe_each(IMAGES, 1)] == voice.caption(IMAGES, NONE)
    assert all(text == " ".join(text.split()) for texts in several for text in texts)
