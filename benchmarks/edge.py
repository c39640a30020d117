"""What each term of EDGE does, on rendered scenes or on any source: agreement, spread, drift.

    python benchmarks/edge.py OUT.jsonl --prior PRIOR [--seed 0] [--variants "prior;mse;..."] [--guidance 1 2] [--spec scenes] [--option ...]
        --guide hf:GUIDE --judge hf:JUDGE

The guide is the joint encoder that the loss sees; the judge another one, trained apart (`benchmarks/dual_encoder.py`). A line of JSON a
variant: mean cosine of each image with its caption, recall of either by the other among the set, the mean cosine of the joint vectors
of two different pairs, the Vendi score of the images, the mean cosine of images of one caption, and the denoising loss on held-out data.
On scenes also the share of images whose attributes are all as their caption says, read by the oracle, which is neither encoder.
`--table FILE ...` prints means and standard deviations over seeds. `--by_step` tells instead what estimates from each diffusion step leave to learn.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import mean, stdev

import torch
import torch.nn.functional as F

import limbeck as lb
from limbeck.annotation.captioners.scenes import Scenes
from limbeck.data.scene import told
from limbeck.evaluation.audit.diversity import vendi
from limbeck.evaluation.metrics import retrieval
from limbeck.methods.generative.diffusion.prior import DiffusersPrior
from limbeck.methods.generative.diffusion.sampling import Sampling, sampled
from limbeck.objectives.contrastive import directions, false_negatives
from limbeck.objectives.diffusion import clean_estimate, denoising_target
from limbeck.objectives.diversity import diversity

NONE = {"to_text": 0.0, "to_image": 0.0, "diverse": 0.0}
VARIANTS = {
    "prior": None,
    "mse": NONE,
    "mse+C": {"diverse": 0.0},
    "mse+D": {"to_text": 0.0, "to_image": 0.0},
    "mse+C+D": {},
    "mse+C+3D": {"diverse": 3.0},
    "C+D": {"denoise": 0.0},
    "C+D, all t": {"denoise": 0.0, "t_max": 1000},
    "C+D, clean input": {"denoise": 0.0, "t_max": 1000, "clean_input": True},
    "mse+C, tau 0.1": {"diverse": 0.0, "temperature": 0.1},
    "mse+C, all t": {"diverse": 0.0, "t_max": 1000},
    "mse+5C, all t": {"diverse": 0.0, "to_text": 2.5, "to_image": 2.5, "t_max": 1000},
    "mse+5C+D, all t": {"to_text": 2.5, "to_image": 2.5, "t_max": 1000},
    "mse+5C+5D, all t": {"to_text": 2.5, "to_image": 2.5, "diverse": 5.0, "t_max": 1000},
    "mse+20C, all t": {"diverse": 0.0, "to_text": 10.0, "to_image": 10.0, "t_max": 1000},
    "mse, all t": {**NONE, "t_max": 1000},
    "mse+5C": {"diverse": 0.0, "to_text": 2.5, "to_image": 2.5},
    "mse+5C+D": {"to_text": 2.5, "to_image": 2.5},
    "mse+5C+5D": {"to_text": 2.5, "to_image": 2.5, "diverse": 5.0},
    "mse+C+D, latent": {"features": "latent"},
    "mse+C+D, cross-attention": {"subset": "cross_attention", "lr": 2e-4},
    "mse+C+D, lora": {"subset": "lora"},
    "mse+C+D, full": {"subset": "full", "lr": 1e-4},
    "mse+5C, all t, full": {
        "diverse": 0.0,
        "to_text": 2.5,
        "to_image": 2.5,
        "t_max": 1000,
        "subset": "full",
        "lr": 1e-4,
    },
    "mse+5C, all t, cross-attention": {
        "diverse": 0.0,
        "to_text": 2.5,
        "to_image": 2.5,
        "t_max": 1000,
        "subset": "cross_attention",
        "lr": 2e-4,
    },
    "mse, cross-attention": {**NONE, "subset": "cross_attention", "lr": 2e-4},
    "mse, lora": {**NONE, "subset": "lora"},
    "mse+5C, lora": {"diverse": 0.0, "to_text": 2.5, "to_image": 2.5, "subset": "lora"},
    "mse+5C, full": {"diverse": 0.0, "to_text": 2.5, "to_image": 2.5, "subset": "full", "lr": 1e-4},
    "mse+5C, cross-attention": {
        "diverse": 0.0,
        "to_text": 2.5,
        "to_image": 2.5,
        "subset": "cross_attention",
        "lr": 2e-4,
    },
    "mse, full": {**NONE, "subset": "full", "lr": 1e-4},
}


def space_of(spec):
    return lb.space(image={"name": spec}, text={"name": spec})


@torch.no_grad()
def held_out_loss(prior, source, n=256):
    draw = torch.Generator().manual_seed(0)
    index = range(min(n, len(source)))
    clean = prior.encode(source.batch(index)["image"])
    noise, step = (
        torch.randn(clean.shape, generator=draw),
        torch.randint(len(prior.alphas_cumprod), (len(clean),), generator=draw),
    )
    said = prior.predict(
        prior.noised(clean, noise, step), step, prior.condition([source.captions[i][0] for i in index])
    )
    return float(F.mse_loss(said, denoising_target(clean, noise, prior.alphas_cumprod[step], prior.prediction)))


@torch.no_grad()
def measured(problem, prior, prompts, how, judge, guide, val, scenes):
    images = sampled(problem, prior, prompts, how).float() / 255
    several = sampled(problem, prior, [p for p in prompts[:32] for _ in range(4)], how).float() / 255
    found = {}
    for name, space in (("judge", judge), ("guide", guide)):
        x, y = space["image"](images), space["text"](prompts)
        own = torch.arange(len(x))
        place = {}
        words = torch.tensor([place.setdefault(p, i) for i, p in enumerate(prompts)])
        recall = retrieval(x, y, words, words)
        found |= {
            f"{name} cosine": float((x * y).sum(1).mean()),
            f"{name} t>i": recall["IR@1"],
            f"{name} i>t": recall["TR@1"],
        }
        if name == "judge":
            alike = space["image"](several).reshape(32, 4, -1)
            gram = alike @ alike.transpose(1, 2)
            found |= {"pair cosine": float(diversity(x, y)), "vendi": vendi(x)}
            found |= {"same caption": float((gram.sum((1, 2)) - 4).mean() / 12), "images": len(own)}
    if scenes:
        oracle = Scenes()
        seen = [oracle.see((image * 255).round().byte().permute(1, 2, 0).numpy()) for image in images]
        pairs = [(s, told(p)) for s, p in zip(seen, prompts, strict=True)]
        found["oracle"] = 100 * mean(float(s == t) for s, t in pairs)
        for k, part in enumerate(("colour", "shape", "place", "background")):
            found[f"oracle {part}"] = 100 * mean(float(s[k] == t[k]) for s, t in pairs)
    return found | {"held-out loss": held_out_loss(prior, val)}


@torch.no_grad()
def by_step(prior, held, spaces):
    """Contrastive loss (temperature 0.5, batches of 32) and cosine of real images, and of what they are estimated to be from each step."""
    draw = torch.Generator().manual_seed(0)
    index = torch.randperm(len(held), generator=draw)[:64].tolist()
    images, prompts = held.batch(index)["image"], [held.captions[i][0] for i in index]
    place = {}
    ignored = false_negatives(torch.tensor([place.setdefault(p, i) for i, p in enumerate(prompts)]))

    def told(what, seen):
        found = []
        for name, space in spaces.items():
            x, y = space["image"](seen), space["text"](prompts)
            parts = [slice(0, 32), slice(32, 64)]
            both = [sum(directions(x[p] @ y[p].T / 0.5, ignored[p, p])) / 2 for p in parts]
            found.append(f"{name} {float(sum(both)) / 2:.3f} {float((x * y).sum(1).mean()):.3f}")
        print(what, *found, flush=True)

    told("real", images)
    clean, condition = prior.encode(images), prior.condition(prompts)
    for t in (100, 300, 500, 600, 700, 800, 900, 990):
        step, noise = torch.full((64,), t), torch.randn(clean.shape, generator=draw)
        add_noise, share = prior.noised(clean, noise, step), prior.alphas_cumprod[step]
        estimate = clean_estimate(prior.predict(add_noise, step, condition), add_noise, share, prior.prediction)
        told(t, prior.decode(estimate).clamp(0, 1))


def table(paths):
    rows = {}
    for path in paths:
        for line in Path(path).read_text().splitlines():
            row = json.loads(line)
            rows.setdefault((row["guidance"], row["variant"]), []).append(row)
    columns = [c for c in next(iter(rows.values()))[0] if c not in ("variant", "guidance", "seed", "images")]
    print("| guidance | variant | " + " | ".join(columns) + " |\n|--:|---|" + "--:|" * len(columns))
    for (guidance, name), found in sorted(rows.items(), key=lambda row: row[0][0]):
        cells = []
        for c in columns:
            values = [row[c] for row in found if c in row]
            digits = 1 if max(map(abs, values), default=0) >= 10 else 3 if c != "pair cosine" else 4
            spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.{digits}f}{spread}" if values else "")
        print(f"| {guidance:g} | {name} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--table", nargs="*")
    parser.add_argument("--by_step", action="store_true")
    parser.add_argument("--prior")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variants", default="prior;mse;mse+C;mse+C+D;C+D")
    parser.add_argument("--spec", default="scenes")
    parser.add_argument("--option", nargs="*", default=[])
    parser.add_argument("--guide")
    parser.add_argument("--judge")
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--split", choices=["train", "val"], default="val", help="whose captions are the prompts")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--sampling_steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, nargs="*", default=[1.0, 2.0])
    a = parser.parse_args()
    if a.table is not None:
        table([a.out, *a.table])
        return
    options = {k: json.loads(v) if v[:1] in "0123456789" else v for k, v in (o.split("=") for o in a.option)}
    train = lb.source(a.spec, **options)
    guide, judge = space_of(a.guide), space_of(a.judge)
    problem = lb.Problem(train, guide, lb.Budget(pairs=a.prompts), seed=a.seed)
    held = lb.source(a.spec, split="val", **options)
    if a.by_step:
        by_step(DiffusersPrior.open(a.prior), held, {"guide": guide, "judge": judge})
        return
    draw = torch.Generator().manual_seed(a.seed)
    asked = train if a.split == "train" else held
    prompts = [asked.captions[i][0] for i in torch.randperm(len(asked), generator=draw)[: a.prompts].tolist()]
    for name in a.variants.split(";"):
        start = time.process_time()
        if VARIANTS[name] is None:
            prior, logs = DiffusersPrior.open(a.prior), {}
        else:
            method = lb.methods.Edge(**{"prior": a.prior, "steps": a.steps, **VARIANTS[name]})
            for state in lb.steps(problem, method):
                logs = state.logs
            prior = state.synthetic.generator.prior
        seconds = time.process_time() - start
        for guidance in a.guidance:
            how = Sampling(a.sampling_steps, guidance)
            row = {"variant": name, "guidance": guidance, "seed": a.seed}
            row |= measured(problem, prior, prompts, how, judge, guide, held, a.spec == "scenes")
            row |= {"tuning CPU s": round(seconds, 1)}
            with a.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(
                {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()},
                {k: round(v, 3) for k, v in logs.items()},
                flush=True,
            )


if __name__ == "__main__":
    main()
