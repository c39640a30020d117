"""What sets of real samples with learned captions teach, at equal bytes of files, beside what a sceptic would store in their place.

    python benchmarks/any_encoder.py karpathy:flickr8k --resolution 128 --bytes 400kB 1.2MB --seeds 3 --out flickr-bytes

Rows, each filled with as many samples as the bytes hold, or with `--pairs` of so many samples:

    random       real images with all their captions
    shrunk       the same at half of the side: more images, fewer pixels
    mean         real images with the mean vector of their own captions; nothing is learned
    one          captions learned under the home encoder alone
    pool         captions learned under the home encoder and another

and the full data. Every row is judged at home and under an encoder that took no part; the same command goes on where it was stopped.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import limbeck as lb
from limbeck.core import Method, Storage
from limbeck.evaluation import Score, read_scores, table, write_scores

STEPS = 150  # of learned captions


@dataclass(frozen=True)
class Row:
    """One way to fill a budget: a method, the image encoders that it learns by, and the codec."""

    method: Method
    image: str
    storage: Storage


def rows(home: str, other: str, side: int, quality: int, temperature: float | None) -> dict[str, Row]:
    """All of them, by name."""
    storage = Storage("avif", quality, vectors="int4")
    learned = lb.methods.LabelDistillation(steps=STEPS, temperature=temperature)
    mean = lb.methods.LabelDistillation(steps=0)
    return {
        "random": Row(lb.methods.Random(), home, storage),
        "shrunk": Row(lb.methods.Random(), home, Storage("avif", quality, side // 2)),
        "mean": Row(mean, home, storage),
        "one": Row(learned, home, storage),
        "pool": Row(learned, f"pool:{home}+{other}", storage),
    }


def judged(train: lb.Source, row: Row, budget: lb.Budget, given: argparse.Namespace, out: Path) -> list[Score]:
    """The scores of one row at one budget: a set and a student a seed."""
    space = lb.space(image=row.image, text=given.text)
    sets = []
    for seed in range(given.seeds):
        problem = lb.Problem(train, space, budget, seed, storage=row.storage)
        start = time.perf_counter()
        sets.append(lb.distill(problem, row.method, run=out / f"seed{seed}"))
        print(f"{out} seed {seed}: {sets[-1].pairs} pairs, {time.perf_counter() - start:.0f} s", flush=True)
    return evaluated(sets, train, given)


def evaluated(sets: Sequence[lb.Source], train: lb.Source, given: argparse.Namespace) -> list[Score]:
    """At home, and under the encoder that took no part."""
    home = lb.space(image=given.home, text=given.text)
    small = sets if len(sets) > 1 else sets[0]
    return lb.evaluate(small, train, space=home, seeds=given.seeds, unseen=[given.unseen])


def main(words: Sequence[str] | None = None) -> None:
    """Prints the table of all rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--resolution", type=int, default=0, help="pixels a side; by default the source's own")
    parser.add_argument("--bytes", nargs="+", default=["400kB", "1.2MB"])
    parser.add_argument("--pairs", nargs="+", type=int, help="instead of bytes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quality", type=int, default=20, help="of AVIF")
    parser.add_argument("--temperature", type=float, default=lb.methods.LabelDistillation().temperature)
    parser.add_argument("--home", default="efficientnet_lite0")
    parser.add_argument("--other", default="efficientnet_lite2", help="the second member of the pool")
    parser.add_argument("--unseen", default="mobilenet_v2")
    parser.add_argument("--text", default="minilm")
    parser.add_argument("--rows", nargs="+", default=["full", "pool", "one", "mean", "random", "shrunk"])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(words)
    train = lb.source(given.source, **({"resolution": given.resolution} if given.resolution else {}))
    side = train.modalities["image"].shape[-1]
    ways = rows(given.home, given.other, side, given.quality, given.temperature)
    budgets = {b: lb.Budget(bytes=b) for b in given.bytes}
    if given.pairs:
        budgets = {f"{n} pairs": lb.Budget(pairs=n) for n in given.pairs}
    scores: list[Score] = []
    for name, size in [(n, b) for b in budgets for n in given.rows if n != "full"] + [("full", "")]:
        if name not in given.rows:
            continue
        kept = given.out / f"{name}-{size}".replace(" ", "-") / "scores.json" if size else given.out / "full.json"
        if not kept.is_file():
            if size:
                judged_rows = judged(train, ways[name], budgets[size], given, kept.parent)
            else:
                judged_rows = evaluated([train], train, given)
            write_scores(kept, [replace(s, name=f"{name} {size}".strip()) for s in judged_rows])
        scores += read_scores(kept)
        print(f"\n{table(scores)}", flush=True)


if __name__ == "__main__":
    main()
