"""How many bytes of files a source is: what a stranger counts who stores it or sends it."""

import torch
from torch import Tensor

from limbeck.core.codec import png
from limbeck.data.source import Source

__all__ = ["file_bytes"]

SAMPLE = 512  # samples of real data that are counted; more of them are estimated from so many
PICTURES = ("image", "mask")  # modalities that a PNG holds


def file_bytes(source: Source) -> int:
    """Bytes of the files of a distilled set; of real data those of the smallest files that hold exactly what a student reads.

        image, mask    its own file, a PNG or the bare 8-bit pixels: whichever is smallest
        sound, depth   its own file or the bare floats
        text           UTF-8 with all captions, or the floats of vectors
        label          8 bytes

    More than 512 samples of real data are estimated from 512.

    Args:
        source: the set, or real data.

    Example:
        >>> import limbeck as lb
        >>> train = lb.check.toy_source()
        >>> small = lb.distill(lb.Problem(train, lb.space(image="convnet"), lb.Budget(pairs=4)), lb.methods.Random())
        >>> file_bytes(small) == small.nbytes
        True
    """
    if source.nbytes is not None:
        return source.nbytes
    rows = torch.linspace(0, len(source) - 1, min(len(source), SAMPLE)).round().long().tolist()
    batch, counted = source.batch(rows), 0
    for modality in (m for m in source.modalities if m not in ("text", "label")):
        here, files = batch.mask(modality).tolist(), source.files(modality, rows)
        held = zip(batch[modality], files, here, strict=True)
        counted += sum(_smallest(value, file, modality in PICTURES) for value, file, there in held if there)
    texts = sum(len(text.encode()) for sample in source.captions for text in sample)
    if "text" in source.embeddings:
        texts = source.embeddings["text"].numel() * source.embeddings["text"].element_size()
    return round(counted * len(source) / len(rows)) + texts + (8 * len(source) if "label" in source.modalities else 0)


def _smallest(value: Tensor, file: bytes | None, picture: bool) -> int:
    """Bytes of one value: bare, as PNG where that is exact, or of its file where there is one."""
    sizes = [value.numel(), len(png(value))] if picture else [value.numel() * value.element_size()]
    return min(sizes if file is None else [*sizes, len(file)])
