"""What retrieval can tell where captions repeat."""

import pytest

from limbeck.data.captions import ceiling


def test_six_captions_on_forty_images() -> None:
    """A query finds one of the images of its words first; the texts of the others tie with an image's own and count against it."""
    colours = [(f"a {name} field",) for name in ("red", "green", "blue", "grey", "pink", "black")]
    best = ceiling([colours[i % 6] for i in range(40)])  # 7, 7, 7, 7, 6, 6
    assert (best.samples, best.different, best.low) == (40, 6, True)
    assert best.rates == pytest.approx(
        {"IR@1": 15.0, "IR@5": 75.0, "IR@10": 100.0, "TR@1": 0.0, "TR@5": 0.0, "TR@10": 100.0}
    )
    assert str(best).startswith("6 different captions for 40 images: however good a student, IR@1 cannot exceed 15 %")


def test_captions_that_differ_leave_everything_within_reach() -> None:
    best = ceiling([("a", "b"), ("c",), ()])
    assert (best.samples, best.different, best.low) == (2, 3, False) and set(best.rates.values()) == {100.0}
    assert ceiling([("a", "a"), ("b",)]).rates["TR@1"] == 100.0, "the same words of one image are no ties"


def test_one_caption_of_its_own_is_enough_for_an_image() -> None:
    best = ceiling([("a dog", "Rex"), ("a dog", "Bello"), ("a dog",)])
    assert best.rates["TR@1"] == pytest.approx(200 / 3) and best.rates["IR@1"] == pytest.approx(60.0)


def test_the_ceiling_is_what_a_perfect_student_reaches() -> None:
    """Images and words as one-hot vectors, images of the same words told apart by a small component that no text has."""
    import torch

    from limbeck.evaluation.metrics import retrieval

    words = [0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 3]
    text = torch.eye(4)[words]
    image = text + 1e-3 * torch.arange(len(words))[:, None]
    owner = torch.arange(len(words))
    found = retrieval(image, text, owner, owner)
    best = ceiling([(f"word {w}",) for w in words]).rates
    assert {name: found[name] for name in best} == pytest.approx(best)
