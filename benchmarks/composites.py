"""Objects of one dataset before photographs of another: real images whose background tells the class, unless it is untied.

    python benchmarks/composites.py OBJECTS.jsonl BACKGROUNDS.jsonl OUT [--tie 0.95] [--side 128] [--copies 3] [--seed 0]

OBJECTS is a manifest of photographs with `mask`, `label` and `split` (other columns are kept); BACKGROUNDS a manifest of photographs whose
`label` is a group of backgrounds. Class i has group i as its own (in the order of their names), and shows it with probability `tie`, else any group by chance. The object is scaled to
nine tenths of the side and put a little off the centre. Writes OUT/tied.jsonl and OUT/untied.jsonl, whose training, validation and test objects are the
same: they differ in what stands behind them. No background photograph serves in two splits. The training split has `copies` of each object.
"""

import argparse
import json
import random
from pathlib import Path

from PIL import Image, ImageOps


def rows_of(table: Path) -> list[dict[str, str]]:
    """The rows of a manifest, files as paths."""
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    return [{k: str(table.parent / v) if k in ("image", "mask") else v for k, v in row.items()} for row in rows]


def composite(row: dict[str, str], behind: str, side: int, draws: random.Random) -> tuple[Image.Image, Image.Image]:
    """The object before a photograph, and its mask, as large as the composite."""
    scene = ImageOps.fit(Image.open(behind).convert("RGB"), (side, side))
    image, mask = Image.open(row["image"]).convert("RGB"), Image.open(row["mask"]).convert("L")
    scale = 0.9 * side / max(image.size)
    size = (round(image.width * scale), round(image.height * scale))
    left, top = ((side - length) // 2 + draws.randint(-side // 20, side // 20) for length in size)
    image, mask = image.resize(size, Image.Resampling.LANCZOS), mask.resize(size, Image.Resampling.BOX)
    whole = Image.new("L", (side, side))
    whole.paste(mask, (left, top))
    scene.paste(image, (left, top), mask)
    return scene, whole


def main() -> None:
    """Writes both tables and their files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", type=Path)
    parser.add_argument("backgrounds", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tie", type=float, default=0.95)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    objects, photographs = rows_of(given.objects), rows_of(given.backgrounds)
    classes, groups = (sorted({row["label"] for row in rows}) for rows in (objects, photographs))
    if len(groups) < len(classes):
        parser.error(f"{len(classes)} classes need as many groups of backgrounds, got {len(groups)}")
    shares: dict[tuple[str, str], list[str]] = {}  # (split, group): photographs
    random.Random(given.seed).shuffle(photographs)
    for group in groups:
        of = [row["image"] for row in photographs if row["label"] == group]
        for i, split in enumerate(("train", "train", "val", "test")):
            shares.setdefault((split, group), []).extend(of[i::4])
    for name, tie in (("tied", given.tie), ("untied", 0.0)):
        folder = given.out / name
        folder.mkdir(parents=True, exist_ok=True)
        with (given.out / f"{name}.jsonl").open("w") as table:
            for row in objects:
                for copy in range(given.copies if row["split"] == "train" else 1):
                    draws = random.Random(f"{given.seed} {row['key']} {copy}")
                    own, other, place = draws.random() < tie, draws.choice(groups), random.Random(draws.random())
                    group = groups[classes.index(row["label"])] if own else other
                    scene, mask = composite(row, draws.choice(shares[row["split"], group]), given.side, place)
                    key = f"{row['key']}-{copy}"
                    scene.save(folder / f"{key}.png")
                    mask.save(folder / f"{key}-mask.png")
                    files = {"image": f"{name}/{key}.png", "mask": f"{name}/{key}-mask.png", "key": key}
                    table.write(json.dumps({**row, **files, "behind": group}) + "\n")


if __name__ == "__main__":
    main()
