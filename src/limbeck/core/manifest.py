"""`manifest.json` of a distilled set: what it must say, and the digest of its own content that a changed bit breaks."""

from pathlib import Path
from typing import Any, get_args

from limbeck.core.codec import Vectors
from limbeck.core.recipe import SHAPE as RECIPE
from limbeck.data.plain import COUNT, DIGEST, NUMBER, PLAIN, SIZE, TEXT, Kind, read_sealed, renamed
from limbeck.errors import StorageError
from limbeck.runtime.files import settle, sha256

__all__ = ["CARD", "MANIFEST", "SCHEMA", "TABLE", "TENSORS", "read_manifest"]

SCHEMA = 2
MANIFEST, CARD, TABLE, TENSORS = (
    "manifest.json",
    "README.md",
    "data/train-00000-of-00001.parquet",
    "tensors.safetensors",
)
REMEDY = "fetch or make the set again"
PRIOR = {"name": TEXT, "licence": TEXT, "*": PLAIN}
PROMPTS = {"truncated?": COUNT, "*": PLAIN}
OLD_KEYS = {  # of sets that were written before keys were identifiers
    "longer than the prior reads": "truncated",
    "captions longer than the prior reads": "truncated_captions",
    "prompts again": "repeated_prompts",
    "tensors that moved": "share_moved",
}
CAPTIONS = {"by": {"name": TEXT, "*": PLAIN}, "stage": TEXT, "*": PLAIN}
PACKED = Kind("a type of vectors", lambda value: value in get_args(Vectors))
SHAPE = {
    "schema": Kind(f"a schema from 1 to {SCHEMA}", lambda value: type(value) is int and 1 <= value <= SCHEMA),
    "name": TEXT,
    "pairs?": SIZE,
    "bytes?": {"total": COUNT, "*": COUNT},  # of schema 1, which counted tensors
    "exact?": [TEXT],
    "packed?": {"*": {"kind": PACKED, "width": SIZE}},
    "modalities": [{"name": TEXT, "shape": [SIZE], "low": NUMBER, "high": NUMBER, "rate?": COUNT}],
    "classes": [TEXT],
    "recipe": RECIPE,
    "fingerprint?": TEXT,
    "embedded_by": {"*": TEXT},
    "licences": {"data": TEXT, "encoders": {"*": TEXT}, "prior?": TEXT, "captioner?": TEXT},
    "hints?": {"*": NUMBER},
    "training?": {"loss?": TEXT, "temperature?": NUMBER, "*": (TEXT, NUMBER)},
    "similarity?": {"pairs?": SIZE, "kind?": TEXT, "rank?": SIZE, "alpha?": NUMBER, "bound?": TEXT},
    "generation?": ({}, {"prior": PRIOR, "prompts": PROMPTS, "captions?": CAPTIONS, "*": PLAIN}),
    "moved?": [NUMBER],
    "versions?": {"*": TEXT},
    "files": {CARD: DIGEST, TABLE: DIGEST, TENSORS: DIGEST},
}


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the manifest of a set says, once it and every file that it names were checked.

    Args:
        folder: of the set.

    Raises:
        StorageError: no manifest, a newer schema, one that says something else, or a file that is missing or changed.
    """
    if not folder.exists():
        settle(folder)  # puts back what a killed process was to replace
    path = folder / MANIFEST
    if not path.is_file():
        raise StorageError(f"{folder} holds no {MANIFEST}, so it is not a distilled set; check the path")
    manifest = read_sealed(path, SHAPE, "a manifest of a set", SCHEMA, REMEDY)
    for name, expected in manifest["files"].items():
        file = folder / name
        if not file.is_file() or sha256(file) != expected:
            raise StorageError(f"{file} is missing or differs from its SHA-256 in {MANIFEST}; fetch the set again")
    if "generation" in manifest:
        manifest["generation"] = renamed(manifest["generation"], OLD_KEYS)
    return manifest
