"""What each anchor keeps, on data of which we know what each modality holds; thresholds leave wide room."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from torch import Tensor

import limbeck as lb
from limbeck.data.factors import FactorSource, factors, ranked
from limbeck.data.vectors import VectorSource
from limbeck.errors import LimbeckWarning
from limbeck.evaluation.alignment import alignment
from limbeck.objectives.characteristic import characteristic, square_distance
from limbeck.spaces import Space, embed_source
from limbeck.spaces.binder import Binding, bind, load_space
from limbeck.spaces.heads import read_manifest

SMALL = Binding(dim=32, hidden=(128, 128), temperature=0.2, steps=800, batch=256, decay=0.0, noise=0.3, dropout=0.0)
PLAIN = {m: "vectors:64" for m in "abcd"}
Make = Callable[..., Path]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """The folder of a space bound with these options on factors (or another source), each made once."""
    root = tmp_path_factory.mktemp("bound")
    done: dict[str, Path] = {}

    def make(source: Any = None, **options: Any) -> Path:
        key = str((source and source.fingerprint, sorted(options.items())))
        if key not in done:
            data = source or factors(10_000)
            space = lb.space(**{m: PLAIN[m] for m in data.modalities if m != "label"})
            bind(data, space, root / str(len(done)), replace(SMALL, **options))
            done[key] = root / str(len(done))
        return done[key]

    return make


def vectors(source: lb.Source, space: Space) -> dict[str, Tensor]:
    return {m: f.vectors for m, f in embed_source(source, space).items()}


def kept(folder: Path) -> dict[str, float]:
    """R^2 of each factor by a ridge regression from every modality that holds it, on other data than it was fitted on."""
    train, test = factors(10_000), factors(1_000, "test")
    x, y = (vectors(s, load_space(folder)) for s in (train, test))
    return {f: mean(_r2(x[m], train.truth[f], y[m], test.truth[f]) for m in "abc" if m in f) for f in train.truth}


def _r2(x: Tensor, y: Tensor, tested: Tensor, truth: Tensor) -> float:
    centre, scale = x.mean(0), x.std(0)
    x, tested = (x - centre) / scale, (tested - centre) / scale
    weight = torch.linalg.solve(x.T @ x + 1e-3 * len(x) * torch.eye(x.shape[1]), x.T @ y)
    return float((1 - (truth - tested @ weight).square().sum(0) / (truth - truth.mean(0)).square().sum(0)).mean())


def near(folder: Path) -> dict[str, float]:
    """R@1 of every ordered pair among 1,000."""
    return {way: r["R@1"] for way, r in alignment(factors(1_000, "test"), load_space(folder)).recall.items()}


def blindness(folder: Path, broken: str) -> float:
    """How much farther a second set is from a first one, seen jointly, when this pairing of it is broken."""
    space = load_space(folder)
    frequencies = torch.randn(96, 2048, generator=torch.Generator().manual_seed(0))

    def law(source: FactorSource) -> Tensor:
        return characteristic(torch.cat([*vectors(source, space).values()], dim=1) @ frequencies)

    first = law(factors(4_000, "first"))
    whole, other = (law(factors(4_000, "second", broken=b)) for b in ("", broken))
    return float(square_distance(first, other) / square_distance(first, whole))


def test_the_centroid_keeps_what_two_others_share_and_a_fixed_anchor_does_not(made: Make) -> None:
    centroid, fixed = made(), made(anchor="fixed:a", state="trainable")
    ours, theirs = kept(centroid), kept(fixed)
    assert ours["bc"] >= 0.80 and theirs["bc"] <= 0.30 and ours["bc"] - theirs["bc"] >= 0.5
    assert min(ours["ab"], ours["ac"], ours["abc"]) >= 0.85
    found, lost = near(centroid), near(fixed)
    assert found["b -> c"] >= 35 and found["b -> c"] >= 4 * lost["b -> c"]
    lengths = [row["centroid"] for row in read_manifest(centroid)["history"]]
    assert lengths[-1] > lengths[0] + 0.15


def test_a_fixed_anchor_makes_a_matching_loss_blind(made: Make) -> None:
    centroid, fixed = made(), made(anchor="fixed:a", state="trainable")
    assert blindness(centroid, "bc") >= 2 and blindness(fixed, "bc") <= 1.2
    assert blindness(fixed, "ac") >= 2  # what the anchor has is seen


def test_a_pretrained_anchor_that_is_frozen_is_as_blind(made: Make) -> None:
    fixed = made(anchor="fixed:a")
    assert kept(fixed)["bc"] <= 0.30 and blindness(fixed, "bc") <= 1.2


def test_the_lost_factor_is_the_one_that_the_anchor_lacks(made: Make) -> None:
    for anchor, lost in (("b", "ac"), ("c", "ab")):
        found = kept(made(anchor=f"fixed:{anchor}", state="trainable"))
        assert [f for f in ("ab", "ac", "bc") if found[f] <= 0.3] == [lost]


def test_noise_on_the_views_keeps_what_a_modality_alone_knows(made: Make) -> None:
    with_noise, without = kept(made()), kept(made(noise=0.0))
    assert mean(with_noise[m] - without[m] for m in "abc") >= 0.05


def repaired(folder: Path, **options: Any) -> dict[str, float]:
    """Broken triples brought to the joint law: how far two modalities then agree about their own factor."""
    train = factors(10_000)
    problem = lb.Problem(train, load_space(folder), lb.Budget(pairs=256))
    method = lb.methods.ImageBindDC(steps=400, lr=0.015, init="random", uni=0.0, cross=0.0, bank=16, **options)
    for state in lb.steps(problem, method):
        if not state.step:
            for i, m in enumerate("bc"):
                value = state.synthetic.value(m).data
                value.copy_(value[torch.randperm(256, generator=torch.Generator().manual_seed(i))])
    real, ties = train.batch(range(10_000)), {}
    for factor in ("ab", "ac", "bc"):
        said = [_decoded(real[m], train.truth[factor], state.synthetic.value(m).detach()) for m in factor]
        ties[factor] = float((said[0] * said[1]).mean())
    return ties


def _decoded(x: Tensor, y: Tensor, own: Tensor) -> Tensor:
    weight = torch.linalg.lstsq(x - x.mean(0), y - y.mean(0)).solution
    found = (own - x.mean(0)) @ weight
    return (found - found.mean(0)) / found.std(0, correction=0)


def test_a_set_made_at_a_fixed_anchor_never_regains_what_the_others_share(made: Make) -> None:
    assert min(repaired(made()).values()) >= 0.7
    fixed = repaired(made(anchor="fixed:a", state="trainable"))
    assert min(fixed["ab"], fixed["ac"]) >= 0.7 and abs(fixed["bc"]) <= 0.15


def test_frequencies_that_are_too_high_repair_nothing_and_are_warned_of(made: Make) -> None:
    with pytest.warns(LimbeckWarning, match="at scale = 3 the characteristic functions of a \\+ b \\+ c vanish"):
        ties = repaired(made(), scale=3.0)
    assert max(map(abs, ties.values())) <= 0.3


def test_a_third_of_the_entries_may_be_missing(made: Make) -> None:
    whole = factors(10_000)
    drawn = torch.Generator().manual_seed(0)
    here = torch.rand(10_000, 3, generator=drawn) >= 0.3
    here[~here.any(1), 0] = True
    values = whole.batch(range(10_000))
    held = {m: values[m].where(here[:, i, None], torch.nan) for i, m in enumerate("abc")}
    folder = made(VectorSource("a third missing", held, present=dict(zip("abc", here.T, strict=True))))
    found = kept(folder)
    assert mean(found[f] for f in ("ab", "ac", "bc")) >= 0.80


def test_an_anchor_that_knows_everything_is_good_and_one_that_knows_little_is_bad(made: Make) -> None:
    """The honest exception: the centroid is far above the weak anchor, and is not asked to beat the best."""
    train, test = ranked(8_000), ranked(2_000, "test")
    weak, best, ours = (
        alignment(test, load_space(made(train, **options)), train).probes
        for options in ({"anchor": "fixed:a"}, {"anchor": "fixed:d"}, {})
    )
    assert best["all"] - weak["all"] >= 5
    assert ours["d"] - weak["d"] >= 5 and ours["all"] - weak["all"] >= 2
