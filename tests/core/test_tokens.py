"""Text that is learned as token embeddings: chosen, counted, made readable, stored, judged."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

import limbeck as lb
from limbeck.check import toy_source
from limbeck.core import DistilledSet, Method, Problem, Recipe, Synthetic, chosen_pairs, freeze
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation.protocols.retrieval import Retrieval
from limbeck.spaces import embed_source

LENGTH, WIDTH = 8, 16


@dataclass(frozen=True)
class Tokens(Method):
    """Moves the texts of the first pairs a little."""

    @property
    def learns_text(self) -> bool:
        """Yes."""
        return True

    @property
    def text_tokens(self) -> int:
        """`LENGTH`."""
        return LENGTH

    def start(self, problem: Problem) -> Synthetic:
        """The first pairs."""
        pairs = problem.pairs(self.learns_text, self.text_tokens)
        return chosen_pairs(problem, torch.arange(pairs), ["text"], LENGTH)

    def optimizer(self, synthetic: Synthetic) -> Optimizer:
        """Plain."""
        return SGD(synthetic.parameters(), lr=0.1)


@pytest.fixture(scope="module")
def problem() -> Problem:
    space = lb.space(image="convnet", text={"name": "bag_of_words", "width": WIDTH})
    return Problem(toy_source(), space, lb.Budget(pairs=5))


@pytest.fixture(scope="module")
def small(problem: Problem) -> DistilledSet:
    method = Tokens()
    return freeze(problem, Recipe.of(problem, method), method.start(problem), learned_text=True)


def test_they_start_as_the_captions(problem: Problem, small: DistilledSet) -> None:
    first = problem.captions[:5]
    assert small.tensors["text"].shape == (5, LENGTH, WIDTH)
    assert [captions[0] for captions in small.captions] == first
    assert all(near[0] == (caption, 1.0) for near, caption in zip(small.neighbours, first, strict=True))


def test_each_token_costs_its_bytes(problem: Problem, small: DistilledSet) -> None:
    assert 5 * 4 * LENGTH * WIDTH < small.sizes["text"] < 5 * 4 * LENGTH * WIDTH + 1000
    assert problem.sample_bytes(True, LENGTH) - problem.sample_bytes(True) == 4 * (LENGTH - 1) * WIDTH
    bytes_of_five = lb.Budget(bytes=5 * problem.sample_bytes(True, LENGTH) + problem.fixed_bytes)
    assert replace(problem, budget=bytes_of_five).pairs(True, LENGTH) == 5


def test_only_vectors_are_brought_to_unit_length(problem: Problem) -> None:
    synthetic = Tokens().start(problem)
    before = synthetic.value("text").detach().clone()
    synthetic.project()
    assert torch.equal(synthetic.value("text"), before)
    embedded = problem.space.embed(synthetic.batch())["text"]
    embedded[:, 0].sum().backward()
    gradient = synthetic.value("text").grad
    assert isinstance(gradient, Tensor) and torch.equal(gradient.any(-1), before.any(-1))


def test_a_saved_set_is_read_through_its_encoder(problem: Problem, small: DistilledSet, tmp_path: Path) -> None:
    again = lb.load(small.save(tmp_path / "set"))
    assert torch.equal(again.tensors["text"], small.tensors["text"]) and again.fingerprint == small.fingerprint
    features = embed_source(again, problem.space)["text"].vectors
    torch.testing.assert_close(features, problem.space["text"]([c[0] for c in small.captions]), rtol=0, atol=1e-5)
    other = lb.space(image="convnet", text={"name": "bag_of_words", "width": WIDTH, "seed": 1})
    with pytest.raises(DataError, match="embeddings of another encoder"):
        embed_source(again, other)


def test_a_set_of_tokens_is_judged_as_one_of_vectors(problem: Problem, small: DistilledSet) -> None:
    """At the start its features are those of the captions, so a student learns the same from either."""
    features = problem.space["text"]([c[0] for c in small.captions])
    vectors = replace(small, tensors={**small.tensors, "text": features})
    quick = Retrieval(selection="paper", noise=(1.0,), steps=3, batch=4, looks=1, dim=4)
    rows = [lb.evaluate(s, toy_source(12), quick, problem.space, seeds=1) for s in (small, vectors)]
    assert [score.values for score in rows[0]] == [score.values for score in rows[1]]


def test_an_encoder_without_tokens_says_so(problem: Problem) -> None:
    class Opaque(type(problem.space["text"])):  # type: ignore[misc]
        tokens = lb.Encoder.tokens

    space = lb.space(image="convnet", text=Opaque(width=WIDTH))
    with pytest.raises(ConfigError, match="reads no token embeddings"):
        Tokens().start(replace(problem, space=space))
