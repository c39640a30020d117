"""What learning adds: each method that learns against the best coreset of its size, in pairs and in bytes, seed by seed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from limbeck.evaluation.score import Paired, Score, paired
from limbeck.evaluation.score_table import headline, quality

__all__ = ["PairedGain", "paired_gains"]


@dataclass(frozen=True)
class PairedGain:
    """The paired difference of two rows of one table: what a method that learns gains over a coreset.

    Args:
        name: the row of a method that learns.
        rival: the row of the best coreset (a method that takes no steps) of its size.
        pairs: how many the row that learned holds.
        metric: what is compared.
        fingerprint: of the protocol that judged both.
        paired: `name` minus `rival`.
        rival_pairs: how many the rival holds, where its size is that in bytes of files.

    Example:
        >>> print(PairedGain("cf", "prototypes", 100, "mean", "f", Paired(12.31, 10.1, 14.5, 3, 0.95)))
        cf - best coreset (prototypes) at 100 pairs: +12.3 [10.1, 14.5] mean recall, 95 % paired over 3 seeds
    """

    name: str
    rival: str
    pairs: int
    metric: str
    fingerprint: str
    paired: Paired
    rival_pairs: int | None = None

    def __str__(self) -> str:
        p = self.paired
        metric = "mean recall" if self.metric == "mean" else self.metric
        rival = f"best coreset ({self.rival}) at {self.pairs} pairs"
        if self.rival_pairs is not None:
            rival = f"{self.rival}, {self.rival_pairs} pairs"
        return (
            f"{self.name} - {rival}: {p.difference:+.1f} "
            f"[{p.low:.1f}, {p.high:.1f}] {metric}, {100 * p.confidence:g} % paired over {p.n} seeds"
        )


def paired_gains(
    scores: Sequence[Score],
    one_shot: Collection[str],
    confidence: float = 0.95,
    as_large: Mapping[tuple[str, int], tuple[str, int]] = MappingProxyType({}),
) -> list[PairedGain]:
    """Each row that learned against the best one-shot row with as many pairs, and with as many bytes, under the same protocol.

    The metric is `"mean"` where there is one, else the first. The best one-shot row is chosen by its mean over the same
    seeds that it is then compared on: if anything, it is flattered. Rows that the encoder that judged took part in making are left out.

    Args:
        scores: what `compare` found.
        one_shot: the names of the rows whose method takes no steps.
        confidence: of the intervals.
        as_large: (row that learned, its pairs) to (one-shot row of as many bytes in files, its pairs).

    Returns:
        in the order of `scores`, two a row that learned and protocol at the most; none where there is no rival, or only one seed.

    Example:
        >>> common = dict(method="m", pairs=9, bytes=9, protocol="p", fingerprint="f", metric="mean")
        >>> rows = {"cf": [9.0, 9.5], "random": [4.0, 5.0], "herding": [6.0, 6.5]}
        >>> scores = [Score.of(values, name=name, **common) for name, values in rows.items()]
        >>> [(c.name, c.rival, c.paired.difference) for c in paired_gains(scores, ["random", "herding"])]
        [('cf', 'herding', 3.0)]
    """
    chosen = [s for s in scores if s.metric == headline(scores) and not s.took_part]
    gains = []
    for score in chosen:
        if score.method == "full" or score.name in one_shot or len(score.values) < 2:
            continue
        others = [s for s in chosen if s.fingerprint == score.fingerprint]
        coresets = [s for s in others if s.name in one_shot and s.pairs == score.pairs]
        rivals: list[tuple[Score, int | None]] = [(max(coresets, key=quality), None)] if coresets else []
        large = as_large.get((score.name, score.pairs))
        rivals += [(s, s.pairs) for s in others if (s.name, s.pairs) == large]
        for rival, pairs in rivals:
            result = paired(score, rival, confidence)
            gains.append(
                PairedGain(score.name, rival.name, score.pairs, score.metric, score.fingerprint, result, pairs)
            )
    return gains
