"""The learned similarity: its parts, its bounds, sub-batches, and what is read off it."""

import json

import pytest
import torch
from torch import Tensor

from limbeck.errors import ConfigError
from limbeck.objectives.contrastive import ence, wbce
from limbeck.objectives.similarity import BOUNDS, KINDS, Similarity, centred, partners, summary


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moved(kind: str, bound: str = "none", pairs: int = 7) -> Similarity:
    """A similarity after some learning."""
    similarity = Similarity(pairs, kind, rank=3, alpha=1.5, bound=bound, generator=generator())
    with torch.no_grad():
        for p in similarity.parameters():
            p.add_(0.7 * torch.randn(p.shape, generator=generator(1)))
    return similarity


@pytest.mark.parametrize("kind", KINDS)
def test_it_starts_as_the_identity(kind: str) -> None:
    for bound in ("none", "clamp"):
        assert torch.equal(Similarity(6, kind, rank=2, bound=bound)(), torch.eye(6))
    soft = Similarity(6, kind, rank=2, bound="sigmoid")()
    assert soft.diagonal().tolist() == pytest.approx([0.997527] * 6, abs=1e-5)
    assert soft[~torch.eye(6, dtype=torch.bool)].tolist() == pytest.approx([0.002473] * 30, abs=1e-5)


def test_lowrank_is_its_formula() -> None:
    s = moved("lowrank")
    expected = torch.diag(s.weight) + 1.5 / 3 * s.left @ s.right.T
    assert torch.allclose(s(), expected, atol=1e-6)
    assert [(n, tuple(p.shape)) for n, p in s.named_parameters()] == [
        ("weight", (7,)),
        ("left", (7, 3)),
        ("right", (7, 3)),
    ]
    assert s.nbytes == 4 * (7 + 21 + 21)
    assert torch.allclose(moved("diagonal")(), torch.diag(moved("diagonal").weight))
    assert torch.allclose(moved("scalar")(), moved("scalar").weight * torch.eye(7))
    with torch.no_grad():
        s.right.zero_()
    assert torch.equal(s(), torch.diag(s.weight))


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_sub_batch_is_the_same_part_of_the_whole(kind: str, bound: str) -> None:
    s = moved(kind, bound)
    for index in (torch.tensor([5, 0, 3]), torch.tensor([2, 2, 6]), torch.arange(7)):
        assert torch.allclose(s(index), s()[index][:, index], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_a_sub_batch_reach_its_pairs_only(kind: str) -> None:
    s, index = moved(kind), torch.tensor([1, 4])
    ence(torch.randn(2, 2, generator=generator()), s(index)).backward()
    for name, p in s.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name
        if p.ndim:
            assert not p.grad[[0, 2, 3, 5, 6]].any(), name


def test_the_first_gradient_moves_right_and_not_left() -> None:
    s = Similarity(5, rank=2)
    wbce(torch.randn(5, 5, generator=generator()), s()).backward()
    assert s.left.grad is not None and s.right.grad is not None
    assert not s.left.grad.any() and s.right.grad.abs().min() > 0


@pytest.mark.parametrize("bound", ["clamp", "sigmoid"])
def test_bounds_hold_and_let_gradients_through(bound: str) -> None:
    s, free = moved("full", bound), moved("full")
    assert free().min() < 0 and free().max() > 1
    assert s().min() >= 0 and s().max() <= 1
    weights = torch.randn(7, 7, generator=generator())
    found, plain = (torch.autograd.grad((weights * x()).sum(), x.matrix)[0] for x in (s, free))
    if bound == "clamp":
        assert torch.equal(found, plain) and torch.equal(s(), free().clamp(0, 1))
    else:
        y = (6 * (2 * free() - 1)).sigmoid()
        assert torch.allclose(s(), y) and torch.allclose(found, 12 * y * (1 - y) * weights, atol=1e-6)


@pytest.mark.draws_globally  # gradgradcheck does
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_twice_differentiable(kind: str) -> None:
    s = moved(kind, "sigmoid", pairs=4).double()
    names = [n for n, _ in s.named_parameters()]

    def loss(*values: Tensor) -> Tensor:
        found = torch.func.functional_call(s, dict(zip(names, values, strict=True)), (torch.tensor([0, 3, 2]),))
        return found.square().sum()

    assert torch.autograd.gradgradcheck(loss, tuple(p.detach().requires_grad_() for p in s.parameters()))


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("kind", KINDS)
def test_description_and_parameters_give_it_back(kind: str, bound: str) -> None:
    s = moved(kind, bound)
    again = Similarity.restore(json.loads(json.dumps(s.describe())), s.state_dict())
    assert torch.equal(again(), s()) and again.describe() == s.describe()


def test_the_generator_draws_left() -> None:
    first, again, other = (Similarity(5, rank=2, generator=generator(s)).left for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert Similarity(400, rank=50).left.std().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rank": 6}, "from 1 to 5, got 6; give a lower rank"),
        ({"rank": 0}, "got 0"),
        ({"kind": "banded"}, "banded"),
        ({"bound": "tanh"}, "tanh"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Similarity(5, **options)  # type: ignore[arg-type]
    assert Similarity(5, "diagonal", rank=99)


def test_row_and_column_effects_are_removed() -> None:
    m = 200
    rows, columns = torch.randn(2, m, 1, generator=generator())
    s = rows + columns.T + torch.diag(torch.full((m,), 50.0))
    assert centred(s).abs().max() < 6 / m * max(rows.abs().max(), columns.abs().max())
    s[17, 90] += 1
    assert centred(s)[17, 90].item() == pytest.approx(1, abs=0.1)
    assert partners(s, 1)[0][:2] == (17, 90)


def test_partners_are_others_and_in_order() -> None:
    s = moved("lowrank")()
    found = partners(s.detach(), 99)
    assert len(found) == 42 and all(i != j for i, j, _ in found)
    assert [v for _, _, v in found] == sorted((v for _, _, v in found), reverse=True)
    assert found[0][2] == pytest.approx(centred(s)[found[0][0], found[0][1]].item())
    assert partners(torch.ones(1, 1), 3) == []


def test_a_summary_is_read_off_the_matrix() -> None:
    s = moved("full")().detach()
    off = [s[i, j].item() for i in range(7) for j in range(7) if i != j]
    mean = sum(off) / 42
    assert summary(s) == pytest.approx(
        {
            "min": min(s.flatten().tolist()),
            "max": max(s.flatten().tolist()),
            "mean": sum(s.flatten().tolist()) / 49,
            "diagonal": sum(s[i, i].item() for i in range(7)) / 7,
            "spread": (sum((x - mean) ** 2 for x in off) / 42) ** 0.5,
        },
        rel=1e-5,
    )
    assert summary(torch.full((1, 1), 2.0)) == {"min": 2.0, "max": 2.0, "mean": 2.0, "diagonal": 2.0, "spread": 0.0}


@pytest.mark.parametrize("bound", ["none", "clamp", "sigmoid"])
def test_trouble_is_seen_under_every_bound(bound: str) -> None:
    sound = Similarity(6, rank=2, bound=bound)
    assert sound.trouble() == ""
    with torch.no_grad():
        sound.right.fill_(1e4)
    assert sound.trouble().startswith("reached")
    faded = Similarity(6, "diagonal", bound=bound)
    with torch.no_grad():
        faded.weight.fill_(-1.0)
    assert faded.trouble().startswith("collapsed: ")
