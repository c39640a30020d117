"""The losses that bind modalities: against naive versions, the two inequalities, invariances, masks, gradients."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.errors import DataError
from limbeck.objectives.binding import all_pairs, centroid, centroid_terms, fixed_terms, mean_of_terms
from tiers import slow_but

Terms = Callable[..., dict[str, Tensor]]
RULES: dict[str, Terms] = {
    "centroid": centroid_terms,
    "centroid, normalised": lambda *given, **named: centroid_terms(*given, normalize=True, **named),
    "centroid, leave one out": lambda *given, **named: centroid_terms(*given, leave_one_out=True, **named),
    "fixed": lambda *given, **named: fixed_terms(*given, anchor="m0", **named),
    "all pairs": all_pairs,
    "all pairs with itself": lambda *given, **named: all_pairs(*given, with_itself=True, **named),
}


def views(modalities: int, rows: int, dim: int, seed: int = 0) -> list[dict[str, Tensor]]:
    drawn = torch.Generator().manual_seed(seed)
    raw = torch.randn(2, modalities, rows, dim, generator=drawn, dtype=torch.float64)
    return [{f"m{i}": z for i, z in enumerate(F.normalize(view, dim=-1))} for view in raw]


def nce(q: Tensor, k: Tensor, temperature: float) -> Tensor:
    """One direction, a sum in a loop."""
    total = torch.zeros((), dtype=q.dtype)
    for j in range(len(q)):
        scores = torch.stack([q[j] @ k[b] for b in range(len(k))]) / temperature
        total = total - scores[j] + scores.exp().sum().log()
    return total / len(q)


def sym(q: Tensor, k: Tensor, temperature: float) -> Tensor:
    return (nce(q, k, temperature) + nce(k, q, temperature)) / 2


def test_the_centroid_is_the_naive_weighted_mean() -> None:
    (z, _), here = views(3, 4, 5), torch.tensor([True, False, True, True])
    found = centroid(z, {"m1": here}, {"m0": 2.0})
    for j in range(4):
        parts = [2.0 * z["m0"][j], z["m2"][j], *([z["m1"][j]] if here[j] else [])]
        torch.testing.assert_close(found[j], torch.stack(parts).sum(0) / (4.0 if here[j] else 3.0))
    torch.testing.assert_close(centroid(z, normalize=True).norm(dim=1), torch.ones(4, dtype=torch.float64))


def test_every_rule_is_its_naive_sum() -> None:
    first, second = views(3, 5, 4)
    mean = (first["m0"] + first["m1"] + first["m2"]) / 3
    for m, term in centroid_terms(first, second, 0.3).items():
        torch.testing.assert_close(term, sym(mean, second[m], 0.3))
    found = fixed_terms(first, second, 0.3, anchor="m1")
    assert list(found) == ["m0", "m2"]
    torch.testing.assert_close(found["m2"], sym(first["m1"], second["m2"], 0.3))
    pairs = all_pairs(first, second, 0.3, with_itself=True)
    assert list(pairs) == ["m0, m1", "m0, m2", "m1, m2", "m0, m0", "m1, m1", "m2, m2"]
    torch.testing.assert_close(pairs["m0, m2"], sym(first["m0"], second["m2"], 0.3))
    torch.testing.assert_close(mean_of_terms(pairs), torch.stack([*pairs.values()]).mean())


def test_logits_without_a_difference_give_log_b() -> None:
    same = F.normalize(torch.ones(7, 3, dtype=torch.float64), dim=1)
    for term in centroid_terms({"a": same, "b": same}, {"a": same, "b": same}, 0.1).values():
        assert term.item() == pytest.approx(math.log(7))


def test_one_modality_is_plain_self_contrast_and_two_left_one_out_are_each_other() -> None:
    first, second = views(2, 6, 4)
    alone = centroid_terms({"m0": first["m0"]}, {"m0": second["m0"]}, 0.2)["m0"]
    torch.testing.assert_close(alone, sym(first["m0"], second["m0"], 0.2))
    crossed = centroid_terms(first, second, 0.2, leave_one_out=True)
    torch.testing.assert_close(crossed["m0"], sym(first["m1"], second["m0"], 0.2))
    torch.testing.assert_close(crossed["m1"], sym(first["m0"], second["m1"], 0.2))


def test_a_fixed_anchor_of_two_is_the_clip_loss() -> None:
    first, second = views(2, 6, 4)
    logits, target = first["m0"] @ second["m1"].T / 0.07, torch.arange(6)
    clip = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(fixed_terms(first, second, 0.07, anchor="m0")["m1"], clip)


@pytest.mark.parametrize("seed", slow_but(range(20), 0, 1, 2))
def test_both_inequalities_of_the_centroid(seed: int) -> None:
    """Convexity: at most the mean of the pairwise losses. And at least their sum at M tau, less a constant."""
    drawn = torch.Generator().manual_seed(seed)
    m, b, d = (int(torch.randint(low, high, (), generator=drawn)) for low, high in ((2, 6), (2, 20), (2, 16)))
    t = float(torch.empty(()).uniform_(0.05, 1, generator=drawn))
    first, second = views(m, b, d, seed)
    a = centroid(first)
    for z in second.values():
        mean = torch.stack([l @ z.T for l in first.values()]).mean(0)
        torch.testing.assert_close(a @ z.T, mean, rtol=0, atol=1e-12)
        for turn in (lambda q, k, t: nce(q, k, t), lambda q, k, t: nce(k, q, t)):
            found = turn(a, z, t)
            assert found <= sum(turn(l, z, t) for l in first.values()) / m + 1e-12
            low = sum(turn(l, z, m * t) for l in first.values()) - (m - 1) * (math.log(b) + 2 / (m * t))
            assert found >= low - 1e-9


@pytest.mark.parametrize("rule", RULES)
def test_what_leaves_the_loss_as_it_was(rule: str) -> None:
    terms, (first, second) = RULES[rule], views(3, 8, 5)
    whole = mean_of_terms(terms(first, second, 0.2))
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64))[0]

    def both(change: Callable[[str, Tensor], Tensor]) -> Tensor:
        return mean_of_terms(terms(*({m: change(m, z) for m, z in v.items()} for v in (first, second)), 0.2))

    torch.testing.assert_close(both(lambda m, z: z[order]), whole)
    torch.testing.assert_close(both(lambda m, z: z @ turn), whole)
    assert not torch.isclose(both(lambda m, z: z @ turn if m == "m1" else z), whole)
    if "all" not in rule:  # a pair takes the first view of its first, so another order is another draw
        other = [dict(reversed(v.items())) for v in (first, second)]
        torch.testing.assert_close(mean_of_terms(terms(*other, 0.2)), whole)


@pytest.mark.parametrize("rule", RULES)
def test_a_modality_that_no_row_has_changes_nothing_and_what_is_masked_is_not_read(rule: str) -> None:
    terms, (first, second) = RULES[rule], views(4, 8, 5)
    fewer = [{m: v[m] for m in ("m0", "m1", "m2")} for v in (first, second)]
    none = {"m3": torch.zeros(8, dtype=torch.bool)}
    torch.testing.assert_close(terms(first, second, 0.2, none), terms(*fewer, 0.2))
    full = {m: torch.ones(8, dtype=torch.bool) for m in first}
    torch.testing.assert_close(terms(first, second, 0.2, full), terms(first, second, 0.2))
    here = {"m1": torch.tensor([True] * 5 + [False] * 3)}
    lacking = [
        {m: z.masked_fill(~here["m1"][:, None], torch.nan) if m == "m1" else z.clone() for m, z in v.items()}
        for v in (first, second)
    ]
    for v in lacking:
        for z in v.values():
            z.requires_grad_()
    loss = mean_of_terms(terms(*lacking, 0.2, here))
    torch.testing.assert_close(loss.detach(), mean_of_terms(terms(first, second, 0.2, here)))
    loss.backward()
    assert all(z.grad is None or z.grad.isfinite().all() for v in lacking for z in v.values())
    for v in lacking:
        assert v["m1"].grad is None or not v["m1"].grad[5:].any()


def test_too_few_rows_make_no_term_and_a_row_without_anything_is_refused() -> None:
    first, second = views(2, 4, 3)
    one = {"m1": torch.tensor([True, False, False, False])}
    assert list(centroid_terms(first, second, 0.2, one)) == ["m0"]
    assert fixed_terms(first, second, 0.2, one, anchor="m0") == {}
    with pytest.raises(DataError, match="nothing can be bound"):
        mean_of_terms({})
    with pytest.raises(DataError, match="1 rows have no modality"):
        centroid_terms(first, second, 0.2, {"m0": ~one["m1"], "m1": torch.zeros(4, dtype=torch.bool)})


@pytest.mark.parametrize("rule", RULES)
def test_gradients(rule: str) -> None:
    first, second = views(3, 4, 3)
    here = {"m1": torch.tensor([True, True, False, True])}
    names = list(first)

    def loss(*raw: Tensor) -> Tensor:
        z = [F.normalize(x, dim=-1) for x in raw]
        return mean_of_terms(
            RULES[rule](dict(zip(names, z, strict=False)), dict(zip(names, z[3:], strict=True)), 0.3, here)
        )

    raw = [x.clone().requires_grad_() for v in (first, second) for x in v.values()]
    assert torch.autograd.gradcheck(loss, raw)
    torch.testing.assert_close(loss(*(3 * x for x in raw)), loss(*raw))  # length does not matter


def test_no_gradient_passes_a_detached_centroid() -> None:
    first, second = ({m: z.requires_grad_() for m, z in v.items()} for v in views(3, 4, 3))
    mean_of_terms(centroid_terms(first, second, 0.3, detach=True)).backward()
    assert all(z.grad is None for z in first.values()) and all(z.grad is not None for z in second.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_temperature_duplicates_and_half_precision_stay_finite(dtype: torch.dtype) -> None:
    held = [{m: z.to(dtype)[[0, 0, 1, 2]].requires_grad_() for m, z in v.items()} for v in views(3, 3, 4)]
    for terms in RULES.values():
        loss = mean_of_terms(terms(*held, 0.01))
        loss.backward()
        assert loss.isfinite() and all(z.grad is None or z.grad.isfinite().all() for v in held for z in v.values())


def test_the_centroid_of_unrelated_modalities_is_short() -> None:
    for m, length in ((2, 0.706), (3, 0.576), (4, 0.498), (8, 0.352)):
        (z, _) = views(m, 2000, 64)
        assert centroid(z).norm(dim=1).mean().item() == pytest.approx(length, abs=0.01)
