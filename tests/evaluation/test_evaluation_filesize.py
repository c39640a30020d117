"""Bytes of a set in files."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import limbeck as lb
from limbeck.check import toy_source
from limbeck.core import DistilledSet
from limbeck.data.modality import Modality
from limbeck.evaluation.filesize import file_bytes

CAPTIONS = ("a sea", "water under a grey sky")


def png_size(pixels: torch.Tensor) -> int:
    buffer = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(buffer, format="png")
    return len(buffer.getvalue())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve smooth pictures as JPEG files with two captions each."""
    draw = torch.Generator().manual_seed(0)
    lines = []
    for i in range(12):
        coarse = torch.rand(1, 3, 4, 4, generator=draw)
        smooth = torch.nn.functional.interpolate(coarse, 32, mode="bilinear").mul(255).byte()[0]
        Image.fromarray(smooth.permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.jpg", quality=50)
        lines.append(f'{{"image": "{i}.jpg", "caption": ["{CAPTIONS[0]} {i}", "{CAPTIONS[1]}"], "split": "train"}}')
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    return tmp_path / "t.jsonl"


def test_real_samples_count_as_their_files_and_learned_ones_as_png(photos: Path) -> None:
    train = lb.source(f"manifest:{photos}", resolution=32)
    space = lb.space(image="convnet", text="bag_of_words")
    problem = lb.Problem(train, space, lb.Budget(pairs=5))
    small = lb.distill(problem, lb.methods.Random())
    files = sum((photos.parent / key).stat().st_size for key in small.origins)
    text = sum(len(c.encode()) for sample in small.captions for c in sample)
    pngs = sum(map(png_size, small.tensors["image"]))
    assert files < pngs < small.sizes["image"]
    assert file_bytes(small, train) == files + text
    assert file_bytes(small) == pngs + text, "a saved set holds PNG"
    learned = lb.distill(problem, lb.methods.CF(steps=2, lr=0.1))
    exact = sum(min(png_size(x), x.numel()) for x in learned.tensors["image"])
    assert file_bytes(learned, train) == exact + learned.sizes["text"], "its pixels are no longer those of a file"
    touched = small.tensors["image"].clone()
    touched[0, 0, 0, 0] ^= 1
    other = replace(small, tensors={**small.tensors, "image": touched})
    own = (photos.parent / small.origins[0]).stat().st_size
    assert file_bytes(other, train) == files + text - own + png_size(touched[0])
    whole = sum((photos.parent / key).stat().st_size for key in train.keys)
    assert file_bytes(train) == whole + sum(len(c.encode()) for sample in train.captions for c in sample)


def test_noise_counts_bare_and_floats_as_they_are_stored() -> None:
    noise = torch.randint(256, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    image, sound = {"image": Modality("image", (3, 8, 8))}, {"audio": Modality("audio", (1, 4, 4))}
    small = DistilledSet(
        "noise", {**image, **sound}, {"image": noise, "audio": torch.zeros(2, 1, 4, 4)}, origins=["a", "b"]
    )
    assert file_bytes(small) == 2 * 3 * 8 * 8 + 2 * 16 * 4, "a PNG of noise is larger than its pixels"
    exact = replace(small, tensors={"image": torch.zeros(2, 3, 8, 8)}, modalities=image)
    assert file_bytes(exact) == 4 * 2 * 3 * 8 * 8, "floats are no PNG"


def test_a_large_source_is_estimated_from_an_even_part(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = file_bytes(toy_source(96))
    monkeypatch.setattr("limbeck.evaluation.filesize.SAMPLE", 32)
    assert file_bytes(toy_source(96)) == pytest.approx(whole, rel=0.02) and file_bytes(toy_source(96)) != whole
