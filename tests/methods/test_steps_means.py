"""Steps of dm, dc and avdd against naive ones: terms, gradients and updates over several steps."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

import limbeck as lb
import naive
from followed import follow, groups, real_samples
from limbeck.check import toy_source
from limbeck.core import Problem, Synthetic
from limbeck.data.augment import siamese
from limbeck.methods.matching._classifier import InnerClassifier
from limbeck.networks.convnet import ConvNet
from naive_classifier import Classifier

WIDTH = 6


def problem(*modalities: str, pairs: int = 8, n: int = 24) -> Problem:
    names = {"image": "convnet", "text": "bag_of_words"}
    space = lb.space(**{m: names[m] for m in modalities if m in names})
    return Problem(toy_source(n, modalities=modalities), space, lb.Budget(pairs=pairs))


def network(of: Problem, purpose: str, t: int) -> ConvNet:
    return ConvNet(16, width=WIDTH, generator=of.rng(purpose, t))


def first_captions(of: Problem, samples: list[int]) -> Tensor:
    """The vector of the first caption of each sample."""
    owner = of.features["text"].owner.tolist()
    return of.features["text"].vectors[[owner.index(i) for i in samples]].double()


@pytest.mark.parametrize("augment", [(), ("crop", "color", "flip", "rotate")])
@pytest.mark.parametrize("by_class", [True, False])
def test_dm(augment: tuple[str, ...], by_class: bool) -> None:
    """`sum_c |mean f(A(x)) - mean f(A(s))|^2` under the network, the augmentations and the real samples of each step."""
    of = problem("image", "label")
    method = lb.methods.DM(steps=9, batch=3, lr=0.5, momentum=0.7, width=WIDTH, augment=augment, per_class=by_class)
    drawn = []

    def terms(t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        total = torch.zeros(()).double()
        for g, (pool, rows) in enumerate(groups(of, synthetic, by_class)):
            real = real_samples(of, pool, 3, g, t)
            drawn.append(real)
            both = siamese([of.source.batch(real)["image"], own["image"][rows]], of.rng(f"augment {g}", t), augment)
            x, y = (network(of, "network", t)(images).double() for images in both)
            total = total + naive.means_distance(x, y)
        return {"loss": total, "image": total}

    logs = follow(of, method, terms, naive.SGD(0.7), lambda t, m: 0.5)
    assert len({log["loss"] for log in logs}) == 3
    first = drawn[:: len(drawn) // 3]
    assert len({tuple(real) for real in first}) == 3, "other real samples at every step"


def test_dm_of_texts() -> None:
    """Texts by the same distance, between unit vectors, with their own rate; without labels there is one group."""
    of = problem("image", "text")
    method = lb.methods.DM(steps=9, batch=7, lr=0.5, lr_text=0.2, momentum=0.3, width=WIDTH, augment=("crop",))

    def terms(t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        real = real_samples(of, list(range(24)), 7, 0, t)
        both = siamese([of.source.batch(real)["image"], own["image"]], of.rng("augment 0", t), ("crop",))
        image = naive.means_distance(*(network(of, "network", t)(images).double() for images in both))
        text = naive.means_distance(first_captions(of, real), naive.unit(own["text"].double()))
        return {"loss": image + text, "image": image, "text": text}

    follow(of, method, terms, naive.SGD(0.3), lambda t, m: {"image": 0.5, "text": 0.2}[m])


@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("weights", [(3.0, 0.5), (0.0, 2.0)])
def test_avdd(by_class: bool, weights: tuple[float, float]) -> None:
    """Sums and differences of the gaps of two modalities weigh differently, class by class; texts are narrower than features."""
    icm, cgm = weights
    of = problem("image", "text", "label")
    options: dict[str, Any] = {
        "lr": 0.02,
        "lr_text": 0.004,
        "momentum": 0.4,
        "width": WIDTH,
        "augment": ("scale", "cutout"),
    }
    method = lb.methods.AVDD(steps=9, icm=icm, cgm=cgm, batch=4, per_class=by_class, **options)

    def terms(t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        parts = groups(of, synthetic, by_class)
        real = [real_samples(of, pool, 4, g, t) for g, (pool, _) in enumerate(parts)]
        everyone = [i for samples in real for i in samples]
        both = [of.source.batch(everyone)["image"], own["image"]]
        x, y = (
            network(of, "network image", t)(v).double() for v in siamese(both, of.rng("augment", t), options["augment"])
        )
        start, total = 0, torch.zeros(()).double()
        base = {"image": torch.zeros(()).double(), "text": torch.zeros(()).double()}
        for samples, (_, rows) in zip(real, parts, strict=True):
            gap = naive.mean(x[start : start + len(samples)]) - naive.mean(y[rows])
            start += len(samples)
            said = naive.mean(first_captions(of, samples)) - naive.mean(naive.unit(own["text"].double()[rows]))
            total = total + naive.cross_matching([gap, said], icm, cgm)
            base = {"image": base["image"] + naive.square(gap), "text": base["text"] + naive.square(said)}
        return {"loss": total, **base}

    logs = follow(of, method, terms, naive.SGD(0.4), lambda t, m: {"image": 0.02, "text": 0.004}[m])
    other = lb.methods.AVDD(steps=9, icm=cgm, cgm=icm, batch=4, per_class=by_class, **options)
    swapped = other.step(of, other.start(of), 0)
    assert float(swapped["loss"]) != pytest.approx(logs[0]["loss"], rel=5e-3), "the case tells the two weights apart"


@pytest.mark.parametrize("augment", [(), ("flip", "crop")])
@pytest.mark.parametrize(("renew", "inner"), [(1, 2), (2, 1), (3, 2)])
def test_dc(augment: tuple[str, ...], renew: int, inner: int) -> None:
    """The distance of gradients under a classifier that starts anew every `renew` steps and learns from the set in between."""
    of = problem("image", "label")
    method = lb.methods.DC(
        steps=9, renew=renew, inner=inner, batch=4, lr=0.05, momentum=0.6, lr_network=0.5, width=WIDTH, augment=augment
    )
    classifier = Classifier(of, WIDTH, 0.5, augment)
    trained = []

    def terms(t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        assert synthetic.labels is not None
        before = classifier.weights
        if t % renew == 0:
            classifier.begin(t)
        else:
            classifier.learn(own["image"].detach(), synthetic.labels, inner, t)
            trained.append(not all(torch.equal(a, b) for a, b in zip(before, classifier.weights, strict=True)))
        total = torch.zeros(()).double()
        for g, (pool, rows) in enumerate(groups(of, synthetic, True)):
            real = of.source.batch(real_samples(of, pool, 4, g, t))["image"]
            seen, mine = siamese([real, own["image"][rows]], of.rng(f"augment {g}", t), augment)
            label = int(synthetic.labels[rows[0]])
            total = total + classifier.distance(seen, mine, label)
        return {"loss": total}

    logs = follow(of, method, terms, naive.SGD(0.6), lambda t, m: 0.05, steps=4)
    assert len({log["loss"] for log in logs}) == 4
    assert all(trained) and len(trained) == sum(t % renew != 0 for t in range(4))


def test_a_classifier_is_trained_batch_by_batch_in_another_order_each_epoch() -> None:
    """Batches of three of eight images, and an order of each step and epoch: one batch of all would not show it."""
    of = problem("image", "label")
    synthetic = lb.methods.DC(steps=2, width=WIDTH, inner=0).start(of)
    assert synthetic.labels is not None
    trainee, classifier = (
        InnerClassifier(of, WIDTH, 0.2, batch=3, augment=("crop",)),
        Classifier(of, WIDTH, 0.2, ("crop",)),
    )
    weights = trainee.fresh(0)
    for t in (1, 2):
        weights = trainee.learn(weights, synthetic, 2, t)
        classifier.learn(synthetic.value("image").detach(), synthetic.labels, 2, t, batch=3)
        found = [weights[name] for name in classifier.names]
        assert all(torch.allclose(a, b.float(), atol=1e-4) for a, b in zip(found, classifier.weights, strict=True))
    orders = {
        tuple(torch.randperm(8, generator=of.rng(f"trainee order {t}", e)).tolist()) for t in (1, 2) for e in (0, 1)
    }
    assert len(orders) == 4


@pytest.mark.slow
def test_the_published_inner_loop_of_dc_is_run() -> None:
    """By default, with two images a class, a classifier serves two steps and is trained for 250 epochs between them."""
    of = problem("image", "label", pairs=8, n=8)
    method = lb.methods.DC(steps=2, batch=2, width=2, augment=(), lr_network=0.001)
    classifier = Classifier(of, 2, 0.001, ())
    *_, last = lb.steps(of, method)
    classifier.begin(0)
    walk = lb.steps(of, method)
    next(walk)
    first = next(walk).synthetic
    assert first.labels is not None
    classifier.learn(first.value("image").detach(), first.labels, 250, 1)
    kept = [last.synthetic.get_buffer("trainee_" + n.replace(".", "_")) for n in classifier.names]
    assert all(torch.allclose(a, b.float(), atol=1e-3) for a, b in zip(kept, classifier.weights, strict=True))


def test_a_classifier_that_is_not_trained_gives_another_loss() -> None:
    """What the inner loop does is not lost in the tolerance of the comparison."""
    losses = []
    for rate in (0.5, 0.0):
        of = problem("image", "label")
        method = lb.methods.DC(steps=2, renew=2, inner=2, batch=4, lr=0.05, lr_network=rate, width=WIDTH, augment=())
        losses.append([state.logs["loss"] for state in lb.steps(of, method) if state.step])
    assert losses[0][0] == losses[1][0]
    assert abs(losses[0][1] - losses[1][1]) > 0.02 * losses[0][1]
