"""What students learn from generated sets, beside real pairs: sets of several seeds, judged by several students.

    python benchmarks/edge_students.py OUT --prior PRIOR [--rows random,prior,edge,...] [--pairs 128] [--seeds 3] [--spec scenes]
        [--option ...] [--test-option samples=1000] [--image hf:GUIDE --text hf:GUIDE] [--see convnet --read minilm]
        [--students convnet:32]

Sets are made with the encoders `--image` and `--text` (the guide of `edge`), and judged with `--see` and `--read`, of which a student that is a
network uses the texts alone. Rows that differ in sampling alone share one fine-tuning a seed, whose seconds each of them carries. Set i is judged by
student seed i. Scores go to OUT/scores.json, the table to OUT/table.md; a row that is there is not made again.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

import limbeck as lb
from limbeck.core import freeze
from limbeck.evaluation.score import read_scores, write_scores

NONE = {"to_text": 0.0, "to_image": 0.0, "diverse": 0.0}
FAST = {"sampling_steps": 20, "guidance": 2.0}


def rows_of(prior, oracle, steps):
    """Row name to (method, share of the pairs)."""
    edge, plain, proto = lb.methods.Edge, lb.methods.Prior, lb.methods.PrototypePrior
    base = {"prior": prior, **FAST}
    tuned = {**base, "steps": steps}
    new = {"captions": 2, "captioner": oracle}
    found = {
        "random": (lb.methods.Random(), 1),
        "random, half": (lb.methods.Random(), 0.5),
        "random, double": (lb.methods.Random(), 2),
        "prototypes, 2 real captions": (lb.methods.Prototypes(), 1),
        "random, 2 real captions": (lb.methods.Random(), 1),
        "herding": (lb.methods.Herding(), 1),
        "prototypes": (lb.methods.Prototypes(), 1),
        "prior": (plain(**base), 1),
        "prior, cluster": (plain(**base, prompts="cluster"), 1),
        "prior, best of 4": (plain(**base, candidates=4), 1),
        "prototype_prior": (proto(**base), 1),
        "prototype_prior 0.4": (proto(**base, strength=0.4), 1),
        "prototype_prior 0.02": (proto(**base, strength=0.02), 1),
        "prototype_prior 0.02, 2 captions": (proto(**base, strength=0.02, **new), 2),
        "prior, cluster, 2 captions": (plain(**base, prompts="cluster", **new), 2),
        "prior, cluster, best of 8, 2 captions, equal pairs": (
            plain(**base, prompts="cluster", candidates=8, **new),
            1,
        ),
        "prior, cluster, best of 8, 2 captions": (plain(**base, prompts="cluster", candidates=8, **new), 2),
        "mse": (edge(**tuned, **NONE), 1),
        "mse, full": (edge(**tuned, **NONE, subset="full", lr=1e-4), 1),
        "edge": (edge(**tuned), 1),
        "edge, full": (edge(**tuned, subset="full", lr=1e-4), 1),
        "edge, faithful": (edge(**tuned, denoise=0.0), 1),
        "edge, no D": (edge(**tuned, diverse=0.0), 1),
        "edge, 2 captions, equal pairs": (edge(**tuned, **new), 1),
        "edge, 2 captions, equal images": (edge(**tuned, **new), 2),
        "edge, paraphrase, equal images": (edge(**tuned, **new, stage="paraphrase"), 2),
        "edge, retrieval, equal pairs": (edge(**tuned, captions=2), 1),
        "edge, retrieval, equal images": (edge(**tuned, captions=2), 2),
        "edge, faithful, all t": (edge(**tuned, denoise=0.0, t_max=1000), 1),
        "edge, 5C, all t": (edge(**tuned, to_text=2.5, to_image=2.5, t_max=1000), 1),
        "edge, cluster": (edge(**tuned, prompts="cluster"), 1),
        "edge, best of 4": (edge(**tuned, candidates=4), 1),
        "edge, guidance 4": (edge(**{**tuned, "guidance": 4.0}), 1),
        "edge, 2 images a caption": (edge(**tuned, repeats=2), 1),
        "edge, cluster, best of 8": (edge(**tuned, prompts="cluster", candidates=8), 1),
        "edge, cluster, best of 8, 2 captions": (edge(**tuned, prompts="cluster", candidates=8, **new), 2),
        "lors": (lb.methods.LoRS(), 1),
        "cf": (lb.methods.CF(), 1),
    }
    return {**found, "full data": (None, 1)}


class Bench:
    def __init__(self, a):
        options = parsed(a.option)
        self.a, self.train = a, lb.source(a.spec, **options)
        self.test = lb.source(a.spec, split="test", **(options | parsed(a.test_option)))
        self.guide = lb.space(image={"name": a.image}, text={"name": a.text})
        self.sees = lb.space(image={"name": a.see}, text={"name": a.read})
        self.tuned = {}

    def set_of(self, method, pairs, seed):
        problem = lb.Problem(self.train, self.guide, lb.Budget(pairs=pairs), seed=seed)
        start = time.process_time()
        if not isinstance(method, lb.methods.Edge):
            small = lb.distill(problem, method)
            return small, time.process_time() - start
        sampling = ("prompts", "repeats", "captions", "captioner", "stage", "sampling_steps", "guidance", "candidates")
        plain = replace(method, **{name: getattr(type(method), name) for name in sampling})
        if (plain, seed) not in self.tuned:
            *_, state = lb.steps(lb.Problem(self.train, self.guide, lb.Budget(pairs=4), seed=seed), plain)
            self.tuned[plain, seed] = (state.synthetic.generator.state_dict(), time.process_time() - start)
        weights, seconds = self.tuned[plain, seed]
        start = time.process_time()
        synthetic = method.start(problem)
        synthetic.generator.load_state_dict(weights)
        recipe = lb.Recipe.of(problem, method)
        small = freeze(problem, recipe, method.materialize(problem, synthetic), learned_text=False)
        return small, seconds + time.process_time() - start

    def with_all(self, small, captions):
        """The set with so many captions of each real sample that it holds."""
        place = {key: i for i, key in enumerate(self.train.keys)}
        return replace(small, captions=[self.train.captions[place[key]][:captions] for key in small.origins])

    def scores(self, name, method, share, folder):
        slug = "".join(c if c.isalnum() else "-" for c in name)
        path = folder / f"{slug}-{self.a.pairs}.json"
        if path.is_file():
            return read_scores(path)
        seeds = range(self.a.seeds)
        made = [self.set_of(method, round(self.a.pairs * share), s) for s in seeds] if method else [(self.train, 0.0)]
        if name.endswith("2 real captions"):
            made = [(self.with_all(small, 2), seconds) for small, seconds in made]
        found = []
        for student, _, other in (one.partition("@") for one in self.a.students.split(",")):
            sees = lb.space(image={"name": other}, text={"name": self.a.read}) if other else self.sees
            sets = [small for small, _ in made]
            rows = lb.evaluate(
                sets if len(sets) > 1 else sets[0], self.test, "retrieval", sees, list(seeds), name, student=student,
                augment=False, **json.loads(self.a.protocol),
            )  # fmt: skip
            seconds = sum(s for _, s in made) / len(made)
            found += [replace(row, seconds=seconds) for row in rows]
            mean = next(row for row in rows if row.metric == "mean")
            print(
                f"{name}: {student} {mean.mean:.1f} ± {mean.std:.1f}, {sets[0].nbytes if method else 0:,} bytes, {seconds:.0f} CPU s a set",
                flush=True,
            )
        write_scores(path, found)
        return found


def parsed(pairs):
    read = lambda v: json.loads(v) if v[:1] in "0123456789" else v
    return {k: read(v) for k, v in (pair.split("=") for pair in pairs)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--prior")
    parser.add_argument("--rows", default="random;prior;edge")
    parser.add_argument("--pairs", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--spec", default="scenes")
    parser.add_argument("--option", nargs="*", default=[])
    parser.add_argument("--test-option", nargs="*", default=[])
    parser.add_argument("--image", default="efficientnet_lite0")
    parser.add_argument("--text", default="minilm")
    parser.add_argument("--see", default="convnet")
    parser.add_argument("--read", default="minilm")
    parser.add_argument("--oracle", default="retrieval")
    parser.add_argument("--students", default="convnet:32")
    parser.add_argument("--protocol", default="{}")
    a = parser.parse_args()
    torch.set_num_threads(1)
    a.out.mkdir(parents=True, exist_ok=True)
    bench, rows = Bench(a), rows_of(a.prior, a.oracle, a.steps)
    scores = [s for name in a.rows.split(";") for s in bench.scores(name, *rows[name], a.out)]
    write_scores(a.out / "scores.json", scores)
    (a.out / "table.md").write_text(lb.table(scores, "markdown") + "\n")
    print(lb.table(scores))


if __name__ == "__main__":
    main()
