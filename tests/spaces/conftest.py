"""Stand-ins for weights that a test must not need."""

import math

import pytest
import torch
from torch import Tensor

from limbeck.spaces.encoders import mobilenet_v2


@pytest.fixture
def random_mobilenet(monkeypatch: pytest.MonkeyPatch) -> None:
    """MobileNetV2 with random weights, whether the package with the real ones is installed or not."""
    monkeypatch.setattr(mobilenet_v2.MobileNetV2, "requires", ())
    monkeypatch.setattr(mobilenet_v2, "_weights", _random)


def _random() -> dict[str, Tensor]:
    """Convolutions that keep the variance, and batch norms that do something."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}
    with torch.device("meta"):
        network = mobilenet_v2._network()
    for name, value in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.long)
        elif value.ndim == 4:
            fan_in = math.prod(value.shape[1:])
            state[name] = torch.randn(value.shape, generator=generator) * math.sqrt(2 / fan_in)
        elif name.endswith(("weight", "running_var")):
            state[name] = 0.5 + torch.rand(value.shape, generator=generator)
        else:
            state[name] = 0.1 * torch.randn(value.shape, generator=generator)
    return state
