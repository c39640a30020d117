"""Small images and small datasets, written as a person would write them."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Paint = Callable[[Path, int], Path]
Sing = Callable[..., Path]


def image_bytes(seed: int, format: str = "png", size: tuple[int, int] = (20, 14)) -> bytes:
    """A noisy image that differs for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format)
    return buffer.getvalue()


def mask_bytes(left: int, size: tuple[int, int] = (20, 14)) -> bytes:
    """The mask of a block that is five pixels wide, from `left` on, of an image of `image_bytes`."""
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    pixels[3:11, left : left + 5] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def paint() -> Paint:
    """Writes the image of a seed to a path."""

    def write(path: Path, seed: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image_bytes(seed, "jpeg" if path.suffix in (".jpg", ".jpeg") else path.suffix[1:]))
        return path

    return write


@pytest.fixture
def sing() -> Sing:
    """Writes the tone of a seed to a path, 8000 samples a second."""
    soundfile = pytest.importorskip("soundfile", reason="needs the audio extra")

    def write(path: Path, seed: int, seconds: float = 0.5) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.5 * np.sin(np.arange(round(8000 * seconds)) * (0.1 + 0.2 * seed)), 8000)
        return path

    return write


@pytest.fixture
def flickr(tmp_path: Path, paint: Paint) -> Path:
    """Eight images with two captions each in Karpathy's JSON: four train, two val, two test."""
    rows = []
    for i, split in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 2):
        paint(tmp_path / "images" / f"{i}.jpg", i)
        rows.append({"filename": f"{i}.jpg", "split": split, "sentences": [{"raw": f"a {i}"}, {"raw": f"the {i}"}]})
    (tmp_path / "dataset.json").write_text(json.dumps({"images": rows, "dataset": "toy"}))
    return tmp_path
