"""What a set learns beside its samples, and what it says about training on it: in memory, in a run and on disk."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import SGD, Optimizer

import limbeck as lb
from limbeck.check import check_method, toy_source
from limbeck.core import DistilledSet, Method, Problem, Synthetic, chosen_pairs
from limbeck.errors import ConfigError
from limbeck.methods.trajectory.experts.learned_rate import LearnedRate
from limbeck.objectives.contrastive import wbce
from limbeck.objectives.similarity import Similarity
from tiers import slow_but


@dataclass(frozen=True)
class Everything(Method):
    """Learns whatever can be learned.

    Args:
        steps: number of steps.
        average: decay of the moving average.
        kind: of the similarity.
        bound: of the similarity.
    """

    steps: int = 4
    average: float = 0.0
    kind: str = "lowrank"
    bound: str = "none"

    @property
    def learns_text(self) -> bool:
        return True

    def start(self, problem: Problem) -> Synthetic:
        pairs = problem.pairs(learned_text=True)
        return chosen_pairs(
            problem,
            problem.draw(pairs, 0, "start"),
            learn=problem.modalities,
            relation=Similarity(pairs, self.kind, rank=2, bound=self.bound, generator=problem.rng("similarity")),
            hints={"rate_image": LearnedRate(0.1), "rate_text": LearnedRate(0.01)},
            training={"loss": "wbce", "temperature": 0.1},
            average=self.average,
        )

    def optimizer(self, synthetic: Synthetic) -> Optimizer:
        rates = list(synthetic.hints.parameters())
        others = [p for p in synthetic.parameters() if all(p is not rate for rate in rates)]
        return SGD([{"params": others, "lr": 2.0}, {"params": rates, "lr": 0.02}], momentum=0.5)

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | Tensor]:
        batch = synthetic.batch(problem.rng("batch", t).get_state()[:3].long() % len(synthetic))
        vectors = problem.space.embed(batch)
        logits = 5 * vectors["image"] @ torch.randn(vectors["image"].shape[1], 3, generator=problem.rng("text", t))
        assert batch.relation is not None
        loss = wbce(logits, batch.relation) + sum(rate().log().square() for rate in synthetic.hints.values())
        loss = loss + (synthetic.value("text").square() * torch.arange(synthetic.value("text").shape[1])).mean()
        loss.backward()
        return {"loss": loss.detach()}


def problem(pairs: int = 6) -> Problem:
    return Problem(toy_source(), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=pairs))


@pytest.fixture(scope="module")
def learned() -> DistilledSet:
    return lb.distill(problem(), Everything())


@pytest.mark.parametrize("average", slow_but([0.0, 0.9], 0.9))
def test_a_method_that_learns_everything_keeps_the_contract(average: float) -> None:
    space = lb.space(image="convnet", text="bag_of_words")
    check_method(Everything(average=average), space, toy_source(), pairs=6)


def test_a_synthetic_batch_has_its_part_of_the_similarity() -> None:
    *_, last = lb.steps(problem(), Everything())
    synthetic, index = last.synthetic, torch.tensor([4, 1])
    whole, part = synthetic.batch(), synthetic.batch(index)
    assert (
        whole.relation is not None and part.relation is not None and (whole.relation - torch.eye(6)).abs().max() > 0.01
    )
    assert torch.allclose(part.relation, whole.relation[index][:, index], atol=1e-6)


@pytest.mark.parametrize("bound", ["none", "clamp", "sigmoid"])
def test_a_set_keeps_factors_and_gives_back_the_same_similarity(tmp_path: Path, bound: str) -> None:
    *_, last = lb.steps(problem(), Everything(bound=bound))
    small = lb.distill(problem(), Everything(bound=bound))
    assert last.synthetic.relation is not None
    assert small.relation is not None and torch.equal(small.relation, last.synthetic.relation().detach())
    assert not small.relation.requires_grad
    assert "relation" not in small.tensors
    assert sum(v for k, v in small.sizes.items() if k.startswith("similarity.")) == 4 * 6 * (1 + 2 + 2)
    again = lb.load(small.save(tmp_path / "set"))
    assert again.relation is not None and torch.equal(again.relation, small.relation)
    assert again.fingerprint == small.fingerprint and again.nbytes == small.nbytes
    assert again.training == small.training == {"loss": "wbce", "temperature": 0.1}
    assert again.similarity == small.similarity and again.hints == small.hints
    part = again.batch([5, 2]).relation
    assert part is not None and torch.equal(part, small.relation[[5, 2]][:, [5, 2]])


def test_the_folder_says_how_to_train_on_it(learned: DistilledSet, tmp_path: Path) -> None:
    folder = learned.save(tmp_path / "set")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["training"] == {"loss": "wbce", "temperature": 0.1}
    assert manifest["similarity"]["kind"] == "lowrank" and manifest["similarity"]["rank"] == 2
    card = (folder / "README.md").read_text()
    assert "- Train a student with: loss wbce, temperature 0.1, rate_image " in card and "lowrank similarity" in card


def test_training_and_bound_are_part_of_what_a_set_is(learned: DistilledSet) -> None:
    changed = [
        replace(learned, training={"loss": "ence", "temperature": 0.1}),
        replace(learned, similarity={**learned.similarity, "bound": "clamp"}),
    ]
    assert len({learned.fingerprint, *[x.fingerprint for x in changed]}) == 3
    assert changed[1].relation is not None and changed[1].relation.max() <= 1


def test_sets_of_before_still_open(learned: DistilledSet, tmp_path: Path) -> None:
    matrix = torch.rand(6, 6, generator=torch.Generator().manual_seed(0))
    kept = {k: v for k, v in learned.tensors.items() if not k.startswith("similarity.")}
    old = replace(learned, tensors={**kept, "relation": matrix}, training={}, similarity={})
    path = old.save(tmp_path / "set") / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["training"], manifest["similarity"], manifest["digest"]  # as before there was one
    path.write_text(json.dumps(manifest))
    again = lb.load(tmp_path / "set")
    assert again.relation is not None and torch.equal(again.relation, matrix)
    assert again.training == {} and again.fingerprint == manifest["fingerprint"] == old.fingerprint


def test_a_set_without_a_similarity_has_none() -> None:
    small = lb.distill(problem(), lb.methods.Random())
    assert small.relation is None and small.batch([0]).relation is None and small.similarity == {}


def test_the_average_is_that_of_the_states() -> None:
    states: dict[str, list[Tensor]] = {}
    for state in lb.steps(problem(), Everything(steps=5, average=0.8)):
        for name, value in state.synthetic.named_parameters() if state.step else ():
            states.setdefault(name, []).append(value.detach().clone())
    mean = dict(state.synthetic.averaged().named_parameters())
    weights = torch.tensor([0.8 ** (4 - i) for i in range(5)])
    for name, values in states.items():
        expected = torch.tensordot(weights / weights.sum(), torch.stack(values), dims=1)
        expected = F.normalize(expected, dim=-1) if name == "learned.text" else expected
        assert torch.allclose(mean[name], expected, atol=1e-5), name
        assert not torch.allclose(mean[name], values[-1], atol=1e-4), name


def test_a_set_is_frozen_at_its_average(tmp_path: Path) -> None:
    *_, last = lb.steps(problem(), Everything(average=0.8))
    small, mean = lb.distill(problem(), Everything(average=0.8)), last.synthetic.averaged()
    assert torch.equal(small.tensors["text"], mean.value("text").detach())
    assert not torch.equal(small.tensors["text"], last.synthetic.value("text").detach())
    assert mean.relation is not None and small.relation is not None and torch.equal(small.relation, mean.relation())
    assert small.hints["rate_text"] == mean.hints["rate_text"]().item() != last.synthetic.hints["rate_text"]().item()
    assert small.tensors["text"].norm(dim=1).tolist() == pytest.approx([1] * 6)
    assert len([n for n, _ in last.synthetic.named_parameters()]) == 7, "averages are buffers"


def test_an_average_before_the_first_step_is_the_start() -> None:
    synthetic = Everything(average=0.9).start(problem())
    assert torch.equal(synthetic.averaged().value("image"), synthetic.value("image"))
    with pytest.raises(ConfigError, match="average"):
        Everything(average=1.0).start(problem())


@pytest.mark.parametrize("initial", [2e-4, 0.1, 9.9])
def test_a_learned_rate_is_positive_bounded_and_starts_where_it_is_told(initial: float) -> None:
    rate = LearnedRate(initial)
    assert rate().item() == pytest.approx(initial, rel=1e-5)
    with torch.no_grad():
        for p, bound in ((-50.0, 1e-4), (50.0, 10.0)):
            rate.parameter.fill_(p)
            assert rate().item() == pytest.approx(bound, rel=1e-5)


def test_equal_steps_of_a_learned_rate_are_equal_factors() -> None:
    slopes = []
    for initial in (0.001, 1.0):  # as far from the middle of the logarithms on either side
        rate = LearnedRate(initial)
        rate().log().backward()
        slopes.append(rate.parameter.grad.item())  # type: ignore[union-attr]
    assert slopes[0] == pytest.approx(slopes[1], rel=1e-4)


@pytest.mark.parametrize("bounds", [(0.1, 0.2, 1.0), (0.1, 1e-3, 0.1), (0.0, 0.0, 1.0)])
def test_a_learned_rate_out_of_bounds_is_refused(bounds: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="choose an initial rate between the bounds"):
        LearnedRate(*bounds)


def test_a_set_of_one_sample_with_a_learned_text_can_be_saved(tmp_path: Path) -> None:
    one = lb.Problem(toy_source(), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=1))
    small = lb.distill(one, lb.methods.DM(steps=1, width=4))
    again = lb.load(small.save(tmp_path / "set"))
    assert len(again) == 1 and torch.equal(again.tensors["text"], small.tensors["text"])
    assert again.fingerprint == small.fingerprint and again.tensors["text"].numel() > 0
