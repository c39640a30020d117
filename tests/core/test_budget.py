"""How a budget is spread over classes: the same shares as handing out one pair after the other, at any number of classes."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import limbeck as lb
from limbeck.core import Problem
from limbeck.core.budget import per_class
from limbeck.data.vectors import VectorSource
from limbeck.errors import ConfigError, DataError


def one_by_one(pairs: int, have: list[int]) -> list[int]:
    """Hands out pair after pair, each to the poorest class that has more; the first of several."""
    share = [0] * len(have)
    for _ in range(min(pairs, sum(have))):
        open_classes = [c for c in range(len(have)) if share[c] < have[c]]
        share[min(open_classes, key=lambda c: share[c])] += 1
    return share


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(0, 130), st.integers(0, 4))
def test_shares_are_those_of_handing_out_one_by_one(have: list[int], pairs: int, unlabelled: int) -> None:
    labels = torch.tensor([c for c, count in enumerate(have) for _ in range(count)] + [-1] * unlabelled).long()
    wanted = sum(map(bool, have))
    if pairs < wanted:
        with pytest.raises(ConfigError, match=f"{pairs} pairs is below one a class: there are {wanted} classes"):
            per_class(pairs, labels, len(have))
    else:
        assert per_class(pairs, labels, len(have)) == one_by_one(pairs, have)


def test_a_thousand_classes_take_milliseconds() -> None:
    """Seconds a call before; the groups of a problem are found once, and not at every step."""
    labels = torch.arange(50_000) % 1000
    labels[-997:] = -1
    start = time.perf_counter()
    shares = per_class(10_000, labels, 1000)
    assert time.perf_counter() - start < 0.5
    assert sum(shares) == 10_000 and set(shares) == {10}
    source = VectorSource("many", {"a": torch.ones(50_000, 2)}, labels=labels)
    problem = Problem(source, lb.space(a="vectors:2"), lb.Budget(pairs=10_000))
    groups = problem.groups(10_000)
    start = time.perf_counter()
    again = problem.groups(10_000)
    assert time.perf_counter() - start < 0.05
    assert again is groups


def test_the_groups_of_a_problem() -> None:
    """Every class has its own candidates, in their order, and its share; samples without a label are in none."""
    labels = torch.tensor([2, 0, -1, 2, 0, 2, 3])
    source = VectorSource("few", {"a": torch.eye(7)}, labels=labels)
    problem = Problem(source, lb.space(a="vectors:7"), lb.Budget(pairs=5))
    found = [(among.tolist(), share) for among, share in problem.groups(5)]
    assert found == [([1, 4], 2), ([0, 3, 5], 2), ([6], 1)]
    assert [(among.tolist(), share) for among, share in problem.groups(5, per_class=False)] == [(list(range(7)), 5)]
    assert [share for _, share in problem.groups(4)] == [2, 1, 1], "another budget, other shares"


def test_only_methods_that_look_at_classes_need_labels_and_one_pair_a_class() -> None:
    space = lb.space(image="convnet", text="bag_of_words")
    bare = Problem(lb.check.toy_source(modalities=("image", "text")), space, lb.Budget(pairs=2))
    for method in (lb.methods.KIP(), lb.methods.Random(), lb.methods.Random(per_class=False)):
        method.check(bare)
    with pytest.raises(DataError, match="labels"):
        lb.methods.Random(per_class=True).check(bare)
    few = Problem(lb.check.toy_source(), lb.space(text="bag_of_words"), lb.Budget(pairs=2))
    for rule in (None, False):
        lb.methods.Random(per_class=rule).check(few)
    with pytest.raises(ConfigError, match="below one a class: there are 4 classes"):
        lb.methods.Random(per_class=True).check(few)


def test_more_pairs_than_the_data_have_are_refused_before_anything_is_encoded() -> None:
    space = lb.space(image="convnet")
    assert Problem(lb.check.toy_source(4), space, lb.Budget(pairs=4)).available == 4
    with pytest.raises(ConfigError, match=r"\b5\b.*\b4\b"):
        Problem(lb.check.toy_source(4), space, lb.Budget(pairs=5))


def test_one_sample_can_be_distilled_and_none_cannot() -> None:
    """The least data that there are."""
    space = lb.space(a="vectors:2")
    one = VectorSource("one", {"a": torch.ones(1, 2)})
    assert len(lb.distill(Problem(one, space, lb.Budget(pairs=1)), lb.methods.Random())) == 1
    with pytest.raises(DataError, match="has no samples to distil"):
        Problem(VectorSource("none", {"a": torch.ones(0, 2)}), space, lb.Budget(pairs=1))
