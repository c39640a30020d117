"""Encoding in chunks: the same vectors and gradients as at once, with the graph of one chunk alive."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

import limbeck as lb
from limbeck.core import Synthetic
from limbeck.core.encode import encode, leaves

ONE = 3 * 16 * 16  # values of an image


def synthetic(pairs: int = 7, learn: tuple[str, ...] = ("image", "text")) -> Synthetic:
    g = torch.Generator().manual_seed(0)
    values = {"image": torch.rand(pairs, 3, 16, 16, generator=g), "text": torch.randn(pairs, 256, generator=g)}
    return Synthetic(values, learn=learn, origin=torch.arange(pairs), caption=torch.arange(pairs))


@pytest.fixture(scope="module")
def space() -> lb.Space:
    return lb.space(image="convnet", text="bag_of_words")


def loss(vectors: dict[str, torch.Tensor]) -> torch.Tensor:
    return (vectors["image"] @ vectors["image"].T).square().sum() + vectors["text"].square()[:, :5].sum()


def gradients(s: Synthetic) -> dict[str, torch.Tensor]:
    return {m: p.grad for m, p in s.learned.items() if p.grad is not None}


@pytest.mark.parametrize("values", [1, ONE, 3 * ONE, 100 * ONE])
@pytest.mark.parametrize("learn", [("image", "text"), ("text",), ("image",)])
def test_as_at_once(space: lb.Space, values: int, learn: tuple[str, ...]) -> None:
    direct, chunked, lent = (synthetic(learn=learn) for _ in range(3))
    whole = space.embed(direct.batch())
    loss(whole).backward()
    vectors = encode(space, chunked, values)
    loss(vectors).backward()
    with leaves(encode(space, lent, values)) as leaf:
        (0.25 * loss(leaf)).backward()
        (0.75 * loss(leaf)).backward()
    for m in ("image", "text"):
        assert torch.allclose(vectors[m], whole[m], atol=1e-6)
    for other in (chunked, lent):
        assert set(gradients(other)) == set(learn)
        for m, g in gradients(direct).items():
            assert (gradients(other)[m] - g).norm() < 1e-4 * g.norm(), m


def test_what_no_loss_reads_gets_no_gradient(space: lb.Space) -> None:
    s = synthetic()
    with leaves(encode(space, s)) as vectors:
        vectors["text"].sum().backward()
    assert set(gradients(s)) == {"text"}
    with leaves(encode(space, s)):
        pass


def test_a_network_that_is_not_built_yet() -> None:
    """A build that computes with weights that still want gradients must not become part of the first chunk."""

    @dataclass(frozen=True)
    class Late(lb.Encoder):
        modality = "image"
        dim = 4

        def build(self) -> nn.Module:
            layer = nn.Linear(ONE, 4)
            with torch.no_grad():
                layer.weight.fill_(0.5)
            layer.weight = nn.Parameter((layer.weight * layer.weight).detach())
            return layer

        def encode(self, network: nn.Module, values: torch.Tensor) -> torch.Tensor:
            return network(values.flatten(1))  # type: ignore[no-any-return]

    s = synthetic()
    encode(lb.Space({"image": Late()}), s, values=ONE)["image"].sum().backward()
    assert set(gradients(s)) == {"image"}


def test_memory_is_that_of_one_chunk(space: lb.Space) -> None:
    """The bytes that the graph keeps alive after the forward pass do not grow with the number of chunks."""
    kept = []
    for pairs in (4, 12):
        seen: dict[int, int] = {}

        def note(x: torch.Tensor, seen: dict[int, int] = seen) -> torch.Tensor:
            seen[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        s = synthetic(pairs)
        own = {p.untyped_storage().data_ptr() for p in s.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            vectors = encode(space, s, values=4 * ONE)
        kept.append(sum(size for where, size in seen.items() if where not in own))
        assert vectors["image"].requires_grad
    assert kept[1] < 1.5 * kept[0]
