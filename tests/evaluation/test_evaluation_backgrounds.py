"""Masks in students: objects on random backgrounds in training, and on swapped ones in testing."""

import itertools

import pytest
import torch

from limbeck.check import toy_source
from limbeck.data.batch import Batch
from limbeck.data.modality import Modality
from limbeck.data.source import Source
from limbeck.errors import ConfigError
from limbeck.evaluation import compare, evaluate
from limbeck.evaluation.protocols.classification import Classification
from limbeck.evaluation.protocols.retrieval import Retrieval
from limbeck.runtime.cache import digest
from limbeck.students import backgrounds, composite, crop_flip, masks, swappable, swapped

SIDE = 16
COLOURS = torch.tensor([[0.8, 0.2, 0.2], [0.2, 0.8, 0.2]])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Bars(Source):
    """Lying and standing bars of any colour, class by class on a background of one colour, with their masks.

    Sample 0 has no mask, and that of sample 1 is empty.
    """

    classes = ("lying", "standing")
    splits = ("train", "val", "test")

    def __init__(self, split="train", n=64, masked=True):
        g = seeded(self.splits.index(split))
        self.here, self.n, self.masked = split, n, masked
        self.name, self.fingerprint = f"bars[{split}]", digest("bars", split, n, masked)
        self._labels = torch.arange(n) % 2
        mask = torch.zeros(n, 1, SIDE, SIDE)
        at = torch.randint(3, 10, (n, 2), generator=g)
        for i, (y, x) in enumerate(at.tolist()):
            height, width = ((3, 9), (9, 3))[int(self._labels[i])]
            mask[i, :, y - 3 : y - 3 + height, x - 3 : x - 3 + width] = 1
        paint = torch.rand(n, 3, 1, 1, generator=g)
        behind = COLOURS[self._labels][:, :, None, None] + 0.1 * torch.rand(n, 3, SIDE, SIDE, generator=g)
        values = {"image": mask * paint + (1 - mask) * behind, "label": self._labels}
        if masked:
            values["mask"] = mask.clone()
            values["mask"][1] = 0
        present = {"mask": torch.arange(n) > 0} if masked else {}
        shapes = {"image": (3, SIDE, SIDE), "mask": (1, SIDE, SIDE), "label": ()}
        self.modalities = {m: Modality(m, shapes[m]) for m in values}
        self._batch = Batch(values, present)

    def __len__(self):
        return self.n

    def batch(self, index):
        return self._batch.select(list(index))

    keys = property(lambda self: [f"{self.here}/{i}" for i in range(self.n)])
    captions = property(lambda self: [()] * self.n)
    labels = property(lambda self: self._labels)

    def split(self, name):
        return Bars(name, self.n, self.masked)


def unmasked(split="train"):
    return Bars(split, masked=False)


def test_masks_are_read_as_pixels_and_whoever_has_none_is_all_object(cache):
    source = Bars()
    found = masks(source, SIDE, cache)
    assert found.shape == (64, 1, SIDE, SIDE) and found.dtype == torch.uint8
    assert (found[:2] == 255).all()
    assert torch.equal(found[2:], source.batch(range(2, 64))["mask"].mul(255).byte())
    assert swappable(found).tolist() == list(range(2, 64))
    assert masks(toy_source(4), SIDE, cache) is None
    assert masks(source, 8, cache).shape == (64, 1, 8, 8)


def test_a_source_of_which_no_sample_has_a_mask_is_all_object(cache):
    source = Bars()
    source.fingerprint = digest("bars without")
    source._batch = Batch(source._batch.values, {"mask": torch.zeros(64, dtype=torch.bool)})
    assert (masks(source, SIDE, cache) == 255).all() and len(swappable(masks(source, SIDE, cache))) == 0


def test_random_backgrounds_are_of_three_kinds_and_of_the_generator_alone():
    found = backgrounds(300, 8, seeded())
    assert found.min() >= 0 and found.max() <= 1 and torch.equal(found, backgrounds(300, 8, seeded()))
    assert not torch.equal(found, backgrounds(300, 8, seeded(1)))
    rough = (found[..., 1:] - found[..., :-1]).abs().mean(dim=(1, 2, 3))
    kinds = [(rough == 0).sum(), ((rough > 0) & (rough < 0.2)).sum(), (rough >= 0.2).sum()]
    assert all(70 < kind < 130 for kind in kinds), kinds


def test_what_is_composited_is_the_object_and_the_other_background():
    image = torch.randint(256, (2, 3, 3, 3), generator=seeded(), dtype=torch.uint8)
    behind = torch.rand(2, 3, 3, 3, generator=seeded(2))
    mask = torch.tensor([0, 51, 255], dtype=torch.uint8)[torch.randint(3, (2, 1, 3, 3), generator=seeded(1))]
    naive = torch.empty(2, 3, 3, 3)
    for i, c, y, x in itertools.product(range(2), range(3), range(3), range(3)):
        m = mask[i, 0, y, x].item() / 255
        naive[i, c, y, x] = m * image[i, c, y, x].item() / 255 + (1 - m) * behind[i, c, y, x].item()
    torch.testing.assert_close(composite(image, mask, behind), naive)


def test_swapped_backgrounds_are_those_of_others_and_without_their_objects():
    """Backgrounds of one colour each: outside of the object stands one other sample's colour, and nothing of its object."""
    n = 300  # more than one chunk
    rows = torch.arange(n)
    colour = torch.stack([rows % 256, rows // 256 * 40, torch.full((n,), 7)], dim=1).byte()
    mask = torch.zeros(n, 1, SIDE, SIDE, dtype=torch.uint8)
    for i in range(n):
        mask[i, :, i % 8 : i % 8 + 5, (3 * i) % 9 : (3 * i) % 9 + 5] = 255
    image = torch.where(mask > 0, 255, colour[:, :, None, None]).byte()
    found = swapped(image, mask, seeded())
    outside = [set(map(tuple, found[i].permute(1, 2, 0)[mask[i, 0] == 0].tolist())) for i in range(n)]
    assert all(len(colours) == 1 for colours in outside)
    assert sorted(*zip(*outside, strict=True)) == sorted(map(tuple, colour.tolist()))  # each serves once
    assert all(colours != {tuple(own)} for colours, own in zip(outside, colour.tolist(), strict=True))
    assert torch.equal(found[(mask == 255).expand_as(found)], image[(mask == 255).expand_as(found)])
    assert torch.equal(found, swapped(image, mask, seeded()))
    assert not torch.equal(found, swapped(image, mask, seeded(1)))


@pytest.mark.parametrize("side", [2, 7, 12, 33])
def test_backgrounds_are_continued_at_any_size(side):
    image = torch.full((3, 3, side, side), 90, dtype=torch.uint8)
    mask = torch.zeros(3, 1, side, side, dtype=torch.uint8)
    mask[..., : side // 2, :] = 255
    found = swapped(torch.where(mask > 0, 200, image).byte(), mask, seeded())
    assert (found[..., side // 2 :, :] == 90).all()


OPTIONS = {"student": "convnet", "resolution": SIDE, "steps": 60, "batch": 32, "looks": 1, "selection": "last"}
OPTIONS |= {"optimizer": "adamw"}


@pytest.fixture(scope="module")
def judged(space, cache):
    """Metric to score of a student on images as they are, and of one on random backgrounds."""
    return {
        background: {
            s.metric: s
            for s in evaluate(Bars(), Bars(), "classification", space, 1, cache=cache, background=background, **OPTIONS)
        }
        for background in ("keep", "random")
    }


@pytest.mark.slow
def test_a_student_on_random_backgrounds_looks_at_the_object(judged):
    keep, random = ({m: s.mean for m, s in scores.items()} for scores in judged.values())
    assert list(keep) == list(random) == ["accuracy", "swapped accuracy", "flip rate"]
    assert keep["accuracy"] > 90 and keep["swapped accuracy"] < 75 and keep["flip rate"] > 25
    assert random["swapped accuracy"] > 90 and random["flip rate"] < 10


@pytest.mark.slow
def test_rows_say_how_they_were_trained_and_what_is_better(judged):
    for background, scores in judged.items():
        assert [s.higher_is_better for s in scores.values()] == [True, True, False]
        assert all(("random backgrounds" in s.protocol) == (background == "random") for s in scores.values())
    assert len({scores["accuracy"].fingerprint for scores in judged.values()}) == 2


def test_backgrounds_are_fresh_at_every_step_and_objects_stay(space, cache, monkeypatch):
    """What the network is shown: the object's pixels as they were, all else new each time."""
    from limbeck.students import Tower

    shown, read = [], Tower.forward
    monkeypatch.setattr(Tower, "forward", lambda self, x: (shown.append(x) if self.training else None) or read(self, x))
    options = OPTIONS | {"steps": 2, "batch": 64, "augment": False}
    evaluate(Bars(), Bars(), "classification", space, 1, cache=cache, background="random", **options)
    source = Bars()
    image, mask = source.batch(range(64))["image"], masks(source, SIDE, cache).float() / 255
    orders = []
    for x in shown:
        inside = (mask[None] * (x[:, None] - image[None])).abs().flatten(2).amax(-1)  # [shown, sample]
        assert (inside.amin(1) < 0.01).all()
        orders.append(inside.argmin(1))
    first, second = (x[order.argsort()] for x, order in zip(shown, orders, strict=True))
    changed = ((first - second).abs().amax(1, keepdim=True) > 0.02).float()
    outside = (changed * (1 - mask)).flatten(1).sum(1) / (1 - mask).flatten(1).sum(1)
    assert (outside[2:] > 0.9).sum() > 50 and (changed[:2] == 0).all()


def test_object_and_background_are_moved_together(space, cache, monkeypatch):
    """Augmentation comes after the composition: what is moved is the picture that the object already stands in."""
    import importlib

    module = importlib.import_module("limbeck.evaluation.protocols._fusion")
    said = []
    monkeypatch.setattr(module, "composite", lambda *a: said.append("composite") or composite(*a))
    monkeypatch.setattr(module, "crop_flip", lambda x, g, mirror: said.append(x.dtype) or crop_flip(x, g, mirror))
    evaluate(Bars(), Bars(), "classification", space, 1, cache=cache, background="random", **OPTIONS | {"steps": 2})
    assert said == ["composite", torch.float32] * 2


def test_test_data_without_masks_have_no_swapped_scores(space, cache):
    found = evaluate(
        Bars(), unmasked(), "classification", space, 1, cache=cache, background="random", **OPTIONS | {"steps": 2}
    )
    assert [s.metric for s in found] == ["accuracy"]


def test_the_frozen_student_ignores_masks(space, cache):
    found = evaluate(Bars(), Bars(), "classification", space, 1, cache=cache, steps=2, noise=(1.0,), looks=1)
    assert [s.metric for s in found] == ["accuracy"]


def test_random_backgrounds_need_masks_and_pixels(space, cache, tmp_path):
    options = OPTIONS | {"background": "random"}
    with pytest.raises(ConfigError, match=r"bars\[train\] has no masks.*--protocol.background keep"):
        evaluate(unmasked(), Bars(), "classification", space, 1, cache=cache, **options)
    del options["student"]
    with pytest.raises(ConfigError, match=r"bars\[train\] has no masks"):
        compare(
            unmasked(), ["random"], [4], 1, ("convnet",), space=space, run=tmp_path, on=Bars(), cache=cache,
            protocol="classification", **options,
        )  # fmt: skip
    assert not (tmp_path / "runs").exists()
    with pytest.raises(
        ConfigError, match=r"`background=random` .* the student reads frozen features.* `student=convnet`"
    ):
        Classification(background="random")


def test_every_metric_rises_but_the_flip_rate():
    for metric in ("accuracy", "joint accuracy", "late accuracy", "swapped accuracy", "mean"):
        assert Classification().rises(metric) and Retrieval().rises(metric)
    for metric in ("flip rate", "image flip rate"):
        assert not Classification().rises(metric)
