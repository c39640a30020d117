"""Two classes that differ in nothing but which vector of one modality belongs to which of the other.

    OMP_NUM_THREADS=1 python benchmarks/pairing_only.py [--seeds 5] [--steps 300]
    OMP_NUM_THREADS=1 python benchmarks/pairing_only.py methods [--seeds 3]

a ~ N(0, I_4), v = +-0.9 R a + sqrt(1 - 0.81) noise: the sign is the class, so the marginal laws of a and of v are the same in both. R
is the identity (the modalities share coordinates, as in a unified space) or a cyclic shift of the coordinates (they do not).
2,000 real pairs a class; 5 and 20 are learned as plain vectors, from noise or from real pairs, with Adam (0.05); 256 fixed
frequencies of scale 1/2. Percent of 4,000 other pairs that are told apart by

    KM   the kernel mean: the sign of mean_j k(x, S_0j) - mean_j k(x, S_1j), k Gaussian with squared bandwidth 4, on [a; v]
    KRR  kernel ridge regression with the same kernel, ridge 0.01
    late the sum of two models of one modality each, as published, by KM

and the distance of the joint law to that of the held-out pairs (closed form, mean of the classes). Mean over seeds; KM with its
standard deviation. `methods` runs the methods of the library on the same data, brought to unit length, from real pairs that are
broken: within a class, each has the v of its neighbour.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from statistics import mean, stdev
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

import limbeck as lb
from limbeck.data.vectors import VectorSource
from limbeck.objectives.characteristic import (
    characteristic,
    gaussian_kernel,
    joint_characteristic,
    joint_kernel,
    kernel_distance,
    root_distance,
    square_distance,
)
from limbeck.objectives.pairing import avdd_distance, cosine_terms, hybrid_sums, pair_moments, pair_sum
from limbeck.runtime.random import stream

D, RHO, SCALE, K = 4, 0.9, 0.5, 256
REAL, HELD = 2000, 2000  # pairs a class

Pair = tuple[Tensor, Tensor]  # vectors [n, D] of a and of v


class Real(NamedTuple):
    """What is computed of the real pairs of a class once: laws at the frequencies, moments; and for kernels the pairs."""

    laws: Pair
    joint: Tensor
    sums: Tensor
    moments: tuple[Tensor, Tensor, Tensor]
    pairs: Pair


Loss = Callable[
    [Real, Pair, Pair, Pair], Tensor
]  # real, as many real pairs as synthetic ones, synthetic ones, frequencies


def classes(pairs: int, seed: int, purpose: str, shift: int) -> list[Pair]:
    """Pairs of both classes."""
    drawn = stream(seed, f"pairing {purpose}")
    made = []
    for sign in (1, -1):
        a, noise = (torch.randn(pairs, D, generator=drawn) for _ in range(2))
        made.append((a, sign * RHO * a.roll(shift, dims=1) + (1 - RHO**2) ** 0.5 * noise))
    return made


def known(pairs: Pair, waves: Pair) -> Real:
    """Of one class."""
    a, v = (x @ t for x, t in zip(pairs, waves, strict=True))
    summed = characteristic(pair_sum(*pairs) @ waves[0])
    moments = pair_moments(*pairs)
    return Real((characteristic(a), characteristic(v)), joint_characteristic([a, v]), summed, moments, pairs)


def uni(real: Real, own: Pair, waves: Pair, distance: Callable[[Tensor, Tensor], Tensor] = square_distance) -> Tensor:
    """Each modality by itself."""
    terms = [distance(law, characteristic(y @ t)) for law, y, t in zip(real.laws, own, waves, strict=True)]
    return torch.stack(terms).sum()


def joint(real: Real, own: Pair, waves: Pair) -> Tensor:
    """The law of the concatenation."""
    return square_distance(real.joint, joint_characteristic([y @ t for y, t in zip(own, waves, strict=True)]))


def sums(real: Real, own: Pair, waves: Pair) -> Tensor:
    """The law of the paired sums."""
    return square_distance(real.sums, characteristic(pair_sum(*own) @ waves[0]))


def hybrid(some: Pair, own: Pair, waves: Pair) -> Tensor:
    """The laws of the two hybrid sums."""
    x, y = hybrid_sums(some, own)
    return square_distance(characteristic(x @ waves[0]), characteristic(y @ waves[0]))


def cosine(real: Real, own: Pair, divided: bool) -> Tensor:
    """The published terms, weighted as in the code beside a uni term of 300 times the distance."""
    return torch.stack(cosine_terms(real.moments, pair_moments(*own), divided)).sum() / 30


def kernels(real: Real, own: Pair) -> Tensor:
    """Uni, sums and joint in closed form; the kernel within the real pairs is a constant, and left out."""
    none = torch.zeros(1, 1)
    ss, st = ([gaussian_kernel(x, y, SCALE) for x, y in zip(own, z, strict=True)] for z in (own, real.pairs))
    terms = [kernel_distance(s, t, none) for s, t in zip(ss, st, strict=True)]
    b, a = pair_sum(*own), pair_sum(*real.pairs)
    terms.append(kernel_distance(gaussian_kernel(b, b, SCALE), gaussian_kernel(b, a, SCALE), none))
    terms.append(kernel_distance(joint_kernel(ss), joint_kernel(st), none))
    return torch.stack(terms).sum()


def avdd(real: Real, own: Pair, weight: float) -> Tensor:
    """Of the means."""
    return avdd_distance(real.moments[:2], [x.mean(0) for x in own], weight, weight)


LOSSES: dict[str, Loss] = {
    "DM": lambda real, some, own, t: avdd(real, own, 0),
    "AVDD": lambda real, some, own, t: avdd(real, own, 10),
    "uni": lambda real, some, own, t: uni(real, own, t),
    "uni, root (NCFM)": lambda real, some, own, t: uni(real, own, t, root_distance),
    "uni + cosine, as in its code": lambda real, some, own, t: uni(real, own, t) + cosine(real, own, False),
    "uni + cosine, divided": lambda real, some, own, t: uni(real, own, t) + cosine(real, own, True),
    "uni + hybrid": lambda real, some, own, t: uni(real, own, t) + hybrid(some, own, t),
    "uni + hybrid + joint": lambda real, some, own, t: uni(real, own, t) + hybrid(some, own, t) + joint(real, own, t),
    "uni + pair-sum": lambda real, some, own, t: uni(real, own, t) + sums(real, own, t),
    "joint": lambda real, some, own, t: joint(real, own, t),
    "uni + joint": lambda real, some, own, t: uni(real, own, t) + joint(real, own, t),
    "uni + pair-sum + joint (cf)": lambda real, some, own, t: (
        uni(real, own, t) + sums(real, own, t) + joint(real, own, t)
    ),
    "the same in closed form": lambda real, some, own, t: kernels(real, own),
}


def learned(loss: Loss, start: Pair, real: Pair, seed: int, steps: int, independent: bool = False) -> Pair:
    """Pairs that one loss makes, for many independent problems at once.

    Args:
        loss: of one problem.
        start: vectors [B, n, D] of both modalities.
        real: vectors [B, N, D].
        seed: of frequencies and draws.
        steps: of Adam.
        independent: draws the two modalities of the hybrid pairs apart.
    """
    drawn = stream(seed, "pairing frequencies")
    problems, count = start[0].shape[:2]
    wave, other = (SCALE * torch.randn(problems, D, K, generator=drawn) for _ in range(2))
    waves, own = (wave, other), (start[0].clone().requires_grad_(), start[1].clone().requires_grad_())
    optimizer, each = Adam(own, lr=0.05), torch.arange(problems)[:, None]
    batched = torch.vmap(loss)
    facts = torch.vmap(known)(real, waves)
    for t in range(steps):
        draw = stream(seed, "pairing draw", t)
        index = [torch.rand(problems, real[0].shape[1], generator=draw).topk(count).indices for _ in range(2)]
        some = real[0][each, index[0]], real[1][each, index[int(independent)]]
        optimizer.zero_grad()
        batched(facts, some, own, waves).sum().backward()
        optimizer.step()
    return own[0].detach(), own[1].detach()


def judged(sets: list[Pair], held: list[Pair]) -> dict[str, float]:
    """What the two sets of a seed teach, and how far they are from held-out pairs."""
    x = [torch.cat(pair, dim=1) for pair in sets]
    test, truth = torch.cat([torch.cat(p, dim=1) for p in held]), torch.tensor([1.0, -1.0]).repeat_interleave(HELD)
    side = torch.cat([torch.full((len(s),), sign) for s, sign in zip(x, (1.0, -1.0), strict=True)])
    blocks = (slice(0, 2 * D), slice(0, D), slice(D, 2 * D))

    def kernel(a: Tensor, b: Tensor, block: slice) -> Tensor:
        return gaussian_kernel(a[:, block], b[:, block], SCALE)

    def right(scores: Tensor) -> float:
        return 100 * float((scores.sign() == truth).float().mean())

    km = [kernel(test, x[0], b).mean(1) - kernel(test, x[1], b).mean(1) for b in blocks]
    both = torch.cat(x)
    krr = [
        kernel(test, both, b) @ torch.linalg.solve(kernel(both, both, b) + 0.01 * torch.eye(len(both)), side)
        for b in blocks
    ]
    far = [
        kernel_distance(kernel(s, s, blocks[0]), kernel(s, h, blocks[0]), kernel(h, h, blocks[0]))
        for s, h in zip(x, (torch.cat(p, dim=1) for p in held), strict=True)
    ]
    return {
        "KM": right(km[0]),
        "KRR": right(krr[0]),
        "late": right(km[1] + km[2]),
        "late KRR": right(krr[1] + krr[2]),
        "law": float(torch.stack(far).mean()),
    }


def row(name: str, count: int, shift: int, noise: bool, seeds: int, steps: int) -> list[dict[str, float]]:
    """One row of the table, a dictionary a seed; `real data` and `no optimisation` are names, too."""
    real = [pair for seed in range(seeds) for pair in classes(REAL, seed, "train", shift)]
    if name == "real data":
        made = real
    else:
        made = [(a[:count], v[:count]) for a, v in real]
        if noise:
            drawn = stream(0, "pairing noise")
            made = [(torch.randn(count, D, generator=drawn), torch.randn(count, D, generator=drawn)) for _ in made]
        if name in LOSSES or name == INDEPENDENT:
            loss = LOSSES["uni + hybrid" if name == INDEPENDENT else name]
            (a, v), (x, y) = ([torch.stack(z) for z in zip(*pairs, strict=True)] for pairs in (made, real))
            a, v = learned(loss, (a, v), (x, y), 0, steps, name == INDEPENDENT)
            made = list(zip(a, v, strict=True))
    held = [classes(HELD, seed, "test", shift) for seed in range(seeds)]
    return [judged(made[2 * seed : 2 * seed + 2], held[seed]) for seed in range(seeds)]


INDEPENDENT = "uni + hybrid, independent draws"
START = "no optimisation"
COLUMNS = [(0, 5), (0, 20), (1, 5), (1, 20)]


def table(noise: bool, seeds: int, steps: int) -> None:
    """All rows from one start."""
    print(f"\nfrom {'noise' if noise else 'real pairs'}, {seeds} seeds, {steps} steps; KM +- sd (KRR) law\n")
    print("| loss | " + " | ".join(f"R = {('I', 'shift')[s]}, {n}" for s, n in COLUMNS) + " | late, least to most |")
    print("|---|" + "--:|" * (len(COLUMNS) + 1))
    names = [START, *LOSSES, INDEPENDENT] + (["real data"] if noise else [])
    for name in names:
        cells, late = [], []
        for shift, count in COLUMNS:
            found = row(name, count, shift, noise, seeds, steps)
            km = [f["KM"] for f in found]
            krr, law = mean(f["KRR"] for f in found), mean(f["law"] for f in found)
            cells.append(f"{mean(km):.0f} +- {stdev(km) if len(km) > 1 else 0:.0f} ({krr:.0f}) {law:.4f}")
            late += [mean(f["late"] for f in found), mean(f["late KRR"] for f in found)]
        print(f"| {name} | " + " | ".join(cells) + f" | {min(late):.0f} to {max(late):.0f} |", flush=True)


def unit(pair: Iterable[Tensor]) -> Pair:
    """Vectors of length two, as far apart as normal ones of four components."""
    a, v = (2 * F.normalize(x, dim=1) for x in pair)
    return a, v


def from_broken(problem: lb.Problem, method: lb.Method, count: int) -> dict[str, Tensor]:
    """What a method makes of real pairs whose v is that of the neighbour, within a class."""
    for state in lb.steps(problem, method):
        value = state.synthetic.value("v").data
        if state.step == 0:
            value.copy_(torch.cat([part.roll(1, 0) for part in value.split(count)]))
    return {m: state.synthetic.value(m).detach() for m in "av"}


def methods(seeds: int, steps: int) -> None:
    """The methods as a user calls them, but for their start."""
    own = {"steps": steps, "lr": 0.05, "init": "random"}
    tried: Mapping[str, lb.Method] = {
        "random": lb.methods.Random(),
        "herding": lb.methods.Herding(),
        "avdd": lb.methods.AVDD(steps=steps, init="random"),
        "ncfm": lb.methods.NCFM(**own),
        "imagebind_dc cosine": lb.methods.ImageBindDC(**own, variant="cosine"),
        "imagebind_dc hybrid": lb.methods.ImageBindDC(**own, variant="hybrid"),
        "imagebind_dc": lb.methods.ImageBindDC(**own),
        "imagebind_dc, drop 0.5": lb.methods.ImageBindDC(**own, drop=0.5),
        "imagebind_dc, closed form": lb.methods.ImageBindDC(**own, frequencies=0),
        "cf": lb.methods.CF(**own),
    }
    print(f"\nmethods from broken pairs, {seeds} seeds, {steps} steps; KM +- sd (KRR) law; seconds a set\n")
    print("| method | " + " | ".join(f"R = {('I', 'shift')[s]}, {n}" for s, n in COLUMNS) + " | seconds |")
    print("|---|" + "--:|" * (len(COLUMNS) + 1))
    space = lb.space(a=f"vectors:{D}", v=f"vectors:{D}")
    for name, method in tried.items():
        cells, spent = [], time.process_time()
        for shift, count in COLUMNS:
            found = []
            for seed in range(seeds):
                real, held = classes(REAL, seed, "train", shift), classes(HELD, seed, "test", shift)
                label = torch.arange(2).repeat_interleave(REAL)
                a, v = (torch.cat(z) for z in zip(*real, strict=True))
                source = VectorSource("pairing", {"a": a, "v": v}, label)
                with tempfile.TemporaryDirectory() as folder:
                    problem = lb.Problem(source, space, lb.Budget(pairs=2 * count), seed=seed, cache=lb.Cache(folder))
                    small = from_broken(problem, method, count)
                sets = [unit(small[m][c * count : (c + 1) * count] for m in "av") for c in (0, 1)]
                found.append(judged(sets, [unit(pair) for pair in held]))
            km = [f["KM"] for f in found]
            krr, law = mean(f["KRR"] for f in found), mean(f["law"] for f in found)
            cells.append(f"{mean(km):.0f} +- {stdev(km) if len(km) > 1 else 0:.0f} ({krr:.0f}) {law:.4f}")
        spent = (time.process_time() - spent) / seeds / len(COLUMNS)
        print(f"| {name} | " + " | ".join(cells) + f" | {spent:.1f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", choices=["losses", "methods"], default="losses")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    if options.what == "methods":
        methods(options.seeds, options.steps)
    else:
        for noise in (True, False):
            table(noise, options.seeds, options.steps)
    print(f"\n{time.process_time() - began:.0f} s")
