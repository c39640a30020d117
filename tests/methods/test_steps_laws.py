"""Steps of cf, ncfm and imagebind_dc against naive ones: which frequencies, which real samples, which laws, over several steps."""

from collections.abc import Mapping, Sequence
from itertools import combinations
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
from limbeck.data.vectors import VectorSource

CharacteristicTargets = dict[str, naive.Law]


def tied(widths: Mapping[str, int], n: int = 14, pairs: int = 5, unheard: Sequence[int] = ()) -> Problem:
    """Vectors that depend on each other, of two classes; some samples may miss modality `b`."""
    draw = torch.Generator().manual_seed(3)
    shared, label = torch.randn(n, max(widths.values()), generator=draw), torch.arange(n) % 2
    values = {m: shared[:, :d] + label[:, None] + 0.5 * torch.randn(n, d, generator=draw) for m, d in widths.items()}
    present = {"b": torch.tensor([i not in unheard for i in range(n)])} if unheard else None
    source = VectorSource("tied", values, label, present)
    return Problem(source, lb.space(**{m: f"vectors:{d}" for m, d in widths.items()}), lb.Budget(pairs=pairs))


def vectors(of: Problem, m: str) -> Tensor:
    """Unit vectors of all samples."""
    return of.features[m].vectors.double()


def size(of: Problem, m: str) -> float:
    """The median distance of real vectors."""
    order = torch.randperm(len(of.candidates), generator=of.rng("spread"))
    return naive.median_distance(vectors(of, m)[of.candidates.rows[m][order]])


def whole(of: Problem, own: Mapping[str, Tensor], by_class: bool, synthetic: Synthetic) -> list[tuple[Any, Any, Any]]:
    """Of each group: real samples, their vectors and the synthetic ones, both divided by the spread."""
    found = []
    for pool, rows in groups(of, synthetic, by_class):
        real = {m: vectors(of, m)[pool] / size(of, m) for m in own}
        mine = {m: naive.unit(v.double()[rows]) / size(of, m) for m, v in own.items()}
        found.append((pool, real, mine))
    return found


def waves(of: Problem, method: Any, purpose: str, t: int) -> dict[str, Tensor]:
    """Gaussian frequencies, a block a modality, all of one stream."""
    draw, k = of.rng(purpose, t), method.frequencies
    return {m: (method.scale * torch.randn(of.space.dims[m], k, generator=draw)).double() for m in of.modalities}


def summed(x: Tensor, y: Tensor) -> Tensor:
    """`x_i + y_i`, the narrower padded."""
    width = max(x.shape[1], y.shape[1])
    return torch.stack([naive.padded(a, width) + naive.padded(b, width) for a, b in zip(x, y, strict=True)])


def beside(values: Mapping[str, Tensor]) -> Tensor:
    """The concatenation of the modalities."""
    return torch.cat(list(values.values()), dim=1)


# ncfm ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bank", "by_class"), [(2, True), (2, False), (0, True), (0, False)])
def test_ncfm(bank: int, by_class: bool) -> None:
    """The root form of each modality; banked frequencies meet all real samples, new ones a batch."""
    of = tied({"a": 4, "b": 3})
    options: dict[str, Any] = {} if bank else {"batch": 4}
    method = lb.methods.NCFM(
        steps=5, frequencies=6, bank=bank, scale=0.8, amplitude=0.7, lr=0.02, lr_text=0.5, per_class=by_class, **options
    )

    def terms(t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        at = waves(of, method, "bank", t % bank) if bank else waves(of, method, "frequencies", t)
        found = dict.fromkeys(own, torch.zeros(()).double())
        parts = whole(of, own, by_class, synthetic)
        for g, (pool, real, mine) in enumerate(parts):
            seen = pool if bank else real_samples(of, pool, 4, g, t)
            for m in own:
                here = real[m][[pool.index(i) for i in seen]]
                distance = naive.root_law_distance(naive.law(mine[m], at[m]), naive.law(here, at[m]), 0.7)
                found[m] = found[m] + distance / len(parts)
        return {"loss": found["a"] + found["b"], **found}

    logs = follow(of, method, terms, naive.Adam(), lambda t, m: 0.02 * naive.half_cosine(t, 5), steps=4)
    assert len({log["loss"] for log in logs}) == 4


# imagebind_dc -------------------------------------------------------------------------------------------------------------


def laws(z: Mapping[str, Tensor], at: Mapping[str, Tensor], kept: Tensor | None) -> CharacteristicTargets:
    """Of each modality, of the sum of every two at the frequencies of the wider, and of all side by side."""
    found = {m: naive.law(z[m], at[m]) for m in z}
    for m, n in combinations(z, 2):
        wider = m if at[m].shape[0] >= at[n].shape[0] else n
        found[f"{m}+{n}"] = naive.law(summed(z[m], z[n]), at[wider])
    blocks = [at[m] if kept is None else at[m] * kept[i].double() for i, m in enumerate(z)]
    found["joint"] = naive.law(beside(z), torch.cat(blocks))
    return found


def level(name: str) -> str:
    return "cross" if "+" in name and not name.startswith("joint") else "joint" if name.startswith("joint") else "uni"


def weighed(found: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    total = torch.zeros(()).double()
    for name, value in found.items():
        total = total + weights[level(name)] * value
    return total


def pulls(found: Mapping[str, Tensor], weights: Mapping[str, float], inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    """The norm of each level's gradient in the divided unit vectors."""
    norms = {}
    for name in weights:
        part = weighed({n: v for n, v in found.items() if level(n) == name}, weights)
        gradients = torch.autograd.grad(part, inputs, retain_graph=True, allow_unused=True)
        norms[f"{name} gradient"] = sum(naive.square(g) for g in gradients if g is not None) ** 0.5
    return norms  # type: ignore[return-value]


CF_CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "banked": ({"frequencies": 6, "bank": 2}, True),
    "banked, class-free": ({"frequencies": 6, "bank": 3}, False),
    "anew": ({"frequencies": 6, "bank": 0, "batch": 4}, True),
    "dropped blocks, root": ({"frequencies": 6, "bank": 2, "drop": 0.4, "distance": "root"}, False),
    "closed form": ({"frequencies": 0, "batch": 5}, True),
    "closed form, dropped": ({"frequencies": 0, "batch": 99, "drop": 0.3}, False),
}


@pytest.mark.parametrize("case", CF_CASES)
def test_imagebind_dc(case: str) -> None:
    """Three levels over three modalities of different widths, with their weights, and how hard each pulls."""
    options, by_class = CF_CASES[case]
    of = tied({"a": 4, "b": 3, "c": 4})
    weights = {"uni": 1.5, "cross": 0.5, "joint": 2.0}
    method = lb.methods.ImageBindDC(
        steps=20, **options, **weights, scale=0.9, lr=0.03, init="random", per_class=by_class
    )
    drop = method.drop

    def by_law(t: int, g: int, pool: list[int], real: Any, mine: Any) -> dict[str, Tensor]:
        bank = method.bank
        purpose, slot = ("bank", t % bank) if bank else ("frequencies", t)
        draw = of.rng(purpose, slot)
        at = {m: (method.scale * torch.randn(of.space.dims[m], 6, generator=draw)).double() for m in of.modalities}
        kept = torch.rand(3, 6, generator=draw) >= drop if drop else None
        seen = [pool.index(i) for i in (pool if bank else real_samples(of, pool, 4, g, t))]
        x, y = laws(mine, at, kept), laws({m: z[seen] for m, z in real.items()}, at, kept)
        distance = naive.root_law_distance if method.distance == "root" else naive.law_distance
        return {name: distance(x[name], y[name]) for name in x}

    def by_kernel(t: int, g: int, pool: list[int], real: Any, mine: Any) -> dict[str, Tensor]:
        def kernels(x: Any, y: Any) -> dict[str, Tensor]:
            found = {m: naive.kernel(x[m], y[m], method.scale) for m in x}
            sums = {
                f"{m}+{n}": naive.kernel(summed(x[m], x[n]), summed(y[m], y[n]), method.scale)
                for m, n in combinations(x, 2)
            }
            joint = naive.product([(1 - drop) * k + drop for k in found.values()])
            return {**found, **sums, "joint": joint}

        def drawn(step: int) -> Any:
            few = pool if len(pool) <= method.batch else real_samples(of, pool, method.batch, g, step)
            return {m: z[[pool.index(i) for i in few]] for m, z in real.items()}

        own, cross, within = kernels(mine, mine), kernels(mine, drawn(t)), kernels(drawn(0), drawn(0))
        return {name: naive.kernel_distance(own[name], cross[name], within[name]) for name in own}

    def terms(t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        parts, found = whole(of, own, by_class, synthetic), dict[str, Tensor]()
        for g, (pool, real, mine) in enumerate(parts):
            for name, value in (by_law if method.frequencies else by_kernel)(t, g, pool, real, mine).items():
                found[name] = found.get(name, torch.zeros(()).double()) + value / len(parts)
        loss = weighed(found, weights)
        inputs = [z for _, _, mine in parts for z in mine.values()]
        return {"loss": loss, **found, **(pulls(found, weights, inputs) if t % 10 == 0 else {})}

    logs = follow(of, method, terms, naive.Adam(), lambda t, m: 0.03 * naive.half_cosine(t, 20), steps=3)
    assert len({log["loss"] for log in logs}) == 3
    if method.bank == 2:
        now, then = (waves(of, method, "bank", s)["a"] for s in (0, 1))
        assert not torch.equal(now, then), "the bank holds different frequencies"


@pytest.mark.parametrize("variant", ["hybrid", "cosine"])
@pytest.mark.parametrize("frequencies", [0, 5])
def test_the_published_variants(variant: Any, frequencies: int) -> None:
    """Hybrid sums with real pairs drawn anew at each step; products of means as published, weighed by 1/30."""
    of = tied({"a": 3, "b": 3})
    options: dict[str, Any] = {"bank": 2} if frequencies else {"batch": 99}
    weights = dict.fromkeys(("uni", "cross", "joint"), 1.0)
    if variant == "cosine":
        weights |= {"cross": 1 / 30, "joint": 1 / 30}
    method = lb.methods.ImageBindDC(
        steps=20, variant=variant, frequencies=frequencies, **options, lr=0.03, init="random", per_class=True
    )

    def distance(x: Tensor, y: Tensor, at: Tensor | None) -> Tensor:
        if at is None:
            return naive.kernel_distance(*(naive.kernel(a, b, 1.0) for a, b in ((x, x), (x, y), (y, y))))
        return naive.law_distance(naive.law(x, at), naive.law(y, at))

    def terms(t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        parts, found = whole(of, own, True, synthetic), dict[str, Tensor]()
        at = waves(of, method, "bank", t % 2) if frequencies else {"a": None, "b": None}
        for g, (pool, real, mine) in enumerate(parts):
            here = {m: distance(mine[m], real[m], at[m]) for m in own}
            if variant == "hybrid":
                some = torch.randperm(len(pool), generator=of.rng(f"hybrid {g}", t))[: len(mine["a"])]
                here["a+b"] = distance(real["a"][some] + mine["b"], real["b"][some] + mine["a"], at["a"])
                if frequencies:
                    block = torch.cat([at["a"], at["b"]])  # type: ignore[list-item]
                    here["joint"] = naive.law_distance(naive.law(beside(mine), block), naive.law(beside(real), block))
                else:
                    k = [
                        naive.product([naive.kernel(x[m], y[m], 1.0) for m in "ab"])
                        for x, y in ((mine, mine), (mine, real), (real, real))
                    ]
                    here["joint"] = naive.kernel_distance(*k)
            else:
                a, v = (real[m] * size(of, m) for m in "ab")
                b, w = (mine[m] * size(of, m) for m in "ab")
                here["a+b"] = 1 - naive.cosine(naive.mean(a * v), naive.mean(b * w))
                here["joint a+b"] = 1 - ((naive.mean(a) * naive.mean(w)) * (naive.mean(v) * naive.mean(b))).sum()
            for name, value in here.items():
                found[name] = found.get(name, torch.zeros(()).double()) + value / len(parts)
        inputs = [z for _, _, mine in parts for z in mine.values()]
        return {"loss": weighed(found, weights), **found, **(pulls(found, weights, inputs) if t % 10 == 0 else {})}

    follow(of, method, terms, naive.Adam(), lambda t, m: 0.03 * naive.half_cosine(t, 20), steps=3)


def test_samples_that_miss_a_modality_have_their_part_in_the_other_laws() -> None:
    """The law of `a` is that of all samples of the class, that of `b` and of both together only of those that hold `b`."""
    unheard = (1, 4, 6)
    of = tied({"a": 4, "b": 4}, unheard=unheard)
    method = lb.methods.ImageBindDC(steps=20, frequencies=5, bank=2, lr=0.03, init="random", per_class=True)
    heard = [i for i in range(14) if i not in unheard]
    b = of.features["b"].vectors.double()
    order = torch.randperm(len(heard), generator=of.rng("spread"))
    sizes = {
        "a": naive.median_distance(vectors(of, "a")[torch.tensor(heard)[order]]),
        "b": naive.median_distance(b[order]),
    }

    def terms(t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        at, found = waves(of, method, "bank", t % 2), dict[str, Tensor]()
        inputs = []
        for pool, rows in groups(of, synthetic, True):
            few = [i for i in pool if i in heard]
            mine = {m: naive.unit(v.double()[rows]) / sizes[m] for m, v in own.items()}
            inputs += list(mine.values())
            real = {
                m: (vectors(of, "a")[few] if m == "a" else b[[heard.index(i) for i in few]]) / sizes[m] for m in "ab"
            }
            x, y = laws(mine, at, None), laws(real, at, None)
            y["a"] = naive.law(vectors(of, "a")[pool] / sizes["a"], at["a"])
            for name in x:
                found[name] = found.get(name, torch.zeros(()).double()) + naive.law_distance(x[name], y[name]) / 2
        weights = dict.fromkeys(("uni", "cross", "joint"), 1.0)
        return {"loss": weighed(found, weights), **found, **(pulls(found, weights, inputs) if t % 10 == 0 else {})}

    follow(of, method, terms, naive.Adam(), lambda t, m: 0.03 * naive.half_cosine(t, 20), steps=2)


@pytest.mark.parametrize("name", ["ncfm", "imagebind_dc"])
def test_views(name: str) -> None:
    """Each step draws a view; the set is moved as all real images were, and compared with their vectors."""
    of = Problem(toy_source(10, modalities=("image", "label")), lb.space(image="convnet"), lb.Budget(pairs=4))
    options: dict[str, Any] = {
        "steps": 20,
        "frequencies": 5,
        "bank": 2,
        "lr": 0.004,
        "augment": ("crop", "flip", "color"),
    }
    kinds = {"ncfm": lb.methods.NCFM, "imagebind_dc": lb.methods.ImageBindDC}
    method = kinds[name](**options, views=3, init="random", per_class=False)
    seen = []

    def terms(t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        view = int(torch.randint(3, (), generator=of.rng("view", t)))
        seen.append(view)
        both = siamese([of.source.batch(range(10))["image"], own["image"]], of.rng("augment", view), options["augment"])
        real, z = (of.space["image"](images).double() / size(of, "image") for images in both)
        at = waves(of, method, "bank", t % 2)["image"]
        distance = naive.root_law_distance if name == "ncfm" else naive.law_distance
        value = distance(naive.law(z, at), naive.law(real.detach(), at))
        found = {"loss": value, "image": value}
        if name == "imagebind_dc" and t % 10 == 0:
            found["uni gradient"] = naive.square(torch.autograd.grad(value, z, retain_graph=True)[0]) ** 0.5
        return found

    follow(of, method, terms, naive.Adam(), lambda t, m: 0.004 * naive.half_cosine(t, 20), steps=4)
    assert len(set(seen)) > 1


# cf -----------------------------------------------------------------------------------------------------------------------


def scales(of: Problem, real: Mapping[str, Tensor], pool: list[int], g: int, scale: float) -> dict[str, float]:
    """Spread of each modality and square norm of the dependence, between two halves of the real samples of a group."""
    order = torch.randperm(len(pool), generator=of.rng("scales", g)).tolist()
    half = len(order) // 2
    across = {m: naive.kernel(z[order[:half]], z[order[half:]], scale) for m, z in real.items()}
    within = [naive.kernel(z[order[:half]], z[order[:half]], scale) for z in real.values()]
    tie = naive.dependence_product(list(across.values()))
    least = 0.1 * float(naive.dependence_product(within))
    return {m: 1 - float(naive.mean(k.flatten())) for m, k in across.items()} | {"tie": max(float(tie), least, 1e-12)}


@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("frequencies", [0, 7])
def test_cf(frequencies: int, by_class: bool) -> None:
    """Marginals relative to their spread and the direction of the dependence, of whitened vectors; a batch of real ones a step."""
    of = tied({"a": 4, "b": 3})
    method = lb.methods.CF(
        steps=6,
        batch=5,
        frequencies=frequencies,
        scale=0.6,
        ridge=1.5,
        uni=0.7,
        tie=1.3,
        lr_other=0.02,
        per_class=by_class,
    )
    maps = {m: naive.whitening(vectors(of, m), 1.5) for m in "ab"}

    def white(m: str, x: Tensor) -> Tensor:
        centre, matrix = maps[m]
        return (x - centre) @ matrix

    def terms(t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        found, parts = dict[str, Tensor](), groups(of, synthetic, by_class)
        for g, (pool, rows) in enumerate(parts):
            mine = {m: white(m, naive.unit(v.double()[rows])) for m, v in own.items()}
            everyone = {m: white(m, vectors(of, m)[pool]) for m in own}
            some = [pool.index(i) for i in real_samples(of, pool, 5, g, t)]
            real, sizes = {m: z[some] for m, z in everyone.items()}, scales(of, everyone, pool, g, 0.6)
            if frequencies:
                draw = of.rng("frequencies", t)
                at = {m: (0.6 * torch.randn(z.shape[1], frequencies, generator=draw)).double() for m, z in mine.items()}
                x, y = ({m: naive.law(z[m], at[m]) for m in at} for z in (mine, real))
                here = {m: naive.law_distance(x[m], y[m]) / sizes[m] for m in own}
                block = torch.cat(list(at.values()))
                psi, target = (
                    naive.dependence(list(marginal.values()), naive.law(beside(z), block))
                    for marginal, z in ((x, mine), (y, real))
                )
                here["tie"] = 1 - naive.law_cosine(psi, target)
            else:
                ss, st = ({m: naive.kernel(mine[m], z[m], 0.6) for m in own} for z in (mine, real))
                here = {}
                for m in own:  # the real kernel's mean is 1 - spread, of two halves
                    value = naive.mean(ss[m].flatten()) - 2 * naive.mean(st[m].flatten()) + 1 - sizes[m]
                    here[m] = value / sizes[m]
                norm = naive.dependence_product(list(ss.values())) * sizes["tie"]
                here["tie"] = 1 - naive.dependence_product(list(st.values())) / norm**0.5
            for name, value in here.items():
                found[name] = found.get(name, torch.zeros(()).double()) + value / len(parts)
        loss = 0.7 * (found["a"] + found["b"]) + 1.3 * found["tie"]
        return {"loss": loss, **found}

    logs = follow(of, method, terms, naive.Adam(), lambda t, m: 0.02 * naive.half_cosine(t, 6), steps=4)
    assert len({log["loss"] for log in logs}) == 4


def test_cf_of_images_and_texts() -> None:
    """Pairs of an image with one of its captions are what a batch holds; pixels and texts have a rate each."""
    of = Problem(toy_source(12), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=4))
    method = lb.methods.CF(steps=6, batch=9, scale=0.9, lr=0.01, lr_text=0.003, uni=0.0)
    pairs = [(i, row) for row, i in enumerate(of.features["text"].owner.tolist())]
    maps = {m: naive.whitening(vectors(of, m), 2.0) for m in ("image", "text")}

    def terms(t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        z = {"image": of.space["image"](own["image"]).double(), "text": naive.unit(own["text"].double())}
        mine = {m: (v - maps[m][0]) @ maps[m][1] for m, v in z.items()}
        rows = {"image": [i for i, _ in pairs], "text": [row for _, row in pairs]}
        everyone = {m: (vectors(of, m)[rows[m]] - maps[m][0]) @ maps[m][1] for m in z}
        some = torch.randperm(len(pairs), generator=of.rng("real 0", t))[:9]
        sizes = scales(of, everyone, list(range(len(pairs))), 0, 0.9)
        ss, st = (
            [naive.kernel(mine[m], y[m], 0.9) for m in z] for y in (mine, {m: v[some] for m, v in everyone.items()})
        )
        found = {
            m: (naive.mean(a.flatten()) - 2 * naive.mean(b.flatten()) + 1 - sizes[m]) / sizes[m]
            for m, a, b in zip(z, ss, st, strict=True)
        }
        tie = 1 - naive.dependence_product(st) / (naive.dependence_product(ss) * sizes["tie"]) ** 0.5
        return {"loss": tie, **found, "tie": tie}

    follow(of, method, terms, naive.Adam(), lambda t, m: {"image": 0.01, "text": 0.003}[m] * naive.half_cosine(t, 6))
