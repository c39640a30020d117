"""Gradient matching and the guided method: with masks of ones they are what they guide, and each term sees what it should."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import limbeck as lb
from limbeck.check import check_method, toy_source
from limbeck.core import Problem, Synthetic, object_masks
from limbeck.errors import ConfigError, DataError
from limbeck.networks.convnet import ConvNet
from limbeck.objectives.moments import group_mean, mean_distance
from masked import Masked

Guided, DC = lb.methods.Guided, lb.methods.DC
SMALL: dict[str, Any] = {"steps": 3, "width": 8, "batch": 6, "lr": 0.01}
SERVED: dict[str, Any] = {"renew": 2, "inner": 1}
LABELLED = ("image", "label")


def problem(modalities: tuple[str, ...] = ("image", "text", "label"), pairs: int = 8, masked: bool = True) -> Problem:
    encoders: dict[str, Any] = {"image": {"name": "convnet", "resolution": 16, "width": 16}, "text": "bag_of_words"}
    source = Masked(modalities=modalities) if masked else toy_source(modalities=modalities)
    return Problem(source, lb.space(**{m: encoders[m] for m in modalities if m in encoders}), lb.Budget(pairs=pairs))


def inside(of: Problem) -> Masked:
    """The source behind the problem's view of it, to be changed."""
    source: Masked = of.source._source  # type: ignore[attr-defined]
    return source


def unmasked(of: Problem, synthetic: Synthetic) -> None:
    """Makes every mask of the real data and of the set one."""
    inside(of).masks.fill_(1)
    synthetic.value("mask").fill_(1)


OPTIONS: dict[str, dict[str, Any]] = {
    "dm": {},
    "input": {"alignment": "input"},
    "feature": {"alignment": "feature", "masks": "class_mean"},
    "dc and all": {
        "base": "dc",
        "alignment": "input",
        "gradients": "both",
        "captions": "proj",
        "concat": 1.0,
        **SERVED,
    },
    "real only": {"base": "none", "gradients": "real_only", "outside": "noise", **SERVED},
    "proj": {"captions": "proj", "text": "class_mean"},
    "embed": {"captions": "embed", "text": "learn"},
    "joint": {"captions": "joint", "text": "learn", "weight_alignment": 2.0, "alignment": "input"},
}


@pytest.mark.parametrize(
    "options",
    [pytest.param(o, id=name, marks=[] if name == "input" else pytest.mark.slow) for name, o in OPTIONS.items()],
)
@pytest.mark.slow
def test_contract(options: dict[str, Any]) -> None:
    """Determinism, resuming with the classifier and the weights, and the rest."""
    check_method(Guided(**SMALL, **options), problem().space, Masked())


@pytest.mark.slow
def test_contract_of_captions_in_one_space() -> None:
    width = lb.space(text="bag_of_words").dims["text"]
    space = lb.space(image={"name": "convnet", "width": width, "pooled": True}, text="bag_of_words")
    check_method(Guided(**SMALL, captions="clip"), space, toy_source())


@pytest.mark.slow
def test_contract_of_dc() -> None:
    method = DC(steps=3, width=8, batch=6, renew=2, inner=2)
    check_method(method, lb.space(image="convnet"), toy_source(modalities=LABELLED))


def test_masks_of_ones_change_nothing() -> None:
    of = problem(LABELLED)
    method = Guided(**SMALL, base="dm", alignment="input", weight_alignment=1.0, outside="keep")
    synthetic = method.start(of)
    unmasked(of, synthetic)
    logs = method.step(of, synthetic, 1)
    assert float(logs["alignment"]) == float(logs["base"]) > 0, "to the bit"
    matched = replace(
        method, base="dc", alignment="none", gradients="both", weight_alignment=None, weight_gradients=1.0
    )
    synthetic = matched.start(of)
    unmasked(of, synthetic)
    logs = matched.step(of, synthetic, 1)
    assert float(logs["gradients"]) == float(logs["base"]) > 0


def test_feature_alignment_is_matching_of_pooled_features_that_see_the_background() -> None:
    of = problem(LABELLED)
    method = Guided(**SMALL, base="none", alignment="feature", weight_alignment=1.0, outside="keep", augment=())
    synthetic = method.start(of)
    method.step(of, synthetic, 1)
    image, masks = synthetic.learned["image"], synthetic.value("mask")
    assert image.grad is not None and (image.grad * (1 - masks)).any()
    unmasked(of, synthetic)
    value = float(method.step(of, synthetic, 1)["alignment"])
    index, group, own = of.draw_groups(6, 1, 8, per_class=True)
    network = ConvNet(16, width=8, pooled=True, generator=of.rng("network", 1))
    real, mine = network(of.source.batch(index)["image"]), network(image)
    found = mean_distance(group_mean(mine, own, 4), group_mean(real, group, 4))
    assert value == pytest.approx(float(found.detach()), rel=1e-4)


@pytest.mark.parametrize("base", ["dm", "dc"])
def test_without_terms_it_is_its_base(base: str) -> None:
    of = problem(LABELLED)
    served = SERVED if base == "dc" else {}
    guided = Guided(**SMALL, **served, base=base, outside="keep")  # type: ignore[arg-type]
    plain = lb.methods.DM(**SMALL, per_class=True) if base == "dm" else DC(**SMALL, **served)
    found = [lb.distill(of, replace(m, init="random")).tensors["image"] for m in (guided, plain)]
    assert torch.equal(*found)


def test_each_class_has_an_augmentation_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from limbeck.methods.matching import dm

    seen: list[tuple[int, int]] = []

    def siamese(sets: list[torch.Tensor], generator: torch.Generator, operations: object) -> list[torch.Tensor]:
        seen.append((len(sets[1]), generator.initial_seed()))
        return sets

    monkeypatch.setattr(dm, "siamese", siamese)
    of = problem(LABELLED)
    method = lb.methods.DM(**SMALL)
    method.step(of, method.start(of), 0)
    classes = len(of.source.classes)
    assert len(seen) == len({seed for _, seed in seen}) == classes and sum(n for n, _ in seen) == 8


@pytest.mark.parametrize("options", [{"alignment": "input"}, {"gradients": "both"}])
def test_backgrounds_have_no_say_and_get_no_gradient(options: dict[str, Any]) -> None:
    of = problem(LABELLED)
    method = Guided(**SMALL, **options, base="none", outside="keep", augment=())
    synthetic = method.start(of)
    value = float(method.step(of, synthetic, 0)["loss"])
    image, masks = synthetic.learned["image"], synthetic.value("mask")
    assert image.grad is not None and not (image.grad * (1 - masks)).any() and (image.grad * masks).any()
    inside(of).plain._image += (1 - object_masks(of.source.batch(range(24)))) * 0.3  # type: ignore[attr-defined]
    image.data += (1 - masks) * 0.4
    assert float(method.step(of, synthetic, 0)["loss"]) == pytest.approx(value, rel=1e-5)
    base = replace(method, base="dm" if "alignment" in options else "dc", **dict.fromkeys(options, "none"))
    before = float(base.step(of, synthetic, 0)["loss"])
    image.data -= (1 - masks) * 0.4
    assert float(base.step(of, synthetic, 0)["loss"]) != pytest.approx(before, rel=1e-3)


def test_what_stands_outside_of_a_mask_at_the_start() -> None:
    of = problem(LABELLED)
    starts = {outside: Guided(**SMALL, outside=outside).start(of) for outside in ("keep", "fill", "noise")}
    masks, real = starts["keep"].value("mask"), of.source.batch(starts["keep"].origin)["image"]
    seen = {name: s.value("image").detach() for name, s in starts.items()}
    assert torch.equal(seen["keep"], real)
    for name in ("fill", "noise"):
        assert torch.equal(seen[name] * masks, real * masks)
        assert not torch.equal(seen[name] * (1 - masks), real * (1 - masks))
    assert (seen["fill"][(masks == 0).expand_as(real)] == 0.5).all()


def test_where_masks_and_captions_come_from() -> None:
    of = problem()
    full = Guided(**SMALL, masks="full").start(of)
    assert (full.value("mask") == 1).all()
    mean = Guided(**SMALL, masks="class_mean", text="class_mean").start(of)
    labels = of.source.labels
    assert labels is not None and mean.labels is not None
    every, text = object_masks(of.source.batch(range(24))), of.features["text"]
    for mask, caption, label in zip(mean.value("mask"), mean.value("text"), mean.labels, strict=True):
        assert torch.allclose(mask, every[labels == label].mean(0))
        own = text.vectors[labels[text.owner] == label].mean(0)
        assert torch.allclose(caption, own / own.norm(), atol=1e-6)


def test_weights_balance_the_gradients_at_the_start() -> None:
    of = problem(LABELLED)
    method = Guided(**SMALL, alignment="input", fraction=0.25)
    synthetic = method.start(of)
    logs = method.step(of, synthetic, 0)
    lengths = []
    for options in ({"base": "dm", "alignment": "none"}, {"base": "none", "alignment": "input"}):
        synthetic.zero_grad()
        synthetic.get_buffer("weights").fill_(1)
        replace(method, **options, fraction=0.5).step(of, synthetic, 0)  # type: ignore[arg-type]
        assert synthetic.learned["image"].grad is not None
        lengths.append(float(synthetic.learned["image"].grad.norm()))
    assert float(logs["weight alignment"]) * lengths[1] == pytest.approx(0.25 * lengths[0], rel=1e-2)
    later = method.step(of, synthetic, 1)
    assert "weight alignment" not in later, "said once"


def test_weights_are_those_of_the_pixels_where_captions_are_learned_too() -> None:
    of = problem()
    method = Guided(**SMALL, captions="proj", text="learn")
    synthetic = method.start(of)
    weight = float(method.step(of, synthetic, 0)["weight captions"])
    lengths = []
    for options in ({"captions": "none", "text": "inherit"}, {"base": "none"}):
        synthetic.zero_grad()
        synthetic.get_buffer("weights").fill_(1)
        replace(method, **options).step(of, synthetic, 0)  # type: ignore[arg-type]
        assert synthetic.learned["image"].grad is not None
        lengths.append(float(synthetic.learned["image"].grad.norm()))
    assert weight * lengths[1] == pytest.approx(0.5 * lengths[0], rel=1e-2)
    embed = replace(method, captions="embed")
    assert float(embed.step(of, embed.start(of), 0)["weight captions"]) == 1.0


def test_captions_beside_the_images_of_a_classifier() -> None:
    """Without them the classifier is that of images; its columns of captions have a gradient exactly where they are read."""
    of = problem()
    method = Guided(**SMALL, **SERVED, base="dc", concat=1.0)
    synthetic = method.start(of)
    trainee = method._classifier(of)
    weights = trainee.fresh(0)
    images = of.source.batch(range(6))["image"]
    texts = of.features["text"].vectors[:6]
    found = {name: trainee.gradients(weights, images, 0, size * texts) for name, size in (("read", 1.0), ("not", 0.0))}
    head = list(weights).index("head.weight")
    columns = texts.shape[1]
    assert found["read"][head][:, -columns:].any() and not found["not"][head][:, -columns:].any()
    plain = dict(weights, **{"head.weight": weights["head.weight"][:, :-columns]})
    alone = replace(trainee, captions=0).gradients(plain, images, 0)
    visual_only = [g[:, :-columns] if i == head else g for i, g in enumerate(found["not"])]
    assert all(torch.allclose(g, a, atol=1e-6) for g, a in zip(visual_only, alone, strict=True))
    logits = trainee.logits(weights, images, 0.0 * texts)
    assert torch.allclose(logits, replace(trainee, captions=0).logits(plain, images), atol=1e-6)
    visual = trainee.scale(weights, synthetic) * synthetic.value("text")
    own = torch.func.functional_call(
        trainee._shell.body,  # type: ignore[arg-type]
        {k.removeprefix("body."): v for k, v in weights.items() if k.startswith("body.")},
        (synthetic.value("image").detach(),),
    )
    assert float(visual.square().mean()) == pytest.approx(float(own.square().mean()), rel=1e-4)


@pytest.mark.parametrize(("captions", "moves"), [("proj", True), ("clip", True), ("embed", False)])
def test_which_caption_matching_moves_pixels(captions: Any, moves: bool) -> None:
    of = problem()
    if captions == "clip":
        pooled = {"name": "convnet", "width": of.space.dims["text"], "pooled": True}
        of = replace(of, space=lb.space(image=pooled, text="bag_of_words"))
    method = Guided(**SMALL, base="none", captions=captions, text="learn")
    synthetic = method.start(of)
    method.step(of, synthetic, 0)
    gradient = synthetic.learned["image"].grad
    assert (gradient is not None and bool(gradient.any())) == moves
    assert synthetic.learned["text"].grad is not None and synthetic.learned["text"].grad.any()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"base": "none"}, "leaves nothing to match"),
        ({"captions": "embed"}, "set `text=learn`"),
        ({"captions": "joint", "text": "learn", "base": "dc"}, "in place of `base=dm`, got `base=dc`; remove `base`"),
        ({"concat": 1.0}, "no gradients are matched"),
        (
            {"weight_captions": 1.0},
            r"`weight_captions=1.0` of guided .* \(`captions=none`\)\. Remove it, or name another `captions`",
        ),
        ({"lr_text": 0.5}, "captions are not learned"),
        ({"text": "learn"}, "no term reads captions"),
        ({"single": 2.0}, "no image is compared with its own caption"),
        ({"fraction": 2.0, "alignment": "input", "weight_alignment": 1.0}, "no weight is balanced"),
        ({"steps": 0}, "must be 1 or more"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Guided(**options)


@pytest.mark.parametrize(
    ("of", "options", "says"),
    [
        (problem(("image",)), {}, "has no labels; use cf or dm"),
        (problem(LABELLED, masked=False), {"alignment": "input"}, "read masks, and toy.* has none"),
        (problem(LABELLED), {"captions": "proj"}, "captions are asked for"),
        (problem(LABELLED), {"captions": "joint", "text": "learn"}, "captions are asked for"),
        (problem(), {"captions": "clip"}, "take one such as --space clip"),
    ],
)
def test_data_that_cannot_work(of: Problem, options: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        lb.distill(of, Guided(**SMALL, **options))


def test_what_dc_needs() -> None:
    with pytest.raises(DataError, match="has no labels"):
        lb.distill(problem(("image",), masked=False), DC(steps=1))
    with pytest.raises(DataError, match=r"leave it out with --space\.text none"):
        lb.distill(problem(), DC(steps=1))
    assert [DC()._published(n, 10) for n in (10, 100, 500, 2000)] == [(1, 1), (10, 50), (50, 10), (50, 10)]


def test_dc_matches_gradients_of_its_classifier() -> None:
    """A set that holds all real images, class by class, is at distance zero."""
    of = problem(LABELLED, pairs=24, masked=False)
    method = DC(steps=2, width=8, augment=(), renew=2, inner=1)
    synthetic = method.start(of)
    assert float(method.step(of, synthetic, 0)["loss"]) == pytest.approx(0, abs=1e-3)
    synthetic.learned["image"].data.mul_(0.5)
    assert float(method.step(of, synthetic, 0)["loss"]) > 0.1
