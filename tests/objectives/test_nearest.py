"""The search for what is most alike against a loop over every query and row, with ties, in chunks of any size."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import limbeck as lb
from limbeck.check import toy_source
from limbeck.core import DistilledSet, distilled
from limbeck.objectives.nearest import largest, nearest, similarities


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def naive(queries: Tensor, rows: Tensor, owner: Tensor, owners: int, k: int) -> tuple[list, list]:
    values, places = [], []
    for query in queries:
        best = [-float("inf")] * owners
        for row, own in zip(rows, owner.tolist(), strict=True):
            best[own] = max(best[own], float(query @ row))
        order = sorted(range(owners), key=lambda i: (-best[i], i))[:k]
        values.append([best[i] for i in order])
        places.append(order)
    return values, places


@pytest.mark.parametrize("cells", [1, 13, 26, 40, 10**6])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_any_chunks_give_what_a_loop_gives_and_of_equals_the_first(cells: int, k: int) -> None:
    """Signs as vectors: products are exact, so that ties are many and are ties in any chunk."""
    rows, queries = drawn(13, 4, seed=1).sign(), drawn(7, 4).sign()
    owner = torch.tensor([5, 0, 0, 3, 1, 5, 5, 2, 3, 0, 1, 2, 5])  # unsorted; 4 has no row
    values, places = naive(queries, rows, owner, 6, k)
    assert any(len(set(value)) < len(value) for value in values) or k == 1, "no tie is tried"
    found, index = nearest(queries, rows, owner, 6, k, cells)
    assert found.tolist() == values and index.tolist() == places


def test_no_more_is_held_than_was_allowed() -> None:
    rows, owner = drawn(10, 3), torch.arange(10) // 2
    sizes = [len(part) for part in similarities(drawn(11, 3, seed=1), rows, owner, 5, cells=35)]
    assert sizes == [3, 3, 3, 2] and max(sizes) * len(rows) <= 35


def test_what_is_searched_is_left_as_it_was() -> None:
    scores = drawn(3, 5)
    before = scores.clone()
    assert torch.equal(largest(scores, 5)[0], before.sort(1, descending=True).values)
    assert torch.equal(scores, before)
    empty = nearest(torch.zeros(0, 3), drawn(2, 3), torch.arange(2), 2, 1)
    assert [tuple(x.shape) for x in empty] == [(0, 1), (0, 1)]


def test_a_set_names_its_nearest_alike_in_chunks_and_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearest captions and images of a frozen set, of data that hold captions and images twice, against a loop."""

    def made() -> DistilledSet:
        return lb.distill(problem, lb.methods.CF(steps=2, lr=0.1))

    source = toy_source(24)
    source._image[5] = source._image[2]  # type: ignore[attr-defined]
    source.fingerprint += " with a twin"
    problem = lb.Problem(source, lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=9, pixels="float32"))
    whole = made()
    images, texts = problem.features["image"].vectors, problem.features["text"].vectors
    seen = problem.space["image"](whole.tensors["image"])
    learned = F.normalize(whole.tensors["text"], dim=-1)
    names = list(dict.fromkeys(problem.captions))
    assert len(names) < len(problem.captions)
    for i, (key, score) in enumerate(whole.nearest):
        alike = (images @ seen[i]).tolist()
        assert alike[list(source.keys).index(key)] == pytest.approx(max(alike), abs=1e-6)
        assert score == pytest.approx(max(alike), abs=1e-4)
    for i, near in enumerate(whole.neighbours):
        best = {name: -1.0 for name in names}
        for caption, value in zip(problem.captions, (texts @ learned[i]).tolist(), strict=True):
            best[caption] = max(best[caption], value)
        assert [score for _, score in near] == pytest.approx(sorted(best.values(), reverse=True)[:3], abs=1e-4)
        assert [best[name] for name, _ in near] == pytest.approx([score for _, score in near], abs=1e-4)

    encoded: list[int] = []
    embed = type(problem.space).embed
    monkeypatch.setattr(
        type(problem.space), "embed", lambda space, batch: encoded.append(len(batch)) or embed(space, batch)
    )
    monkeypatch.setattr(distilled, "nearest", partial(nearest, cells=100))
    monkeypatch.setattr(distilled, "chunked", partial(distilled.chunked, values=2 * 3 * 16 * 16))
    parts = made()
    assert encoded[-5:] == [2, 2, 2, 2, 1], "images are encoded two at a time"
    assert parts.neighbours == whole.neighbours and parts.nearest == whole.nearest
