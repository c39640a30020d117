"""Sources of plain vectors, and made-up data of which we know what they hold."""

import pytest
import torch

import limbeck as lb
from limbeck.data.factors import factors, ranked
from limbeck.data.vectors import VectorSource
from limbeck.errors import ConfigError, DataError


@pytest.mark.parametrize("source", [factors(6), ranked(30)], ids=["factors", "ranked"])
def test_contract(source: lb.Source) -> None:
    lb.check.check_source(source)


def test_fingerprints_follow_content() -> None:
    value = torch.eye(3)
    base = VectorSource("x", {"a": value}).fingerprint
    assert VectorSource("another name", {"a": value.clone()}).fingerprint == base
    for other in (
        VectorSource("x", {"b": value}),
        VectorSource("x", {"a": value + 1}),
        VectorSource("x", {"a": value}, labels=torch.zeros(3, dtype=torch.long)),
        VectorSource("x", {"a": value}, present={"a": torch.tensor([True, True, False])}),
        VectorSource("x", {"a": value}, split="test"),
    ):
        assert other.fingerprint != base


def test_bad_vectors_are_refused() -> None:
    good = torch.eye(3)
    with pytest.raises(DataError, match="not the names image, text or label"):
        VectorSource("x", {"image": good})
    with pytest.raises(DataError, match="one row a sample"):
        VectorSource("x", {"a": good, "b": torch.eye(2)})
    with pytest.raises(DataError, match="one row a sample"):
        VectorSource("x", {"a": good}, labels=torch.zeros(2, dtype=torch.long))
    with pytest.raises(DataError, match="present names b"):
        VectorSource("x", {"a": good}, present={"b": torch.ones(3, dtype=torch.bool)})
    with pytest.raises(DataError, match=r"must be float \[N, D\]"):
        VectorSource("x", {"a": torch.ones(3, 2, 2)})
    bad = good.clone()
    bad[1, 0] = torch.nan
    with pytest.raises(DataError, match="a of sample 1 holds NaN"):
        VectorSource("x", {"a": bad})
    VectorSource("x", {"a": bad}, present={"a": torch.tensor([True, False, True])})


def test_factors_repeat_and_splits_share_their_maps() -> None:
    assert factors(7).fingerprint == factors(7).fingerprint
    assert factors(7, seed=1).fingerprint != factors(7).fingerprint != factors(7, "test").fingerprint
    with pytest.raises(ConfigError, match="broken to be ab, ac or bc"):
        factors(7, broken="abc")
    train, test = factors(4000), factors(500, "test")
    one = torch.ones(len(train), 1)
    for source in (train, test):
        assert source.batch(range(len(source)))["b"].std() == pytest.approx(1.0, abs=0.1)
    x, y = (s.batch(range(len(s)))["b"] for s in (train, test))
    weight = torch.linalg.lstsq(torch.cat([x, one], 1), train.truth["bc"]).solution
    left = test.truth["bc"] - torch.cat([y, one[:500]], 1) @ weight
    assert 1 - left.square().sum() / test.truth["bc"].square().sum() > 0.6  # a map of train reads test


def test_breaking_a_factor_leaves_everything_else() -> None:
    whole, broken = factors(300), factors(300, broken="bc")
    a, b = whole.batch(range(300)), broken.batch(range(300))
    assert torch.equal(a["a"], b["a"]) and torch.equal(a["b"], b["b"]) and not torch.equal(a["c"], b["c"])


def test_ranked_modalities_know_more_and_more() -> None:
    source = ranked(200)
    assert source.classes == tuple(map(str, range(20)))
    ranks = []
    for modality in "abcd":
        x = source.batch(range(200))[modality]
        variance = torch.linalg.svdvals(x - x.mean(0)).square()
        ranks.append(int((variance > variance.sum() * 0.02).sum()))
    assert ranks == sorted(ranks) and ranks[0] < ranks[-1]
