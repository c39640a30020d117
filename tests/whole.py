"""A set that holds everything that a set can hold, and ways to damage its folder."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import limbeck as lb
from limbeck.core import DistilledSet, Recipe
from limbeck.data.plain import seal
from limbeck.objectives.similarity import Similarity
from limbeck.runtime.files import sha256

TABLE, TENSORS = "data/train-00000-of-00001.parquet", "tensors.safetensors"
ROWS = 4


def whole_set(**other: Any) -> DistilledSet:
    """Four samples of every modality, with labels, a learned text, a similarity and a learned rate."""
    draw = torch.Generator().manual_seed(0)
    similarity = Similarity(ROWS, rank=2)
    tensors = {
        "image": torch.randint(256, (ROWS, 3, 8, 8), dtype=torch.uint8, generator=draw),
        "mask": 255 * torch.randint(2, (ROWS, 1, 8, 8), dtype=torch.uint8, generator=draw),
        "text": torch.randn(ROWS, 5, generator=draw),
        "audio": torch.rand(ROWS, 1, 6, 9, generator=draw),
        "depth": 10 * torch.rand(ROWS, 1, 8, 8, generator=draw),
        "label": torch.tensor([0, 1, 0, 1]),
        "hint.lr": torch.tensor(0.25),
        **{f"similarity.{name}": value for name, value in similarity.state_dict().items()},
    }
    modalities = {
        "image": lb.Modality("image", (3, 8, 8)),
        "mask": lb.Modality("mask", (1, 8, 8)),
        "text": lb.Modality("text"),
        "audio": lb.Modality("audio", (1, 6, 9), rate=8000),
        "depth": lb.Modality("depth", (1, 8, 8), 0.0, 10.0),
        "label": lb.Modality("label"),
    }
    recipe = Recipe(
        source={"name": "demo", "split": "train"},
        space={"image": {"name": "convnet", "width": 8}, "text": {"name": "bag_of_words"}},
        method={"name": "cf", "steps": 5, "lr": 0.1},
        budget={"pairs": ROWS},
        seed=3,
        fingerprints={"source": "3f0c", "space": "91ab"},
    )
    fields = {
        "captions": [("a cat", "one more"), ("a dog",), ("ein Kater, sch\xf6n",), ("x",)],
        "origins": ["a", "b", "c", "d"],
        "neighbours": [[("a cat", 0.5)]] * ROWS,
        "nearest": [("a", 0.25)] * ROWS,
        "classes": ("cat", "dog"),
        "licence": "CC0-1.0",
        "recipe": recipe,
        "embedded_by": {"text": "0f"},
        "encoder_licences": {"image": "MIT", "text": "MIT"},
        "training": {"loss": "wbce", "temperature": 0.1},
        "similarity": similarity.describe(),
        "generation": {"prior": {"name": "p", "licence": "MIT"}, "prompts": {"truncated": 1}},
    }
    return DistilledSet("toy by cf", modalities, tensors, **{**fields, **other})


def with_manifest(folder: Path, to: Path, change: Callable[[dict[str, Any]], Any], sealed: bool = True) -> Path:
    """A copy of a set or a space whose manifest was changed, and sealed again (or without its digest)."""
    shutil.rmtree(to, ignore_errors=True)  # of a test
    shutil.copytree(folder, to)
    path = next(to / name for name in ("manifest.json", "space.json") if (to / name).exists())
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)
    manifest.pop("digest", None)
    path.write_text(json.dumps(seal(manifest) if sealed else manifest), encoding="utf-8")
    return to


def with_file(folder: Path, to: Path, name: str, data: bytes) -> Path:
    """A copy in which one file has other bytes, whose SHA-256 the manifest names."""

    def change(manifest: dict[str, Any]) -> None:
        (to / name).write_bytes(data)
        manifest["files"][name] = sha256(to / name)

    return with_manifest(folder, to, change)


def with_tensors(folder: Path, to: Path, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> Path:
    """A copy with other tensors, whose SHA-256 the manifest names."""
    to.parent.mkdir(parents=True, exist_ok=True)
    other = to.with_suffix(".other")
    save_file({k: v.contiguous() for k, v in change(load_file(folder / TENSORS)).items()}, other)
    return with_file(folder, to, TENSORS, other.read_bytes())
