"""Joint models of sound, patches and texts, as tiny random ones: CLAP, PE-AV, SigLIP 2, EmbeddingGemma 2; and sound alone."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import limbeck as lb
from limbeck.data.spectrogram import log_mel
from limbeck.errors import ConfigError, DataError
from limbeck.spaces.contract import check_encoder
from limbeck.spaces.encoders import hf
from limbeck.spaces.preprocess import Patches
from tiny import TEXTS, TINY, loud, write_processor, write_tokenizer

RATE = 4000
TEXT = {**TINY, "vocab_size": 20, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 18}
CLAP = {"sampling_rate": 8000, "max_length_s": 1, "feature_size": 16, "hop_length": 80, "fft_window_size": 256}


def waves(length: int = 2000) -> Tensor:
    """Three sounds at `RATE`, no two alike."""
    time = torch.arange(length) / RATE
    noise = torch.randn(3, length, generator=torch.Generator().manual_seed(0))
    return 0.4 * torch.sin(2 * torch.pi * torch.tensor([150.0, 440.0, 1300.0])[:, None] * time) + 0.05 * noise


def make_clap(fused: bool) -> nn.Module:
    import transformers as t

    sound: dict[str, Any] = {"window_size": 4, "num_mel_bins": 16, "spec_size": 64, "patch_size": 2, "patch_stride": 2}
    sound |= {"patch_embeds_hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 2], "hidden_size": 32}
    sound |= {"enable_fusion": True, "fusion_type": "aff_2d"} if fused else {}
    text = {**TEXT, "max_position_embeddings": 18}
    model: nn.Module = t.ClapModel(t.ClapConfig(text_config=text, audio_config=sound, projection_dim=16))
    return model


def make_pe() -> tuple[nn.Module, Any]:
    import transformers as t

    layers = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "head_dim": 16,
        "num_hidden_layers": 1,
    }
    text = {**TEXT, "model_type": "modernbert", "max_position_embeddings": 64, "cls_token_id": 2, "sep_token_id": 18}
    codec = {"model_type": "dac", "encoder_hidden_size": 8, "downsampling_ratios": [4, 5], "codebook_dim": 8}
    sound = {**layers, "dac_config": {**codec, "hidden_size": 32, "decoder_hidden_size": 16, "n_codebooks": 1}}
    video = {**layers, "vision_config": {"model_type": "timm_wrapper", "architecture": "vit"}}
    both = t.PeAudioVideoConfig(
        text_config=text, audio_video_config={**layers, "audio_config": sound, "video_config": video}
    )
    return t.PeAudioModel(t.PeAudioConfig(text_config=text, audio_config=sound)), both


def make_gemma() -> nn.Module:
    import transformers as t

    text = {**TEXT, "num_key_value_heads": 2, "head_dim": 8, "global_head_dim": 16, "hidden_size_per_layer_input": 8}
    text |= {"max_position_embeddings": 64, "embedding_dim": 24}
    tokens = dict.fromkeys(("boi_token_id", "image_token_id", "video_token_id", "audio_token_id"), 19)
    model: nn.Module = t.EmbeddingGemma2Model(t.EmbeddingGemma2Config(text_config=text, **tokens))
    return model


def make_models() -> dict[str, Any]:
    import transformers as t

    vision = {**TINY, "num_patches": 16, "patch_size": 8}
    text = {**TEXT, "max_position_embeddings": 16, "projection_size": 32}
    wave = {"conv_dim": (16, 16), "conv_stride": (5, 4), "conv_kernel": (10, 8), "num_feat_extract_layers": 2}
    wave |= {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    spectrogram = {"num_mel_bins": 16, "max_length": 64, "patch_size": 8, "frequency_stride": 8, "time_stride": 8}
    made: dict[str, Any] = {
        "clap": make_clap(fused=False),
        "fused": make_clap(fused=True),
        "siglip2": t.Siglip2Model(t.Siglip2Config(text_config=text, vision_config=vision)),
        "wav2vec": t.Wav2Vec2Model(t.Wav2Vec2Config(**TINY, vocab_size=20, **wave)),
        "ast": t.ASTModel(t.ASTConfig(**TINY, **spectrogram)),
    }
    if hasattr(t, "EmbeddingGemma2Model"):
        made["gemma"] = make_gemma()
    return made


def write_pe(folder: Path, folder_of_both: Path) -> None:
    """PE-AV's sound and text, and the same weights under the names that a checkpoint with video has."""
    import transformers as t

    model, both = make_pe()
    loud(model).save_pretrained(folder)
    both.save_pretrained(folder_of_both)
    weights = {
        k if k.startswith("text_model") else f"audio_model.{k}": v.clone() for k, v in model.state_dict().items()
    }
    weights["video_model.video_head.proj.weight"] = torch.zeros(2, 2)
    save_file(weights, folder_of_both / "model.safetensors", {"format": "pt"})
    for place in (folder, folder_of_both):
        t.PeAudioFeatureExtractor(sampling_rate=8000, hop_length=20).save_pretrained(place)


class Folders(dict[str, str]):
    """Name to folder; a test of what this version of transformers lacks is skipped."""

    def __missing__(self, name: str) -> str:
        pytest.skip(f"this version of transformers has no model for {name}")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders of tiny models; `pe_av` is `pe` as a checkpoint with video has it."""
    import transformers as t

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = {name: loud(model) for name, model in make_models().items()}
        pe = ["pe", "pe_av"] if hasattr(t, "PeAudioModel") else []
        folders = {name: tmp_path_factory.mktemp(name) for name in [*made, *pe]}
        if pe:
            write_pe(folders["pe"], folders["pe_av"])
    for name, model in made.items():
        model.save_pretrained(folders[name])
    for name in set(folders) - {"wav2vec", "ast"}:
        write_tokenizer(folders[name], ["input_ids"] if name == "siglip2" else ["input_ids", "attention_mask"])
    t.ClapFeatureExtractor(**CLAP, frequency_max=3800, truncation="rand_trunc").save_pretrained(folders["clap"])
    t.ClapFeatureExtractor(**CLAP, frequency_max=3800, truncation="fusion").save_pretrained(folders["fused"])
    t.Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(folders["wav2vec"])
    numbers = {"feature_extractor_type": "ASTFeatureExtractor", "sampling_rate": 8000, "num_mel_bins": 16}
    numbers |= {"max_length": 64, "mean": -4.0, "std": 4.5, "do_normalize": True}
    (folders["ast"] / "preprocessor_config.json").write_text(json.dumps(numbers))
    write_processor(folders["siglip2"], "Siglip2ImageProcessor", patch_size=8, max_num_patches=24, resample=2)
    return Folders({name: str(folder) for name, folder in folders.items()})


@pytest.mark.parametrize("model", ["clap", "fused", "pe", "pe_av", "wav2vec", "ast"])
@pytest.mark.slow
def test_contract_of_sound(models: dict[str, str], model: str) -> None:
    encoder = lb.space(audio={"name": f"hf:{models[model]}", "rate": RATE})["audio"]
    check_encoder(encoder, waves(), other={"rate": 5000})
    assert encoder.describe()["rate"] == RATE


@pytest.mark.parametrize("model", ["clap", "pe", "pe_av", "siglip2", "gemma"])
def test_contract_of_text(models: dict[str, str], model: str) -> None:
    encoder = lb.space(text=f"hf:{models[model]}")["text"]
    check_encoder(encoder, TEXTS, other={"max_length": 4} if model != "siglip2" else None)
    assert "rate" not in encoder.describe()
    reads_tokens = model == "gemma"  # check_encoder has compared them with the texts
    if not reads_tokens:
        with pytest.raises(ConfigError, match="reads no token embeddings"):
            encoder.tokens(TEXTS, 8)


@pytest.mark.parametrize("model", ["clap", "fused"])
def test_clap_is_the_models_own(models: dict[str, str], model: str) -> None:
    from transformers import AutoModel, AutoTokenizer, ClapFeatureExtractor

    whole, tokenizer = AutoModel.from_pretrained(models[model]).eval(), AutoTokenizer.from_pretrained(models[model])
    extractor = ClapFeatureExtractor.from_pretrained(models[model])
    seen = extractor(list(waves(6000).double().numpy()), sampling_rate=8000, return_tensors="pt")
    seen["is_longer"] = torch.zeros_like(torch.as_tensor(seen["is_longer"]))  # the reference draws one of the batch
    with torch.no_grad():
        out = whole(**seen, **tokenizer(TEXTS, padding=True, return_tensors="pt"))
    space = lb.space(audio={"name": f"hf:{models[model]}", "rate": 8000}, text=f"hf:{models[model]}")
    torch.testing.assert_close(space["audio"](waves(6000)), out.audio_embeds, rtol=0, atol=1e-4)
    torch.testing.assert_close(space["text"](TEXTS), out.text_embeds, rtol=0, atol=1e-5)
    assert space.dims == {"audio": 16, "text": 16}


def test_both_returns_of_transformers() -> None:
    """A tensor before version 5, an output object since."""
    vectors = torch.ones(2, 3)
    for returned in (vectors, SimpleNamespace(pooler_output=vectors)):
        model: Any = nn.Module()
        for modality in hf.TOWERS:
            setattr(model, f"get_{modality}_features", lambda found=returned, **inputs: found)
        assert hf._joint_audio(model, {"input_features": vectors}) is vectors
        assert hf._joint_image(model, vectors) is hf._joint_image(model, {"pixel_values": vectors}) is vectors
        assert hf._joint_text(model, {"input_ids": vectors}) is vectors


@pytest.mark.parametrize("model", ["pe", "pe_av"])
def test_pe_av_is_the_models_own(models: dict[str, str], model: str) -> None:
    import transformers as t

    folder = models["pe"]
    whole, tokenizer = t.PeAudioModel.from_pretrained(folder).eval(), t.AutoTokenizer.from_pretrained(folder)
    extractor = t.PeAudioFeatureExtractor.from_pretrained(folder)
    seen = extractor(list(waves(2010).numpy()), sampling_rate=8000, return_tensors="pt")
    with torch.no_grad():
        out = whole(**seen, **tokenizer(TEXTS, padding=True, return_tensors="pt"))
    space = lb.space(audio={"name": f"hf:{models[model]}", "rate": 8000}, text=f"hf:{models[model]}")
    for found, expected in (
        (space["audio"](waves(2010)), out.audio_embeds),
        (space["text"](TEXTS), out.text_audio_embeds),
    ):
        torch.testing.assert_close(found, F.normalize(expected, dim=-1), rtol=0, atol=1e-5)


def test_siglip2_is_the_models_own(models: dict[str, str]) -> None:
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModel

    images = (torch.rand(3, 3, 40, 56, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
    encoder = lb.space(image=f"hf:{models['siglip2']}")["image"]
    check_encoder(encoder, images, other={"pooling": "mean"})
    processor = AutoImageProcessor.from_pretrained(models["siglip2"], use_fast=False)
    whole = AutoModel.from_pretrained(models["siglip2"]).eval()
    pictures = [Image.fromarray((i * 255).byte().permute(1, 2, 0).numpy()) for i in images]
    with torch.no_grad():
        seen = processor(images=pictures, return_tensors="pt")
        expected = hf._features(whole.get_image_features(**seen))
    found = encoder.network.preprocess(images)
    for key in ("pixel_attention_mask", "spatial_shapes"):
        assert torch.equal(found[key].long(), torch.as_tensor(seen[key]).long())
    torch.testing.assert_close(found["pixel_values"], seen["pixel_values"], rtol=0, atol=0.05)  # 8 bits after each pass
    torch.testing.assert_close(encoder(images), F.normalize(expected, dim=-1), rtol=0, atol=2e-2)


@pytest.mark.parametrize("size", [(480, 640), (16, 16), (7, 900), (224, 224), (1, 1)])
@pytest.mark.parametrize("most", [16, 256])
def test_patches_are_as_many_as_the_reference_says(size: tuple[int, int], most: int) -> None:
    reference = pytest.importorskip("transformers.models.siglip2.image_processing_pil_siglip2")
    expected = reference.get_image_size_for_max_num_patches(*size, 16, most)
    assert tuple(16 * n for n in Patches(16, most).grid(*size)) == expected


def test_embedding_gemma_is_the_mean_of_its_tokens(models: dict[str, str]) -> None:
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(models["gemma"]) for kind in (AutoModel, AutoTokenizer))
    with torch.no_grad():
        hidden = model.eval()(**tokenizer(["a red dog"], return_tensors="pt")).last_hidden_state[0]
    encoder = lb.space(text=f"hf:{models['gemma']}")["text"]
    torch.testing.assert_close(encoder(["a red dog"])[0], F.normalize(hidden.mean(0), dim=0), rtol=0, atol=1e-5)
    assert encoder.dim == 24


@pytest.mark.draws_globally  # transformers does, while it loads wav2vec 2.0
def test_sound_alone_is_pooled(models: dict[str, str]) -> None:
    from transformers import AutoModel, Wav2Vec2FeatureExtractor

    model = AutoModel.from_pretrained(models["wav2vec"]).eval()
    seen = Wav2Vec2FeatureExtractor(sampling_rate=8000)(list(waves().numpy()), sampling_rate=8000, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**seen).last_hidden_state
    for pooling, expected in ((None, hidden.mean(1)), ("mean", hidden.mean(1)), ("cls", hidden[:, 0])):
        encoder = lb.space(audio={"name": f"hf:{models['wav2vec']}", "rate": 8000, "pooling": pooling})["audio"]
        torch.testing.assert_close(encoder(waves()), F.normalize(expected, dim=-1), rtol=0, atol=1e-4)


def test_the_tower_of_a_joint_model_is_pooled(models: dict[str, str]) -> None:
    encoder = lb.space(audio={"name": f"hf:{models['clap']}", "rate": RATE, "pooling": "mean"})["audio"]
    check_encoder(encoder, waves())
    assert encoder.dim == 32  # before the projection


@pytest.mark.parametrize(
    ("model", "modality", "other"), [("clap", "audio", "text"), ("clap", "text", "audio"), ("pe", "text", "audio")]
)
def test_only_one_tower_is_kept(models: dict[str, str], model: str, modality: str, other: str) -> None:
    names = [n for n, _ in lb.space(**{modality: f"hf:{models[model]}"})[modality].network.named_parameters()]
    assert names and not any(f"{other}_model" in n or f"{other}_encoder" in n or f"{other}_proj" in n for n in names)


def test_rates_that_agree_after_resampling(models: dict[str, str]) -> None:
    """The same sound at two rates has nearly the same vector."""
    low = torch.sin(2 * torch.pi * 300 * torch.arange(8000) / 8000)[None]
    high = torch.sin(2 * torch.pi * 300 * torch.arange(16000) / 16000)[None]
    one, two = (
        lb.space(audio={"name": f"hf:{models['clap']}", "rate": rate})["audio"](wave)
        for rate, wave in ((8000, low), (16000, high))
    )
    assert (one * two).sum() > 0.99


@pytest.mark.parametrize(
    ("model", "modality", "options", "message"),
    [
        ("pe_av", "image", {}, "is PE-AV: it serves audio and text here"),
        ("pe", "audio", {"pooling": "mean"}, "is PE-AV"),
        ("gemma", "image", {}, "made for the language model behind them"),
        ("gemma", "audio", {}, "made for the language model behind them"),
        ("wav2vec", "audio", {"rate": 16}, "`rate` of hf must be from 1000 to 768000"),
        ("siglip2", "audio", {}, "is a model of image and text; it has no audio"),
        ("clap", "image", {}, "is a model of audio and text; it has no image"),
        ("wav2vec", "text", {}, "is a model of audio; it has no text"),
    ],
)
def test_refusals(models: dict[str, str], model: str, modality: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _ = lb.space(**{modality: {"name": f"hf:{models[model]}", **options}})[modality].network


def test_a_pe_av_that_lacks_weights_is_refused(models: dict[str, str], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    state = load_file(Path(models["pe"]) / "model.safetensors")
    (tmp_path / "config.json").write_text((Path(models["pe"]) / "config.json").read_text())
    save_file(
        {k: v for k, v in state.items() if "audio_head" not in k}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ConfigError, match="lacks weights of its sound and text"):
        _ = lb.space(audio=f"hf:{tmp_path}")["audio"].network


def test_a_source_of_waveforms_is_embedded_and_selected(models: dict[str, str], tmp_path: Path) -> None:
    import soundfile

    for i, wave in enumerate(waves()):
        soundfile.write(tmp_path / f"{i}.wav", wave.numpy(), RATE)
    rows = [{"audio": f"{i}.wav", "caption": text, "split": "train"} for i, text in enumerate(TEXTS)]
    (tmp_path / "table.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    source = lb.source(f"manifest:{tmp_path / 'table.jsonl'}", audio_rate=RATE, audio_seconds=0.5, mels=0)
    space = lb.space(f"clap:{models['clap']}", audio={"rate": RATE})
    small = lb.distill(lb.Problem(source, space, lb.Budget(pairs=2)), lb.methods.Herding())
    assert small.batch([0, 1])["audio"].shape == (2, 2000)
    assert lb.space(**small.recipe.space).fingerprint == space.fingerprint


def test_spectrograms_are_refused_with_the_way_out(models: dict[str, str]) -> None:
    encoder = lb.space(audio=f"hf:{models['clap']}")["audio"]
    with pytest.raises(DataError, match=r"--source\.mels 0"):
        encoder(log_mel(waves(), RATE, 16))
