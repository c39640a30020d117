"""`limbeck doctor`."""

import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import combinations
from math import prod
from typing import TYPE_CHECKING, Any

from limbeck.commands._open import ceiling_said, classes_without, open_source
from limbeck.commands._options import Answer
from limbeck.commands._task import Task
from limbeck.runtime.progress import ProgressCallback

if TYPE_CHECKING:
    from torch import Tensor

    from limbeck.core import Method, Problem
    from limbeck.data import Source
    from limbeck.spaces import Encoder, Space

__all__ = ["Doctor"]

PACKAGES = (
    "torch",
    "numpy",
    "transformers",
    "datasets",
    "diffusers",
    "accelerate",
    "peft",
    "soundfile",
    "ray",
    "torchvision",
)
PROBE = 64  # values that an encoder is timed on


@dataclass(frozen=True, kw_only=True)
class Doctor(Task):
    """Checks data and machine, and estimates time, memory and disk, before anything long is started.

    It takes the options of distill, and estimates one method: cf where none is named. What is measured is called measured, what is
    extrapolated from it estimated.

    Args:
        pairs: how many pairs the set may hold; 100 where bytes are not given either.
    """

    def execute(self, tick: ProgressCallback) -> Answer:
        """Looks at everything; stops at data that cannot be used at all."""
        from limbeck.data import verifying
        from limbeck.data.plausible import depth_doubts
        from limbeck.spaces.embed import check_features

        with verifying() as contents:
            source = open_source(self.source, tick)
            space, method = self.space(source), self.method.make()
            problem = self._problem(source, space, tick)
            method.check(problem)  # before an encoder is timed
            splits = {name: source.split(name) for name in source.splits} or {"all": source}
            for split in splits.values():
                check_features(split, space)
        found: dict[str, Any] = {
            "machine": _machine(self.device),
            "packages": {name: _version(name) for name in PACKAGES},
            "data": {
                "split by": source.split_by or None,
                "not read": dict(source.unread),
            },
            "splits": {name: _split(split) for name, split in splits.items()},
            "contents": {name: getattr(contents, name) for name in ("files", "changed", "entries", "damaged")},
            "shared files": _shared(splits),
            "encoders": {m: _encoder(e, source, self.device, method) for m, e in space.encoders.items()},
        }
        found["task"] = self._task(problem, method, found["encoders"])
        repeated = {name: ceiling_said(split) for name, split in splits.items()}
        found["advice"] = [f"{name}: {said}" for name, said in repeated.items() if said] + [
            *_advice(found),
            *depth_doubts(splits),
        ]
        return Answer(_text(found), found)

    @property
    def _usual(self) -> bool:
        """Whether no budget is given."""
        return self.pairs is None and self.bytes is None

    def _problem(self, source: "Source", space: "Space", tick: ProgressCallback) -> "Problem":
        """The task, before anything is encoded."""
        from limbeck.core import Budget, Problem

        budget = Budget(1 if self._usual else self.pairs, self.bytes, self.pixels)
        chosen: Any = {"storage": self.storage(), "pixels": self.learned_as()}
        problem = Problem(source, space, budget, self.seed, self.device, tick=tick, **chosen)
        if not self._usual:
            return problem
        return replace(problem, budget=Budget(min(100, problem.available), pixels=self.pixels))

    def _task(self, problem: "Problem", method: "Method", encoders: Mapping[str, Any]) -> dict[str, Any]:
        from limbeck.core import Budget
        from limbeck.core.members import member_costs

        source = problem.source
        if self._usual:
            problem = replace(problem, budget=Budget(min(100, len(problem.complete)), pixels=self.pixels))
        pairs = problem.pairs(method.learns_text, method.text_tokens, real=method.keeps_images)
        problem.groups(pairs, method.describe().get("per_class"))  # refuses a budget below one a class
        size = problem.fixed_bytes + pairs * problem.sample_bytes(
            method.learns_text, method.text_tokens, real=method.keeps_images
        )
        floats = 4 * pairs * sum(_components(problem, m, method.text_tokens) for m in problem.modalities)
        seconds, disk = method.preparation_cost(problem)
        if method.pools == "drawn":
            others = member_costs(problem)
            seconds, disk = seconds + others[0], disk + others[1]
        copies = 4 if method.steps else 1  # value, gradient and the two moments of Adam
        return {
            "method": method.describe(),
            "pairs": pairs,
            "complete samples": len(problem.complete),
            "classes without one": classes_without(source, problem.complete.tolist()),
            "bytes of the set": size,
            "seconds of experts and views, estimated": seconds,
            "seconds of all steps, estimated": method.steps * pairs * _seconds(encoders) * max(problem.pixels.views, 1),
            "memory for what is learned, estimated": floats * copies,
            "disk for experts and views, estimated": disk,
            "disk for checkpoints and set, estimated": floats * (copies - 1 or 1) * 2 + size * 2,
            **method.estimates(problem),
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
        "different captions": len({c for sample in source.captions for c in sample}) if sum(captions) else None,
        "without caption": captions.count(0) if "text" in source.modalities else None,
        "classes": len(source.classes),
        "samples of the smallest class": min((counts[i] for i in range(len(source.classes))), default=None),
        "without label": counts[-1] if labels is not None else None,
        "skipped": dict(Counter(row["reason"] for row in source.skipped)),
        "object everywhere": dict(source.unmasked) if "mask" in source.modalities else None,
    }


def _shared(splits: Mapping[str, "Source"]) -> dict[str, dict[str, int]] | None:
    """How many files of each modality are in two splits, byte for byte; `None` where the source keeps no digests."""
    found = {}
    held = dict.fromkeys(m for split in splits.values() for m in split.modalities)
    for modality in (m for m in held if m not in ("text", "label", "mask")):  # two objects may have one outline
        known = {name: split.digests(modality) for name, split in splits.items()}
        if None in known.values():
            return None
        digests = {name: {digest for digest in of or () if digest} for name, of in known.items()}
        found[modality] = {f"{a} and {b}": len(digests[a] & digests[b]) for a, b in combinations(digests, 2)}
    return found


def _encoder(encoder: "Encoder", source: "Source", device: str, method: "Method") -> dict[str, Any]:
    """Times one batch, and a chunk as the steps of the method take it; everything else is extrapolated from them."""
    import torch

    from limbeck.runtime.timing import seconds_of

    values, total = _values(source, encoder, device)
    encoder.to(device)
    with torch.no_grad():
        speed = len(values) / seconds_of(lambda: encoder(values), device)
    learned = _learned(encoder, values, method)
    depth = {"metres, median": float(values[values > 0].median())} if encoder.modality == "depth" else {}
    return {
        **encoder.describe(),
        **depth,  # where a wrong unit shows
        "licence": encoder.licence,
        "values a second, measured": speed,
        "with their gradient, measured": None if learned is None else _with_gradient(encoder, learned),
        "seconds for the split, estimated": total / speed,
        "bytes of features": 4 * total * encoder.dim,
    }


def _values(source: "Source", encoder: "Encoder", device: str) -> tuple[Any, int]:
    """Up to `PROBE` values that an encoder reads, and how many there are."""
    import torch

    modality = encoder.modality
    if encoder.reads_vectors and modality in source.embeddings:
        given = source.embeddings[modality]
        return given[:PROBE].to(device), len(given)
    if modality == "text":
        texts = [text for sample in source.captions for text in sample]
        return texts[:PROBE], len(texts)
    if (digests := source.digests(modality)) is not None:
        here = torch.tensor([digest is not None for digest in digests])
    else:
        here = torch.cat([source.batch(part).mask(modality) for part in torch.arange(len(source)).split(PROBE)])
    return source.batch(here.nonzero().squeeze(1)[:PROBE])[modality].to(device), int(here.sum())


def _learned(encoder: "Encoder", values: Any, method: "Method") -> "Tensor | None":
    """What each step puts through the encoder: values, or the tokens of texts; a text that is one vector needs none."""
    if not method.steps:
        return None
    if encoder.modality != "text":
        return values  # type: ignore[no-any-return]
    return encoder.tokens(values, method.text_tokens) if method.text_tokens else None


def _with_gradient(encoder: "Encoder", values: "Tensor") -> float:
    """Values a second, there and back, in a chunk as steps take it."""
    import torch

    from limbeck.core.encode import VALUES
    from limbeck.runtime.timing import seconds_of

    chunk = values[: max(VALUES // values[0].numel(), 1)].detach().requires_grad_(True)
    seconds = seconds_of(lambda: torch.autograd.backward(encoder(chunk).sum()), str(values.device))
    return len(chunk) / seconds


def _seconds(encoders: Mapping[str, Any]) -> float:
    """Of one learned sample, there and back through the encoders that it passes."""
    speeds: list[float | None] = [encoder["with their gradient, measured"] for encoder in encoders.values()]
    return sum(1 / speed for speed in speeds if speed)


def _components(problem: "Problem", modality: str, tokens: int) -> int:
    if modality == "text":
        encoder = problem.space["text"]
        return encoder.tokens(["a"], tokens).numel() if tokens else encoder.dim
    return prod(problem.source.modalities[modality].shape)


def _advice(found: Mapping[str, Any]) -> list[str]:
    """What a person should do something about."""
    from limbeck.data.unread import said_unread

    advice = []
    if unread := found["data"]["not read"]:
        advice.append(
            f"not read: {said_unread(unread)}; name what should be (see the options of the source), or --source.ignore"
        )
    for name in ("val", "test"):
        if "all" not in found["splits"] and name not in found["splits"]:
            advice.append(f"there is no split {name!r}: evaluation needs one; add it to the data")
    for modality, counts in (found["shared files"] or {}).items():
        advice += [
            f"{count} {modality} files are in both {where}: remove them from one, or scores will flatter"
            for where, count in counts.items()
            if count
        ]
    if count := found["contents"]["damaged"]:
        advice.append(f"{count} entries of the cache were damaged and are made anew: look whether the disk is failing")
    if count := found["contents"]["changed"]:
        advice.append(
            f"{count} files hold other bytes than before with their times kept: what was made of them is of the old ones; make it again"
        )
    for name, split in found["splits"].items():
        if split["skipped"]:
            advice.append(f"{name}: {sum(split['skipped'].values())} records were skipped ({split['skipped']})")
        if unmasked := sum((split["object everywhere"] or {}).values()):
            advice.append(f"{name}: {unmasked} samples have no mask, or an empty one, and count as object everywhere")
    if without := found["task"]["classes without one"]:
        advice.append(
            f"no sample of {', '.join(without)} holds {' and '.join(found['encoders'])}: a set gets none of them; mend them, or leave "
            "out a modality (--space.NAME none)"
        )
    features = sum(e["bytes of features"] for e in found["encoders"].values())
    prepared = found["task"]["disk for experts and views, estimated"]
    for what, disk in (("features", features), ("experts and views", prepared)):
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
