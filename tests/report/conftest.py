"""Small sets, scores and a history that the tests of the report share."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from limbeck.check import toy_source
from limbeck.core import DistilledSet, Recipe
from limbeck.data import Modality, Source
from limbeck.evaluation.score import Score

Build = Callable[..., DistilledSet]


@pytest.fixture(scope="session")
def source() -> Source:
    return toy_source(24, resolution=16)


@pytest.fixture(scope="session")
def small(source: Source) -> Build:
    """Builds a set of `pairs` toy samples: the images are the real ones, changed where `learned`."""

    def build(
        method: str = "cf", pairs: int = 6, *, learned: bool = True, image: bool = True, text: bool = True, **other: Any
    ) -> DistilledSet:
        generator = torch.Generator().manual_seed(pairs)
        pixels = source.batch(range(pairs))["image"]
        tensors = {"image": (pixels.flip(-1) if learned else pixels).mul(255).round().byte()} if image else {}
        if text and learned:
            tensors["text"] = torch.randn(pairs, 8, generator=generator)
        captions = [source.captions[i][:1] if text else () for i in range(pairs)]
        near = [(*source.captions[i][:1], 0.875) for i in range(pairs)]
        modalities = {"image": Modality("image", (3, 16, 16))} if image else {}
        fields = {
            "name": f"toy by {method}",
            "modalities": modalities | ({"text": Modality("text")} if text else {}),
            "tensors": tensors or {"label": torch.zeros(pairs, dtype=torch.long)},
            "captions": captions,
            "origins": source.keys[:pairs],
            "neighbours": [[pair] for pair in near] if text else (),
            "nearest": [(source.keys[(i + i % 2) % 24], 0.5 + i / 100) for i in range(pairs)] if image else (),
            "licence": "CC0-1.0",
            "recipe": Recipe(
                source={"name": "toy"}, method={"name": method, "steps": 5}, space={"image": {"name": "convnet"}}
            ),
            "encoder_licences": {"image": "Apache-2.0"},
        }
        return DistilledSet(**{**fields, **other})

    return build


@pytest.fixture(scope="session")
def score() -> Callable[..., Score]:
    """Builds one score; its bytes follow its pairs."""

    def build(method: str, pairs: int, values: tuple[float, ...], metric: str = "mean", **other: Any) -> Score:
        fields = {
            "name": f"{method}-{pairs}",
            "bytes": pairs * 1000,
            "protocol": "retrieval",
            "fingerprint": "0123456789abcdef",
        }
        return Score.of(values, method=method, pairs=pairs, metric=metric, **{**fields, **other})

    return build


@pytest.fixture(scope="session")
def history() -> list[dict[str, float]]:
    return [{"step": t + 1, "gradient": 2.0, "loss": 100 * 0.98**t} for t in range(400)]
