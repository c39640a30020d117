"""One set, many students: what does a set teach networks and encoders that it was not made with?

    python examples/cross_architecture.py --per-class 5
    python examples/cross_architecture.py folder:pets --students convnet,resnet18,vgg11,vit_tiny --device cuda
    python examples/cross_architecture.py --toy          # the same in seconds

The script makes sets of labelled images by several methods, and judges each in two ways. In the first table a set is judged by
frozen encoders: the one that it was made with (home), and one that took no part in it (unseen). In the second, networks are trained
on its pixels from random weights. The full data stand below: `of full` is the percent of what they teach the same student.
A set that gains at home alone is a set for one encoder.
"""

import argparse
from pathlib import Path

import limbeck as lb


def main() -> None:
    """Fills the grid of methods and students, and prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="demo", help="labelled images, such as folder:pets")
    parser.add_argument("--per-class", type=int, default=5, help="images a class in each small set")
    parser.add_argument("--students", default="convnet:32,alexnet", help="networks, with commas between them")
    parser.add_argument("--unseen", default="mobilenet_v2", help="encoders, with commas between them")
    parser.add_argument("--seeds", type=int, default=2, help="how many times everything is made and judged")
    parser.add_argument("--device", default="cpu", help="cuda is what deep networks want")
    parser.add_argument("--out", type=Path, default=Path("runs/cross_architecture"), help="where everything is written")
    parser.add_argument("--toy", action="store_true", help="run in seconds, with random encoders")
    options = parser.parse_args()

    train = lb.check.toy_source(16) if options.toy else lb.source(options.source)
    pairs, seeds = options.per_class * len(train.classes), options.seeds
    encoder, unseen, networks = "efficientnet_lite0", options.unseen.split(","), options.students.split(",")
    labels = lb.methods.LabelDistillation(learn="label")
    pixels = lb.methods.DM(steps=100, batch=8, width=32)
    training = {
        "steps": 100,
        "longest": 100,
        "batch": 32,
        "noise": (1.0,),
    }  # the same for every student, so that the table is quick
    if options.toy:
        pairs, seeds = 4, 1
        encoder, unseen, networks = "convnet", [{"name": "convnet", "seed": 1}], ["convnet:8", "alexnet"]
        labels = lb.methods.LabelDistillation(learn="label", steps=3)
        pixels = lb.methods.DM(steps=3, batch=8, width=8)
        training = {"steps": 2, "longest": 2, "noise": (1.0,), "batch": 8, "resolution": 32}

    found = lb.compare(
        train,
        ["random", "herding", labels, pixels],
        [pairs],
        seeds,
        ["frozen", *networks],
        space=lb.space(image=encoder),  # no text: these data are judged by their classes
        run=options.out,
        protocol="classification",
        unseen=unseen,
        device=options.device,
        **training,
    )
    print(found)
    print(f"\nthe table of each student, and a plot of score against bytes: {found.folder / 'table.md'}")


if __name__ == "__main__":
    main()
