"""Score against bytes on disk, a panel an encoder, with a line at what the full data reach."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from limbeck.errors import ConfigError
from limbeck.evaluation.score import Score
from limbeck.evaluation.table import headline
from limbeck.runtime.files import whole_file

__all__ = ["score_vs_bytes"]


def score_vs_bytes(scores: Sequence[Score], path: str | Path, metric: str | None = None) -> Path:
    """Draws one panel a protocol and encoder: a line a method over its sizes with the spread over seeds, the full data as a level.

    A set that an encoder took part in making is drawn hollow in the panel of that encoder.

    Args:
        scores: what `compare` returned.
        path: an `.svg`, `.png` or `.pdf` file.
        metric: which one; by default `"mean"` where there is one, else the first.

    Raises:
        ConfigError: no scores, or none of that metric.
        StorageError: it cannot be written.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(s.metric for s in scores))
    chosen = metric if metric is not None else headline(scores) if metrics else ""
    groups: dict[str, list[Score]] = {}
    for score in scores:
        if score.metric == chosen:
            groups.setdefault(score.fingerprint, []).append(score)
    if not groups:
        raise ConfigError(f"no scores of {chosen!r} to draw; there are {', '.join(metrics) or 'none'}")
    path = Path(path)
    with matplotlib.rc_context({"svg.hashsalt": "limbeck", "font.size": 9}):
        figure = Figure(figsize=(5.2 * len(groups), 3.8), layout="constrained")
        FigureCanvasAgg(figure)
        several = any(score.home for group in groups.values() for score in group)
        panels = figure.subplots(1, len(groups), squeeze=False, sharey=several)[0]
        for axes, group in zip(panels, groups.values(), strict=True):
            _panel(axes, group, chosen)
            if several:
                axes.set_title(f"{group[0].protocol}\n{'unseen' if group[0].home else 'home'}: {group[0].encoder}")
        dated = {"Date": None} if path.suffix == ".svg" else {}
        with whole_file(path) as made:
            figure.savefig(made, dpi=150, metadata=dated)
    return path


def _panel(axes: object, scores: Sequence[Score], metric: str) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    for name in dict.fromkeys(s.name for s in scores):
        line = sorted((s for s in scores if s.name == name), key=lambda s: s.bytes)
        if line[0].method == "full":
            label = f"{name} ({line[0].bytes / 1e6:,.1f} MB)"
            axes.axhline(line[0].mean, color="0.4", linestyle="--", label=_wrapped(label))
        else:
            x, y, spread = ([getattr(s, key) for s in line] for key in ("bytes", "mean", "std"))
            hollow = any(s.took_part for s in line)
            label = f"{name} ({scores[0].encoder} took part)" if hollow else name
            style = "none" if hollow else "full"
            axes.errorbar(x, y, yerr=spread, marker="o", capsize=3, label=_wrapped(label), fillstyle=style)
    axes.set_xscale("log")
    axes.set_xlabel("bytes on disk")
    axes.set_ylabel(f"{metric} (percent)")
    axes.set_title(scores[0].protocol)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _wrapped(label: str) -> str:
    """A label that leaves room for what it is of, however many options a row names."""
    return "\n".join(textwrap.wrap(label, 60, max_lines=3, placeholder=" ..."))
