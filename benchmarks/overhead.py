"""What Limbeck adds to the plain encoder loop and to the plain optimisation loop; both sides in one process, in turn.

    OMP_NUM_THREADS=1 python benchmarks/overhead.py demo

Prints images and captions a second (plain loop, `embed_source`, ratio), milliseconds a step (bare loop, `limbeck.steps`
with and without a run folder), and the peak memory of the process. Times are processor seconds of one thread.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

import limbeck as lb
from limbeck.core import chosen_pairs
from limbeck.spaces import Space, embed_source


def seconds(work: Callable[[], object]) -> float:
    """Processor seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def embedding(source: lb.Source, modality: str, encoder: lb.Encoder, rounds: int = 3) -> None:
    """The plain loop over batches of 128 against `embed_source` into an empty cache."""
    strings = [text for captions in source.captions for text in captions]
    total = len(source) if modality == "image" else len(strings)

    def plain() -> None:
        with torch.no_grad():
            for start in range(0, total, 128):
                stop = min(start + 128, total)
                encoder(source.batch(range(start, stop))["image"] if modality == "image" else strings[start:stop])

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            embed_source(source, Space({modality: encoder}), lb.Cache(folder))

    pairs = [(seconds(plain), seconds(ours)) for _ in range(rounds)]
    ratio = median(b / a for a, b in pairs)
    a, b = (median(p[i] for p in pairs) for i in (0, 1))
    print(f"embed {modality:5s}  plain {total / a:7.1f}/s   embed_source {total / b:7.1f}/s   time ratio {ratio:.3f}")


@dataclass(frozen=True)
class Nothing(lb.Method):
    """The cheapest possible step: a sum of everything that is learned."""

    steps: int = 200

    def start(self, problem: lb.Problem) -> lb.Synthetic:
        """100 real pairs."""
        return chosen_pairs(problem, torch.arange(100), learn=problem.modalities)

    def optimizer(self, synthetic: lb.Synthetic) -> Optimizer:
        """Adam."""
        return Adam(synthetic.parameters(), lr=1e-3)

    def step(self, problem: lb.Problem, synthetic: lb.Synthetic, t: int) -> dict[str, float | Tensor]:
        """One backward pass."""
        loss = torch.stack([p.sum() for p in synthetic.parameters()]).sum()
        loss.backward()
        return {"loss": loss.detach()}


def loop(problem: lb.Problem, rounds: int = 5) -> None:
    """The bare loop against `limbeck.steps`, on 100 pairs."""
    method = Nothing()

    def bare() -> None:
        synthetic = method.start(problem)
        optimizer = method.optimizer(synthetic)
        for t in range(method.steps):
            optimizer.zero_grad()
            method.step(problem, synthetic, t)
            optimizer.step()

    def ours(run: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for _ in lb.steps(problem, method, run=f"{folder}/run" if run else None, save_every=10**9):
                pass

    timed = [(seconds(bare), seconds(lambda: ours(False)), seconds(lambda: ours(True))) for _ in range(rounds)]
    a, b, c = (1e3 * median(t[i] for t in timed) / method.steps for i in range(3))
    print(f"step  bare {a:.2f} ms   limbeck.steps adds {b - a:.2f} ms, with a run folder {c - a:.2f} ms")


if __name__ == "__main__":
    torch.set_num_threads(1)
    source = lb.source(sys.argv[1], split="train")
    space = lb.space(image="efficientnet_lite0", text="minilm")
    for name in space.modalities:
        embedding(source, name, space[name])
    loop(lb.Problem(source, space, lb.Budget(pairs=100)))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
