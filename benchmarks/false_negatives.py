"""Does a learned similarity find false negatives? 40 pairs of only 10 kinds of image, four of each, are distilled.

    OMP_NUM_THREADS=1 python benchmarks/false_negatives.py            heads on frozen towers
    OMP_NUM_THREADS=1 python benchmarks/false_negatives.py encoder    the image encoder trained too, fewer steps

Prints, step by step, the area under the ROC curve of S_ij (i != j, row and column means removed) as a score for "image i and text j
are of one kind" (chance: 0.5), its correlation with the share of attributes in common, and the mean recall of the retrieval
protocol on 200 test images. With frozen towers it also draws benchmarks/false_negatives.svg.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

import limbeck as lb
from limbeck.core import Recipe, freeze
from limbeck.evaluation.protocols.retrieval import Retrieval
from limbeck.methods.trajectory.experts.matching import TrajectoryMatching
from limbeck.objectives.similarity import centred
from limbeck.runtime.random import stream

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
from shapes import PLANTED, Shapes, space

LOOK = 50  # steps between looks
PLANT = PLANTED[0] * PLANTED[1]
SETTINGS = {
    "frozen": {"steps": 400, "dim": 128, "experts": 8, "expert_rate": 0.1, "inner_steps": 8, "segments": 2},
    "encoder": {
        "steps": 100, "students": ("encoder",), "head": "residual", "expert_rate": 0.1, "expert_augment": False, "experts": 4,
        "max_start": 2, "inner_steps": 8, "segments": 1, "student_rate": 0.03,
    },
}  # fmt: skip


@dataclass(frozen=True)
class MatchingStep:
    """What was seen after some steps.

    Args:
        step: how many.
        recall: mean recall in percent.
        similarity: S `[40, 40]`; `None` where it is the identity.
    """

    step: int
    recall: float
    similarity: Tensor | None


def area(score: Tensor, positive: Tensor) -> float:
    """The area under the ROC curve: how often a positive entry scores above another, ties half."""
    above = score[positive][:, None] - score[~positive][None]
    return float((above > 0).double().mean() + (above == 0).double().mean() / 2)


def found(similarity: Tensor, kinds: Tensor) -> tuple[float, float]:
    """Area under the ROC curve for "of one kind", and correlation with the share of attributes in common."""
    off = ~torch.eye(len(kinds), dtype=torch.bool)
    shared = (kinds[:, None] == kinds[None]).double().mean(dim=2)[off]
    score = centred(similarity)[off].double()
    correlation = float(torch.corrcoef(torch.stack([score, shared]))[0, 1])
    return area(score, shared == 1), correlation


def looks(problem: lb.Problem, method: TrajectoryMatching, judge: Retrieval) -> Iterator[MatchingStep]:
    """Distils from the planted pairs, and looks every `LOOK` steps."""
    first = problem.features["text"].first(len(problem.source))[:PLANT]
    caption = first + torch.randint(5, (PLANT,), generator=stream(0, "planted captions"))
    for state in lb.steps(problem, method):
        synthetic = state.synthetic
        if state.step == 0:
            with torch.no_grad():
                synthetic.learned["image"].copy_(problem.source.batch(range(PLANT))["image"])
                synthetic.learned["text"].copy_(problem.features["text"].vectors[caption])
                synthetic.origin.copy_(torch.arange(PLANT))
                synthetic.caption.copy_(caption)
        if state.step % LOOK == 0:
            small = freeze(problem, Recipe.of(problem, method), synthetic, learned_text=True)
            scores = lb.evaluate(small, Shapes("test"), judge, problem.space, seeds=3, cache=problem.cache)
            yield MatchingStep(state.step, next(s.mean for s in scores if s.metric == "mean"), small.relation)


def draw(curves: dict[str, list[tuple[int, float]]], similarity: Tensor, title: str, path: Path) -> None:
    """Areas against steps, and the learned similarity, pairs of one kind side by side."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "limbeck", "font.size": 9, "svg.fonttype": "none"})
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    for name, points in curves.items():
        left.plot(*zip(*points, strict=True), label=name, marker="o", markersize=3)
    left.axhline(0.5, color="grey", linewidth=0.8, linestyle="--")
    left.set(xlabel="steps", ylabel="area under the ROC curve", title="S finds texts of the same kind")
    left.legend(frameon=False, fontsize=8)
    shown = centred(similarity)
    limit = float(shown.abs().quantile(0.99)) or 1.0
    right.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit)
    edges = [PLANTED[1] * i - 0.5 for i in range(1, PLANTED[0])]
    right.vlines(edges, -0.5, PLANT - 0.5, color="black", linewidth=0.3)
    right.hlines(edges, -0.5, PLANT - 0.5, color="black", linewidth=0.3)
    right.set(xlabel="text", ylabel="image", title=title, xticks=[], yticks=[])
    figure.savefig(path, metadata={"Date": None})


def main(towers: str) -> None:
    """Prints a line a method and look, and draws the figure."""
    settings = SETTINGS[towers]
    lors = partial(lb.methods.LoRS, **settings, inner_batch=20, expert_batch=64, rank=5)
    rows: dict[str, TrajectoryMatching] = {
        "InfoNCE, S = I": lb.methods.MTTVL(**settings, inner_batch=20, expert_batch=64),
        "wBCE, S = I": lors(loss="wbce", similarity="none"),
        "wBCE, S free": lors(loss="wbce", bound="none"),
        "wBCE, S in [0, 1]": lors(loss="wbce", bound="sigmoid"),
        "eNCE, S free": lors(loss="ence", bound="none"),
        "eNCE, S in [0, 1]": lors(loss="ence", bound="sigmoid"),
    }
    student = "frozen" if towers == "frozen" else "encoder"
    judge = Retrieval(student=student, steps=200, batch=PLANT, looks=1, dim=128)
    curves: dict[str, list[tuple[int, float]]] = {}
    last: dict[str, Tensor] = {}
    with TemporaryDirectory() as folder:
        problem = lb.Problem(Shapes(), space(), lb.Budget(pairs=PLANT), cache=lb.Cache(folder))
        kinds = Shapes().kinds[:PLANT]
        for name, method in rows.items():
            for look in looks(problem, method, judge):
                line = f"{name:18s} step {look.step:3d}   recall {look.recall:4.1f}"
                if look.similarity is not None and look.step:
                    roc, correlation = found(look.similarity, kinds)
                    curves.setdefault(name, []).append((look.step, roc))
                    last[name] = look.similarity
                    low, high = look.similarity.aminmax()
                    line += f"   area {roc:.2f}   correlation {correlation:5.2f}   S {low:.2f} to {high:.2f}"
                print(line, flush=True)
    if towers == "frozen":
        best = max(curves, key=lambda name: curves[name][-1][1])
        draw(curves, last[best], f"S after {curves[best][-1][0]} steps, {best}", HERE / "false_negatives.svg")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*(sys.argv[1:] or ["frozen"]))
