"""What images and captions are compared by: encoders that are joint, or heads that make them so."""

import pytest
import torch

import limbeck as lb
from limbeck.check import toy_source
from priors import CAPTIONS, tiny_prior

pytest.importorskip("diffusers", reason="needs the diffusion extra")
from limbeck.methods.generative.diffusion.features import (
    DecodedFeatures,
    LatentFeatures,
    agreement,
    caption_vectors,
    is_joint,
    joint_space,
)
from limbeck.methods.generative.diffusion.prior import DiffusersPrior

pytestmark = pytest.mark.slow


def task() -> lb.Problem:
    return lb.Problem(toy_source(64), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=8))


def test_encoders_that_were_not_trained_together_get_heads_once() -> None:
    problem = task()
    assert not is_joint(problem.space)
    space = joint_space(problem)
    assert (
        is_joint(space)
        and joint_space(lb.Problem(toy_source(64), space, lb.Budget(pairs=8))).encoders == space.encoders
    )
    again = joint_space(task())
    assert again.fingerprint == space.fingerprint
    held = toy_source(64, split="test")
    images = held.batch(range(64))["image"]
    own, other = [c[0] for c in held.captions], [c[0] for c in held.captions[1:]] + [held.captions[0][0]]
    assert float((agreement(space, images, own) - agreement(space, images, other)).mean()) > 0.2, (
        "it has learned what belongs together"
    )


def test_gradients_of_decoded_features_reach_latents_alone() -> None:
    problem, prior = task(), DiffusersPrior.open(tiny_prior())
    space = joint_space(problem)
    features = DecodedFeatures(prior, space, caption_vectors(problem, space))
    latents = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    vectors = features.image(latents)
    with torch.no_grad():
        assert torch.equal(vectors, space["image"](prior.decode(latents).clamp(0, 1))), (
            "pixels as the encoder knows them"
        )
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)
    vectors.sum().backward()
    assert latents.grad is not None and bool(latents.grad.any())
    assert all(p.grad is None for p in [*prior.pipe.vae.parameters(), *space["image"].network.parameters()])
    rows = torch.tensor([0, 5])
    texts = [problem.captions[row] for row in rows.tolist()]
    assert torch.allclose(features.text(rows, prior.condition(texts)), space["text"](texts), atol=1e-5)


def test_projected_latents_are_learned_and_of_unit_length() -> None:
    prior = DiffusersPrior.open(tiny_prior())
    features = LatentFeatures(4, 32, torch.Generator().manual_seed(0))
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    image, text = features.image(latents), features.text(torch.arange(3), prior.condition(CAPTIONS[:3]))
    assert image.shape == text.shape == (3, 128)
    assert torch.allclose(image.norm(dim=1), torch.ones(3), atol=1e-5)
    (image * text).sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in (latents, *features.parameters()))
