"""Rendered scenes: what depends on what, exact masks, captions, and options that cannot be."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import limbeck as lb
from limbeck.data.contract import check_source
from limbeck.data.scene import BACKGROUNDS, COLOURS, SHAPES, Scene
from limbeck.errors import ConfigError
from limbeck.sources.scenes import Rendered, Scenes
from tiers import slow_but

FEW: dict[str, Any] = {"samples": 48}


def scenes(split: str = "train", **options: Any) -> list[Scene]:
    """What the scenes of a split show, before they are rendered."""
    listing = Scenes(**options).read()
    found = [r.image.scene for r in listing.records if r.split == split and isinstance(r.image, Rendered)]
    assert len(found) == sum(r.split == split for r in listing.records)
    return found


def table(found: list[Scene], shapes: int = 6) -> Tensor:
    """How many scenes of each class have each background."""
    counts = torch.zeros(shapes, len(BACKGROUNDS))
    for scene in found:
        counts[scene.shape, scene.background] += 1
    return counts


def test_opens_and_keeps_the_contract() -> None:
    source = lb.source("scenes", **FEW)
    check_source(source)
    assert list(source.modalities) == ["image", "mask", "text", "label"] and source.splits == ("train", "val", "test")
    assert source.classes == ("disc", "square", "triangle", "cross", "ring", "star") and source.licence == "CC0-1.0"
    assert [len(source.split(s)) for s in source.splits] == [48, 24, 24]
    assert source.labels is not None and source.labels.bincount().tolist() == [8] * 6
    assert source.batch([0])["image"].shape == (1, 3, 32, 32) and source.unmasked == {}  # type: ignore[attr-defined]
    assert lb.source(source.describe(), "test").fingerprint == source.split("test").fingerprint


@pytest.mark.parametrize("tie", slow_but([0.0, 0.5, 0.95, 1.0], 0.95))
def test_a_class_shows_its_own_background_as_often_as_the_tie_says(tie: float) -> None:
    counts = table(scenes(samples=3000, tie=tie))
    own = (counts.diagonal() / counts.sum(1)).mean()
    assert float(own) == pytest.approx(tie + (1 - tie) / 6, abs=0.02)


@pytest.mark.slow
def test_untied_backgrounds_are_independent_of_the_class() -> None:
    counts = table(scenes(samples=3000, tie=0.0))
    expected = counts.sum(1, keepdim=True) * counts.sum(0) / counts.sum()
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < 52.6, "25 degrees of freedom: more comes once in a thousand"  # 0.1 % point
    tied = table(scenes(samples=3000, tie=0.15))
    expected = tied.sum(1, keepdim=True) * tied.sum(0) / tied.sum()
    assert float(((tied - expected) ** 2 / expected).sum()) > 52.6, "the test sees a small tie"


def test_nothing_else_depends_on_class_or_tie() -> None:
    tied, untied = scenes(samples=1500), scenes(samples=1500, tie=0.0)
    for name in ("shape", "colour", "place", "centre", "radius", "turn", "noise"):
        assert [getattr(s, name) for s in tied] == [getattr(s, name) for s in untied], name
    for name, kinds in (("colour", 8), ("place", 5)):
        values = sorted({getattr(s, name) for s in tied})
        assert len(values) == kinds
        counts = torch.zeros(6, kinds)
        for s in tied:
            counts[s.shape, values.index(getattr(s, name))] += 1
        expected = counts.sum(1, keepdim=True) * counts.sum(0) / counts.sum()
        assert float(((counts - expected) ** 2 / expected).sum()) < 66.6, name  # 0.1 % point of 35 degrees of freedom


def test_masks_are_exact() -> None:
    tied, untied = (lb.source("scenes", **FEW, tie=tie, clutter=1.0).batch(range(48)) for tie in (1.0, 0.0))
    mask, other = tied["mask"], (tied["image"] != untied["image"]).any(dim=1, keepdim=True)
    assert torch.equal(mask, untied["mask"]) and set(mask.unique().tolist()) == {0.0, 1.0}
    assert not (other & (mask == 1)).any(), "the object is the same, to the bit, on every background"
    grounds = ([scene.background for scene in scenes(**FEW, tie=tie)] for tie in (1.0, 0.0))
    swapped = torch.tensor([a != b for a, b in zip(*grounds, strict=True)])
    assert float(other[swapped].sum() / (mask[swapped] == 0).sum()) > 0.9, "all else is background"


def test_flat_scenes_have_two_colours() -> None:
    source = lb.source("scenes", **FEW, clutter=0.0)
    batch = source.batch(range(48))
    for scene, image, mask in zip(scenes(**FEW, clutter=0.0), batch["image"], batch["mask"][:, 0] == 1, strict=True):
        colour, ground = COLOURS[scene.colour], list(BACKGROUNDS.values())[scene.background][0]
        assert torch.allclose(image[:, mask], torch.tensor(colour)[:, None], atol=0.003)
        assert torch.allclose(image[:, ~mask], torch.tensor(ground)[:, None], atol=0.003)


def test_shapes_differ_and_lie_within_the_image() -> None:
    found = scenes(samples=400, shapes=8)
    source = lb.source("scenes", samples=400, shapes=8)
    masks = source.batch(range(400))["mask"][:, 0]
    assert float(masks.mean(dim=(1, 2)).min()) > 0.03 and float(masks.mean(dim=(1, 2)).max()) < 0.25
    assert not masks[:, 0].any() and not masks[:, -1].any() and not masks[:, :, 0].any() and not masks[:, :, -1].any()
    assert source.classes == tuple(SHAPES) and {s.shape for s in found} == set(range(8))
    still = [Scene(k, 0, "red", "", (0.5, 0.5), 0.45, 0.0, 64, 0.0, (0,)) for k in range(8)]
    outlines = [np.load(io.BytesIO(Rendered(scene, "mask").read())) for scene in still]
    for i in range(8):
        for j in range(i):
            assert (outlines[i] & outlines[j]).sum() / (outlines[i] | outlines[j]).sum() < 0.9, (i, j)
    assert all(np.array_equal(o, o[:, ::-1]) for k, o in enumerate(outlines) if k != 6), (
        "symmetric, but for the crescent"
    )
    assert outlines[5].sum(axis=1)[:20].sum() > 0 and not outlines[4][32, 32] and outlines[3][32, 32]


@pytest.mark.slow
def test_same_seed_same_bytes(tmp_path: Any) -> None:
    first, again = (lb.source("scenes", **FEW, cache=lb.Cache(tmp_path / name)) for name in "ab")
    assert first.fingerprint == again.fingerprint
    assert torch.equal(first.batch(range(48))["image"], again.batch(range(48))["image"])
    more = lb.source("scenes", samples=96)
    assert torch.equal(more.batch(range(48))["image"], first.batch(range(48))["image"]), (
        "more samples are more, not others"
    )
    others = [
        lb.source("scenes", **FEW, **o) for o in ({"seed": 1}, {"tie": 0.0}, {"clutter": 0.2}, {"positions": "centre"})
    ]
    others += [first.split("test"), lb.source("scenes", **FEW, resolution=48)]
    assert len({first.fingerprint, *(o.fingerprint for o in others)}) == 7
    assert others[-1].batch([0])["mask"].shape == (1, 1, 48, 48)
    ends = [set(s.split(n).digests("image")) for s in (first, others[0]) for n in s.splits]
    assert len(set().union(*ends)) == sum(map(len, ends)), "no scene is in two splits or seeds"


def test_golden_scene() -> None:
    source = lb.source("scenes", **FEW)
    assert source.captions[:2] == [
        ("a red disc", "a red disc at the bottom left"),
        ("a blue square", "a blue square at the top right"),
    ]
    image = source.batch([1])["image"][0].mul(255).round().int()
    assert image[:, 0, 0].tolist() == [46, 81, 133], "raise RENDERER where this changes"


def test_positions() -> None:
    assert {s.place for s in scenes(**FEW, positions="centre")} == {"in the middle"}
    middle = np.array([s.centre for s in scenes(**FEW, positions="centre")])
    assert np.abs(middle - 0.5).max() <= 0.045
    for scene in scenes(samples=300):
        x, y = scene.centre
        said = ("top" in scene.place) * (y < 0.4) + ("bottom" in scene.place) * (y > 0.6) + ("middle" in scene.place)
        assert said == 1 and ("left" in scene.place) == (x < 0.4) and ("right" in scene.place) == (x > 0.6)


def test_captions_with_and_without_the_class() -> None:
    source, blind = lb.source("scenes", **FEW), lb.source("scenes", **FEW, words=False)
    assert source.labels is not None
    for sample, other, label in zip(source.captions, blind.captions, source.labels.tolist(), strict=True):
        assert all(source.classes[label] in caption for caption in sample)
        assert [c.replace(source.classes[label], "shape") for c in sample] == list(other)
        assert not any(word in caption for caption in sample for word in BACKGROUNDS)
    assert torch.equal(source.batch([3])["image"], blind.batch([3])["image"])


@pytest.mark.parametrize(
    ("option", "value", "match"),
    [
        ("path", "x", "takes nothing after a colon"),
        ("resolution", 8, "`resolution` of scenes must be from 16 to 4096, got 8"),
        ("shapes", 1, "`shapes` of scenes must be from 2 to 8"),
        ("shapes", 9, "`shapes` of scenes must be from 2 to 8"),
        ("tie", 1.1, "`tie` of scenes must be from 0 to 1"),
        ("clutter", -0.1, "`clutter` of scenes must be from 0 to 1"),
        ("samples", 11, "`samples` of scenes must be two a class or more, 12, got 11"),
        ("seed", -1, "`seed` of scenes must be 0 or more"),
    ],
)
def test_options_that_cannot_be(option: str, value: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Scenes(**{option: value})


def test_positions_that_cannot_be() -> None:
    wrong = Scenes()
    object.__setattr__(wrong, "positions", "six")  # the constructor's types are checked while testing
    with pytest.raises(ConfigError, match="`positions` of scenes must be centre or five, got 'six'"):
        wrong.__post_init__()
