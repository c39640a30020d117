"""CF: characteristic-function matching of image, text and joint embeddings, with cached real features."""

from dataclasses import dataclass
from math import cos, pi

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from limbeck.core import Method, Problem, Synthetic, chosen_pairs, select
from limbeck.objectives.characteristic import characteristic, characteristic_distance
from limbeck.objectives.selection import RULES
from limbeck.objectives.whitening import Whitening, whitening

__all__ = ["CF"]


@dataclass(frozen=True)
class CF(Method):
    """Matches the law of synthetic embeddings to that of all real ones: each modality alone, and all jointly.

        L = sum_m  E_t | Phi_real,m(t_m) - Phi_syn,m(t_m) |^2  +  joint * E_t | Phi_real(t) - Phi_syn(t) |^2
        Phi(t) = mean_i exp(i sum_m <t_m, z_m,i>)

    z are embeddings of a frozen space, whitened with a ridge so that the directions which tell samples apart weigh as much
    as the few that all share. Real samples are encoded once; their characteristic functions at `banks` sets of frequencies
    are computed once over *all* real pairs, so a step only encodes the synthetic samples. The joint term is what keeps the
    tie between the modalities; the marginal terms alone do not see it.

    Args:
        steps: number of steps.
        frequencies: K, frequencies a step.
        banks: how many sets of frequencies take turns.
        scale: standard deviation of the frequencies, in units of the inverse root mean square of the whitened embeddings.
        ridge: of the whitening, in units of the mean variance.
        uni: weight of the marginal terms.
        joint: weight of the joint term.
        lr: learning rate of the pixels (Adam).
        lr_text: learning rate of the text embeddings (Adam).
        init: which real pairs to start from: random, herding, kcenter or prototypes.
        per_class: match class by class; by default where the source is labelled and has no text.

    Paper: ImageBindDC, arXiv 2511.08263; the squared form with shared frequencies for all terms is ours.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> len(lb.distill(problem, CF(steps=2, frequencies=64)))
        4
    """

    steps: int = 300
    frequencies: int = 2048
    banks: int = 8
    scale: float = 1.0
    ridge: float = 1.0
    uni: float = 1.0
    joint: float = 1.0
    lr: float = 0.01
    lr_text: float = 0.01
    init: str = "herding"
    per_class: bool | None = None

    @property
    def learns_text(self) -> bool:
        """Text is an embedding."""
        return True

    def rate(self, t: int) -> float:
        """Cosine decay to zero."""
        return (1 + cos(pi * t / self.steps)) / 2

    def start(self, problem: Problem) -> Synthetic:
        """Real pairs, all of whose modalities are learned."""
        chosen = select(problem, RULES[self.init], problem.pairs(learned_text=True), self.per_class)
        return chosen_pairs(problem, chosen, learn=problem.modalities)

    def optimizer(self, synthetic: Synthetic) -> Optimizer:
        """Adam, a learning rate for each modality."""
        rates = {"image": self.lr, "text": self.lr_text}
        return Adam([{"params": [v], "lr": rates[m]} for m, v in synthetic.learned.items()])

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | Tensor]:
        """Encodes the synthetic samples, compares their characteristic functions with the cached real ones."""
        bank = t % self.banks
        basis, real = problem.once((self, bank), lambda: self._real(problem, bank, len(synthetic)))
        group = problem.once((self, "group"), lambda: self._groups_of(problem, len(synthetic)))
        vectors = problem.space.embed(synthetic.batch())
        projections = {m: vectors[m] @ basis[m][0] - basis[m][1] for m in basis}
        logs: dict[str, float | Tensor] = {}
        loss = torch.zeros((), device=problem.device)
        for name, projection in _terms(projections).items():
            weight = self.joint if name == "joint" else self.uni
            logs[name] = characteristic_distance(characteristic(projection, group, len(real[name])), real[name])
            loss = loss + weight * logs[name]
        loss.backward()
        return {"loss": loss, **logs}

    def _real(self, problem: Problem, bank: int, pairs: int) -> tuple[dict[str, tuple[Tensor, Tensor]], dict[str, Tensor]]:
        """Frequencies folded into the whitening, and the characteristic functions of all real pairs at them."""
        generator = problem.rng("frequencies", bank)
        basis = {}
        for m in problem.modalities:
            white = _whitening(problem, m, self.ridge)
            t = white.matrix @ torch.randn(len(white.mean), self.frequencies, generator=generator) * self.scale
            basis[m] = (t, white.mean @ t)
        groups = [_characteristics(problem, among, basis) for among, _ in problem.groups(pairs, self.per_class)]
        real = {name: torch.cat([group[name] for group in groups]).to(problem.device) for name in groups[0]}
        return {m: (t.to(problem.device), shift.to(problem.device)) for m, (t, shift) in basis.items()}, real

    def _groups_of(self, problem: Problem, pairs: int) -> Tensor:
        shares = [share for _, share in problem.groups(pairs, self.per_class)]
        return torch.arange(len(shares)).repeat_interleave(torch.tensor(shares)).to(problem.device)


def _terms(projections: dict[str, Tensor]) -> dict[str, Tensor]:
    """The projections of the marginal terms and, where there are several modalities, of the joint one."""
    joint = {"joint": torch.stack(list(projections.values())).sum(0)} if len(projections) > 1 else {}
    return {**projections, **joint}


def _whitening(problem: Problem, modality: str, ridge: float) -> Whitening:
    rows = problem.candidates.rows[modality].unique()
    return problem.once(("whitening", modality, ridge), lambda: whitening(problem.features[modality].vectors[rows], ridge))


def _characteristics(
    problem: Problem, among: Tensor, basis: dict[str, tuple[Tensor, Tensor]], chunk: int = 4096
) -> dict[str, Tensor]:
    """The characteristic functions of the candidates at `among`: `[1, K, 2]` a term, a chunk of candidates at a time."""
    total: dict[str, Tensor] = {}
    for part in among.split(chunk):
        projections = {}
        for m, (t, shift) in basis.items():
            rows, position = problem.candidates.rows[m][part].unique(return_inverse=True)
            projections[m] = (problem.features[m].vectors[rows] @ t - shift)[position]
        for name, projection in _terms(projections).items():
            waves = characteristic(projection) * (len(part) / len(among))
            total[name] = total[name] + waves if name in total else waves
    return total
