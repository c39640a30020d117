"""What cached real data and the closed form save in `imagebind_dc`, and how the cost of a step grows.

    OMP_NUM_THREADS=1 python benchmarks/imagebind_dc_speed.py cached [--resolution 128] [--classes 2] [--rounds 2]
    OMP_NUM_THREADS=1 python benchmarks/imagebind_dc_speed.py kernel [--rounds 20]
    OMP_NUM_THREADS=1 python benchmarks/imagebind_dc_speed.py curve [--rounds 10]
    OMP_NUM_THREADS=1 python benchmarks/imagebind_dc_speed.py bank [--rounds 3]

`cached`: made-up images and spectrograms, 128 pairs a class, EfficientNet-Lite0 for both. A step of the method against the same step
as it is published, which encodes 128 real pairs a class again; same frequencies, both in one process, in turn. `kernel`: the loss of
one modality and its gradient, 1024 components, 10 synthetic against 128 real vectors. `curve`: the matching alone, a step of the method
on plain vectors. `bank`: how near the real law a set comes with few and many frequencies: 50 triples of `limbeck.data.factors`, learned
from 3,000, judged against 3,000 others in closed form; rounds are seeds. Times are processor seconds of one thread, the median of the rounds.
"""

import argparse
import time
from collections.abc import Callable
from statistics import mean, median

import torch
from torch import Tensor

import limbeck as lb
from limbeck.core import Problem, Synthetic
from limbeck.data.batch import Batch
from limbeck.data.factors import factors
from limbeck.data.modality import Modality
from limbeck.data.source import Source
from limbeck.data.vectors import VectorSource
from limbeck.methods.matching._views import spread
from limbeck.methods.matching.imagebind_dc import ImageBindDC
from limbeck.objectives.characteristic import characteristic, gaussian_kernel, kernel_distance, square_distance
from limbeck.runtime.random import stream

REAL = 128  # pairs a class


def seconds(work: Callable[[], object], rounds: int) -> float:
    """The median of some calls, after one that prepares."""
    work()
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return median(taken)


class MadeUp(Source):
    """Noise as images and spectrograms.

    Args:
        classes: of 128 pairs each.
        resolution: pixels a side.
    """

    captions = ()

    def __init__(self, classes: int, resolution: int) -> None:
        drawn = torch.Generator().manual_seed(0)
        self.total, self.name, self.fingerprint = classes * REAL, "made up", f"made up {classes} {resolution}"
        self.classes = tuple(map(str, range(classes)))
        self.values = {
            m: torch.rand(self.total, c, resolution, resolution, generator=drawn)
            for m, c in (("image", 3), ("audio", 1))
        }
        self.modalities = {m: Modality(m, tuple(v.shape[1:])) for m, v in self.values.items()} | {
            "label": Modality("label")
        }

    def __len__(self) -> int:
        return self.total

    def batch(self, index: object) -> Batch:
        """The samples at `index`."""
        return Batch({**self.values, "label": self.labels}).select(index)  # type: ignore[arg-type]

    @property
    def keys(self) -> list[str]:
        """Numbers."""
        return [str(i) for i in range(self.total)]

    @property
    def labels(self) -> Tensor:
        """Equal shares."""
        return torch.arange(self.total) % len(self.classes)


def published(method: ImageBindDC, problem: Problem, synthetic: Synthetic, t: int) -> float:
    """A step as published: the real pairs of each class pass the encoders again. Leaves gradients, returns the loss."""
    matching, total = method._targets.at(problem, t), torch.zeros(())
    groups = list(matching.groups(synthetic, method.per_class))
    for group in groups:
        index = problem.candidates.sample[group.among[:REAL]]
        with torch.no_grad():
            vectors = problem.space.embed(problem.source.batch(index))
        real = matching.targets.of({m: vectors[m] / spread(problem, m) for m in group.own}, matching.freqs)
        for name, cf in matching.targets.of(group.own, matching.freqs).items():
            total = total + square_distance(cf, real[name]) / len(groups)
    total.backward()
    return float(total.detach())


def cached(resolution: int, classes: int, rounds: int) -> None:
    """Both ways, for several sizes of the set."""
    source = MadeUp(classes, resolution)
    space = lb.space(image="efficientnet_lite0", audio="efficientnet_lite0")
    print(f"{classes} classes of {REAL} real pairs, {resolution} pixels, 4096 frequencies\n")
    print("| pairs a class | re-encoded, s a step | cached | ratio | difference of the loss |")
    print("|--:|--:|--:|--:|--:|")
    for count in (1, 5, 10):
        method = ImageBindDC(frequencies=4096, bank=1, init="random")
        problem = Problem(source, space, lb.Budget(pairs=count * classes))
        synthetic = method.start(problem)
        losses = [published(method, problem, synthetic, 0), float(method.step(problem, synthetic, 0)["loss"])]
        pairs = []
        for _ in range(rounds):
            pairs.append(
                (
                    seconds(lambda m=method, p=problem, s=synthetic: published(m, p, s, 0), 1),  # type: ignore[misc]
                    seconds(lambda m=method, p=problem, s=synthetic: m.step(p, s, 0), 3),  # type: ignore[misc]
                )
            )
        slow, fast = (median(pair[i] for pair in pairs) for i in (0, 1))
        ratio = median(a / b for a, b in pairs)
        print(f"| {count} | {slow:.2f} | {fast:.3f} | {ratio:.1f} | {abs(losses[0] - losses[1]):.1e} |", flush=True)


def kernel(rounds: int) -> None:
    """The closed form against frequencies."""
    d, n, k = 1024, 10, 4096
    drawn = stream(0, "speed")
    real, wave = torch.randn(REAL, d, generator=drawn) / 32, torch.randn(d, k, generator=drawn)
    own = (torch.randn(n, d, generator=drawn) / 32).requires_grad_()
    with torch.no_grad():
        cf, within = characteristic(real @ wave), gaussian_kernel(real, real, 1.0).mean()
    ways = {
        "4096 frequencies drawn anew": lambda: square_distance(
            *(characteristic(x @ w) for w in [torch.randn(d, k, generator=drawn)] for x in (own, real))
        ),
        "4096 frequencies, real vectors projected": lambda: square_distance(
            characteristic(own @ wave), characteristic(real @ wave)
        ),
        "4096 frequencies, cached real law": lambda: square_distance(characteristic(own @ wave), cf),
        "1024 frequencies, cached real law": lambda: square_distance(characteristic(own @ wave[:, :1024]), cf[:1024]),
        "closed form": lambda: kernel_distance(gaussian_kernel(own, own, 1.0), gaussian_kernel(own, real, 1.0), within),
    }
    taken = {name: seconds(lambda way=way: way().backward(), rounds) for name, way in ways.items()}  # type: ignore[misc]
    print("| loss and gradient | ms | times the closed form | value |\n|---|--:|--:|--:|")
    for name, s in taken.items():
        print(f"| {name} | {1e3 * s:.2f} | {s / taken['closed form']:.0f} | {float(ways[name]().detach()):.5f} |")


def curve(rounds: int) -> None:
    """Milliseconds of a step on plain vectors of 256 components, one class of 512 real pairs."""

    def step(pairs: int = 20, modalities: int = 2, **options: float) -> str:
        drawn = stream(0, "speed")
        values = {f"m{i}": torch.randn(512, 256, generator=drawn) for i in range(modalities)}
        space = lb.space(**dict.fromkeys(values, "vectors:256"))
        problem = Problem(VectorSource("noise", values), space, lb.Budget(pairs=pairs))
        chosen = {"frequencies": 4096, "bank": 1, "init": "random", **options}
        if not chosen["frequencies"]:
            del chosen["bank"]
        method = ImageBindDC(**chosen)  # type: ignore[arg-type]
        synthetic = method.start(problem)
        return f"{1e3 * seconds(lambda: method.step(problem, synthetic, 0), rounds):.1f}"

    print("| pairs | 5 | 10 | 20 | 40 | 80 | 160 |\n|---|" + "--:|" * 6)
    print("| 4096 frequencies | " + " | ".join(step(n) for n in (5, 10, 20, 40, 80, 160)) + " |", flush=True)
    print("| closed form | " + " | ".join(step(n, frequencies=0) for n in (5, 10, 20, 40, 80, 160)) + " |", flush=True)
    print("\n| frequencies | 512 | 1024 | 2048 | 4096 | 8192 |\n|---|" + "--:|" * 5)
    print("| 20 pairs | " + " | ".join(step(frequencies=k) for k in (512, 1024, 2048, 4096, 8192)) + " |", flush=True)
    print("\n| modalities | 1 | 2 | 3 | 4 | 6 | 8 |\n|---|" + "--:|" * 6)
    for name, cross in (("uni and joint", 0.0), ("uni, every two, joint", 1.0)):
        cells = (step(modalities=m, cross=cross) for m in (1, 2, 3, 4, 6, 8))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def bank(seeds: int) -> None:
    """The loss that is left on held-out data, and on what was looked at."""
    tried = {
        "herding, no steps": None,
        "256 fixed": {"frequencies": 256, "bank": 1},
        "1024 fixed": {"frequencies": 1024, "bank": 1},
        "8 banks of 1024 (default)": {},
        "32 banks of 1024": {"bank": 32},
        "8 banks of 4096": {"frequencies": 4096},
        "1024 drawn anew": {"bank": 0},
        "closed form": {"frequencies": 0},
    }
    space = lb.space(**dict.fromkeys("abc", "vectors:64"))
    judge = ImageBindDC(frequencies=0)
    print("| frequencies | held-out loss, % | loss at the last step, % | seconds of 200 steps |\n|---|--:|--:|--:|")
    for name, options in tried.items():
        held, seen, spent = [], [], time.process_time()
        for seed in range(seeds):
            train, other = (
                Problem(factors(3000, split, seed), space, lb.Budget(pairs=50), seed=seed)
                for split in ("train", "held")
            )
            if options is None:
                synthetic = judge.start(train)
            else:
                *_, state = lb.steps(train, ImageBindDC(steps=200, lr=0.1, **options))  # type: ignore[arg-type]
                synthetic = state.synthetic
                seen.append(100 * state.logs["loss"])
            held.append(100 * float(judge.step(other, synthetic, 0)["loss"]))
        spent = (time.process_time() - spent) / seeds
        print(f"| {name} | {mean(held):.2f} | {mean(seen) if seen else 0:.3f} | {spent:.1f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["cached", "kernel", "curve", "bank"])
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "cached":
        cached(options.resolution, options.classes, options.rounds or 2)
    elif options.what == "kernel":
        kernel(options.rounds or 20)
    elif options.what == "bank":
        bank(options.rounds or 3)
    else:
        curve(options.rounds or 10)
