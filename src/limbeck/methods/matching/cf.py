"""CF: matches characteristic functions of image, text and joint embeddings, with cached real features."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from limbeck.constraints import Ge, NotNegative
from limbeck.core import Problem, Synthetic, encode, whitened, whitening_of
from limbeck.methods.matching._learned_pairs import LearnedPairs
from limbeck.objectives.characteristic import (
    characteristic,
    dependence,
    dependence_product,
    gaussian_kernel,
    square_distance,
)

__all__ = ["CF"]

Vectors = Mapping[str, Tensor]  # modality to whitened embeddings [n, D_m]


@dataclass(frozen=True)
class CF(LearnedPairs):
    """Matches the law of synthetic embeddings to that of the real ones: each modality alone, and the tie between them.

        L = uni * sum_m |Phi_syn,m - Phi_real,m|^2 / u_m  +  tie * (1 - <Psi_syn, Psi_real> / (|Psi_syn| |Psi_real|))

    Phi_m is the characteristic function of modality m, Psi the joint one less the product of the marginal ones; products and
    norms are means over Gaussian frequencies; u_m is the spread of the real embeddings. Marginals and Psi together fix the
    joint law. Split up, the tie between the modalities, which is small, is not drowned by the marginals, which no small set
    can match well; and its direction is matched rather than its size, which a small set always overstates: the shortest way
    to the right size is to collapse the set.

    Embeddings are those of a frozen space, whitened with a ridge. Real samples are encoded once; a step only encodes the
    synthetic ones.

    Args:
        steps: number of steps.
        batch: real pairs a step, at most, out of the cached features.
        frequencies: K, frequencies drawn anew at each step; 0 takes the closed form of infinitely many.
        scale: standard deviation of the frequencies; the whitened embeddings have a mean square of one.
        ridge: of the whitening, in units of the mean variance.
        uni: weight of the marginal terms.
        tie: weight of the dependence between the modalities.
        lr: learning rate of the pixels (Adam). Larger ones make images that no other encoder can read.
        lr_text: learning rate of the text embeddings (Adam).
        lr_other: learning rate of sound, depth and vectors (Adam).
        init: which real pairs to start from: random, herding, kcenter or prototypes.
        per_class: match class by class; by default where the source is labelled and has no text.

    Paper: ImageBindDC, arXiv 2511.08263, for matching characteristic functions of a unified space; the dependence term and the
    closed form are ours.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> len(lb.distill(problem, CF(steps=2)))
        4
    """

    pools = "drawn"

    batch: Annotated[int, Ge(2)] = 4096
    frequencies: Annotated[int, Ge(0)] = 0
    scale: Annotated[float, Ge(1e-6)] = 0.3
    ridge: NotNegative = 2.0
    uni: NotNegative = 1.0
    tie: NotNegative = 1.0
    lr: NotNegative = 0.002
    lr_text: NotNegative = 0.01
    lr_other: NotNegative = 0.05

    def lr_schedule(self, t: int) -> float:
        """Cosine decay to zero."""
        return self.cosine(t)

    def optimizer(self, synthetic: Synthetic) -> Optimizer:
        """Adam, a learning rate for each modality."""
        rates = {"image": self.lr, "text": self.lr_text}
        return Adam([{"params": [v], "lr": rates.get(m, self.lr_other)} for m, v in synthetic.learned.items()])

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | Tensor]:
        """Encodes the synthetic samples, and compares them with a batch of the cached real features, group by group."""
        embedded = encode(problem.space, synthetic)
        small = {m: whitening_of(problem, m, self.ridge)(embedded[m]) for m in problem.modalities}
        groups = problem.groups(len(synthetic), self.per_class)
        terms: dict[str, Tensor] = {}
        start = 0
        for g, (among, count) in enumerate(groups):
            own = {m: z[start : start + count] for m, z in small.items()}
            start += count
            order = torch.randperm(len(among), generator=problem.rng(f"real {g}", t))[: self.batch]
            real = self._real(problem, among[order])
            scales = problem.once((self, "scales", g), partial(self._scales, problem, among, g))
            for name, value in self._compare(problem, own, real, scales, t).items():
                terms[name] = terms.get(name, torch.zeros((), device=problem.device)) + value / len(groups)
        loss = sum(((self.tie if name == "tie" else self.uni) * v for name, v in terms.items()), torch.zeros(()))
        loss.backward()
        return {"loss": loss.detach(), **{name: value.detach() for name, value in terms.items()}}

    def _compare(
        self, problem: Problem, own: Vectors, real: Vectors, scales: Mapping[str, float], t: int
    ) -> dict[str, Tensor]:
        """The relative squared distance of each marginal and, for several modalities, of the dependence."""
        if self.frequencies:
            rng = problem.rng("frequencies", t)
            waves = {
                m: self.scale * torch.randn(z.shape[1], self.frequencies, generator=rng).to(z) for m, z in own.items()
            }
            a, b = ({m: z[m] @ waves[m] for m in waves} for z in (own, real))
            terms = {m: square_distance(characteristic(a[m]), characteristic(b[m])) / scales[m] for m in own}
            if len(own) > 1:
                psi, target = dependence(list(a.values())), dependence(list(b.values()))
                terms["tie"] = 1 - torch.linalg.vecdot(target, psi).real / (psi.norm() * target.norm())
            return terms
        ss = {m: gaussian_kernel(z, z, self.scale) for m, z in own.items()}
        st = {m: gaussian_kernel(z, real[m], self.scale) for m, z in own.items()}
        terms = {m: (ss[m].mean() - 2 * st[m].mean() + 1 - scales[m]) / scales[m] for m in own}
        if len(own) > 1:
            size = dependence_product(list(ss.values())).clamp(min=1e-12) * scales["tie"]
            terms["tie"] = 1 - dependence_product(list(st.values())) / size.sqrt()
        return terms

    def _scales(self, problem: Problem, among: Tensor, g: int) -> dict[str, float]:
        """How large each term is for the real data: spread of each modality, square norm of the dependence.

        Taken between two disjoint halves of a draw, which leaves out the bias of a sample compared with itself.
        """
        order = among[torch.randperm(len(among), generator=problem.rng("scales", g))[:8192]]
        half = max(len(order) // 2, 1)
        a, b = self._real(problem, order[:half]), self._real(problem, order[half:] if len(order) > 1 else order)
        kernels = {m: gaussian_kernel(a[m], b[m], self.scale) for m in a}
        scales = {m: max(1 - float(k.mean()), 1e-6) for m, k in kernels.items()}
        tie = float(dependence_product(list(kernels.values())))
        own = float(dependence_product([gaussian_kernel(z, z, self.scale) for z in a.values()]))
        return scales | {"tie": max(tie, 0.1 * own, 1e-12)}  # few samples: the halves' estimate may be near 0 or below

    def _real(self, problem: Problem, among: Tensor) -> dict[str, Tensor]:
        """Whitened embeddings of the candidates at `among`."""
        return {m: whitened(problem, m, self.ridge)[problem.candidates.rows[m][among]] for m in problem.modalities}
