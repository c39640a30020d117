"""Processor seconds of a set from 50 to 500 pairs: generation beside trajectory matching, on the same data and machine.

    python benchmarks/edge_cost.py OUT.jsonl --prior PRIOR [--spec demo] [--option resolution=32] [--pairs 50,100,200,500]
        [--methods random,prior,edge,mtt_vl,lors,covmatch] [--steps 150]

What is made once for any number of pairs is timed by itself: features and heads of the guide, then experts. A line of JSON a set; the
table is printed at the end. Use an empty LIMBECK_CACHE, else what is made once is found there.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from edge_students import parsed

import limbeck as lb
from limbeck.methods.generative.diffusion.features import caption_vectors, joint_space


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--prior")
    parser.add_argument("--spec", default="demo")
    parser.add_argument("--option", nargs="*", default=[])
    parser.add_argument("--pairs", default="50,100,200,500")
    parser.add_argument("--methods", default="random,prior,edge,mtt_vl,lors,covmatch")
    parser.add_argument("--steps", type=int, default=150)
    a = parser.parse_args()
    torch.set_num_threads(1)
    source, space = lb.source(a.spec, **parsed(a.option)), lb.space(image="efficientnet_lite0", text="minilm")
    fast = {"prior": a.prior, "sampling_steps": 20, "guidance": 2.0}
    made = {
        "random": lb.methods.Random(),
        "prior": lb.methods.Prior(**fast),
        "edge": lb.methods.Edge(**fast, steps=a.steps),
        "mtt_vl": lb.methods.MTTVL(),
        "lors": lb.methods.LoRS(),
        "covmatch": lb.methods.CovMatch(),
    }
    pairs, rows = [int(n) for n in a.pairs.split(",")], {}

    def timed(name, count, work):
        start, wall = time.process_time(), time.perf_counter()
        work()
        row = {"method": name, "pairs": count, "cpu s": time.process_time() - start, "s": time.perf_counter() - wall}
        rows.setdefault(name, {})[count] = row["cpu s"]
        with a.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)

    def problem(count):
        return lb.Problem(source, space, lb.Budget(pairs=count))

    def guide():
        one = problem(4)
        caption_vectors(one, joint_space(one))

    timed("features", 0, lambda: problem(4).features)
    timed("guide", 0, guide)
    for name in a.methods.split(","):
        if name in ("mtt_vl", "lors"):  # their experts, once; a step beside them is small
            timed(f"{name}: experts", 0, lambda name=name: lb.distill(problem(pairs[0]), replace(made[name], steps=1)))
        for count in pairs:
            timed(name, count, lambda name=name, count=count: lb.distill(problem(count), made[name]))
    print("| method | once | " + " | ".join(f"{n} pairs" for n in pairs) + " |\n|---|" + "--:|" * (1 + len(pairs)))
    for name in a.methods.split(","):
        once = rows.get(f"{name}: experts", {}).get(0)
        cells = " | ".join(f"{rows[name][n]:.0f}" for n in pairs)
        print(f"| `{name}` | {'' if once is None else format(once, '.0f')} | {cells} |")


if __name__ == "__main__":
    main()
