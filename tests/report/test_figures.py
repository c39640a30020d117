"""Figures: well-formed SVG, the same bytes each time, the page's colours, no limit broken by odd names or numbers."""

import re
from math import inf, nan
from xml.etree import ElementTree

from limbeck.report import figures
from limbeck.report.results import groups


def _texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter("text")]


def _lines(svg, name):
    """The number of points of each drawn polyline of the given colour."""
    paths = [p for p in ElementTree.fromstring(svg).iter("path") if f"var({name})" in p.get("style", "")]
    return [len(re.findall(r"[ML]", p.get("d"))) for p in paths if "fill: none" in p.get("style", "")]


def test_budget_plot_names_the_full_data_and_draws_a_line_a_method(score):
    scores = [score(m, n, (v, v + 1)) for n in (10, 100) for m, v in (("random", n / 9), ("cf", n / 7))]
    (group,) = groups([*scores, score("full", 5000, (40.0, 42.0))])
    svg = figures.budget(group.home, {"random": 0, "cf": 1}, "budget")
    assert "all 5,000 real pairs: 41.0" in _texts(svg)
    assert 2 in _lines(svg, "--s0") and 2 in _lines(svg, "--s1")


def test_dots_name_every_set_and_survive_markup_and_mathematics_in_names(score):
    names = ["$x_", "<b>&", "plain"]
    (group,) = groups([score("m", 5, (1.0, 2.0), name=name) for name in names])
    assert set(names) <= set(_texts(figures.dots(group.home, {"m": 0}, "dots")))


def test_a_figure_has_no_fixed_colour_nor_address_nor_size_and_is_repeatable(history):
    first, second = (figures.curves({"run": history}, "loss", "c") for _ in range(2))
    assert first == second
    assert not re.findall(r"#[0-9a-f]{6}|http|<svg[^>]* (width|height)=", first)
    ids = re.findall(r'\bid="([^"]*)"', first)
    assert len(ids) == len(set(ids)) and all(name.startswith("c-") for name in ids)
    assert set(re.findall(r'(?:href="#|url\(#)([^")]*)', first)) <= set(ids)


def test_long_runs_are_binned_and_wide_ranges_are_logarithmic(history):
    assert len(figures._bins([(row["step"], row["loss"]) for row in history])[0]) == 134  # 400 rows in bins of three
    assert {"0.1", "1", "10"} <= set(_texts(figures.curves({"run": history}, "loss", "c")))


def test_bins_are_means_with_their_range():
    points = [(t, float(t % 2)) for t in range(2 * figures.POINTS)]
    steps, means, lows, highs = figures._bins(points)
    assert (steps[1], set(means), set(lows), set(highs)) == (2.5, {0.5}, {0.0}, {1.0})


def test_what_is_not_a_finite_number_is_no_scalar():
    rows = [{"step": 1, "b": 1, "bad": nan, "word": "x", "flag": True, "loss": inf}, {"step": 2, "loss": 0.5}]
    assert figures.scalars({"run": rows}) == ["loss", "b"]
    assert figures.curves({"run": rows, "other": [{"step": 1}]}, "loss", "c").startswith("<svg")


def test_twelve_series_look_different():
    looks = {(i % figures.SERIES, figures.shape(i)) for i in range(12)}
    assert len(looks) == 12
