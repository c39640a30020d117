"""`Score`: one metric of one set under one protocol; files, tables and paired comparison of scores."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from limbeck.data.plain import (
    COUNT,
    INTEGER,
    NUMBER,
    TEXT,
    Kind,
    dump_json,
    escape_surrogates,
    read_sealed,
    seal,
)
from limbeck.errors import ConfigError, StorageError
from limbeck.runtime.files import write_text

__all__ = ["Paired", "Score", "paired", "read_scores", "write_scores"]

SCHEMA = 1
FLAG = Kind("true or false", lambda value: isinstance(value, bool))
ROW = {
    **dict.fromkeys(("name", "method", "protocol", "fingerprint", "metric", "training?", "encoder?", "home?"), TEXT),
    **dict.fromkeys(("pairs", "bytes", "peak_bytes"), COUNT),
    **dict.fromkeys(("mean", "std", "seconds"), NUMBER),
    "higher_is_better": FLAG,
    "took_part?": FLAG,
    "values": [NUMBER],
    "seeds?": [INTEGER],
}


@dataclass(frozen=True)
class Score:
    """One metric of one set under one protocol: a row of scores.json.

    Args:
        name: the set, as a person calls it.
        method: what made it; `"full"` for the whole real training data, `"subset"` for other real data.
        pairs: samples in the set.
        bytes: of the files of the set, or of real data, see `file_bytes`.
        protocol: how it was judged, readable.
        fingerprint: digest of the protocol's options, the evaluation data and the space; scores can be compared where
            it is equal.
        metric: such as `"IR@1"`.
        higher_is_better: the direction of the metric.
        mean: of `values`.
        std: sample standard deviation over seeds (n - 1); 0 for one seed.
        values: one a seed.
        seconds: wall-clock time of the whole evaluation (in a comparison also of making the sets), all seeds together.
        peak_bytes: on a GPU the peak of its memory during the evaluation; on a CPU the peak of the process *so far*,
            whatever it did before: rows of one process only grow, and only the first says what its evaluation needs.
        seeds: the seed of each value; 0, 1, ... where they are left out.
        training: with what of its own the set has the student trained, such as `"wbce, lowrank similarity"`.
        encoder: the name of the encoder that judged; empty where a student read none, or the row is from before rows said it.
        home: where another encoder stood in for that of the space, the `fingerprint` of the same protocol with the space as it is;
            else empty.
        took_part: whether that other encoder took part in making the set, so that it is no unseen one.

    Raises:
        ConfigError: no values, a value that is not finite, or a mean or spread that is not that of the values.

    Example:
        >>> what = dict(name="a", method="cf", pairs=100, bytes=10**6, protocol="p", fingerprint="f", metric="IR@1")
        >>> Score.of([20.0, 22.0], **what).mean
        21.0
    """

    name: str
    method: str
    pairs: int
    bytes: int
    protocol: str
    fingerprint: str
    metric: str
    higher_is_better: bool
    mean: float
    std: float
    values: tuple[float, ...]
    seconds: float
    peak_bytes: int
    seeds: tuple[int, ...] = ()
    training: str = ""
    encoder: str = ""
    home: str = ""
    took_part: bool = False

    def __post_init__(self) -> None:
        for name in ("name", "method", "protocol", "training", "encoder"):
            object.__setattr__(self, name, escape_surrogates(getattr(self, name)))
        object.__setattr__(self, "seeds", self.seeds or tuple(range(len(self.values))))
        where = f"the score {self.metric!r} of {self.name!r}"
        if not self.values or not all(math.isfinite(v) for v in self.values):
            raise ConfigError(f"{where} needs one finite value a seed, got {list(self.values)}")
        if len(self.seeds) != len(self.values):
            raise ConfigError(f"{where} has {len(self.values)} values for {len(self.seeds)} seeds")
        mean, std = _moments(self.values)
        if not (math.isclose(mean, self.mean, abs_tol=1e-6) and math.isclose(std, self.std, abs_tol=1e-6)):
            raise ConfigError(f"{where} says {self.mean} +- {self.std}, but its values give {mean} +- {std}")

    @classmethod
    def of(
        cls,
        values: Iterable[float],
        *,
        name: str,
        method: str,
        pairs: int,
        bytes: int,
        protocol: str,
        fingerprint: str,
        metric: str,
        higher_is_better: bool = True,
        seconds: float = 0.0,
        peak_bytes: int = 0,
        seeds: Sequence[int] = (),
        training: str = "",
        encoder: str = "",
        home: str = "",
        took_part: bool = False,
    ) -> "Score":
        """The score of `values`, one a seed, with their mean and sample standard deviation."""
        found = tuple(float(v) for v in values)
        mean, std = _moments(found) if found else (math.nan, math.nan)
        return cls(
            name, method, pairs, bytes, protocol, fingerprint, metric, higher_is_better, mean, std, found, seconds,
            peak_bytes, tuple(seeds), training, encoder, home, took_part,
        )  # fmt: skip

    @property
    def judged(self) -> Literal["home", "unseen", "took part"]:
        """With what it was judged: the space itself, an unseen encoder in it, or another one that took part in making the set."""
        return "home" if not self.home else "took part" if self.took_part else "unseen"

    def row(self) -> dict[str, Any]:
        """The score as JSON types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Paired:
    """The result of `paired`: `difference` in [`low`, `high`] at the given confidence, from `n` seeds."""

    difference: float
    low: float
    high: float
    n: int
    confidence: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def paired(a: Score, b: Score, confidence: float = 0.95) -> Paired:
    """How much better `a` is than `b`, seed by seed, with a confidence interval.

        d_i = a_i - b_i,    mean(d) +- t_{(1 + confidence) / 2, n - 1} std(d) / sqrt(n)

    The interval covers, at that confidence, the mean difference over all seeds for *this* data and protocol, if the
    d_i are about normal. It says nothing about other test data: that error is common to both and not in the seeds.

    Args:
        a, b: the same metric under one protocol fingerprint with the same seeds.
        confidence: of the interval.

    Raises:
        ConfigError: scores that cannot be paired, or fewer than two seeds.

    Example:
        >>> common = dict(method="m", pairs=9, bytes=9, protocol="p", fingerprint="f", metric="mean")
        >>> a, b = Score.of([20.0, 22.0, 24.0], name="a", **common), Score.of([19.0, 20.0, 22.0], name="b", **common)
        >>> result = paired(a, b)
        >>> round(result.difference, 2), round(result.low, 2), round(result.high, 2)
        (1.67, 0.23, 3.1)
    """
    from scipy.stats import t

    for what in ("metric", "fingerprint", "seeds"):
        if getattr(a, what) != getattr(b, what):
            raise ConfigError(
                f"{a.name!r} and {b.name!r} differ in {what} ({getattr(a, what)} and {getattr(b, what)}); "
                "evaluate both with the same protocol, data, space and seeds"
            )
    n = len(a.values)
    if n < 2 or not 0 < confidence < 1:
        raise ConfigError(
            f"a paired comparison needs two seeds or more and 0 < confidence < 1, got {n} and {confidence}"
        )
    mean, std = _moments([x - y for x, y in zip(a.values, b.values, strict=True)])
    half = float(t.ppf((1 + confidence) / 2, n - 1)) * std / math.sqrt(n)
    return Paired(mean, mean - half, mean + half, n, confidence)


def write_scores(path: str | Path, scores: Sequence[Score]) -> Path:
    """Writes scores.json; the file appears whole or not at all.

    Args:
        path: the file.
        scores: its rows.

    Raises:
        StorageError: it cannot be written.
    """
    path = Path(path)
    write_text(path, dump_json(seal({"schema": SCHEMA, "rows": [s.row() for s in scores]})))
    return path


def read_scores(path: str | Path) -> list[Score]:
    """The scores in a scores.json.

    Raises:
        StorageError: no such file, not JSON, a newer schema, or a row with missing, unknown or impossible fields.
    """
    path = Path(path)
    if not path.exists():
        raise StorageError(f"there is no {path}; check the path, or evaluate first")
    remedy = "evaluate again, or take the digest out if you changed it yourself"
    content = read_sealed(path, {"schema": COUNT, "rows": [ROW]}, "a scores.json", SCHEMA, remedy)
    try:
        return [
            Score(**{**row, "values": tuple(map(float, row["values"])), "seeds": tuple(row.get("seeds", ()))})
            for row in content["rows"]
        ]
    except ValueError as error:
        raise StorageError(f"{path} is not a scores.json: {error}; evaluate again") from error


def _moments(values: Sequence[float]) -> tuple[float, float]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
