"""Training a prior against the formulas of its two phases: losses, what is drawn anew, learning rates, moving average."""

from math import cos, pi
from pathlib import Path
from typing import Any

import pytest
import torch

import limbeck as lb
from limbeck.check import toy_source
from limbeck.core import Recipe
from limbeck.engine.run import Run
from limbeck.runtime.random import stream
from limbeck.runtime.runtime import Runtime

pytest.importorskip("diffusers", reason="needs the diffusion extra")
from limbeck.methods.generative.diffusion.small import small_pipeline
from limbeck.methods.generative.diffusion.training import PriorTraining, _read, _Trainer

pytestmark = pytest.mark.slow

HOW: dict[str, Any] = {
    "channels": (8, 8),
    "text_width": 8,
    "vae_steps": 3,
    "vae_batch": 4,
    "steps": 5,
    "batch": 6,
    "length": 12,
}


def trainer(**options: Any) -> tuple[_Trainer, Any, lb.Source]:
    source, how = toy_source(10), PriorTraining(**{**HOW, **options})
    held, images = _read(source)
    texts = [text for i in held for text in source.captions[i]]
    pipe = small_pipeline(texts, 16, (8, 8), 8, how.text_layers, length=12, prediction=how.prediction, seed=0)
    return _Trainer(source, held, images, pipe, how, Runtime()), pipe, source


def test_the_first_phase_is_a_variational_autoencoder() -> None:
    """|x - d(z)|^2 + kl KL(q(z | x) | N(0, I)), z drawn from q(z | x), with images and draws of its own at every step."""
    made, pipe, source = trainer(kl=0.3)
    found = []
    for t in (0, 1):
        what, loss = made._loss(t)
        draw = stream(0, "prior", t)
        rows = torch.randint(10, (4,), generator=draw)
        x = 2 * (source.batch(rows)["image"].mul(255).round() / 255) - 1
        mean, logarithm = pipe.vae.quant_conv(pipe.vae.encoder(x)).chunk(2, dim=1)
        z = mean + (0.5 * logarithm).exp() * torch.randn(mean.shape, generator=draw)
        kl = 0.5 * (mean.square() + logarithm.exp() - 1 - logarithm).flatten(1).sum(1).mean()
        expected = (pipe.vae.decode(z).sample - x).square().mean() + 0.3 * kl
        assert what == "vae" and loss.item() == pytest.approx(expected.item(), rel=1e-3)
        found.append((tuple(rows.tolist()), loss.item()))
    assert found[0][0] != found[1][0] and found[0][1] != found[1][1]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_second_phase_is_a_denoiser_that_is_told_captions(prediction: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """|target - predicted(z_t, t, caption)|^2 on latents of deviation one; a share of the captions is left out."""
    made, pipe, source = trainer(prediction=prediction, caption_dropout=0.4, batch=10)
    said: list[list[str]] = []
    tokens = made.prior._tokens
    monkeypatch.setattr(made.prior, "_tokens", lambda texts: said.append(list(texts)) or tokens(texts))
    steps = []
    for t in (3, 4, 5):
        what, loss = made._loss(t)
        draw = stream(0, "prior", t)
        rows = torch.randint(10, (10,), generator=draw)
        with torch.no_grad():
            every = 2 * (source.batch(range(10))["image"].mul(255).round() / 255) - 1
            whole = pipe.vae.encode(every).latent_dist
            scale = 1 / (whole.mean.var() + whole.std.square().mean()).sqrt()
            clean = scale * (whole.mean[rows] + whole.std[rows] * torch.randn(10, 4, 4, 4, generator=draw))
        noise = torch.randn(clean.shape, generator=draw)
        step = torch.randint(1000, (10,), generator=draw)
        a = pipe.scheduler.alphas_cumprod[step].view(-1, 1, 1, 1)
        target = {"epsilon": noise, "v_prediction": a.sqrt() * noise - (1 - a).sqrt() * clean, "sample": clean}[
            prediction
        ]
        ids = tokens(said[-1])["input_ids"]
        predicted = pipe.unet(
            a.sqrt() * clean + (1 - a).sqrt() * noise, step, encoder_hidden_states=pipe.text_encoder(ids)[0]
        )
        assert what == "denoiser"
        assert loss.item() == pytest.approx((predicted.sample - target).square().mean().item(), rel=1e-3)
        assert all(text == "" or text in source.captions[i] for text, i in zip(said[-1], rows.tolist(), strict=True))
        steps.append(tuple(step.tolist()))
    assert pipe.vae.config.scaling_factor == pytest.approx(scale.item(), rel=1e-4)
    assert len(set(steps)) == 3 and len({tuple(texts) for texts in said}) == 3
    dropped = sum(text == "" for texts in said for text in texts)
    assert 4 < dropped < 20, "0.4 of 30"
    assert {
        source.captions[i].index(text)
        for texts in said
        for text in texts
        if text
        for i in range(10)
        if text in source.captions[i]
    } == {0, 1}


def test_rates_rise_and_fall_in_each_phase_and_the_average_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _, _ = trainer(lr=0.02, ema=0.9)
    rates, states = [], []
    inner = made.optimizer.step

    def step(*rest: Any) -> None:
        rates.append(tuple(group["lr"] for group in made.optimizer.param_groups))
        inner(*rest)
        states.append([p.detach().clone() for p in made.second])

    monkeypatch.setattr(made.optimizer, "step", step)

    averages = [a.clone() for a in made.averages]
    run = Run(tmp_path / "run", Recipe(source={}, method={"name": "train-prior"}, seed=0, fingerprints={}))
    run.begin()
    made.train(run, 1000)
    expected = []
    for done, of in [(t, 3) for t in range(3)] + [(t, 5) for t in range(5)]:
        factor = min((done + 1) / 50, 1) * (0.05 + 0.95 * (1 + cos(pi * done / of)) / 2)
        expected.append((0.04 * factor, 0.02 * factor))
    assert [x for pair in rates for x in pair] == pytest.approx([x for pair in expected for x in pair])
    for t in range(5):
        decay = min(0.9, (1 + t) / (10 + t))
        averages = [decay * a + (1 - decay) * p for a, p in zip(averages, states[3 + t], strict=True)]
    for one, other in zip(made.averages, averages, strict=True):
        torch.testing.assert_close(one.detach(), other, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(a.detach(), p.detach()) for a, p in zip(made.averages, made.second, strict=True))
