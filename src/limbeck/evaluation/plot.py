"""Score against bytes on disk, a panel an encoder, with a line at what the full data reach."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.errors import ConfigError
from limbeck.evaluation.score import Score
from limbeck.evaluation.score_table import Row, ScoreTable, by_metric, headline
from limbeck.runtime.files import whole_file

__all__ = ["error_bars", "score_vs_bytes"]


def score_vs_bytes(scores: Sequence[Score], path: str | Path, metric: str | None = None) -> Path:
    """Draws one panel a protocol and encoder: a line a method over its sizes with the spread over seeds, the full data as a level.

    A set that an encoder took part in making is drawn hollow in the panel of that encoder.

    Args:
        scores: what `compare` returned.
        path: an `.svg`, `.png` or `.pdf` file.
        metric: which one; by default `"mean"` where there is one, else the first.

    Raises:
        ConfigError: no scores, or none of that metric; or two of one set under one fingerprint.
        StorageError: it cannot be written.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen = metric if metric is not None else headline(scores)
    tables = by_metric([s for s in scores if s.metric == chosen])
    if not tables:
        known = ", ".join(dict.fromkeys(s.metric for s in scores)) or "none"
        raise ConfigError(f"no scores of {chosen!r} to draw; there are {known}")
    path = Path(path)
    with matplotlib.rc_context({"svg.hashsalt": "limbeck", "font.size": 9}):
        figure = Figure(figsize=(5.2 * len(tables), 3.8), layout="constrained")
        FigureCanvasAgg(figure)
        several = any(table.home for table in tables)
        panels = figure.subplots(1, len(tables), squeeze=False, sharey=several)[0]
        for axes, table in zip(panels, tables, strict=True):
            _panel(axes, table)
            if several:
                axes.set_title(f"{table.protocol}\n{'unseen' if table.home else 'home'}: {table.encoder}")
        dated = {"Date": None} if path.suffix == ".svg" else {}
        with whole_file(path) as made:
            figure.savefig(made, dpi=150, metadata=dated)
    return path


def error_bars(axes: Any, rows: Sequence[Row], metric: str, **style: Any) -> None:
    """Draws rows as one line over their bytes, with the spread over seeds; hollow where an encoder took part in making one."""
    rows = sorted(rows, key=lambda row: row.bytes)
    scores = [row.cells[metric] for row in rows]
    hollow = any(score.took_part for score in scores)
    axes.errorbar(
        [row.bytes for row in rows],
        [score.mean for score in scores],
        yerr=[score.std for score in scores],
        fillstyle="none" if hollow else "full",
        **style,
    )


def _panel(axes: Any, table: ScoreTable) -> None:
    for name in dict.fromkeys(row.name for row in table.rows):
        rows = [row for row in table.rows if row.name == name]
        if rows[0].full:
            label = f"{name} ({rows[0].bytes / 1e6:,.1f} MB)"
            mean = rows[0].cells[table.metric].mean
            axes.axhline(mean, color="0.4", linestyle="--", label=_wrapped(label))
        else:
            label = f"{name} ({table.encoder} took part)" if any(row.took_part for row in rows) else name
            error_bars(axes, rows, table.metric, marker="o", capsize=3, label=_wrapped(label))
    axes.set_xscale("log")
    axes.set_xlabel("bytes on disk")
    axes.set_ylabel(f"{table.metric} (percent)")
    axes.set_title(table.protocol)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _wrapped(label: str) -> str:
    """A label that leaves room for what it is of, however many options a row names."""
    return "\n".join(textwrap.wrap(label, 60, max_lines=3, placeholder=" ..."))
