"""Every registered method keeps the contract: with text and without, labelled and unlabelled."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch

import limbeck as lb
from limbeck import registry
from limbeck.check import check_method, toy_source
from limbeck.core import Method, Problem
from limbeck.data.vectors import VectorSource
from limbeck.errors import ConfigError, DataError, UnknownName
from priors import GENERATIVE

QUICK = {  # for methods that have these fields
    "steps": 3,
    "inner": 1,
    "width": 8,
    "dim": 8,
    "experts": 2,
    "expert_batch": 8,
    "inner_steps": 2,
    "inner_batch": 4,
    "segments": 2,
    "rank": 2,
}


WANTS = {name: {"image", "text"} for name in ("covmatch", "kip", "lors", "mtt_vl")} | {"guided": {"label"}}


def quick(name: str) -> Method:
    method: Method = registry.get("method", name)()
    unread = {"covmatch": {"dim"}, "guided": {"inner"}, "edge": {"rank"}}.get(
        name, set()
    )  # refused where they have no say
    known = {f.name for f in fields(method)} - unread
    draws = (
        {"batch": 8} if name == "label_distillation" else {}
    )  # else a step reads all of so few data, and draws nothing
    return replace(method, **{key: value for key, value in QUICK.items() if key in known}, **draws)


LONG = ("lors", "mtt_vl")  # train experts
SMALL = {"name": "convnet", "resolution": 16, "width": 16}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in LONG else name
        for name in registry.names("method")
        if name not in GENERATIVE
    ],
)
@pytest.mark.parametrize(
    "modalities",
    [
        ("image", "text", "label"),
        pytest.param(("image", "text"), marks=pytest.mark.slow),
        pytest.param(("image", "label"), marks=pytest.mark.slow),
        pytest.param(("image",), marks=pytest.mark.slow),
    ],
)
def test_contract(name: str, modalities: tuple[str, ...]) -> None:
    names: dict[str, Any] = {"image": SMALL, "text": "bag_of_words"}
    space = lb.space(**{m: names[m] for m in modalities if m in names})
    method, source = quick(name), toy_source(modalities=modalities)
    try:
        method.check(Problem(source, space, lb.Budget(pairs=8)))
    except DataError as error:
        lacking = name in WANTS and not WANTS[name] <= set(modalities)
        assert lacking or name == "dc" or (name, modalities) == ("label_distillation", ("image",)), (
            f"refuses {modalities}"
        )
        assert str(error).startswith(f"{name} ") and (
            "leave" in str(error) or "use" in str(error) or "choose" in str(error)
        )
    else:
        check_method(method, space, source)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["mlp", "residual"])
def test_contract_of_covmatch_with_trained_towers(head: str) -> None:
    method = lb.methods.CovMatch(steps=3, towers="encoder", head=head, dim=8, reset=2, real_batch=8)
    check_method(method, lb.space(image=SMALL, text="bag_of_words"))


@pytest.mark.parametrize("name", [name for name in registry.names("method") if not quick(name).needs])
def test_classes_are_balanced_without_text(name: str) -> None:
    source = toy_source(n=40, modalities=("image", "label"))
    small = lb.distill(Problem(source, lb.space(image=SMALL), lb.Budget(pairs=8)), quick(name))
    assert torch.bincount(small.labels).tolist() == [2, 2, 2, 2]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", [n for n in registry.names("method") if quick(n).steps and not quick(n).needs and n != "label_distillation"]
)
def test_no_modality_is_left_as_it_was(name: str) -> None:
    """A method learns every modality of the problem, or refuses it."""
    draw = torch.Generator().manual_seed(0)
    values = {"audio": torch.randn(30, 5, generator=draw), "depth": torch.randn(30, 6, generator=draw)}
    source = VectorSource("sensors", values, torch.arange(30) % 2)
    problem = Problem(source, lb.space(audio="vectors:5", depth="vectors:6"), lb.Budget(pairs=6))
    if name == "dm":
        with pytest.raises(DataError, match="would leave audio and depth as it was; avdd with icm and cgm of 0 is dm"):
            lb.distill(problem, quick(name))
        return
    before: dict[str, torch.Tensor] = {}
    for state in lb.steps(problem, quick(name)):
        now = {m: state.synthetic.value(m).detach().clone() for m in values}
        before = before or now
    assert all(bool((now[m] != before[m]).any(dim=1).all()) for m in values)


def test_per_class_needs_labels() -> None:
    problem = Problem(toy_source(modalities=("image",)), lb.space(image=SMALL), lb.Budget(pairs=4))
    with pytest.raises(DataError, match="no labels"):
        lb.distill(problem, lb.methods.Random(per_class=True))


@pytest.mark.parametrize("name", ["cf", "covmatch", "dm", "kip", "label_distillation", "lors", "mtt_vl"])
def test_an_unknown_start_names_the_nearest(name: str) -> None:
    with pytest.raises(UnknownName, match="did you mean herding"):
        registry.get("method", name)(init="hearding")


def test_budget_in_bytes() -> None:
    problem = Problem(toy_source(96), lb.space(image=SMALL, text="bag_of_words"), lb.Budget(bytes=20_000))
    coreset, learned = lb.distill(problem, lb.methods.Random()), lb.distill(problem, quick("cf"))
    assert len(learned) < len(coreset), "an embedding costs more than a caption"
    assert learned.nbytes <= 20_000
    assert 19_000 < coreset.nbytes <= 20_000, "real samples are counted with their own bytes"
    exact = lb.Problem(toy_source(96), problem.space, lb.Budget(bytes=20_000, pixels="float32"))
    assert lb.distill(exact, quick("cf")).nbytes <= 20_000


@pytest.mark.draws_globally
def test_a_method_that_breaks_the_contract_is_caught() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Global(Method):
        """Draws from the global generator."""

        def start(self, problem: Problem) -> "lb.Synthetic":
            from limbeck.core import chosen_pairs

            return chosen_pairs(problem, torch.randperm(24)[:8])

    with pytest.raises(AssertionError, match="global random generator"):
        check_method(Global(), lb.space(image=SMALL))


def test_cf_frequencies_agree_with_the_closed_form() -> None:
    space = lb.space(image=SMALL, text="bag_of_words")
    problem = Problem(toy_source(64), space, lb.Budget(pairs=12))
    gradient = {}
    for frequencies in (0, 20_000):
        method = lb.methods.CF(
            frequencies=frequencies, tie=0.0
        )  # tests/objectives compare the tie, with more frequencies
        synthetic = method.start(problem)
        method.step(problem, synthetic, 0)
        gradient[frequencies] = {m: p.grad.flatten() for m, p in synthetic.learned.items() if p.grad is not None}
    for m in ("image", "text"):
        assert torch.cosine_similarity(gradient[0][m], gradient[20_000][m], dim=0) > 0.7, m


@pytest.mark.slow
def test_cf_keeps_the_tie_between_the_modalities() -> None:
    """With its term the dependence approaches that of the real pairs; marginal terms alone do not see it."""
    space = lb.space(image=SMALL, text="bag_of_words")
    problem = Problem(toy_source(200), space, lb.Budget(pairs=24))
    tie = {}
    for weight in (0.0, 1.0):
        *_, last = lb.steps(problem, lb.methods.CF(steps=80, lr=0.05, lr_text=0.05, tie=weight, init="herding"))
        tie[weight] = last.logs["tie"]
    assert tie[1.0] < 0.5 * tie[0.0]


GOLDEN = {
    "herding": ["7", "17", "4", "6"],
    "kcenter": ["11", "8", "17", "6"],
    "prototypes": ["1", "0", "3", "6"],
    "random": ["22", "0", "4", "5"],
}
CF_GOLDEN = {"image": 0.169, "text": 0.085, "tie": 0.502}


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_golden_choices(name: str) -> None:
    """What a coreset chooses from the toy source at seed 0; another answer is a change that users see."""
    problem = Problem(toy_source(), lb.space(text="bag_of_words"), lb.Budget(pairs=4))
    assert [key.split("/")[1] for key in lb.distill(problem, registry.get("method", name)()).origins] == GOLDEN[name]


def test_golden_loss_of_cf() -> None:
    """The terms of the first step on the toy source, to the digits that machines agree on."""
    problem = Problem(toy_source(), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=4))
    logs = list(lb.steps(problem, lb.methods.CF(steps=1)))[-1].logs
    assert {k: logs[k] for k in CF_GOLDEN} == pytest.approx(CF_GOLDEN, abs=2e-3)


def test_the_tie_of_few_samples_stays_a_cosine() -> None:
    """From so few pairs the dependence can hardly be estimated; the term must not blow up for that."""
    space = lb.space(image=SMALL, text="bag_of_words")
    for seed in range(6):
        problem = Problem(toy_source(9), space, lb.Budget(pairs=4), seed=seed)
        *_, last = lb.steps(problem, lb.methods.CF(steps=3))
        assert abs(last.logs["tie"]) < 5


@pytest.mark.parametrize("name", registry.names("method"))
def test_no_number_of_a_method_may_be_negative(name: str) -> None:
    """Every option that is a number has a least value, and says so."""
    kind = registry.get("method", name)
    for field in fields(kind):
        if type(field.default) in (int, float):
            with pytest.raises(ConfigError, match=rf"\b{field.name}\b"):
                kind(**{field.name: -1})
