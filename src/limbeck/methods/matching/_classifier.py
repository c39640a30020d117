"""`InnerClassifier`: a classifier that learns from the synthetic set while the set is learned from its gradients."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core import Problem, Synthetic
from limbeck.data.augment import siamese
from limbeck.networks.convnet import ConvNet
from limbeck.objectives.gradient import gradient_distance

__all__ = ["InnerClassifier"]

BUFFER = "trainee_"


class _Classifier(nn.Module):
    """A ConvNet with a linear layer, which also reads captions where it has columns for them: `W [v ; s c] + b`."""

    def __init__(self, resolution: int, width: int, classes: int, captions: int, generator: torch.Generator) -> None:
        super().__init__()
        self.body = ConvNet(resolution, width=width, generator=generator)
        inputs = self.body.dim + captions
        self.head: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, classes)
        with torch.no_grad():
            bound = inputs**-0.5
            self.head.weight.uniform_(-bound, bound, generator=generator)
            self.head.bias.uniform_(-bound, bound, generator=generator)

    def forward(self, images: Tensor, captions: Tensor | None = None) -> Tensor:
        """Logits `[B, C]`."""
        v = self.body(images)
        return self.head(v if captions is None else torch.cat([v, captions], 1))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class InnerClassifier:
    """A classifier that starts anew every so often and is trained on the synthetic set in between.

    It holds no weights: they are buffers of the synthetic set, so that a checkpoint holds them and a resumed run goes on with
    the same ones. The set that is frozen at the end leaves them out.

    Args:
        problem: whose classes, seed and device.
        width: channels of the ConvNet.
        rate: learning rate of its training (SGD, momentum 0.9, weight decay 5e-4).
        batch: synthetic samples an update.
        augment: Siamese operations that the set passes in its training.
        captions: components of the captions beside the image features; 0 for none.
        concat: size of the captions there, where 1 makes both halves equal in the mean square.
    """

    problem: Problem
    width: int = 128
    rate: float = 0.01
    batch: int = 256
    augment: tuple[str, ...] = ()
    captions: int = 0
    concat: float = 1.0

    def start(self, synthetic: Synthetic) -> None:
        """Gives the set the buffers that hold the weights."""
        for name, value in self.fresh(0).items():
            synthetic.register_buffer(BUFFER + name.replace(".", "_"), value)

    def fresh(self, t: int) -> dict[str, Tensor]:
        """New random weights by name."""
        network = self._network(self.problem.rng("trainee", t))
        return {name: value.detach().to(self.problem.device) for name, value in network.named_parameters()}

    def held(self, synthetic: Synthetic) -> dict[str, Tensor]:
        """The weights in the buffers of the set."""
        return {name: synthetic.get_buffer(BUFFER + name.replace(".", "_")) for name in self._names}

    def keep(self, synthetic: Synthetic, weights: Mapping[str, Tensor]) -> None:
        """Puts weights into the buffers of the set."""
        for name, value in weights.items():
            synthetic.get_buffer(BUFFER + name.replace(".", "_")).copy_(value)

    def at(
        self, synthetic: Synthetic, t: int, renew: int, inner: int, captions: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The weights that serve step t, which the set then holds: new ones every `renew` steps, else trained on the set.

        Args:
            synthetic: the set.
            t: step.
            renew: steps that a classifier serves.
            inner: epochs of its training between two of them.
            captions: of the set, scaled, for a classifier that reads them.
        """
        fresh = t % renew == 0
        weights = self.fresh(t) if fresh else self.learn(self.held(synthetic), synthetic, inner, t, captions)
        self.keep(synthetic, weights)
        return weights

    def learn(
        self, weights: Mapping[str, Tensor], synthetic: Synthetic, epochs: int, t: int, captions: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The weights after some epochs on the set as it is now."""
        assert synthetic.labels is not None
        own = {name: value.clone().requires_grad_() for name, value in weights.items()}
        optimizer = torch.optim.SGD(list(own.values()), lr=self.rate, momentum=0.9, weight_decay=5e-4)
        images = synthetic.value("image").detach()
        for epoch in range(epochs):
            order = torch.randperm(len(images), generator=self.problem.rng(f"trainee order {t}", epoch))
            for i, index in enumerate(order.to(images.device).split(self.batch)):
                draws = self.problem.rng(f"trainee augment {t} {epoch}", i)
                (seen,) = siamese([images[index]], draws, self.augment)
                said = None if captions is None else captions[index]
                optimizer.zero_grad()
                F.cross_entropy(self.logits(own, seen, said), synthetic.labels[index]).backward()
                optimizer.step()
        return {name: value.detach() for name, value in own.items()}

    def logits(self, weights: Mapping[str, Tensor], images: Tensor, captions: Tensor | None = None) -> Tensor:
        """`[B, C]` of images, and of captions that were already scaled."""
        found: Tensor = torch.func.functional_call(self._shell, dict(weights), (images, captions))
        return found

    @torch.no_grad()
    def scale(self, weights: Mapping[str, Tensor], synthetic: Synthetic) -> Tensor:
        """What captions are multiplied by, so that they are `concat` times as large as the image features of the set."""
        shell = self._shell
        assert isinstance(shell, _Classifier)
        body = {name.removeprefix("body."): value for name, value in weights.items() if name.startswith("body.")}
        v = torch.func.functional_call(shell.body, body, (synthetic.value("image").detach(),))
        c = synthetic.value("text").detach()
        size: Tensor = self.concat * v.square().mean().sqrt() / c.square().mean().sqrt().clamp(min=1e-12)
        return size

    def gradients(
        self,
        weights: Mapping[str, Tensor],
        images: Tensor,
        label: int,
        captions: Tensor | None = None,
        create_graph: bool = False,
    ) -> list[Tensor]:
        """Of the cross-entropy of images of one class, a tensor a parameter."""
        own = {name: value.detach().requires_grad_() for name, value in weights.items()}
        truth = torch.full((len(images),), label, device=images.device)
        loss = F.cross_entropy(self.logits(own, images, captions), truth)
        return list(torch.autograd.grad(loss, list(own.values()), create_graph=create_graph))

    def distance(
        self,
        weights: Mapping[str, Tensor],
        label: int,
        real: Tensor,
        own: Tensor,
        captions: tuple[Tensor | None, Tensor | None] = (None, None),
    ) -> Tensor:
        """How far the gradients of synthetic images of a class are from those of real ones, differentiable in the former."""
        target = self.gradients(weights, real, label, captions[0])
        return gradient_distance(self.gradients(weights, own, label, captions[1], create_graph=True), target)

    @property
    def _shell(self) -> nn.Module:
        key = ("trainee", self.width, self.captions)
        return self.problem.once(key, lambda: self._network(torch.Generator()).to(self.problem.device))

    @property
    def _names(self) -> list[str]:
        return [name for name, _ in self._shell.named_parameters()]

    def _network(self, generator: torch.Generator) -> nn.Module:
        side = self.problem.source.modalities["image"].shape[-1]
        classes = len(self.problem.source.classes)
        return _Classifier(int(side), self.width, classes, self.captions, generator)
