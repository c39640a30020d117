"""Coordinates and views of learned images: exact starts, gradients, seeds, the order of levels, ends of the range, resumed runs."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import limbeck as lb
from limbeck.check import toy_source
from limbeck.core import Pixels, Problem, Recipe, Synthetic
from limbeck.core.members import drawn_member, member_features
from limbeck.core.pixels import Coordinates, colour_axes
from limbeck.errors import ConfigError
from limbeck.runtime.random import stream
from limbeck.runtime.runtime import Runtime

FORMS: list[dict[str, Any]] = [
    {"form": "pyramid", "levels": 3},
    {"form": "dct", "window": 5},
    {"colours": "decorrelated"},
    {"form": "pyramid", "levels": 2, "colours": "decorrelated"},
    {"form": "dct", "window": 4, "colours": "decorrelated"},
]


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def made(options: dict[str, Any], images: Tensor, axes: bool = True) -> Coordinates:
    pixels = Pixels(**options)
    return pixels.coordinates(images, colour_axes(uniform(9, 3, 8, 8, seed=3)) if axes and pixels.moves else None)


def problem(pixels: Pixels | None = None, image: str = "convnet", seed: int = 0) -> Problem:
    space = lb.space(image=image, text="bag_of_words")
    return Problem(toy_source(), space, lb.Budget(pairs=4), seed, pixels=pixels or Pixels())


@pytest.mark.parametrize("options", [o for o in FORMS if o.get("form") != "dct"], ids=str)
def test_the_start_is_the_real_image_to_the_bit(options: dict[str, Any]) -> None:
    images = uniform(2, 3, 9, 6)
    held = made(options, images)
    assert torch.equal(held(held.first()), images)


def test_dct_starts_with_the_low_frequencies_and_loses_the_others() -> None:
    held = Pixels(form="dct", window=4).coordinates(torch.stack([uniform(3, 8, 8), torch.full((3, 8, 8), 0.5)]))
    image = held(held.first())
    assert torch.allclose(image[1], torch.full((3, 8, 8), 0.5), atol=1e-6)
    at = torch.arange(8.0)
    waves = torch.cos(torch.pi / 8 * (at[:, None] + 0.5) * at)
    found = waves.T @ image[0] @ waves
    assert found[:, 4:].abs().max() < 1e-4 and found[:, :, 4:].abs().max() < 1e-4
    again = Pixels(form="dct", window=4).coordinates(image.detach())
    assert torch.allclose(again(again.first()), image, atol=1e-6)


def test_a_window_as_large_as_the_image_starts_with_all_of_it() -> None:
    images = uniform(1, 3, 8, 6)
    held = Pixels(form="dct", window=100).coordinates(images)
    assert torch.allclose(held(held.first()), images, atol=1e-6)


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_gradients_are_finite_differences(options: dict[str, Any]) -> None:
    held = made(options, 0.4 + 0.2 * uniform(1, 3, 6, 6)).double()
    weights = uniform(1, 3, 6, 6, seed=1).double()
    first = held.first().double().requires_grad_()
    held.grow(1.0)
    (held(first) * weights).sum().backward()
    for z in (first, *held.finer):
        at = (0, 1, 0, z.shape[-1] - 1)
        values = []
        with torch.no_grad():
            for move in (1e-3, -2e-3):
                z[at] += move
                values.append(float((held(first) * weights).sum()))
            z[at] += 1e-3
        assert z.grad is not None
        assert float(z.grad[at]) == pytest.approx((values[0] - values[1]) / 2e-3, abs=1e-5)


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_a_step_of_random_signs_moves_pixels_by_its_size_at_most(options: dict[str, Any]) -> None:
    held = made(options, torch.full((4, 3, 16, 16), 0.5))
    signs = torch.Generator().manual_seed(0)
    with torch.no_grad():
        first, *finer = (
            0.01 * (2 * torch.randint(2, z.shape, generator=signs) - 1.0) for z in (held.first(), *held.finer)
        )
        for level, moved in zip(held.finer, finer, strict=True):
            level.copy_(moved)
        size = float((held(first) - 0.5).square().mean().sqrt())
    assert 0.006 < size < 0.012


@pytest.mark.parametrize("options", [o for o in FORMS if o.get("form") != "dct"], ids=str)
def test_what_leaves_the_range_is_taken_back_and_can_return(options: dict[str, Any]) -> None:
    images = uniform(2, 3, 8, 8)
    held = made(options, images)
    first = held.first() + 0.7
    before = held(first).detach()
    assert before.min() >= 0 and before.max() == 1
    held.project(first)
    assert torch.equal(held(first).clamp(0, 1), held(first)) and torch.allclose(held(first), before, atol=1e-6)
    assert (held._image(first) - before).abs().max() < 1e-5  # nothing is left behind an end
    z = (held.first() + 0.7).requires_grad_()
    held(z).square().sum().backward()  # towards darker pixels, also from beyond the end
    assert z.grad is not None and bool((z.grad != 0).all())


def test_decorrelated_colours_are_those_of_the_data() -> None:
    mix = torch.tensor([[0.5, 0.1, 0.0], [0.4, -0.1, 0.05], [0.4, 0.0, -0.1]])
    images = torch.einsum("cd,ndhw->nchw", mix, torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    axes = colour_axes(images)
    white = torch.linalg.solve(axes, images.movedim(1, 0).flatten(1))
    covariance = torch.cov(white)
    assert torch.allclose(covariance / covariance[0, 0], torch.eye(3), atol=1e-3)
    assert float(axes.square().sum()) == pytest.approx(3, rel=1e-5)
    assert torch.linalg.matrix_rank(colour_axes(torch.full((2, 3, 4, 4), 0.5))) == 3


def test_levels_join_in_their_order_and_only_then_move() -> None:
    pixels = Pixels(form="pyramid", levels=3, grown=0.5)
    moved = []
    for state in lb.steps(problem(pixels), lb.methods.CF(steps=8, lr=0.01)):
        finer = state.synthetic.coordinates["image"].finer
        moved.append(bool(finer[0].any()))
    assert moved == [False] * 3 + [True] * 6  # it joins at a quarter of the steps: with the third of eight
    held = pixels.coordinates(uniform(1, 3, 8, 8))
    for progress, due in ((0.0, [False, False]), (0.24, [False, False]), (0.25, [True, False]), (0.5, [True, True])):
        held.grow(progress)
        assert [level.requires_grad for level in held.finer] == due


def test_each_image_view_and_step_has_a_draw_of_its_own_that_the_seed_repeats() -> None:
    pixels, of, images = Pixels(views=2), problem(), uniform(1, 3, 12, 12).expand(3, 3, 12, 12)

    def seen(k: int, t: int, seed: int = 0) -> Tensor:
        return pixels.view(images.shape, stream(seed, f"view {k} of pixels", t))(images)

    first = seen(0, 0)
    assert torch.equal(first, seen(0, 0)) and of.pixels == Pixels()
    for other in (seen(1, 0), seen(0, 1), seen(0, 0, seed=1)):
        assert (first - other).flatten(1).abs().amax(1).min() > 0.05
    assert min(float((first[a] - first[b]).abs().max()) for a, b in ((0, 1), (0, 2), (1, 2))) > 0.05


def test_a_view_is_a_crop_a_mirroring_and_noise() -> None:
    images = uniform(40, 3, 8, 8)
    draw = torch.Generator().manual_seed(0)
    whole = Pixels(views=1, crop=1.0, noise=0.0).view(images.shape, draw)(images)
    kept = [torch.allclose(a, b, atol=1e-5) for a, b in zip(whole, images, strict=True)]
    flipped = [torch.allclose(a, b.flip(-1), atol=1e-5) for a, b in zip(whole, images, strict=True)]
    assert all(a != b for a, b in zip(kept, flipped, strict=True)) and 10 < sum(kept) < 30
    ramp = torch.linspace(0, 1, 64).expand(40, 3, 64, 64)
    wide = Pixels(views=1, crop=0.5, noise=0.0).view(ramp.shape, draw)(ramp)
    spans = wide[:, 0, 0].amax(1) - wide[:, 0, 0].amin(1)
    assert float(spans.min()) > 0.48 and float(spans.max()) < 1.0 and float(spans.std()) > 0.05
    add_noise = Pixels(views=1, crop=1.0, noise=0.1).view(ramp.shape, draw)(ramp * 0)
    assert float(add_noise.std()) == pytest.approx(0.1, rel=0.02)


def test_the_gradient_of_a_step_is_the_mean_over_its_views() -> None:
    from limbeck.engine.pixels import over_views

    images = uniform(2, 3, 6, 6)
    of, s = problem(Pixels(views=3)), Synthetic({"image": images}, learn=["image"], origin=torch.arange(2))
    weights = uniform(2, 3, 6, 6, seed=2)

    def step() -> dict[str, float | Tensor]:
        assert s.learned["image"].is_leaf  # a method may call `backward` as often as it likes
        loss = (s.value("image").square() * weights).sum()
        loss.backward()
        return {"loss": loss.detach()}

    logs = over_views(of, s, 4, 10, step)
    x = images.clone().requires_grad_()
    views = [of.pixels.view(images.shape, of.rng(f"view {k} of pixels", 4)) for k in range(3)]
    loss = torch.stack([(view(x).square() * weights).sum() for view in views]).mean()
    loss.backward()
    assert logs["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert torch.allclose(s.learned["image"].grad, x.grad, atol=1e-6)  # type: ignore[arg-type]
    assert torch.equal(s.value("image"), images)  # outside of a step nothing is moved


CASES = [*FORMS, {"views": 2}, {"views": 2, "form": "pyramid", "levels": 3, "colours": "decorrelated"}]


@pytest.mark.parametrize("options", CASES, ids=str)
@pytest.mark.slow
def test_an_interrupted_run_ends_in_the_same_bits(options: dict[str, Any], tmp_path: Path) -> None:
    pixels, method = Pixels(**options), lb.methods.CF(steps=4, lr=0.02)
    whole = lb.distill(problem(pixels), method)
    for state in lb.steps(problem(pixels), method, tmp_path / "run", save_every=1):
        if state.step == 3:
            break
    assert lb.distill(problem(pixels), method, tmp_path / "run").fingerprint == whole.fingerprint
    assert whole.fingerprint != lb.distill(problem(), method).fingerprint
    assert Recipe.read(tmp_path / "run" / "recipe.yaml").pixels == pixels.given


@pytest.mark.parametrize("average", [0.5])
def test_a_moving_average_is_that_of_the_images(average: float) -> None:
    images = 0.3 + 0.4 * uniform(2, 3, 8, 8)
    s = Synthetic({"image": images}, learn=["image"], origin=torch.arange(2), average=average)
    s.learn_in("image", made(FORMS[3], images))
    states = []
    for t in range(3):
        with torch.no_grad():
            for z in s.parameters():
                z += 0.02 * uniform(*z.shape, seed=t)
        s.project()
        states.append(s.value("image").detach())
    weights = torch.tensor([average ** (2 - t) for t in range(3)])
    mean = sum(w * x for w, x in zip(weights / weights.sum(), states, strict=True))
    assert torch.allclose(s.averaged().value("image"), mean, atol=1e-6)  # type: ignore[arg-type]


def test_nothing_is_said_of_pixels_where_nothing_is_given() -> None:
    recipe = Recipe.of(problem(), lb.methods.CF())
    assert "pixels" not in recipe.plain() and recipe.pixels == {}
    s = lb.methods.CF().start(problem())
    assert not [name for name in s.state_dict() if "coordinates" in name] and list(s.learned) == ["image", "text"]


def test_every_method_that_learns_pixels_learns_them_in_any_coordinates() -> None:
    options = Pixels(form="pyramid", levels=2)
    space = lb.space(image="convnet")
    images = toy_source(modalities=("image", "label"))
    for method in (
        lb.methods.DM(steps=1, width=8),
        lb.methods.AVDD(steps=1, width=8),
        lb.methods.DC(steps=1, width=8, inner=1),
        lb.methods.Guided(steps=1, width=8, lr=0.1),
        lb.methods.NCFM(steps=1, frequencies=8),
        lb.methods.ImageBindDC(steps=1, frequencies=8),
    ):
        of = Problem(images, space, lb.Budget(pairs=4), pixels=options)
        states = list(lb.steps(of, method))
        held = states[-1].synthetic
        assert held.learned["image"].any() and torch.isfinite(held.value("image")).all(), method


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"form": "wavelet"}, "`form` of pixels must be raw, pyramid or dct"),
        ({"colours": "lab"}, "`colours` of pixels must be rgb or decorrelated"),
        ({"views": -1}, "`views` of pixels must be from 0 to 1000"),
        ({"views": 2, "crop": 0.0}, "crop"),
        ({"crop": 0.5}, "`crop=0.5` .* Remove it, or set `views=5`"),
        ({"levels": 3}, "`levels=3` .* `form=raw`. Remove it, or set `form=pyramid`"),
        ({"form": "pyramid", "window": 8}, "`window=8` .* set `form=dct`"),
        ({"form": "dct", "window": 0}, "window"),
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Pixels(**options)


def test_methods_that_cannot_are_refused_with_those_that_can() -> None:
    space, views = lb.space(image="convnet", text="bag_of_words"), Pixels(views=2)
    labelled = toy_source(modalities=("image", "label"))
    for method in (lb.methods.Random(), lb.methods.LabelDistillation()):
        with pytest.raises(ConfigError, match=r"learns no pixels here.*--pixels.views.*cf, kip or dm"):
            lb.distill(Problem(toy_source(), space, lb.Budget(pairs=4), pixels=views), method)
    with pytest.raises(ConfigError, match=r"classifier.*--pixels.views"):
        lb.distill(Problem(labelled, lb.space(image="convnet"), lb.Budget(pairs=4), pixels=views), lb.methods.DC())
    with pytest.raises(ConfigError, match="learns no pixels"):
        of = Problem(toy_source(), lb.space(text="bag_of_words"), lb.Budget(pairs=4), pixels=views)
        lb.distill(of, lb.methods.CF(steps=1))


class TestPools:
    """One member a step, in methods that read one encoder."""

    NAME = "pool:convnet+efficientnet_lite0"

    def test_the_message_names_those_that_draw(self) -> None:
        from limbeck import registry
        from limbeck.core.method import DRAW

        drawing = [name for name in registry.names("method") if registry.get("method", name).pools == "drawn"]
        assert sorted(DRAW.replace(" or ", ", ").split(", ")) == sorted(drawing)

    @pytest.mark.slow
    def test_members_are_drawn_by_the_seed_and_keep_their_features(self) -> None:
        of = problem(image=self.NAME)
        drawn = [drawn_member(of, t) for t in range(12)]
        names = [one.space["image"].describe()["name"] for one in drawn]
        assert set(names) == {"convnet", "efficientnet_lite0"}
        again = [drawn_member(problem(image=self.NAME), t).space["image"].describe()["name"] for t in range(12)]
        other = [drawn_member(problem(image=self.NAME, seed=1), t).space["image"].describe()["name"] for t in range(12)]
        assert names == again != other
        assert len({id(one) for one in drawn}) == 2  # what is derived of a member is derived once
        for one in drawn:
            features = [f for e, f in member_features(of, "image") if e.describe() == one.space["image"].describe()]
            assert one.features["image"] is features[0] and one.features["text"] is of.features["text"]
        assert drawn_member(problem(), 3).space["image"].describe()["name"] == "convnet"

    def test_a_step_is_that_of_its_member(self) -> None:
        method = lb.methods.KIP(steps=1, lr=0.01)
        of = problem(image=self.NAME)
        found = lb.distill(of, method)
        alone = Problem(of.source, drawn_member(of, 0).space, of.budget)
        assert torch.equal(found.tensors["image"], lb.distill(alone, method).tensors["image"])

    @pytest.mark.slow
    def test_a_run_is_resumed_to_the_bit(self, tmp_path: Path) -> None:
        method = lb.methods.KIP(steps=4)
        whole = lb.distill(problem(image=self.NAME), method)
        for state in lb.steps(problem(image=self.NAME), method, tmp_path / "run", save_every=1):
            if state.step == 2:
                break
        assert lb.distill(problem(image=self.NAME), method, tmp_path / "run").fingerprint == whole.fingerprint

    def test_others_refuse_it_and_name_those_that_can(self) -> None:
        with pytest.raises(ConfigError, match=r"cf, covmatch, imagebind_dc, kip or ncfm.*label_distillation"):
            lb.distill(problem(image=self.NAME), lb.methods.DM(steps=1))
        with pytest.raises(ConfigError, match="frozen"):
            lb.distill(problem(image=self.NAME), lb.methods.CovMatch(steps=1, towers="encoder"))


def test_the_command_line_has_the_same_options_and_defaults() -> None:
    from limbeck.commands._options import parse
    from limbeck.commands.distill import Distill

    assert parse(Distill, ["demo", "--pairs", "3", "--run", "r"]).learned_as() == Pixels()
    words = [
        "--pixels.views",
        "5",
        "--pixels.form",
        "pyramid",
        "--pixels.levels",
        "3",
        "--pixels.colours",
        "decorrelated",
    ]
    found = parse(Distill, ["demo", "--pairs", "3", "--run", "r", *words])
    assert found.learned_as() == Pixels(5, form="pyramid", levels=3, colours="decorrelated")
    assert {f.name for f in fields(Pixels)} <= {f.name for f in fields(Distill)}


def test_a_recipe_gives_the_same_options_again(tmp_path: Path) -> None:
    from limbeck.commands._options import parse
    from limbeck.commands.distill import Distill

    pixels = Pixels(2, crop=0.9, form="dct", window=7)
    path = tmp_path / "recipe.yaml"
    tree = Recipe.of(problem(pixels), lb.methods.CF()).plain()
    path.write_text(yaml.safe_dump({**tree, "source": {"name": "demo"}}))
    found = parse(Distill, ["--config", str(path), "--run", "r"])
    assert found.learned_as() == pixels and found.pixels == "uint8"
    changed = parse(Distill, ["--config", str(path), "--run", "r", "--pixels", "float32"])
    assert changed.learned_as() == pixels and changed.pixels == "float32"


def test_coordinates_of_the_pixels_themselves_change_no_gradient() -> None:
    """Also where a method divides gradients itself, and calls `backward` several times."""
    images = toy_source()
    for method in (
        lb.methods.MTTVL(steps=1, experts=1, expert_batch=8, update="sgd", segments=2),
        lb.methods.DC(steps=1, width=8, inner=1),
    ):
        space = (
            lb.space(image="convnet") if method.needs == ("image",) else lb.space(image="convnet", text="bag_of_words")
        )
        gradients = []
        for pixels in (Pixels(), Pixels(colours="decorrelated")):
            of = Problem(images, space, lb.Budget(pairs=4), pixels=pixels)
            state = list(lb.steps(of, method))[-1].synthetic
            held = state.coordinates["image"].axes if pixels.moves else torch.eye(3)
            gradient = state.learned["image"].grad
            assert gradient is not None
            gradients.append(torch.einsum("dc,mdhw->mchw", torch.linalg.inv(held), gradient))
        assert torch.allclose(gradients[0], gradients[1], rtol=1e-3, atol=1e-3 * float(gradients[0].abs().max()))


def test_a_comparison_gives_pixels_to_those_that_learn_them(tmp_path: Path) -> None:
    from limbeck.evaluation.compare import _Bench

    source, space, pixels = toy_source(), lb.space(image="convnet", text="bag_of_words"), Pixels(form="dct")
    bench = _Bench(tmp_path, source, space, (0,), Runtime(cache=lb.Cache(tmp_path)), lb.Storage(), (), pixels)
    for method, given in ((lb.methods.CF(), pixels), (lb.methods.Random(), Pixels())):
        assert bench.problem(source, lb.Budget(pairs=4), 0, method).pixels == given
    with pytest.raises(ConfigError, match="no method here learns pixels"):
        lb.compare(source, ["random"], [4], 1, space=space, run=tmp_path / "none", pixels=Pixels(views=2))
