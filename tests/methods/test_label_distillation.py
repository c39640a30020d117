"""label_distillation: its steps against a naive computation, what it keeps, what it learns, pools, soft labels, refusals."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import limbeck as lb
import naive
from followed import follow
from limbeck.check import toy_source
from limbeck.core import Problem, Synthetic
from limbeck.data import Cache
from limbeck.data.vectors import VectorSource
from limbeck.errors import ConfigError, DataError, StorageError
from limbeck.evaluation import evaluate
from limbeck.evaluation.protocols.classification import Classification
from limbeck.methods.labels.label_distillation import LabelDistillation, fitted_scale
from limbeck.objectives.kernel import ridge_map
from limbeck.report.gallery import cards
from limbeck.runtime.runtime import Runtime
from limbeck.spaces import Space, embed_source
from tiers import slow_but

TINY = {"name": "convnet", "width": 8}


def toy(pairs: int = 5, n: int = 14, modalities: tuple[str, ...] = ("image", "text"), image: Any = TINY) -> Problem:
    named = {"image": image, "text": "bag_of_words"}
    space = lb.space(**{m: named[m] for m in modalities if m in named})
    return Problem(toy_source(n, modalities=modalities), space, lb.Budget(pairs=pairs))


def sensors(pairs: int = 6, n: int = 30, classes: int = 3, seed: int = 0) -> Problem:
    """Sound and pulse as vectors that know their class."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    values = {
        m: F.one_hot(labels, d).float() + 0.4 * torch.randn(n, d, generator=draw)
        for m, d in (("audio", 5), ("pulse", 6))
    }
    source = VectorSource("sensors", values, labels)
    return Problem(source, lb.space(audio="vectors:5", pulse="vectors:6"), lb.Budget(pairs=pairs))


def drawn(of: Problem, t: int, batch: int, purpose: str = "real") -> list[int]:
    """Positions of candidates of different samples, in the order of the stream of a step."""
    sample, draw = of.candidates.sample.tolist(), of.rng(purpose, t)
    order = torch.randperm(len(sample), generator=draw).tolist()
    first = list(naive.one_each(order, sample).values())
    return [first[k] for k in torch.randperm(len(first), generator=draw)[:batch].tolist()]


@pytest.mark.parametrize("batch", [4, 99])
def test_steps_of_texts(batch: int) -> None:
    """InfoNCE of real pairs through two ridge regressions; that of the images is one of stored pixels, and never changes."""
    of = toy()
    method = LabelDistillation(steps=7, batch=batch, ridge=3.0, temperature=0.2, lr=0.02)
    seen = []

    def terms(t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        chosen = drawn(of, t, batch)
        seen.append(tuple(chosen))
        pixels = of.source.batch(synthetic.origin)["image"].mul(255).round() / 255
        kept = of.space["image"](pixels).double()
        real = {m: of.features[m].vectors.double()[of.candidates.rows[m][chosen]] for m in ("image", "text")}
        f = naive.unit(naive.ridge_tower(kept, real["image"], 3.0))
        g = naive.unit(naive.ridge_tower(naive.unit(own["text"].double()), real["text"], 3.0))
        return {"loss": naive.infonce(f, g, 0.2)}

    logs = follow(of, method, terms, naive.Adam(), lambda t, m: 0.02 * naive.half_cosine(t, 7), steps=4)
    assert len(set(seen)) == 4 and len({log["loss"] for log in logs}) == 4
    assert len(seen[0]) == min(batch, 14)


@pytest.mark.slow
def test_steps_of_soft_labels_with_two_inputs() -> None:
    """Cross-entropy of two kernel ridge regressions, each at the scale that fits the labels of the start."""
    of = sensors()
    method = LabelDistillation(steps=9, batch=12, ridge=2.0, lr=0.05)
    labels = of.source.labels
    assert labels is not None

    def scores(m: str, index: Tensor, rows: list[int], logits: Tensor) -> Tensor:
        x = of.features[m].vectors.double()
        return naive.ridge_tower(x[index], x[rows], 2.0) @ logits

    def scale(m: str, index: Tensor) -> float:
        rows = drawn(of, 0, 4096, "scale")
        z = scores(m, index, rows, F.one_hot(labels[index], 3).double() * math.log(0.9 / 0.05))
        return naive_scale(z, labels[rows])

    def terms(t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        rows, found = drawn(of, t, 12), {}
        for m, d in (("audio", 5), ("pulse", 6)):
            s = scale(m, synthetic.origin) * scores(m, synthetic.origin, rows, own["soft_label"].double())
            common = own["soft_label"].double().mean(0)
            found[f"{m} vectors:{d}"] = naive.soft_entropy(s + common, F.one_hot(labels[rows], 3).double())
        return {"loss": naive.mean(list(found.values())), **found}

    follow(of, method, terms, naive.Adam(), lambda t, m: 0.05 * naive.half_cosine(t, 9), steps=4)


def naive_scale(scores: Tensor, labels: Tensor) -> float:
    """The best of a grid, then of finer ones around it."""
    size = float(scores.square().mean().sqrt())

    def loss(s: float) -> float:
        return float(naive.soft_entropy(s * scores, F.one_hot(labels, scores.shape[1]).double()))

    best = min((10 ** (k / 20) / size for k in range(-60, 15)), key=loss)
    for fine in (400, 8000):
        best = min((best * 10 ** (k / fine) for k in range(-20, 21)), key=loss)
    return min(best, 5.0 / size)


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_the_scale_of_class_scores(noise: float) -> None:
    draw = torch.Generator().manual_seed(3)
    labels = torch.arange(60) % 3
    scores = F.one_hot(labels, 3) + noise * torch.randn(60, 3, generator=draw)
    assert fitted_scale(7 * scores, labels) == pytest.approx(naive_scale(7 * scores.double(), labels), rel=0.01)
    assert fitted_scale(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long)) == 1.0
    assert fitted_scale(-scores, labels) == pytest.approx(1 / float(scores.square().mean().sqrt()), rel=1e-3)


def test_steps_of_vectors_of_another_modality() -> None:
    of = sensors()
    method = LabelDistillation(steps=5, batch=8, ridge=2.0, temperature=0.1, lr=0.02, learn="pulse")

    def terms(t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        rows, x = drawn(of, t, 8), {m: of.features[m].vectors.double() for m in ("audio", "pulse")}
        f = naive.unit(naive.ridge_tower(x["audio"][synthetic.origin], x["audio"][rows], 2.0))
        g = naive.unit(naive.ridge_tower(naive.unit(own["pulse"].double()), x["pulse"][rows], 2.0))
        return {"loss": naive.infonce(f, g, 0.1)}

    follow(of, method, terms, naive.Adam(), lambda t, m: 0.02 * naive.half_cosine(t, 5))


@pytest.mark.parametrize(("m", "d"), [(4, 9), (9, 4), (6, 6)])
def test_the_matrix_of_a_ridge_tower(m: int, d: int) -> None:
    """More vectors than components, or fewer: the same regression, whichever system is solved."""
    draw = torch.Generator().manual_seed(0)
    own, points = (torch.randn(n, d, generator=draw, dtype=torch.float64) for n in (m, 5))
    found = (points - own.mean(0)) @ ridge_map(own, 0.7)
    torch.testing.assert_close(found, naive.ridge_tower(own, points, 0.7))


def test_without_steps_nothing_is_learned() -> None:
    """The baseline of the idea: the mean direction of a sample's captions; its label as it is."""
    of = toy()
    small = lb.distill(of, LabelDistillation(steps=0))
    rows = of.features["text"]
    for i, key in enumerate(small.origins):
        own = rows.vectors[rows.owner == of.source.keys.index(key)]
        assert len(own) == 2
        torch.testing.assert_close(small.tensors["text"][i], F.normalize(own.mean(0), dim=0))
    assert small.moved == [1.0] * 5
    labelled = lb.distill(sensors(), LabelDistillation(steps=0))
    assert torch.equal(labelled.soft_labels.argmax(1), labelled.labels)  # type: ignore[union-attr]
    torch.testing.assert_close(labelled.soft_labels.sort(1).values, torch.tensor([[0.05, 0.05, 0.9]] * 6))  # type: ignore[union-attr]


def test_no_pixel_is_held_and_no_network_runs_in_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of = toy(modalities=("image", "text", "label"))
    walk = lb.steps(of, LabelDistillation(steps=6), tmp_path / "run", save_every=1)
    state, after = next(walk), next(walk)
    held = {**dict(state.synthetic.named_parameters()), **dict(state.synthetic.named_buffers())}
    assert {name: tuple(v.shape) for name, v in held.items()} == {
        "learned.text": (5, 256), "origin": (5,), "caption": (5,), "labels": (5,)
    }  # fmt: skip
    assert state.synthetic.kept == ("image",) and after.step == 1

    def run(*_: object) -> None:
        raise AssertionError("a step runs a network")

    monkeypatch.setattr("limbeck.spaces.space.Encoder.__call__", run)
    monkeypatch.setattr("limbeck.check.ToySource.batch", run)
    assert [state.step for state in walk] == [2, 3, 4, 5, 6]


def test_samples_are_those_of_the_source() -> None:
    of = toy(modalities=("image", "text", "label"))
    small, other = (lb.distill(of, LabelDistillation(steps=3, init=init)) for init in ("random", "kmeans"))
    rows = [of.source.keys.index(key) for key in small.origins]
    assert torch.equal(small.tensors["image"], of.source.batch(rows)["image"].mul(255).round().byte())
    assert torch.equal(small.labels, of.source.labels[rows])  # type: ignore[index,arg-type]
    assert small.origins != other.origins
    learned = small.tensors["text"]
    means = of.features["text"].directions(14)[rows]
    assert small.moved == pytest.approx((learned * means).sum(1).tolist(), abs=1e-4)
    assert max(small.moved) < 0.9999, "every text has moved"
    nearest = of.features["text"].vectors @ learned[0]
    assert small.neighbours[0][0] == (of.captions[int(nearest.argmax())], pytest.approx(float(nearest.max()), abs=1e-4))


def test_it_learns() -> None:
    """The loss on all real pairs falls, for texts and for labels."""
    for of, method in (
        (toy(6, 24), LabelDistillation(steps=40, lr=0.05)),
        (sensors(), LabelDistillation(steps=40, lr=0.05)),
    ):
        losses = [state.logs["loss"] for state in lb.steps(of, method) if state.step]
        assert losses[-1] < losses[0] - 0.01


def test_texts_can_be_kept_and_labels_learned() -> None:
    of = toy(modalities=("image", "text", "label"))
    small = lb.distill(of, LabelDistillation(steps=3, learn="label"))
    assert "text" not in small.tensors and small.soft_labels is not None and small.moved == []
    for captions, key in zip(small.captions, small.origins, strict=True):
        assert sorted(captions) == sorted(of.source.captions[of.source.keys.index(key)])
    state = list(lb.steps(of, LabelDistillation(steps=2, learn="label")))[-1]
    assert {"image convnet", "text bag_of_words"} <= set(state.logs)
    assert state.logs["loss"] == pytest.approx((state.logs["image convnet"] + state.logs["text bag_of_words"]) / 2)


# Pools --------------------------------------------------------------------------------------------------------------------


POOL = "pool:convnet+efficientnet_lite0"


def test_each_member_of_a_pool_has_a_loss_of_its_own(tmp_path: Path) -> None:
    def problem(image: str) -> Problem:
        return replace(toy(image=image, n=8), cache=Cache(tmp_path))

    method = LabelDistillation(steps=2, batch=8)
    logs = {}
    for image in ("convnet", "efficientnet_lite0", POOL):
        walk = lb.steps(problem(image), method)
        next(walk)
        logs[image] = next(walk).logs
    found = {name: logs[POOL][f"image {name}"] for name in ("convnet", "efficientnet_lite0")}
    assert found == {name: pytest.approx(logs[name]["loss"], rel=1e-5) for name in found}
    assert logs[POOL]["loss"] == pytest.approx(sum(found.values()) / 2)
    assert not (tmp_path / "limbeck").exists()


def test_features_of_members_are_shared_with_those_of_one_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, source = Cache(tmp_path), toy_source(8, modalities=("image", "text"))
    for name in ("convnet", "efficientnet_lite0"):
        embed_source(source, lb.space(image=name, text="bag_of_words"), cache)
    read = []
    monkeypatch.setattr("limbeck.spaces.embed._encode", lambda *_: read.append(1))
    of = Problem(source, lb.space(image=POOL, text="bag_of_words"), lb.Budget(pairs=3), cache=cache)
    lb.distill(of, LabelDistillation(steps=1))
    assert not read


def test_who_has_one_tower_refuses_a_pool() -> None:
    with pytest.raises(
        ConfigError, match=r"dm learns with one image encoder, and this is a pool of convnet and eff.*label_dis"
    ):
        lb.distill(toy(image=POOL), lb.methods.DM(steps=1))
    with pytest.raises(ConfigError, match="learns vectors of one audio encoder, and this is a pool"):
        of = Problem(sensors().source, lb.space(pulse="vectors:6", audio=POOL), lb.Budget(pairs=2))
        LabelDistillation(learn="audio").check(of)


def test_rules_and_students_read_the_first_member(tmp_path: Path) -> None:
    source, cache = toy_source(16), Cache(tmp_path)
    spaces = [lb.space(image=name, text="bag_of_words") for name in ("convnet", POOL)]
    one, pooled = (
        lb.distill(Problem(source, s, lb.Budget(pairs=6), cache=cache), lb.methods.Herding()) for s in spaces
    )
    assert one.origins == pooled.origins
    scores = [evaluate(one, source, space=s, seeds=1, steps=4, selection="paper", cache=cache) for s in spaces]
    assert [s.values for s in scores[0]] == [s.values for s in scores[1]]


def test_doctor_hears_of_steps_without_networks_and_of_the_members_of_a_pool() -> None:
    of, method = toy(image=POOL, n=8), LabelDistillation(steps=10)
    costs, (seconds, size) = method.estimates(of), method.preparation_cost(of)
    assert costs["memory for what is learned, estimated"] == 16 * 5 * 256
    assert 0 < costs["seconds of all steps, estimated"] < 10 and seconds > 0
    assert size == 4 * 1280 * 8, "the features of the second member"
    assert LabelDistillation(steps=10).preparation_cost(toy(n=8)) == (0.0, 0)


# Soft labels --------------------------------------------------------------------------------------------------------------


def learned(tmp_path: Path) -> Path:
    return lb.distill(sensors(), LabelDistillation(steps=20, lr=0.05)).save(tmp_path / "set")


def test_soft_labels_survive_the_disk(tmp_path: Path) -> None:
    small = lb.load(learned(tmp_path))
    again = lb.distill(sensors(), LabelDistillation(steps=20, lr=0.05))
    assert torch.equal(small.soft_labels, again.soft_labels)  # type: ignore[arg-type]
    assert small.fingerprint == again.fingerprint
    assert small.sizes["soft_label"] == 6 * 3 * 4
    assert "- Labels: soft" in (tmp_path / "set" / "README.md").read_text()
    other = replace(small, tensors={**small.tensors, "soft_label": small.soft_labels.flip(0)})  # type: ignore[union-attr]
    assert other.fingerprint != small.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x - 0.2, "shares of the classes"),
        (lambda x: 2 * x, "shares of the classes"),
        (lambda x: x[:, :2], "shape \\[6, 2\\], they must have \\[6, 3\\]"),
        (lambda x: x / 0, "not finite"),
    ],
)
def test_soft_labels_that_are_none_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    small = lb.load(learned(tmp_path))
    wrong = replace(small, tensors={**small.tensors, "soft_label": change(small.soft_labels).contiguous()})
    with pytest.raises(StorageError, match=message):
        lb.load(wrong.save(tmp_path / "wrong"))


def test_what_moved_survives_the_disk_and_is_checked(tmp_path: Path) -> None:
    small = lb.distill(toy(), LabelDistillation(steps=3))
    again = lb.load(small.save(tmp_path / "set"))
    assert list(again.moved) == list(small.moved) and len(again.moved) == 5
    assert json.loads((tmp_path / "set" / "manifest.json").read_text())["moved"] == list(small.moved)
    with pytest.raises(StorageError, match="5 numbers between -1 and 1"):
        lb.load(replace(small, moved=[0.1, 2.0, 0.1, 0.1, 0.1]).save(tmp_path / "far"))


@pytest.mark.parametrize("dim", slow_but([0, 8], 0))
def test_students_are_trained_with_soft_labels(dim: int) -> None:
    """Where hard labels are wrong and soft ones right, students of one modality and of both follow the soft ones."""
    of = sensors(pairs=12, n=60)
    small = lb.distill(of, LabelDistillation(steps=0))
    wrong = replace(small, tensors={**small.tensors, "label": (small.labels + 1) % 3})  # type: ignore[operator]
    judge = Classification(selection="last", steps=60, dim=dim, noise=(0.5,), ridge=(1.0,))

    def accuracy(which: Any) -> dict[str, float]:
        test = sensors(n=60, seed=5).source
        return {s.metric: s.mean for s in evaluate(which, test, judge, of.space, seeds=1)}

    right, swapped = accuracy(small), accuracy(wrong)
    assert swapped == right and min(right.values()) > 60
    hard = {k: v for k, v in wrong.tensors.items() if k != "soft_label"}
    assert max(accuracy(replace(wrong, tensors=hard)).values()) < 40


def test_networks_on_pixels_are_trained_with_soft_labels() -> None:
    of = toy(pairs=8, n=24, modalities=("image", "label"))
    small = lb.distill(of, LabelDistillation(steps=0))
    wrong = replace(small, tensors={**small.tensors, "label": (small.labels + 1) % 4})  # type: ignore[operator]
    judge = Classification(student="convnet:8", selection="last", epochs=3, resolution=16)
    test = toy_source(16, "test", ("image", "label"))
    scores = [evaluate(x, test, judge, of.space, seeds=1)[0].values for x in (small, wrong)]
    assert scores[0] == scores[1]


def test_the_loss_of_a_student_is_that_of_the_shares() -> None:
    """Of three classes in equal shares a student learns to say that it does not know."""
    of = sensors(pairs=9, n=60)
    small = lb.distill(of, LabelDistillation(steps=0))
    flat = replace(small, tensors={**small.tensors, "soft_label": torch.full((9, 3), 1 / 3)})
    judge = Classification(selection="last", steps=80, noise=(0.5,), ridge=(1.0,))
    from limbeck.evaluation.protocol import Context

    context = Context(0, Runtime(cache=of.cache))
    train = judge.read(flat, ("audio",), of.space, context, 0)
    trainer = judge.trainer(train, ("audio",), 3, context)
    shares = trainer.logits(trainer.chosen(None), train).softmax(dim=1)
    torch.testing.assert_close(shares, torch.full((9, 3), 1 / 3), atol=0.03, rtol=0)


def test_parts_with_and_without_soft_labels_are_joined() -> None:
    from limbeck.evaluation.protocols._fusion import Labelled

    values, rows = {"a": torch.zeros(2, 1)}, torch.arange(2)
    soft = Labelled(values, torch.tensor([0, 1]), rows, shares=torch.tensor([[0.7, 0.3, 0.0], [0.2, 0.3, 0.5]]))
    hard = Labelled(values, torch.tensor([2, 0]), rows)
    joined = Labelled.join([hard, soft]).take(torch.tensor([3, 0]))
    assert joined.shares is not None and torch.allclose(joined.shares, torch.tensor([[0.2, 0.3, 0.5], [0.0, 0.0, 1.0]]))


def test_a_page_names_the_shares_of_a_label() -> None:
    small = lb.distill(sensors(), LabelDistillation(steps=0))
    shares = small.soft_labels.clone()  # type: ignore[union-attr]
    shares[0] = torch.tensor([0.004, 0.696, 0.3])
    shown = cards(replace(small, tensors={**small.tensors, "soft_label": shares}), None, max_pairs=2, sets=1)
    assert shown[0].label == "1 70 %, 2 30 %"


def test_a_page_says_how_far_each_vector_moved(tmp_path: Path) -> None:
    from limbeck.report import show

    of = toy()
    small = lb.distill(of, LabelDistillation(steps=0))
    far = replace(small, moved=[0.12, 0.34, 0.56, 0.78, 0.9])
    assert [card.moved for card in cards(far, None, max_pairs=3, sets=1)] == [0.12, 0.34, 0.56]
    folder = far.save(tmp_path / "set")
    page = show(folder, out=tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'its own: <span class="number">0.34</span>' in page


# Vectors of any modality --------------------------------------------------------------------------------------------------


def test_learned_vectors_of_sound_are_read_by_students(tmp_path: Path) -> None:
    of = sensors()
    made = lb.distill(of, LabelDistillation(steps=4, learn="audio"))
    small = lb.load(made.save(tmp_path / "set"))
    assert small.fingerprint == made.fingerprint and small.embedded_by == {"audio": of.space["audio"].fingerprint}
    seen = embed_source(small, of.space, Cache(tmp_path / "cache"))
    torch.testing.assert_close(seen["audio"].vectors, F.normalize(made.tensors["audio"], dim=1))
    assert not torch.equal(seen["audio"].vectors, seen["pulse"].vectors[:, :5]) and len(made.moved) == 6
    test = sensors(n=20, seed=4).source
    scores = evaluate(
        small, test, "retrieval", of.space, seeds=1, steps=5, selection="paper", cache=Cache(tmp_path / "c")
    )
    assert {s.metric for s in scores} >= {"audio to pulse R@1", "mean"}
    with pytest.raises(DataError, match="its audio is vectors that were learned"):
        evaluate(small, test, "classification", of.space, student="convnet", selection="last", seeds=1)


# Refusals -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modalities", "options", "error", "message"),
    [
        (("image",), {}, DataError, "learns texts, or labels of two classes or more, and toy.* has image alone"),
        (("image", "text"), {"learn": "label"}, DataError, "label_distillation learns texts, or labels"),
        (("image", "text"), {"learn": "image"}, ConfigError, "keeps images as they are"),
        (("image", "text", "label"), {"learn": "sound"}, ConfigError, "cannot learn 'sound': .* image, text and labels"),
        (("text",), {"learn": "text"}, DataError, "has nothing beside it"),
        (("image", "text"), {"per_class": True}, DataError, "no labels"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_is_refused_before_anything_is_encoded(
    modalities: tuple[str, ...],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def encode(*_: object, **__: object) -> None:
        raise AssertionError("something was encoded")

    monkeypatch.setattr("limbeck.core.problem.embed_source", encode)
    with pytest.raises(error, match=message):
        lb.distill(toy(modalities=modalities), LabelDistillation(**options))


@pytest.mark.parametrize("options", [{"steps": -1}, {"batch": 1}, {"ridge": 0.0}, {"temperature": 0.0}, {"lr": -1.0}])
def test_numbers_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=f"`{name}` of label_distillation must be"):
        LabelDistillation(**options)


def test_samples_without_a_label_are_not_chosen() -> None:
    of = sensors()
    labels = of.source.labels.clone()  # type: ignore[union-attr]
    labels[10:] = -1
    values = {m: of.source.batch(range(30))[m] for m in ("audio", "pulse")}
    some = Problem(VectorSource("some", values, labels), of.space, lb.Budget(pairs=6))
    for per_class in (None, False):
        small = lb.distill(some, LabelDistillation(steps=3, per_class=per_class))
        assert {some.source.keys.index(key) for key in small.origins} <= set(range(10))


@pytest.mark.parametrize("learn", ["text", "label", "audio"])
@pytest.mark.slow
def test_a_budget_in_bytes_is_that_of_the_files(learn: str, tmp_path: Path) -> None:
    of = toy(n=24, modalities=("image", "text", "label")) if learn != "audio" else sensors()
    sizes = []
    for limit in (14_000, 20_000):
        bought = replace(of, budget=lb.Budget(bytes=limit), cache=Cache(tmp_path / "cache"))
        small = lb.distill(bought, LabelDistillation(steps=2, learn=learn, per_class=False))
        folder = small.save(tmp_path / f"{learn}{limit}")
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        assert size == small.nbytes <= limit
        sizes.append(len(small))
    assert sizes[0] < sizes[1] or sizes[1] == len(of.source)


def test_space_of_one_encoder_is_no_pool() -> None:
    assert isinstance(toy().space, Space) and LabelDistillation.pools == "all" and lb.methods.DM.pools == "none"


def test_soft_labels_learn_how_common_each_class_is() -> None:
    """Towers are centred, so only the intercept sees the mean of the labels; without it that mean drifts and students believe it."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 36 + [1] * 12 + [2] * 12)
    values = {"audio": F.one_hot(labels, 5).float() + 0.8 * torch.randn(60, 5, generator=draw)}
    source = VectorSource("sensors", values, labels)
    of = Problem(source, lb.space(audio="vectors:5"), lb.Budget(pairs=6))
    small = lb.distill(of, LabelDistillation(steps=150, batch=60, learn="label"))
    assert small.soft_labels is not None
    shares = small.soft_labels.log().mean(0).softmax(0)
    torch.testing.assert_close(shares, torch.tensor([0.6, 0.2, 0.2]), atol=0.15, rtol=0)


def test_labels_begin_at_herding_and_captions_at_random_samples() -> None:
    of, pictures = sensors(), toy()
    for problem, name in ((of, "herding"), (pictures, "random")):
        made, asked = (lb.distill(problem, LabelDistillation(steps=0, init=init)) for init in (None, name))
        assert made.origins == asked.origins
    assert (
        lb.distill(of, LabelDistillation(steps=0, init="random")).origins
        != lb.distill(of, LabelDistillation(steps=0)).origins
    )


@pytest.mark.parametrize(("samples", "temperature"), [(1, 0.3), (20, 0.3), (100, 0.14), (400, 0.0875)])
def test_the_temperature_falls_with_the_number_of_samples(samples: int, temperature: float) -> None:
    assert LabelDistillation().temperature_of(samples) == pytest.approx(temperature)
    assert LabelDistillation(temperature=0.5).temperature_of(samples) == 0.5


def test_none_is_refused_where_it_is_no_default() -> None:
    assert LabelDistillation(lr=None, temperature=None).lr is None
    with pytest.raises(ConfigError, match="`steps` of label_distillation must be a whole number, got None"):
        LabelDistillation(steps=None)  # type: ignore[arg-type]
