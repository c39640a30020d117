"""Whether the parts of a saved set fit its manifest and each other, whoever wrote them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.core.synthetic import SOFT
from limbeck.data.modality import Modality
from limbeck.data.plain import NONE, NUMBER, TEXT, check
from limbeck.objectives.similarity import Similarity

__all__ = ["check_modalities", "check_rows", "check_tensors"]

FLOAT, BYTE, LONG = torch.float32, torch.uint8, torch.int64
DTYPES = {"image": (BYTE, FLOAT), "mask": (BYTE,), "label": (LONG,)}  # all others are float32
ROW = {
    "captions": [TEXT],
    "nearest_captions": [{"caption": TEXT, "similarity": NUMBER}],
    "nearest_image": (NONE, {"key": TEXT, "similarity": NUMBER}),
    "origin": TEXT,
}


def check_modalities(modalities: Sequence[Mapping[str, Any]]) -> None:
    """Whether each modality of a manifest has a name of its own, a range, and, of pictures, channels.

    Args:
        modalities: as the manifest lists them.

    Raises:
        ValueError: one has not; says which.
    """
    names = [m["name"] for m in modalities]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"the modality {twice[0]!r} is listed twice")
    for m in modalities:
        name, shape = m["name"], m["shape"]
        if not m["low"] < m["high"]:
            raise ValueError(f"the {name} lies between {m['low']} and {m['high']}, which is no range")
        channels = {"image": 3, "mask": 1, "depth": 1}.get(name)
        if channels and (len(shape) != 3 or shape[0] != channels):
            raise ValueError(f"the {name} has shape {shape}, it needs {channels} channels, height and width")
        if name == "audio" and not (len(shape) == 1 or (len(shape) == 3 and shape[0] == 1)):
            raise ValueError(f"the audio has shape {shape}; sound is [samples] or [1, mels, frames]")
        if name == "label" and shape:
            raise ValueError(f"the label has shape {shape}; a label is one number")
    if {"image", "mask"} <= set(names):
        sides = {tuple(m["shape"][1:]) for m in modalities if m["name"] in ("image", "mask")}
        if len(sides) > 1:
            raise ValueError(f"images and masks differ in size: {' and '.join(map(str, sorted(sides)))}")


def check_rows(rows: Sequence[Any]) -> None:
    """Whether the rows of the table are those of a set.

    Args:
        rows: of the four columns that a set is opened with.

    Raises:
        ValueError: one is not; says which.
    """
    for i, row in enumerate(rows):
        check(row, ROW, f"row {i}")
    named = sum(row["nearest_image"] is not None for row in rows)
    if named not in (0, len(rows)):
        raise ValueError(f"{named} of {len(rows)} rows name a nearest image; all must, or none")


def check_tensors(
    tensors: Mapping[str, Tensor],
    modalities: Mapping[str, Modality],
    captions: Sequence[Sequence[str]],
    manifest: Mapping[str, Any],
) -> None:
    """Whether the tensors of a set have its rows, its modalities' shapes, a type that is read, and values that mean something.

    Args:
        tensors: by name.
        modalities: of the manifest.
        captions: of each sample.
        manifest: of the set, checked.

    Raises:
        ValueError: one does not fit; says which and how.
    """
    rows = len(captions)
    lacking = sorted(set(modalities) - set(tensors) - {"text"})
    if lacking:
        raise ValueError(f"there is no tensor {lacking[0]!r}, which the manifest lists as a modality")
    _check_text(tensors, modalities, captions, manifest["embedded_by"])
    for name, tensor in tensors.items():
        head, dot, _ = name.partition(".")
        if (
            name not in modalities
            and name not in ("relation", "text", "label", SOFT)
            and not (dot and head in ("hint", "similarity"))
        ):
            raise ValueError(f"the tensor {name!r} is of no modality that the manifest lists")
        allowed = DTYPES.get(name, (FLOAT,))
        if tensor.dtype not in allowed:
            listed = " or ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
            raise ValueError(f"the tensor {name!r} is {str(tensor.dtype).removeprefix('torch.')}, it must be {listed}")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"the tensor {name!r} holds values that are not finite")
        shape = tuple(tensor.shape)
        if head == "hint":
            if tensor.numel() != 1:
                raise ValueError(f"{name!r} must be one number, it has shape {list(shape)}")
        elif name != "text" and name in manifest["embedded_by"]:
            if tensor.ndim != 2 or len(tensor) != rows or not tensor.numel():
                raise ValueError(
                    f"the tensor {name!r} has shape {list(shape)}, it must have one vector for {rows} rows"
                )
        elif head != "similarity" and (wanted := _shape(name, rows, modalities)) is not None and shape != wanted:
            raise ValueError(f"the tensor {name!r} has shape {list(shape)}, it must have {list(wanted)}")
    _check_labels(tensors.get("label"), len(manifest["classes"]))
    _check_soft(tensors, len(manifest["classes"]), rows)
    if (moved := manifest.get("moved", [])) and (len(moved) != rows or not all(-1.001 <= x <= 1.001 for x in moved)):
        raise ValueError(f"the cosines of what moved are not {rows} numbers between -1 and 1")
    _check_similarity(tensors, manifest.get("similarity", {}), rows)


def _shape(name: str, rows: int, modalities: Mapping[str, Modality]) -> tuple[int, ...] | None:
    """The shape that a tensor must have; `None` where its modality does not say."""
    if name in ("text", SOFT):
        return None
    if name in ("label", "relation"):
        return (rows,) if name == "label" else (rows, rows)
    return (rows, *modalities[name].shape)


def _check_text(
    tensors: Mapping[str, Tensor],
    modalities: Mapping[str, Modality],
    captions: Sequence[Sequence[str]],
    embedded_by: Mapping[str, str],
) -> None:
    text, rows = tensors.get("text"), len(captions)
    if unknown := sorted(set(embedded_by) - (set(modalities) - {"image", "mask", "label"}) - {"text"}):
        raise ValueError(f"{unknown[0]!r} is said to be embedded, and is no modality that can be")
    if "text" in embedded_by and text is None:
        raise ValueError("the text was learned, and there is no tensor of it")
    if text is not None:
        if "text" not in modalities:
            raise ValueError("there is a tensor 'text', which the manifest does not list as a modality")
        if text.ndim not in (2, 3) or len(text) != rows or not text[0].numel():
            raise ValueError(
                f"the tensor 'text' has shape {list(text.shape)}, it must have one vector or more for {rows} rows"
            )
    elif "text" in modalities and (bare := sum(not sample for sample in captions)):
        raise ValueError(f"{bare} of {rows} samples have no caption")


def _check_labels(labels: Tensor | None, classes: int) -> None:
    if labels is None:
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (classes and high >= classes):
        raise ValueError(f"the labels lie between {low} and {high}, there are {classes} classes")


def _check_soft(tensors: Mapping[str, Tensor], classes: int, rows: int) -> None:
    """Whether soft labels stand beside hard ones, and are shares of the classes."""
    soft = tensors.get(SOFT)
    if soft is None:
        return
    if "label" not in tensors:
        raise ValueError("there are soft labels, and no labels beside them")
    if tuple(soft.shape) != (rows, classes):
        raise ValueError(f"the soft labels have shape {list(soft.shape)}, they must have {[rows, classes]}")
    if float(soft.min()) < 0 or float((soft.sum(1) - 1).abs().max()) > 1e-3:
        raise ValueError("the soft labels of a sample must be shares of the classes: none below 0, sum 1")


def _check_similarity(tensors: Mapping[str, Tensor], description: Mapping[str, Any], rows: int) -> None:
    """Whether the parameters of a learned similarity are those of its description."""
    held = {
        name.removeprefix("similarity."): value for name, value in tensors.items() if name.startswith("similarity.")
    }
    if not description:
        if held:
            raise ValueError("there are tensors of a similarity that the manifest does not describe")
        return
    if description.get("pairs", rows) != rows:
        raise ValueError(f"the similarity is of {description['pairs']} pairs, there are {rows}")
    rank = description.get("rank", 10)
    wanted = {"matrix": (rows, rows), "left": (rows, rank), "right": (rows, rank)}  # first: what is made is as large
    for name in wanted if description.get("kind", "lowrank") in ("full", "lowrank") else ():
        if name in held and tuple(held[name].shape) != wanted[name]:
            raise ValueError(
                f"the similarity's {name} has shape {list(held[name].shape)}, it must have {list(wanted[name])}"
            )
    if {"full": "matrix", "lowrank": "left"}.get(str(description.get("kind", "lowrank")), "weight") not in held:
        raise ValueError("the similarity's tensors are not those of its kind")
    try:
        Similarity.restore({"pairs": rows, **description}, held)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"the similarity cannot be restored: {' '.join(str(error).split())[:200]}") from error
