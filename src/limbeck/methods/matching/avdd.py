"""AVDD: matches means under random networks, within and across the modalities."""

from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.constraints import Count, NotNegative
from limbeck.core import Problem, Synthetic
from limbeck.data.augment import siamese
from limbeck.data.batch import Batch
from limbeck.methods.matching._means import MeanMatching
from limbeck.networks.convnet import ConvNet
from limbeck.objectives.moments import group_mean
from limbeck.objectives.pairing import avdd_distance
from limbeck.objectives.selection import Init
from limbeck.spaces.preprocess import resize

__all__ = ["AVDD"]


@dataclass(frozen=True)
class AVDD(MeanMatching):
    """Matches means of every modality, of the sum and of the difference of every two, under new random ConvNets at every step.

        L = sum_c sum_m |d_m|^2 + sum_(m < n) icm |d_m + d_n|^2 + cgm |d_m - d_n|^2,    d_m = mean f_m(x_m) - mean f_m(s_m)

    for each class c: implicit cross-matching and cross-modal gap matching. By the parallelogram law equal weights give `dm` times a
    constant, 21 for the published 10 and 10 and two modalities, and whatever the weights, means know nothing of the pairing.
    It is here because it is published, as a baseline.

    Images, depth maps and spectrograms (anything of one or three channels) pass a random ConvNet each, resized to a square; what
    has no such form (text, vectors) is compared by its frozen embedding, of which the real side is computed once. Without labels
    (or with `per_class` off) there is one class of all.

    Args:
        steps: number of steps.
        icm: weight of implicit cross-matching.
        cgm: weight of cross-modal gap matching.
        batch: real samples a class and step.
        lr: learning rate (SGD), in units of the range of a modality; a twentieth of dm's, as the loss is 21 times as large.
        lr_text: learning rate of the text embeddings.
        momentum: of both.
        width: channels of the random ConvNets.
        init: which real pairs to start from: random, herding, kcenter, prototypes or kmeans.
        augment: Siamese operations to draw from, for images alone; empty for none.
        per_class: match class by class; by default where the source is labelled and has no text.

    Paper: Kushwaha et al., Audio-visual dataset distillation, TMLR 2024.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> len(lb.distill(problem, AVDD(steps=2, width=8)))
        4
    """

    icm: NotNegative = 10.0
    cgm: NotNegative = 10.0
    batch: Count = 128
    lr: NotNegative = 0.05
    lr_text: NotNegative = 0.005
    init: Init = "herding"

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | Tensor]:
        """New networks, one augmentation, the distances of means."""
        index, real, own = problem.draw_groups(self.batch, t, len(synthetic), self.per_class)
        groups = int(own[-1]) + 1
        means = {}
        for m in problem.modalities:
            features = self._pictures if _pictured(synthetic.value(m)) else self._embeddings
            x, y = features(problem, synthetic, m, index, t)
            means[m] = [group_mean(z, group.to(z.device), groups) for z, group in ((x, real), (y, own))]
        loss = torch.zeros((), device=problem.device)
        for g in range(groups):
            of_real, of_own = ([pair[side][g] for pair in means.values()] for side in (0, 1))
            loss = loss + avdd_distance(of_real, of_own, self.icm, self.cgm)
        loss.backward()
        base = {m: (x - y).detach().square().sum() for m, (x, y) in means.items()}
        return {"loss": loss.detach(), **base}

    def _pictures(self, problem: Problem, synthetic: Synthetic, m: str, index: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Features of real and synthetic values under a random network."""
        kind, values = problem.source.modalities[m], synthetic.value(m)
        side = max(min(values.shape[-2:]), 8)
        network = ConvNet(side, width=self.width, generator=problem.rng(f"network {m}", t)).to(values.device)
        both = [problem.source.batch(index)[m].to(values.device), values]
        if m == "image":
            both = siamese(both, problem.rng("augment", t), self.augment)
        scaled = (resize((x - kind.low) / max(kind.high - kind.low, 1e-6), (side, side)) for x in both)
        real, own = (x.expand(-1, 3, -1, -1) for x in scaled)
        with torch.no_grad():
            target = network(real)
        return target, network(own)

    def _embeddings(
        self, problem: Problem, synthetic: Synthetic, m: str, index: Tensor, t: int
    ) -> tuple[Tensor, Tensor]:
        """Frozen embeddings of real and synthetic values."""
        rows = problem.index.first[m][index]
        own = problem.space.embed(Batch({m: synthetic.value(m)}))[m]
        return problem.features[m].vectors[rows].to(problem.device), own


def _pictured(value: Tensor) -> bool:
    return value.ndim == 4 and value.shape[1] in (1, 3)
