"""`RecordSource`: the records of a layout as a `Source`, each file decoded once into a store."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.batch import Batch, Captions
from limbeck.data.decode import DECODER
from limbeck.data.form import Form
from limbeck.data.layout import ImageRef, Layout, Listing, Record, Skipped
from limbeck.data.modality import Modality
from limbeck.data.parse import Unreadable
from limbeck.data.plausible import DepthFacts, DepthOf
from limbeck.data.source import Source
from limbeck.data.store import Store, open_store
from limbeck.errors import DataError
from limbeck.runtime.cache import digest
from limbeck.runtime.files import write_text
from limbeck.runtime.runtime import Runtime

__all__ = ["RecordSource"]

CHUNK = 1024  # masks that are looked at together
REASONS = 5  # that an error tells
REMEDIES = {
    "missing": "names of files begin beside the table: name another folder with --source.files (in Python files=)",
    "not UTF-8": "save the file as UTF-8",
    "not JSON": "JSON lines hold one object in each line, and no list: write each into a line of its own",
    "wrong number of columns": "put cells that hold the sign between two columns into quotes",
}


@final
class RecordSource(Source):
    """One split of a listing. Nothing is read before it is needed; the first use decodes every file of the split.

    A record of which one file cannot be decoded is left out as a whole.

    Args:
        layout: where the listing came from, and the options of decoding.
        listing: what `layout.read()` found.
        split: which split.
        runtime: whose cache keeps the decoded values, addressed by content, and who hears of decoding.

    Raises:
        DataError: no such split; or, at first use: too many records skipped, or none left.
    """

    def __init__(self, layout: Layout, listing: Listing, split: str, runtime: Runtime | None = None) -> None:
        self.name = layout.name
        self.licence = listing.licence
        self._layout, self._listing, self._split = layout, listing, split
        self._runtime = runtime or Runtime()
        if split not in listing.splits:
            if not listing.splits and not listing.skipped:
                raise DataError(
                    f"{self.name} is empty: it has not one sample; check that this is the file or folder that you mean"
                )
            held = ", ".join(listing.splits) or "none"
            lost = f"; what cannot be read: {_told(listing.skipped)}{self._where()}" if listing.skipped else ""
            raise DataError(f"{self.name} has no samples in split {split!r}; its splits: {held}{self._other()}{lost}")

    def _other(self) -> str:
        """How to come by another split, where there are some."""
        if not self._listing.splits:
            return ""
        by = f" (split by {self._listing.split_by})" if self._listing.split_by else ""
        forget = ", or let a hash split all with --source.split_by hash" if hasattr(self._layout, "split_by") else ""
        return f"{by}; open one of them with --source.split {self._listing.splits[0]} (in Python split=){forget}"

    def _where(self) -> str:
        """What mends the reason for which most records of the dataset are skipped, where it is one of the usual ones."""
        counts = Counter(s.reason for s in self._listing.skipped)
        reason, count = counts.most_common(1)[0] if counts else ("", 0)
        if (
            reason not in REMEDIES
            or 2 * count < counts.total()
            or (reason == "missing" and not hasattr(self._layout, "files"))
        ):
            return ""
        return f"; {REMEDIES[reason]}"

    @cached_property
    def _opened(self) -> tuple[list[Record], dict[str, Store], list[Skipped], tuple[int, set[int]]]:
        """The records that could be read, their stores, what was left out, and how many were listed and which failed."""
        layout, split = self._layout, self._split
        listed = [record for record in self._listing.records if record.split == split]
        stores: dict[str, Store] = {}
        failed: dict[int, tuple[str, str]] = {}  # reason, and which modality it is of
        for form in layout.forms:
            name = form.modality.name
            refs: list[ImageRef | None] = [record.ref(name) for record in listed]
            if name == "image" or any(refs):
                if name == "depth":
                    refs = [DepthOf(r, of.image) if r and of.image else r for r, of in zip(refs, listed, strict=True)]
                limited = replace(form, max_pixels=layout.max_pixels)
                stores[name] = open_store(refs, limited, layout.workers, split, self._runtime)
                failed |= {i: (reason, name) for i, reason in stores[name].failed.items() if i not in failed}
        kept = [record for i, record in enumerate(listed) if i not in failed]
        skipped = [s for s in self._listing.skipped if s.split in (None, split)]
        for i, (reason, name) in sorted(failed.items()):
            ref = listed[i].ref(name)
            skipped.append(Skipped(listed[i].key, reason, "" if ref is None else str(ref.stamp[0]), split))
        self._refuse(len(kept), skipped)
        return kept, stores, skipped, (len(listed), set(failed))

    def _refuse(self, kept: int, skipped: Sequence[Skipped]) -> None:
        here, anywhere = sum(s.split is not None for s in skipped), sum(s.split is None for s in skipped)
        share = here / max(1, kept + here) + anywhere / max(1, len(self._listing.records) + anywhere)
        share = min(1.0, share)  # those of no known split count against each
        if kept and share <= self._layout.max_skipped:
            return
        most = f"{np.ceil(share * 100) / 100:g}"
        enough = f", or allow more: --source.max_skipped {most} (in Python max_skipped={most})" if kept else ""
        raise DataError(
            f"{self.name}, split {self._split!r}: {len(skipped)} records ({share:.1%}) cannot be used and {kept} can: "
            f"{_told(skipped)}{self._where()}. Mend them{enough}"
        )

    @property
    def records(self) -> Sequence[Record]:
        """The samples as they were listed: where the bytes of each lie."""
        return self._opened[0]

    @cached_property
    def modalities(self) -> Mapping[str, Modality]:  # type: ignore[override]
        """What at least one sample of this split holds."""
        known = {form.modality.name: form.modality for form in self._layout.forms}
        known |= {"text": Modality("text"), "label": Modality("label")}
        return {name: known[name] for name, mask in self._masks.items() if mask.any()}

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of the labels of the whole dataset, `()` where this split has no labels."""
        return self._listing.classes if "label" in self.modalities else ()

    @cached_property
    def _masks(self) -> dict[str, Tensor]:
        records = self.records
        files = [form.modality.name for form in self._layout.forms]
        return {
            **{name: torch.tensor([r.ref(name) is not None for r in records]) for name in files},
            "text": torch.tensor([bool(r.captions) for r in records]),
            "label": torch.tensor([r.label is not None for r in records]),
        }

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def keys(self) -> Sequence[str]:
        """The key of each sample."""
        return [record.key for record in self.records]

    @cached_property
    def captions(self) -> Sequence[Captions]:
        """The captions of each sample; an empty tuple where it has none."""
        return [record.captions for record in self.records]

    @cached_property
    def embeddings(self) -> Mapping[str, Tensor]:  # type: ignore[override]
        """The vectors of the captions, where the data hold these."""
        vectors = [record.vector for record in self.records]
        if not (size := max(map(len, vectors))):
            return {}
        raw = bytearray().join(vector or bytes(size) for vector in vectors)
        return {"text": torch.frombuffer(raw, dtype=torch.float32).view(len(vectors), -1)}

    @property
    def embedded_by(self) -> Mapping[str, str]:  # type: ignore[override]
        """As the listing says."""
        return {m: self._listing.embedded_by[m] for m in self.embeddings}

    @cached_property
    def labels(self) -> Tensor | None:
        """`int64 [N]`, -1 where a sample has no label; `None` where none has."""
        if "label" not in self.modalities:
            return None
        return torch.tensor([-1 if r.label is None else r.label for r in self.records])

    def digests(self, modality: str) -> Sequence[str | None]:
        """SHA-256 of the bytes of each sample's file as they lie on disk: the same digest is the same file."""
        store = self._opened[1].get(modality)
        return [store.digests[i] if store else None for i in self._kept]

    def files(self, modality: str, index: Sequence[int]) -> Sequence[bytes | None]:
        """The bytes of each sample's file; of a part of a file, those of that part."""
        return [_bytes(self.records[i].ref(modality)) for i in index]

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        """A digest of content: files, captions and their vectors, labels, classes, split, decoding; not of names or times."""
        labels = [record.label for record in self.records]
        content = [self.digests("image"), self.captions, labels, self.classes]
        more: list[Any] = [[f.parts, self.digests(f.modality.name)] for f in self.forms if f.modality.name != "image"]
        more += ["vectors", *(record.vector for record in self.records)] if self.embeddings else []
        return digest("records", DECODER, self._layout.resolution, self._split, content, *more)

    @cached_property
    def forms(self) -> Sequence[Form]:
        """How the files of each modality that this split holds are decoded."""
        return [form for form in self._layout.forms if form.modality.name in self.modalities]

    @cached_property
    def unmasked(self) -> dict[str, int]:
        """How many samples count as object everywhere for which reason: they have no mask, or one that holds no object.

        Empty for a source without masks. An object that lies outside of the cropped centre is none, too.
        """
        if "mask" not in self.modalities:
            return {}
        row, masks = self._row["mask"], self._opened[1]["mask"].pixels
        parts = np.array_split(masks, max(len(masks) // CHUNK, 1))
        empty = np.concatenate([~part.any(axis=(1, 2, 3)) for part in parts])
        found = {"no mask": int((row < 0).sum()), "empty mask": int(empty[row[row >= 0]].sum())}
        return {reason: count for reason, count in found.items() if count}

    @cached_property
    def depth_facts(self) -> DepthFacts | None:
        """What the depth maps of this split are like; `None` where it holds none."""
        if "depth" not in self.modalities:
            return None
        row = self._row["depth"]
        return DepthFacts.of(self._opened[1]["depth"].pixels, row[row >= 0])

    @property
    def skipped(self) -> list[dict[str, str]]:
        """What was left out of this split: key, reason and where."""
        return [{"key": s.key, "reason": s.reason, "where": s.where} for s in self._opened[2]]

    @property
    def unread(self) -> Mapping[str, Mapping[str, int]]:
        """What lies beside the samples of the whole dataset and was not used: kind of thing to name to count."""
        return self._listing.unread

    @property
    def split_by(self) -> str:
        """How the splits came about."""
        return self._listing.split_by

    def write_skipped(self, folder: str | Path) -> Path:
        """Writes `skipped.jsonl`, one line a record left out, into `folder`."""
        path = Path(folder) / "skipped.jsonl"
        write_text(path, "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in self.skipped))
        return path

    def batch(self, index: Sequence[int] | Tensor) -> Batch:
        """The samples at `index`, in that order; a sample may be asked for twice.

        Raises:
            DataError: an index that is not a position in this source.
        """
        rows = self._positions(index)
        values: dict[str, Any] = {form.modality.name: form.values(self._gather(form, rows)) for form in self.forms}
        if "text" in self.modalities:
            given = self.embeddings.get("text")
            values["text"] = [self.captions[i] for i in rows.tolist()] if given is None else given[rows]
        if self.labels is not None:
            values["label"] = self.labels[rows]
        partial = {name: self._masks[name] for name in values if not self._masks[name].all()}
        return Batch(values, {name: mask[rows] for name, mask in partial.items()})

    @cached_property
    def _kept(self) -> list[int]:
        """The position of each sample among the records that were listed."""
        listed, failed = self._opened[3]
        return [i for i in range(listed) if i not in failed]

    @cached_property
    def _row(self) -> dict[str, NDArray[np.int64]]:
        """The row of each modality's store that holds each sample; -1 where it has none."""
        rows = {}
        for name, store in self._opened[1].items():
            stored = np.array(
                [d is not None and i not in store.failed for i, d in enumerate(store.digests)], dtype=bool
            )
            rows[name] = np.where(stored, np.cumsum(stored) - 1, -1)[self._kept]
        return rows

    def _gather(self, form: Form, rows: Tensor) -> NDArray[Any]:
        name, shape = form.modality.name, form.modality.shape
        at = self._row[name][rows.numpy()]
        values = np.zeros((len(at), *shape), dtype=form.dtype)
        values[at >= 0] = self._opened[1][name].pixels[at[at >= 0]]
        return values

    def _positions(self, index: Sequence[int] | Tensor) -> Tensor:
        rows = index.detach().cpu() if isinstance(index, Tensor) else torch.as_tensor(list(index))
        if rows.numel() == 0:
            return torch.zeros(0, dtype=torch.long)
        if rows.ndim != 1 or rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool:
            got = f"{rows.dtype} of shape {list(rows.shape)}"
            raise DataError(f"{self.name}: an index is a list of positions, got {got}")
        low, high = int(rows.min()), int(rows.max())
        if low < 0 or high >= len(self):
            raise DataError(f"{self.name}: positions go from 0 to {len(self) - 1}, got {low if low < 0 else high}")
        return rows.long()

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that hold samples."""
        return self._listing.splits

    def split(self, name: str) -> "RecordSource":
        """The sibling split `name`; shares the listing, decodes at first use."""
        return RecordSource(self._layout, self._listing, name, self._runtime)

    def describe(self) -> dict[str, Any]:
        """Name, split and options: what `limbeck.source` takes to open this again."""
        return {**self._layout.describe(), "split": self._split}


def _bytes(ref: ImageRef | None) -> bytes | None:
    """What a reference leads to; `None` where it has gone since."""
    try:
        return None if ref is None else ref.read()
    except (OSError, Unreadable):
        return None


def _told(skipped: Sequence[Skipped]) -> str:
    """How many records for which reason, and the first of them."""
    counts = Counter(s.reason for s in skipped).most_common()
    reasons = ", ".join(f"{n} {reason}" for reason, n in counts[:REASONS])
    if others := sum(n for _, n in counts[REASONS:]):
        reasons += f", {others} others"
    return f"{reasons}; the first: " + "; ".join(f"{s.key} ({s.reason}, {s.where})" for s in skipped[:3])
