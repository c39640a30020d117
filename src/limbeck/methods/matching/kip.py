"""KIP: kernel inducing pairs; a student in closed form on the set must find real texts by real images."""

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam, Optimizer

from limbeck.constraints import Count, Ge, NotNegative
from limbeck.core import Method, Problem, Synthetic, chosen_pairs, encode, select
from limbeck.objectives.contrastive import infonce
from limbeck.objectives.kernel import ridge_tower
from limbeck.objectives.selection import Init, random, rule

__all__ = ["KIP"]


@dataclass(frozen=True)
class KIP(Method):
    """Learns the pairs from which kernel ridge regression predicts real pairs best: two levels, and no inner loop.

        L = InfoNCE(s),   s_ij = cos(f(image_i), g(text_j)) / temperature   on a batch of real pairs
        f(x) = (K + ridge tr(K)/M I)^-1 k(x)   with K, k the kernel among the synthetic images, and of them with x; g likewise

    Each tower is a kernel ridge regression onto the M synthetic samples, so f(x) and g(y) have M components; an image and a text match
    where both are similar to the same synthetic pairs. Encoders are frozen: real embeddings are computed once, and a step
    encodes the synthetic images only.

    Args:
        steps: number of steps.
        batch: real pairs a step, of different samples.
        ridge: of the towers, in units of the mean variance of the set's components.
        temperature: of the softmax.
        lr: learning rate of the pixels (Adam).
        lr_text: learning rate of the text embeddings (Adam).
        init: which real pairs to start from: random, herding, kcenter or prototypes.

    Paper: Nguyen, Chen and Lee, Dataset meta-learning from kernel ridge-regression, ICLR 2021; its form for pairs is ours.

    Example:
        >>> import limbeck as lb
        >>> space = lb.space(image="convnet", text="bag_of_words")
        >>> len(lb.distill(lb.Problem(lb.check.toy_source(), space, lb.Budget(pairs=4)), KIP(steps=2)))
        4
    """

    needs = ("image", "text")
    pools = "drawn"

    steps: Count = 100
    batch: Annotated[int, Ge(2)] = 512
    ridge: Annotated[float, Ge(1e-6)] = 1.0
    temperature: Annotated[float, Ge(1e-6)] = 0.07
    lr: NotNegative = 0.01
    lr_text: NotNegative = 0.01
    init: Init = "random"

    @property
    def learns_text(self) -> bool:
        """Text is an embedding."""
        return True

    def lr_schedule(self, t: int) -> float:
        """Cosine decay to zero."""
        return self.cosine(t)

    def start(self, problem: Problem) -> Synthetic:
        """Real pairs, both of whose modalities are learned."""
        chosen = select(problem, rule(self.init), problem.pairs(learned_text=True), per_class=False)
        return chosen_pairs(problem, chosen, learn=self.needs)

    def optimizer(self, synthetic: Synthetic) -> Optimizer:
        """Adam, a learning rate for each modality."""
        rates = {"image": self.lr, "text": self.lr_text}
        return Adam([{"params": [v], "lr": rates[m]} for m, v in synthetic.learned.items()])

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | Tensor]:
        """Fits the towers to the synthetic set, and reads them at a batch of cached real features."""
        own = encode(problem.space, synthetic)
        pairs = problem.candidates
        chosen = random([], pairs.sample, self.batch, problem.rng("real", t))
        towers = {}
        for m in self.needs:
            real = problem.features[m].vectors[pairs.rows[m][chosen]].to(problem.device)
            towers[m] = F.normalize(ridge_tower(own[m], real, self.ridge), dim=1)
        loss = infonce(towers["image"] @ towers["text"].T / self.temperature)
        loss.backward()
        return {"loss": loss.detach()}
