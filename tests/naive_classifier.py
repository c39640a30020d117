"""A classifier that is trained on a set by hand: random weights by name of a stream, SGD with momentum and decay, gradients of a class."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

import naive
from limbeck.core import Problem
from limbeck.data.augment import siamese
from limbeck.networks.convnet import ConvNet

__all__ = ["Classifier"]


class Classifier:
    """A ConvNet with a linear layer, `softmax(W [v ; c] + b)`; every draw is of the stream that the method names.

    Args:
        problem: whose classes and streams.
        width: channels of the ConvNet.
        rate: learning rate.
        augment: Siamese operations of its training.
        captions: components of the captions beside the image features.
    """

    def __init__(self, problem: Problem, width: int, rate: float, augment: Sequence[str], captions: int = 0) -> None:
        self.problem, self.width, self.rate = problem, width, rate
        self.augment, self.captions = tuple(augment), captions
        self.weights: list[Tensor] = []
        self.side = int(problem.source.modalities["image"].shape[-1])
        self.begin(0)

    @property
    def names(self) -> list[str]:
        """Of the weights, in their order."""
        return [f"body.{name}" for name, _ in self.body.named_parameters()] + ["head.weight", "head.bias"]

    def begin(self, t: int) -> None:
        """New weights: the network's own draw, then the layer's uniform in +-1/sqrt(inputs)."""
        draws = self.problem.rng("trainee", t)
        self.body = ConvNet(self.side, width=self.width, generator=draws)
        inputs, classes = self.body.dim + self.captions, len(self.problem.source.classes)
        layer = [
            (2 * torch.rand(*shape, generator=draws) - 1) / inputs**0.5 for shape in ((classes, inputs), (classes,))
        ]
        self.weights = [*(p.detach().clone() for p in self.body.parameters()), *layer]

    def features(self, weights: Sequence[Tensor], images: Tensor) -> Tensor:
        """What the network makes of images."""
        named = {name: value for (name, _), value in zip(self.body.named_parameters(), weights[:-2], strict=True)}
        found: Tensor = torch.func.functional_call(self.body, named, (images,))
        return found

    def loss(self, weights: Sequence[Tensor], images: Tensor, labels: Tensor, captions: Tensor | None = None) -> Tensor:
        """The mean of `-log softmax(W [v ; c] + b)_label`."""
        v = self.features(weights, images)
        inputs = v if captions is None else torch.cat([v, captions], 1)
        logits = (inputs @ weights[-2].T + weights[-1]).double()
        return naive.mean([-F.log_softmax(row, 0)[label] for row, label in zip(logits, labels.tolist(), strict=True)])

    def learn(
        self, images: Tensor, labels: Tensor, epochs: int, t: int, captions: Tensor | None = None, batch: int = 256
    ) -> None:
        """Epochs over the set in a drawn order, momentum 0.9 and weight decay 5e-4, from the weights that are there."""
        descend = naive.SGD(0.9, 5e-4)
        for epoch in range(epochs):
            order = torch.randperm(len(images), generator=self.problem.rng(f"trainee order {t}", epoch))
            for i, rows in enumerate(order.split(batch)):
                own = [w.clone().requires_grad_() for w in self.weights]
                draws = self.problem.rng(f"trainee augment {t} {epoch}", i)
                (seen,) = siamese([images[rows]], draws, self.augment)
                loss = self.loss(own, seen, labels[rows], None if captions is None else captions[rows])
                gradients = torch.autograd.grad(loss, own)
                self.weights = [
                    descend(str(k), w, g, self.rate)
                    for k, (w, g) in enumerate(zip(self.weights, gradients, strict=True))
                ]

    def gradients(
        self, images: Tensor, label: int, captions: Tensor | None = None, graph: bool = False
    ) -> list[Tensor]:
        """Of the loss of images of one class."""
        own = [w.clone().requires_grad_() for w in self.weights]
        labels = torch.full((len(images),), label)
        return [
            g.double() for g in torch.autograd.grad(self.loss(own, images, labels, captions), own, create_graph=graph)
        ]

    def distance(
        self,
        real: Tensor,
        mine: Tensor,
        label: int,
        captions: tuple[Tensor | None, Tensor | None] = (None, None),
    ) -> Tensor:
        """Of the gradients of real and synthetic images of one class, differentiable in the latter."""
        target = self.gradients(real, label, captions[0])
        return naive.gradient_distance(self.gradients(mine, label, captions[1], graph=True), target)
