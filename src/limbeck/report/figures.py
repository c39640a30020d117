"""Figures as inline SVG: text stays text, colours are the page's CSS variables, and the bytes are the same every time.

Matplotlib draws with sentinel colours that are replaced by `var(--name)` afterwards, so that a figure follows the
reader's light or dark mode.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from limbeck.evaluation.plot import error_bars
from limbeck.evaluation.score_table import ScoreTable
from limbeck.report.formatting import count, number, size
from limbeck.report.results import digits, label

__all__ = ["MARKERS", "SERIES", "budget", "curves", "dots", "heatmap", "scalars", "shape"]

SERIES = 6  # colours --s0 .. --s5 of the style sheet
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, MUTED, RULE = "#010203", "#010204", "#010205"
COLOURS = tuple(f"#01030{i}" for i in range(SERIES))
VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", **{c: f"--s{i}" for i, c in enumerate(COLOURS)}}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "limbeck",
    "text.parse_math": False,
    "font.size": 10,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.6,
}
POINTS = 160  # a curve is drawn with at most this many
CELLS = 200  # a side of a heat map, at most


def budget(table: ScoreTable, colours: Mapping[str, int], name: str) -> str:
    """The primary score against bytes on a logarithmic axis, a line a method, and the full data as a dashed line."""
    with _style():
        figure, axes = _axes(4.6, 3.0)
        for method in dict.fromkeys(row.method for row in table.small):
            rows = [row for row in table.small if row.method == method]
            style = {"marker": _marker(colours[method]), "color": COLOURS[colours[method] % SERIES]}
            error_bars(axes, rows, table.metric, markersize=6, elinewidth=1.2, **style)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: size(round(value)))
        axes.xaxis.set_minor_formatter(_thin(axes))
        axes.set(xlabel="bytes on disk", ylabel=label(table))
        _full_line(axes, table, vertical=False)
        return _svg(figure, name)


def dots(table: ScoreTable, colours: Mapping[str, int], name: str) -> str:
    """The primary score of each set as a dot with its spread, every seed as a faint dot, and the full data dashed."""
    rows = table.small[::-1]
    with _style():
        figure, axes = _axes(4.6, 0.9 + 0.4 * len(rows))
        for y, row in enumerate(rows):
            score, colour = row.cells[table.metric], COLOURS[colours[row.method] % SERIES]
            axes.plot(score.values, [y - 0.22] * len(score.values), "o", color=colour, alpha=0.5, markersize=3, mew=0)
            axes.errorbar(score.mean, y, xerr=score.std, fmt=_marker(colours[row.method]), color=colour, markersize=7)
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.tick_params(axis="y", colors=INK)
        axes.grid(axis="y", visible=False)
        axes.set(xlabel=label(table), ylim=(-0.6, len(rows) - 0.4))
        _full_line(axes, table, vertical=True)
        return _svg(figure, name)


def curves(history: Mapping[str, Sequence[Mapping[str, Any]]], scalar: str, name: str) -> str:
    """One logged scalar over the steps, a line a run; long runs are drawn as means of bins, with their range."""
    with _style():
        figure, axes = _axes(4.0, 2.3)
        seen: list[float] = []
        for position, rows in enumerate(history.values()):
            points = [(row["step"], float(row[scalar])) for row in rows if _finite(row.get(scalar))]
            if not points:
                continue
            colour = COLOURS[position % SERIES]
            steps, means, lows, highs = _bins(points)
            axes.fill_between(steps, lows, highs, color=colour, alpha=0.18, linewidth=0)
            axes.plot(steps, means, color=colour, marker="o" if len(steps) == 1 else None)
            seen += lows + highs
        if min(seen, default=0) > 0 and max(seen) / min(seen) > 50:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
        axes.margins(x=0.01)
        axes.set_xlabel("step")
        return _svg(figure, name)


def heatmap(matrix: Tensor, limit: float, name: str) -> str:
    """A square matrix of images by texts: nothing is drawn at 0, `--s0` above it, `--s1` below, full at `limit`.

    Each colour is a rectangle behind a mask, and the mask a picture of one pixel a cell, so that 100 x 100 cells take
    about 20 kB and still follow the scheme. Of a larger matrix each cell is the strongest of a block.
    """
    block = math.ceil(len(matrix) / CELLS)
    with _style():
        figure, axes = _axes(4.6, 4.4)
        for sign in (1, -1):
            strength = (sign * matrix / limit).clamp(0, 1)
            strength = F.max_pool2d(strength[None], block, ceil_mode=True)[0]
            white = strength.new_ones(*strength.shape, 4)
            white[..., 3] = (strength * 15).round() / 15  # few levels make a small picture
            axes.imshow(white.numpy(), interpolation="none", extent=(-0.5, len(matrix) - 0.5, len(matrix) - 0.5, -0.5))
        axes.set(xlabel="text", ylabel="image")
        axes.grid(visible=False)
        svg = _svg(figure, name)
    for k in (0, 1):
        cells = re.compile(r"<image [^>]*/>").findall(svg)[k]
        colour = f'<rect width="100%" height="100%" mask="url(#{name}-mask{k})" style="fill: var(--s{k})"/>'
        svg = svg.replace(cells, f'<mask id="{name}-mask{k}" maskUnits="userSpaceOnUse">{cells}</mask>{colour}')
    return svg


def scalars(history: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """The names of the logged numbers, the loss first."""
    found = dict.fromkeys(
        k for rows in history.values() for row in rows for k, v in row.items() if k != "step" and _finite(v)
    )
    return sorted(found, key=lambda key: key != "loss")


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bins(points: list[tuple[int, float]]) -> tuple[list[float], list[float], list[float], list[float]]:
    width = math.ceil(len(points) / POINTS)
    groups = [points[i : i + width] for i in range(0, len(points), width)]
    values = [[v for _, v in group] for group in groups]
    steps = [sum(s for s, _ in group) / len(group) for group in groups]
    return steps, [sum(v) / len(v) for v in values], [min(v) for v in values], [max(v) for v in values]


def _full_line(axes: Any, table: ScoreTable, *, vertical: bool) -> None:
    if table.full is None:
        return
    mean = table.full.cells[table.metric].mean
    words = f"all {count(table.full.pairs)} real pairs: {number(mean, digits(table, table.metric))}"
    draw = axes.axvline if vertical else axes.axhline
    draw(mean, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    if vertical:
        axes.text(mean, 1.0, words, transform=axes.get_xaxis_transform(), ha="right", va="bottom")
    else:
        axes.text(0.01, mean, words, transform=axes.get_yaxis_transform(), ha="left", va="bottom")


def _thin(axes: Any) -> Any:
    """Labels 2 and 5 of a decade where the axis is too short for whole decades."""

    def label(value: float, _: Any) -> str:
        low, high = axes.get_xlim()
        lead = round(value / 10 ** math.floor(math.log10(value)))
        return size(round(value)) if high / low < 100 and lead in (2, 5) else ""

    return label


def _marker(position: int) -> str:
    return MARKERS[shape(position)]


def shape(position: int) -> int:
    """Which marker a series has: with its colour it tells 36 series apart, and with no colour the first six."""
    return (position + position // SERIES) % len(MARKERS)


def _style() -> Any:
    from matplotlib import rc_context

    return rc_context(STYLE)


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Any, name: str) -> str:
    """The figure as an SVG element whose ids start with `name`, sized by the page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1
    )
    text = re.sub(r' xmlns:xlink="[^"]*"| xmlns="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'\bid="', f'id="{name}-', re.sub(r'(href="#|url\(#)', rf"\1{name}-", text))
    for sentinel, variable in VARIABLES.items():
        text = text.replace(sentinel, f"var({variable})")
    return text.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1)
