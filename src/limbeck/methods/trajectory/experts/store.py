"""`Experts`: snapshots of students trained on the real data, each made once, kept by content, and only when it is read."""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from limbeck.constraints import Ge, NotNegative, Positive, validate
from limbeck.core import Problem
from limbeck.data.pairs import first_of_each
from limbeck.errors import ConfigError, DataError, Diverged, StorageError
from limbeck.objectives.contrastive import contrastive, false_negatives
from limbeck.runtime.cache import digest
from limbeck.runtime.random import stream
from limbeck.runtime.timing import seconds_of
from limbeck.students import add_noise
from limbeck.students.two_towers import TwoTowers

__all__ = ["ExpertTraining", "Experts"]

VERSION = 2  # raised when the same options would give other snapshots
LARGEST = 1e6  # a weight of this size has diverged
PRECISIONS = {"float32": 4, "bfloat16": 2}  # bytes a number


@dataclass(frozen=True)
class ExpertTraining:
    """How experts are trained: plain SGD with the symmetric InfoNCE loss.

    Args:
        rate: learning rate of both towers.
        batch: pairs a step; the last, smaller batch of an epoch is dropped.
        captions: `"all"`: an epoch takes each caption once (as published); `"one"`: each image once, with one of its captions.
        mask: captions of one image are no negatives of each other within a batch.
        noise: norm of white noise on frozen features, as the retrieval protocol's students see it.
        augment: mirror and shift images that are pixels.
        precision: `"float32"` stores the weights. `"bfloat16"` stores their difference to the initial weights, in half the bytes and with
            a relative error of 2^-9; training continues from the stored weights.

    Raises:
        ConfigError: a value that cannot work.
    """

    rate: Positive = 0.1
    batch: Annotated[int, Ge(2)] = 128
    captions: Literal["all", "one"] = "all"
    mask: bool = False
    noise: NotNegative = 0.0
    augment: bool = True
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        validate(self, "experts")


@dataclass(frozen=True)
class Experts:
    """Snapshots of students that are trained on the real data.

    `snapshot(k, e)` is expert k after e epochs: a pure function of the data, the encoders, the towers and their training, and
    of nothing that a distillation chooses. It is trained from `snapshot(k, e - 1)` when it is first asked for, and kept in
    the cache under a digest of all that made it. So experts go only as far as they are read, a killed training goes on after its
    last epoch, and another distillation with other options retrains nothing. A snapshot holds the parameters that move, by
    name, and is mapped into memory; `snapshot(k, 0)` is not stored but made anew, and what is pretrained is held once for all
    experts. All seeds share the same experts.

    Args:
        problem: whose training source and encoders.
        towers: which student.
        training: how it is trained.
    """

    problem: Problem
    towers: TwoTowers = field(default_factory=TwoTowers)
    training: ExpertTraining = field(default_factory=ExpertTraining)

    def check(self) -> None:
        """Refuses data that no expert can learn from, before time is spent.

        Raises:
            DataError: one caption in all.
            ConfigError: a batch larger than an epoch.
        """
        if len(set(self.problem.captions)) < 2:
            raise DataError(
                f"{self.problem.source.name} has one caption in all; which text belongs to which image cannot be learned from it"
            )
        if self._units < self.training.batch:
            raise ConfigError(
                f"the experts' batch of {self.training.batch} is larger than an epoch of {self._units} pairs; lower it"
            )

    def snapshot(self, expert: int, epoch: int) -> dict[str, Tensor]:
        """The parameters of an expert after so many epochs, on the problem's device, in float32.

        Args:
            expert: which, from 0.
            epoch: 0 is before training.

        Raises:
            Diverged: a parameter is not finite.
            StorageError: what is stored does not fit the towers.
        """
        device = self.problem.device
        if epoch == 0:
            start = self.problem.once((self._key, expert, epoch), lambda: self._start(expert))
            return {name: value.to(device) for name, value in start.items()}
        found = self.problem.once((self._key, expert, epoch), lambda: self._stored(expert, epoch))
        expected = {name: tuple(value.shape) for name, value in self.network.named_parameters()}
        if wrong := _differences({name: tuple(value.shape) for name, value in found.items()}, expected):
            where = self.problem.cache.path("experts", self._entry(expert, epoch))
            raise StorageError(f"the expert in {where} is not of these towers: {wrong}; delete that folder")
        values = {name: value.to(device).float() for name, value in found.items()}
        if self.training.precision == "float32":
            return values
        return {name: start + values[name] for name, start in self.snapshot(expert, 0).items()}

    def cost(self, experts: int, epochs: int) -> tuple[float, int]:
        """Seconds, estimated from one step, and bytes on disk of what is not stored yet. Stores nothing.

        Args:
            experts, epochs: how many will be read.

        Raises:
            DataError, ConfigError: see `check`.
        """
        self.check()
        entries = [self._entry(k, e) for k in range(experts) for e in range(1, epochs + 1)]
        missing = sum(not self.problem.cache.path("experts", entry).is_dir() for entry in entries)
        if not missing:
            return 0.0, 0
        network, batch = copy.deepcopy(self.network), next(self._batches(0, 1))
        step = seconds_of(lambda: self._descend(network, [batch], 0, 1), self.problem.device)
        seconds = step * (self._units // self.training.batch)
        size = sum(value.numel() for value in network.parameters()) * PRECISIONS[self.training.precision]
        return missing * seconds, missing * size

    @cached_property
    def network(self) -> nn.Module:
        """The towers with the weights that the first expert starts from."""
        return self.towers.network(self.problem, stream(0, "expert weights", 0))

    @cached_property
    def _key(self) -> str:
        plain = [asdict(self.towers.read), asdict(self._training_read), self.towers.encoders(self.problem)]
        return digest(VERSION, plain, self.problem.source.fingerprint)

    @property
    def _training_read(self) -> ExpertTraining:
        """The same training with unused options at their defaults, as these must not lead to other experts."""
        frozen = "frozen" in (self.towers.image, self.towers.text)
        return replace(
            self.training,
            augment=self.training.augment and self.towers.image != "frozen",
            noise=self.training.noise if frozen else 0.0,
            mask=self.training.mask and self.training.captions == "all",
        )

    def _entry(self, expert: int, epoch: int) -> str:
        return digest(self._key, expert, epoch)

    @property
    def _units(self) -> int:
        """Pairs of an epoch."""
        return len(self.problem.candidates if self.training.captions == "all" else self.problem.complete)

    def _start(self, expert: int) -> dict[str, Tensor]:
        """The parameters before training; those that are the first expert's are held in memory once."""
        first = {name: value.detach() for name, value in self.network.named_parameters()}
        own = self.towers.network(self.problem, stream(0, "expert weights", expert)).named_parameters()
        return {name: first[name] if torch.equal(value, first[name]) else value.detach().cpu() for name, value in own}

    def _stored(self, expert: int, epoch: int) -> dict[str, Tensor]:
        """The parameters after an epoch, or what they have moved: see `precision`."""

        def make() -> dict[str, Tensor]:
            values = self._train(self.snapshot(expert, epoch - 1), expert, epoch)
            if self.training.precision == "float32":
                return values
            start = self.snapshot(expert, 0)
            return {name: (value - start[name]).bfloat16() for name, value in values.items()}

        return self.problem.cache.tensors("experts", self._entry(expert, epoch), make)

    def _train(self, start: dict[str, Tensor], expert: int, epoch: int) -> dict[str, Tensor]:
        """One epoch of SGD from `start`."""
        network = copy.deepcopy(self.network)
        network.load_state_dict(start, strict=False)
        self._descend(network, self._batches(expert, epoch), expert, epoch)
        values = {name: value.detach() for name, value in network.named_parameters()}
        if bad := [name for name, value in values.items() if not bool((value.abs() < LARGEST).all())]:
            raise Diverged(
                f"expert {expert}, epoch {epoch}: {bad[0]} is not finite or beyond {LARGEST:g}; lower the experts' rate, "
                f"expert_rate ({self.training.rate})"
            )
        return values

    def _descend(self, network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], expert: int, epoch: int) -> None:
        """A step of SGD for each of these batches, in place."""
        parameters = list(network.parameters())
        measure = contrastive("infonce")
        for step, (sample, caption) in enumerate(batches):
            generator = stream(0, f"expert {expert} draws {epoch}", step)
            image, text = self.towers.real(self.problem, sample, caption, generator if self.training.augment else None)
            u, v = network(self._noisy(image, "image", generator), self._noisy(text, "text", generator))
            ignored = false_negatives(sample).to(u.device) if self.training.mask else None
            grads = torch.autograd.grad(measure(u @ v.T / self.towers.temperature, None, ignored), parameters)
            with torch.no_grad():
                for value, gradient in zip(parameters, grads, strict=True):
                    value.sub_(gradient, alpha=self.training.rate)

    def _batches(self, expert: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(samples, rows of their captions) of every step of an epoch."""
        pairs, generator = self.problem.candidates, stream(0, f"expert {expert} order", epoch)
        order = torch.randperm(len(pairs), generator=generator)
        if self.training.captions == "one":
            order = order[first_of_each(pairs.sample[order]).sort().values]
        total = len(order) // self.training.batch
        for i in range(total):
            chosen = order[i * self.training.batch : (i + 1) * self.training.batch]
            if not i % 50:
                self.problem.runtime.report(f"expert {expert}, epoch {epoch}", i, total)
            yield pairs.sample[chosen], pairs.rows["text"][chosen]

    def _noisy(self, x: Tensor, modality: str, generator: torch.Generator) -> Tensor:
        if not self.training.noise or getattr(self.towers, modality) != "frozen":
            return x
        width = len(self.towers.components(self.problem, modality).mean)
        return add_noise(x, self.training.noise, width, generator)


def _differences(found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> str:
    """In words what differs between two lists of named shapes; empty where nothing does."""
    if missing := sorted(expected.keys() - found.keys()):
        return f"{missing[0]} is missing"
    if odd := sorted(found.keys() - expected.keys()):
        return f"{odd[0]} is unknown"
    other = [name for name in expected if found[name] != expected[name]]
    return f"{other[0]} has shape {list(found[other[0]])}, expected {list(expected[other[0]])}" if other else ""
