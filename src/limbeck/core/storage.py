"""The distilled set on disk: a folder that is also a Hugging Face dataset repository. No pickle anywhere.

README.md              the card, with front matter
data/train-*.parquet   images and masks as PNG, pictures of sounds and depth, captions as readable text, labels, origins
tensors.safetensors    the exact tensors a student reads
manifest.json          schema, recipe, fingerprints, versions, bytes, licences, SHA-256 of each file and of itself
"""

import io
import json
from pathlib import Path
from typing import Any

from limbeck.core.distilled import DistilledSet
from limbeck.core.manifest import CARD, CURE, MANIFEST, SCHEMA, TABLE, TENSORS, read_manifest
from limbeck.core.recipe import Recipe
from limbeck.core.sound import check_modalities, check_rows, check_tensors
from limbeck.data.files import save_tensors, sha256, whole_folder
from limbeck.data.limits import SET_TEXTS
from limbeck.data.modality import Modality
from limbeck.data.plain import dump_json, escape_surrogates, seal
from limbeck.data.tables import text_bytes
from limbeck.errors import StorageError

__all__ = ["SCHEMA", "coverage", "load", "png", "save"]

COLUMNS = ["captions", "nearest_captions", "nearest_image", "origin"]  # that a set is opened with
TEXTS = [
    "captions.list.element",
    "nearest_captions.list.element.caption",
    "nearest_image.key",
    "origin",
]  # in Parquet's words


def save(small: DistilledSet, folder: Path) -> Path:
    """Writes the set; the folder appears (or is replaced) as a whole.

    Raises:
        StorageError: the folder exists and is not a distilled set.
    """
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / MANIFEST).is_file())):
        raise StorageError(f"{folder} exists and is not a distilled set; choose another folder")
    with whole_folder(folder, MANIFEST) as work:
        (work / "data").mkdir()
        save_tensors(small.tensors, work / TENSORS)
        _write_table(small, work / TABLE)
        (work / CARD).write_text(escape_surrogates(card(small)), encoding="utf-8")
        manifest = _manifest(small)
        manifest["files"] = {name: sha256(work / name) for name in (CARD, TABLE, TENSORS)}
        (work / MANIFEST).write_text(dump_json(seal(manifest)), encoding="utf-8")
    return folder


def load(folder: Path) -> DistilledSet:
    """Opens a saved set. Nothing in it is believed: files are checked against the manifest, and their contents against it and each other.

    Raises:
        StorageError: no manifest, a newer schema, a file that is missing or changed, or parts that do not fit each other.
    """
    manifest = read_manifest(folder)
    try:
        check_modalities(manifest["modalities"])
        tensors = _read_tensors(folder / TENSORS)
        rows = _read_rows(folder / TABLE, {len(tensor) for tensor in tensors.values() if tensor.ndim})
        small = _assemble(manifest, tensors, rows)
        check_tensors(tensors, small.modalities, small.captions, manifest)
        said = {"pairs": small.pairs, "bytes": {**small.sizes, "total": small.nbytes}, "hints": small.hints}
        for name, value in {**said, "fingerprint": small.fingerprint}.items():
            if manifest.get(name, value) != value:
                raise ValueError(f"the {name} are not those that {MANIFEST} says")
    except ValueError as error:
        raise StorageError(f"{folder} is not a whole set: {' '.join(str(error).split())}; {CURE}") from error
    return small


def _read_tensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Any] = load_file(path)
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


def _read_rows(path: Path, lengths: set[int]) -> list[dict[str, Any]]:
    """The rows of the table, without its pictures, once there are as many as the tensors have."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        if {name: schema.field(name).type for name in COLUMNS} != column_types():
            raise ValueError("the columns of the table are not those of a set")
        with pq.ParquetFile(path, read_dictionary=TEXTS) as file:  # a text that is repeated takes its bytes once
            count = file.metadata.num_rows
            if not count or (lengths and count not in lengths):
                held = ", ".join(map(str, sorted(lengths))) or "none"
                raise ValueError(f"the table has {count} rows, the tensors have {held}")
            table = file.read(COLUMNS)
        if sum(text_bytes(chunk) for name in COLUMNS for chunk in table.column(name).chunks) > SET_TEXTS.most:
            raise ValueError(f"the texts of the table have {SET_TEXTS}")
        rows: list[dict[str, Any]] = table.to_pylist()
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} holds no table that can be read ({error})") from error
    check_rows(rows)
    return rows


def _assemble(manifest: dict[str, Any], tensors: dict[str, Any], rows: list[dict[str, Any]]) -> DistilledSet:
    return DistilledSet(
        name=manifest["name"],
        modalities={
            m["name"]: Modality(m["name"], tuple(m["shape"]), m["low"], m["high"], m.get("rate", 0))
            for m in manifest["modalities"]
        },
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
    )


def card(small: DistilledSet) -> str:
    """The dataset card: front matter, what it is, how it was made, licences."""
    method, space = small.recipe.method, small.recipe.space
    encoders = ", ".join(f"{m}: {e['name']} ({small.encoder_licences.get(m, 'unknown')})" for m, e in space.items())
    text = "embeddings; `captions` holds the nearest real caption" if "text" in small.tensors else "real captions"
    made = (
        f"{len(small)} synthetic samples ({small.nbytes:,} bytes) distilled from "
        f"`{small.recipe.source.get('name', 'unknown')}` by `{method.get('name', 'unknown')}` with Limbeck."
    )
    carried = [f"{k} {v}" for k, v in small.training.items()] + [f"{k} {v:.4g}" for k, v in small.hints.items()]
    if small.similarity:
        carried.append(f"the {small.similarity['kind']} similarity (`relation` of the loaded set)")
    lines = [
        "---",
        "license: other",
        f"license_name: {json.dumps(small.licence)}",
        "tags: [dataset-distillation, limbeck]",
        "configs:",
        f"- config_name: set-{small.fingerprint[:8]}",  # `datasets` caches by folder and config name: keep sets apart
        "  data_files:",
        "  - split: train",
        "    path: data/*.parquet",
        "---",
        "",
        f"# {small.name}",
        "",
        made,
        "",
        f"- Modalities: {', '.join(small.modalities)}" + (f" (text: {text})" if "text" in small.modalities else ""),
        f"- Licence of the data: {small.licence}",
        f"- Encoders: {encoders or 'none'}",
        *([f"- Masks: {coverage(small)}"] if coverage(small) else []),
        *_generation(small),
        *([f"- Train a student with: {', '.join(carried)}"] if carried else []),
        _closeness(small),
        "",
        "Open it with `limbeck.load(folder)` (exact tensors) or `datasets.load_dataset(folder)` (readable table).",
        "",
        "```yaml",
        small.recipe.yaml().rstrip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def _generated_by(small: DistilledSet) -> dict[str, Any]:
    """Licences of the weights that generated images and captions."""
    found = {"prior": small.generation.get("prior", {}).get("licence")}
    found["captioner"] = small.generation.get("captions", {}).get("licence")
    return {name: licence for name, licence in found.items() if licence}


def _generation(small: DistilledSet) -> list[str]:
    """Lines of the card about what generated the samples."""
    if not small.generation:
        return []
    prior, captions = small.generation["prior"], small.generation.get("captions")
    lines = [f"- Images: sampled from the prior {prior['name']} (licence of its weights: {prior['licence']})"]
    if captions:
        by = captions["by"]["name"]
        lines.append(
            f"- Captions: {small.pairs} of {len(small)} images, the first of each real, the others by {by} ({captions['stage']})"
        )
    if cut := small.generation["prompts"]["longer than the prior reads"]:
        lines.append(f"- {cut} prompts are longer than the prior reads; it has seen their beginnings")
    return lines


def _closeness(small: DistilledSet) -> str:
    if small.generation:
        return "- A prior may repeat what it was trained on; `origin` names the sample of the prompt, `nearest_image` the nearest real image."
    return (
        "- Synthetic images start from real ones and may stay close to them; `origin` and `nearest_image` name which."
    )


def coverage(small: DistilledSet) -> str:
    """How much of the images counts as object, in words; empty without masks."""
    if small.coverage is None:
        return ""
    share, whole = 100 * small.coverage, int((small.coverage == 1).sum())
    spread = f"from {share.min():.0f} % to {share.max():.0f} %"
    text = f"the object takes {share.mean():.0f} % of an image on average, {spread}"
    return text + (f"; {whole} of {len(small)} samples count as object everywhere" if whole else "")


def png(pixels: Any, modality: str = "image") -> bytes:
    """PNG bytes of one image `[3, H, W]`, or of one mask `[1, H, W]` in grey; `uint8` or `float`."""
    value = pixels.float().div(255) if not pixels.is_floating_point() else pixels
    return _encoded(Modality(modality, tuple(pixels.shape)).preview(value))


def _encoded(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="png")
    return buffer.getvalue()


def _manifest(small: DistilledSet) -> dict[str, Any]:
    import torch

    from limbeck import __version__

    return {
        "schema": SCHEMA,
        "name": small.name,
        "pairs": small.pairs,
        "bytes": {**small.sizes, "total": small.nbytes},
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
        "embedded_by": dict(small.embedded_by),
        "licences": {"data": small.licence, "encoders": dict(small.encoder_licences), **_generated_by(small)},
        "hints": small.hints,
        "training": dict(small.training),
        "similarity": dict(small.similarity),
        "generation": dict(small.generation),
        "versions": {"limbeck": __version__, "torch": torch.__version__.split("+")[0]},
    }


def _write_table(small: DistilledSet, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = column_types()
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    features: dict[str, Any] = {
        "captions": {"feature": _value("string"), "_type": "List"},
        "nearest_captions": {
            "feature": {"caption": _value("string"), "similarity": _value("float64")},
            "_type": "List",
        },
        "nearest_image": {"key": _value("string"), "similarity": _value("float64")},
        "origin": _value("string"),
    }
    nearest: list[Any] = [{"key": k, "similarity": s} for k, s in small.nearest]
    columns: dict[str, pa.Array] = {
        "captions": pa.array([list(c) for c in small.captions], kinds["captions"]),
        "nearest_captions": pa.array(
            [[{"caption": c, "similarity": s} for c, s in n] for n in small.neighbours] or [[]] * len(small),
            kinds["nearest_captions"],
        ),
        "nearest_image": pa.array(nearest or [None] * len(small), kinds["nearest_image"]),
        "origin": pa.array(list(small.origins), pa.string()),
    }
    for modality in (m for m in ("mask", "image") if m in small.tensors):
        rows = [
            {"bytes": png(x, modality), "path": f"{k}.png"}
            for x, k in zip(small.tensors[modality], small.keys, strict=True)
        ]
        columns = {modality: pa.array(rows, image), **columns}
        features[modality] = {"_type": "Image"}
    for modality in (m for m in ("depth", "audio") if m in small.tensors):
        seen = small.modalities[modality].preview
        rows = [
            {"bytes": _encoded(seen(x)), "path": f"{k}.png"}
            for x, k in zip(small.tensors[modality], small.keys, strict=True)
        ]
        columns = {f"{modality}_preview": pa.array(rows, image), **columns}
        features[f"{modality}_preview"] = {"_type": "Image"}
    if small.labels is not None:
        columns["label"] = pa.array(small.labels.tolist(), pa.int64())
        features["label"] = {"names": list(small.classes), "_type": "ClassLabel"} if small.classes else _value("int64")
    info = {"info": {"features": {name: features[name] for name in columns}}}
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path)


def column_types() -> dict[str, Any]:
    """The columns that a set is opened with, and their types."""
    import pyarrow as pa

    pair = pa.struct([("caption", pa.string()), ("similarity", pa.float64())])
    near = pa.struct([("key", pa.string()), ("similarity", pa.float64())])
    return {
        "captions": pa.list_(pa.string()),
        "nearest_captions": pa.list_(pair),
        "nearest_image": near,
        "origin": pa.string(),
    }


def _value(dtype: str) -> dict[str, str]:
    return {"dtype": dtype, "_type": "Value"}
