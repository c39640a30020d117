"""`Runtime`: device, cache and progress in one, given to everything that takes them one by one as well."""

import inspect
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

import limbeck as lb
from limbeck.annotation.annotate import annotate
from limbeck.check import toy_source
from limbeck.data import Cache, Runtime
from limbeck.errors import ConfigError
from limbeck.evaluation import Context
from limbeck.evaluation.alignment import alignment
from limbeck.evaluation.audit import audit
from limbeck.methods.generative.diffusion.training import train_prior
from limbeck.spaces import embed_source
from limbeck.spaces.binder import bind

Told = list[tuple[str, int, int]]
TAKE_IT = [alignment, annotate, audit, bind, embed_source, lb.Problem, lb.compare, lb.evaluate, lb.source, train_prior]


def space() -> lb.Space:
    return lb.space(image={"name": "convnet", "width": 8}, text="bag_of_words")


def heard(told: Told) -> Callable[[str, int, int], None]:
    return lambda what, done, total: told.append((what, done, total))


def test_defaults_are_the_cpu_the_users_cache_and_nobody_who_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    for runtime in (Runtime(), Runtime.of(), Runtime.of(None, device=None, cache=None, tick=None)):
        assert (runtime.device, runtime.cache.root, runtime.progress) == ("cpu", tmp_path, None)
    with pytest.raises(FrozenInstanceError):
        runtime.device = "cuda"  # type: ignore[misc]


def test_report_tells_progress_where_there_is_one() -> None:
    told: Told = []
    Runtime(progress=heard(told)).report("image", 1, 3)
    Runtime().report("image", 2, 3)
    assert told == [("image", 1, 3)]


def test_what_is_given_is_what_it_holds(tmp_path: Path) -> None:
    cache, tick = Cache(tmp_path), heard([])
    made = Runtime.of(device="cuda:1", cache=cache, tick=tick)
    assert made == Runtime("cuda:1", cache, tick)
    assert Runtime.of(made) is made


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"device": "cpu"}, "device"),
        ({"cache": Cache("unread")}, "cache"),
        ({"tick": print}, "tick"),
        ({"tick": print, "device": "cuda"}, "device and tick"),
    ],
)
def test_both_are_refused_by_name(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Runtime.of(Runtime(), **given)
    assert str(refused.value) == f"give runtime or {named}, not both: a Runtime holds device, cache and progress"


@pytest.mark.parametrize("function", TAKE_IT, ids=lambda f: f.__name__)
def test_every_public_function_takes_either(function: Callable[..., Any], tmp_path: Path) -> None:
    parts = {"device": "cpu", "cache": Cache(tmp_path), "tick": print}
    data = dict.fromkeys(("source", "train", "on", "against"), toy_source(8))
    folders = dict.fromkeys(("folder", "run", "small", "spec"), str(tmp_path / "new"))
    known = {**data, **folders, "space": space(), "budget": lb.Budget(pairs=4), "methods": ["random"]}
    parameters = inspect.signature(function).parameters.values()
    needed = {p.name: known[p.name] for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD}
    for name in parts.keys() & {p.name for p in parameters}:
        with pytest.raises(ConfigError, match=f"give runtime or {name}, not both"):
            function(**needed, **{name: parts[name]}, runtime=Runtime())
    assert not (tmp_path / "new").exists()


def test_a_problem_with_a_runtime_is_one_with_its_parts(tmp_path: Path) -> None:
    source, budget, cache = toy_source(), lb.Budget(pairs=4), Cache(tmp_path / "parts")
    told: tuple[Told, Told] = [], []
    tick = heard(told[0])
    parts = lb.Problem(source, space(), budget, 3, "cpu", cache, tick, lb.Storage("jpeg", 50))  # positions stay
    whole = lb.Problem(source, space(), budget, 3, runtime=Runtime(cache=Cache(tmp_path), progress=heard(told[1])))
    assert parts.runtime == Runtime("cpu", cache, tick)
    assert (whole.device, whole.cache, whole.tick) == ("cpu", whole.runtime.cache, whole.runtime.progress)
    assert (parts.storage, whole.storage, whole.pixels) == (lb.Storage("jpeg", 50), lb.Storage(), lb.Pixels())
    sets = [lb.distill(problem, lb.methods.CF(steps=2)) for problem in (replace(parts, storage=lb.Storage()), whole)]
    assert sets[0].fingerprint == sets[1].fingerprint
    assert told[0] == told[1] and told[0][0] == ("weights", 0, 1) and told[0][-1] == ("distil cf", 2, 2)


def test_a_problem_that_is_replaced_keeps_its_runtime(tmp_path: Path) -> None:
    first = lb.Problem(toy_source(), space(), lb.Budget(pairs=4), runtime=Runtime("cuda:3", Cache(tmp_path), print))
    assert replace(first, seed=1).runtime == first.runtime
    assert first.but(budget=lb.Budget(pairs=2)).runtime is first.runtime
    assert replace(first, device="cpu").runtime == replace(first.runtime, device="cpu")


def test_scores_are_the_same_either_way(tmp_path: Path) -> None:
    source, short = toy_source(), {"steps": 2, "longest": 2, "seeds": 1}
    told: tuple[Told, Told] = [], []
    parts = lb.evaluate(source, source, space=space(), cache=Cache(tmp_path / "a"), tick=heard(told[0]), **short)
    whole = lb.evaluate(source, source, space=space(), runtime=Runtime("cpu", Cache(tmp_path), heard(told[1])), **short)
    assert [score.values for score in parts] == [score.values for score in whole]
    assert told[0] == told[1] != []


def test_a_context_is_read_as_before(tmp_path: Path) -> None:
    runtime = Runtime("cuda:1", Cache(tmp_path))
    context = Context(0, runtime)
    assert (context.seed, context.cache, context.device) == (0, runtime.cache, "cuda:1")
