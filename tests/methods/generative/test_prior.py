"""Pipelines of diffusers behind one interface: nothing about them is written in."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from limbeck.errors import ConfigError
from limbeck.objectives.diffusion import clean_estimate
from priors import CAPTIONS, tiny_prior

diffusers = pytest.importorskip("diffusers", reason="needs the diffusion extra")
from limbeck.methods.generative.diffusion.logging_off import logging_off
from limbeck.methods.generative.diffusion.prior import DiffusersPrior
from limbeck.methods.generative.diffusion.small import small_pipeline, small_tokenizer

pytestmark = pytest.mark.slow


def opened(prediction: str = "epsilon", **options: Any) -> DiffusersPrior:
    return DiffusersPrior.open(tiny_prior(prediction), **options)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_sampling_is_that_of_diffusers_own_pipeline(guidance: float, prediction: str) -> None:
    prior, prompts = opened(prediction), CAPTIONS[:2]
    found = prior.sample(prompts, generators(3, 4), 16, steps=4, guidance=guidance)
    noise = torch.cat([torch.randn(1, 4, 4, 4, generator=g) for g in generators(3, 4)])
    theirs = prior.pipe(
        prompts, num_inference_steps=4, guidance_scale=guidance, latents=noise, height=16, width=16, output_type="pt"
    ).images
    assert torch.allclose(found, torch.as_tensor(theirs), atol=1e-6)
    assert found.shape == (2, 3, 16, 16) and float(found.min()) >= 0 and float(found.max()) <= 1


@pytest.mark.parametrize(
    "name", ["DDPMScheduler", "EulerAncestralDiscreteScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler"]
)
def test_every_scheduler_repeats_itself_also_one_that_draws(name: str) -> None:
    prior = opened()
    more = {"skip_prk_steps": True} if name == "PNDMScheduler" else {}
    with logging_off():
        prior.pipe.scheduler = getattr(diffusers, name).from_config(prior.pipe.scheduler.config, **more)
    together = prior.sample(CAPTIONS[:3], generators(0, 1, 2), 16, steps=3)
    again = prior.sample(CAPTIONS[:3], generators(0, 1, 2), 16, steps=3)
    alone = prior.sample(CAPTIONS[1:2], generators(1), 16, steps=3)
    assert torch.equal(together, again) and torch.allclose(together[1:2], alone, atol=1e-4)


def test_the_numbers_of_the_configuration_are_used() -> None:
    pipe = small_pipeline(CAPTIONS, 16, (16, 16), 32)
    prior, images = DiffusersPrior(pipe), torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    usual = prior.encode(images)
    pipe.vae.register_to_config(scaling_factor=2 * float(pipe.vae.config.scaling_factor), shift_factor=0.0)
    assert torch.allclose(prior.encode(images), 2 * usual, atol=1e-5)
    assert torch.allclose(prior.decode(prior.encode(images)), (pipe.vae(2 * images - 1).sample / 2 + 0.5), atol=1e-4)
    pipe.vae.register_to_config(shift_factor=1.0)
    assert torch.allclose(prior.encode(images), 2 * usual - 2 * float(pipe.vae.config.scaling_factor) / 2, atol=1e-4)
    drawn = prior.encode(images, torch.ones_like(usual))
    assert bool((drawn > prior.encode(images)).all()), "a draw adds the posterior's spread"
    pipe.image_processor.register_to_config(do_normalize=False)
    pipe.vae.register_to_config(shift_factor=0.0)
    assert torch.allclose(prior.decode(prior.encode(images)), pipe.vae(images).sample, atol=1e-4)


def test_what_the_vae_gives_in_its_range_becomes_pixels_in_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    prior, whole = opened(), torch.linspace(-1, 1, 5).reshape(1, 1, 1, 5).repeat(1, 3, 5, 1)
    monkeypatch.setattr(prior.pipe.vae, "decode", lambda latents: SimpleNamespace(sample=whole))
    seen: list[torch.Tensor] = []
    spread = SimpleNamespace(latent_dist=SimpleNamespace(mean=torch.zeros(1, 4, 1, 1)))
    monkeypatch.setattr(prior.pipe.vae, "encode", lambda pixels: seen.append(pixels) or spread)
    images = prior.decode(torch.zeros(1, 4, 1, 1))
    assert torch.allclose(images[0, 0, 0], torch.tensor([0, 0.25, 0.5, 0.75, 1]))
    prior.encode(images)
    assert torch.allclose(seen[0], whole)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_estimate_undoes_the_noise_for_what_the_scheduler_predicts(prediction: str) -> None:
    prior, draw = opened(prediction), torch.Generator().manual_seed(0)
    assert prior.prediction == prediction
    clean, noise = torch.randn(3, 4, 4, 4, generator=draw), torch.randn(3, 4, 4, 4, generator=draw)
    step = torch.tensor([0, 400, 900])
    scheduler = prior.pipe.scheduler
    theirs = scheduler.add_noise(clean, noise, step)
    assert torch.allclose(prior.noised(clean, noise, step), theirs, atol=1e-6)
    target = {"epsilon": noise, "sample": clean, "v_prediction": scheduler.get_velocity(clean, noise, step)}[prediction]
    found = clean_estimate(target, theirs, prior.alphas_cumprod[step], prediction)
    assert torch.allclose(found, clean, atol=1e-4)


def test_a_saved_pipeline_makes_the_same_images(tmp_path: Path) -> None:
    prior = opened()
    with logging_off():
        prior.pipe.save_pretrained(tmp_path)
    again = DiffusersPrior.open(str(tmp_path))
    images = [p.sample(CAPTIONS[:2], generators(0, 1), 16, steps=3) for p in (prior, again)]
    assert torch.allclose(images[0], images[1], atol=1e-5)
    assert again.licence == "unknown" and prior.licence == "cc-by-nc-4.0"


def test_starting_from_an_image_keeps_more_of_it_the_less_is_gone_through() -> None:
    prior = opened()
    origin = prior.encode(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(5)))
    seen = prior.decode(origin).clamp(0, 1)
    far = [
        float((prior.sample(CAPTIONS[:1], generators(0), 16, 10, 1.0, origin, strength) - seen).abs().mean())
        for strength in (0.1, 0.9)
    ]
    assert far[0] < 0.7 * far[1]


def test_a_part_of_a_schedule_clips_no_latents_that_the_pipeline_does_not() -> None:
    from diffusers import EulerDiscreteScheduler

    prior = opened()
    prior.pipe.scheduler = EulerDiscreteScheduler()
    assert prior.scheduler(10, whole=False).config.clip_sample is False
    assert type(prior.scheduler(10)) is EulerDiscreteScheduler
    prior.pipe.scheduler = type(opened().pipe.scheduler)(clip_sample=True)
    assert prior.scheduler(10, whole=False).config.clip_sample is True


def test_long_captions_are_cut_and_counted() -> None:
    prior = opened()
    long = "a red square at the top left " * 9
    assert prior.truncated(["a red square", long, "b"]) == [1] and prior.truncated([]) == []
    cut, whole = prior.condition([long, "a red square at the top left"]).hidden
    assert cut.shape == whole.shape == (16, 32)


def test_pipelines_that_cannot_serve_are_refused() -> None:
    whole = small_pipeline(CAPTIONS[:4], 16, (16, 16), 32)
    parts = {name: getattr(whole, name) for name in ("vae", "unet", "scheduler", "tokenizer", "text_encoder")}

    def without(**changed: Any) -> Any:
        return SimpleNamespace(**{**parts, **changed})

    with pytest.raises(ConfigError, match="has no VAE; a prior is a latent text-to-image pipeline"):
        DiffusersPrior(without(vae=None))
    with pytest.raises(ConfigError, match="has no tokenizer and no text encoder"):
        DiffusersPrior(without(tokenizer=None, text_encoder=None))
    with pytest.raises(ConfigError, match="several encoders"):
        DiffusersPrior(without(text_encoder_2=whole.text_encoder))
    with pytest.raises(ConfigError, match="neither a unet nor a transformer"):
        DiffusersPrior(without(unet=None))
    flow = diffusers.FlowMatchEulerDiscreteScheduler()
    with pytest.raises(ConfigError, match=r"FlowMatchEulerDiscreteScheduler .* has no alphas_cumprod"):
        DiffusersPrior(without(scheduler=flow))
    odd = diffusers.DDIMScheduler(prediction_type="epsilon")
    odd.register_to_config(prediction_type="score")
    with pytest.raises(ConfigError, match="predicts 'score'"):
        DiffusersPrior(without(scheduler=odd))
    with pytest.raises(ConfigError, match="a multiple of 4 pixels a side, got 18"):
        DiffusersPrior(whole).latent_shape(18)


def test_names_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no model_index.json"):
        DiffusersPrior.open(str(tmp_path))
    with pytest.raises(ConfigError, match="cannot be read"):
        DiffusersPrior.open("nobody/no-such-prior")
    with pytest.raises(ConfigError, match="precision is"):
        opened(precision="float16")


def test_a_transformer_that_reads_by_cross_attention_serves_as_well() -> None:
    whole = small_pipeline(CAPTIONS[:4], 16, (16, 16), 32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformer = diffusers.PixArtTransformer2DModel(
            num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1, sample_size=4, patch_size=2,
            cross_attention_dim=16, caption_channels=32, use_additional_conditions=False,
        )  # fmt: skip
    parts = {name: getattr(whole, name) for name in ("vae", "scheduler", "tokenizer", "text_encoder")}
    prior = DiffusersPrior(SimpleNamespace(transformer=transformer, **parts))
    images = prior.sample(CAPTIONS[:2], generators(0, 1), 16, steps=2)
    assert images.shape == (2, 3, 16, 16) and prior.resolution == 16


def test_the_tokenizer_is_one_that_clip_would_read(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    made = small_tokenizer(["a red square", "a square, red"], length=8)
    made.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("A red square", "never seen 12 \u00fc"):
        ids = made(text, padding="max_length", truncation=True)["input_ids"]
        assert ids == again(text, padding="max_length", truncation=True)["input_ids"] and len(ids) == 8
        assert ids[0] == made.bos_token_id and made.eos_token_id in ids
    assert made.tokenize("red square") == ["red</w>", "square</w>"]
    with pytest.raises(ConfigError, match="cannot be halved 3 times"):
        small_pipeline(["a"], 20)
    with pytest.raises(ConfigError, match="multiples of 8, got 12"):
        small_pipeline(["a"], 16, (16, 12))
