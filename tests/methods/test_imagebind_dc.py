"""The family of ImageBindDC: what a step reads, what it moves, and what it sees of the pairing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import limbeck as lb
from limbeck.check import check_method, toy_source
from limbeck.core import Method, Problem, chosen_pairs
from limbeck.data.batch import Batch
from limbeck.data.modality import Modality
from limbeck.data.source import Source
from limbeck.data.vectors import VectorSource
from limbeck.errors import LimbeckError, LimbeckWarning, UnknownName
from limbeck.methods.matching._views import spread
from limbeck.networks.convnet import ConvNet
from limbeck.objectives.characteristic import characteristic, root_distance

DC = lb.methods.ImageBindDC
SMALL: dict[str, Any] = {"steps": 3, "frequencies": 64, "bank": 2}
VARIANTS = [DC(**SMALL, variant=v) for v in ("cf", "hybrid", "cosine")]
FAMILY = {
    **{f"imagebind_dc {m.variant}": m for m in VARIANTS},
    "imagebind_dc closed form": DC(steps=3, frequencies=0, batch=9),
    "imagebind_dc hybrid closed form": DC(steps=3, frequencies=0, batch=9, variant="hybrid"),
    "imagebind_dc root": DC(**SMALL, distance="root", drop=0.3),
    "imagebind_dc anew": DC(steps=3, frequencies=64, bank=0, batch=9),
    "ncfm": lb.methods.NCFM(**SMALL),
    "avdd": lb.methods.AVDD(steps=3, batch=6, width=8, lr=0.005),
}


def tied(samples: int = 40, seed: int = 0, classes: int = 2, changed: int | None = None) -> VectorSource:
    """Three modalities in shared coordinates; `changed` gives another law to one class."""
    drawn = torch.Generator().manual_seed(seed)
    label = torch.arange(samples) % classes
    a = torch.randn(samples, 6, generator=drawn) + label[:, None]
    values = {m: a + 0.3 * torch.randn(samples, 6, generator=drawn) for m in "abc"}
    if changed is not None:
        values["c"][label == changed] = values["c"][label == changed].flip(1) * 0.5
    return VectorSource("tied", values, labels=label)


def space(modalities: Sequence[str] = "abc") -> lb.Space:
    return lb.space(**dict.fromkeys(modalities, "vectors:6"))


def problem(pairs: int = 8, modalities: Sequence[str] = "abc", **options: Any) -> Problem:
    return Problem(tied(**options), space(modalities), lb.Budget(pairs=pairs))


@pytest.mark.parametrize("method", FAMILY.values(), ids=FAMILY)
@pytest.mark.parametrize("per_class", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_contract_with_three_modalities(method: Method, per_class: bool) -> None:
    """Determinism, resuming and the rest: classes and class-free."""
    method = replace(method, per_class=per_class, init="random")  # type: ignore[call-arg]
    check_method(method, space(), tied())


@pytest.mark.parametrize("variant", ["cf", "hybrid", "cosine"])
@pytest.mark.parametrize("modalities", ["a", "ab", "abc"])
def test_the_terms_of_each_variant(variant: str, modalities: str) -> None:
    method, of = DC(**SMALL, variant=variant), problem(modalities=modalities)
    logs = method.step(of, method.start(of), 1)
    pairs = {"a": [], "ab": ["a+b"], "abc": ["a+b", "a+c", "b+c"]}[modalities]
    joint = [f"joint {p}" for p in pairs] if variant == "cosine" else ["joint"] if pairs else []
    assert set(logs) == {"loss", *modalities, *pairs, *joint}
    weight = 1 / 30 if variant == "cosine" else 1.0
    expected = sum(float(logs[m]) for m in modalities) + weight * sum(float(logs[p]) for p in [*pairs, *joint])
    assert float(logs["loss"]) == pytest.approx(expected, rel=1e-4)


def test_every_tenth_step_logs_how_hard_each_level_pulls() -> None:
    of, method = problem(modalities="ab"), DC(**SMALL, cross=2.0, joint=0.5)
    synthetic = method.start(of)
    logs = [method.step(of, synthetic, t) for t in (0, 1, 10)]
    names = {f"{level} gradient" for level in ("uni", "cross", "joint")}
    assert names <= set(logs[0]) and names <= set(logs[2]) and not names & set(logs[1])
    matching = method._targets.at(of, 0)
    groups = list(matching.groups(synthetic, None))
    for level, terms in {"uni": "ab", "cross": ["a+b"], "joint": ["joint"]}.items():
        value = method.weights[level] * sum(matching.terms(g)[name] for g in groups for name in terms) / 2
        found = torch.autograd.grad(value, [z for g in groups for z in g.own.values()], retain_graph=True)
        norm = torch.cat([g.flatten() for g in found]).norm()
        assert float(logs[0][f"{level} gradient"]) == pytest.approx(float(norm), rel=1e-4) and norm > 0
    assert "joint gradient" not in DC(**SMALL, joint=0.0).step(of, synthetic, 0), "a level of weight 0 has none"


@pytest.mark.parametrize("method", [DC, lb.methods.NCFM])
def test_frequencies_at_which_nothing_is_left_are_warned_of(method: type) -> None:
    """The laws of the data vanish, and what remains is the noise of few samples."""
    of = problem(samples=200)
    with pytest.warns(LimbeckWarning, match=r"at scale = 8 the characteristic functions .* lower scale"):
        method(**SMALL, scale=8.0).start(of)
    for scale in (0.5, 1.0):
        method(**SMALL, scale=scale).start(of)  # a warning is an error here


def test_terms_of_two_modalities_are_the_formulas() -> None:
    """Hybrid pairs row by row with the rows drawn, and the published products of unit vectors."""
    of, method = problem(modalities="ab"), DC(**SMALL, variant="hybrid", per_class=False)
    synthetic = method.start(of)
    sizes = {m: spread(of, m) for m in "ab"}
    own = {m: F.normalize(synthetic.value(m).detach(), dim=1) for m in "ab"}
    real = {m: of.features[m].vectors for m in "ab"}
    drawn = torch.randperm(40, generator=of.rng("hybrid 0", 1))[:8]
    wave = method._targets.freqs(of, 1)["a"]
    x = (real["a"][drawn] / sizes["a"] + own["b"] / sizes["b"]) @ wave
    y = (real["b"][drawn] / sizes["b"] + own["a"] / sizes["a"]) @ wave
    expected = ((x.cos().mean(0) - y.cos().mean(0)) ** 2 + (x.sin().mean(0) - y.sin().mean(0)) ** 2).mean()
    assert float(method.step(of, synthetic, 1)["a+b"]) == pytest.approx(float(expected), rel=1e-4)

    logs = DC(**SMALL, variant="cosine", per_class=False).step(of, synthetic, 1)
    cross = 1 - F.cosine_similarity((real["a"] * real["b"]).mean(0), (own["a"] * own["b"]).mean(0), dim=0)
    joint = 1 - (real["a"].mean(0) * own["b"].mean(0) * real["b"].mean(0) * own["a"].mean(0)).sum()
    assert float(logs["a+b"]) == pytest.approx(float(cross), rel=1e-4, abs=1e-6)
    assert float(logs["joint a+b"]) == pytest.approx(float(joint), rel=1e-4)


def test_weights_take_terms_away() -> None:
    of = problem()
    for options, gone in (({"cross": 0.0}, "+"), ({"joint": 0.0}, "joint")):
        method = DC(**SMALL, **options)
        assert not [name for name in method.step(of, method.start(of), 0) if gone in name]
    both = DC(**SMALL, uni=2.0, cross=0.5, joint=3.0)
    logs = {k: float(v) for k, v in both.step(of, both.start(of), 0).items()}
    expected = 2 * sum(logs[m] for m in "abc") + 0.5 * sum(v for k, v in logs.items() if "+" in k) + 3 * logs["joint"]
    assert logs["loss"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", [n for n in FAMILY if n != "avdd"])
def test_no_step_reads_the_data_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen encoders see each real sample once."""
    of, method = problem(), FAMILY[name]
    synthetic = method.start(of)
    monkeypatch.setattr(of.source, "batch", lambda index: pytest.fail("a step decoded real samples"))
    for t in range(3):
        method.step(of, synthetic, t)


def test_at_banked_frequencies_no_real_vector_is_read_either(monkeypatch: pytest.MonkeyPatch) -> None:
    of, method = problem(), DC(**SMALL)
    synthetic = method.start(of)
    first = [method.step(of, synthetic, t)["loss"] for t in range(2)]
    monkeypatch.setattr(
        "limbeck.methods.matching._targets.MatchingStep.vectors",
        lambda self, among: pytest.fail("it read real vectors"),
    )
    assert [method.step(of, synthetic, t)["loss"] for t in range(2, 4)] == first


@pytest.mark.parametrize("name", [n for n in FAMILY if n != "avdd"])
@pytest.mark.slow
def test_no_class_moves_another(name: str) -> None:
    """The samples of class 0 after three steps, when class 1 has other real data: the same to the bit."""
    method = replace(FAMILY[name], init="random", per_class=True)
    rows = []
    for changed in (None, 1):
        of = problem(changed=changed)
        start = method.start(problem())
        method_space = {m: start.value(m).detach() for m in "abc"}
        of.once(("spread", "c"), lambda: 1.0)  # of all classes together, and the only thing that they share
        for state in lb.steps(of, method):
            if state.step == 0:
                for m in "abc":
                    state.synthetic.value(m).data.copy_(method_space[m])
        rows.append({m: state.synthetic.value(m).detach() for m in "abc"})
    labels = start.labels
    assert labels is not None
    assert all(torch.equal(rows[0][m][labels == 0], rows[1][m][labels == 0]) for m in "abc")
    assert not torch.equal(rows[0]["c"][labels == 1], rows[1]["c"][labels == 1])


def test_a_step_of_one_class_leaves_the_others_to_the_bit() -> None:
    """After steps of all classes, when momentum has been gathered."""
    of, method = problem(), DC(**SMALL, init="random", per_class=True)
    synthetic = method.start(of)
    optimizer = method.optimizer(synthetic)
    assert optimizer is not None and synthetic.labels is not None
    for t in range(3):
        optimizer.zero_grad()
        method.step(of, synthetic, t)
        if t == 2:
            for p in synthetic.parameters():
                assert p.grad is not None
                p.grad[synthetic.labels == 1] = 0
        before = {m: synthetic.value(m).detach().clone() for m in "abc"}
        optimizer.step()
    for m, value in before.items():
        still = synthetic.labels == 1
        assert torch.equal(synthetic.value(m)[still], value[still])
        assert not torch.equal(synthetic.value(m)[~still], value[~still])


def test_the_encoder_is_left_as_it_was() -> None:
    of = Problem(toy_source(), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=4))
    network = of.space["image"].network
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    lb.distill(of, DC(**SMALL))
    assert not network.training and not any(p.requires_grad or p.grad is not None for p in network.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    image = of.source.batch([0, 1])["image"]
    assert torch.equal(of.space["image"](image), of.space["image"](image))


def ties(of: Problem, method: Method, broken: bool) -> dict[str, float]:
    """The terms of a set of real pairs, or of the same with the pairing of c broken within its class."""
    synthetic = chosen_pairs(of, torch.arange(40), of.modalities)
    order = torch.arange(40).roll(2)
    if broken:
        synthetic.value("c").data.copy_(synthetic.value("c").data[order])
    return {name: float(v) for name, v in method.step(of, synthetic, 1).items()}


def test_what_each_method_sees_of_the_pairing() -> None:
    of = problem(samples=40)
    for method, sees in (
        (DC(**SMALL, per_class=False), {"a+c", "b+c", "joint"}),
        (DC(frequencies=0, per_class=False), {"a+c", "b+c", "joint"}),
        (lb.methods.NCFM(**SMALL, per_class=False), set()),
        (lb.methods.AVDD(batch=40, per_class=False), set()),
    ):
        whole, broken = (ties(of, method, b) for b in (False, True))
        for name, value in whole.items():
            if name == "loss":
                continue
            if name in sees:
                assert broken[name] > value + 1e-3, name
            else:
                assert broken[name] == pytest.approx(value, abs=1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize("frequencies", [0, 256])
def test_it_mends_broken_pairs(frequencies: int) -> None:
    """All three levels bring the joint law of mismatched pairs near the real one; marginals alone do not."""
    left = {}
    for joint in (1.0, 0.0):
        of = problem(32, "ab", samples=200)
        method = DC(steps=60, frequencies=frequencies, lr=0.1, cross=joint, joint=joint, init="random")
        for state in lb.steps(of, method):
            if state.step == 0:
                value = state.synthetic.value("b").data
                value.copy_(torch.cat([part.roll(1, 0) for part in value.split(16)]))
        judge = DC(frequencies=0)
        left[joint] = float(judge.step(of, state.synthetic, 0)["joint"])
    assert left[1.0] < 0.6 * left[0.0]


@pytest.mark.slow
def test_augmented_views_teach() -> None:
    of = Problem(toy_source(40), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=8))
    method = DC(steps=24, frequencies=256, augment=("crop", "color"), views=3, lr=0.01, lr_text=0.01)
    start = method.start(of)
    before = [float(method.step(of, start, t)["loss"]) for t in range(3)]
    *_, state = lb.steps(of, method)
    after = [float(method.step(of, state.synthetic, t)["loss"]) for t in range(3)]
    assert all(b < 0.7 * a for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"frequencies": 0, "bank": 2},
            r"`bank=2` of imagebind_dc is ignored when the closed form is taken \(`frequencies=0`\)\. Remove it, or set",
        ),
        (
            {"frequencies": 0, "distance": "root"},
            "`distance=root` of imagebind_dc is ignored when the closed form is taken",
        ),
        (
            {"batch": 9},
            r"`batch=9` .* ignored when a frequency bank is used \(`bank=8`\)\. Remove it, or set `bank=0`\.",
        ),
        (
            {"variant": "cosine", "drop": 0.5},
            r"`drop=0.5` of imagebind_dc is ignored when no joint function is compared\. Remove it\.",
        ),
        ({"joint": 0.0, "drop": 0.5}, "`drop=0.5` of imagebind_dc is ignored"),
        (
            {"views": 3},
            "`views=3` of imagebind_dc is ignored when nothing is augmented .* name operations in `augment`",
        ),
        ({"uni": 0.0, "cross": 0.0, "joint": 0.0}, "are all 0, so nothing is matched; give one a weight"),
        ({"cross": -1.0}, "`cross` of imagebind_dc must be 0 or more, got -1.0"),
        ({"drop": 1.0}, "`drop` of imagebind_dc must be 0 or more and below 1, got 1.0"),
        ({"scale": 0.0}, "`scale` of imagebind_dc must be"),
        ({"augment": ("blur",)}, "unknown augmentation blur"),
        ({"init": "hearding"}, "did you mean herding"),
    ],
)
def test_what_has_no_say_or_cannot_work_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(LimbeckError, match=says):
        DC(**options)


@pytest.mark.parametrize(("name", "known"), [("variant", "cf, hybrid or cosine"), ("distance", "square or root")])
def test_an_unknown_word_is_refused(name: str, known: str) -> None:
    method = DC()
    object.__setattr__(method, name, "cube")  # typed tests refuse it earlier than users are
    with pytest.raises(LimbeckError, match=f"`{name}` of imagebind_dc must be {known}, got 'cube'"):
        method.__post_init__()


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("NCFM", {"batch": 9}, "`batch=9` of ncfm is ignored when a frequency bank is used"),
        ("NCFM", {"views": 3}, "`views=3` of ncfm is ignored when nothing is augmented"),
        ("NCFM", {"amplitude": 1.5}, "`amplitude` of ncfm must be from 0 to 1, got 1.5"),
        ("NCFM", {"frequencies": 0}, "`frequencies` of ncfm must be 1 or more"),
        ("AVDD", {"icm": -1.0}, "`icm` of avdd must be 0 or more"),
        ("AVDD", {"augment": ("blur",)}, "unknown augmentation blur"),
    ],
)
def test_what_the_relatives_refuse(method: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(LimbeckError, match=says):
        getattr(lb.methods, method)(**options)
    with pytest.raises(UnknownName, match="did you mean herding"):
        getattr(lb.methods, method)(init="hearding")


@pytest.mark.parametrize("variant", ["hybrid", "cosine"])
def test_embeddings_of_different_widths_cannot_be_added(variant: str) -> None:
    of = Problem(toy_source(), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=4))
    with pytest.raises(
        LimbeckError, match=rf"variant = '{variant}' takes embeddings component by component.*image.*text"
    ):
        lb.distill(of, DC(**SMALL, variant=variant))
    assert "features" not in vars(of), "before anything is encoded"


def test_one_modality_needs_uni() -> None:
    of = Problem(toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
    with pytest.raises(LimbeckError, match="uni = 0 leaves no term"):
        lb.distill(of, DC(uni=0.0))


class Rooms(Source):
    """The toy source with a depth map of metres and a sound that is not square beside each image."""

    def __init__(self) -> None:
        self._toy = toy_source(16, modalities=("image", "label"))
        self.name, self.fingerprint, self.classes = "rooms", "rooms", self._toy.classes
        more = {"depth": Modality("depth", (1, 16, 16), 0.0, 10.0), "audio": Modality("audio", (1, 8, 20))}
        self.modalities = {**self._toy.modalities, **more}

    def __len__(self) -> int:
        return len(self._toy)

    def batch(self, index: Any) -> Batch:
        """The samples at `index`."""
        values = self._toy.batch(index).values
        grey = values["image"].mean(1, keepdim=True)
        return Batch({**values, "depth": 10 * grey, "audio": grey[:, :, ::2, :1].expand(-1, -1, -1, 20).contiguous()})

    @property
    def keys(self) -> Any:
        """Of the toy."""
        return self._toy.keys

    @property
    def captions(self) -> Any:
        """None."""
        return [()] * len(self)

    @property
    def labels(self) -> Tensor | None:
        """Of the toy."""
        return self._toy.labels


@dataclass(frozen=True)
class Flat(lb.Encoder):
    """Values in one row."""

    modality: str = "depth"

    @property
    def dim(self) -> int:
        """Fixed."""
        return 8

    def build(self) -> nn.Module:
        """Nothing with weights."""
        return nn.AdaptiveAvgPool2d((2, 4))

    def encode(self, network: nn.Module, values: Any) -> Tensor:
        """Pooled."""
        return network(values).mean(1).flatten(1) + 0.1  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", FAMILY)
def test_any_modalities(name: str) -> None:
    encoders = {m: Flat(m) for m in ("image", "depth", "audio")}
    of = Problem(Rooms(), lb.Space(encoders), lb.Budget(pairs=4))
    method = FAMILY[name]
    start = method.start(of)
    *_, state = lb.steps(of, method)
    for m in encoders:
        value, kind = state.synthetic.value(m), of.source.modalities[m]
        assert not torch.equal(value, start.value(m)), m
        assert kind.low <= value.min() and value.max() <= kind.high


def test_avdd_at_equal_weights_is_21_times_its_base() -> None:
    """For image and text; and the base of images is that of dm, which draws the same network for one modality."""
    of = Problem(
        toy_source(40, modalities=("image", "text")), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=4)
    )
    gradients = []
    for weight in (0.0, 10.0):
        method = lb.methods.AVDD(icm=weight, cgm=weight, width=8, augment=())
        synthetic = method.start(of)
        logs = method.step(of, synthetic, 0)
        base = float(logs["image"]) + float(logs["text"])
        assert float(logs["loss"]) == pytest.approx((1 + 2 * weight) * base, rel=1e-4)
        gradients.append({m: p.grad for m, p in synthetic.learned.items()})
    for m, gradient in gradients[0].items():
        assert gradient is not None and gradients[1][m] is not None
        assert torch.allclose(21 * gradient, gradients[1][m], rtol=1e-3, atol=1e-6 * float(gradient.abs().max()))


def test_avdd_shows_its_networks_any_range_as_zero_to_one() -> None:
    """Depth in metres and a spectrogram that is not square, against the formula."""
    of = Problem(Rooms(), lb.Space({m: Flat(m) for m in ("depth", "audio")}), lb.Budget(pairs=4))
    method = lb.methods.AVDD(width=8, per_class=False)
    synthetic = method.start(of)
    logs = method.step(of, synthetic, 0)
    for m, side, high in (("depth", 16, 10.0), ("audio", 8, 1.0)):
        network = ConvNet(side, width=8, generator=of.rng(f"network {m}", 0))
        both = [of.source.batch(range(16))[m] / high, synthetic.value(m).detach() / high]
        small = [F.interpolate(x, (side, side), mode="bilinear", antialias=True).expand(-1, 3, -1, -1) for x in both]
        gap = network(small[0]).mean(0) - network(small[1]).mean(0)
        assert float(logs[m]) == pytest.approx(float(gap.detach().square().sum()), rel=1e-3), m


def test_ncfm_is_the_root_form_of_each_modality() -> None:
    of, method = problem(modalities="ab"), lb.methods.NCFM(**SMALL, amplitude=0.9, scale=0.7, per_class=False)
    synthetic = method.start(of)
    logs = method.step(of, synthetic, 1)
    drawn = of.rng("bank", 1)
    for m in "ab":
        wave = 0.7 * torch.randn(6, 64, generator=drawn) / spread(of, m)
        own = characteristic(F.normalize(synthetic.value(m).detach(), dim=1) @ wave)
        expected = root_distance(own, characteristic(of.features[m].vectors @ wave), 0.9, 0.1)
        assert float(logs[m]) == pytest.approx(float(expected), rel=1e-3)
    assert set(logs) == {"loss", "a", "b"}
    assert float(logs["loss"]) == pytest.approx(float(logs["a"] + logs["b"]), rel=1e-5)


def test_ncfm_compares_augmented_images() -> None:
    of = Problem(toy_source(12), lb.space(image="convnet"), lb.Budget(pairs=4))
    moved = lb.methods.NCFM(**SMALL, augment=("crop", "rotate"), views=2)
    plain = lb.methods.NCFM(**SMALL)
    losses = [float(method.step(of, method.start(of), 0)["loss"]) for method in (moved, plain)]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
    assert any(key[0] == "view" for key in of._memo)


@pytest.mark.parametrize("method", [DC(lr=0.5, lr_text=0.25), lb.methods.NCFM(lr=0.5, lr_text=0.25)])
def test_texts_have_a_rate_of_their_own(method: Method) -> None:
    of = Problem(toy_source(), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=4))
    optimizer = method.optimizer(method.start(of))
    assert optimizer is not None
    assert {group["params"][0].ndim: group["lr"] for group in optimizer.param_groups} == {4: 0.5, 2: 0.25}
