"""What captions must be like before pairs are made of them, and what retrieval can tell by them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from limbeck.data.batch import Captions
from limbeck.data.source import Source
from limbeck.errors import DataError

__all__ = ["Ceiling", "ceiling", "check_captions"]

LOW = 90.0  # percent: below it a person is told


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


@dataclass(frozen=True)
class Ceiling:
    """What retrieval can reach at most where captions repeat.

    Args:
        samples: that have a caption.
        different: how many different captions they have.
        rates: `IR@1` to `TR@10` in percent, of a student that finds the words of every image.
    """

    samples: int
    different: int
    rates: Mapping[str, float]

    @property
    def low(self) -> bool:
        """Whether so much is out of reach that retrieval says little of a student."""
        return min(self.rates["IR@1"], self.rates["TR@1"]) < LOW

    def __str__(self) -> str:
        return (
            f"{self.different} different captions for {self.samples} images: however good a student, IR@1 cannot exceed "
            f"{self.rates['IR@1']:.3g} % and TR@1 {self.rates['TR@1']:.3g} %, as equal captions count against it"
        )


def ceiling(captions: Sequence[Captions]) -> Ceiling:
    """The best hit rates that these captions allow, as `limbeck.evaluation.metrics.retrieval` counts them.

    One caption of m images is one query that finds them in one order, so that K of its m images at most are among the first K.
    For each of those images, the m - 1 equal captions of the others tie with its own, and ties count against it.

    Args:
        captions: of each sample; samples without one are left out.

    Example:
        >>> best = ceiling([("a dog",), ("a dog",), ("a cat",), ("a bird",)])
        >>> best.different, best.rates["IR@1"], best.rates["TR@1"], best.rates["TR@5"]
        (3, 75.0, 50.0, 100.0)
    """
    held = [sample for sample in captions if sample]
    owners: dict[str, list[int]] = {}  # how often each image that has the caption has it
    for sample in held:
        for text, count in Counter(sample).items():
            owners.setdefault(text, []).append(count)
    times = {text: sum(counts) for text, counts in owners.items()}
    ranks = [min(times[text] - count for text, count in Counter(sample).items()) for sample in held]
    rates: dict[str, float] = {}
    for k in (1, 5, 10):
        hits = sum(sum(sorted(counts, reverse=True)[:k]) for counts in owners.values())
        rates[f"IR@{k}"] = 100 * hits / max(sum(times.values()), 1)
        rates[f"TR@{k}"] = 100 * sum(rank < k for rank in ranks) / max(len(ranks), 1)
    return Ceiling(len(held), len(owners), rates)
