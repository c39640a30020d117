"""Covariance matching and kernel inducing pairs: what a step is made of, and that it teaches."""

import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import limbeck as lb
from limbeck.check import toy_source
from limbeck.core import Problem, whitening_of
from limbeck.errors import ConfigError, Diverged, LimbeckError
from limbeck.methods.matching._online_encoders import OnlineTowers
from limbeck.objectives.covariance import cross_covariance
from limbeck.students import Tower
from limbeck.students.two_towers import Head, TwoTowers, stages


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


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [lb.methods.CovMatch(steps=40), lb.methods.KIP(steps=40, batch=64)], ids=["covmatch", "kip"]
)
def test_it_learns(problem: Problem, method: lb.Method) -> None:
    _, first, *_, last = lb.steps(problem, method)
    assert last.logs["loss"] < 0.8 * first.logs["loss"]


TRAINED: dict[str, Any] = {"towers": "convnet", "dim": 8, "reset": 3, "real_batch": 12}


@dataclass(frozen=True)
class Words(lb.Encoder):
    """A small text encoder with weights behind its table of word vectors."""

    modality = "text"

    @property
    def dim(self) -> int:
        """Fixed."""
        return 16

    def build(self) -> nn.Module:
        """A table and a layer."""
        draw = torch.Generator().manual_seed(0)
        table = nn.Embedding(64, 12, _weight=torch.randn(64, 12, generator=draw))
        return nn.ModuleDict({"table": table, "layer": Tower(12, self.dim, draw, gain=1.0)})

    def tokens(self, strings: Sequence[str], length: int) -> Tensor:
        """The rows of the table."""
        table = self.network["table"].weight  # type: ignore[index]
        rows = [table[[zlib.crc32(word.encode()) % 64 for word in text.split()[:length]]] for text in strings]
        return torch.stack([F.pad(row, (0, 0, 0, length - len(row))) for row in rows])

    def encode(self, network: nn.Module, values: Any) -> Tensor:
        """The mean over the tokens."""
        tokens = values if isinstance(values, Tensor) else self.tokens(values, 16)
        there = (tokens.detach() != 0).any(-1, keepdim=True)
        return (torch.tanh(network["layer"](tokens)) * there).sum(1) / there.sum(1)  # type: ignore[index]


def online(problem: Problem, **towers: Any) -> OnlineTowers:
    return OnlineTowers(problem, TwoTowers(**{"image": "convnet", "dim": 8, **towers}), batch=12)


def fresh(pairs: int = 6, source: lb.Source | None = None, text: lb.Encoder | None = None) -> Problem:
    space = lb.space(image="convnet", text="bag_of_words")
    encoders = space.encoders if text is None else {**space.encoders, "text": text}
    return Problem(source or toy_source(), lb.Space(encoders), lb.Budget(pairs=pairs))


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items()) and a.keys() == b.keys()


def test_towers_repeat_their_path_to_the_bit() -> None:
    """Step by step, at once and by a fresh object; rounds begin at other heads; what was returned is not written to."""
    towers = online(fresh())
    path = {(cycle, step): towers.at(cycle, step) for cycle in (0, 1) for step in (0, 1, 2)}
    kept = {place: {name: value.clone() for name, value in found.items()} for place, found in path.items()}
    assert same(towers.at(0, 1), kept[0, 1]), "back to the round before"
    again = online(fresh())
    for place in ((1, 2), (0, 2), (1, 0)):
        assert same(again.at(*place), kept[place])
    assert all(same(found, kept[place]) for place, found in path.items())
    assert not same(kept[0, 0], kept[0, 1]) and not same(kept[0, 2], kept[1, 2])


def test_every_round_begins_with_the_pretrained_encoder() -> None:
    towers = online(fresh(), image="encoder")
    first, trained, second = towers.at(0, 0), towers.at(0, 1), towers.at(1, 0)
    encoder = {name for name in first if name.startswith("image.0.network.")}
    assert encoder and same({n: first[n] for n in encoder}, {n: second[n] for n in encoder})
    assert not same({n: first[n] for n in encoder}, {n: trained[n] for n in encoder})
    assert not torch.equal(first["text.head.0.weight"], second["text.head.0.weight"])


@pytest.mark.parametrize("name", ["CovMatch", "MTTVL", "LoRS"])
def test_a_text_has_three_tokens_or_more(name: str) -> None:
    """Its two ends and a word."""
    kind = getattr(lb.methods, name)
    trained = {"towers": "encoder", "text": "encoder"} if name == "CovMatch" else {"text": "encoder"}
    assert kind(**trained, tokens=3).text_tokens == 3 and kind(**trained, tokens=4).text_tokens == 4
    with pytest.raises(ConfigError, match=r"`tokens` of .* must be 3 or more, got 2"):
        kind(**trained, tokens=2)


def test_a_batch_holds_a_caption_of_each_of_its_samples() -> None:
    problem, seen = fresh(4, toy_source(5)), set()
    towers = TwoTowers("convnet", dim=8)
    for step in range(20):
        images, texts = OnlineTowers(problem, towers, batch=12).real(0, step)
        assert len(images) == len(texts) == 5, "all samples where there are fewer"
        for image, text in zip(images, texts, strict=True):
            (i,) = [i for i in range(5) if torch.equal(problem.source.batch([i])["image"][0], image)]
            every = towers.real(problem, torch.zeros(10).long(), torch.arange(10), None)[1]
            rows = {row for row in range(10) if torch.equal(every[row], text)}
            assert rows & {2 * i, 2 * i + 1}
            seen |= rows
    assert seen == set(range(10))


@pytest.mark.slow
def test_the_towers_do_not_depend_on_the_set() -> None:
    method, logs = lb.methods.CovMatch(**TRAINED, steps=4), []
    for lr in (0.0, 0.5):
        logs.append([state.logs for state in lb.steps(fresh(), replace(method, lr=lr))][1:])
    assert [x["towers"] for x in logs[0]] == [x["towers"] for x in logs[1]]
    assert logs[0][-1]["loss"] != logs[1][-1]["loss"]


def test_a_step_with_trained_towers() -> None:
    """The terms against the towers called as a whole, and gradients in every pixel and every token."""
    problem = fresh(text=Words())
    method = lb.methods.CovMatch(
        **{**TRAINED, "towers": "encoder"}, text="encoder", tokens=8, match="absolute", rho=2.0
    )
    synthetic = method.start(problem)
    logs = {name: float(value) for name, value in method.step(problem, synthetic, 1).items()}
    towers = TwoTowers("encoder", "encoder", "mlp", 8, ridge=10.0, tokens=8)
    own = OnlineTowers(problem, towers, batch=12)
    network = own.network
    network.load_state_dict(own.at(0, 1), strict=False)
    with torch.no_grad():
        real, learned = own.real(0, 1), towers.synthetic(problem, synthetic)
        z, s = (
            [stages(network, m)[0](v) for m, v in zip(("image", "text"), x, strict=True)]
            for x in (real, learned.values())
        )
        joint, moved = network(*real), network(*learned.values())
    expected = (2 * cross_covariance(*z) - cross_covariance(*s)).square().sum()
    assert logs["tie"] == pytest.approx(float(expected), rel=1e-3)
    for m, a, b in zip(("image", "text"), joint, moved, strict=True):
        assert logs[f"{m} mean"] == pytest.approx(float((a.mean(0) - b.mean(0)).square().sum()), rel=1e-3)
    pixels, tokens = (synthetic.learned[m].grad for m in ("image", "text"))
    assert pixels is not None and tokens is not None
    assert (pixels != 0).float().mean() > 0.9
    assert torch.equal((tokens != 0).any(-1), (synthetic.value("text") != 0).any(-1)), (
        "every token, and no row of zeros"
    )


@pytest.mark.parametrize("head", ["linear", "mlp", "residual"])
@pytest.mark.parametrize("image", ["encoder", "convnet"])
def test_a_tower_is_its_encoder_and_its_head(image: str, head: Head) -> None:
    towers = online(fresh(), image=image, head=head)
    parameters, real = towers.at(0, 0), towers.real(0, 0)
    whole = torch.func.functional_call(towers.network, parameters, real)
    for m, values, expected in zip(("image", "text"), real, whole, strict=True):
        found = towers.project(parameters, m, towers.features(parameters, m, values))
        assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.slow
def test_a_killed_run_with_trained_towers_ends_where_an_uninterrupted_one_does() -> None:
    """Killed in the middle of a round, after its first, and after its last step."""
    method = lb.methods.CovMatch(**TRAINED, steps=5)
    whole = lb.distill(fresh(), method)
    for stop in (1, 2, 3, 4):
        with tempfile.TemporaryDirectory() as folder:
            for state in lb.steps(fresh(), method, folder, save_every=1):
                if state.step == stop:
                    break
            assert lb.distill(fresh(), method, folder).fingerprint == whole.fingerprint, stop


@pytest.mark.parametrize("update", ["adam", "sgd"])
@pytest.mark.slow
def test_it_learns_with_trained_towers(update: str) -> None:
    """Over one round, so that the loss of the last step is of nearly the towers of the first."""
    lr = {"adam": 0.02, "sgd": 0.3}[update]
    method = lb.methods.CovMatch(
        **{**TRAINED, "real_batch": 24}, steps=12, match="size", means=0.0, spread=0.0, lr=lr, update=update
    )
    method = replace(method, reset=12, online_rate=1e-4)
    _, first, *_, last = lb.steps(fresh(12), method)
    assert last.logs["loss"] < 0.8 * first.logs["loss"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"reset": 10},
            r"`reset=10` .* the towers are frozen \(`towers=frozen`\)\. Remove it, or set `towers=encoder`\.",
        ),
        ({"text": "encoder"}, "`text=encoder` of covmatch is ignored when the towers are frozen"),
        ({"towers": "encoder", "tokens": 9}, "`tokens=9` .* ignored when texts are frozen .* set `text=encoder`"),
        (
            {"towers": "encoder", "text": "encoder", "ridge": 1.0},
            "`ridge=1.0` of covmatch is ignored when both towers are trained",
        ),
        ({"towers": "convnets"}, "did you mean convnet"),
        ({"towers": "encoder", "reset": 0}, "`reset` of covmatch must be 1 or more, got 0"),
        ({"towers": "encoder", "real_batch": 1}, "`real_batch` of covmatch must be 2 or more"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(LimbeckError, match=says):
        lb.methods.CovMatch(**options)


def test_an_encoder_that_cannot_be_trained_is_refused_before_anything_is_encoded() -> None:
    problem = fresh()
    with pytest.raises(ConfigError, match="bag_of_words' has no weights that its vectors depend on"):
        lb.distill(problem, lb.methods.CovMatch(**TRAINED, text="encoder", tokens=8))
    assert "features" not in vars(problem)


def test_towers_that_diverge_name_their_rate() -> None:
    with pytest.raises(Diverged, match=r"towers = nan is not finite.*lower online_rate"):
        lb.distill(fresh(), lb.methods.CovMatch(**TRAINED, steps=3, online_rate=1e30, online_rate_head=1e30))
