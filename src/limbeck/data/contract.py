"""The contract that every source keeps, as a suite that a plug-in's author can run, too."""

import re

import torch
from torch import Tensor

from limbeck.data.batch import Batch
from limbeck.data.source import Source
from limbeck.errors import DataError

__all__ = ["check_source"]


def check_source(source: Source) -> None:
    """Tests a source against the contract of `limbeck.Source`. Reads a few samples of each split only.

    Args:
        source: any split of any source, with at least one sample.

    Raises:
        AssertionError: names the clause that is broken.

    Example:
        >>> import limbeck as lb
        >>> check_source(lb.check.toy_source())
    """
    before = torch.get_rng_state()
    _check_facts(source)
    _check_batches(source)
    _check_labels(source)
    _check_splits(source)
    assert torch.equal(before, torch.get_rng_state()), "it drew from the global random generator"


def _check_facts(source: Source) -> None:
    size = len(source)
    assert size > 0, "a source holds at least one sample"
    assert source.name and source.licence, "name and licence are never empty; an unknown licence is 'unknown'"
    assert re.fullmatch(r"[0-9a-f]{16,}", source.fingerprint), (
        f"fingerprint is a hex digest, got {source.fingerprint!r}"
    )
    assert source.modalities, "it holds at least one modality"
    assert all(name == m.name for name, m in source.modalities.items()), "each modality is filed under its own name"
    assert len(source.keys) == len(source.captions) == size, "keys and captions have one entry a sample"
    assert len(set(source.keys)) == size, "keys are unique"
    assert source.describe().get("name"), "describe() names what opens it again"
    for sample in source.captions:
        assert isinstance(sample, tuple) and all(isinstance(c, str) and c for c in sample), (
            "captions are tuples of strings"
        )
    assert any(source.captions) == ("text" in source.modalities), "it has captions exactly where it says 'text'"


def _check_batches(source: Source) -> None:
    last = len(source) - 1
    index = [last, 0, last]  # out of order, one of them twice
    batch = source.batch(index)
    assert len(batch) == 3, "batch returns one row an index, repeated ones, too"
    assert set(batch.modalities) == set(source.modalities), (
        f"batch holds {batch.modalities}, not {tuple(source.modalities)}"
    )
    again = {"a tensor": source.batch(torch.tensor(index)), "a second call": source.batch(index)}
    again["a range"] = source.batch(range(last, last + 1))
    for what, other in again.items():
        rows = batch if len(other) == 3 else batch.select([0])
        assert all(_same(rows, other, m) for m in batch.modalities), (
            f"{what} gives other samples than a list of the same index"
        )
    for name in batch.modalities:
        value, mask = batch[name], batch.mask(name)
        assert mask.dtype == torch.bool and mask.shape == (3,), f"the present mask of {name} is bool [B]"
        if name == "image":
            shape = (3, *source.modalities[name].shape)
            assert value.dtype == torch.float32 and tuple(value.shape) == shape, (
                f"images are float32 {shape}, got {value.shape}"
            )
            assert float(value.min()) >= 0 and float(value.max()) <= 1, "images lie in [0, 1]"
        elif name in ("audio", "depth", "mask") and isinstance(value, Tensor):
            kind = source.modalities[name]
            assert value.dtype == torch.float32 and tuple(value.shape) == (3, *kind.shape), (
                f"{name} is float32 {(3, *kind.shape)}, got {value.dtype} {tuple(value.shape)}"
            )
            assert float(value.min()) >= kind.low and float(value.max()) <= kind.high, (
                f"{name} lies in [{kind.low}, {kind.high}]"
            )
            if name == "mask":
                _check_masks(source, value)
        elif name == "text" and "text" not in source.embeddings:
            assert value == [source.captions[i] for i in index], "batch and captions tell the same texts"
            assert mask.tolist() == [bool(c) for c in value], "text is present exactly where there is a caption"
        elif name == "label":
            assert source.labels is not None and torch.equal(value, source.labels[index]), "batch and labels agree"


def _check_masks(source: Source, masks: Tensor) -> None:
    assert "image" in source.modalities, "masks lie upon images"
    shape = source.modalities["image"].shape
    assert tuple(masks.shape[1:]) == (1, *shape[1:]), f"a mask is as large as its image, [1, {shape[1]}, {shape[2]}]"
    assert (masks.flatten(1).amax(dim=1) > 0).all(), "a mask without object is a mask of everything: ones"


def _check_labels(source: Source) -> None:
    labels = source.labels
    assert (labels is not None) == ("label" in source.modalities), "labels is None exactly where there is no 'label'"
    if labels is None:
        assert source.classes == (), "classes without labels"
        return
    assert labels.dtype == torch.int64 and labels.shape == (len(source),), "labels are int64 [N]"
    top = len(source.classes) or int(labels.max()) + 1
    assert int(labels.min()) >= -1 and int(labels.max()) < top, "labels index the classes; -1 where one is missing"


def _check_splits(source: Source) -> None:
    seen = {}
    for name in source.splits:
        other = source.split(name)
        assert len(other) > 0, f"split {name!r} is listed but empty"
        seen[name] = other.fingerprint
    assert len(set(seen.values())) == len(seen), "two splits hold the same samples"
    assert not seen or source.fingerprint in seen.values(), "a source is one of its own splits"
    try:
        source.split("no such split")
    except DataError:
        return
    raise AssertionError("an unknown split raises DataError")


def _same(a: Batch, b: Batch, modality: str) -> bool:
    x, y = a[modality], b[modality]
    return torch.equal(x, y) if isinstance(x, Tensor) else bool(x == y)
