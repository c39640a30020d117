"""`train_prior`: learns, continues to the same bits, and says what its folder is."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import limbeck as lb
from limbeck.data.batch import Batch
from limbeck.errors import ConfigError, DataError, LimbeckWarning, StorageError
from limbeck.runtime.files import sha256

pytest.importorskip("diffusers", reason="needs the diffusion extra")
from limbeck.methods.generative.diffusion.pipelines import write_pipeline
from limbeck.methods.generative.diffusion.prior import DiffusersPrior
from limbeck.methods.generative.diffusion.training import PriorTraining, _Trainer, losses, train_prior

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
    with pytest.raises(ConfigError, match="`lr` of training must be above 0"):
        PriorTraining(lr=0)
    with pytest.raises(ConfigError, match="`steps` of training must be 1 or more, got 0"):
        PriorTraining(steps=0)
    with pytest.raises(ConfigError, match="images of 18 pixels cannot be halved 3 times"):
        train_prior(lb.check.toy_source(8, resolution=18), tmp_path / "b", PriorTraining(**FEW))
    assert not (tmp_path / "b").exists(), "a refusal claims no folder"
    train_prior(lb.check.toy_source(8), tmp_path / "c", PriorTraining(**FEW))
    with pytest.raises(ConfigError, match=r"belongs to another recipe: method.seed: 0 -> 1"):
        train_prior(lb.check.toy_source(8), tmp_path / "c", PriorTraining(**FEW, seed=1))


def files(folder: Path) -> dict[str, str]:
    """Digests of the pipeline's files."""
    named = json.loads((folder / "pipeline.json").read_text())["files"]
    assert {name: sha256(folder / name) for name in named} == named
    return named  # type: ignore[no-any-return]


def test_killed_after_its_last_checkpoint_it_ends_in_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, how = lb.check.toy_source(12), PriorTraining(**FEW)
    train_prior(source, tmp_path / "whole", how)

    def killed(*of: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr("limbeck.methods.generative.diffusion.training.write_pipeline", killed)
        train_prior(source, tmp_path / "parts", how)
    train_prior(source, tmp_path / "parts", how)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert "tokenizer/tokenizer.json" in files(tmp_path / "whole")
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".")]
    modes = {p.stat().st_mode & 0o777 for p in (tmp_path / "whole").rglob("*") if p.is_file()}
    assert len(modes) == 1, "whoever may read one file may read all"


@pytest.mark.parametrize("moved", [0, 1, 3, 6])
def test_killed_while_the_pipeline_is_moved_into_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    source, how = lb.check.toy_source(12), PriorTraining(**FEW)
    real, count = os.replace, [0]

    def replace(old: Path, new: Path) -> None:
        if Path(new).parent.name == "prior" and ".limbeck-work" in str(old) and Path(old).parent.name == "new":
            count[0] += 1
            if count[0] > moved:
                raise KeyboardInterrupt
        real(old, new)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", replace)
        train_prior(source, tmp_path / "prior", how)
    assert not (tmp_path / "prior" / "model_index.json").exists()
    train_prior(source, tmp_path / "prior", how)
    assert "unet/diffusion_pytorch_model.safetensors" in files(tmp_path / "prior")
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".")]


def test_what_a_person_put_beside_a_pipeline_stays(tmp_path: Path) -> None:
    source, how = lb.check.toy_source(12), PriorTraining(**FEW)
    pipe = train_prior(source, tmp_path / "whole", how).pipe
    folder = tmp_path / "other"
    (folder / "vae").mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    (folder / "vae" / "thesis.tex").write_text("years of work")
    with pytest.raises(StorageError, match=r"holds vae/thesis.tex, which is in the way of the pipeline"):
        write_pipeline(pipe, folder, "")
    assert sorted(p.name for p in folder.rglob("*")) == ["notes.txt", "thesis.tex", "vae"]
    shutil.rmtree(folder / "vae")
    for card in ("one", "two"):
        write_pipeline(pipe, folder, card)
    assert (folder / "notes.txt").read_text() == "mine" and (folder / "README.md").read_text() == "two"
    (folder / "unet" / "mine.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"holds unet/mine.txt"):
        write_pipeline(pipe, folder, "three")
    assert (folder / "README.md").read_text() == "two"


def test_a_resumed_training_tells_at_once_what_is_in_its_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, how = lb.check.toy_source(12), PriorTraining(**FEW)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(_Trainer, "write", lambda *of: (_ for _ in ()).throw(Stopped()))
        train_prior(source, tmp_path / "prior", how)
    (tmp_path / "prior" / "README.md").write_text("my notes")
    with monkeypatch.context() as patch, pytest.raises(StorageError, match=r"holds README.md.* move it elsewhere"):
        patch.setattr(_Trainer, "train", lambda *of: pytest.fail("it must not train"))
        train_prior(source, tmp_path / "prior", how)


def test_a_full_disk_leaves_no_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, how = lb.check.toy_source(12), PriorTraining(**FEW)
    for error in (Exception("No space left on device (os error 28)"), OSError(28, "No space left on device")):
        with (
            monkeypatch.context() as patch,
            pytest.raises(StorageError, match=r"No space left on device.*; free space"),
        ):
            patch.setattr(
                "diffusers.StableDiffusionPipeline.save_pretrained", lambda *of, e=error: (_ for _ in ()).throw(e)
            )
            train_prior(source, tmp_path / "prior", how)
        left = {p.name for p in (tmp_path / "prior").iterdir()}
        assert left == {"checkpoint", "environment.json", "log.jsonl", "recipe.yaml"}
    train_prior(source, tmp_path / "prior", how)
    assert files(tmp_path / "prior")
