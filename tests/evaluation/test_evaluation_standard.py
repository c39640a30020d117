"""The standard protocol of the distillation literature, and one table of several students."""

import sys
from dataclasses import replace

import pytest
import torch

from limbeck.check import toy_source
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation import Score, compare, evaluate
from limbeck.evaluation.protocols.classification import Classification
from limbeck.evaluation.protocols.retrieval import Retrieval
from limbeck.evaluation.table import across, titles
from limbeck.students import Schedule, fit, siamese_augment


def test_the_standard_is_one_option():
    plain, more = (Classification(student="vgg11", selection="last", siamese=siamese) for siamese in (False, True))
    assert (plain.optimizer, plain.rate, plain.batch, plain.epochs, plain.steps) == ("sgd", 0.01, 256, 300, None)
    assert more.epochs == 1000 and plain.looks == more.looks == 1
    assert plain.title == "classification, vgg11 student, last of 300 epochs, SGD"
    assert more.title == "classification, vgg11 student, last of 1000 epochs, SGD, Siamese augmentation"
    frozen = Classification(selection="last")
    assert (frozen.optimizer, frozen.steps, frozen.epochs, frozen.grid) == ("adamw", 400, None, [(30.0, 1.0)])
    assert frozen.title == "classification, frozen student, last of 400 steps"


def test_what_was_before_is_what_it_was():
    for student in ("frozen", "convnet"):
        one = Classification(student=student)
        assert (one.optimizer, one.epochs, one.selection) == ("adamw", None, "clean") and one.steps
        assert one.title == f"classification, {student} student" and one.paced(7) == one.schedule


def test_options_of_the_standard_stand_alone():
    assert Classification(student="convnet", optimizer="sgd").epochs == 300
    assert Classification(student="convnet", selection="last", steps=50).steps == 50
    assert Classification(student="convnet", selection="last", steps=50).epochs is None
    assert Classification(student="convnet", selection="last", optimizer="adamw").steps == 300
    five = Classification(student="convnet", epochs=5)
    assert five.steps is None and five.title == "classification, convnet student, 5 epochs"
    assert replace(five, augment=False).epochs == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 5, "epochs": 5}, "steps or epochs, not both"),
        ({"selection": "last", "noise": (0.5, 1.0)}, "'last' chooses nothing"),
        ({"siamese": True, "student": "frozen"}, "`siamese=True` .* the student reads frozen features"),
        ({"epochs": 0}, "`epochs` of classification must be 1 or more"),
    ],
)
def test_what_cannot_work_is_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        Classification(**{"student": "convnet", **options})


def test_retrieval_chooses_always():
    with pytest.raises(ConfigError, match="`selection` of retrieval must be clean or paper, got 'last'"):
        Retrieval(selection="last")


@pytest.mark.draws_globally
@pytest.mark.parametrize("samples", [1, 2, 10, 255, 256, 257, 500, 1000])
def test_epochs_take_every_sample_but_a_rest_smaller_than_the_number_of_batches(samples):
    pace, seen, model = Classification(student="convnet", epochs=3).paced(samples), [], torch.nn.Linear(1, 1)

    def loss(index, t):
        seen.append(index)
        return model.weight.sum()

    list(fit(model, loss, samples, pace, seed=0, device="cpu"))
    batches = -(-samples // 64)
    assert len(seen) == 3 * batches and len({len(x) for x in seen}) == 1 and len(seen[0]) <= 64
    for epoch in range(3):
        taken = torch.cat(seen[epoch * batches : (epoch + 1) * batches])
        assert len(taken.unique()) == len(taken) > samples - batches


@pytest.mark.draws_globally
def test_sgd_is_that_of_pytorch_and_slows_down_at_half():
    """Six steps by hand: momentum 0.9, weight decay 5e-4, a tenth of the rate from the fourth on."""
    student = torch.nn.Linear(3, 1)
    x = torch.randn(8, 3)
    weight, bias = student.weight.detach().clone(), student.bias.detach().clone()
    speed = [torch.zeros_like(weight), torch.zeros_like(bias)]
    schedule = Schedule(steps=6, batch=8, rate=0.1, looks=1, optimizer="sgd")
    list(fit(student, lambda index, t: student(x).square().mean(), 8, schedule, 0, "cpu"))
    for t in range(6):
        y = x @ weight.T + bias
        slopes = [2 * y.T @ x / 8, 2 * y.mean(0)]
        for value, v, slope in zip((weight, bias), speed, slopes, strict=True):
            v.mul_(0.9).add_(slope + 5e-4 * value)
            value -= (0.1 if t < 3 else 0.01) * v
    torch.testing.assert_close(student.weight.detach(), weight)
    torch.testing.assert_close(student.bias.detach(), bias)


class Blind(type(toy_source())):  # type: ignore[misc]
    """The toy data without a validation split."""

    splits = ("train", "test")

    def split(self, name):
        return Blind(split=name, **self.options)


def test_the_last_student_is_tested_and_no_other(space, cache, monkeypatch):
    """The test data are looked at once; no validation split is asked for."""
    module = sys.modules["limbeck.evaluation.protocols._fusion"]
    looked, judge = [], module.Training.logits
    monkeypatch.setattr(module.Training, "logits", lambda self, s, x: looked.append(s.training) or judge(self, s, x))
    data = Blind(12, "train", ("image", "label"), 16)
    options = {"student": "convnet", "resolution": 16, "cache": cache}
    with pytest.raises(DataError, match=r"no validation split.*--protocol.selection last"):
        evaluate(data, data, "classification", space, 1, **options)
    (found,) = evaluate(data, data, "classification", space, 2, selection="last", epochs=4, **options)
    assert len(looked) == 2 and found.seeds == (0, 1)
    assert found.protocol == "classification, convnet student, last of 4 epochs, SGD"


def test_distortions_are_drawn_for_each_image_and_leave_the_global_generator_alone():
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).mul(255).byte().expand(6, -1, -1, -1)
    g, apart = torch.Generator().manual_seed(0), 0
    for _ in range(12):
        found = siamese_augment(image, g)
        assert found.shape == image.shape and found.dtype == torch.float32 and found.min() >= 0 and found.max() <= 1
        apart += not torch.equal(found[0], found[1])
    assert apart > 6
    assert torch.equal(
        siamese_augment(image, torch.Generator().manual_seed(3)),
        siamese_augment(image, torch.Generator().manual_seed(3)),
    )


def test_siamese_takes_the_place_of_mirror_and_shift(space, cache, monkeypatch):
    module, called = sys.modules["limbeck.evaluation.protocols._fusion"], []
    for name in ("siamese_augment", "crop_flip"):
        inner = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, n=name, f=inner, **k: called.append(n) or f(*a, **k))
    data = toy_source(12, modalities=("image", "label"))
    options = {"student": "convnet", "resolution": 16, "cache": cache, "selection": "last", "epochs": 2}
    evaluate(data, data, "classification", space, 1, siamese=True, **options)
    assert called == ["siamese_augment"] * 2


@pytest.mark.slow
def test_several_students_are_one_table(space, cache, tmp_path):
    networks = ("convnet", "alexnet")
    found = compare(
        toy_source(12, modalities=("image", "label")), ["random", "herding"], [4], 2, networks, space=space,
        run=tmp_path, cache=cache, protocol="classification", selection="last", resolution=16, epochs=2,
    )  # fmt: skip
    lines = str(found).splitlines()
    assert lines[0] == "classification, last of 2 epochs, SGD: accuracy by student  (2 seeds)"
    assert lines[1].split() == ["set", "pairs", "bytes", "convnet", "+-", "std", "alexnet", "+-", "std"]
    assert [line.split()[:2] for line in lines[2:]] == [["random", "4"], ["herding", "4"], ["full", "data"]]
    cells = {(s.name, s.protocol): f"{s.mean:.2f} +- {s.std:.2f}" for s in found.scores}
    assert len(cells) == 6
    for line, name in zip(lines[2:], ("random", "herding", "full data"), strict=True):
        shown = [cells[name, f"classification, {n} student, last of 2 epochs, SGD"] for n in networks]
        assert [part.strip() for part in line.split("  ") if "+-" in part] == shown
    markdown = (tmp_path / "table.md").read_text()
    assert markdown.index("accuracy by student") < markdown.index("fingerprint")
    assert markdown.count("fingerprint") == 2


def made(name, fingerprint, protocol, metric, values, up=True):
    common = {"method": name, "pairs": 9, "bytes": 9, "higher_is_better": up}
    return Score.of(values, name=name, fingerprint=fingerprint, protocol=protocol, metric=metric, **common)


def test_every_metric_has_its_table_and_its_direction():
    scores = [
        made(n, f, f"p, {f} student", m, (1.0, 2.0), m == "accuracy")
        for n in ("a", "b")
        for f in "xy"
        for m in ("accuracy", "flip rate")
        if (n, f) != ("b", "y")
    ]
    first, second = across(scores).split("\n\n")
    assert first.splitlines()[0] == "p: accuracy by student  (2 seeds)"
    assert second.splitlines()[0] == "p: flip rate (lower is better) by student  (2 seeds)"
    assert first.splitlines()[3].endswith(" -")  # nobody judged b by y
    assert across(scores, "markdown").count("|---|") == 2


def test_of_retrieval_the_mean_is_shown():
    scores = [made("a", f, f"p, {f} student", m, (1.0,)) for f in "xy" for m in ("IR@1", "IR@5", "IR@10", "mean")]
    assert across(scores).count("by student") == 1 and "p: mean by student" in across(scores)


def test_protocols_of_one_title_are_told_apart_by_their_fingerprints():
    scores = [made("a", f"{f}123456789", "p, convnet student", "m", (1.0,)) for f in "xy"]
    assert titles(scores) == ("p, convnet student", {"x123456789": "x12345", "y123456789": "y12345"})
