"""What a step of trajectory matching costs: through a tower that is trained, and through frozen towers.

    OMP_NUM_THREADS=1 python benchmarks/trajectory_speed.py tower [--steps 5] [--inner 8] [--batch 20]
    OMP_NUM_THREADS=1 python benchmarks/trajectory_speed.py frozen karpathy:data/flickr8k --resolution 128 [--steps 5]

`tower`: a ConvNet of width 64 on 64 pixels (0.90 M parameters) and a text head on 768 components (1.18 M), 99 pairs, wBCE and a
similarity of rank 10; each gradient, compiled or not, in a process of its own. `frozen`: the encoding of the data (once), an
expert's epoch and a step of `lors`, with the published heads and with ours. Times are processor seconds (user and system) of one
thread; memory is the highest mark of the process less its mark after the imports.
"""

import argparse
import dataclasses
import multiprocessing
import resource
import tempfile
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import limbeck as lb
from limbeck.methods.trajectory.experts.store import Experts, ExpertTraining
from limbeck.methods.trajectory.lors import LoRS
from limbeck.networks.convnet import ConvNet
from limbeck.objectives.contrastive import wbce
from limbeck.objectives.similarity import Similarity
from limbeck.objectives.trajectory import Gradient, Student, match
from limbeck.students.two_towers import TwoTowers

PAIRS = 99


def used() -> float:
    """Processor seconds of this process and its finished children (a compiler is one) so far."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(s.ru_utime + s.ru_stime for s in spent)


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    start = used()
    work()
    return used() - start


def peak() -> float:
    """MiB, the highest so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Pair(nn.Module):
    """The two towers."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image = nn.Sequential(ConvNet(64, width=64, generator=generator), nn.Linear(1024, 768))
        self.text = nn.Sequential(nn.Linear(768, 768), nn.GELU(), nn.Linear(768, 768), nn.LayerNorm(768))

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors of both."""
        return F.normalize(self.image(image), dim=1), F.normalize(self.text(text), dim=1)


def tower(gradient: Gradient, compiled: bool, steps: int, inner: int, batch: int) -> tuple[float, float, float]:
    """Seconds of the first step, the median of the later ones, and MiB."""
    torch.set_num_threads(1)
    generator, before = torch.Generator().manual_seed(0), peak()
    network, similarity = Pair(generator), Similarity(PAIRS, rank=10, alpha=3.0, generator=generator)
    image = torch.rand(PAIRS, 3, 64, 64, generator=generator).requires_grad_()
    text = torch.randn(PAIRS, 768, generator=generator).requires_grad_()
    rates = {name: torch.tensor(0.01, requires_grad=True) for name in ("image", "text")}
    start = {name: value.detach() for name, value in network.named_parameters()}
    target = {name: value + 0.01 * torch.randn(value.shape, generator=generator) for name, value in start.items()}

    def loss(parameters: dict[str, Tensor], image: Tensor, text: Tensor, labels: Tensor) -> Tensor:
        u, v = torch.func.functional_call(network, parameters, (image, text))
        return wbce(u @ v.T / 0.07, labels)

    def drawn(indices: list[Tensor], t: int) -> tuple[Tensor, ...]:
        return image[indices[t]], text[indices[t]], similarity(indices[t])

    def step() -> None:
        indices = [torch.randperm(PAIRS, generator=generator)[:batch] for _ in range(inner)]
        match(student, start, target, partial(drawn, indices), rates, inner, gradient)

    student = Student(loss, compiled)
    first = seconds(step)
    return first, median(seconds(step) for _ in range(steps)), peak() - before


def towers(steps: int, inner: int, batch: int) -> None:
    """Every gradient through a tower that is trained."""
    print(f"{PAIRS} pairs, {inner} student steps of {batch}")
    for gradient, compiled in (
        ("truncated", False),
        ("truncated", True),
        ("exact", False),
        ("exact", True),
        ("unrolled", False),
    ):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            first, later, mib = pool.apply(tower, (gradient, compiled, steps, inner, batch))
        how = "compiled" if compiled else "eager"
        print(f"{gradient:9s} {how:8s}  {later:6.2f} s a step   first {first:6.1f} s   peak {mib:6.0f} MiB", flush=True)


def frozen(spec: str, resolution: int | None, steps: int) -> None:
    """Encoding, experts and steps with frozen towers."""
    source = lb.source(spec, split="train", **({"resolution": resolution} if resolution else {}))
    space = lb.space(image="efficientnet_lite0", text="minilm")
    with tempfile.TemporaryDirectory() as folder:
        problem = lb.Problem(source, space, lb.Budget(pairs=PAIRS), cache=lb.Cache(folder))
        print(
            f"encode {len(source)} images and {len(problem.captions)} texts, once: {seconds(lambda: problem.features):.1f} s"
        )
        published = LoRS(
            steps=steps, head="residual", dim=1280, components=1280, expert_rate=0.01, student_rate=0.01, alpha=3.0, experts=1,
            segments=1, inner_steps=8, inner_batch=20, loss="wbce", bound="none", lr=1e-4, lr_text=1e-4, lr_similarity=1e-4,
        )  # fmt: skip
        epochs(problem, "published", TwoTowers(head="residual", dim=1280, rank=1280))
        epochs(problem, "ours", TwoTowers())
        timed(problem, "published", dataclasses.replace(published, gradient="truncated"))
        timed(problem, "published", dataclasses.replace(published, gradient="exact"))
        timed(problem, "ours", LoRS(steps=steps, experts=1))
    print(f"peak memory {peak():.0f} MiB")


def epochs(problem: lb.Problem, heads: str, kind: TwoTowers) -> None:
    """An expert's second epoch (the first prepares the features)."""
    experts = Experts(problem, kind, ExpertTraining(rate=0.01))
    experts.snapshot(0, 1)
    print(
        f"expert epoch, {heads} heads: {seconds(lambda: experts.snapshot(0, 2)):.2f} s of {len(problem.candidates)} pairs"
    )


def timed(problem: lb.Problem, heads: str, method: LoRS) -> None:
    """Steps of the whole loop, after one that prepares."""
    states, took = iter(lb.steps(problem, dataclasses.replace(method, steps=method.steps + 1))), []
    next(states)
    for _ in range(method.steps + 1):
        took.append(seconds(lambda: next(states)))
    print(f"step of lors, {heads} heads, {method.gradient:9s}: {median(took[1:]):.2f} s   first {took[0]:.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("tower", "frozen"))
    parser.add_argument("source", nargs="?", default="demo")
    parser.add_argument("--resolution", type=int)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--inner", type=int, default=8)
    parser.add_argument("--batch", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.part == "tower":
        towers(options.steps, options.inner, options.batch)
    else:
        frozen(options.source, options.resolution, options.steps)
