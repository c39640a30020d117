"""Students of a set that carries a loss, a temperature, a similarity and learning rates."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limbeck.check import toy_source
from limbeck.core import Budget, DistilledSet, Problem
from limbeck.engine import distill
from limbeck.errors import UnknownName
from limbeck.evaluation import evaluate
from limbeck.evaluation.protocols import _towers as module
from limbeck.evaluation.protocols.retrieval import Retrieval
from limbeck.methods.coreset.random import Random
from limbeck.objectives.contrastive import bce, false_negatives, wbce
from limbeck.objectives.similarity import Similarity
from limbeck.runtime.random import stream
from limbeck.students import Schedule, fit

QUICK = {"steps": 12, "noise": (0.5, 1.0)}


@pytest.fixture(scope="module")
def train():
    return toy_source(32)


@pytest.fixture(scope="module")
def plain(train, space, cache) -> DistilledSet:
    return distill(Problem(train, space, Budget(pairs=12), cache=cache), Random())


@pytest.fixture(scope="module")
def carrier(plain) -> DistilledSet:
    """The same set with everything that one can carry."""
    similarity = Similarity(12, rank=3)
    with torch.no_grad():
        similarity.right.copy_(torch.randn(12, 3, generator=torch.Generator().manual_seed(1)))
        similarity.weight.mul_(1.5)
    factors = {f"similarity.{k}": v for k, v in similarity.state_dict().items()}
    rates = {"hint.rate_image": torch.tensor(0.1), "hint.rate_text": torch.tensor(0.03)}
    return replace(
        plain,
        tensors={**plain.tensors, **factors, **rates},
        training={"loss": "wbce", "temperature": 0.2},
        similarity=similarity.describe(),
    )


@pytest.fixture
def judge(train, space, cache):
    def values(what, **options):
        scores = evaluate(what, train, space=space, cache=cache, seeds=2, **{**QUICK, **options})
        return {score.metric: score.values for score in scores}

    return values


def without(small, *names, **changes):
    return replace(small, tensors={k: v for k, v in small.tensors.items() if not k.startswith(names)}, **changes)


def test_the_loss_is_that_of_the_set(carrier):
    samples, index = torch.tensor([1, 3, 4, 8, 9, 11]), torch.tensor([5, 0, 2])
    draw = torch.Generator().manual_seed(0)
    image, text = F.normalize(torch.randn(2, 3, 8, generator=draw), dim=2)
    found = module.StudentObjective.of(Retrieval(), carrier, samples).of_two(image, text, index, True)
    own = samples[index]
    expected = wbce(image @ text.T / 0.2, carrier.relation[own][:, own])  # S as it is: its rows do not sum to one
    assert torch.equal(found, expected)
    other = module.StudentObjective.of(Retrieval(), replace(carrier, training={"loss": "bce"}), samples).of_two(
        image, text, index, True
    )
    assert torch.equal(other, bce(image @ text.T / 0.07, carrier.relation[own][:, own]))
    switched_off = module.StudentObjective.of(Retrieval(carried=False), carrier, samples).of_two(
        image, text, index, True
    )
    logits, first = image @ text.T / 0.07, torch.arange(3)
    assert torch.allclose(switched_off, (F.cross_entropy(logits, first) + F.cross_entropy(logits.T, first)) / 2)


@pytest.mark.slow
def test_what_is_carried_changes_the_student_and_carried_off_ignores_all_of_it(carrier, plain, judge):
    ordinary, quiet = judge(plain), without(carrier, "hint.")
    assert judge(carrier, carried=False) == ordinary == judge(plain, carried=False)
    found = [
        judge(quiet),
        judge(replace(quiet, training={"loss": "wbce"})),
        judge(without(quiet, "similarity.", similarity={})),
    ]
    assert all(a != b for i, a in enumerate(found) for b in [ordinary, *found[:i]])
    eye = {"training": {"loss": "infonce", "temperature": 0.07}}
    assert judge(without(quiet, "similarity.", similarity={}, **eye)) == ordinary


def test_a_similarity_without_a_loss_is_soft_targets(carrier, judge):
    small = without(carrier, "hint.", training={})
    dense = without(small, "similarity.", similarity={})
    dense = replace(dense, tensors={**dense.tensors, "relation": small.relation})
    assert judge(small) == judge(dense) != judge(without(small, "similarity.", similarity={}))


@pytest.mark.slow
def test_learned_rates_are_one_candidate_more(carrier, plain, judge, monkeypatch):
    seen, choose = [], module.best_student

    def watched(candidates, tick, longer):
        rows = list(candidates)
        seen.append(len(rows))
        return choose(iter(rows), tick, longer)

    monkeypatch.setattr(module, "best_student", watched)
    judge(plain), judge(carrier), judge(carrier, carried=False), judge(without(carrier, "hint.rate_text"))
    assert seen == [2, 2, 3, 3, 2, 2, 2, 2]


def test_learned_rates_that_diverge_cost_nothing(plain, judge):
    rates = {"hint.rate_image": torch.tensor(1e30), "hint.rate_text": torch.tensor(1e30)}
    assert judge(replace(plain, tensors={**plain.tensors, **rates})) == judge(plain)


@pytest.mark.draws_globally
def test_rates_train_by_sgd_each_tower_at_its_own():
    torch.manual_seed(0)
    student = nn.ModuleDict({"image": nn.Linear(3, 2), "text": nn.Linear(3, 2)})
    x, start = torch.randn(8, 3), {k: v.clone().double() for k, v in student.state_dict().items()}

    def value(parameters, index):
        image, text = (
            x[index] @ parameters[f"{t}.weight"].float().T + parameters[f"{t}.bias"].float() for t in student
        )
        return (image * text).sum() + image.square().sum()

    schedule, rates = Schedule(steps=5, batch=4, rate=1.0, looks=1), {"image": 0.02, "text": 0.005}
    loss = lambda index, t: value(dict(student.named_parameters()), index)
    assert list(fit(student, loss, 8, schedule, 3, "cpu", rates)) == [5]
    epochs = [torch.randperm(8, generator=stream(3, "student order", e)) for e in range(3)]
    speed = {k: torch.zeros_like(v) for k, v in start.items()}
    for t in range(5):
        leaves = {k: v.detach().requires_grad_() for k, v in start.items()}
        slopes = torch.autograd.grad(value(leaves, torch.cat(epochs)[4 * t : 4 * t + 4]), list(leaves.values()))
        for (k, v), slope in zip(leaves.items(), slopes, strict=True):
            speed[k] = 0.9 * speed[k] + slope + 5e-4 * v.detach()
            start[k] = v.detach() - rates[k.split(".")[0]] * (1.0 if t < 2.5 else 0.1) * speed[k]
    for k, v in student.state_dict().items():
        assert torch.allclose(v.double(), start[k], atol=1e-5), k


@pytest.mark.slow
def test_pairs_of_one_real_image_can_be_no_negatives(carrier, plain, judge, train):
    assert judge(plain, mask_duplicates=True) == judge(plain), "every pair has an image of its own"
    assert judge(train, mask_duplicates=True) == judge(train)
    twins = [plain.origins[i // 3] for i in range(12)]
    for small in (plain, without(carrier, "hint."), without(carrier, "hint.", training={})):
        double = replace(small, origins=twins)
        assert judge(double) == judge(small) != judge(double, mask_duplicates=True)
    objective = module.StudentObjective.of(
        Retrieval(mask_duplicates=True), replace(carrier, origins=twins), torch.arange(12)
    )
    draw, index = torch.Generator().manual_seed(0), torch.tensor([1, 11, 0, 5])
    image, text = F.normalize(torch.randn(2, 4, 8, generator=draw), dim=2)
    ignored = torch.zeros(4, 4, dtype=torch.bool)
    ignored[0, 2] = ignored[2, 0] = True
    expected = wbce(image @ text.T / 0.2, carrier.relation[index][:, index], ignored)
    assert torch.equal(objective.of_two(image, text, index, True), expected) and torch.equal(
        ignored, false_negatives(index // 3)
    )


def test_the_score_says_how_the_student_was_trained(carrier, plain, train, space, cache):
    def said(small, **options):
        return evaluate(small, train, space=space, cache=cache, seeds=1, **{**QUICK, "steps": 2, **options})[0].training

    assert said(carrier) == "wbce, temperature 0.2, lowrank similarity, learned rates offered"
    assert said(without(carrier, "hint."), temperature=0.2) == "wbce, lowrank similarity"
    assert (
        said(replace(carrier, training={"loss": "infonce"})) == "infonce, learned rates offered"
    )  # reads no similarity
    assert said(carrier, carried=False) == said(plain) == said(train) == said(carrier, protocol="classification") == ""
    old = replace(plain, tensors={**plain.tensors, "relation": torch.eye(12)})
    assert said(old) == "soft similarity"


def test_a_loss_of_no_name_is_refused(carrier, judge):
    with pytest.raises(UnknownName, match="did you mean wbce"):
        judge(replace(carrier, training={"loss": "wbec"}))


def test_the_similarity_follows_the_samples_that_have_both_modalities(space, cache):
    small = distill(Problem(toy_source(32), space, Budget(pairs=12), cache=cache), Random())
    matrix = torch.arange(144.0).reshape(12, 12)
    gap = replace(
        small, captions=[c if i != 4 else () for i, c in enumerate(small.captions)], training={"loss": "ence"}
    )
    gap = replace(gap, tensors={**gap.tensors, "relation": matrix})
    seen = []
    original = module.StudentObjective.of.__func__

    def watched(cls, protocol, source, samples):
        objective = original(cls, protocol, source, samples)
        seen.append(objective.similarity)
        return objective

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.StudentObjective, "of", classmethod(watched))
        evaluate(gap, toy_source(32), space=space, cache=cache, seeds=1, steps=2, noise=(1.0,))
    kept = [i for i in range(12) if i != 4]
    assert torch.equal(seen[0], matrix[kept][:, kept])
