"""How many bytes of files a set is: what a stranger counts who stores it or sends it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from limbeck.core import DistilledSet
from limbeck.core.storage import png
from limbeck.data.source import Source

__all__ = ["file_bytes"]

SAMPLE = 512  # samples of real data that are counted; more of them are estimated from so many
PICTURES = ("image", "mask")  # modalities that a PNG holds


def file_bytes(small: Source, real: Source | None = None) -> int:
    """Bytes of the smallest files that hold exactly what a student reads of `small`.

        image, mask    a PNG, the bare 8-bit pixels or, of a real sample, its own file: whichever is smallest
        sound, depth   the bare floats or, of a real sample, its own file
        text           UTF-8 with all captions; a learned text its floats
        the rest       as a set stores it

    A sample is real where it is, to the last bit, what `real` holds of the sample that it started from. So nothing is lost on either
    side: decoding these files gives the tensors. More than 512 samples of a source that is no distilled set are estimated from 512.

    Args:
        small: the set, or real data.
        real: the data that the set was made from, for the files of its samples; without them a set counts as it is saved.

    Example:
        >>> import limbeck as lb
        >>> train = lb.check.toy_source()
        >>> small = lb.distill(lb.Problem(train, lb.space(image="convnet"), lb.Budget(pairs=4)), lb.methods.Random())
        >>> file_bytes(small) <= small.nbytes
        True
    """
    if not isinstance(small, DistilledSet):
        return _of_source(small)
    rows, total = torch.arange(len(small)), small.nbytes
    for modality in (m for m in small.modalities if m in small.tensors and m not in ("text", "label")):
        values = small.tensors[modality]
        files: Sequence[int | None] = [None] * len(rows)
        if real is not None:
            files = _own_files(small, real, modality)
        total -= values.numel() * values.element_size() - sum(_smallest(values, modality, files))
    return total


def _of_source(source: Source) -> int:
    """Of real data: the captions exactly, the files of an even selection."""
    rows = torch.linspace(0, len(source) - 1, min(len(source), SAMPLE)).round().long().tolist()
    fixed = [m for m in source.modalities if m not in ("text", "label")]
    batch, counted = source.batch(rows), 0
    for modality in fixed:
        values = batch[modality]
        values = _as_stored(values) if modality in PICTURES else values
        here = batch.mask(modality).tolist()
        files = source.file_sizes(modality, rows)
        counted += sum(n for n, held in zip(_smallest(values, modality, files), here, strict=True) if held)
    texts = sum(len(text.encode()) for sample in source.captions for text in sample)
    if "text" in source.embeddings:
        texts = source.embeddings["text"].numel() * source.embeddings["text"].element_size()
    return round(counted * len(source) / len(rows)) + texts + (8 * len(source) if "label" in source.modalities else 0)


def _smallest(values: Tensor, modality: str, files: Sequence[int | None]) -> list[int]:
    """Bytes of each row of `values`: bare, as PNG where that is exact, or of its file where there is one."""
    bare = values[0].numel() * values.element_size()
    pictures = modality in PICTURES and values.dtype == torch.uint8
    found = []
    for value, file in zip(values, files, strict=True):
        sizes = [bare, len(png(value, modality))] if pictures else [bare]
        found.append(min(sizes if file is None else [*sizes, file]))
    return found


def _own_files(small: DistilledSet, real: Source, modality: str) -> list[int | None]:
    """Bytes of the file of each sample that is what `real` holds; `None` where it is not, or there is no file."""
    place = {key: i for i, key in enumerate(real.keys)}
    found: list[int | None] = [None] * len(small)
    if modality not in real.modalities:
        return found
    for part in torch.arange(len(small)).split(SAMPLE):
        rows = [i for i in part.tolist() if small.origins[i] in place]
        index = [place[small.origins[i]] for i in rows]
        values, sizes = real.batch(index)[modality], real.file_sizes(modality, index)
        values = _as_stored(values) if small.tensors[modality].dtype == torch.uint8 else values
        for i, value, size in zip(rows, values, sizes, strict=True):
            found[i] = size if torch.equal(value, small.tensors[modality][i]) else None
    return found


def _as_stored(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] as 8 bits, as a set rounds them."""
    return pixels.clamp(0, 1).mul(255).round().byte()
