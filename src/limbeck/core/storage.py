"""The distilled set on disk: a folder that is also a Hugging Face dataset repository. No pickle anywhere.

README.md              the card, with front matter
data/train-*.parquet   images and masks as they are stored, captions as readable text, labels, origins
tensors.safetensors    the rest: vectors of texts, sound, depth, what was learned besides
manifest.json          schema, recipe, fingerprints, versions, licences, SHA-256 of each file and of itself
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.core.card import card, generated_by
from limbeck.core.checks import check_modalities, check_tensors
from limbeck.core.codec import Files, Packed, decoded, unpack
from limbeck.core.distilled import DistilledSet
from limbeck.core.manifest import CARD, MANIFEST, REMEDY, SCHEMA, TABLE, TENSORS, read_manifest
from limbeck.core.recipe import Recipe
from limbeck.core.table import column_sizes, read_table, write_table
from limbeck.data.modality import Modality
from limbeck.data.parse import Unreadable
from limbeck.data.plain import dump_json, escape_surrogates, seal
from limbeck.errors import StorageError
from limbeck.limits import SET_PIXELS
from limbeck.runtime.files import whole_folder

__all__ = ["SCHEMA", "load", "part_sizes", "save"]

PICTURES = ("image", "mask")


def save(small: DistilledSet, folder: Path) -> Path:
    """Writes the set; the folder appears (or is replaced) as a whole.

    Raises:
        StorageError: the folder exists and is not a distilled set.
    """
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / MANIFEST).is_file())):
        raise StorageError(f"{folder} exists and is not a distilled set; choose another folder")
    with whole_folder(folder, MANIFEST) as work:
        (work / "data").mkdir()
        for name, data in contents(small).items():
            (work / name).write_bytes(data)
    return folder


def contents(small: DistilledSet) -> dict[str, bytes]:
    """The bytes of every file of the set's folder, by name."""
    from safetensors.torch import save as packed_bytes

    data = {TABLE: write_table(small), TENSORS: packed_bytes(_written(small))}
    manifest = _manifest(small)
    sealed = seal({**manifest, "files": dict.fromkeys((CARD, TABLE, TENSORS), "0" * 64)})
    others, size = len(dump_json(sealed).encode()) + sum(map(len, data.values())), 0
    while True:  # the card names the size that it is part of; the number grows until it is right
        data[CARD] = escape_surrogates(card(small, size)).encode()
        if others + len(data[CARD]) == size:
            break
        size = others + len(data[CARD])
    manifest["files"] = {name: hashlib.sha256(data[name]).hexdigest() for name in (CARD, TABLE, TENSORS)}
    return {**data, MANIFEST: dump_json(seal(manifest)).encode()}


def part_sizes(small: DistilledSet) -> dict[str, int]:
    """Bytes of the files of the set's folder, part by part.

    Modalities, `nearest` (captions, images, origins), similarity and hints are what the set holds; `table`, `tensors`, `card` and
    `manifest` are what holds it.
    """
    files, written = contents(small), _written(small)
    sizes = column_sizes(files[TABLE])
    for name, tensor in written.items():
        part = name.removesuffix(".scale")
        sizes[part] = sizes.get(part, 0) + tensor.numel() * tensor.element_size()
    frame = len(files[TENSORS]) - sum(tensor.numel() * tensor.element_size() for tensor in written.values())
    return {**sizes, "tensors": frame, "card": len(files[CARD]), "manifest": len(files[MANIFEST])}


def _written(small: DistilledSet) -> dict[str, Tensor]:
    """The tensors that are no column of the table, vectors as they are packed."""
    found: dict[str, Tensor] = {}
    for name, tensor in small.tensors.items():
        held = small.stored.get(name)
        if isinstance(held, Packed):
            found |= {f"{name}{suffix}": part.contiguous() for suffix, part in held.parts.items()}
        elif name not in small.pictures and not (name == "label" and tensor.dtype == torch.long):
            found[name] = tensor.detach().cpu().contiguous()
    return found


def load(folder: Path) -> DistilledSet:
    """Opens a saved set. Nothing in it is believed: files are checked against the manifest, and their contents against it and each other.

    Raises:
        StorageError: no manifest, a newer schema, a file that is missing or changed, or parts that do not fit each other.
    """
    manifest = read_manifest(folder)
    try:
        check_modalities(manifest["modalities"])
        modalities = {
            m["name"]: Modality(m["name"], tuple(m["shape"]), m["low"], m["high"], m.get("rate", 0))
            for m in manifest["modalities"]
        }
        tensors, stored = _unpacked(_read_tensors(folder / TENSORS), manifest.get("packed", {}))
        lengths = {len(tensor) for name, tensor in tensors.items() if tensor.ndim and _has_rows(name)}
        columns = [m for m in (*PICTURES, "label") if m in modalities and m not in tensors]
        columns = columns if manifest["schema"] > 1 else []
        if manifest["schema"] > 1 and any(tensors[m].dtype == torch.uint8 for m in PICTURES if m in tensors):
            raise ValueError(f"{TENSORS} holds images, which are those of the table")
        rows, cells = read_table(folder / TABLE, lengths, columns)
        for name in columns:
            if name == "label":
                tensors[name] = _labels(cells[name])
            else:
                stored[name] = _pictures(name, cells[name], modalities[name].shape, name in manifest.get("exact", ()))
        tensors |= {name: held.values for name, held in stored.items()}
        small = _assemble(manifest, modalities, tensors, rows, stored)
        check_tensors(tensors, small.modalities, small.captions, manifest)
        said = {"pairs": small.pairs, "hints": small.hints, "fingerprint": small.fingerprint}
        for name, value in said.items():
            if manifest.get(name, value) != value:
                raise ValueError(f"the {name} are not those that {MANIFEST} says")
    except ValueError as error:
        raise StorageError(f"{folder} is not a whole set: {' '.join(str(error).split())}; {REMEDY}") from error
    return small


def _has_rows(name: str) -> bool:
    return not name.startswith(("similarity.", "hint."))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (
        SafetensorError,
        OSError,
        KeyError,
        AttributeError,
        TypeError,
        RuntimeError,
    ) as error:  # types that torch lacks, as well
        raise ValueError(f"{path.name} holds no tensors that can be read ({error})") from error
    return tensors


def _unpacked(
    tensors: Mapping[str, Tensor], packed: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Tensor], dict[str, Files | Packed]]:
    """The tensors without packed vectors, and these."""
    rest, stored = dict(tensors), dict[str, Files | Packed]()
    for name, how in packed.items():
        parts = {suffix: rest.pop(f"{name}{suffix}") for suffix in ("", ".scale") if f"{name}{suffix}" in rest}
        if "" not in parts:
            raise ValueError(f"there is no tensor {name!r}, which the manifest says is packed")
        try:
            stored[name] = unpack(parts, how["kind"], how["width"])
        except ValueError as error:
            raise ValueError(f"the tensor {name!r} cannot be unpacked: {error}") from error
    return rest, stored


def _labels(values: Sequence[Any]) -> Tensor:
    if None in values:
        raise ValueError(f"row {list(values).index(None)} has no label")
    return torch.tensor(values, dtype=torch.long)


def _pictures(name: str, cells: Sequence[Any], shape: Sequence[int], exact: bool) -> Files:
    """The images or masks of a column, decoded."""
    channels, height, width = shape
    if len(cells) * channels * height * width > SET_PIXELS.most:
        raise ValueError(f"{len(cells)} times {name} of {height}x{width} take {SET_PIXELS}")
    values: list[Tensor] = []
    files: list[bytes] = []
    for i, cell in enumerate(cells):
        file = (cell and cell["bytes"]) or b""
        try:
            values.append(decoded(file, height, width, name, exact))
        except Unreadable as error:
            raise ValueError(f"the {name} of row {i} cannot be used: {error}") from error
        files.append(file)
    return Files(torch.stack(values), tuple(files), exact)


def _assemble(
    manifest: dict[str, Any],
    modalities: Mapping[str, Modality],
    tensors: Mapping[str, Tensor],
    rows: Sequence[dict[str, Any]],
    stored: Mapping[str, Files | Packed],
) -> DistilledSet:
    return DistilledSet(
        name=manifest["name"],
        modalities=modalities,
        tensors=tensors,
        captions=[tuple(row["captions"]) for row in rows],
        origins=[row["origin"] for row in rows],
        neighbours=[[(n["caption"], n["similarity"]) for n in row["nearest_captions"]] for row in rows],
        nearest=[
            (row["nearest_image"]["key"], row["nearest_image"]["similarity"]) for row in rows if row["nearest_image"]
        ],
        classes=tuple(manifest["classes"]),
        licence=manifest["licences"]["data"],
        recipe=Recipe(**manifest["recipe"]),
        embedded_by=manifest["embedded_by"],
        encoder_licences=manifest["licences"]["encoders"],
        training=manifest.get("training", {}),
        similarity=manifest.get("similarity", {}),
        generation=manifest.get("generation", {}),
        moved=manifest.get("moved", []),
        stored=stored,
    )


def _manifest(small: DistilledSet) -> dict[str, Any]:
    from limbeck import __version__

    return {
        "schema": SCHEMA,
        "name": small.name,
        "pairs": small.pairs,
        "modalities": [
            {
                "name": m.name,
                "shape": list(m.shape),
                "low": m.low,
                "high": m.high,
                **({"rate": m.rate} if m.rate else {}),
            }
            for m in small.modalities.values()
        ],
        "classes": list(small.classes),
        "recipe": small.recipe.plain(),
        "fingerprint": small.fingerprint,
        "exact": sorted(m for m, held in small.pictures.items() if held.exact),
        "packed": {
            m: {"kind": held.kind, "width": held.values.shape[-1]}
            for m, held in small.stored.items()
            if isinstance(held, Packed)
        },
        "embedded_by": dict(small.embedded_by),
        "licences": {"data": small.licence, "encoders": dict(small.encoder_licences), **generated_by(small)},
        "hints": small.hints,
        "training": dict(small.training),
        "similarity": dict(small.similarity),
        "generation": dict(small.generation),
        **({"moved": list(small.moved)} if small.moved else {}),
        "versions": {"limbeck": __version__, "torch": torch.__version__.split("+")[0]},
    }
