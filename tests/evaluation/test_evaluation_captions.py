"""Captions beside images in classification: read at the test, in training alone, or not at all."""

from typing import Any

import pytest
import torch

import limbeck as lb
from limbeck.check import ToySource, toy_source
from limbeck.data import Cache, Source
from limbeck.errors import ConfigError
from limbeck.evaluation import evaluate
from limbeck.evaluation.protocol import Context
from limbeck.evaluation.protocols._fusion import Fusion, Labelled, Training
from limbeck.evaluation.protocols.classification import Classification
from limbeck.runtime.runtime import Runtime
from limbeck.students import Tower

SHORT: dict[str, Any] = {"looks": 1, "noise": (0.5,), "steps": 60}
SPACE = lb.space(image={"name": "convnet", "resolution": 16, "width": 8}, text="bag_of_words")


class Shuffled(ToySource):
    """The test split with the captions, or the images, of other samples of other classes."""

    def __init__(self, what: str) -> None:
        super().__init__(24, "test", ("image", "text", "label"), 16)
        order = torch.arange(24).roll(1)
        if what == "captions":
            self._captions = [self._captions[i] for i in order]
        else:
            self._image = self._image[order]
        self.fingerprint = self.fingerprint[:-4] + ("cafe" if what == "captions" else "babe")

    def split(self, name: str) -> ToySource:
        """Shuffled is the test split alone."""
        return self if name == "test" else super().split(name)


def scores(test: Source, cache: Cache, **options: Any) -> dict[str, float]:
    found = evaluate(toy_source(), test, "classification", SPACE, 1, cache=cache, **{**SHORT, **options})
    return {score.metric: score.mean for score in found}


@pytest.mark.slow
@pytest.mark.parametrize("dim", [0, 64])
def test_who_reads_what(dim: int, cache: Cache) -> None:
    plain = toy_source(24, "test")
    before = {mode: scores(plain, cache, captions=mode, dim=dim) for mode in ("both", "train_only", "none")}
    assert list(before["both"]) == [f"{m} accuracy" for m in ("joint", "late", "train_only", "image", "text")]
    assert list(before["train_only"]) == ["train_only accuracy", "image accuracy"]
    assert list(before["none"]) == ["accuracy"]
    assert before["none"]["accuracy"] == before["both"]["image accuracy"] == before["train_only"]["image accuracy"]
    assert before["train_only"]["train_only accuracy"] == before["both"]["train_only accuracy"]
    captions = {mode: scores(Shuffled("captions"), cache, captions=mode, dim=dim) for mode in ("both", "train_only")}
    assert captions["train_only"] == before["train_only"], "captions of the test leak into it"
    unread = {"train_only accuracy", "image accuracy"}
    assert all(captions["both"][metric] == before["both"][metric] for metric in unread)
    assert captions["both"]["text accuracy"] < 50 < before["both"]["text accuracy"]
    images = scores(Shuffled("images"), cache, dim=dim)
    assert images["text accuracy"] == before["both"]["text accuracy"]
    assert images["image accuracy"] < before["both"]["image accuracy"]


def test_a_test_without_captions_is_enough_where_they_help_in_training_alone(cache: Cache) -> None:
    bare = toy_source(24, "test", ("image", "label"))
    found = scores(bare, cache, captions="train_only", selection="last")
    assert list(found) == ["train_only accuracy", "image accuracy"] and min(found.values()) > 50  # chance is 25
    assert list(scores(bare, cache, selection="last")) == ["accuracy"]


def test_without_captions_a_linear_joint_student_is_the_student_of_images() -> None:
    draws = torch.Generator().manual_seed(0)
    image, text = (Tower(n, 4, draws) for n in (5, 3))
    joint, alone = Fusion({"image": image, "text": text}, None, 1.0), Fusion({"image": image}, None, 1.0)
    x, c = torch.rand(6, 5, generator=draws), torch.rand(6, 3, generator=draws)
    truth = torch.arange(6) % 4
    found = {}
    for name, student, seen in (
        ("absent", joint, {"image": x}),
        ("alone", alone, {"image": x}),
        ("given", joint, {"image": x, "text": c}),
    ):
        joint.zero_grad()
        logits = student(seen)
        torch.nn.functional.cross_entropy(logits, truth).backward()
        grads = [p.grad for p in (image.head[0].weight, text.head[0].weight)]
        found[name] = [logits.detach(), *(None if g is None else g.clone() for g in grads)]
    assert torch.equal(found["absent"][0], found["alone"][0]) and torch.equal(found["absent"][1], found["alone"][1])
    assert not torch.equal(found["given"][0], found["alone"][0])
    assert not found["absent"][2].any() and found["given"][2].any()


def test_half_of_the_captions_are_dropped_in_training(cache: Cache) -> None:
    protocol, draws = Classification(**SHORT), torch.Generator().manual_seed(0)
    samples = Labelled(
        {"image": torch.rand(400, 6, generator=draws), "text": torch.rand(400, 3, generator=draws)},
        torch.arange(400) % 2,
        torch.arange(400),
    )
    training = Training(protocol, samples, 2, Context(0, Runtime(cache=cache)), None)
    seen: list[dict[str, torch.Tensor]] = []

    class Student(torch.nn.Module):
        def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
            seen.append(x)
            return torch.zeros(len(x["image"]), 2)

    inputs, every = training.inputs(samples, 1.0), torch.arange(400)
    for helped, step in ((True, 0), (True, 1), (False, 0)):
        training.loss(Student(), inputs, 0.5, helped, every, step)
    dropped = [(x["text"] == 0).all(dim=1) for x in seen]
    assert 150 < int(dropped[0].sum()) < 250 and not torch.equal(dropped[0], dropped[1]) and not dropped[2].any()
    assert torch.equal(seen[0]["image"], seen[2]["image"])


def test_a_linear_student_with_captions_starts_from_the_student_of_images(cache: Cache) -> None:
    draws = torch.Generator().manual_seed(0)
    values = {"image": torch.rand(40, 6, generator=draws), "text": torch.rand(40, 3, generator=draws)}
    training = Training(
        Classification(**SHORT, dim=0),
        Labelled(values, torch.arange(40) % 2, torch.arange(40)),
        2,
        Context(0, Runtime(cache=cache)),
        None,
    )
    alone, _, _ = training.candidate(("image",), 1.0, 0.5, None)
    helped, _, _ = training.candidate(("image", "text"), 1.0, 0.5, None, helped=True)
    own, both = (dict(student.named_parameters()) for student in (alone, helped))
    assert own and all(torch.equal(value, both[name]) for name, value in own.items())


def test_help_of_captions_that_are_not_there_is_refused(cache: Cache) -> None:
    with pytest.raises(ConfigError, match="has no captions"):
        bare = toy_source(24, "train", ("image", "label"))
        evaluate(bare, toy_source(24, "test"), "classification", SPACE, 1, cache=cache, captions="train_only", **SHORT)
    with pytest.raises(ConfigError, match="no text encoder"):
        images = lb.space(image="convnet")
        evaluate(
            toy_source(),
            toy_source(24, "test"),
            "classification",
            images,
            1,
            cache=cache,
            captions="train_only",
            **SHORT,
        )


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="`dim` of classification must be 0 or more"):
        Classification(dim=-1)


def test_titles_say_what_is_read() -> None:
    assert Classification(captions="train_only", dim=0).title == (
        "classification, frozen student, linear joint head, captions in training alone"
    )
    assert Classification(captions="none").title.endswith("without captions")
