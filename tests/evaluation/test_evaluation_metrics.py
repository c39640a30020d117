"""Metrics against torchmetrics, naive loops and cases whose answer is known."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.evaluation.metrics import accuracy, first_hit, retrieval


def naive_rank(scores, own):
    """The worst place that ties allow, counting only strangers."""
    if not any(own):
        return len(own)
    best = max(s for s, mine in zip(scores, own, strict=True) if mine)
    return sum(1 for s, mine in zip(scores, own, strict=True) if not mine and s >= best)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 12), st.sampled_from([1, 7, 10**6]))
def test_ranks_equal_a_naive_loop_with_many_ties(seed, queries, gallery, cells):
    g = torch.Generator().manual_seed(seed)
    q, x = (torch.randint(-1, 2, (n, 2), generator=g).float() for n in (queries, gallery))
    mine, theirs = (torch.randint(0, 4, (n,), generator=g) for n in (queries, gallery))
    found = first_hit(q, x, mine, theirs, cells)
    scores = q @ x.T
    expected = [naive_rank(scores[i].tolist(), (theirs == mine[i]).tolist()) for i in range(queries)]
    assert found.tolist() == expected


def test_hit_rates_equal_torchmetrics():
    from torchmetrics.retrieval import RetrievalHitRate

    g = torch.Generator().manual_seed(3)
    image = F.normalize(torch.randn(30, 8, generator=g), dim=1)
    owner = torch.arange(30).repeat_interleave(torch.arange(30) % 5 + 1)
    text = F.normalize(image[owner] + torch.randn(len(owner), 8, generator=g), dim=1)
    found = retrieval(image, text, torch.arange(30), owner)
    for way, scores, target in (
        ("TR", image @ text.T, torch.arange(30)[:, None] == owner),
        ("IR", text @ image.T, owner[:, None] == torch.arange(30)),
    ):
        queries = torch.arange(len(scores))[:, None].expand_as(scores)
        for k in (1, 5, 10):
            expected = RetrievalHitRate(top_k=k)(scores.flatten(), target.flatten(), indexes=queries.flatten())
            assert found[f"{way}@{k}"] == pytest.approx(100 * expected.item(), abs=1e-4)
    assert 0 < found["IR@1"] < 100
    assert found["mean"] == pytest.approx(sum(v for k, v in found.items() if k != "mean") / 6)


def test_chunks_do_not_change_the_result():
    g = torch.Generator().manual_seed(0)
    image, text = torch.randint(-2, 3, (37, 4), generator=g).float(), torch.randint(-2, 3, (90, 4), generator=g).float()
    owner = torch.randint(37, (90,), generator=g)
    whole = retrieval(image, text, torch.arange(37), owner)
    assert all(retrieval(image, text, torch.arange(37), owner, cells) == whole for cells in (1, 100, 1000))


def test_matched_vectors_are_perfect_and_constant_ones_score_nothing():
    eye, ids = torch.eye(20), torch.arange(20)
    assert set(retrieval(eye, eye, ids, ids).values()) == {100.0}
    ones = torch.ones(20, 3)
    assert set(retrieval(ones, ones, ids, ids).values()) == {0.0}
    assert set(retrieval(ones * torch.nan, ones, ids, ids).values()) == {0.0}


def test_random_vectors_are_at_chance():
    g = torch.Generator().manual_seed(1)
    image, text = (F.normalize(torch.randn(1000, 16, generator=g), dim=1) for _ in range(2))
    found = retrieval(image, text, torch.arange(1000), torch.arange(1000))
    assert found["IR@10"] == pytest.approx(1.0, abs=1.0)  # 10 in 1000, standard deviation 0.3
    assert found["TR@10"] == pytest.approx(1.0, abs=1.0)


def test_an_image_without_captions_asks_nothing_but_can_be_found_wrongly():
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = retrieval(image, torch.tensor([[0.1, 0.9]]), torch.arange(2), torch.tensor([0]))
    assert found["IR@1"] == 0 and found["IR@5"] == 100 and found["TR@1"] == 100


def test_accuracy_counts_ties_and_nan_against_the_model():
    scores = torch.tensor([[3.0, 1.0], [1.0, 1.0], [torch.nan, torch.nan], [0.0, 5.0]])
    assert accuracy(scores, torch.tensor([0, 0, 0, 1])) == 50.0
