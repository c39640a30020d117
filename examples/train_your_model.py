"""Train a PyTorch model of your own on a distilled set, with a training loop of your own.

    python examples/train_your_model.py --per-class 5
    python examples/train_your_model.py --set runs/pets/set --test folder:pets     # a set that you have made
    python examples/train_your_model.py --toy                                      # the same in seconds

A set is a folder. `lb.load` opens it, and so does `datasets.load_dataset`: both give the same images and labels. From there on
nothing below is Limbeck's: the network, the loop and the accuracy are plain PyTorch. Beside it stands the same network, trained in
the same way on as many real images that were drawn at random. Both are tested on the test split, which no set has seen.

On the demo 5 images a class are about as good as random ones (44.7 +- 6.4 and 41.5 +- 2.5 %), 20 a class worse (51.3 and 55.1 %).
"""

import argparse
import statistics
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import limbeck as lb


def network(classes: int) -> nn.Module:
    """A small network, in the place of yours."""
    layers: list[nn.Module] = []
    for inside, outside in ((3, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, classes))


def train(images: Tensor, labels: Tensor, classes: int, seed: int, steps: int) -> nn.Module:
    """A plain training loop."""
    torch.manual_seed(seed)
    model = network(classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        drawn = torch.randint(len(images), (64,))
        batch = images[drawn]
        if torch.rand(()) < 0.5:
            batch = batch.flip(-1)
        optimizer.zero_grad()
        F.cross_entropy(model(batch), labels[drawn]).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images whose class the model tells, in percent."""
    said = torch.cat([model(part).argmax(dim=1) for part in images.split(256)])
    return 100 * (said == labels).float().mean().item()


def read_by_datasets(folder: Path) -> tuple[Tensor, Tensor]:
    """Images and labels of the set's folder, read without Limbeck."""
    from datasets import load_dataset

    rows = load_dataset(str(folder), split="train")
    images = [torch.from_numpy(np.array(row["image"])).permute(2, 0, 1).float().div(255) for row in rows]
    return torch.stack(images), torch.tensor(rows["label"])


def main() -> None:
    """Opens a set, or makes one; trains on it and on real images; prints both accuracies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, help="the folder of a labelled set; by default one is made of the demo")
    parser.add_argument("--test", default="demo", help="the source that the set was made of")
    parser.add_argument("--per-class", type=int, default=5, help="images a class of a set that is made here")
    parser.add_argument("--out", type=Path, default=Path("runs/train_your_model"), help="where the set is written")
    parser.add_argument("--toy", action="store_true", help="run in seconds")
    options = parser.parse_args()

    side = lb.load(options.set).modalities["image"].shape[-1] if options.set else 32  # pixels
    real = lb.check.toy_source(48) if options.toy else lb.source(options.test, resolution=side)
    held_out, classes = real.split("test"), len(real.classes)
    folder = options.set or options.out / "set"
    if options.set is None:  # labels alone: no text, so that each class has as many images
        space = lb.space(image="convnet" if options.toy else "efficientnet_lite0")
        problem = lb.Problem(real, space, lb.Budget(pairs=(2 if options.toy else options.per_class) * classes))
        method = (
            lb.methods.DM(steps=3, batch=8, width=8) if options.toy else lb.methods.DM(steps=100, batch=16, width=32)
        )
        lb.distill(problem, method, run=options.out / "run").save(folder)

    small = lb.load(folder)
    whole = small.batch(range(len(small)))
    images, labels = whole["image"], whole["label"]
    if find_spec("datasets"):
        same = read_by_datasets(folder)
        print(f"datasets.load_dataset reads the same: {torch.equal(same[0], images) and torch.equal(same[1], labels)}")

    test, target = held_out.batch(range(len(held_out)))["image"], held_out.labels
    results: dict[str, list[float]] = {f"distilled, {len(small)} images": [], f"random, {len(small)} real images": []}
    for seed in range(1 if options.toy else 3):
        chosen = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))[: len(small)]
        sample = real.batch(chosen)
        for found, data in zip(results.values(), ((images, labels), (sample["image"], sample["label"])), strict=True):
            model = train(*data, classes=classes, seed=seed, steps=10 if options.toy else 150)
            found.append(accuracy(model, test, target))
    print(f"\n{'trained on':30} accuracy on {len(test)} test images, {classes} classes")
    for name, found in results.items():
        spread = statistics.stdev(found) if len(found) > 1 else 0.0
        print(f"{name:30} {statistics.mean(found):.1f} +- {spread:.1f} %")


if __name__ == "__main__":
    main()
