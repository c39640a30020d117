"""Targets of distribution matching: characteristic functions of the real data at banked or new frequencies, or kernels."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from limbeck.constraints import OnlyIf
from limbeck.core.encode import encode
from limbeck.core.problem import Problem
from limbeck.core.synthetic import Synthetic
from limbeck.data.pairs import PairIndex
from limbeck.errors import LimbeckWarning
from limbeck.methods.matching._views import Views, spread
from limbeck.objectives.characteristic import (
    characteristic,
    gaussian_kernel,
    joint_characteristic,
    joint_kernel,
    keep_blocks,
    kernel_distance,
    square_distance,
)
from limbeck.objectives.pairing import pair_sum

__all__ = ["JOINT", "UNBANKED", "CharacteristicTargets", "Group", "MatchingStep", "pair_name"]

UNBANKED = OnlyIf(
    lambda o: not (o.frequencies and o.bank), "a frequency bank is used (`bank={o.bank}`)", "set `bank=0`"
)
JOINT, KEPT = "joint", "kept blocks"
ROWS = 1024  # real vectors that are projected at a time
FEW = 256  # real samples of a group that show how large its characteristic function is

Vectors = Mapping[str, Tensor]  # modality to vectors [n, D_m], or name of a term to what belongs to it
Distance = Callable[[Tensor, Tensor], Tensor]


def pair_name(a: str, b: str) -> str:
    """The name of the term of two modalities."""
    return f"{a}+{b}"


class Group(NamedTuple):
    """What is compared with each other: a class, or all.

    Args:
        number: of the group.
        among: `int64`, its real pairs, among those that hold the modalities of the look.
        own: modality to the vectors of its synthetic samples, divided by their `spread`.
        label: the class, or `None` for all.
    """

    number: int
    among: Tensor
    own: Vectors
    label: int | None = None


@dataclass(frozen=True)
class CharacteristicTargets:
    """Which characteristic functions of a group of embeddings are compared, at which frequencies, and those of the real data there.

    There is one for each modality, and where asked for one for the sum of every two (`pair_sum`) and one for all together. Embeddings are unit
    vectors divided by the median distance between real ones, so that a frequency of size one means the same in every modality.

    With a bank the frequencies are drawn once, and a real function at them is computed once, over all real pairs of the group; a step
    then never looks at a real sample.

    Args:
        frequencies: K; 0 takes the closed form of infinitely many, which reads real pairs at every step.
        bank: sets of K frequencies that are used in turn; 0 draws K anew at each step.
        batch: real pairs a group and step, at most, where there is no bank.
        views: augmentations of the real data.
        scale: standard deviation of the frequencies.
        drop: probability that a block of a joint frequency is zero.
        cross: whether sums of two modalities are compared.
        joint: whether all modalities together are.
    """

    frequencies: int
    bank: int
    batch: int
    views: Views
    scale: float = 1.0
    drop: float = 0.0
    cross: bool = False
    joint: bool = False

    def at(self, problem: Problem, t: int) -> "MatchingStep":
        """What step t compares."""
        return MatchingStep(self, problem, t, self.views.at(problem, t), self.freqs(problem, t), problem.modalities)

    def alone(self, modalities: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...], "CharacteristicTargets"]]:
        """Each term by itself: its name, the modalities that it reads, and targets that hold it (and, of `cross`, those of its modalities)."""
        for m in modalities:
            yield m, (m,), replace(self, cross=False, joint=False)
        for a, b in combinations(modalities, 2) if self.cross else ():
            yield pair_name(a, b), (a, b), replace(self, joint=False)
        if self.joint and len(modalities) > 1:
            yield JOINT, modalities, replace(self, cross=False)

    def freqs(self, problem: Problem, t: int) -> dict[str, Tensor]:
        """The frequencies of step t: a block `[D, K]` a modality and pair; a pair shares that of its wider modality."""
        if not self.frequencies:
            return {}
        if not self.bank:
            return self._draw(problem, "frequencies", t)
        bank_index = t % self.bank
        key = ("waves", self.frequencies, self.scale, self.drop, self.cross, bank_index)
        return problem.once(key, lambda: self._draw(problem, "bank", bank_index))

    def warn_of_noise(self, problem: Problem, pairs: int, per_class: bool | None) -> None:
        """Warns where frequencies are so high that real functions vanish there, and only the noise 1 / n of n samples is left.

        The mean of |Phi|^2 over frequencies is the mean kernel between two real samples. Below a tenth of 1 / n, averaged over
        the groups, a distance cannot fall below 1 / n and steps follow noise.

        Args:
            problem: whose real data.
            pairs, per_class: see `Problem.groups`.
        """
        matching, whole, shares = self.at(problem, 0), JOINT if self.joint and len(problem.modalities) > 1 else None, []
        for g, (among, count) in enumerate(problem.groups(pairs, per_class)):
            some = among[torch.randperm(len(among), generator=problem.rng(f"noise {g}"))[:FEW]]
            parts, n = self.parts(matching.vectors(some)), len(some)
            kernels = self.kernels(parts, parts, problem.modalities)
            kernel = kernels[whole] if whole else torch.stack([*kernels.values()]).amin(0)
            if n > 1:
                shares.append(float(kernel.sum() - n) / (n * (n - 1)) * count)
        if shares and sum(shares) / len(shares) < 0.1:
            warnings.warn(
                f"at scale = {self.scale:g} the characteristic functions of {' + '.join(problem.modalities)} vanish at nearly all frequencies, and "
                f"steps would follow the noise of {pairs} samples; lower scale, or match fewer modalities at a time",
                LimbeckWarning,
                stacklevel=3,
            )

    def of(self, vectors: Vectors, freqs: Vectors) -> dict[str, Tensor]:
        """The characteristic functions `complex [K]` of some vectors: one projection a modality and pair, none for the joint.

        Args:
            vectors: modality to `[n, D_m]`.
            waves: the frequencies, see `waves`.
        """
        projections = {name: value @ freqs[name] for name, value in self.parts(vectors).items()}
        targets = {name: characteristic(p) for name, p in projections.items()}
        if self.joint and len(vectors) > 1:
            blocks = torch.stack([projections[m] for m in vectors])
            targets[JOINT] = joint_characteristic([*(blocks * freqs[KEPT][:, None] if self.drop else blocks)])
        return targets

    def kernels(self, x: Vectors, y: Vectors, modalities: tuple[str, ...]) -> dict[str, Tensor]:
        """The kernel matrices `[n, m]` that belong to the same functions; the joint one is a product.

        Args:
            x: what `parts` gave of one set.
            y: of another.
            modalities: which of the parts are modalities.
        """
        kernels = {name: gaussian_kernel(z, y[name], self.scale) for name, z in x.items()}
        if self.joint and len(modalities) > 1:
            kernels[JOINT] = joint_kernel([kernels[m] for m in modalities], self.drop)
        return kernels

    def parts(self, vectors: Vectors) -> dict[str, Tensor]:
        """The vectors of each modality, and where `cross` is set the sums of every two."""
        pairs = combinations(vectors, 2) if self.cross else ()
        return {**vectors, **{pair_name(a, b): pair_sum(vectors[a], vectors[b]) for a, b in pairs}}

    def _draw(self, problem: Problem, purpose: str, t: int) -> dict[str, Tensor]:
        drawn, k = problem.rng(purpose, t), self.frequencies
        widths = {m: problem.space.dims[m] for m in problem.modalities}
        freqs = {m: (self.scale * torch.randn(d, k, generator=drawn)).to(problem.device) for m, d in widths.items()}
        if self.cross:
            pairs = list(combinations(widths, 2))
            freqs |= {pair_name(a, b): freqs[max(a, b, key=widths.__getitem__)] for a, b in pairs}
        if self.drop:
            freqs[KEPT] = keep_blocks(len(widths), k, self.drop, drawn).to(freqs[problem.modalities[0]])
        return freqs


@dataclass(frozen=True)
class MatchingStep:
    """What one step compares: targets at the frequencies and under the augmentation of that step.

    Args:
        targets: which functions, and how.
        problem: whose real data.
        t: step.
        view: which augmentation of the data.
        waves: the frequencies; none for the closed form.
        modalities: which are compared.
    """

    targets: CharacteristicTargets
    problem: Problem
    t: int
    view: int
    freqs: Vectors
    modalities: tuple[str, ...]

    def groups(self, synthetic: Synthetic, per_class: bool | None) -> Iterator[Group]:
        """Encodes the synthetic set once, and takes it apart; what a group holds depends on its own samples alone.

        Args:
            synthetic: the set.
            per_class: see `Problem.groups`.
        """
        vectors = encode(self.problem.space, synthetic, moved=self.targets.views.move(self.problem, self.view))
        small = {m: vectors[m] / spread(self.problem, m) for m in self.problem.modalities}
        labels = self.problem.source.labels if self.problem.by_class(per_class) else None
        start = 0
        for g, (among, count) in enumerate(self.problem.groups(len(synthetic), per_class)):
            label = None if labels is None else int(labels[self.problem.candidates.sample[among[0]]])
            yield Group(g, among, {m: z[start : start + count] for m, z in small.items()}, label)
            start += count

    def terms(self, group: Group, distance: Distance = square_distance) -> dict[str, Tensor]:
        """The distance of each function of the synthetic samples of a group to that of its real ones.

        A real sample that misses a modality counts in every function that does not ask for it.

        Args:
            group: which.
            distance: of two functions; not read by the closed form.
        """
        if len(self.problem.complete) == len(self.problem.source):
            return self._terms(group, distance)
        terms = {}
        for name, modalities, targets in self.targets.alone(self.modalities):
            own = {m: group.own[m] for m in modalities}
            matching = replace(self, targets=targets, modalities=modalities)
            terms[name] = matching._terms(group._replace(among=matching._among(group.label), own=own), distance)[name]
        return terms

    def vectors(self, among: Tensor) -> dict[str, Tensor]:
        """Real vectors of some pairs that hold the modalities, divided by their `spread`: modality to `[n, D_m]`."""
        rows, views = self._pairs.rows, self.targets.views
        return {
            m: views.vectors(self.problem, m, self.view)[rows[m][among]] / spread(self.problem, m)
            for m in self.modalities
        }

    @property
    def _pairs(self) -> PairIndex:
        return self.problem.once(("aligned", self.modalities), lambda: self.problem.index.aligned(self.modalities))

    def _among(self, label: int | None) -> Tensor:
        """The real pairs of a class."""
        labels, sample = self.problem.source.labels, self._pairs.sample
        if label is None or labels is None:
            return torch.arange(len(sample))
        return (labels[sample] == label).nonzero().squeeze(1)

    def _terms(self, group: Group, distance: Distance) -> dict[str, Tensor]:
        """Those of pairs that hold all of the look's modalities."""
        if not self.targets.frequencies:
            return self._by_kernel(group)
        real = self._real(group)
        return {name: distance(cf, real[name]) for name, cf in self.targets.of(group.own, self.freqs).items()}

    def _real(self, group: Group) -> dict[str, Tensor]:
        """Of all real pairs and once for a bank, else of a batch."""
        if not self.targets.bank:
            return self._mean_cf(self._drawn(group, self.t))
        bank_index = self.t % self.targets.bank
        key = (self.targets, self.modalities, "real", bank_index, group.number, len(group.among), self.view)
        return self.problem.once(key, lambda: self._mean_cf(group.among))

    @torch.no_grad()
    def _mean_cf(self, among: Tensor) -> dict[str, Tensor]:
        total: dict[str, Tensor] = {}
        for rows in among.split(ROWS):
            for name, cf in self.targets.of(self.vectors(rows), self.freqs).items():
                total[name] = total.get(name, torch.zeros_like(cf)) + cf * (len(rows) / len(among))
        return total

    def _drawn(self, group: Group, t: int) -> Tensor:
        if len(group.among) <= self.targets.batch:
            return group.among
        order = torch.randperm(len(group.among), generator=self.problem.rng(f"real {group.number}", t))
        return group.among[order[: self.targets.batch]]

    def _by_kernel(self, group: Group) -> dict[str, Tensor]:
        targets, modalities = self.targets, self.modalities
        key = (targets, modalities, group.number, len(group.among), self.view)
        if len(group.among) <= targets.batch:
            real = self.problem.once((*key, "parts"), lambda: targets.parts(self.vectors(group.among)))
        else:
            real = targets.parts(self.vectors(self._drawn(group, self.t)))
        within = self.problem.once((*key, "within"), lambda: self._within(self._drawn(group, 0)))
        mine = targets.parts(group.own)
        cross = targets.kernels(mine, real, modalities)
        return {n: kernel_distance(k, cross[n], within[n]) for n, k in targets.kernels(mine, mine, modalities).items()}

    @torch.no_grad()
    def _within(self, drawn: Tensor) -> dict[str, Tensor]:
        """The mean kernel within a real group: a constant, so one draw stands for all."""
        parts, sums = self.targets.parts(self.vectors(drawn)), dict[str, Tensor]()
        for rows in torch.arange(len(drawn)).split(ROWS):
            some = {name: z[rows.to(z.device)] for name, z in parts.items()}
            for name, k in self.targets.kernels(some, parts, self.modalities).items():
                sums[name] = sums.get(name, k.new_zeros(())) + k.sum() / len(drawn) ** 2
        return sums
