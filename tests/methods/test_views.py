"""What cached views of the real images will take, said before they are made."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import limbeck as lb
from limbeck.check import toy_source
from limbeck.core import Method
from limbeck.methods.matching._views import Views
from limbeck.methods.matching.imagebind_dc import ImageBindDC
from limbeck.methods.matching.ncfm import NCFM
from tiers import slow_but

SIZE = 12 * 4 * 128  # twelve images, each a vector of 128 floats


def problem(folder: Path, modalities: tuple[str, ...] = ("image", "text")) -> lb.Problem:
    space = {"image": "convnet", "text": "bag_of_words"}
    encoders = {m: space[m] for m in modalities}
    return lb.Problem(toy_source(12), lb.space(**encoders), lb.Budget(pairs=4), cache=lb.Cache(folder))


def stored(folder: Path) -> int:
    return len(list(folder.rglob("views/**/*.safetensors")))


@pytest.mark.parametrize("method", slow_but([ImageBindDC, NCFM], NCFM))
def test_a_method_says_what_its_views_will_take(tmp_path: Path, method: type[Method]) -> None:
    made = method(steps=6, augment=("crop", "color"), views=3, frequencies=16)  # type: ignore[call-arg]
    seconds, size = made.preparation_cost(problem(tmp_path))
    assert seconds > 0 and size == 3 * SIZE and not stored(tmp_path), "nothing is stored"
    lb.distill(problem(tmp_path), made)
    assert stored(tmp_path) == 3
    assert made.preparation_cost(problem(tmp_path)) == (0, 0), "what is there costs nothing"
    plain = method(steps=6, frequencies=16)  # type: ignore[call-arg]
    assert plain.preparation_cost(problem(tmp_path / "other")) == (0, 0), "nothing is augmented"


def test_views_that_no_step_draws_cost_nothing(tmp_path: Path) -> None:
    of, views = problem(tmp_path), Views(("crop",), 1000)
    assert views.cost(of, 1)[1] == SIZE
    drawn = {views.at(of, t) for t in range(40)}
    assert views.cost(of, 40)[1] == len(drawn) * SIZE < 41 * SIZE
    views.vectors(of, "image", views.at(of, 0))
    assert views.cost(of, 1) == (0, 0) and views.cost(of, 40)[1] == (len(drawn) - 1) * SIZE
    assert views.cost(problem(tmp_path, ("text",)), 40) == (0, 0), "only images are moved"


def test_seconds_are_those_of_a_batch_times_batches_times_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed = list[object]()

    def two_seconds(work: Callable[[], object], device: str) -> float:
        timed.append(work())
        return 2.0

    monkeypatch.setattr("limbeck.methods.matching._views.BATCH", 4)
    monkeypatch.setattr("limbeck.methods.matching._views.seconds_of", two_seconds)
    of, views = problem(tmp_path), Views(("crop",), 5)
    assert {views.at(of, t) for t in range(50)} == set(range(5))
    assert views.cost(of, 50)[0] == 2.0 * 3 * 5
    (batch,) = timed
    assert torch.equal(torch.as_tensor(batch), views.vectors(of, "image", 0)[:4]), "the work of a view, and no other"
