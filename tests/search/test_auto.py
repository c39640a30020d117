"""The search for a method and a storage: what it tries, in which order, what it keeps, what it refuses."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import limbeck as lb
from limbeck import registry
from limbeck.core import Budget, Problem, Storage, codec
from limbeck.core.kept import kept_vectors
from limbeck.engine import distill
from limbeck.errors import ConfigError, DataError, StorageError, UnknownName
from limbeck.evaluation.protocol import Context
from limbeck.runtime.runtime import Runtime
from limbeck.search import auto as search
from limbeck.search import candidates, judges
from limbeck.search.candidates import Candidate, all_data, count_of, finer, learner, others, storages
from limbeck.search.judges import Judge, judges_of, protocol_of
from limbeck.search.trials import Ledger, Trial, table_of

HOME = {"name": "convnet", "width": 8}
OTHER = {"name": "convnet", "width": 8, "seed": 1}
SHORT = {"steps": 4, "longest": 4, "looks": 1, "noise": (1.0,)}


BYTES = Budget(bytes="10kB")
MODULE = sys.modules["limbeck.search.auto"]


class Clock:
    """One second more whenever it is looked at: a trial takes one second."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def quick(name: str, **options: Any) -> lb.Method:
    """A method of that name that takes few steps."""
    steps = {"steps": 2} if name in ("cf", "label_distillation") else {}
    found: lb.Method = registry.get("method", name)(**{**steps, **options})
    return found


@pytest.fixture(scope="module", autouse=True)
def _short() -> Iterator[None]:
    """Students and methods of a few steps, and two storages beside the exact one."""
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        yield


@pytest.fixture(scope="module")
def whole(_short: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[lb.search.SearchResult, Path]:
    """A search that ended, and its folder."""
    folder = tmp_path_factory.mktemp("search")
    return searched(problem(BYTES), folder, minutes=0.15), folder


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "QUICK", SHORT)
    monkeypatch.setattr(MODULE, "USUAL", SHORT)
    monkeypatch.setattr(candidates, "made", quick)
    monkeypatch.setattr(candidates, "GRID", ((0, 1.0, 20), (2, 1.0, 10)))
    monkeypatch.setattr(candidates, "LOSSY", ("webp", "jpeg"))  # quick ones


def toy(*modalities: str) -> Any:
    return lb.check.toy_source(32, modalities=modalities or ("image", "text", "label"), resolution=32)


def problem(budget: Budget, *modalities: str, **given: Any) -> Problem:
    names = {"image": HOME, "text": {"name": "bag_of_words", "width": 16}}
    source = toy(*modalities)
    return Problem(source, lb.space(**{m: e for m, e in names.items() if m in source.modalities}), budget, **given)


def searched(of: Problem, run: Path | None = None, **given: Any) -> lb.search.SearchResult:
    return search(of, of_splits(of), run, judge=given.pop("judge", OTHER), clock=Clock(), **given)


def of_splits(of: Problem) -> Any:
    return toy(*of.source.modalities)


def stages(trials: Any) -> dict[str, int]:
    names = [trial.stage for trial in trials]
    return {name: names.count(name) for name in dict.fromkeys(names)}


@pytest.mark.slow
def test_the_search_repeats_itself_to_the_bit(whole: tuple[lb.search.SearchResult, Path]) -> None:
    first, second = whole[0], searched(problem(BYTES), minutes=0.15)
    assert first.trials == second.trials and first.method == second.method
    assert first.problem.storage == second.problem.storage
    assert first.judges == ("home convnet", "unseen convnet")
    assert set(first.trials[0].scores) == set(first.judges)
    assert [t.seconds for t in first.trials] == [1.0] * len(first.trials)


@pytest.mark.slow
def test_a_stage_ends_with_its_part_of_the_minutes_and_the_first_trial_is_always_done() -> None:
    of = problem(Budget(pairs=6))
    one = searched(of, minutes=0.001)
    assert len(one.trials) == 1 and one.trials[0].stage == "method"
    assert one.method == quick("label_distillation")
    # 10 s: until 7 s for methods (five), until 8.5 s for details, until 10 s for the last
    assert stages(searched(of, minutes=10 / 60).trials) == {"method": 5, "detail": 3, "final": 2}


@pytest.mark.slow
def test_a_stopped_search_continues_and_ends_as_if_it_had_not_been(
    whole: tuple[lb.search.SearchResult, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = 4
    add, count = Ledger.add, [0]

    def stopping(ledger: Any, trial: Trial) -> None:
        add(ledger, trial)
        count[0] += 1
        if count[0] == done:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Ledger, "add", stopping)
        searched(problem(BYTES), tmp_path / "run", minutes=0.15)
    kept = json.loads((tmp_path / "run/auto.json").read_text())
    assert len(kept["trials"]) == done and kept["winner"] is None
    found = searched(problem(BYTES), tmp_path / "run", minutes=0.15)
    assert found.trials == whole[0].trials and found.method == whole[0].method


def test_a_finished_search_tries_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = searched(problem(Budget(pairs=5)), tmp_path, minutes=0.05)
    monkeypatch.setattr(MODULE, "distill", lambda *given: pytest.fail("it tried again"))
    again = searched(problem(Budget(pairs=5)), tmp_path, minutes=9.0)
    assert again.trials == found.trials and again.method == found.method


@pytest.mark.slow
def test_what_is_kept_says_what_was_tried(whole: tuple[lb.search.SearchResult, Path]) -> None:
    found, folder = whole
    kept = json.loads((folder / "auto.json").read_text())
    assert [row["label"] for row in kept["trials"]] == [trial.label for trial in found.trials]
    assert kept["winner"] == {"method": found.method.describe(), "storage": vars(found.problem.storage)}
    assert kept["question"]["budget"] == {"bytes": 10000, "pixels": "uint8"}
    lines = (folder / "auto.txt").read_text().splitlines()
    assert lines[0].split() == [
        "stage",
        "candidate",
        "samples",
        "bytes",
        *["home", "convnet", "unseen", "convnet", "seconds"],
    ]
    assert len(lines) == 1 + len(found.trials)
    first = found.trials[0]
    cells = [str(first.samples), f"{first.bytes:,}", *(f"{value:.2f}" for value in first.scores.values()), "1.0"]
    assert lines[1].split()[-5:] == cells and lines[1].startswith("storage  label_distillation(steps=2), webp q20 int4")


def test_a_set_of_the_winner_holds_within_the_budget(whole: tuple[lb.search.SearchResult, Path]) -> None:
    found, folder = whole
    small = distill(found.problem, found.method, folder)  # where the search kept its trials
    size = sum(path.stat().st_size for path in (folder / "set").rglob("*") if path.is_file())
    assert size == small.nbytes <= 10_000
    best = [t for t in found.trials if t.stage == found.trials[-1].stage]
    assert best and max(best, key=lambda t: t.value).candidate["method"] == found.method.describe()


def test_the_best_by_the_mean_of_all_judges_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores that are made up: herding is best under both, and its neighbour with another storage is worse."""

    def score(judge: Judge, of: Problem, small: Any, *rest: Any) -> float:
        name = small.recipe.method["name"]
        return {"herding": 50.0, "random": 60.0 if judge.unseen else 30.0}.get(name, 10.0)

    monkeypatch.setattr(Judge, "score", score)
    found = searched(problem(Budget(pairs=6)), minutes=5)
    assert found.method == quick("herding")
    assert [t.value for t in found.trials if t.stage == "final"] == [50.0, 45.0, 10.0]


def test_a_candidate_that_cannot_be_made_is_shown_and_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(of: Problem, method: Any, *rest: Any) -> Any:
        if method.describe()["name"] == "label_distillation":
            raise lb.errors.Diverged("step 3: loss = nan")
        return distill(of, method, *rest)

    monkeypatch.setattr(MODULE, "distill", failing)
    found = searched(problem(Budget(pairs=6)), minutes=0.1)
    assert found.trials[0].failed == "step 3: loss = nan" and found.trials[0].value == -1.0
    assert found.method.describe()["name"] != "label_distillation"
    assert "failed" in str(found).splitlines()[1]


def test_what_is_too_small_for_a_student_is_shown_and_not_chosen() -> None:
    found = searched(problem(Budget(pairs=1)), minutes=0.1)
    assert found.trials and all("a retrieval student needs two or more" in trial.failed for trial in found.trials)
    assert len(lb.distill(found.problem, found.method)) == 1


def test_labels_without_texts_are_judged_by_classification() -> None:
    of = problem(Budget(pairs=8), "image", "label")
    assert protocol_of(of).name == "classification" and learner(of).describe()["name"] == "label_distillation"
    found = searched(of, minutes=0.05)
    assert found.trials[0].samples == 8 and 0 < found.trials[0].scores["home convnet"] <= 100


def test_storages_are_those_that_pillow_can_write_and_that_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    of = problem(Budget(bytes="12kB"))
    int4 = {"vectors": "int4"}
    every = [Storage("webp", 20, **int4), Storage("jpeg", 10, **int4), Storage(**int4)]
    assert storages(of, candidates.FREE) == every
    own = replace(of, storage=Storage("jpeg", 30, vectors="float16"))
    assert storages(own, ("side",)) == [own.storage]
    assert storages(own, ("quality",)) == [replace(own.storage, quality=q) for q in (20, 10, 30)]
    assert storages(problem(Budget(pairs=5)), candidates.FREE) == [Storage()]
    monkeypatch.setattr(codec, "_is_there", lambda name: name == "jpeg")
    assert [s.codec for s in storages(of, candidates.FREE)] == ["jpeg", "jpeg", "auto"]
    monkeypatch.setattr(codec, "_is_there", lambda name: False)
    assert [s.codec for s in storages(of, candidates.FREE)] == ["auto"]


def test_smaller_sides_are_tried_where_images_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "GRID", ((0, 1.0, 20), (0, 0.75, 20), (0, 0.5, 20)))
    space, source = lb.space(image=HOME), lb.check.toy_source(8, resolution=48)
    of = Problem(source, space, Budget(bytes="12kB"))
    assert [(s.codec, s.side) for s in storages(of, candidates.FREE)] == [("webp", 0), ("webp", 36), ("auto", 0)]


def test_the_number_of_samples_is_that_of_their_files() -> None:
    of = problem(Budget(bytes="8kB"))
    asked = Candidate(quick("random"), Storage("jpeg", 60))
    count = count_of(of, asked)
    small = distill(of.but(storage=asked.storage), asked.method)
    assert abs(count - len(small)) <= 2 and 5 < count < 32
    assert count_of(problem(Budget(bytes="3kB")), asked) == 0  # none
    assert count_of(problem(Budget(bytes="1MB")), asked) == 32  # all


@pytest.mark.slow
def test_all_of_the_data_are_tried_where_they_fit_with_the_best_storage_that_holds_them() -> None:
    known = [Storage("jpeg", 10), Storage("jpeg", 60), Storage()]
    assert all_data(problem(Budget(bytes="1MB")), known) == [Candidate(quick("random"), Storage())]
    assert all_data(problem(Budget(bytes="6kB")), known) == []
    assert all_data(problem(Budget(pairs=9)), known) == []


def test_pixels_are_learned_for_a_handful_alone() -> None:
    names = [
        [c.method.describe()["name"] for c in others(problem(Budget(pairs=n)), Candidate(quick("random"), Storage()))]
        for n in (20, 21)
    ]
    assert names == [["herding", "prototypes", "cf"], ["herding", "prototypes"]]


def test_details_change_one_choice_each() -> None:
    best = Candidate(quick("label_distillation"), Storage("webp", 20, vectors="int4"))
    found = finer(problem(Budget(bytes="12kB")), best, candidates.FREE)
    asked = [c.method.temperature for c in found]  # type: ignore[attr-defined]
    assert asked == [
        round(2 * best.method.temperature_of(count_of(problem(Budget(bytes="12kB")), best)), 3),
        *[None] * 8,
    ]
    assert [c.method.ridge for c in found] == [20.0, 5.0, 50.0, *[20.0] * 6]  # type: ignore[attr-defined]
    assert [c.storage.quality for c in found] == [20, 20, 20, 20, 14, 28, 40, 60, 20]
    assert [c.storage.vectors for c in found] == ["int4", "int4", "int4", "int8", *["int4"] * 5]
    assert found[-1].label == "label_distillation(steps=2, init=prototypes), webp q20 int4"
    assert finer(problem(Budget(pairs=5)), Candidate(quick("random"), Storage()), candidates.FREE) == []


@pytest.mark.parametrize(("share", "qualities"), [(0.39, [14, 28]), (0.41, [14, 28, 40, 60])])
def test_much_finer_files_are_tried_where_much_of_the_data_fits(
    share: float, qualities: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    of = problem(Budget(bytes="12kB"))
    monkeypatch.setattr(candidates, "count_of", lambda problem, best: share * problem.available)
    found = finer(of, Candidate(quick("random"), Storage("webp", 20)), candidates.FREE)
    assert [c.storage.quality for c in found] == qualities


def test_vectors_of_kept_samples_are_those_of_what_is_stored_and_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    of = problem(Budget(pairs=4), storage=Storage("jpeg", 10))
    encoder, index = of.space["image"], torch.tensor([5, 2, 9])
    plain = encoder(of.stored("image", index))
    torch.testing.assert_close(kept_vectors(of, "image", encoder, of.features["image"], index), plain)
    stored, read = Problem.stored, []
    monkeypatch.setattr(Problem, "stored", lambda self, m, part: read.append(part.tolist()) or stored(self, m, part))
    again = kept_vectors(
        of.but(budget=Budget(pairs=9)), "image", encoder, of.features["image"], torch.tensor([9, 4, 5])
    )
    torch.testing.assert_close(again[[0, 2]], plain[[2, 0]])
    assert read == [[4]]
    kept_vectors(of.but(storage=Storage()), "image", encoder, of.features["image"], torch.tensor([9]))
    assert read == [[4], [9]]  # another storage, other pixels


@pytest.mark.parametrize("name", ["random", "label_distillation"])
def test_a_set_is_judged_as_if_its_files_were_read(name: str) -> None:
    """With the vectors of its real samples in their place, and with the set as it is, a student finds the same."""
    of = problem(Budget(pairs=12), storage=Storage("jpeg", 20, vectors="int8"))
    small, held_out = distill(of, quick(name)), toy().split("val")
    for judge in judges_of(of, OTHER):
        protocol = protocol_of(of, **SHORT)
        plain = protocol.run(small, held_out, judge.space, Context(0, Runtime(cache=of.cache)))["mean"]
        assert judge.score(of, small, held_out, protocol, kept=True) == pytest.approx(plain, abs=1e-6)


def test_the_first_installed_encoder_that_takes_no_part_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    of = problem(Budget(pairs=4))
    monkeypatch.setattr(judges, "ORDER", ("no_such_encoder", "convnet"))
    home, other = judges_of(of, None)
    assert (home.name, home.unseen, other.name, other.unseen) == ("convnet", False, "convnet", True)
    assert other.space["text"] is of.space["text"] and other.space["image"].describe()["width"] == 128
    monkeypatch.setattr(judges, "ORDER", ("no_such_encoder",))
    assert [judge.name for judge in judges_of(of, None)] == ["convnet"]


def test_members_of_a_pool_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    space = lb.space(image="pool:convnet+mobilenet_v2", text={"name": "bag_of_words", "width": 16})
    of = Problem(toy(), space, Budget(pairs=4))
    with pytest.raises(ConfigError, match="convnet takes part in making the set"):
        judges_of(of, "convnet")
    home, other = judges_of(of, OTHER)
    assert home.space["image"].describe()["name"] == "convnet" and other.unseen


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"minutes": 0}, ConfigError, "a positive number of minutes, got 0"),
        ({"minutes": float("nan")}, ConfigError, "a positive number of minutes"),
        ({"free": ["colour"]}, ConfigError, "codec, quality, side, vectors, got colour"),
        ({"judge": HOME}, ConfigError, "takes part in making the set"),
        ({"judge": "mobilnet_v2"}, UnknownName, "did you mean mobilenet_v2"),
        ({"judge": "pool:convnet+mobilenet_v2"}, ConfigError, "one encoder, got a pool"),
        ({"judge": lb.space(text="bag_of_words")["text"]}, ConfigError, "encodes text, and it stands in for image"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_encoded(
    given: dict[str, Any], error: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lb.Encoder, "__call__", lambda self, values: pytest.fail("an encoder was called"))
    with pytest.raises(error, match=says):
        searched(problem(Budget(pairs=4)), **given)


def test_data_without_what_is_needed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lb.Encoder, "__call__", lambda self, values: pytest.fail("an encoder was called"))
    source = toy()
    monkeypatch.setattr(type(source), "splits", ("train", "test"))
    with pytest.raises(DataError, match=r"no validation split to choose a method on \(its splits: train, test\)"):
        searched(problem(Budget(pairs=4)))
    monkeypatch.undo()
    with pytest.raises(DataError, match="image alone and no labels"):
        searched(problem(Budget(pairs=4), "image"))
    with pytest.raises(ConfigError, match="a budget of 3,000 bytes holds no pair"):
        searched(problem(Budget(bytes="3kB")))
    held_out = Problem(toy().split("val"), problem(Budget(pairs=4)).space, Budget(pairs=4))
    with pytest.raises(ConfigError, match="judged on the data that it is made from"):
        searched(held_out)


def test_a_folder_holds_one_search(tmp_path: Path) -> None:
    searched(problem(Budget(pairs=4)), tmp_path, minutes=0.01)
    with pytest.raises(ConfigError, match=r"belongs to another search: budget\.pairs: 4 -> 5; choose another folder"):
        searched(problem(Budget(pairs=5)), tmp_path)
    text = (tmp_path / "auto.json").read_text()
    (tmp_path / "auto.json").write_text(text.replace('"winner": {', '"winners": {'))
    with pytest.raises(StorageError, match="differs from the digest in it; delete it to search anew"):
        searched(problem(Budget(pairs=4)), tmp_path)


def test_a_table_shows_what_failed_and_escapes_what_steers_terminals() -> None:
    row = Trial("final", "a\x1b", {}, 1234, 5, {"home": 1.0, "unseen": 4.0}, 2.0)
    text = table_of([row, replace(row, scores={}, failed="why")])
    assert text.splitlines()[1].split() == ["final", "a\\x1b", "1234", "5", "1.00", "4.00", "2.0"]
    assert text.splitlines()[2].split()[-3:] == ["failed", "failed", "2.0"] and row.value == 2.5
