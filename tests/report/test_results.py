"""Scores grouped into tables: order, the best of each budget, the share kept."""

import pytest

from limbeck.errors import ConfigError
from limbeck.report.results import groups


def test_rows_stand_by_budget_and_the_full_data_last(score):
    scores = [
        score("full", 500, (40.0,)),
        score("cf", 20, (20.0,)),
        score("random", 10, (5.0,)),
        score("cf", 10, (9.0,)),
    ]
    table = groups(scores)[0].home
    assert [row.name for row in table.rows] == ["random-10", "cf-10", "cf-20", "full-500"]
    assert table.budgets == 2


def test_the_best_of_each_budget_leads_but_never_alone_nor_the_full_data(score):
    (group,) = groups(
        [score("full", 10, (40.0,)), score("cf", 20, (20.0,)), score("random", 10, (5.0,)), score("cf", 10, (9.0,))]
    )
    assert {row.name: "mean" in row.best for row in group.home.rows} == {
        "random-10": False,
        "cf-10": True,
        "cf-20": False,
        "full-10": False,
    }


def test_the_lowest_leads_where_lower_is_better_and_no_share_is_kept(score):
    scores = [
        score(m, n, (v,), "loss", higher_is_better=False)
        for m, n, v in (("a", 5, 2.0), ("b", 5, 1.0), ("full", 50, 0.5))
    ]
    table = groups(scores)[0].home
    a, b, _ = table.rows
    assert "loss" in b.best and not a.best
    assert not b.percent


def test_share_kept_is_the_ratio_of_means_of_the_primary_metric(score):
    rows = {"cf": (9.0, 12.0), "full": (40.0, 44.0)}
    scores = [score(m, 10, v, k) for m, v in rows.items() for k in ("IR@1", "mean")]
    table = groups(scores)[0].home
    assert table.metric == "mean" and list(table.columns) == ["mean", "IR@1"]
    assert table.rows[0].percent["mean"] == pytest.approx(100 * 10.5 / 42)


def test_fingerprints_never_share_a_table(score):
    apart = groups([score("a", 5, (1.0,)), score("a", 5, (1.0,), fingerprint="ff")])
    assert [group.home.fingerprint for group in apart] == ["0123456789abcdef", "ff"]


def test_a_set_judged_twice_is_refused(score):
    with pytest.raises(ConfigError, match=r"'a-5' has two scores of 'mean'.*different names"):
        groups([score("a", 5, (1.0,)), score("a", 5, (2.0,))])


def test_a_metric_that_a_set_lacks_leaves_a_hole(score):
    table = groups([score("a", 5, (1.0,)), score("b", 5, (2.0,), "extra")])[0].home
    assert [row.name for row in table.small] == ["a-5"]
    assert list(table.columns) == ["mean", "extra"]


def test_tables_of_one_protocol_are_a_group_and_who_took_part_leads_nothing(score):
    home = [
        score("cf", 6, (20.0,), encoder="a"),
        score("random", 6, (8.0,), encoder="a"),
        score("full", 9, (40.0,), encoder="a"),
    ]
    there = {"encoder": "b", "home": home[0].fingerprint, "fingerprint": "unseen"}
    other = [
        score("cf", 6, (12.0,), **there, took_part=True),
        score("random", 6, (6.0,), **there),
        score("herding", 6, (5.0,), **there),
        score("full", 9, (48.0,), **there),
    ]
    (group,) = groups([*home, *other])
    _, unseen = group.tables
    assert (group.home.encoder, unseen.encoder, unseen.home) == ("a", "b", home[0].fingerprint)
    assert group.encoders is not None and group.encoders.encoders == ("a", "b")
    seen, random, herding = unseen.small
    assert [row.label for row in unseen.small] == ["cf-6 (took part)", "random-6", "herding-6"]
    assert not seen.best and random.best and not herding.best
    assert random.percent["mean"] == 100 * 6 / 48
    assert [len(row.cells) for row in group.encoders.rows] == [2, 2, 1, 2], "herding was not judged at home"
    assert [row.best for row in group.encoders.rows[:2]] == [{home[0].fingerprint}, {"unseen"}]
    assert [g.home.encoder for g in groups(other)] == ["b"], "without its home it stands for itself"
