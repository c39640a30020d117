"""The contract of every registered network, and each one against what its paper says."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limbeck import registry
from limbeck.errors import ConfigError, DataError
from limbeck.networks._spec import network as by_name
from limbeck.networks.alexnet import AlexNet
from limbeck.networks.convnet import ConvNet
from limbeck.networks.resnet18 import ResNet18
from limbeck.networks.vgg11 import VGG11
from limbeck.networks.vit_tiny import ViTTiny
from tiers import slow_but

NAMES = registry.names("network")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(resolution: int, count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, resolution, resolution, generator=seeded(7))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("resolution", slow_but([16, 32], 16))
def test_features_have_the_declared_dim_and_reach_every_weight(name: str, resolution: int) -> None:
    network = registry.get("network", name)(resolution)
    features = network(images(resolution))
    assert features.shape == (2, network.dim) and torch.isfinite(features).all()
    (features * torch.randn(features.shape, generator=seeded(1))).sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.requires_grad and parameter.device.type == "cpu"
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("name", NAMES)
def test_weights_come_from_the_generator_alone(name: str) -> None:
    make: Callable[..., nn.Module] = registry.get("network", name)
    before = torch.get_rng_state()
    first, same, other, default, zero = (
        make(16, **options)
        for options in (
            {"generator": seeded(1)},
            {"generator": seeded(1)},
            {"generator": seeded(2)},
            {},
            {"generator": seeded(0)},
        )
    )
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(v, same.state_dict()[k]) for k, v in first.state_dict().items())
    assert any(not torch.equal(v, other.state_dict()[k]) for k, v in first.state_dict().items())
    assert all(torch.equal(v, zero.state_dict()[k]) for k, v in default.state_dict().items())
    for key, value in first.state_dict().items():
        assert torch.isfinite(value).all(), key


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_twice_differentiable_in_the_weights(name: str) -> None:
    """The gradient of a squared gradient norm, against a central difference along one direction."""
    network = registry.get("network", name)(16).double()
    x, names = images(16, 4).double(), [k for k, _ in network.named_parameters()]
    start = [p.detach() for p in network.parameters()]
    target = torch.randn(4, network.dim, generator=seeded(3), dtype=torch.float64)

    def norm(weights: list[torch.Tensor], graph: bool) -> torch.Tensor:
        features = torch.func.functional_call(network, dict(zip(names, weights, strict=True)), (x,))
        gradients = torch.autograd.grad((features * target).sum(), weights, create_graph=graph, materialize_grads=True)
        return sum((g.square().sum() for g in gradients), torch.zeros((), dtype=torch.float64))

    weights = [p.clone().requires_grad_() for p in start]
    exact = torch.autograd.grad(norm(weights, True), weights, materialize_grads=True)
    generator = seeded(4)
    direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in start]
    step = 1e-9  # so small that next to no ReLU changes sign on the way
    up, down = (
        norm([(p + s * d).requires_grad_() for p, d in zip(start, direction, strict=True)], False)
        for s in (step, -step)
    )
    slope = sum((g * d).sum() for g, d in zip(exact, direction, strict=True))
    torch.testing.assert_close(slope, (up - down) / (2 * step), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("resolution", "depth"), [(8, 1), (16, 2), (28, 2), (32, 3), (64, 4), (72, 4), (128, 5)])
def test_convnet_depth_follows_the_resolution(resolution: int, depth: int) -> None:
    network = ConvNet(resolution, width=4)
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == depth
    assert network(images(resolution)).shape == (2, network.dim)


def test_convnet_is_the_network_of_the_papers() -> None:
    """Written out with functions; ConvNet-3-128 has 320,010 weights with a classifier of ten classes on 2048 features."""
    network = ConvNet(32)
    assert network.dim == 2048 and sum(p.numel() for p in network.parameters()) + 2048 * 10 + 10 == 320010
    x = (images(32) - 0.5) / 0.25
    for block in network.blocks:
        assert isinstance(block, nn.Sequential)
        convolution: Any = block[0]
        x = F.conv2d(x, convolution.weight, convolution.bias, padding=1)
        x = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
        x = F.avg_pool2d(x.relu(), 2)
    torch.testing.assert_close(network(images(32)), x.flatten(1), rtol=1e-4, atol=1e-5)


@pytest.mark.draws_globally
def test_a_pooled_convnet_takes_any_size() -> None:
    network = ConvNet(32, width=8, pooled=True)
    assert network.dim == 8 and network(torch.rand(2, 3, 40, 56)).shape == (2, 8)


def test_resnet18_has_the_weights_of_the_paper() -> None:
    """11,689,512 with 1000 classes and the large stem; the small stem has 64 x 3 x (49 - 9) fewer."""
    count = sum(p.numel() for p in ResNet18(224).parameters())
    assert count + 512 * 1000 + 1000 == 11_689_512
    assert count - sum(p.numel() for p in ResNet18(64).parameters()) == 64 * 3 * 40


@pytest.mark.draws_globally
def test_resnet18_halves_as_the_paper_does() -> None:
    assert ResNet18(224).stem(torch.rand(1, 3, 224, 224)).shape[-1] == 56
    assert ResNet18(32).stem(torch.rand(1, 3, 32, 32)).shape[-1] == 32
    assert ResNet18(32).blocks(torch.rand(1, 64, 32, 32)).shape == (1, 512, 4, 4)


@pytest.mark.draws_globally
def test_vit_tiny_is_pytorchs_encoder() -> None:
    """The same weights in `nn.TransformerEncoderLayer` give the same features."""
    ours, x = ViTTiny(16).eval(), images(16)
    tokens = ours.patches((x - 0.5) / 0.25).flatten(2).transpose(1, 2)
    z = torch.cat([ours.token.expand(2, -1, -1), tokens], dim=1) + ours.place
    rename = {
        "qkv.weight": "self_attn.in_proj_weight",
        "qkv.bias": "self_attn.in_proj_bias",
        "out": "self_attn.out_proj",
    }
    rename |= {"norm_attention": "norm1", "norm_mlp": "norm2", "mlp.0": "linear1", "mlp.2": "linear2"}
    for block in ours.blocks:
        layer = nn.TransformerEncoderLayer(192, 3, 768, 0.0, "gelu", batch_first=True, norm_first=True)
        state = {}
        for key, value in block.state_dict().items():
            old = next(k for k in rename if key.startswith(k))
            state[key.replace(old, rename[old])] = value
        layer.load_state_dict(state)
        z = layer(z)
    torch.testing.assert_close(ours(x), F.layer_norm(z[:, 0], (192,)), rtol=1e-4, atol=1e-5)


def test_vit_tiny_has_the_size_of_the_paper() -> None:
    """5,717,416 with 1000 classes, 16-pixel patches and 197 tokens; here there are 65."""
    count = sum(p.numel() for p in ViTTiny(128).parameters())
    assert count + 192 * 1000 + 1000 + (197 - 65) * 192 == 5_717_416


def test_vgg11_has_the_weights_of_the_paper() -> None:
    """9,220,480 in the convolutions; the norms have two for each of 2,752 channels."""
    assert sum(p.numel() for p in VGG11(32).parameters()) == 9_220_480 + 2 * 2752


@pytest.mark.parametrize(("resolution", "dim"), [(8, 512), (16, 512), (28, 512), (32, 512), (64, 2048), (128, 8192)])
def test_vgg11_never_norms_a_single_position(resolution: int, dim: int) -> None:
    """Such a norm is zero whatever is seen; features would not depend on the image."""
    network = VGG11(resolution)
    features = network(images(resolution))
    assert features.shape == (2, network.dim) == (2, dim)
    assert (features[0] - features[1]).abs().mean() > 0.01


def test_vgg11_is_written_out() -> None:
    network, x = VGG11(32), (images(32) - 0.5) / 0.25
    convolutions: list[Any] = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    for i, convolution in enumerate(convolutions):
        x = F.conv2d(x, convolution.weight, convolution.bias, padding=1)
        x = F.instance_norm(x).relu()
        if i in (0, 1, 3, 5, 7):
            x = F.max_pool2d(x, 2)
    torch.testing.assert_close(network(images(32)), x.flatten(1), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("resolution", "kernel", "dim"), [(16, 5, 768), (32, 5, 3072), (64, 7, 3072), (128, 11, 3072)])
def test_alexnet_strides_over_large_images(resolution: int, kernel: int, dim: int) -> None:
    network = AlexNet(resolution)
    first: Any = network.layers[0]
    assert first.kernel_size == (kernel, kernel) and first.stride == (max(1, resolution // 32),) * 2
    assert network(images(resolution)).shape == (2, network.dim) == (2, dim)


@pytest.mark.parametrize("resolution", [8, 20, 28, 40, 72, 96, 100, 224])
def test_alexnet_knows_its_size_at_any_resolution(resolution: int) -> None:
    network = AlexNet(resolution)
    assert network(images(resolution, 1)).shape == (1, network.dim)


def test_alexnet_is_written_out() -> None:
    network, x = AlexNet(32), (images(32) - 0.5) / 0.25
    convolutions: list[Any] = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    for i, (convolution, padding) in enumerate(zip(convolutions, (2, 2, 1, 1, 1), strict=True)):
        x = F.conv2d(x, convolution.weight, convolution.bias, padding=padding).relu()
        if i in (0, 1, 4):
            x = F.max_pool2d(x, 2)
    torch.testing.assert_close(network(images(32)), x.flatten(1), rtol=1e-3, atol=1e-4)
    assert sum(p.numel() for p in network.parameters()) == 1_841_472


@pytest.mark.parametrize(
    "make",
    [
        lambda: ConvNet(4),
        lambda: ConvNet(32, width=0),
        lambda: ResNet18(4),
        lambda: ViTTiny(20),
        lambda: VGG11(4),
        lambda: AlexNet(7),
    ],
)
def test_sizes_that_cannot_work(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(ConfigError, match="needs"):
        make()


@pytest.mark.parametrize("make", [ConvNet, ViTTiny, VGG11, AlexNet])
def test_images_of_another_size_are_refused(make: Callable[[int], nn.Module]) -> None:
    with pytest.raises(DataError, match="built for 16 x 16 pixels and got 32 x 32"):
        make(16)(images(32))


def test_a_name_may_carry_a_width() -> None:
    assert by_name("resnet18") is ResNet18
    narrow = by_name("convnet:4")(16, generator=seeded(3))
    assert narrow.dim == 4 * 4 * 4
    wide = by_name("convnet")(16, generator=seeded(3))
    assert wide.dim == 128 * 4 * 4


@pytest.mark.parametrize(
    ("spec", "said"),
    [("convnet:0", "number of channels"), ("convnet:x", "convnet:32"), ("resnet18:64", "one width only")],
)
def test_a_width_that_cannot_be_is_refused(spec: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        by_name(spec)
