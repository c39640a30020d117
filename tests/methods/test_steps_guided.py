"""Steps of guided against naive ones: each idea by itself and all together, and what a set starts from."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import limbeck as lb
import naive
from followed import follow, groups, real_samples
from limbeck.core import Problem, Synthetic
from limbeck.data.augment import siamese_masked
from limbeck.networks.convnet import ConvNet
from masked import Masked
from naive_classifier import Classifier
from tiers import slow_but

Guided = lb.methods.Guided
WIDTH, BATCH = 5, 3


def problem(text: bool = True, pairs: int = 8) -> Problem:
    """Coloured squares with their masks, of which some are absent and some empty."""
    modalities = ("image", "text", "label") if text else ("image", "label")
    image = {"name": "convnet", "width": 32, "pooled": True}
    space = lb.space(image=image, **({"text": {"name": "bag_of_words", "width": 32}} if text else {}))
    return Problem(Masked(modalities=modalities), space, lb.Budget(pairs=pairs))


def objects(of: Problem, samples: list[int]) -> Tensor:
    """The masks of real samples; one without a mask, or with an empty one, is object everywhere."""
    batch = of.source.batch(samples)
    there = batch.mask("mask")
    found = []
    for mask, held in zip(batch["mask"], there.tolist(), strict=True):
        found.append(mask if held and bool(mask.any()) else torch.ones_like(mask))
    return torch.stack(found)


def composite(image: Tensor, mask: Tensor, fill: Tensor) -> Tensor:
    """`x m + (1 - m) fill`."""
    return image * mask + (1 - mask) * fill


def captions_of(of: Problem, samples: list[int]) -> Tensor:
    owner = of.features["text"].owner.tolist()
    return of.features["text"].vectors[[owner.index(i) for i in samples]].double()


def class_mean(of: Problem, modality: str, label: int) -> Tensor:
    """The mean vector of the real samples of a class, each with all its rows."""
    labels = of.source.labels
    assert labels is not None
    features = of.features[modality]
    rows = [v for v, i in zip(features.vectors.double(), features.owner.tolist(), strict=True) if labels[i] == label]
    return naive.mean(rows)


class ByHand:
    """The terms of one step after the other; it keeps the classifier and the weights of the first step."""

    def __init__(self, of: Problem, method: Any) -> None:
        self.of, self.method, self.weights = of, method, dict[str, float]()
        width = of.space.dims["text"] if method.concat else 0
        self.classifier = Classifier(of, WIDTH, method.lr_network, method.augment, width)

    def __call__(self, t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        method, found = self.method, dict[str, Tensor]()
        self.t, self.own, self.synthetic = t, own, synthetic
        self.parts = groups(self.of, synthetic, True)
        self.real = [real_samples(self.of, pool, BATCH, g, t) for g, (pool, _) in enumerate(self.parts)]
        assert synthetic.labels is not None
        self.labels = [int(synthetic.labels[rows[0]]) for _, rows in self.parts]
        self.text = (
            own["text"] if "text" in own else synthetic.value("text") if "text" in synthetic.modalities else None
        )
        self.move()
        if method.base == "dm" or method.alignment != "none" or method.captions in ("proj", "joint"):
            found |= self.means()
        if method.base == "dc" or method.gradients != "none":
            found |= self.gradients()
        if method.captions == "clip":
            found["captions"] = self.in_space()
        if method.captions == "embed":
            found["captions"] = sum(
                (naive.means_distance(captions_of(self.of, r), self.text.double()[rows])  # type: ignore[index]
                 for r, (_, rows) in zip(self.real, self.parts, strict=True)), torch.zeros(()).double()
            )  # fmt: skip
        return self.sum(found)

    def move(self) -> None:
        """Images, masks and objects of each class, moved alike; the objects are cut out before, by the masks of their own set."""
        fill = torch.rand(1, 3, 1, 1, generator=self.of.rng("fill", self.t))
        own_mask = self.synthetic.value("mask")
        self.images, self.masks, self.objects = [], [], []
        for g, (samples, (_, rows)) in enumerate(zip(self.real, self.parts, strict=True)):
            x = [self.of.source.batch(samples)["image"], self.own["image"][rows]]
            m = [objects(self.of, samples), own_mask[rows]]
            cut = [composite(a, b, fill) for a, b in zip(x, m, strict=True)]
            seen, masks = siamese_masked(x, m, self.of.rng(f"augment {g}", self.t), self.method.augment)
            alone, _ = siamese_masked(cut, m, self.of.rng(f"augment {g}", self.t), self.method.augment)
            self.images.append(seen)
            self.masks.append(masks)
            self.objects.append(alone)

    def means(self) -> dict[str, Tensor]:
        """Under the network of this step: the base, the alignment, and captions by projection."""
        of, method, found = self.of, self.method, dict[str, Tensor]()
        network = ConvNet(16, width=WIDTH, generator=of.rng("network", self.t))

        def maps(images: Tensor) -> Tensor:
            return network.blocks((images - 0.5) / 0.5).double()

        def add(name: str, value: Tensor) -> None:
            found[name] = found.get(name, torch.zeros(()).double()) + value

        everyone = torch.cat([maps(real).flatten(1) for real, _ in self.images])
        said = torch.cat([captions_of(of, r) for r in self.real]) if self.text is not None else everyone
        size = ((everyone * everyone).mean() / (said * said).mean()).detach()
        own, target = [], []
        for g, (_, rows) in enumerate(self.parts):
            (real, mine), (m, n) = self.images[g], self.masks[g]
            if method.base == "dm":
                add("base", naive.means_distance(maps(real).flatten(1), maps(mine).flatten(1)))
                if method.captions == "joint":
                    add("base", size * naive.means_distance(captions_of(of, self.real[g]), self.text.double()[rows]))  # type: ignore[union-attr]
            if method.alignment == "feature":
                add("alignment", naive.means_distance(self.pooled(maps(real), m), self.pooled(maps(mine), n)))
            if method.alignment == "input":
                a, b = self.objects[g]
                add("alignment", naive.means_distance(maps(a).flatten(1), maps(b).flatten(1)))
            if method.captions == "proj":
                points = naive.caption_map(everyone.detach(), said, maps(mine).flatten(1))
                own.append(points)
                target.append(naive.mean(captions_of(of, self.real[g])))
        if method.captions == "proj":
            for points, aim in zip(own, target, strict=True):
                add("captions", naive.square(naive.mean(points) - aim))
            each = [
                1 - naive.cosine(p, self.text[row].double())  # type: ignore[index]
                for points, (_, rows) in zip(own, self.parts, strict=True)
                for p, row in zip(points, rows, strict=True)
            ]
            add("captions", method.single * naive.mean(each))
        return found

    @staticmethod
    def pooled(features: Tensor, masks: Tensor) -> Tensor:
        """`sum h m / sum m`, with each mask averaged over the area that a position stands for."""
        step = masks.shape[-1] // features.shape[-1]
        small = F.avg_pool2d(masks, step).double()
        return torch.stack([(h * m).sum((1, 2)) / (m.sum() + 1e-6) for h, m in zip(features, small, strict=True)])

    def gradients(self) -> dict[str, Tensor]:
        """Under the classifier of this step, which reads captions as large as its features of the set were when it was new."""
        method, assert_labels = self.method, self.synthetic.labels
        assert assert_labels is not None
        images, size = self.own["image"].detach(), 1.0
        if self.t % method.renew == 0:
            self.classifier.begin(self.t)
        if method.concat:
            assert self.text is not None
            new = Classifier(self.of, WIDTH, method.lr_network, method.augment, self.of.space.dims["text"])
            new.begin(self.t - self.t % method.renew)
            v, c = new.features(new.weights, images), self.text.detach()
            size = method.concat * float(((v * v).mean() / (c * c).mean()).sqrt().detach())
        beside = size * self.text if method.concat and self.text is not None else None
        if self.t % method.renew:
            own = None if beside is None else beside.detach()
            self.classifier.learn(images, assert_labels, method.inner, self.t, own)
        found = dict[str, Tensor]()
        for g, (label, (_, rows)) in enumerate(zip(self.labels, self.parts, strict=True)):
            said: tuple[Tensor | None, Tensor | None] = (None, None)
            if beside is not None:
                said = size * captions_of(self.of, self.real[g]).float(), beside[rows]
            if method.base == "dc":
                value = self.classifier.distance(*self.images[g], label, said)
                found["base"] = found.get("base", torch.zeros(()).double()) + value
            if method.gradients != "none":
                mine = self.images[g][1] if method.gradients == "real_only" else self.objects[g][1]
                value = self.classifier.distance(self.objects[g][0], mine, label, said)
                found["gradients"] = found.get("gradients", torch.zeros(()).double()) + value
        return found

    def in_space(self) -> Tensor:
        """`sum_c |mean z_c - mean real z_c|^2 + single mean (1 - cos(z, caption))` in the space of the encoders."""
        z = self.of.space["image"](self.own["image"]).double()
        total = torch.zeros(()).double()
        for label, (_, rows) in zip(self.labels, self.parts, strict=True):
            total = total + naive.square(naive.mean(z[rows]) - class_mean(self.of, "image", label))
        each = [1 - naive.cosine(a, b) for a, b in zip(z, self.text.double(), strict=True)]  # type: ignore[union-attr]
        return total + self.method.single * naive.mean(each)

    def sum(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted sum; weights that are not given balance the gradients in the pixels at the first step."""
        names = [name for name in ("alignment", "gradients", "captions") if name in found]
        if self.t == 0:
            pixels = self.own["image"]

            def length(value: Tensor) -> float:
                (g,) = torch.autograd.grad(value, [pixels], retain_graph=True, allow_unused=True)
                return 0.0 if g is None else float(g.double().square().sum().sqrt())

            for name in names:
                given = getattr(self.method, f"weight_{name}")
                balanced = given is None and (name, self.method.captions) != ("captions", "embed") and "base" in found
                self.weights[name] = 1.0 if given is None else given
                if balanced:
                    self.weights[name] = self.method.fraction * length(found["base"]) / length(found[name])
        loss = found.get("base", torch.zeros(()).double())
        for name in names:
            loss = loss + self.weights[name] * found[name]
        shown = {f"weight {n}": torch.tensor(self.weights[n]) for n in names} if self.t == 0 else {}
        return {"loss": loss, **found, **shown}


CASES: dict[str, dict[str, Any]] = {
    "dm": {},
    "dm of objects on inputs": {"alignment": "input", "fraction": 0.3},
    "dm of objects on features": {"alignment": "feature", "weight_alignment": 2.0},
    "objects alone": {"base": "none", "alignment": "input", "weight_alignment": 3.0},
    "dc": {"base": "dc", "renew": 2, "inner": 2},
    "gradients of objects in both": {"base": "none", "gradients": "both", "renew": 2, "inner": 1},
    "gradients of objects in the real": {"base": "dm", "gradients": "real_only", "renew": 3, "inner": 1},
    "captions by projection": {"captions": "proj", "single": 0.6},
    "captions by projection, learned": {"captions": "proj", "text": "learn", "base": "none", "weight_captions": 1.5},
    "captions in one space": {"captions": "clip", "single": 0.4, "text": "class_mean"},
    "captions themselves": {"captions": "embed", "text": "learn"},
    "captions beside the base": {"captions": "joint", "text": "learn"},
    "captions beside images": {"base": "dc", "concat": 0.7, "text": "learn", "renew": 2, "inner": 1},
    "all": {
        "base": "dc", "alignment": "input", "gradients": "both", "captions": "proj", "concat": 1.0, "renew": 2, "inner": 1,
        "masks": "class_mean",
    },
}  # fmt: skip


@pytest.mark.parametrize(
    "augment",
    [pytest.param((), id="still", marks=pytest.mark.slow), pytest.param(("crop", "flip", "color"), id="moved")],
)
@pytest.mark.parametrize("case", slow_but(CASES, "dm of objects on inputs", "captions by projection, learned", "all"))
def test_guided(case: str, augment: tuple[str, ...]) -> None:
    of, options = problem(), CASES[case]
    served = options.get("base") == "dc" or "gradients" in options
    learned = options.get("text") == "learn"
    method = Guided(
        steps=9, batch=BATCH, lr=0.05, momentum=0.6, width=WIDTH, augment=augment, **options,
        **({"lr_network": 0.3} if served else {}), **({"lr_text": 0.02} if learned else {}),
    )  # fmt: skip
    rates = {"image": 0.05, "text": 0.02}
    logs = follow(of, method, ByHand(of, method), naive.SGD(0.6), lambda t, m: rates[m], tolerance=4e-3)
    assert len({log["loss"] for log in logs}) == 3


def start(**options: Any) -> tuple[Problem, Synthetic]:
    of = problem()
    return of, Guided(steps=3, width=WIDTH, **options).start(of)


@pytest.mark.parametrize("masks", ["inherit", "full", "class_mean"])
@pytest.mark.parametrize("outside", ["fill", "noise", "keep"])
def test_what_a_set_starts_from(masks: Any, outside: Any) -> None:
    """Real images inside of the masks that were asked for; outside grey, noise of the seed, or what was there."""
    of, made = start(masks=masks, outside=outside)
    assert made.labels is not None and of.source.labels is not None
    real = of.source.batch(made.origin)["image"]
    expected = objects(of, made.origin.tolist())
    if masks == "full":
        expected = torch.ones_like(expected)
    elif masks == "class_mean":
        every = objects(of, list(range(len(of.source))))
        means = [naive.mean(every[of.source.labels == label]) for label in range(4)]
        expected = torch.stack([means[label] for label in made.labels.tolist()])
    assert torch.allclose(made.value("mask"), expected, atol=1e-6)
    noise = torch.rand(real.shape, generator=of.rng("outside"))
    fill = {"fill": torch.tensor(0.5), "noise": noise, "keep": real}[outside]
    assert torch.allclose(made.value("image").detach(), composite(real, expected, fill), atol=1e-6)


@pytest.mark.parametrize("text", ["inherit", "learn", "class_mean"])
def test_captions_of_a_set(text: Any) -> None:
    """Those of the real sample, or the direction of the mean of its own class."""
    of, made = start(captions="proj", text=text)
    assert made.labels is not None and made.caption is not None
    assert ("text" in made.learned) == (text == "learn")
    for j, label in enumerate(made.labels.tolist()):
        expected = of.features["text"].vectors[made.caption[j]].double()
        assert of.features["text"].owner[made.caption[j]] == made.origin[j]
        if text == "class_mean":
            centre = class_mean(of, "text", label)
            expected = centre / naive.square(centre) ** 0.5
        assert torch.allclose(made.value("text")[j].double(), expected, atol=1e-6)
