"""A space that needs no weights from outside: a random ConvNet and hashed words."""

import zlib
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.data import Cache
from limbeck.spaces import Encoder, Space
from limbeck.spaces.encoders.convnet import ConvNet


@dataclass(frozen=True)
class Words(Encoder):
    """Counts of words, each hashed to one of 32 places."""

    modality = "text"

    @property
    def dim(self) -> int:
        return 32

    def build(self) -> nn.Module:
        return nn.Identity()

    def encode(self, network: nn.Module, values: Any) -> Tensor:
        counts = torch.zeros(len(values), 32)
        for row, text in zip(counts, values, strict=True):
            for word in text.split():
                row[zlib.crc32(word.encode()) % 32] += 1
        return counts


@pytest.fixture(scope="session")
def space() -> Space:
    return Space({"image": ConvNet(resolution=16, width=16, pooled=False), "text": Words()})


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("evaluation-cache"))
