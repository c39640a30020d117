"""A pretrained encoder that is trained: what moves, what stays, and that its gradient has a gradient."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

import limbeck as lb
from limbeck.errors import ConfigError
from limbeck.spaces import Encoder
from limbeck.spaces.trainable import TrainableEncoder
from tiers import slow_but

TOWERS: dict[str, dict[str, Any]] = {
    "convnet": {"image": {"name": "convnet", "width": 8}},
    "efficientnet_lite0": {"image": "efficientnet_lite0"},
    "mobilenet_v2": {"image": "mobilenet_v2"},
    "ensemble": {"image": "ensemble:convnet+mobilenet_v2"},
    "pool": {"image": "pool:convnet+mobilenet_v2"},
    "minilm": {"text": "minilm"},
}


def encoder_of(name: str) -> Encoder:
    (encoder,) = lb.space(**TOWERS[name]).encoders.values()
    return encoder


def samples(encoder: Encoder) -> Tensor:
    if encoder.modality == "text":
        return encoder.tokens(["a red square", "rain"], 6)
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", sorted(TOWERS))
@pytest.mark.usefixtures("random_mobilenet")
def test_it_starts_as_the_encoder_and_leaves_it_frozen(name: str) -> None:
    encoder = encoder_of(name)
    tower, values = TrainableEncoder(encoder), samples(encoder)
    assert all(name.startswith("network.") and p.requires_grad for name, p in tower.named_parameters())
    torch.testing.assert_close(tower(values), encoder.encode(encoder.network, values), rtol=1e-4, atol=1e-5)
    assert tower.dim == encoder.dim and not any(module.training for module in tower.train().modules())
    before = encoder(values)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.mul_(1.1)
    assert torch.equal(encoder(values), before) and not any(p.requires_grad for p in encoder.network.parameters())


@pytest.mark.parametrize("name", slow_but(sorted(TOWERS), "convnet"))
@pytest.mark.usefixtures("random_mobilenet")
def test_every_parameter_moves(name: str) -> None:
    encoder = encoder_of(name)
    tower = TrainableEncoder(encoder)
    tower(samples(encoder))[:, ::2].square().sum().backward()
    assert [name for name, p in tower.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_what_vectors_do_not_depend_on_is_kept_as_it_is() -> None:
    """The classifier behind the features, and the table of word vectors where tokens are given as vectors."""
    image, text = TrainableEncoder(encoder_of("efficientnet_lite0")), TrainableEncoder(encoder_of("minilm"))
    assert {"network._fc.weight", "network._fc.bias"} <= {name for name, _ in image.named_buffers()}
    assert "network.model.embeddings.word_embeddings.weight" in {name for name, _ in text.named_buffers()}
    assert sum(p.numel() for p in image.parameters()) < 3.5e6 and sum(p.numel() for p in text.parameters()) < 11e6


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TOWERS))
@pytest.mark.usefixtures("random_mobilenet")
def test_the_gradient_of_an_unrolled_step_is_exact(name: str) -> None:
    """Derivative of the loss after a step of SGD on the values, against a central difference in float64."""
    encoder = encoder_of(name)
    tower = TrainableEncoder(encoder).double()
    parameters = dict(tower.named_parameters())
    start = samples(encoder).double()
    direction = torch.randn(start.shape, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    direction = direction * start.any(-1, keepdim=True) if encoder.modality == "text" else direction
    weight = torch.rand(tower.dim, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    rate = 1e-1 if name in ("convnet", "pool") else 1e-4  # large enough to be seen behind 16 digits

    def after(values: Tensor) -> Tensor:
        loss = functional_call(tower, parameters, (values,)).square() @ weight
        step = torch.autograd.grad(loss.mean(), list(parameters.values()), create_graph=True)
        moved = {name: p - rate * g for (name, p), g in zip(parameters.items(), step, strict=True)}
        return functional_call(tower, moved, (start,)).square().mv(weight).mean()

    values = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(after(values), values)
    h = 1e-9  # small: a ReLU6 that switches between the two points spoils the difference
    numeric = (after(start + h * direction) - after(start - h * direction)).detach() / (2 * h)
    torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=5e-3, atol=0)


def test_a_copy_does_not_carry_the_frozen_network() -> None:
    encoder = encoder_of("efficientnet_lite0")
    tower = TrainableEncoder(encoder)
    assert "network" not in vars(tower._encoder)
    twin = copy.deepcopy(tower)
    assert torch.equal(twin(samples(encoder)), tower(samples(encoder)))


def test_weights_that_cannot_be_trained_are_refused() -> None:
    with pytest.raises(ConfigError, match="'bag_of_words' has no weights that its vectors depend on"):
        TrainableEncoder(lb.space(text="bag_of_words")["text"])
