"""What a common space keeps, on data of which we know what each modality holds.

    OMP_NUM_THREADS=1 python benchmarks/spaces.py factors [--seeds 5] [--rows "centroid; fixed a, pretrained"]
    OMP_NUM_THREADS=1 python benchmarks/spaces.py ranked [--seeds 5]
    OMP_NUM_THREADS=1 python benchmarks/spaces.py temperature [--seeds 1]
    OMP_NUM_THREADS=1 python benchmarks/spaces.py missing [--seeds 5]
    OMP_NUM_THREADS=1 python benchmarks/spaces.py repair [--seeds 3]
    OMP_NUM_THREADS=1 python benchmarks/spaces.py condense [--seeds 3]

`factors`: three modalities with factors that all, two or one of them hold (`limbeck.data.factors.factors`); R^2 of a ridge
regression from the vectors to each factor, R@1 among 1,000, and the blindness test: how much the characteristic-function distance
to real data grows when the pairing of two modalities is broken. `ranked`: four modalities of rising knowledge, accuracy of
linear probes. `repair`: 512 real triples whose b and c are those of other triples, brought to the joint law of 10,000 real ones in
each space; a shared factor is decoded from either modality of a triple (ridge regression on real data), and the decodings are correlated.
`condense`: 50 triples, from herding, by `imagebind_dc` in each space. Both sets train a student that searches the plain vectors:
R@1 among 1,000. Mean over seeds, with the largest standard deviation of a column under the table. A seed makes the data and the heads.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import mean, stdev

import torch
from torch import Tensor

import limbeck as lb
from limbeck.data.factors import NAMES, FactorSource, factors, ranked
from limbeck.data.vectors import VectorSource
from limbeck.evaluation.alignment import alignment
from limbeck.objectives.characteristic import characteristic, square_distance
from limbeck.spaces import Space, embed_source
from limbeck.spaces.binder import Binding, bind

SMALL = Binding(dim=32, hidden=(128, 128), temperature=0.2, steps=800, batch=256, decay=0.0, noise=0.3, dropout=0.0)


def fixed(modality: str, state: str) -> Binding:
    """A fixed anchor."""
    return replace(SMALL, anchor=f"fixed:{modality}", state=state)


FACTORS = {
    "untrained": replace(SMALL, steps=0),
    "fixed a, random": fixed("a", "random"),
    "fixed a, pretrained": fixed("a", "pretrained"),
    "fixed a, trainable": fixed("a", "trainable"),
    "fixed b, trainable": fixed("b", "trainable"),
    "fixed c, trainable": fixed("c", "trainable"),
    "centroid": SMALL,
    "centroid, normalised": replace(SMALL, normalize=True),
    "centroid, detached": replace(SMALL, detach=True),
    "centroid, leave one out": replace(SMALL, leave_one_out=True),
    "centroid, no noise": replace(SMALL, noise=0.0),
    "all_pairs": replace(SMALL, anchor="all_pairs"),
    "all_pairs with itself": replace(SMALL, anchor="all_pairs", with_itself=True),
}
RANKED = {
    "untrained": replace(SMALL, steps=0),
    **{f"fixed {m}, {s}": fixed(m, s) for m in "ad" for s in ("random", "pretrained", "trainable")},
    "centroid": SMALL,
    "centroid, normalised": replace(SMALL, normalize=True),
    "all_pairs": replace(SMALL, anchor="all_pairs"),
}
ANCHORS = {
    "centroid": SMALL,
    "fixed a, trainable": fixed("a", "trainable"),
    "all_pairs": replace(SMALL, anchor="all_pairs"),
}


def plain(source: lb.Source) -> Space:
    """The vectors as they are."""
    return lb.space(**{m: f"vectors:{x.shape[0]}" for m, x in source.modalities.items() if m != "label"})


def vectors(source: lb.Source, space: Space, cache: lb.Cache) -> dict[str, Tensor]:
    """Unit vectors of every modality."""
    return {m: f.vectors for m, f in embed_source(source, space, cache).items()}


def r2(x: Tensor, y: Tensor, tested: Tensor, truth: Tensor) -> float:
    """The share of variance of a factor that a ridge regression on standardised vectors explains on other data."""
    centre, scale = x.mean(0), x.std(0, correction=0).clamp(min=1e-8)
    x, tested = (x - centre) / scale, (tested - centre) / scale
    gram = x.T @ x / len(x)
    weight = torch.linalg.solve(gram + 1e-3 * torch.eye(len(gram)), x.T @ (y - y.mean(0)) / len(x))
    left = (truth - tested @ weight - y.mean(0)).square().sum(0)
    return float((1 - left / (truth - truth.mean(0)).square().sum(0)).mean())


def kept(space: Space, train: FactorSource, test: FactorSource, cache: lb.Cache) -> dict[str, float]:
    """R^2 of each factor, averaged over the modalities that hold it."""
    x, y = vectors(train, space, cache), vectors(test, space, cache)
    return {
        name: mean(r2(x[m], train.truth[name], y[m], test.truth[name]) for m in NAMES if m in name)
        for name in train.truth
    }


def blindness(space: Space, seed: int, broken: str, cache: lb.Cache, samples: int = 4000) -> float:
    """The distance of a broken second set to a first one, over that of the same second set when it is whole."""
    frequencies = torch.randn(3 * space.dims["a"], 2048, generator=torch.Generator().manual_seed(seed))

    def law(source: FactorSource) -> Tensor:
        return characteristic(torch.cat([*vectors(source, space, cache).values()], dim=1) @ frequencies)

    first = law(factors(samples, "first", seed))
    whole, other = (law(factors(samples, "second", seed, broken=b)) for b in ("", broken))
    return float(square_distance(first, other) / square_distance(first, whole))


def factors_row(binding: Binding, seed: int, cache: lb.Cache) -> dict[str, float]:
    """One seed of one row of the table."""
    train, test = factors(10_000, "train", seed), factors(1_000, "test", seed)
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        space = bind(train, plain(train), folder, replace(binding, seed=seed), cache=cache)
        seconds = time.process_time() - start
        r, found = kept(space, train, test, cache), alignment(test, space, cache=cache)
        ratios = {broken: blindness(space, seed, broken, cache) for broken in ("bc", "ac")}
    near = {way: recall["R@1"] for way, recall in found.recall.items()}
    return {
        "abc": r["abc"],
        "ab": r["ab"],
        "ac": r["ac"],
        "bc": r["bc"],
        "a alone": r["a"],
        "b, c alone": (r["b"] + r["c"]) / 2,
        "R@1 a-b, a-c": mean(near[f"{x} -> {y}"] for x, y in ("ab", "ba", "ac", "ca")),
        "R@1 b-c": mean([near["b -> c"], near["c -> b"]]),
        "centroid": found.centroid,
        "bc broken": ratios["bc"],
        "ac broken": ratios["ac"],
        "seconds": seconds,
    }


def ranked_row(binding: Binding, seed: int, cache: lb.Cache) -> dict[str, float]:
    """One seed of one row of the table."""
    train, test = ranked(8_000, "train", seed), ranked(2_000, "test", seed)
    with tempfile.TemporaryDirectory() as folder:
        space = bind(train, plain(train), folder, replace(binding, seed=seed), cache=cache)
        found = alignment(test, space, train, cache=cache)
    return {**found.probes, "R@1": mean(r["R@1"] for r in found.recall.values())}


def missing_row(binding: Binding, seed: int, cache: lb.Cache, share: float) -> dict[str, float]:
    """The factors, each modality of each sample missing with this probability, but never all of them."""
    train, test = factors(10_000, "train", seed), factors(1_000, "test", seed)
    drawn = torch.Generator().manual_seed(seed)
    there = torch.rand(len(train), 3, generator=drawn) >= share
    there[torch.arange(len(train)), torch.randint(3, (len(train),), generator=drawn)] |= ~there.any(1)
    whole = train.batch(range(len(train)))
    held = {m: whole[m].where(there[:, i, None], torch.nan) for i, m in enumerate(NAMES)}
    lacking = VectorSource(f"{train.name}, {share:.0%} missing", held, present=dict(zip(NAMES, there.T, strict=True)))
    with tempfile.TemporaryDirectory() as folder:
        space = bind(lacking, plain(lacking), folder, replace(binding, seed=seed), cache=cache)
        r, found = kept(space, train, test, cache), alignment(test, space, cache=cache)
    shared = mean([r["ab"], r["ac"], r["bc"]])
    return {"ab, ac, bc": shared, "bc": r["bc"], "R@1": mean(x["R@1"] for x in found.recall.values())}


class Triples(VectorSource):
    """Factors with held-out splits, to train students on and to test them."""

    splits = ("val", "test")
    seed = 0

    def split(self, name: str) -> lb.Source:
        """Other samples of the same factors."""
        return triples(factors(1_000, name, self.seed).batch(range(1_000)).values, self.seed, name)


def triples(vectors: Mapping[str, Tensor], seed: int, split: str = "train") -> Triples:
    """Some vectors as a split of the factors of a seed."""
    source = Triples(f"triples {seed} {split}", vectors, split=split)
    source.seed = seed
    return source


def decoded(x: Tensor, y: Tensor, own: Tensor) -> Tensor:
    """A factor read off vectors by a ridge regression on real data, standardised over the rows."""
    centre, scale = x.mean(0), x.std(0, correction=0).clamp(min=1e-8)
    x, own = (x - centre) / scale, (own - centre) / scale
    weight = torch.linalg.solve(x.T @ x / len(x) + 1e-3 * torch.eye(x.shape[1]), x.T @ (y - y.mean(0)) / len(x))
    found = own @ weight
    return (found - found.mean(0)) / found.std(0, correction=0).clamp(min=1e-8)


def ties(train: FactorSource, own: Mapping[str, Tensor]) -> dict[str, float]:
    """For every two modalities, how far what one says of their own factor agrees with what the other says."""
    real = train.batch(range(len(train)))
    values = {}
    for factor in ("ab", "ac", "bc"):
        one, two = (decoded(real[m], train.truth[factor], own[m]) for m in factor)
        values[f"tie {factor}"] = float((one * two).mean())
    return values


def students(own: Mapping[str, Tensor], seed: int, cache: lb.Cache) -> dict[str, float]:
    """R@1 of a student that was trained on the triples, on plain vectors."""
    small = triples(own, seed)
    scores = lb.evaluate(small, small, "retrieval", plain(small), [seed], cache=cache, ridge=(1.0,), noise=(0.5, 2.0))
    near = {s.metric.removesuffix(" R@1"): s.mean for s in scores}
    with_a = mean(near[way] for way in ("a to b", "b to a", "a to c", "c to a"))
    return {"R@1 a-b, a-c": with_a, "R@1 b-c": mean([near["b to c"], near["c to b"]])}


def made_in(space: Space, train: FactorSource, seed: int, cache: lb.Cache, broken: bool) -> dict[str, Tensor]:
    """512 broken triples brought to the joint law, or 50 from herding to all laws."""
    pairs, own = (512, {"steps": 800, "init": "random", "uni": 0.0, "cross": 0.0}) if broken else (50, {"steps": 400})
    problem = lb.Problem(train, space, lb.Budget(pairs=pairs), seed=seed, cache=cache)
    for state in lb.steps(problem, lb.methods.ImageBindDC(**own, lr=0.01, bank=32)):
        for i, m in enumerate("bc" if broken and state.step == 0 else ""):
            value = state.synthetic.value(m).data
            value.copy_(value[torch.randperm(pairs, generator=torch.Generator().manual_seed(i))])
    return {m: state.synthetic.value(m).detach() for m in NAMES}


def set_row(binding: Binding | str, seed: int, cache: lb.Cache, broken: bool) -> dict[str, float]:
    """One seed of one row: a set made in a space, or real samples."""
    train = factors(10_000, "train", seed)
    real = train.batch(range(len(train)))
    if isinstance(binding, str):
        chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
        chosen = chosen[: {"real": 512 if broken else 50, "broken": 512, "full": len(train)}[binding]]
        order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(1)) if binding == "broken" else None
        own = {m: real[m][chosen] for m in NAMES}
        own |= {"b": own["b"][order], "c": own["c"][order.roll(7)]} if order is not None else {}
    elif not binding.steps:
        own = made_in(plain(train), train, seed, cache, broken)
    else:
        with tempfile.TemporaryDirectory() as folder:
            space = bind(train, plain(train), folder, replace(binding, seed=seed), cache=cache)
            own = made_in(space, train, seed, cache, broken)
    return {**ties(train, own), **students(own, seed, cache)}


def temperature_row(binding: Binding, seed: int, cache: lb.Cache) -> dict[str, float]:
    """What is kept, and retrieval, in few columns."""
    row = factors_row(binding, seed, cache)
    shared, alone = mean([row["ab"], row["ac"], row["bc"]]), (row["a alone"] + 2 * row["b, c alone"]) / 3
    recall = (2 * row["R@1 a-b, a-c"] + row["R@1 b-c"]) / 3
    return {"ab, ac, bc": shared, "bc": row["bc"], "alone": alone, "R@1": recall}


def show(rows: Mapping[str, Callable[[int], dict[str, float]]], seeds: int) -> None:
    """Runs and prints a table, row by row."""
    spread: dict[str, float] = {}
    for position, (name, run) in enumerate(rows.items()):
        found = [run(seed) for seed in range(seeds)]
        if not position:
            print(f"| anchor | {' | '.join(found[0])} |\n|---|{'--:|' * len(found[0])}")
        cells = {key: mean(one[key] for one in found) for key in found[0]}
        for key in cells if seeds > 1 else ():
            spread[key] = max(spread.get(key, 0.0), stdev(one[key] for one in found))
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in cells.values())} |", flush=True)
    if spread:
        print(f"| *largest deviation* | {' | '.join(f'{value:.2f}' for value in spread.values())} |")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("table", choices=["factors", "ranked", "temperature", "missing", "repair", "condense"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", default="")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        cache = lb.Cache(folder)
        rows: dict[str, Callable[[int], dict[str, float]]] = {}
        if asked.table in ("factors", "ranked"):
            run, known = (factors_row, FACTORS) if asked.table == "factors" else (ranked_row, RANKED)
            rows = {name: lambda seed, b=b: run(b, seed, cache) for name, b in known.items()}
        elif asked.table in ("repair", "condense"):
            broken = asked.table == "repair"
            named: dict[str, Binding | str] = {
                **({"broken real": "broken"} if broken else {}),
                "real": "real",
                "full data": "full",
                "no heads": replace(SMALL, steps=0),
                "fixed a, pretrained": fixed("a", "pretrained"),
                **ANCHORS,
            }
            rows = {name: lambda seed, b=b: set_row(b, seed, cache, broken) for name, b in named.items()}
        elif asked.table == "missing":
            rows = {f"{s:.0%}": lambda seed, s=s: missing_row(SMALL, seed, cache, s) for s in (0.0, 0.3, 0.6)}
        else:
            for name, b in ANCHORS.items():
                for t in (0.05, 0.1, 0.2, 0.5):
                    colder = replace(b, temperature=t)
                    rows[f"{name}, {t}"] = lambda seed, b=colder: temperature_row(b, seed, cache)
        chosen = [row.strip() for row in asked.rows.split(";")] if asked.rows else list(rows)
        show({name: run for name, run in rows.items() if name in chosen}, asked.seeds)


if __name__ == "__main__":
    main()
