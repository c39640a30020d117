"""Covariance matching and kernel inducing pairs: what a step is made of, and that it teaches."""

import pytest
import torch

import limbeck as lb
from limbeck.check import toy_source
from limbeck.core import Problem, whitening_of


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem(toy_source(200), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=16))


def test_terms_of_a_step(problem: Problem) -> None:
    """Every logged term against numpy over the explicit list of real pairs; the loss is their weighted sum."""
    import numpy as np

    method = lb.methods.CovMatch(match="size", rho=2.0, ridge=3.0, means=0.3, spread=0.7)
    synthetic = method.start(problem)
    with torch.no_grad():
        own = {m: whitening_of(problem, m, 3.0)(v).numpy() for m, v in problem.space.embed(synthetic.batch()).items()}
    rows, features = problem.candidates.rows, problem.features
    real = {m: whitening_of(problem, m, 3.0)(features[m].vectors[rows[m]]).numpy() for m in rows}
    logs = {name: float(value) for name, value in method.step(problem, synthetic, 0).items()}

    def cov(of: dict[str, np.ndarray], a: str, b: str) -> np.ndarray:
        return np.cov(of[a].T, of[b].T)[: of[a].shape[1], of[a].shape[1] :]

    for name, a, b in (("tie", "image", "text"), ("image spread", "image", "image"), ("text spread", "text", "text")):
        target = cov(real, a, b)
        expected = ((2 * target - cov(own, a, b)) ** 2).sum() / (target**2).sum()
        assert logs[name] == pytest.approx(expected, rel=1e-3), name
    for m, values in own.items():
        assert logs[f"{m} mean"] == pytest.approx(((values.mean(0) - real[m].mean(0)) ** 2).sum(), rel=1e-3)
    total = logs["tie"] + 0.7 * (logs["image spread"] + logs["text spread"])
    assert logs["loss"] == pytest.approx(total + 0.3 * (logs["image mean"] + logs["text mean"]), rel=1e-5)


def test_without_spread_the_covariance_within_is_not_computed(problem: Problem) -> None:
    method = lb.methods.CovMatch(spread=0.0)
    assert set(method.step(problem, method.start(problem), 0)) == {"loss", "tie", "image mean", "text mean"}


@pytest.mark.parametrize(
    "method", [lb.methods.CovMatch(steps=40), lb.methods.KIP(steps=40, batch=64)], ids=["covmatch", "kip"]
)
def test_it_learns(problem: Problem, method: lb.Method) -> None:
    _, first, *_, last = lb.steps(problem, method)
    assert last.logs["loss"] < 0.8 * first.logs["loss"]
