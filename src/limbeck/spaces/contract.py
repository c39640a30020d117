"""The contract suite of encoders: what every one must keep. A plug-in's author can run it, too."""

from collections.abc import Mapping, Sequence
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import torch
from torch import Tensor

from limbeck import registry
from limbeck.errors import ConfigError
from limbeck.spaces.build import space
from limbeck.spaces.space import Encoder

__all__ = ["check_encoder"]


def check_encoder(encoder: Encoder, samples: Any = None, other: Mapping[str, Any] | None = None) -> None:
    """Tests an encoder against the contract of `limbeck.Encoder`.

    Args:
        encoder: what is tested.
        samples: at least three values, no two alike, as a batch of its modality holds them; by default images, spectrograms,
            depth in metres or strings.
        other: options under which the vectors must differ, so the fingerprint must, too.

    Raises:
        AssertionError: naming the clause that is broken.

    Example:
        >>> import limbeck as lb
        >>> check_encoder(lb.space(image="convnet")["image"], other={"seed": 1})
    """
    samples = _samples(encoder.modality) if samples is None else samples
    assert len(samples) >= 3, "give at least three samples"
    _check_fields(encoder)
    before = torch.get_rng_state()
    vectors = encoder(samples)
    assert torch.equal(before, torch.get_rng_state()), "it moved the global random generator"
    _check_vectors(encoder, samples, vectors)
    network = encoder.network
    assert not any(m.training for m in network.modules()), "its network is not in eval mode"
    assert not any(p.requires_grad for p in network.parameters()), "its network is not frozen"
    if isinstance(samples, Tensor):
        _check_gradient(encoder, samples)
    else:
        _check_tokens(encoder, samples, vectors)
    again = space(**{encoder.modality: encoder.describe()})[encoder.modality]
    assert again == encoder, f"describe() does not make the same encoder again: {encoder.describe()}"
    assert again.fingerprint == encoder.fingerprint, "building it twice gave two fingerprints"
    assert torch.equal(again(samples), vectors), "building it twice gave two results"
    if other:
        assert replace(encoder, **other).fingerprint != encoder.fingerprint, f"{other} left the fingerprint as it was"


def _samples(modality: str) -> Any:
    if modality == "text":
        return ["a red square", "a photo of a small dog on a very long sandy beach at night", "rain"]
    values = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    if modality == "audio":
        return values[:, :1]
    return 0.6 + 9 * values[:, :1] if modality == "depth" else values


def _check_fields(encoder: Encoder) -> None:
    hash(encoder)
    documented = type(encoder).__doc__ or ""
    missing = [f.name for f in fields(encoder) if f.name not in documented]
    assert not missing, f"its docstring must name the options {missing}"
    family, _ = registry.parse_spec(encoder.describe()["name"])
    assert family in registry.names("encoder"), (
        f"{family!r} is not registered; a plug-in needs an entry point of that name"
    )
    assert encoder.licence, "licence must name a licence, or 'unknown'"
    for field in fields(encoder):
        try:
            setattr(encoder, field.name, None)
        except FrozenInstanceError:
            continue
        raise AssertionError("an encoder is a frozen dataclass")


def _check_vectors(encoder: Encoder, samples: Any, vectors: Tensor) -> None:
    count = len(samples)
    assert vectors.shape == (count, encoder.dim), f"it declares dim {encoder.dim} and gave {tuple(vectors.shape)}"
    assert vectors.dtype == torch.float32, f"vectors must be float32, got {vectors.dtype}"
    assert torch.isfinite(vectors).all(), "vectors must be finite"
    torch.testing.assert_close(
        vectors.norm(dim=1), torch.ones(count), rtol=0, atol=1e-5, msg="vectors must have length 1"
    )
    closest = (vectors @ vectors.T - 2 * torch.eye(count)).max()
    assert closest < 1 - 1e-6, "different samples gave the same vector"
    assert torch.equal(encoder(samples), vectors), "the same samples gave other vectors the second time"
    single = torch.cat([encoder(_row(samples, i)) for i in range(count)])
    torch.testing.assert_close(single, vectors, rtol=0, atol=1e-5, msg="a vector depends on the rest of the batch")


def _row(samples: Tensor | Sequence[str], i: int) -> Any:
    return samples[i : i + 1]


def _check_gradient(encoder: Encoder, samples: Tensor) -> Tensor:
    values = samples.clone().requires_grad_()
    direction = torch.randn(encoder.dim, generator=torch.Generator().manual_seed(0))
    scalar = (encoder(values) @ direction).sum()
    assert scalar.requires_grad, "no gradient reaches the samples: the encoder cuts the graph"
    (gradient,) = torch.autograd.grad(scalar, values, materialize_grads=True)
    assert torch.isfinite(gradient).all(), "the gradient must be finite"
    assert (gradient.flatten(1).norm(dim=1) > 0).all(), "no gradient reaches a sample: the encoder cuts the graph"
    return gradient


def _check_tokens(encoder: Encoder, samples: Sequence[str], vectors: Tensor) -> None:
    """An encoder of texts may read them as token embeddings; then these give the same vectors, differentiably."""
    try:
        tokens = encoder.tokens(samples, 16)
    except ConfigError:
        return
    assert tokens.ndim == 3 and len(tokens) == len(samples), f"tokens are [B, L, E], got {tuple(tokens.shape)}"
    assert tokens.shape[1] == 16, f"asked for 16 rows of tokens, it gave {tokens.shape[1]}"
    torch.testing.assert_close(encoder(tokens), vectors, rtol=0, atol=1e-5, msg="tokens gave other vectors than texts")
    gradient = _check_gradient(encoder, tokens)
    assert not gradient[~tokens.any(-1)].any(), "a row of zeros is no token: no gradient may reach it"
