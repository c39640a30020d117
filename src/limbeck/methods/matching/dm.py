"""DM: distribution matching of means under random networks."""

from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.constraints import NotNegative
from limbeck.core import Problem, Synthetic
from limbeck.data.augment import by_group, siamese
from limbeck.methods.matching._means import MeanMatching
from limbeck.networks.convnet import ConvNet
from limbeck.objectives.moments import group_mean, mean_distance

__all__ = ["DM"]


@dataclass(frozen=True)
class DM(MeanMatching):
    """Matches mean features of real and synthetic images under a new random ConvNet every step, class by class.

        L = sum_c || mean_i f(A(x_i)) - mean_j f(A(s_j)) ||^2      f: random weights, A: one Siamese augmentation

    Text, where there is one, is learned by the same distance on its embeddings. Without labels (or with `per_class` off)
    there is one class of all.

    Args:
        steps: number of steps.
        batch: real samples a class and step.
        lr: learning rate of the pixels.
        lr_text: learning rate of the text embeddings.
        momentum: of both.
        width: channels of the random ConvNet.
        init: which real pairs to start from: random, herding, kcenter or prototypes.
        augment: Siamese operations to draw from; empty for none.
        per_class: match class by class; by default where the source is labelled and has no text.

    Paper: Zhao and Bilen, Dataset condensation with distribution matching, WACV 2023.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> len(lb.distill(problem, DM(steps=2, width=8)))
        4
    """

    lr: NotNegative = 1.0
    lr_text: NotNegative = 0.1

    def check(self, problem: Problem) -> None:
        """Refuses modalities that it has no means of."""
        super().check(problem)
        instead = "avdd with icm and cgm of 0 is dm of every modality, or "
        self.refuse_others(problem, {"image": "images", "text": "texts"}, instead)

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | Tensor]:
        """One new network, one augmentation a group, the distance of means."""
        index, group, own = problem.draw_groups(self.batch, t, len(synthetic), self.per_class)
        own, groups = own.to(problem.device), int(own[-1]) + 1
        loss = torch.zeros((), device=problem.device)
        logs: dict[str, float | Tensor] = {}
        if "image" in synthetic.modalities:
            logs["image"] = self._image_loss(problem, synthetic, t, index, group, own, groups)
            loss = loss + logs["image"]
        if "text" in synthetic.modalities:
            rows = problem.index.first["text"][index]
            target = group_mean(problem.features["text"].vectors[rows], group, groups).to(problem.device)
            logs["text"] = mean_distance(
                group_mean(problem.space.embed(synthetic.batch())["text"], own, groups), target
            )
            loss = loss + logs["text"]
        loss.backward()
        return {
            "loss": loss.detach(),
            **{name: value.detach() for name, value in logs.items() if isinstance(value, Tensor)},
        }

    def _image_loss(
        self, problem: Problem, synthetic: Synthetic, t: int, index: Tensor, group: Tensor, own: Tensor, groups: int
    ) -> Tensor:
        images = synthetic.value("image")
        network = ConvNet(images.shape[-1], width=self.width, generator=problem.rng("network", t)).to(images.device)
        real = problem.source.batch(index)["image"].to(images.device)
        group = group.to(images.device)
        real, images = by_group(
            [real, images], [group, own], lambda g, parts: siamese(parts, problem.rng(f"augment {g}", t), self.augment)
        )
        with torch.no_grad():
            target = group_mean(network(real), group, groups)
        return mean_distance(group_mean(network(images), own, groups), target)
