"""How well the images of image-text sets agree with their captions, as a space says that no loss has seen.

    python benchmarks/agreement.py --judge bound:SPACE FOLDER/runs/NAME-*-seed* ...

For each set, and the mean and spread of those that differ in their seed alone:

    R@1, R@5   percent of images whose own caption is among the 1, 5 nearest of the set's captions (chance: 100 / M, 500 / M)
    class      percent of images that are nearest to the mean caption of their own class
    distance   1 - cosine of the mean image of a class and the mean real caption of that class, mean of the classes

Sets of `random` are real samples; with `per_class`, those that a set of `guided` with the same seed started from.
"""

import argparse
import re
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

import torch
import torch.nn.functional as F
from torch import Tensor

import limbeck as lb
from limbeck.data import Cache
from limbeck.evaluation.alignment import alignment
from limbeck.spaces import embed_source

COLUMNS = ("R@1", "R@5", "class", "distance")


def by_class(vectors: Tensor, labels: Tensor, classes: int) -> Tensor:
    """`[C, D]`: the mean direction of each class."""
    return F.normalize(torch.stack([vectors[labels == c].mean(0) for c in range(classes)]), dim=1)


def judged(of: lb.Source, real: lb.Source, judge: lb.Space, cache: Cache) -> tuple[float, ...]:
    """The four numbers of one set."""
    assert of.labels is not None and real.labels is not None
    recall = alignment(of, judge, cache=cache).recall["image -> text"]
    captions = embed_source(real, judge, cache)["text"]
    target = by_class(captions.vectors, real.labels[captions.owner], len(real.classes))
    images = embed_source(of, judge, cache)["image"].vectors
    nearest = (images @ target.T).argmax(1)
    own = by_class(images, of.labels, len(real.classes))
    right = 100 * (nearest == of.labels).double().mean()
    return recall["R@1"], recall["R@5"], float(right), float((1 - (own * target).sum(1)).mean())


def main() -> None:
    """Prints a row for each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--judge", required=True)
    given = parser.parse_args()
    cache, judge = Cache(), lb.space(given.judge)
    rows: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for run in sorted(given.runs):
        of = lb.load(run / "set" if (run / "set").is_dir() else run)
        real = lb.source(of.recipe.source)
        name = re.sub(r"-seed\d+$", "", run.name)
        rows[name].append(judged(of, real, judge, cache))
    print(f"{'':<30}" + "".join(f"{column:>16}" for column in COLUMNS))
    for name, found in rows.items():
        told = [f"{mean(x):.2f} +- {stdev(x) if len(x) > 1 else 0:.2f}" for x in zip(*found, strict=True)]
        print(f"{name:<30}" + "".join(f"{cell:>16}" for cell in told))


if __name__ == "__main__":
    main()
