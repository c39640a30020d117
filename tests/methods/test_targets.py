"""Laws of the real data: what is cached equals what is computed anew, in chunks or whole, and of any view."""

from dataclasses import replace

import pytest
import torch

import limbeck as lb
from limbeck.check import toy_source
from limbeck.core import chosen_pairs
from limbeck.data.vectors import VectorSource
from limbeck.errors import LimbeckWarning
from limbeck.methods.matching import _targets as targets
from limbeck.methods.matching._row_adam import RowAdam, rates
from limbeck.methods.matching._targets import JOINT, CharacteristicTargets
from limbeck.methods.matching._views import PLAIN, Views, spread
from limbeck.objectives.characteristic import characteristic, square_distance

WHOLE = CharacteristicTargets(frequencies=64, bank=0, batch=1000, views=Views(), cross=True, joint=True)


def problem(pairs: int = 8, samples: int = 60, scale: float = 1.0) -> lb.Problem:
    """Three tied modalities of different widths, two classes."""
    drawn = torch.Generator().manual_seed(0)
    a = torch.randn(samples, 6, generator=drawn)
    values = {"a": a, "b": scale * (a + 0.3 * torch.randn(samples, 6, generator=drawn)), "c": a[:, :3].abs() - 0.5}
    source = VectorSource("tied", values, labels=torch.arange(samples) % 2)
    return lb.Problem(source, lb.space(a="vectors:6", b="vectors:6", c="vectors:3"), lb.Budget(pairs=pairs))


def groups(of: lb.Problem, cf: CharacteristicTargets, t: int = 0) -> tuple[targets.MatchingStep, list[targets.Group]]:
    matching = cf.at(of, t)
    return matching, list(matching.groups(chosen_pairs(of, torch.arange(8), of.modalities), True))


def test_terms_are_the_formulas() -> None:
    """Against vectors and frequencies that are put together by hand."""
    of = problem()
    matching, (group, _) = groups(of, WHOLE)
    group = group._replace(own={m: x.detach() for m, x in group.own.items()})
    terms = matching.terms(group)
    z = {m: of.features[m].vectors[::2] / spread(of, m) for m in of.modalities}
    assert list(terms) == ["a", "b", "c", "a+b", "a+c", "b+c", JOINT]

    def cf(x: torch.Tensor, wave: torch.Tensor) -> torch.Tensor:
        return characteristic(x @ wave)

    for m in "abc":
        expected = square_distance(cf(group.own[m], matching.freqs[m]), cf(z[m], matching.freqs[m]))
        assert float(terms[m]) == pytest.approx(float(expected), rel=1e-4)
    padded = [torch.nn.functional.pad(x, (0, 3)) for x in (group.own["c"], z["c"])]
    expected = square_distance(
        cf(group.own["a"] + padded[0], matching.freqs["a"]), cf(z["a"] + padded[1], matching.freqs["a"])
    )
    assert float(terms["a+c"]) == pytest.approx(float(expected), rel=1e-4)
    own, real = (torch.cat([x[m] for m in "abc"], 1) for x in (group.own, z))
    wave = torch.cat([matching.freqs[m] for m in "abc"])
    assert float(terms[JOINT]) == pytest.approx(float(square_distance(cf(own, wave), cf(real, wave))), rel=1e-4)


def test_a_bank_gives_what_all_real_pairs_give_in_any_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    of, banked = problem(), replace(WHOLE, bank=2, batch=1)
    matching, (group, _) = groups(of, banked)
    terms = matching.terms(group)
    again = matching._mean_cf(group.among)
    monkeypatch.setattr(targets, "ROWS", 7)
    in_chunks, order = matching._mean_cf(group.among), matching._mean_cf(group.among.flip(0))
    for name, cf in again.items():
        assert torch.allclose(cf, in_chunks[name], atol=1e-6) and torch.allclose(cf, order[name], atol=1e-6)
        value = square_distance(banked.of(group.own, matching.freqs)[name], cf)
        assert float(value.detach()) == pytest.approx(float(terms[name].detach()), rel=1e-4, abs=1e-9)


def test_frequencies_are_used_in_turn_or_drawn_anew() -> None:
    of = problem()
    two, anew = replace(WHOLE, bank=2, batch=1), WHOLE
    drawn = [two.freqs(of, t)["a"] for t in range(4)]
    assert drawn[0] is drawn[2] and drawn[1] is drawn[3] and not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(anew.freqs(of, 0)["a"], anew.freqs(of, 2)["a"])
    assert torch.equal(anew.freqs(of, 3)["a"], anew.freqs(problem(), 3)["a"])
    other = lb.Problem(of.source, of.space, of.budget, seed=1)
    assert not torch.equal(anew.freqs(of, 0)["a"], anew.freqs(other, 0)["a"])


def test_without_a_bank_every_step_draws_other_real_pairs() -> None:
    of, few = problem(), replace(WHOLE, batch=10)
    matching, (group, _) = groups(of, few)
    later = replace(matching, t=1)
    assert not torch.equal(matching._real(group)["a"], later._real(group)["a"]), "at the same frequencies"
    assert torch.equal(matching._real(group)["a"], matching._mean_cf(matching._drawn(group, 0))["a"])
    assert len(matching._drawn(group, 0)) == 10 and set(matching._drawn(group, 0).tolist()) <= set(group.among.tolist())


@pytest.mark.parametrize("drop", [0.0, 0.5])
def test_many_frequencies_tend_to_the_closed_form(drop: float) -> None:
    of = problem()
    matching, found = groups(of, replace(WHOLE, frequencies=60_000, drop=drop))
    closed, exact = groups(of, replace(WHOLE, frequencies=0, drop=drop))
    for one, other in zip(found, exact, strict=True):
        terms = closed.terms(other)
        for name, value in matching.terms(one).items():
            assert float(value.detach()) == pytest.approx(float(terms[name].detach()), rel=0.04), name


@pytest.mark.slow
def test_the_closed_form_of_a_batch_is_that_of_all_on_average() -> None:
    of, cf = problem(), replace(WHOLE, frequencies=0)
    matching, (group, _) = groups(of, cf)
    exact = matching.terms(group)
    values: dict[str, list[float]] = {name: [] for name in exact}
    for t in range(200):
        for name, value in replace(cf, batch=10).at(of, t).terms(group).items():
            values[name].append(float(value.detach()))
    first = replace(cf, batch=10).at(of, 0)
    for name, found in values.items():
        constant = first._within(first._drawn(group, 0))[name] - matching._within(group.among)[name]
        drawn = torch.tensor(found)
        assert drawn.std() > 0, "another batch at each step"
        expected = float(exact[name].detach() + constant)
        assert float(drawn.mean()) == pytest.approx(expected, abs=4 * float(drawn.std()) / 200**0.5)


def test_gains_have_no_say() -> None:
    """Raw features of one modality twenty times as large: unit vectors, and so all terms, stay."""
    terms = []
    for scale in (1.0, 20.0):
        matching, (group, _) = groups(problem(scale=scale), WHOLE)
        terms.append({name: float(value.detach()) for name, value in matching.terms(group).items()})
    assert terms[0] == pytest.approx(terms[1], rel=1e-3)


def test_one_modality_has_its_law_alone() -> None:
    source = VectorSource("one", {"a": torch.randn(20, 4, generator=torch.Generator().manual_seed(0))})
    of = lb.Problem(source, lb.space(a="vectors:4"), lb.Budget(pairs=4))
    for frequencies in (0, 32):
        matching = replace(WHOLE, frequencies=frequencies).at(of, 0)
        (group,) = matching.groups(chosen_pairs(of, torch.arange(4), ["a"]), None)
        assert list(matching.terms(group)) == ["a"]


@pytest.mark.slow
def test_all_real_samples_are_at_distance_zero_in_every_view() -> None:
    """What moves the real images moves the synthetic ones, to the bit."""
    of = lb.Problem(toy_source(20), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=20))
    views = Views(("crop", "color", "cutout", "rotate"), 3)
    every = torch.tensor([int((of.candidates.sample == i).nonzero()[0]) for i in range(20)])
    synthetic, seen = chosen_pairs(of, every, of.modalities), set()
    for t in range(12):
        matching = CharacteristicTargets(32, 0, 1000, views).at(of, t)
        (group,) = matching.groups(synthetic, None)
        seen.add(matching.view)
        real = views.vectors(of, "image", matching.view) / spread(of, "image")
        assert torch.allclose(group.own["image"], real, atol=1e-5)
        plain = of.features["image"].vectors / spread(of, "image")
        assert not torch.allclose(real, plain, atol=1e-3)
        assert views.vectors(of, "text", matching.view) is views.vectors(of, "text", PLAIN), "other modalities stay"
    assert seen == {0, 1, 2}


def test_a_view_is_encoded_once(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    views, calls = Views(("crop",), 2), list[int]()

    def fresh() -> lb.Problem:
        return lb.Problem(toy_source(8), lb.space(image="convnet"), lb.Budget(pairs=2), cache=lb.Cache(str(tmp_path)))

    encode = Views._encode

    def counted(self: Views, of: lb.Problem, view: int) -> dict[str, torch.Tensor]:
        calls.append(view)
        return encode(self, of, view)

    monkeypatch.setattr(Views, "_encode", counted)
    of = fresh()
    first = [views.vectors(of, "image", view) for view in (0, 1, 0)]
    assert first[0] is first[2] and torch.equal(first[0], views.vectors(fresh(), "image", 0))
    assert calls == [0, 1]


def test_spread_is_the_median_distance() -> None:
    of = problem()
    assert spread(of, "a") == pytest.approx(float(torch.pdist(of.features["a"].vectors).median()))
    alone = VectorSource("one", {"a": torch.ones(3, 4)})
    assert spread(lb.Problem(alone, lb.space(a="vectors:4"), lb.Budget(pairs=1)), "a") > 0, "samples that are all equal"


def test_rows_without_a_gradient_stay_to_the_bit() -> None:
    """After full steps, which leave momentum; the others move as plain Adam moves them."""
    start = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    ours, plain = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizers = RowAdam([ours], lr=0.1), torch.optim.Adam([plain], lr=0.1)
    for rows in (slice(0, 4), slice(0, 4), slice(0, 2), slice(0, 2)):
        before = ours.detach().clone(), plain.detach().clone()
        for p, optimizer in zip((ours, plain), optimizers, strict=True):
            optimizer.zero_grad()
            p[rows].square().sum().backward()
            optimizer.step()
    assert torch.equal(ours[2:], before[0][2:]) and not torch.equal(plain[2:], before[1][2:]), (
        "momentum moves plain Adam"
    )
    assert torch.equal(ours[:2], plain[:2])
    moments = [o.state[p]["exp_avg"] for o, p in zip(optimizers, (ours, plain), strict=True)]
    assert (moments[0][2:].abs() > moments[1][2:].abs()).all(), "and their moments stay with them"


def test_rates_follow_the_range() -> None:
    synthetic = lb.Synthetic(
        {"depth": torch.zeros(2, 1, 4, 4), "image": torch.zeros(2, 3, 4, 4), "text": torch.zeros(2, 3)},
        learn=["depth", "image", "text"],
        origin=torch.arange(2),
        ranges={"depth": (0.0, 10.0)},
    )
    found = {tuple(group["params"][0].shape): group["lr"] for group in rates(synthetic, 0.1, 0.03)}
    assert found == {(2, 1, 4, 4): 1.0, (2, 3, 4, 4): 0.1, (2, 3): 0.03}


@pytest.mark.parametrize("frequencies", [32, 0])
@pytest.mark.parametrize("bank", [0, 2])
def test_a_sample_that_misses_a_modality_counts_in_the_laws_without_it(frequencies: int, bank: int) -> None:
    """Each term is that of a problem which holds only the samples that have its modalities."""
    whole, drawn = problem(), torch.Generator().manual_seed(3)
    values = {m: whole.source.batch(range(60))[m] for m in "abc"}
    present = {m: torch.rand(60, generator=drawn) < 0.7 for m in "abc"}
    present = {m: held.index_fill(0, torch.arange(8), True) for m, held in present.items()}
    assert not all(held.all() for held in present.values())
    cf = replace(WHOLE, frequencies=frequencies, bank=bank, batch=1 if frequencies and bank else 1000)

    def terms_of(keep: torch.Tensor, held: dict[str, torch.Tensor] | None) -> dict[str, float]:
        labels = (torch.arange(60) % 2)[keep]
        source = VectorSource("part", {m: v[keep] for m, v in values.items()}, labels, held)
        of = lb.Problem(source, whole.space, lb.Budget(pairs=8))
        (
            of.once(("spread", "a"), lambda: 1.0),
            of.once(("spread", "b"), lambda: 1.0),
            of.once(("spread", "c"), lambda: 1.0),
        )
        matching = cf.at(of, 1)
        chosen = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])  # class by class, all complete
        _, group = matching.groups(chosen_pairs(of, chosen, of.modalities), True)
        return {name: float(value.detach()) for name, value in matching.terms(group).items()}

    found = terms_of(torch.arange(60), present)
    needed = {m: m for m in "abc"} | {"a+b": "ab", "a+c": "ac", "b+c": "bc", JOINT: "abc"}
    assert list(found) == list(needed)
    for name, modalities in needed.items():
        keep = torch.stack([present[m] for m in modalities]).all(0).nonzero().squeeze(1)
        assert found[name] == pytest.approx(terms_of(keep, None)[name], rel=1e-3, abs=1e-7), name
    complete = torch.stack([*present.values()]).all(0).nonzero().squeeze(1)
    assert found["a"] != pytest.approx(terms_of(complete, None)["a"], rel=1e-2), "more than the complete samples"


@pytest.mark.parametrize("joint", [False, True])
def test_noise_is_warned_of_below_a_tenth_of_what_one_sample_leaves(joint: bool) -> None:
    """The mean kernel of two real samples of a class, times the class's synthetic samples, is 0.1 where the warning begins."""
    of, cf = problem(), replace(WHOLE, cross=False, joint=joint)
    z = {m: of.features[m].vectors / spread(of, m) for m in of.modalities}

    def share(scale: float) -> float:
        found = []
        for label in (0, 1):
            squares = torch.stack([torch.cdist(x[label::2], x[label::2]).square() for x in z.values()])
            kernel = (-(scale**2) / 2 * (squares.sum(0) if joint else squares.amax(0))).exp()
            found.append(float(kernel.sum() - 30) / (30 * 29) * 4)
        return sum(found) / 2

    low, high = 0.1, 30.0
    for _ in range(40):
        low, high = (low, (low + high) / 2) if share((low + high) / 2) < 0.1 else ((low + high) / 2, high)
    assert 0.098 < share(1.003 * high) < 0.1 < share(0.997 * low) < 0.102
    replace(cf, scale=0.997 * low).warn_of_noise(of, 8, True)  # a warning is an error here
    with pytest.warns(LimbeckWarning, match="would follow the noise of 8 samples"):
        replace(cf, scale=1.003 * high).warn_of_noise(of, 8, True)
