"""Projection heads, and the folder that a bound space is kept in: `space.json` and `tensors.safetensors`. No pickle."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.data.plain import COUNT, DIGEST, PLAIN, SIZE, TEXT, Kind, dump_json, read_sealed, renamed, seal
from limbeck.data.trust import remember
from limbeck.errors import StorageError
from limbeck.runtime.files import save_tensors, settle, sha256, whole_folder

__all__ = ["MANIFEST", "SCHEMA", "Head", "made_of", "read_heads", "read_manifest", "write_heads"]

SCHEMA = 1
MANIFEST, TENSORS = "space.json", "tensors.safetensors"
REMEDY = "fetch the space again, or bind again"
OLD_KEYS = {
    "of one modality": "one_modality",
    "of none": "no_modality",
}  # of spaces that were written before keys were identifiers
SHAPE = {
    "schema": Kind(f"a schema from 1 to {SCHEMA}", lambda value: type(value) is int and 1 <= value <= SCHEMA),
    "dim": SIZE,
    "encoders": {"*": {"name": TEXT, "*": PLAIN}},
    "fingerprints": {"*": TEXT},
    "heads": {"*": {"inputs": SIZE, "hidden": [SIZE], "dim": COUNT}},
    "licences": {"*": TEXT},
    "files": {TENSORS: DIGEST},
    "*": PLAIN,
}


class Head(nn.Module):
    """Standardised features through a perceptron: Linear, ReLU, ..., Linear. Its output is not of unit length.

    Args:
        inputs: components of the features D.
        hidden: units of each hidden layer; none for a linear head.
        dim: components of the common space d; 0 for a head that gives the features as they are.
        generator: of the weights; without one they are zero, to be loaded.

    Example:
        >>> Head(8, (16,), 4, torch.Generator().manual_seed(0))(torch.rand(3, 8)).shape
        torch.Size([3, 4])
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, inputs: int, hidden: Sequence[int], dim: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.inputs, self.hidden, self.dim = inputs, tuple(hidden), dim
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("deviation", torch.ones(inputs))
        sizes = [inputs, *hidden, dim] if dim else []
        self.layers = nn.ModuleList(_linear(a, b, generator) for a, b in pairwise(sizes))

    def standardise(self, features: Tensor) -> None:
        """Learns mean and deviation of features `[R, D]`; a component that hardly moves is not blown up."""
        deviation = features.std(0, correction=0)
        self.mean = features.mean(0)
        self.deviation = deviation.clamp(min=max(0.01 * float(deviation.mean()), 1e-8))

    def standard(self, features: Tensor) -> Tensor:
        """Features of mean zero and deviation one; of a head without layers they stay as they are."""
        return (features - self.mean) / self.deviation if self.dim else features

    def project(self, standard: Tensor) -> Tensor:
        """Standardised features `[B, D]` to `[B, d]`."""
        x = standard
        for i, layer in enumerate(self.layers):
            x = layer(x if i == 0 else x.relu())
        return x

    def forward(self, features: Tensor) -> Tensor:
        """Features `[B, D]` to `[B, d]`."""
        return self.project(self.standard(features))


def _linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """Uniform between -1 / sqrt(inputs) and 1 / sqrt(inputs), bias as well."""
    with torch.device("meta"):
        layer = nn.Linear(inputs, outputs)
    layer = layer.to_empty(device="cpu")
    for value in (layer.weight, layer.bias):
        if generator is None:
            nn.init.zeros_(value)
        else:
            nn.init.uniform_(value, -1 / sqrt(inputs), 1 / sqrt(inputs), generator=generator)
    return layer


def write_heads(folder: Path, heads: Mapping[str, Head], facts: Mapping[str, Any]) -> Path:
    """Writes a bound space; the folder appears, or is replaced, as a whole.

    Args:
        folder: where.
        heads: modality to its head.
        facts: what else `space.json` says.

    Raises:
        StorageError: the folder exists and is not a bound space.
    """
    refuse_other(folder)
    with whole_folder(folder, MANIFEST) as work:
        save_tensors({f"{m}.{k}": v for m, h in heads.items() for k, v in h.state_dict().items()}, work / TENSORS)
        shapes = {m: {"inputs": h.inputs, "hidden": list(h.hidden), "dim": h.dim} for m, h in heads.items()}
        manifest = {"schema": SCHEMA, **facts, "heads": shapes, "files": {TENSORS: sha256(work / TENSORS)}}
        (work / MANIFEST).write_text(dump_json(seal(manifest)), encoding="utf-8")
    remember(made_of(manifest))
    return folder


def made_of(manifest: Mapping[str, Any]) -> list[Any]:
    """What makes a bound space this one and no other: its encoders, their weights, its heads."""
    return [manifest[key] for key in ("encoders", "fingerprints", "files")]


def refuse_other(folder: Path) -> None:
    """Refuses a folder that holds something else.

    Raises:
        StorageError: it exists and is neither empty nor a bound space.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / MANIFEST).is_file())):
        raise StorageError(f"{folder} exists and is not a bound space; choose another folder")


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `space.json` says.

    Raises:
        StorageError: there is none, it is of a newer schema, or it is not what it should be.
    """
    if not folder.exists():
        settle(folder)  # puts back what a killed process was to replace
    path = folder / MANIFEST
    if not path.is_file():
        raise StorageError(
            f"{folder} holds no {MANIFEST}, so it is not a bound space; check the path, or make one with limbeck bind"
        )
    manifest = read_sealed(path, SHAPE, "a manifest of a bound space", SCHEMA, REMEDY)
    try:
        _check_heads(manifest)
    except ValueError as error:
        raise StorageError(f"{path} is not a manifest of a bound space: {error}; {REMEDY}") from error
    if "samples" in manifest:
        manifest["samples"] = renamed(manifest["samples"], OLD_KEYS)
    return manifest


def _check_heads(manifest: Mapping[str, Any]) -> None:
    """Whether every modality has an encoder, its fingerprint, a licence and a head, of the space's dimension."""
    names = set(manifest["encoders"])
    if not names:
        raise ValueError("it names no encoders")
    for key in ("fingerprints", "licences", "heads"):
        if set(manifest[key]) != names:
            raise ValueError(f"{key} are of {sorted(manifest[key])}, encoders of {sorted(names)}")
    for modality, head in manifest["heads"].items():
        gives = head["dim"] or head["inputs"]
        if gives != manifest["dim"] or (head["hidden"] and not head["dim"]):
            raise ValueError(f"the head of {modality} gives {gives} components, the space has {manifest['dim']}")


def read_heads(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Head]:
    """The heads of a bound space, by modality.

    Raises:
        StorageError: the tensors are missing, changed, or not those that the manifest speaks of.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / TENSORS
    if not path.is_file() or sha256(path) != manifest["files"][TENSORS]:
        raise StorageError(f"{path} is missing or differs from its SHA-256 in {MANIFEST}; fetch the space again")
    heads = {}
    try:
        tensors = load_file(path)
        for modality, head in manifest["heads"].items():
            start = f"{modality}."
            held = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
            heads[modality] = _head(head, held)
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError, TypeError, RuntimeError) as error:
        raise StorageError(f"{path} does not hold the heads that {MANIFEST} names: {error}; bind again") from error
    return heads


def _head(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Head:
    """A head of tensors whose shapes were compared first: what is made is not larger than what lies there."""
    sizes = [facts["inputs"], *facts["hidden"], facts["dim"]] if facts["dim"] else []
    wanted: dict[str, tuple[int, ...]] = {name: (facts["inputs"],) for name in ("mean", "deviation")}
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        wanted |= {f"layers.{i}.weight": (outputs, inputs), f"layers.{i}.bias": (outputs,)}
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != wanted:
        raise ValueError(f"its tensors are {sorted(tensors)}, of other shapes or names than {sorted(wanted)}")
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} is {tensor.dtype} or holds values that are not finite")
    head = Head(facts["inputs"], facts["hidden"], facts["dim"])
    head.load_state_dict(dict(tensors))
    return head
