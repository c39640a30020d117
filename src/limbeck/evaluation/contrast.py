"""What learning adds: each method that learns against the best one-shot method of its size, seed by seed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from limbeck.evaluation.score import Paired, Score, paired

__all__ = ["Contrast", "contrasts"]


@dataclass(frozen=True)
class Contrast:
    """The paired difference of two rows of one table.

    Args:
        name: the row of a method that learns.
        rival: the row of the best one-shot method with as many pairs.
        pairs: how many both hold.
        metric: what is compared.
        fingerprint: of the protocol that judged both.
        paired: `name` minus `rival`.

    Example:
        >>> print(Contrast("cf", "prototypes", 100, "mean", "f", Paired(12.31, 10.1, 14.5, 3, 0.95)))
        cf - best coreset (prototypes) at 100 pairs: +12.3 [10.1, 14.5] mean recall, 95 % paired over 3 seeds
    """

    name: str
    rival: str
    pairs: int
    metric: str
    fingerprint: str
    paired: Paired

    def __str__(self) -> str:
        p = self.paired
        metric = "mean recall" if self.metric == "mean" else self.metric
        return (
            f"{self.name} - best coreset ({self.rival}) at {self.pairs} pairs: {p.difference:+.1f} "
            f"[{p.low:.1f}, {p.high:.1f}] {metric}, {100 * p.confidence:g} % paired over {p.n} seeds"
        )


def contrasts(scores: Sequence[Score], one_shot: Collection[str], confidence: float = 0.95) -> list[Contrast]:
    """Each row that learned against the best one-shot row with as many pairs, under the same protocol.

    The metric is `"mean"` where there is one, else the first. The best one-shot row is chosen by its mean over the same
    seeds that it is then compared on: if anything, it is flattered.

    Args:
        scores: what `compare` found.
        one_shot: the names of the rows whose method takes no steps.
        confidence: of the intervals.

    Returns:
        one a row that learned and protocol, in the order of `scores`; none where there is no rival, or only one seed.

    Example:
        >>> common = dict(method="m", pairs=9, bytes=9, protocol="p", fingerprint="f", metric="mean")
        >>> rows = {"cf": [9.0, 9.5], "random": [4.0, 5.0], "herding": [6.0, 6.5]}
        >>> scores = [Score.of(values, name=name, **common) for name, values in rows.items()]
        >>> [(c.name, c.rival, c.paired.difference) for c in contrasts(scores, ["random", "herding"])]
        [('cf', 'herding', 3.0)]
    """
    metrics = list(dict.fromkeys(s.metric for s in scores))
    chosen = [s for s in scores if s.metric == ("mean" if "mean" in metrics else metrics[0])]
    found = []
    for score in chosen:
        if score.method == "full" or score.name in one_shot or len(score.values) < 2:
            continue
        same = (score.fingerprint, score.pairs)
        rivals = [s for s in chosen if s.name in one_shot and (s.fingerprint, s.pairs) == same]
        if rivals:
            rival = max(rivals, key=lambda s: s.mean if s.higher_is_better else -s.mean)
            result = paired(score, rival, confidence)
            found.append(Contrast(score.name, rival.name, score.pairs, score.metric, score.fingerprint, result))
    return found
