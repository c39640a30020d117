"""`OnlineTowers`: two towers that are trained on real pairs while a set is learned, and start anew every so often."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core import Problem
from limbeck.core.encode import chunked
from limbeck.students.two_towers import TwoTowers, stages

__all__ = ["OnlineTowers"]


@dataclass(frozen=True)
class OnlineTowers:
    """Two towers that are trained on real pairs: in every round anew, from pretrained weights and other random heads.

    `at(r, s)` is the towers after s steps of round r: a pure function of the problem, and never of a synthetic set. The last
    that was asked for is kept in memory, so that the next one costs a step of SGD. Any other is trained from the start of its
    round, which is what a resumed run pays: at most a round, and no file.

    Args:
        problem: whose real pairs, encoders and seed.
        towers: which towers.
        rate: learning rate of the encoders.
        rate_head: learning rate of the heads.
        batch: real pairs a step, each of another sample; all samples where there are fewer.

    Example:
        >>> import limbeck as lb
        >>> space = lb.space(image="convnet", text="bag_of_words")
        >>> problem = lb.Problem(lb.check.toy_source(), space, lb.Budget(pairs=4))
        >>> online = OnlineTowers(problem, TwoTowers("encoder", dim=8), batch=8)
        >>> sorted(online.at(0, 2)) == sorted(name for name, _ in online.network.named_parameters())
        True
    """

    problem: Problem
    towers: TwoTowers
    rate: float = 0.01
    rate_head: float = 0.003
    batch: int = 128
    _held: dict[str, tuple[int, int, dict[str, Tensor]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def at(self, cycle: int, step: int) -> dict[str, Tensor]:
        """The parameters of the towers, by name, after so many steps of a round. They are not to be written to.

        Args:
            cycle: which round, from 0.
            step: steps of SGD that were taken in it, from 0.
        """
        last, done, parameters = self._held.get("last", (-1, 0, {}))
        if last != cycle or done > step:
            done, parameters = 0, self._start(cycle)
        for i in range(done, step):
            if step - done > 1:
                self.problem.runtime.report("towers", i, step)
            parameters = self._descend(parameters, cycle, i)
        self._held["last"] = cycle, step, parameters
        return parameters

    def real(self, cycle: int, step: int) -> tuple[Tensor, Tensor]:
        """What the towers read of the real pairs that they are trained on at this step: images and texts."""
        sample = self.problem.draw(self.batch, step, f"online samples {cycle}")
        caption = self.problem.index.draw_one("text", sample, self.problem.rng(f"online captions {cycle}", step))
        image, words = self.towers.real(self.problem, sample, caption, None)
        return image, words

    def features(self, parameters: Mapping[str, Tensor], modality: str, values: Tensor) -> Tensor:
        """Vectors `[B, D]` before the head, as the encoder gives them, in memory that does not grow with B.

        Args:
            parameters: what `at` returned.
            modality: whose tower.
            values: what that tower reads; gradients flow to it.
        """
        encoder, _ = self._stages[modality]
        return chunked(lambda part: self._call(encoder, parameters, part), values)

    def project(self, parameters: Mapping[str, Tensor], modality: str, features: Tensor) -> Tensor:
        """Vectors `[B, dim]` of the joint space, of unit length: what the head makes of `features`.

        Args:
            parameters: what `at` returned.
            modality: whose tower.
            features: what `features` returned.
        """
        _, head = self._stages[modality]
        return F.normalize(self._call(head, parameters, features), dim=1)

    @cached_property
    def network(self) -> nn.Module:
        """The towers; their own weights, those of the first round before training, are not read."""
        return self._network(0)

    @cached_property
    def _stages(self) -> dict[str, tuple[nn.Module, nn.Module]]:
        return {m: stages(self.network, m) for m in ("image", "text")}

    @cached_property
    def _names(self) -> dict[int, str]:
        """The full name of every parameter of `network`."""
        return {id(value): name for name, value in self.network.named_parameters()}

    @cached_property
    def _rates(self) -> dict[str, float]:
        heads = {self._names[id(value)] for _, head in self._stages.values() for value in head.parameters()}
        return {name: self.rate_head if name in heads else self.rate for name in self._names.values()}

    def _call(self, stage: nn.Module, parameters: Mapping[str, Tensor], values: Tensor) -> Tensor:
        own = {name: parameters[self._names[id(value)]] for name, value in stage.named_parameters()}
        found: Tensor = torch.func.functional_call(stage, own, (values,))
        return found

    def _network(self, cycle: int) -> nn.Module:
        with torch.enable_grad():  # which is how a trainable encoder finds out what it depends on
            return self.towers.network(self.problem, self.problem.rng("online heads", cycle))

    def _start(self, cycle: int) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in self._network(cycle).named_parameters()}

    def _descend(self, parameters: Mapping[str, Tensor], cycle: int, step: int) -> dict[str, Tensor]:
        """One step of SGD on the symmetric InfoNCE loss of the real pairs of this step."""
        values = {name: value.detach().requires_grad_() for name, value in parameters.items()}
        image, text = self.real(cycle, step)
        loss = self.towers.loss(self.network, "infonce")(
            values, image, text, torch.eye(len(image), device=image.device)
        )
        grads = torch.autograd.grad(loss, list(values.values()))
        with torch.no_grad():
            pairs = zip(values.items(), grads, strict=True)
            return {name: value - self._rates[name] * gradient for (name, value), gradient in pairs}
