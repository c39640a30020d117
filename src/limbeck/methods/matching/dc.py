"""DC: matches the gradients that real and synthetic images of a class give to a classifier."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from limbeck.constraints import Count, Ge, NotNegative
from limbeck.core import Method, Problem, Synthetic, learned_pairs
from limbeck.data.augment import OPERATIONS, Augment, siamese
from limbeck.errors import DataError
from limbeck.methods.matching._classifier import InnerClassifier
from limbeck.objectives.selection import Init, rule

__all__ = ["DC"]


@dataclass(frozen=True)
class DC(Method):
    """Matches the gradient that images of a class give to a classifier, which is trained on the set meanwhile.

        L = sum_c D( grad_w CE(f_w(A(x_c)), c), grad_w CE(f_w(A(s_c)), c) ),     D: see `limbeck.objectives.gradient`

    A classifier starts from random weights, serves `renew` steps, between which it is trained for `inner` epochs on the set as
    it then is, and is replaced. A is one Siamese augmentation a class and step; with it the method is known as DSA.

    Args:
        steps: updates of the images.
        renew: steps that a classifier serves; by default as published, as many as there are images a class, at most 50.
        inner: epochs of its training between two steps; by default as published: 1 for one image a class, else 500 / renew.
        batch: real images a class and step.
        lr: learning rate of the pixels (SGD).
        momentum: of the same.
        lr_network: learning rate of the classifier.
        width: channels of its ConvNet.
        init: which real images to start from: random, herding, kcenter, prototypes or kmeans.
        augment: Siamese operations to draw from; empty for none.

    Paper: Zhao, Mopuri and Bilen, Dataset condensation with gradient matching, ICLR 2021; with augmentation: Zhao and Bilen,
    ICML 2021.

    Example:
        >>> import limbeck as lb
        >>> source = lb.check.toy_source(modalities=("image", "label"))
        >>> problem = lb.Problem(source, lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> len(lb.distill(problem, DC(steps=2, width=8)))
        4
    """

    needs = ("image",)
    per_class: ClassVar[bool] = True
    again = False

    steps: Count = 1000
    renew: Count | None = None
    inner: Annotated[int, Ge(0)] | None = None
    batch: Count = 256
    lr: NotNegative = 0.1
    momentum: NotNegative = 0.5
    lr_network: NotNegative = 0.01
    width: Count = 128
    init: Init = "random"
    augment: Augment = tuple(OPERATIONS)

    def check(self, problem: Problem) -> None:
        """Refuses data without labels, and modalities that it would leave as they were."""
        if problem.source.labels is None:
            raise DataError(
                f"dc matches gradients of a classifier, and {problem.source.name} has no labels; use cf or dm"
            )
        super().check(problem)
        self.refuse_others(problem, {"image": "images"})

    def start(self, problem: Problem) -> Synthetic:
        """Real images, all learned, and the weights of the classifier."""
        synthetic = learned_pairs(problem, rule(self.init), per_class=True)
        self._classifier(problem).start(synthetic)
        return synthetic

    def optimizer(self, synthetic: Synthetic) -> Optimizer:
        """Stochastic gradient descent with momentum."""
        return SGD([synthetic.learned["image"]], lr=self.lr, momentum=self.momentum)

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | Tensor]:
        """The classifier of this step, then the distance of gradients class by class."""
        index, real, own = problem.draw_groups(self.batch, t, len(synthetic), per_class=True)
        own = own.to(problem.device)
        trainee = self._classifier(problem)
        renew, inner = self._published(len(synthetic), int(own[-1]) + 1)
        weights = trainee.at(synthetic, t, renew, inner)
        images, labels = synthetic.value("image"), synthetic.labels
        assert labels is not None
        total = torch.zeros((), device=problem.device)
        for g in range(int(own[-1]) + 1):
            here = (own == g).nonzero().squeeze(1)
            label = int(labels[here[0]])
            batch = problem.source.batch(index[real == g])["image"].to(problem.device)
            seen, mine = siamese([batch, images[here]], problem.rng(f"augment {g}", t), self.augment)
            loss = trainee.distance(weights, label, seen, mine)
            loss.backward()
            total = total + loss.detach()
        return {"loss": total}

    def _published(self, pairs: int, classes: int) -> tuple[int, int]:
        """How many steps a classifier serves, and the epochs between two of them."""
        each = max(1, min(50, round(pairs / classes)))
        renew = each if self.renew is None else self.renew
        return renew, (1 if renew == 1 else round(500 / renew)) if self.inner is None else self.inner

    def _classifier(self, problem: Problem) -> InnerClassifier:
        return InnerClassifier(problem, self.width, self.lr_network, augment=self.augment)
