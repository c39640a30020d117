"""Budget, streams, problems, synthetic sets."""

from pathlib import Path

import pytest
import torch

import limbeck as lb
from limbeck.check import toy_source
from limbeck.core import Method, Problem, Synthetic, chosen_pairs
from limbeck.core.budget import per_class
from limbeck.core.recipe import Recipe, differences
from limbeck.errors import ConfigError, DataError
from limbeck.runtime.random import stream


@pytest.fixture
def problem() -> Problem:
    return Problem(toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))


@pytest.mark.parametrize("arguments", [{}, {"pairs": 3, "bytes": 9}, {"pairs": 0}, {"bytes": -1}])
def test_a_budget_is_pairs_or_bytes(arguments: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="budget"):
        lb.Budget(**arguments)


def test_budget_of_bytes() -> None:
    one, budget = 232, lb.Budget(bytes=10 * 232 + 51)
    assert [budget.resolve(one, 100, fixed) for fixed in (0, 50, 52)] == [10, 10, 9]
    assert budget.resolve(one, 7) == 7, "bytes that would hold more than there is are not used up"
    with pytest.raises(ConfigError, match="231 bytes holds no pair: one takes about 232 bytes, and a set 0"):
        lb.Budget(bytes=one - 1).resolve(one, 100)


@pytest.mark.parametrize(
    ("text", "count"),
    [("1MB", 10**6), ("500kB", 500_000), ("1.2 MB", 1_200_000), ("1MiB", 2**20), ("2gb", 2 * 10**9), ("1,000", 1000), ("0.5KiB", 512), (77, 77)],
)  # fmt: skip
def test_bytes_as_a_person_writes_them(text: str | int, count: int) -> None:
    assert lb.Budget(bytes=text).limit == count == lb.Budget(bytes=text).bytes


@pytest.mark.parametrize("text", ["1 megabyte", "MB", "1.2.3MB", "1e6", "", "1 MB 2"])
def test_bytes_in_no_unit(text: str) -> None:
    with pytest.raises(ConfigError, match=r"kB, MB, GB, KiB, MiB or GiB, such as 1\.2MB, got"):
        lb.Budget(bytes=text)


def test_budget_larger_than_the_data() -> None:
    with pytest.raises(ConfigError, match="25 pairs is larger than the data: 24"):
        lb.distill(Problem(toy_source(24), lb.space(image="convnet"), lb.Budget(pairs=25)), lb.methods.Random())


def never(*args: object, **options: object) -> None:
    raise AssertionError("embedded")


def test_what_cannot_work_is_refused_before_anything_is_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.core.problem.embed_source", never)
    space = lb.space(image="convnet", text="bag_of_words")
    source = toy_source(24, modalities=("image", "text"))
    said = list(source.captions)
    with pytest.raises(ConfigError, match="25 pairs is larger than the data: 24"):
        Problem(source, space, lb.Budget(pairs=25))
    source._captions = [("the same",), ("the same", "the same")] + [()] * 22
    with pytest.raises(DataError, match=r"has one caption in all, 'the same' \(2 of its 24 samples have one\)"):
        Problem(source, space, lb.Budget(pairs=2))
    assert len(Problem(source, lb.space(image="convnet"), lb.Budget(pairs=24)).source) == 24
    source._captions = said[:5] + [()] * 19
    with pytest.raises(ConfigError, match="6 pairs is larger than the data: 5 samples"):
        Problem(source, space, lb.Budget(pairs=6))


def test_budget_below_one_a_class() -> None:
    source = toy_source(modalities=("image", "label"))
    with pytest.raises(ConfigError, match="below one a class: there are 4"):
        lb.distill(Problem(source, lb.space(image="convnet"), lb.Budget(pairs=3)), lb.methods.Herding())


def test_shares_are_equal_and_never_more_than_there_is() -> None:
    labels = torch.tensor([0] * 10 + [1] * 2 + [2] * 10 + [-1] * 5)
    assert per_class(12, labels, 3) == [5, 2, 5]
    assert per_class(13, labels, 3) == [6, 2, 5]


def test_streams_are_named_and_independent() -> None:
    draw = [torch.randn(8, generator=stream(*key)) for key in ((0, "a", 0), (0, "a", 1), (0, "b", 0), (1, "a", 0))]
    assert len({tuple(x.tolist()) for x in draw}) == 4
    assert torch.equal(draw[1], torch.randn(8, generator=stream(0, "a", 1)))


def test_a_golden_draw() -> None:
    """The stream's definition is part of the format of a run: another number here breaks every stored seed."""
    assert torch.randint(1000, (4,), generator=stream(3, "golden", 7)).tolist() == [862, 155, 756, 121]


def test_space_without_a_modality_of_the_source() -> None:
    with pytest.raises(DataError, match=r"holds text.* only encodes image"):
        Problem(toy_source(modalities=("text",)), lb.space(image="convnet"), lb.Budget(pairs=2))


def test_draws_are_without_replacement(problem: Problem) -> None:
    index = problem.draw(24, t=3)
    assert sorted(index.tolist()) == list(range(24))
    assert torch.equal(index, problem.draw(24, t=3)) and not torch.equal(index, problem.draw(24, t=4))
    assert problem.real(5, 0)["image"].shape == (5, 3, 16, 16)


def test_features_come_from_the_cache(problem: Problem) -> None:
    first = problem.features["image"].vectors
    again = Problem(problem.source, problem.space, lb.Budget(pairs=2), cache=problem.cache).features["image"].vectors
    assert torch.equal(first, again)
    assert torch.allclose(first, problem.space.embed(problem.source.batch(range(24)))["image"], atol=1e-6)


def test_synthetic_holds_parameters_and_buffers(problem: Problem) -> None:
    s = chosen_pairs(problem, torch.tensor([3, 1]), learn=["image"])
    assert [n for n, _ in s.named_parameters()] == ["learned.image"]
    assert torch.equal(s.value("image"), problem.source.batch([3, 1])["image"])
    assert s.labels is not None and s.labels.tolist() == [3, 1]
    with torch.no_grad():
        s.value("image").add_(5)
    s.project()
    assert s.value("image").max() == 1
    assert s.batch(torch.tensor([1]))["image"].shape == (1, 3, 16, 16)


def test_synthetic_refuses_to_learn_what_it_lacks() -> None:
    with pytest.raises(ConfigError, match="cannot learn text"):
        Synthetic({"image": torch.zeros(1, 3, 2, 2)}, learn=["text"], origin=torch.zeros(1, dtype=torch.long))


def test_recipe_round_trip(problem: Problem, tmp_path: Path) -> None:
    recipe = Recipe.of(problem, lb.methods.CF(steps=7))
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.yaml())
    assert Recipe.read(path).plain() == recipe.plain()
    assert differences(recipe.plain(), Recipe.of(problem, lb.methods.CF(steps=8)).plain()) == ["method.steps: 7 -> 8"]


def test_no_other_split_is_within_a_method_s_reach(problem: Problem) -> None:
    assert "test" in toy_source().splits
    with pytest.raises(DataError, match="has no split 'test'"):
        problem.source.split("test")


def test_encoders_follow_the_device_although_every_shard_is_cached(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(problem.features["image"].vectors) == 24
    moved: list[str] = []
    monkeypatch.setattr(lb.Encoder, "to", lambda self, device: moved.append(str(device)) or self)
    assert Problem(problem.source, problem.space, problem.budget, device="meta", cache=problem.cache).features
    assert moved == ["meta"]


@pytest.mark.parametrize("options", [{"steps": 0}, {"batch": 0}, {"scale": 0.0}, {"lr": -1.0}])
def test_hyper_parameters_that_cannot_work(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"`{next(iter(options))}` of cf must be"):
        lb.methods.CF(**options)


def test_members_by_their_old_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"Mine\.rate is called lr_schedule now; rename it"):

        class Mine(Method):
            def rate(self, t: int) -> float:
                return 1.0

    class Plain(Method):  # an option may be called so
        rate: float = 0.1
