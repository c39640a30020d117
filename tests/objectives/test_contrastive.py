"""Contrastive losses against sums written out, torch's own losses and difference quotients."""

import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.errors import UnknownName
from limbeck.objectives.contrastive import LOSSES, bce, contrastive, cwcl, ence, false_negatives, infonce, wbce


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


Z = 3 * random(6, 6)
S = torch.eye(6, dtype=torch.float64) + 0.4 * random(6, 6, seed=1)  # also below 0 and above 1
OWNER = torch.tensor([0, 1, 0, 2, 2, 0])
IGNORED = false_negatives(OWNER)


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def entropy(z: float, s: float) -> float:
    return -s * math.log(sigmoid(z)) - (1 - s) * math.log(1 - sigmoid(z))


def written_out(name: str, z: list[list[float]], s: list[list[float]], ignored: list[list[bool]]) -> float:
    """Each loss entry by entry, on plain numbers."""
    b = len(z)
    kept = [(i, j) for i in range(b) for j in range(b) if not ignored[i][j]]
    row = [math.log(sum(math.exp(z[i][j]) for j in range(b) if not ignored[i][j])) for i in range(b)]
    column = [math.log(sum(math.exp(z[i][j]) for i in range(b) if not ignored[i][j])) for j in range(b)]
    if name == "infonce":
        return -sum(2 * z[i][i] - row[i] - column[i] for i in range(b)) / (2 * b)
    if name == "ence":
        return -sum(s[i][j] * (2 * z[i][j] - row[i] - column[j]) for i, j in kept) / (2 * b)
    if name == "cwcl":
        by_row = [sum(s[i][j] for j in range(b) if not ignored[i][j]) for i in range(b)]
        by_column = [sum(s[i][j] for i in range(b) if not ignored[i][j]) for j in range(b)]
        rows = sum(s[i][j] / by_row[i] * (z[i][j] - row[i]) for i, j in kept)
        return -(rows + sum(s[i][j] / by_column[j] * (z[i][j] - column[j]) for i, j in kept)) / (2 * b)
    found = {(i, j): entropy(z[i][j], s[i][j]) for i, j in kept}
    if name == "bce":
        return sum(found.values()) / len(found)
    positive = [found[i, j] for i, j in kept if s[i][j] > 0.5]
    negative = [found[i, j] for i, j in kept if s[i][j] <= 0.5]
    return (sum(positive) / len(positive) + sum(negative) / len(negative)) / 2


@pytest.mark.parametrize("ignored", [None, IGNORED], ids=["all", "masked"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_its_formula(name: str, ignored: Tensor | None) -> None:
    s = S.abs() if name == "cwcl" else S
    mask = torch.zeros(6, 6, dtype=torch.bool) if ignored is None else ignored
    expected = written_out(name, Z.tolist(), s.tolist(), mask.tolist())
    assert contrastive(name)(Z, s, ignored).item() == pytest.approx(expected, rel=1e-12)


def test_the_identity_gives_the_known_losses() -> None:
    eye, own = torch.eye(6, dtype=torch.float64), torch.arange(6)
    expected = (F.cross_entropy(Z, own) + F.cross_entropy(Z.T, own)) / 2
    for loss in (infonce, ence, cwcl):
        assert torch.allclose(loss(Z), expected) and torch.allclose(loss(Z, eye), expected)
    off = ~eye.bool()
    assert torch.allclose(wbce(Z), (F.softplus(-Z.diagonal()).mean() + F.softplus(Z[off]).mean()) / 2)
    assert torch.equal(wbce(Z), wbce(Z, eye))
    assert torch.allclose(bce(Z, S.sigmoid()), F.binary_cross_entropy_with_logits(Z, S.sigmoid()))


def test_ence_is_linear_in_the_labels() -> None:
    s = S.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(ence(Z, s), s)
    assert torch.allclose(gradient, -(Z.log_softmax(1) + Z.log_softmax(0)) / 12)
    assert torch.allclose(ence(Z, 3 * S), 3 * ence(Z, S))


def test_soft_targets_equal_cross_entropy() -> None:
    s = random(6, 6, seed=2).softmax(dim=1)
    rows, columns = (x / x.sum(dim=1, keepdim=True) for x in (s, s.T))
    assert torch.allclose(cwcl(Z, s), (F.cross_entropy(Z, rows) + F.cross_entropy(Z.T, columns)) / 2)


@pytest.mark.draws_globally  # gradgradcheck does
@pytest.mark.parametrize("ignored", [None, IGNORED], ids=["all", "masked"])
@pytest.mark.parametrize("name", LOSSES)
def test_first_and_second_derivatives(name: str, ignored: Tensor | None) -> None:
    z, s = Z.clone().requires_grad_(), (S.abs() + 0.1).requires_grad_()

    def loss(z: Tensor, s: Tensor) -> Tensor:
        return contrastive(name)(z, s, ignored)

    assert torch.autograd.gradcheck(loss, (z, s))
    assert torch.autograd.gradgradcheck(loss, (z, s))
    gradient = torch.func.grad(loss, argnums=(0, 1))(z.detach(), s.detach())
    expected = torch.autograd.grad(loss(z, s), (z, s), allow_unused=True, materialize_grads=True)
    assert all(torch.allclose(a, b) for a, b in zip(gradient, expected, strict=True))


def test_an_ignored_entry_plays_no_part() -> None:
    for name in LOSSES:
        z, s = Z.clone(), S.abs()
        other_z, other_s = z.masked_fill(IGNORED, 50.0), s.masked_fill(IGNORED, 0.9)
        assert torch.equal(contrastive(name)(z, s, IGNORED), contrastive(name)(other_z, other_s, IGNORED)), name
        assert contrastive(name)(z, s, IGNORED) != contrastive(name)(z, s, None), name


def test_false_negatives_are_symmetric_and_never_the_diagonal() -> None:
    expected = [[i != j and OWNER[i] == OWNER[j] for j in range(6)] for i in range(6)]
    assert IGNORED.tolist() == expected


def test_wbce_of_one_positive_is_the_mean_of_its_two_means() -> None:
    """One entry is a mean of one."""
    s = torch.zeros(6, 6, dtype=torch.float64)
    s[1, 2] = 0.8
    expected = written_out("wbce", Z.tolist(), s.tolist(), [[False] * 6] * 6)
    assert float(wbce(Z, s)) == pytest.approx(expected, rel=1e-9)
    assert float(wbce(Z, 1 - s)) == pytest.approx(
        written_out("wbce", Z.tolist(), (1 - s).tolist(), [[False] * 6] * 6), rel=1e-9
    )


@pytest.mark.parametrize("label", [0.0, 0.4, 0.6, 1.0, 3.0])
def test_wbce_without_positives_or_without_negatives_is_finite(label: float) -> None:
    z, s = Z.clone().requires_grad_(), torch.full((6, 6), label, dtype=torch.float64, requires_grad=True)
    loss = wbce(z, s)
    gradient = torch.autograd.grad(loss, (z, s))
    assert loss.isfinite() and all(g.isfinite().all() and g.abs().sum() > 0 for g in gradient)
    assert torch.allclose(loss, bce(Z, s) / 2)


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_stay_finite(name: str) -> None:
    z = (100 * Z).float().requires_grad_()
    loss = contrastive(name)(z, S.abs().float(), IGNORED)
    (gradient,) = torch.autograd.grad(loss, z)
    assert loss.isfinite() and gradient.isfinite().all() and gradient.abs().sum() > 0


def test_an_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean wbce"):
        contrastive("wbec")


SCRIPT = """
import torch
from limbeck.objectives.contrastive import LOSSES, false_negatives

draw = torch.Generator().manual_seed(0)
z, v = torch.randn(2, 6, 6, generator=draw)
s = torch.eye(6) + 0.3 * torch.rand(6, 6, generator=draw)
ignored = false_negatives(torch.tensor([0, 1, 0, 2, 2, 0]))


def second(z, s):
    found = []
    for loss in LOSSES.values():
        slope = lambda z, s: (torch.func.grad(loss)(z, s, ignored) * v).sum()
        found += [*torch.func.grad(slope, argnums=(0, 1))(z, s)]
    return found


for a, b in zip(torch.compile(second, fullgraph=True, backend="aot_eager")(z, s), second(z, s)):
    assert torch.allclose(a, b, atol=1e-6)
print("equal")
"""


@pytest.mark.slow
def test_second_derivatives_compile_as_one_graph() -> None:
    """In a process of its own: the checks of shapes that tests run under cannot be compiled."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=False, capture_output=True, text=True)
    assert done.stdout.strip() == "equal", done.stderr
