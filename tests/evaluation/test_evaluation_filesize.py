"""Bytes of a set in files."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import limbeck as lb
from limbeck.check import toy_source
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


def test_real_samples_are_their_own_files_and_learned_ones_are_not(photos: Path) -> None:
    train = lb.source(f"manifest:{photos}", resolution=32)
    space = lb.space(image="convnet", text="bag_of_words")
    problem = lb.Problem(train, space, lb.Budget(pairs=5))
    small = lb.distill(problem, lb.methods.Random())
    own = [(photos.parent / key).read_bytes() for key in small.origins]
    assert list(small.files("image", range(5))) == own and file_bytes(small) == small.nbytes
    assert small.sizes["image"] < sum(map(len, own)) + 300
    assert sum(map(len, own)) < sum(map(png_size, small.tensors["image"]))
    learned = lb.distill(problem, lb.methods.CF(steps=2, lr=0.1))
    assert not set(learned.files("image", range(5))) & set(own)
    touched = small.tensors["image"].clone()
    touched[0, 0, 0, 0] ^= 1
    other = replace(small, tensors={**small.tensors, "image": touched})
    assert all(file.startswith(b"\x89PNG") for file in other.files("image", range(5))), (
        "not those that it was decoded from"
    )
    whole = sum((photos.parent / key).stat().st_size for key in train.keys)
    assert file_bytes(train) == whole + sum(len(c.encode()) for sample in train.captions for c in sample)


def test_a_large_source_is_estimated_from_an_even_part(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = file_bytes(toy_source(96))
    monkeypatch.setattr("limbeck.evaluation.filesize.SAMPLE", 32)
    assert file_bytes(toy_source(96)) == pytest.approx(whole, rel=0.02) and file_bytes(toy_source(96)) != whole
