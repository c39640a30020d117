"""What `alignment` says of a space, against naive figures."""

import json

import pytest
import torch
import torch.nn.functional as F

import limbeck as lb
from limbeck.data.vectors import VectorSource
from limbeck.errors import ConfigError
from limbeck.evaluation.alignment import alignment, effective_rank


def unit(rows: int, seed: int, dim: int = 6) -> torch.Tensor:
    return F.normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


SPACE = {"a": "vectors:6", "b": "vectors:6"}


def test_recall_centroid_and_gap_are_the_naive_ones() -> None:
    a, noise = unit(30, 0), unit(30, 1)
    b = F.normalize(a + 0.7 * noise, dim=1)
    found = alignment(VectorSource("x", {"a": a, "b": b}), lb.space(**SPACE))
    scores = a @ b.T
    for way, table in (("a -> b", scores), ("b -> a", scores.T)):
        for k in (1, 5, 10):
            hits = [i in table[i].topk(k).indices.tolist() for i in range(30)]
            assert found.recall[way][f"R@{k}"] == pytest.approx(100 * sum(hits) / 30)
    assert found.centroid == pytest.approx(float(((a + b) / 2).norm(dim=1).mean()), abs=1e-6)
    assert found.gap["a, b"] == pytest.approx(float((a.mean(0) - b.mean(0)).norm()), abs=1e-6)
    assert json.loads(json.dumps(found.data()))["samples"] == 30 and "b -> a" in found.text()


def test_missing_rows_ask_nothing() -> None:
    a, here = unit(10, 0), torch.arange(10) < 7
    held = {"a": a, "b": a.where(here[:, None], torch.nan)}
    found = alignment(VectorSource("x", held, present={"b": here}), lb.space(**SPACE))
    assert found.recall["a -> b"]["R@1"] == found.recall["b -> a"]["R@1"] == 100.0
    assert found.centroid == pytest.approx(1.0, abs=1e-6)


def test_a_constant_space_finds_nothing() -> None:
    same = torch.ones(10, 6)
    found = alignment(VectorSource("x", {"a": same, "b": same}), lb.space(**SPACE))
    assert found.recall["a -> b"]["R@1"] == 0.0 and found.rank["a"] == pytest.approx(1.0, abs=1e-3)


def test_probes_read_labels_of_each_modality_and_of_both() -> None:
    label = torch.arange(200) % 4
    centres = torch.eye(6)
    a = centres[label // 2] + 0.05 * unit(200, 0)  # knows one bit
    b = centres[label % 2] + 0.05 * unit(200, 1)  # knows the other
    source = VectorSource("x", {"a": a, "b": b}, labels=label)
    space = lb.space(**SPACE)
    assert alignment(source, space).probes == {}
    found = alignment(source, space, source).probes
    assert found["all"] == 100.0 and 25 < found["a"] < 75 and 25 < found["b"] < 75
    unknown = VectorSource("x", {"a": a, "b": b}, labels=label.masked_fill(torch.arange(200) < 20, -1))
    assert alignment(unknown, space, source).probes["all"] == 100.0


def test_probes_agree_with_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    label = torch.arange(300) % 3
    x = torch.eye(6)[label] + 0.6 * torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    source, space = VectorSource("x", {"a": x, "b": x}, labels=label), lb.space(**SPACE)
    z = F.normalize(x, dim=1)
    z = (z - z.mean(0)) / z.std(0, correction=0)
    theirs = LogisticRegression(max_iter=500).fit(z.numpy(), label.numpy()).score(z.numpy(), label.numpy())
    assert alignment(source, space, source).probes["a"] == pytest.approx(100 * theirs, abs=0.7)


def test_effective_rank_counts_dimensions() -> None:
    x = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    assert effective_rank(x) == pytest.approx(8.0, abs=0.05)
    assert effective_rank(x * torch.tensor([1.0, 1.0, 1.0, 0, 0, 0, 0, 0])) == pytest.approx(3.0, abs=0.01)
    assert effective_rank(torch.zeros(5, 3)) == 1.0


def test_what_cannot_be_compared() -> None:
    source = VectorSource("x", {"a": unit(5, 0), "b": unit(5, 1, dim=7)})
    with pytest.raises(ConfigError, match="two modalities or more in one dimension"):
        alignment(source, lb.space(a="vectors:6", b="vectors:7"))
    with pytest.raises(ConfigError, match="two modalities or more"):
        alignment(source, lb.space(a="vectors:6"))
