"""Steps of EDGE, and where sampling starts, against naive re-implementations on a tiny pipeline."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import limbeck as lb
from limbeck.check import toy_source
from priors import tiny_prior

pytest.importorskip("diffusers", reason="needs the diffusion extra")
from limbeck.methods import Edge, Prior, PrototypePrior
from limbeck.methods.generative.diffusion import sampling
from limbeck.methods.generative.diffusion.features import joint_space
from limbeck.methods.generative.diffusion.prior import DiffusersPrior

WEIGHTS = {"to_text": 0.9, "to_image": 0.2, "diverse": 0.7, "denoise": 0.4}


@pytest.fixture(scope="module")
def problem() -> lb.Problem:
    return lb.Problem(toy_source(), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=6))


def edge(**options: Any) -> Edge:
    return Edge(
        **{"prior": tiny_prior(), "sampling_steps": 2, "steps": 3, "batch": 6, "temperature": 0.3, **WEIGHTS, **options}
    )


def halves(logits: Tensor, ignored: Tensor) -> tuple[Tensor, Tensor]:
    """Each image finds its text; each text its image."""
    n, found = len(logits), []
    for z, skip in ((logits, ignored), (logits.T, ignored.T)):
        rows = [z[i, i] - torch.stack([z[i, j] for j in range(n) if not skip[i, j]]).logsumexp(0) for i in range(n)]
        found.append(-torch.stack(rows).mean())
    return found[0], found[1]


def apart(x: Tensor, y: Tensor, ignored: Tensor) -> Tensor:
    """The mean cosine of the joint vectors of two different pairs."""
    joint = torch.cat([x / x.norm(dim=1, keepdim=True), y / y.norm(dim=1, keepdim=True)], dim=1) / math.sqrt(2)
    n = len(joint)
    return torch.stack([joint[i] @ joint[j] for i in range(n) for j in range(n) if i != j and not ignored[i, j]]).mean()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"features": "latent"},
        pytest.param({"prior": "v_prediction", "clean_input": True}, marks=pytest.mark.slow),
    ],
    ids=["decoded", "latent", "velocity"],
)
def test_a_step_is_what_the_formulas_say(problem: lb.Problem, options: dict[str, Any]) -> None:
    """z_t, the estimate in one step, both directions each with its own weight, diversity, denoising; and the gradient of their sum."""
    kind, t = options.get("prior", "epsilon"), 2
    method = edge(**{**options, "prior": tiny_prior(kind)})
    synthetic = method.start(problem)
    tuned: Any = synthetic.generator
    logs = {name: float(value) for name, value in method.step(problem, synthetic, t).items()}
    trained = list(synthetic.parameters())
    found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in trained]

    pipe, pairs = tuned.prior.pipe, problem.candidates
    order = torch.randperm(len(pairs), generator=problem.rng("pairs", t))[:6]
    rows, sample = pairs.rows["text"][order], pairs.sample[order]
    words = [problem.captions[row] for row in rows.tolist()]
    draw = problem.rng("noise", t)
    spread, noise = torch.randn(6, 4, 4, 4, generator=draw), torch.randn(6, 4, 4, 4, generator=draw)
    step = torch.randint(600, (6,), generator=draw)
    with torch.no_grad():
        seen = pipe.vae.encode(2 * problem.source.batch(sample)["image"] - 1).latent_dist
        clean = (seen.mean + seen.std * spread) * pipe.vae.config.scaling_factor
        ids = pipe.tokenizer(words, padding="max_length", max_length=16, truncation=True, return_tensors="pt")
        hidden = pipe.text_encoder(ids["input_ids"])[0]
    a = pipe.scheduler.alphas_cumprod[step].view(6, 1, 1, 1)
    noised = a.sqrt() * clean + (1 - a).sqrt() * noise
    said = pipe.unet(clean if method.clean_input else noised, step, encoder_hidden_states=hidden).sample
    target = noise if kind == "epsilon" else a.sqrt() * noise - (1 - a).sqrt() * clean
    estimate = (
        (noised - (1 - a).sqrt() * said) / a.sqrt() if kind == "epsilon" else a.sqrt() * noised - (1 - a).sqrt() * said
    )
    if method.features == "latent":
        learned = tuned.more["features"]
        x = F.normalize(F.avg_pool2d(estimate, 1).flatten(1) @ learned.see, dim=1)
        y = F.normalize(hidden.mean(1) @ learned.read, dim=1)
    else:
        joint = joint_space(problem)
        pixels = pipe.vae.decode(estimate / pipe.vae.config.scaling_factor).sample / 2 + 0.5
        x, y = joint["image"](pixels.clamp(0, 1)), joint["text"](words)
    ignored = torch.tensor(
        [[i != j and (sample[i] == sample[j] or words[i] == words[j]) for j in range(6)] for i in range(6)]
    )
    first, second = halves(x @ y.T / 0.3, ignored)
    terms = {"to text": 0.9 * first, "to image": 0.2 * second, "diversity": 0.7 * apart(x, y, ignored)}
    terms["denoising"] = 0.4 * (said - target).square().mean()
    total = torch.stack(list(terms.values())).sum()
    assert logs.pop("loss") == pytest.approx(total.item(), rel=1e-3)
    assert logs == pytest.approx({name: value.item() for name, value in terms.items()}, rel=2e-3, abs=1e-5)
    assert abs(first.item() - second.item()) > 1e-3, "the case tells the directions apart"
    expected = torch.autograd.grad(total, trained, allow_unused=True, materialize_grads=True)
    scale = max(float(g.norm()) for g in expected)
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).norm()) <= 5e-3 * scale


@pytest.mark.parametrize("weights", [(0.5, 0.25, 0.75), (0.5, 0.5, 0.0)])
def test_terms_do_not_vanish_where_their_weights_would_cancel(
    problem: lb.Problem, weights: tuple[float, float, float]
) -> None:
    method = edge(features="latent", denoise=0.0, **dict(zip(("to_text", "to_image", "diverse"), weights, strict=True)))
    logs = method.step(problem, method.start(problem), 0)
    assert set(logs) == {"loss", "to text", "to image", *(["diversity"] if weights[2] else [])}
    assert all(float(logs[name]) > 0 for name in ("to text", "to image"))


def test_every_step_draws_other_pairs_noise_and_diffusion_steps(
    problem: lb.Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, seen = edge(denoise=1.0, to_text=0, to_image=0, diverse=0), []
    synthetic = method.start(problem)
    inner = DiffusersPrior.noised

    def noised(self: Any, clean: Tensor, noise: Tensor, step: Tensor) -> Tensor:
        seen.append((clean, noise, step))
        return inner(self, clean, noise, step)

    chosen, drawn = [], Edge._drawn
    monkeypatch.setattr(DiffusersPrior, "noised", noised)
    monkeypatch.setattr(Edge, "_drawn", lambda *given: chosen.append(tuple(given[3].tolist())) or drawn(*given))
    for t in range(4):
        method.step(problem, synthetic, t)
    assert len({tuple(sorted(pairs)) for pairs in chosen}) == 4
    for part in range(3):
        for i, one in enumerate(seen):
            assert all(not torch.equal(one[part], other[part]) for other in seen[:i])
    assert all(len(step.unique()) > 2 and int(step.max()) < 600 for _, _, step in seen)


@pytest.mark.slow
def test_a_prototype_is_sampled_from_its_own_image_and_caption(
    problem: lb.Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts at sqrt(a_s) z_prototype + sqrt(1 - a_s) e, image by image, in chunks; then DDIM from s on."""
    asked: list[tuple[Any, ...]] = []
    inner = DiffusersPrior.sample

    def sample(self: Any, captions: Any, generators: Any, *rest: Any) -> Tensor:
        noise = [torch.randn(1, 4, 4, 4, generator=g.clone_state()) for g in generators]
        images = inner(self, captions, generators, *rest)
        asked.append((self, list(captions), torch.cat(noise), rest, images))
        return images

    monkeypatch.setattr(sampling, "CHUNK", 4)
    monkeypatch.setattr(DiffusersPrior, "sample", sample)
    method = PrototypePrior(prior=tiny_prior(), sampling_steps=5, strength=0.6, guidance=2.0)
    small = lb.distill(problem, method)
    assert [len(captions) for _, captions, *_ in asked] == [4, 2]
    prior, keys, start = asked[0][0], list(problem.source.keys), 0
    pipe = prior.pipe
    for _, captions, noise, (side, steps, guidance, origin, strength), images in asked:
        assert (side, steps, guidance, strength) == (16, 5, 2.0, 0.6)
        index = [keys.index(key) for key in small.origins[start : start + len(captions)]]
        assert captions == [texts[0] for texts in small.captions[start : start + len(captions)]]
        assert all(c in problem.source.captions[i] for c, i in zip(captions, index, strict=True))
        pixels = problem.source.batch(index)["image"]
        with torch.no_grad():
            clean = pipe.vae.encode(2 * pixels - 1).latent_dist.mean * pipe.vae.config.scaling_factor
            torch.testing.assert_close(origin, clean, rtol=1e-4, atol=1e-5)
            scheduler = prior.scheduler(5, whole=False)
            times = scheduler.timesteps[2:].tolist()  # 3 of 5 steps are gone through
            alphas = pipe.scheduler.alphas_cumprod
            z = alphas[times[0]].sqrt() * clean + (1 - alphas[times[0]]).sqrt() * noise
            said = prior.condition(captions).hidden, prior.condition([""] * len(captions)).hidden
            for t in times:
                own, empty = (pipe.unet(z, torch.full((len(z),), t), encoder_hidden_states=h).sample for h in said)
                e = empty + 2.0 * (own - empty)
                before = t - 1000 // 5
                a, b = alphas[t], alphas[before] if before >= 0 else scheduler.final_alpha_cumprod
                z = b.sqrt() * (z - (1 - a).sqrt() * e) / a.sqrt() + (1 - b).sqrt() * e
            expected = (pipe.vae.decode(z / pipe.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
        torch.testing.assert_close(images, expected, rtol=1e-3, atol=2e-3)
        start += len(captions)


@pytest.mark.slow
def test_candidates_are_chosen_by_their_own_caption(problem: lb.Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each image is the one of its candidates that agrees best with its caption, and each is drawn from noise of its own."""
    drawn: list[Tensor] = []

    def sample(self: Any, captions: Any, generators: Any, side: int, *rest: Any) -> Tensor:
        drawn.append(torch.stack([torch.rand(3, side, side, generator=g) for g in generators]))
        return drawn[-1]

    monkeypatch.setattr(DiffusersPrior, "sample", sample)
    small = lb.distill(problem, Prior(prior=tiny_prior(), sampling_steps=1, candidates=5))
    joint = joint_space(problem)
    candidates = torch.stack(drawn).mul(255).round()
    assert candidates.shape[:2] == (5, 6) and len({tuple(x[0, 0].tolist()) for x in candidates.flatten(0, 1)}) == 30
    texts = joint["text"]([texts[0] for texts in small.captions])
    agree = torch.stack([(joint["image"](c / 255) * texts).sum(1) for c in candidates])
    best = agree.argmax(0)
    assert torch.equal(small.tensors["image"].float(), candidates[best, torch.arange(6)])
    assert len(best.unique()) > 1
