"""`PairIndex` beside lists of lists."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.data.pairs import PairIndex, first_of_each

NUMBERS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 4)), min_size=1, max_size=12)


def owners(numbers: list[int]) -> torch.Tensor:
    return torch.tensor([i for i, n in enumerate(numbers) for _ in range(n)], dtype=torch.long)


def rows(numbers: list[int]) -> list[list[int]]:
    every = iter(range(sum(numbers)))
    return [[next(every) for _ in range(n)] for n in numbers]


@given(NUMBERS)
def test_an_index_is_that_of_lists(numbers: list[tuple[int, int]]) -> None:
    images, texts = ([n[k] for n in numbers] for k in (0, 1))
    image, text = rows(images), rows(texts)
    index = PairIndex.of({"image": owners(images), "text": owners(texts)}, len(numbers))
    assert len(index) == len(numbers) and index.sample.tolist() == list(range(len(numbers)))
    assert index.counts["text"].tolist() == texts
    assert index.first["text"].tolist() == [own[0] if own else -1 for own in text]
    assert index.present("image").tolist() == [bool(own) for own in image]
    assert index.num_present.tolist() == [bool(a) + bool(b) for a, b in zip(image, text, strict=True)]
    assert index.complete.tolist() == [bool(a and b) for a, b in zip(image, text, strict=True)]
    every, owner = index.all_rows("text")
    assert every.tolist() == list(range(sum(texts))) and owner.tolist() == owners(texts).tolist()
    pairs = index.aligned(["image", "text"])
    expected = [(i, a[0], row) for i, (a, b) in enumerate(zip(image, text, strict=True)) if a for row in b]
    assert (
        list(zip(pairs.sample.tolist(), *(pairs.rows[m].tolist() for m in ("image", "text")), strict=True)) == expected
    )
    alone = index.aligned(["image"])
    assert alone.sample.tolist() == [i for i, own in enumerate(image) if own] and set(alone.rows) == {"image"}


def test_samples_that_are_taken_keep_their_rows() -> None:
    index = PairIndex.of({"image": torch.arange(4), "text": torch.tensor([0, 0, 2, 2, 2, 3])}, 4)
    part = index.take(torch.tensor([3, 2, 2]))
    assert part.sample.tolist() == [3, 2, 2] and part.first["text"].tolist() == [5, 2, 2]
    every, owner = part.all_rows("text")
    assert every.tolist() == [5, 2, 3, 4, 2, 3, 4] and owner.tolist() == [0, 1, 1, 1, 2, 2, 2]
    assert part.aligned(["text"]).sample.tolist() == [3, 2, 2, 2, 2, 2, 2]


def test_each_row_is_drawn_and_only_its_own() -> None:
    index = PairIndex.of({"text": torch.tensor([0, 0, 2, 2, 2, 3])}, 5).take(torch.tensor([0, 2, 3, 4]))
    g = torch.Generator().manual_seed(0)
    drawn = torch.stack([index.draw_one("text", torch.arange(4), g) for _ in range(100)])
    assert [set(column.tolist()) for column in drawn.T] == [{0, 1}, {2, 3, 4}, {5}, {-1}]


def test_draws_are_uniform_and_take_one_number_a_sample() -> None:
    index = PairIndex.of({"text": torch.zeros(4, dtype=torch.long)}, 1)
    g, other = (torch.Generator().manual_seed(3) for _ in range(2))
    drawn = index.draw_one("text", torch.zeros(8000, dtype=torch.long), g)
    assert drawn.tolist() == (torch.rand(8000, generator=other) * 4).long().tolist()
    assert torch.bincount(drawn).tolist() == pytest.approx([2000] * 4, rel=0.1)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_the_first_of_each_sample(sample: list[int]) -> None:
    assert first_of_each(torch.tensor(sample)).tolist() == [sample.index(i) for i in sorted(set(sample))]
