"""What captions must be like before pairs are made of them."""

from limbeck.data.source import Source
from limbeck.errors import DataError

__all__ = ["check_captions"]


def check_captions(source: Source) -> None:
    """Refuses texts that are all the same: no image can be told from another by them.

    Args:
        source: data with texts; where these are embeddings, their readable captions may be alike.

    Raises:
        DataError: fewer than two captions that differ; the message says how many samples have one.

    Example:
        >>> from limbeck.check import toy_source
        >>> check_captions(toy_source())
    """
    texts = {text for sample in source.captions for text in sample}
    if len(texts) > 1 or "text" in source.embeddings:
        return
    said = f"one caption in all, {next(iter(texts))!r:.60}" if texts else "no caption"
    held = sum(map(bool, source.captions))
    raise DataError(
        f"{source.name} has {said} ({held} of its {len(source)} samples have one); pairs of images and texts need two that "
        "differ: mend the captions, or leave the text out of the space"
    )
