"""`limbeck doctor`."""

import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from math import prod
from typing import TYPE_CHECKING, Any

from limbeck.commands._open import Task, open_source
from limbeck.commands._options import Answer
from limbeck.commands._progress import Tick

if TYPE_CHECKING:
    from limbeck.core import Method, Problem
    from limbeck.data import Source
    from limbeck.spaces import Encoder, Space

__all__ = ["Doctor"]

PACKAGES = ("torch", "numpy", "transformers", "datasets", "diffusers", "soundfile", "ray", "torchvision")
PROBE = 64  # values that an encoder is timed on


@dataclass(frozen=True, kw_only=True)
class Doctor(Task):
    """Checks data and machine, and estimates time, memory and disk, before anything long is started.

    It takes the options of distill. What is measured is called measured, what is extrapolated from it estimated.

    Args:
        pairs: how many pairs the set may hold; 100 where bytes are not given either.
    """

    def execute(self, tick: Tick) -> Answer:
        """Looks at everything; stops at data that cannot be used at all."""
        source = open_source(self.source, tick)
        space = self.space(source)
        found: dict[str, Any] = {
            "machine": _machine(self.device),
            "packages": {name: _version(name) for name in PACKAGES},
            "splits": {name: _split(source.split(name)) for name in source.splits} or {"all": _split(source)},
            "shared images": _shared(source),
            "encoders": {m: _encoder(e, source, self.device) for m, e in space.encoders.items()},
            "task": self._task(source, space, tick),
        }
        found["advice"] = _advice(found)
        return Answer(_text(found), found)

    def _task(self, source: "Source", space: "Space", tick: Tick) -> dict[str, Any]:
        from limbeck.core import Budget, Problem

        pairs = min(100, len(source)) if self.pairs is None and self.bytes is None else self.pairs
        budget = Budget(pairs, self.bytes, self.pixels)
        method = self.method.make()
        problem = Problem(source, space, budget, self.seed, self.device, tick=tick)
        method.check(problem)
        pairs = problem.pairs(method.learns_text, method.text_tokens)
        problem.groups(pairs)  # refuses a budget below one a class
        size = problem.sample_bytes(method.learns_text, method.text_tokens) * pairs
        floats = 4 * pairs * sum(_components(problem, m, method.text_tokens) for m in problem.modalities)
        seconds, disk = method.prepares(problem)
        copies = 4 if method.steps else 1  # value, gradient and the two moments of Adam
        return {
            "method": method.describe(),
            "pairs": pairs,
            "bytes of the set": size,
            "seconds of experts, estimated": seconds,
            "seconds of all steps, estimated": _seconds(problem, method, pairs),
            "memory for what is learned, estimated": floats * copies,
            "disk for experts, estimated": disk,
            "disk for checkpoints and set, estimated": floats * (copies - 1 or 1) * 2 + size * 2,
        }


def _machine(device: str) -> dict[str, Any]:
    import torch

    from limbeck.data import Cache

    root = Cache().root
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    free = torch.cuda.mem_get_info()[0] if device.startswith("cuda") and torch.cuda.is_available() else None
    return {
        "python": sys.version.split()[0],
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "free GPU memory": free,
        "cache": str(root),
        "free disk at the cache": shutil.disk_usage(there).free,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _split(source: "Source") -> dict[str, Any]:
    captions, labels = [len(c) for c in source.captions], source.labels
    counts = Counter(labels.tolist()) if labels is not None else Counter()
    return {
        "samples": len(source),
        "captions": sum(captions),
        "without caption": captions.count(0) if "text" in source.modalities else None,
        "classes": len(source.classes),
        "samples of the smallest class": min((counts[i] for i in range(len(source.classes))), default=None),
        "without label": counts[-1] if labels is not None else None,
        "skipped": dict(Counter(row["reason"] for row in getattr(source, "skipped", ()))),
    }


def _shared(source: "Source") -> dict[str, int] | None:
    """How many image files are in two splits, byte for byte; `None` where the source keeps no digests."""
    digests = {}
    for name in source.splits:
        split = source.split(name)
        if not hasattr(split, "image_digests"):
            return None
        digests[name] = {digest for digest in split.image_digests if digest}
    names = list(digests)
    return {f"{a} and {b}": len(digests[a] & digests[b]) for i, a in enumerate(names) for b in names[i + 1 :]}


def _encoder(encoder: "Encoder", source: "Source", device: str) -> dict[str, Any]:
    """Times one batch after a warm-up; everything else is extrapolated from it."""
    import torch

    batch = source.batch(range(min(PROBE, len(source))))
    if encoder.modality == "text":
        values: Any = [text for sample in batch["text"] for text in sample][:PROBE]
        total = sum(len(sample) for sample in source.captions)
    else:
        values, total = batch[encoder.modality][batch.mask(encoder.modality)].to(device), len(source)
    encoder.to(device)
    with torch.no_grad():
        encoder(values[:2])
        start = time.perf_counter()
        encoder(values)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
    speed = len(values) / (time.perf_counter() - start)
    return {
        **encoder.describe(),
        "licence": encoder.licence,
        "values a second, measured": speed,
        "seconds for the split, estimated": total / speed,
        "bytes of features": 4 * total * encoder.dim,
    }


def _seconds(problem: "Problem", method: "Method", pairs: int) -> float:
    """Steps times one forward and one backward pass of the synthetic images through the image encoder."""
    if not method.steps or "image" not in problem.modalities:
        return 0.0
    import torch

    images = problem.source.batch(range(min(pairs, PROBE, len(problem.source))))["image"].to(problem.device)
    images.requires_grad_(True)
    encoder = problem.space["image"]
    start = time.perf_counter()
    torch.autograd.backward(encoder(images).sum())
    return (time.perf_counter() - start) * pairs / len(images) * method.steps


def _components(problem: "Problem", modality: str, tokens: int) -> int:
    if modality == "text":
        encoder = problem.space["text"]
        return encoder.tokens(["a"], tokens).numel() if tokens else encoder.dim
    return prod(problem.source.modalities[modality].shape)


def _advice(found: Mapping[str, Any]) -> list[str]:
    """What a person should do something about."""
    advice = []
    for name in ("val", "test"):
        if "all" not in found["splits"] and name not in found["splits"]:
            advice.append(f"there is no split {name!r}: evaluation needs one; add it to the data")
    for where, count in (found["shared images"] or {}).items():
        if count:
            advice.append(f"{count} image files are in both {where}: remove them from one, or scores will flatter")
    for name, split in found["splits"].items():
        if split["skipped"]:
            advice.append(f"{name}: {sum(split['skipped'].values())} records were skipped ({split['skipped']})")
    features = sum(e["bytes of features"] for e in found["encoders"].values())
    for what, disk in (("features", features), ("experts", found["task"]["disk for experts, estimated"])):
        if disk > found["machine"]["free disk at the cache"]:
            advice.append(
                f"the {what} take {disk:,} bytes, more than is free at the cache; set LIMBECK_CACHE to another disk"
            )
    return advice


def _text(found: Mapping[str, Any]) -> str:
    lines = []
    for title, value in found.items():
        if title == "advice":
            continue
        lines.append(title)
        absent = "not installed" if title == "packages" else "none"
        for key, inner in (value or {"digests": "this source keeps none"}).items():
            lines.append(f"  {key}: {absent if inner is None else _said(inner)}")
    advice = found["advice"] or ["nothing to complain of"]
    return "\n".join([*lines, "advice", *[f"  {line}" for line in advice]])


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(inner)}" for key, inner in value.items() if inner not in (None, {})) or "none"
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 1 else f"{value:.3g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "none" if value is None else str(value)
