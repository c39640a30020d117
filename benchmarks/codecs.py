"""What codecs cost sets whose pixels were learned: each method's set is made once, then stored in several ways and judged.

    python benchmarks/codecs.py demo --pairs 100 --methods cf kip covmatch mtt_vl lors --out codecs-demo

The rows of a method are the same learned values. Judged at home and under an encoder that took no part; a stopped run goes on.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import limbeck as lb
from limbeck import registry
from limbeck.core import DistilledSet, Storage
from limbeck.core.codec import pack, stored_files
from limbeck.evaluation import read_scores, table, write_scores

CODECS = {
    "exact": Storage(),
    "webp 80": Storage("webp", 80, vectors="int8"),
    "avif 60": Storage("avif", 60, vectors="int8"),
    "avif 40": Storage("avif", 40, vectors="int4"),
    "avif 20": Storage("avif", 20, vectors="int4"),
}


def stored_as(small: DistilledSet, storage: Storage) -> DistilledSet:
    """The same learned values, stored in another way."""
    stored = dict(small.stored)
    if "image" in small.tensors:
        stored["image"] = stored_files(small.tensors["image"], storage)
    if "text" in stored:
        stored["text"] = pack(small.tensors["text"], storage.vectors)
    return replace(small, tensors={**small.tensors, **{m: x.values for m, x in stored.items()}}, stored=stored)


def main(words: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--resolution", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--methods", nargs="+", default=["random", "label_distillation", "cf", "kip", "covmatch"])
    parser.add_argument("--steps", type=int, help="of each method; by default its own")
    parser.add_argument("--codecs", nargs="+", choices=CODECS, default=list(CODECS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--home", default="efficientnet_lite0")
    parser.add_argument("--unseen", default="mobilenet_v2")
    parser.add_argument("--text", default="minilm")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(words)
    train = lb.source(given.source, **({"resolution": given.resolution} if given.resolution else {}))
    space = lb.space(image=given.home, text=given.text)
    scores = []
    for name in given.methods:
        method = registry.get("method", name)()
        if given.steps is not None and "steps" in {f.name for f in fields(method)}:
            method = replace(method, steps=given.steps)
        file = given.out / name / "scores.json"
        if not file.is_file():
            problems = [lb.Problem(train, space, lb.Budget(pairs=given.pairs), seed) for seed in range(given.seeds)]
            start = time.perf_counter()
            sets = [lb.distill(p, method, run=given.out / name / f"seed{p.seed}") for p in problems]
            print(f"{name}: {(time.perf_counter() - start) / len(sets):.0f} s a set", flush=True)
            rows = []
            for how in given.codecs:
                again = [stored_as(small, CODECS[how]) for small in sets]
                small = again if len(again) > 1 else again[0]
                judged = lb.evaluate(small, train, space=space, seeds=given.seeds, unseen=[given.unseen])
                rows += [replace(s, name=f"{name}, {how}") for s in judged]
            write_scores(file, rows)
        scores += read_scores(file)
        print(f"\n{table(scores)}", flush=True)


if __name__ == "__main__":
    main()
