"""`Audit`: what was found, as numbers, as text and as verdicts."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from limbeck.evaluation.audit.attack import Interval
from limbeck.evaluation.audit.nearest import NearestNeighbours
from limbeck.terminal import columns

__all__ = ["RULE", "Audit", "Diversity", "Leak"]

RULE = (
    "memorised: as near to a training sample as the nearest 1 % of held-out samples are, or nearer, and at most half as far from it as "
    "from the 15 next ones on average; and every copy"
)
MEASURES = {"rmse": "RMSE", "ssim": "1 - SSIM", "features": "1 - cosine"}


@dataclass(frozen=True)
class Leak:
    """How well one attack on one student tells the real samples that a set started from.

    Args:
        target: what the student learned: `"the set"`; for reference `"its origins"` themselves and `"all data"`; and as a control
            `"other samples"`, which has learned neither members nor others. What the attack finds there is no membership, but how the members
            were chosen.
        attack: `"loss"`, `"LiRA"` or `"LiRA offline"`.
        auc: the probability that a member scores above another sample; 0.5 is chance.
        tpr: the share of members found at a false positive rate of 1 %, which is also chance.
    """

    target: str
    attack: str
    auc: Interval
    tpr: Interval


@dataclass(frozen=True)
class Diversity:
    """How varied one modality of a set is in frozen features, and of as many real samples.

    Args:
        modality: of what.
        vendi, real_vendi: effective number of different samples.
        density, real_density: how deep in the real data samples lie; 1 where both are of one kind.
        coverage, real_coverage: the share of as many real samples that has a sample of the set near.
    """

    modality: str
    vendi: float
    real_vendi: float
    density: float
    real_density: float
    coverage: float
    real_coverage: float


@dataclass(frozen=True)
class Audit:
    """What a set gives away of the data that it was made from, and how varied it is.

    Args:
        name: of the set.
        against: the data.
        samples, training, held_out: how many samples of the set were compared with how many.
        nearness: the nearest training samples, one a modality and measure.
        leaks: membership inference, one a target and attack; empty where it was left out.
        students: how the attacked students were trained, readable.
        diversity: one a modality.
        gap: `"a, b"` to the distance between the means of two modalities in one space, of the set and of the training data.
        notes: what was left out, and why.
    """

    name: str
    against: str
    samples: int
    training: int
    held_out: int
    nearness: tuple[NearestNeighbours, ...]
    leaks: tuple[Leak, ...] = ()
    students: str = ""
    diversity: tuple[Diversity, ...] = ()
    gap: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that were compared."""
        return tuple(dict.fromkeys(n.modality for n in self.nearness))

    def of(self, modality: str) -> tuple[NearestNeighbours, ...]:
        """All measures of one modality."""
        return tuple(n for n in self.nearness if n.modality == modality)

    def memorised(self, modality: str) -> tuple[bool, ...]:
        """Which samples the rule calls memorised, by any measure of this modality."""
        return tuple(map(any, zip(*(n.memorised for n in self.of(modality)), strict=True)))

    def verdict(self) -> list[str]:
        """What is memorised of each modality, and how many samples can be traced to the one that they started from."""
        said = []
        for modality in self.modalities:
            found, measures = sum(self.memorised(modality)), self.of(modality)
            each = ", ".join(f"{MEASURES[n.measure]}: {sum(n.memorised)}" for n in measures)
            line = f"{modality}: {found} of {self.samples} samples are memorised ({each})"
            called = [n.called for n in measures if n.called]
            if called:
                wrong = sum(map(any, zip(*called, strict=True)))
                line += f"; the rule says so of {wrong} of {len(called[0])} held-out samples"
            said.append(line)
            traced = [f"{MEASURES[n.measure]}: {100 * n.returned:.0f} %" for n in measures if n.returned is not None]
            if traced:
                shares = f"{', '.join(traced)}; by chance {100 / self.training:.2g} %"
                said.append(f"{modality}: the nearest training sample is the one that a sample started from ({shares})")
        return said

    def data(self) -> dict[str, Any]:
        """As JSON types."""
        found = asdict(self)
        found["nearness"] = [n.data() for n in self.nearness]
        found["gap"] = {key: list(value) for key, value in self.gap.items()}
        memorised = {m: sum(self.memorised(m)) for m in self.modalities}
        return {
            "schema": 1,
            **{k: list(v) if isinstance(v, tuple) else v for k, v in found.items()},
            "memorised": memorised,
            "rule": RULE,
        }

    def text(self) -> str:
        """As tables and sentences, for a person."""
        others = f"{self.held_out:,} held-out ones" if self.held_out else "no held-out ones"
        real = f"{self.training:,} training samples of {self.against} and {others}"
        parts = [f"{self.name}: {self.samples:,} samples against {real}"]
        parts.append("\n".join([*columns(self.near_rows()), *self.verdict(), RULE]))
        if self.leaks:
            head = f"who was among the origins? {self.students}"
            parts.append("\n".join([head, *columns(self.leak_rows())]))
        if self.diversity:
            parts.append("\n".join([*columns(self.diversity_rows()), *self.gaps()]))
        return "\n\n".join([*parts, *(["\n".join(f"note: {note}" for note in self.notes)] if self.notes else [])])

    def near_rows(self) -> list[list[str]]:
        """The table of distances, with its head."""
        rows = [["nearest training sample", "set", "held-out", "bound", "to origin", "origin is it", "memorised"]]
        for n in self.nearness:
            origin = [x for x in n.origin if x is not None]
            cells = [
                _median(n.distance),
                _median(n.held_out),
                "-" if n.bound is None else f"{n.bound:.4f}",
                _median(origin),
            ]
            back = "-" if n.returned is None else f"{100 * n.returned:.0f} %"
            rows.append(
                [f"{n.modality}, {MEASURES[n.measure]}", *cells, back, f"{sum(n.memorised)} of {len(n.memorised)}"]
            )
        for n in self.nearness:
            if n.unchanged is not None:
                alike = "-" if n.alike is None else f"{100 * n.alike:.0f} %"
                rows.append([f"{n.modality}, equal pixels", "", alike, "", f"{100 * n.unchanged:.0f} %", "", ""])
        return rows

    def leak_rows(self) -> list[list[str]]:
        """The table of membership inference, with its head."""
        rows = [["student of", "attack", "AUC [95 %]", "found at 1 % false [95 %]"]]
        for leak in self.leaks:
            a, t = leak.auc, leak.tpr
            caught = f"{100 * t.value:.0f} % [{100 * t.low:.0f}, {100 * t.high:.0f}]"
            rows.append([leak.target, leak.attack, f"{a.value:.2f} [{a.low:.2f}, {a.high:.2f}]", caught])
        return rows

    def diversity_rows(self) -> list[list[str]]:
        """The table of diversity, with its head."""
        rows = [["diversity", "Vendi", "of real", "density", "of real", "coverage", "of real"]]
        for d in self.diversity:
            numbers = [d.vendi, d.real_vendi, d.density, d.real_density, d.coverage, d.real_coverage]
            rows.append([d.modality, *(f"{x:.1f}" for x in numbers[:2]), *(f"{x:.2f}" for x in numbers[2:])])
        return rows

    def gaps(self) -> list[str]:
        """A line for each two modalities of one space."""
        return [
            f"modality gap of {pair}: {small:.3f}, of the data {real:.3f}" for pair, (small, real) in self.gap.items()
        ]


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.4f}" if values else "-"
