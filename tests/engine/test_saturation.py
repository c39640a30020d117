"""A rate that throws what is learned to the ends of its range: seen for every method, and not where pictures begin so."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import limbeck as lb
from limbeck.core.synthetic import Synthetic
from limbeck.engine.saturation import saturation
from limbeck.errors import LimbeckWarning


def problem() -> lb.Problem:
    return lb.Problem(lb.check.toy_source(), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=4))


@pytest.mark.slow
@pytest.mark.parametrize("method", [lb.methods.CF(steps=12, lr=1000.0), lb.methods.DM(steps=12, lr=1e5)])
def test_a_rate_of_another_code_base_is_told_as_soon_as_seen_and_in_the_end(method: Any, tmp_path: Path) -> None:
    with pytest.warns(LimbeckWarning) as told:
        lb.distill(problem(), method, run=tmp_path / "run")
    said = [str(w.message) for w in told if "stand at the ends" in str(w.message)]
    assert [text.split(",")[0] for text in said] == ["after step 10", "after step 12"]
    assert all("% of the pixels stand at the ends of their range, 0% did at the start" in text for text in said)
    assert all("lower --method.lr (in Python lr=), in a new run folder" in text for text in said)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    shares = {row["step"]: row["at ends image"] for row in rows if "at ends image" in row}
    assert list(shares) == [10, 12] and min(shares.values()) > 0.5


def test_a_rate_that_fits_is_not() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", LimbeckWarning)
        lb.distill(problem(), lb.methods.CF(steps=12))


def synthetic(modality: str, values: torch.Tensor, ranges: dict[str, tuple[float, float]] | None = None) -> Synthetic:
    return Synthetic({modality: values}, learn=[modality], origin=torch.arange(len(values)), ranges=ranges)


@pytest.mark.parametrize(("modality", "high"), [("image", 1.0), ("audio", 1.0), ("depth", 10.0)])
def test_what_counts_is_the_rise(modality: str, high: float) -> None:
    ranges = {} if modality == "image" else {modality: (0.0, high)}
    method = lb.methods.CF(steps=20)
    inner = torch.full((2, 1, 4, 4), high / 2)
    made = synthetic(modality, inner, ranges)
    made.learned[modality].data[0] = high
    with pytest.warns(LimbeckWarning, match="50% of the .* stand at the ends of their range, 0% did at the start"):
        assert saturation(method, made, 9) == {f"at ends {modality}": 0.5}
    assert saturation(method, made, 10) == {}, "every ten steps are enough"
    with warnings.catch_warnings():
        warnings.simplefilter("error", LimbeckWarning)
        assert saturation(method, made, 10 - 1) == {f"at ends {modality}": 0.5}, "told once, logged every time"
        white = inner.clone()
        white[0] = high
        drawn = synthetic(modality, white, ranges)
        drawn.learned[modality].data[1, :, 0] = 0.0
        assert drawn.started == {modality: 0.5} and saturation(method, drawn, 9) == {}, "a picture on white"
        fixed = Synthetic({modality: white}, origin=torch.arange(2), ranges=ranges)
        assert saturation(method, fixed, 9) == {}, "what is not learned has no rate"


def test_the_cure_names_the_rate_of_the_modality() -> None:
    from limbeck.engine.saturation import _remedy

    assert "--method.lr " in _remedy(lb.methods.CF(), "image") and "--method.lr_other " in _remedy(
        lb.methods.CF(), "audio"
    )
    values = {"image": torch.zeros(2, 3, 4, 4), "audio": torch.zeros(2, 1, 4, 4), "text": torch.zeros(2, 5)}
    held = lb.Synthetic(values, learn=list(values), origin=torch.arange(2))
    optimizer = lb.methods.CF(lr=0.3, lr_text=0.2, lr_other=0.1).optimizer(held)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert [rates[id(held.learned[m])] for m in values] == [0.3, 0.1, 0.2]
