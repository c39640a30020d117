"""`train_prior`: learns, continues to the same bits, and says what its folder is."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import limbeck as lb
from limbeck.data.batch import Batch
from limbeck.errors import ConfigError, DataError, LimbeckWarning

pytest.importorskip("diffusers", reason="needs the diffusion extra")
from limbeck.generation.prior import DiffusersPrior
from limbeck.generation.training import PriorTraining, _Trainer, losses, train_prior

pytestmark = pytest.mark.slow

FEW: dict[str, Any] = {"channels": (16, 16), "text_width": 32, "vae_steps": 3, "steps": 4, "batch": 4, "length": 16}


class Stopped(Exception):
    """Stands for a killed process."""


def weights(prior: DiffusersPrior) -> list[torch.Tensor]:
    parts = (prior.pipe.vae, prior.pipe.text_encoder, prior.denoiser)
    return [value for part in parts for value in part.state_dict().values()]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("stop", [2, 6])
def test_a_stopped_training_ends_in_the_same_bits(tmp_path: Path, stop: int, prediction: str) -> None:
    source, how = lb.check.toy_source(12), PriorTraining(**FEW, prediction=prediction)
    whole = train_prior(source, tmp_path / "whole", how, save_every=1)
    seen = []

    def tick(what: str, done: int, total: int) -> None:
        seen.append(what)
        if len(seen) == stop:
            raise Stopped

    with pytest.raises(Stopped):
        train_prior(source, tmp_path / "parts", how, save_every=1, tick=tick)
    assert not (tmp_path / "parts" / "model_index.json").exists()
    again = train_prior(source, tmp_path / "parts", how, save_every=1)
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(again), strict=True))
    assert again.pipe.vae.config.scaling_factor == whole.pipe.vae.config.scaling_factor
    assert again.prediction == prediction
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6, 7]


def test_it_learns_and_tells_its_licence(tmp_path: Path) -> None:
    source = lb.check.toy_source(24)
    how = PriorTraining(**{**FEW, "vae_steps": 60, "steps": 60, "batch": 16, "ema": 0.0}, mirror=True)
    prior = train_prior(source, tmp_path / "prior", how)
    log = [json.loads(line) for line in (tmp_path / "prior" / "log.jsonl").read_text().splitlines()]
    first = {"vae": log[0]["vae"], "denoiser": log[60]["denoiser"]}
    last = {"vae": log[59]["vae"], "denoiser": sum(row["denoiser"] for row in log[-10:]) / 10}
    assert last["vae"] < 0.6 * first["vae"] and last["denoiser"] < 0.9 * first["denoiser"]
    assert losses(tmp_path / "prior").keys() == {"vae", "denoiser"}
    draw = torch.randn(24, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    latents = prior.encode(source.batch(range(24))["image"], draw)
    assert float(latents.std()) == pytest.approx(1, abs=0.25), "the scaling brings latents to unit variance"
    assert (
        prior.licence == "CC0-1.0" and "Licence of the data: CC0-1.0" in (tmp_path / "prior" / "README.md").read_text()
    )
    theirs = __import__("diffusers").DiffusionPipeline.from_pretrained(tmp_path / "prior", safety_checker=None)
    assert type(theirs).__name__ == "StableDiffusionPipeline"


def _without_images(source: lb.Source, index: Any) -> Batch:
    rows = torch.as_tensor(list(index))
    present = (rows % 2 == 1) & (len(source) > 4)
    images = torch.ones(len(rows), 3, 16, 16) * present[:, None, None, None]
    return Batch({"image": images, "text": [source.captions[i] for i in rows.tolist()]}, {"image": present})


def test_samples_without_an_image_teach_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, seen = lb.check.toy_source(12), []
    monkeypatch.setattr(type(source), "batch", _without_images)
    pixels = _Trainer._pixels
    monkeypatch.setattr(_Trainer, "_pixels", lambda *of: seen.append(pixels(*of)) or seen[-1])
    with pytest.warns(LimbeckWarning, match="6 of 12 samples have no image or no caption, and are left out"):
        train_prior(source, tmp_path / "prior", PriorTraining(**FEW))
    assert seen and all(bool((part == 1).all()) for part in seen), "no black image among them"


def test_what_it_cannot_do_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"learns from images with captions, and .* holds image, label"):
        train_prior(lb.check.toy_source(modalities=("image", "label")), tmp_path / "a")
    blind = lb.check.toy_source(4)
    monkeypatch.setattr(type(blind), "batch", _without_images)
    with pytest.raises(DataError, match=r"no sample of .* has both an image and a caption"):
        train_prior(blind, tmp_path / "d")
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="lr must be positive"):
        PriorTraining(lr=0)
    with pytest.raises(ConfigError, match="steps must be 1 or more, got 0"):
        PriorTraining(steps=0)
    with pytest.raises(ConfigError, match="images of 18 pixels cannot be halved 3 times"):
        train_prior(lb.check.toy_source(8, resolution=18), tmp_path / "b", PriorTraining(**FEW))
    assert not (tmp_path / "b").exists(), "a refusal claims no folder"
    train_prior(lb.check.toy_source(8), tmp_path / "c", PriorTraining(**FEW))
    with pytest.raises(ConfigError, match=r"belongs to another recipe: method.seed: 0 -> 1"):
        train_prior(lb.check.toy_source(8), tmp_path / "c", PriorTraining(**FEW, seed=1))
