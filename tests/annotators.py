"""Small pictures of one disc each, in a folder as a person would keep them, and annotators that need no model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from limbeck.annotation import Captioner, Segmenter

__all__ = ["Left", "Sizes", "disc", "files", "write_pets"]


def disc(seed: int, size: tuple[int, int] = (30, 20)) -> Image.Image:
    """A red disc in the middle of grey noise."""
    noise = np.random.default_rng(seed).integers(90, 110, (size[1], size[0], 1), dtype=np.uint8)
    image = Image.fromarray(noise.repeat(3, axis=2))
    x, y, r = size[0] // 2, size[1] // 2, min(size) // 4
    ImageDraw.Draw(image).ellipse((x - r, y - r, x + r, y + r), "red")
    return image


def write_pets(folder: Path) -> Path:
    """Twelve pictures, four a split: one in three has captions, one in four a trimap, the last has no label."""
    (folder / "masks").mkdir(parents=True)
    lines = []
    for i in range(12):
        disc(i).save(folder / f"{i}.png")
        row: dict[str, Any] = {"file_name": f"{i}.png", "split": ["train", "val", "test"][i // 4]}
        row |= {"caption": [f"own {i}", "['one more']"]} if i % 3 == 0 else {}
        row |= {"label": "cat" if i % 2 else "hot_dog"} if i < 11 else {}
        if i % 4 == 0:
            Image.fromarray(np.tri(20, 30, i, dtype=np.uint8) + 1).save(folder / "masks" / f"{i}.png")
            row["mask"] = f"masks/{i}.png"
        lines.append(json.dumps(row))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def files(folder: Path) -> dict[str, bytes | str]:
    """Every file below a folder, by name: its bytes, or where it leads."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): str(p.readlink()) if p.is_symlink() else p.read_bytes() for p in found}


@dataclass(frozen=True)
class Sizes(Captioner):
    """Says how large an image is and of which class; keeps what it saw, and is stopped when that is more than `most`.

    Args:
        most: images.
        batch_size: see `Captioner`.
        seen: the sizes.
    """

    most: int = 1000
    batch_size: int = 2
    seen: list[tuple[int, int]] = field(default_factory=list)

    @property
    def what(self) -> str:
        return "sizes"

    def describe(self) -> dict[str, Any]:
        return {"name": "sizes"}

    def caption(self, images: Sequence[Any], classes: Sequence[str | None]) -> list[str]:
        self.seen.extend(image.size for image in images)
        if len(self.seen) > self.most:
            raise KeyboardInterrupt
        return [f" {image.width} by\n{image.height}, {name} " for image, name in zip(images, classes, strict=True)]


@dataclass(frozen=True)
class Left(Segmenter):
    """The leftmost columns, and a quarter of the next.

    Args:
        columns: how many.
    """

    columns: int = 5

    @property
    def what(self) -> str:
        return "columns"

    def segment(self, images: Sequence[Any], classes: Sequence[str | None]) -> list[Any]:
        return [np.clip(self.columns - np.indices((i.height, i.width))[1] + 0.25, 0, 1).round(2) for i in images]
