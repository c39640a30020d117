"""What an audit says of sets that are copies, noise, averages; of every method; and of data that lack something."""

import json
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import limbeck as lb
from limbeck import registry
from limbeck.check import toy_source
from limbeck.core import DistilledSet
from limbeck.core.method import Method
from limbeck.data import Batch, Modality, Source
from limbeck.data.vectors import VectorSource
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation.audit import Audit, audit
from limbeck.evaluation.protocols.classification import Classification
from limbeck.evaluation.protocols.retrieval import Retrieval
from limbeck.spaces import Space
from priors import GENERATIVE, tiny_prior

QUICK = {
    "steps": 2,
    "width": 8,
    "dim": 8,
    "experts": 1,
    "expert_batch": 8,
    "inner_steps": 2,
    "inner_batch": 4,
    "rank": 2,
}


class Clouds(type(toy_source())):  # type: ignore[misc]
    """Smooth random pictures that have nothing in common, with random labels: all that a student can do is learn by heart."""

    def __init__(self, n: int, split: str, modalities: tuple[str, ...], resolution: int) -> None:
        super().__init__(n, split, modalities, resolution)
        draw = torch.Generator().manual_seed(10 + ("train", "val", "test").index(split))
        self._image = F.interpolate(torch.rand(n, 3, 6, 6, generator=draw), (resolution, resolution), mode="bicubic")
        self._image = self._image.clamp(0, 1).mul(255).round() / 255
        self._colour = torch.randint(4, (n,), generator=draw)
        self.name, self.fingerprint = "clouds", f"clouds {split} {n} {resolution}"

    def split(self, name: str) -> Source:
        return Clouds(split=name, **self.options)


def clouds(n: int = 160, modalities: tuple[str, ...] = ("image", "label")) -> Source:
    return Clouds(n, "train", modalities, 24)


def space_of(*modalities: str) -> Space:
    return lb.space(**{m: {"image": "convnet", "text": "bag_of_words"}[m] for m in modalities})


def made(source: Source, image: Tensor, origins: list[str] | None = None, **more: Any) -> DistilledSet:
    kept = {m: source.modalities[m] for m in ("image", "label") if m in source.modalities}
    tensors = {"image": image.clamp(0, 1).mul(255).round().byte(), "label": torch.arange(len(image)) % 4}
    keys = origins if origins is not None else list(source.keys[: len(image)])
    empty: list[tuple[str, ...]] = [()] * len(image)
    return DistilledSet("a set", kept, {m: tensors[m] for m in kept}, captions=empty, origins=keys, **more)


def quick(source: Source, image: Tensor, **more: Any) -> Audit:
    return audit(made(source, image, **more), source, space_of("image"), seeds=0)


@pytest.mark.slow
def test_a_set_that_is_training_samples_is_memorised() -> None:
    source = clouds()
    found = quick(source, source.batch(range(20))["image"])
    assert {n.measure for n in found.nearness} == {"rmse", "ssim", "features"}
    for near in found.nearness:
        assert all(near.memorised) and near.nearest == tuple(source.keys[:20]) and near.returned == 1.0
        assert max(near.distance) < 1e-5 and max(near.origin) < 1e-5  # type: ignore[type-var]
    assert found.of("image")[0].unchanged == 1.0
    assert "image: 20 of 20 samples are memorised (RMSE: 20, 1 - SSIM: 20" in found.text()


@pytest.mark.slow
def test_a_slightly_changed_copy_is_memorised_and_its_origin_is_named() -> None:
    source = clouds()
    noise = 0.03 * torch.randn(20, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    near = quick(source, source.batch(range(20))["image"] + noise).of("image")[0]
    assert all(near.memorised) and near.nearest == tuple(source.keys[:20])
    assert near.unchanged is not None and 0.05 < near.unchanged < 0.4


@pytest.mark.slow
def test_noise_and_held_out_samples_are_not() -> None:
    source = clouds()
    noise = torch.rand(20, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    assert sum(quick(source, noise).memorised("image")) == 0
    fresh = Clouds(400, "val", ("image", "label"), 24).batch(range(300, 400))["image"]
    found = quick(source, fresh)
    assert sum(found.memorised("image")) <= 4
    assert all(sum(n.called) <= 0.02 * len(n.called) for n in found.nearness)


@pytest.mark.slow
def test_an_average_is_near_to_all_and_memorised_of_none() -> None:
    source = clouds()
    means = source.batch(range(160))["image"].view(8, 20, 3, 24, 24).mean(1)
    near = quick(source, means).of("image")[0]
    assert near.bound is not None and max(near.distance) < near.bound  # by distance alone all of them would be
    assert not any(near.memorised)


def test_the_wrong_neighbour_is_told_from_the_origin() -> None:
    source = clouds()
    keys = list(source.keys)
    near = quick(source, source.batch(range(10))["image"], origins=keys[10:20]).of("image")[0]
    assert near.nearest == tuple(keys[:10]) and near.returned == 0.0 and min(near.origin) > 0.05  # type: ignore[type-var]


@pytest.mark.slow
def test_a_copy_of_a_sample_that_the_data_hold_twice_is_traced_to_its_own() -> None:
    source = clouds()
    source._image[:10] = source._image[20:30]  # type: ignore[attr-defined]
    source.fingerprint += " twins"
    near = quick(source, source.batch(range(20, 30))["image"], origins=list(source.keys[20:30])).of("image")
    assert all(n.returned == 1.0 and n.nearest == tuple(source.keys[20:30]) and all(n.memorised) for n in near)


@pytest.mark.slow
def test_membership_finds_origins_and_nothing_in_the_control() -> None:
    source = clouds()
    small = made(source, source.batch(range(40))["image"])
    small = replace(small, tensors={**small.tensors, "label": source.labels[:40]})  # type: ignore[index]
    options = Classification(noise=(0.1,), ridge=(1.0,), steps=60, rate=0.01)
    found = audit(small, source, space_of("image"), student=options, seeds=2, shadows=8)
    leaks = {(leak.target, leak.attack): leak for leak in found.leaks}
    assert len(leaks) == 12
    for attack in ("loss", "LiRA"):
        assert leaks["the set", attack].auc.low > 0.8 and leaks["its origins", attack].auc.low > 0.8
        control = leaks["other samples", attack].auc
        assert control.low < 0.5 < control.high
    assert leaks["the set", "loss"].tpr.value > 0.3
    assert audit(small, source, space_of("image"), student=options, seeds=2, shadows=8) == found
    assert "classification, frozen student of image; 2 students a row, 8 shadow students" in found.text()
    assert json.loads(json.dumps(found.data()))["memorised"] == {"image": 40}


@pytest.mark.slow
def test_membership_of_pairs_without_labels() -> None:
    source = toy_source(60, modalities=("image", "text"))
    problem = lb.Problem(source, space_of("image", "text"), lb.Budget(pairs=12))
    for method in (lb.methods.Random(), lb.methods.CF(steps=2)):  # texts as strings, and as vectors
        student = Retrieval(noise=(1.0,), steps=20)
        found = audit(lb.distill(problem, method), source, student=student, seeds=1, shadows=2)
        assert found.students.startswith("retrieval, frozen student of image and text")
        assert {leak.target for leak in found.leaks} == {"the set", "its origins", "other samples", "all data"}
        assert all(0 <= leak.auc.low <= leak.auc.value <= leak.auc.high <= 1 for leak in found.leaks)
        assert [d.modality for d in found.diversity] == ["image", "text"]
        assert list(found.gap) == ["image, text"] or len({e.dim for e in problem.space.encoders.values()}) > 1


@pytest.mark.slow
def test_a_network_of_pixels_is_attacked_by_option() -> None:
    source = clouds(60)
    small = made(source, source.batch(range(8))["image"])
    student = Classification(student="convnet", steps=2, resolution=16, noise=(1.0,))
    found = audit(small, source, space_of("image"), student=student, seeds=1, shadows=2)
    assert "convnet student" in found.students and len(found.leaks) == 12


@pytest.mark.slow
def test_a_student_that_sees_no_difference_finds_nobody() -> None:
    source = clouds(60)
    same, student = torch.full((6, 3, 24, 24), 0.5), Classification(noise=(1.0,), steps=5)
    found = audit(made(source, same), source, space_of("image"), student=student, seeds=1, shadows=0)
    (leak,) = (leak for leak in found.leaks if leak.target == "the set")
    assert leak.auc.low < 0.5 < leak.auc.high, "it knows how often each class comes, and no more"
    assert {leak.attack for leak in found.leaks} == {"loss"}


def test_vectors_of_any_modality_without_other_splits() -> None:
    x = F.normalize(torch.randn(60, 6, generator=torch.Generator().manual_seed(0)), dim=1)
    source = VectorSource("vectors", {"audio": x, "tags": x.flip(1)}, labels=torch.arange(60) % 3)
    space = lb.space(audio="vectors:6", tags="vectors:6")
    small = lb.distill(lb.Problem(source, space, lb.Budget(pairs=9)), lb.methods.Herding())
    found = audit(small, source, space)
    assert [(n.modality, n.measure) for n in found.nearness] == [
        (m, measure) for m in small.modalities if m != "label" for measure in ("rmse", "features")
    ]
    assert all(n.bound is None and all(n.memorised) for n in found.nearness)  # copies are known without held-out data
    assert not found.leaks and "no split val or test" in found.notes[0] and "two held-out ones" in found.notes[-1]
    assert found.gap["audio, tags"][1] > 0


class Heard(type(toy_source())):  # type: ignore[misc]
    """Spectrograms beside pictures; every third sample has no sound."""

    def __init__(self, n: int, split: str, modalities: tuple[str, ...], resolution: int) -> None:
        super().__init__(n, split, modalities, resolution)
        self.modalities = {**self.modalities, "audio": Modality("audio", (1, 16, 20), rate=8000)}
        draw = torch.Generator().manual_seed(("train", "val", "test").index(split))
        self.sound, self.here_too = torch.rand(n, 1, 16, 20, generator=draw), torch.arange(n) % 3 != 2
        self.fingerprint = f"heard {split} {n}"

    def batch(self, index: Any) -> Batch:
        values = {"image": self._image, "label": self._colour, "audio": self.sound}
        return Batch(values, {"audio": self.here_too}).select(torch.as_tensor(list(index)))

    def split(self, name: str) -> Source:
        return Heard(split=name, **self.options)


@pytest.mark.parametrize("encoded", [True, False])
def test_sound_that_some_samples_lack(encoded: bool) -> None:
    source = Heard(36, "train", ("image", "label"), 16)
    space = lb.space(image="convnet", audio="convnet")
    small = lb.distill(lb.Problem(source, space, lb.Budget(pairs=6)), lb.methods.Random())
    student = Classification(noise=(1.0,), steps=5)
    found = audit(small, source, space if encoded else space_of("image"), student=student, seeds=1, shadows=2)
    near = {n.measure: n for n in found.of("audio")}
    assert set(near) == ({"rmse", "ssim", "features"} if encoded else {"rmse", "ssim"})
    assert near["rmse"].nearest == tuple(small.origins) and all(near["rmse"].memorised)
    assert len(near["rmse"].held_out) == 48  # those of 72 that have a sound
    assert len(found.leaks) == 12


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names("method"))
def test_every_method_can_be_audited(name: str) -> None:
    method: Method = registry.get("method", name)()
    known = {f.name for f in fields(method)} - ({"dim", "rank"} if name in ("covmatch", "edge") else set())
    method = replace(method, **{key: value for key, value in QUICK.items() if key in known})
    if name in GENERATIVE:
        pytest.importorskip("diffusers", reason="needs the diffusion extra")
        method = replace(method, prior=tiny_prior(), sampling_steps=1)
    source, known = toy_source(40), ("image", "text")
    problem = lb.Problem(source, space_of(*known), lb.Budget(pairs=8))
    try:
        method.check(problem)
    except DataError:  # a method of images alone
        known = ("image",)
        problem = replace(problem, space=space_of(*known))
    small = lb.distill(problem, method)
    found = audit(small, source, seeds=1, shadows=0, student=Classification(steps=2, noise=(1.0,), looks=1))
    assert found.modalities == known and len(found.leaks) == 4
    if method.steps == 0 and name not in GENERATIVE:
        assert all(sum(found.memorised(m)) == 8 for m in known)


def test_data_that_are_not_the_sets_own() -> None:
    source = clouds()
    small = made(source, source.batch(range(4))["image"], origins=["elsewhere"] * 4)
    found = audit(small, source, space_of("image"))
    assert all(x is None for n in found.nearness for x in n.origin) and found.nearness[0].returned is None
    assert found.notes[0] == "4 of the 4 samples started from none of clouds" and not found.leaks
    with pytest.raises(
        ConfigError, match="holds image, label and vectors audio; name the data that the set was made from"
    ):
        audit(small, VectorSource("vectors", {"audio": torch.eye(3)}), space_of("image"))


def test_images_without_labels_have_no_student() -> None:
    source = clouds(60, modalities=("image",))
    found = audit(made(source, source.batch(range(4))["image"]), source, space_of("image"))
    assert not found.leaks and len(found.notes) == 1
    assert "no membership inference: clouds holds image, so it cannot be judged by retrieval" in found.notes[0]
    found = audit(made(source, source.batch(range(4))["image"]), source, space_of("image"), student=Classification())
    assert found.notes == (
        "no membership inference: clouds has no labels, so it cannot be judged by classification; judge it by retrieval",
    )


def test_wrong_options_are_refused() -> None:
    source = clouds(20)
    small = made(source, source.batch(range(4))["image"])
    with pytest.raises(ConfigError, match="shadows an even one, got 3 and 5"):
        audit(small, source, space_of("image"), shadows=5)
    with pytest.raises(ConfigError, match="leave student=encoder out"):
        audit(small, source, space_of("image"), student="encoder")
    with pytest.raises(ConfigError, match="does not say which encoders it was made with"):
        audit(small, source)
