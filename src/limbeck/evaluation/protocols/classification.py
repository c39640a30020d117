"""Classification: how well students trained on the set tell the classes of the test split apart."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core import stream
from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation.metrics import accuracy
from limbeck.evaluation.protocol import Context, Protocol
from limbeck.evaluation.students import Components, Tower, best_student, chunk_of, fit, noisy, shaken
from limbeck.spaces import Features, Space

__all__ = ["Classification"]


@dataclass(frozen=True)
class Classification(Protocol):
    """Accuracy in percent of classifiers trained on the set.

    Each modality gets a linear head on its frozen features; images, sound and depth get a trained network with light augmentation
    instead where `student` names one, images the encoder itself where it says so. With several modalities two ways of fusion are reported beside the single ones:

        late    p = mean_m softmax(W_m x_m)                      heads trained apart: blind to which values are paired
        joint   p = softmax(V gelu(sum_m W_m x_m))               one hidden layer on the concatenated features

    A sample takes part if it is labelled and holds every modality that set, data and space share. The several captions
    of a sample are averaged to one vector.

    Args:
        student, selection, ridge, noise, rank, steps, batch, rate, looks, resolution, augment: see `Protocol`.
        dim: units of the hidden layer of the joint head.

    Example:
        >>> Classification(student="convnet").title
        'classification, convnet student'
    """

    version = 1

    dim: int = 64

    def check(self, source: Source) -> None:
        """Labels are needed."""
        if source.labels is None:
            raise DataError(
                f"{source.name} has no labels, so it cannot be judged by classification; judge it by retrieval"
            )

    def run(self, small: Source, test: Source, space: Space, context: Context) -> dict[str, float]:
        """`accuracy` for one modality; else `joint accuracy`, `late accuracy` and one a modality."""
        if small.classes and test.classes and small.classes != test.classes:
            raise DataError(
                f"{small.name} has the classes {small.classes}, {test.name} has {test.classes}; they must be the same"
            )
        modalities = self._modalities(small, test, space)
        side = self.side(small) if self.trained(modalities) else 0
        train, judge = (self._read(source, modalities, space, context, side) for source in (small, self.judge(test)))
        pretrained = self.pretrained(small, space, context) if "image" in modalities else None
        fitting = _Training(self, train, max(len(test.classes), int(train.labels.max()) + 1), context, pretrained)
        unions = [(m,) for m in modalities] + ([modalities] if len(modalities) > 1 else [])
        students = {}
        for i, union in enumerate(unions):
            tick = partial(self._tell, context, i, len(unions))
            students[union] = best_student((fitting.candidate(union, r, n, judge) for r, n in self.grid), tick)
        held_out = self._read(test, modalities, space, context, side)
        logits = {union: fitting.logits(student, held_out) for union, student in students.items()}
        result = {" ".join(union): accuracy(x, held_out.labels) for union, x in logits.items()}
        if len(modalities) == 1:
            return {"accuracy": result[modalities[0]]}
        late = sum((logits[(m,)].softmax(dim=1) for m in modalities), torch.zeros(())) / len(modalities)
        fused = {"joint accuracy": result[" ".join(modalities)], "late accuracy": accuracy(late, held_out.labels)}
        return {**fused, **{f"{m} accuracy": result[m] for m in modalities}}

    def _tell(self, context: Context, i: int, parts: int, done: int) -> None:
        looks = self.looks * len(self.grid)
        context.say("student", i * looks + done, parts * looks)

    def _modalities(self, small: Source, test: Source, space: Space) -> tuple[str, ...]:
        known = [m for m in test.modalities if m in space or self.trained([m])]
        shared = tuple(m for m in known if m in small.modalities)
        if not shared:
            raise ConfigError(
                f"{small.name} and {test.name} share no modality that the space encodes "
                f"({', '.join(space.modalities) or 'none'}); pass a space with an encoder for one of "
                f"{', '.join(small.modalities)}"
            )
        return shared

    def _read(
        self, source: Source, modalities: tuple[str, ...], space: Space, context: Context, side: int
    ) -> "_Samples":
        labels = source.labels
        assert labels is not None  # see `check`
        seen, trained = self.seen(source, modalities, space, context, side), self.trained(modalities)
        full = labels >= 0
        for found in seen.values():
            full = full & (found.counts(len(source)) > 0)
        index = full.nonzero().squeeze(1)
        if len(index) == 0:
            raise DataError(f"{source.name}: no sample has a label and all of {', '.join(modalities)}")
        values = {
            m: (found.vectors[found.first(len(source))] if m in trained else _averaged(found, len(source)))[index]
            for m, found in seen.items()
        }
        return _Samples(values, labels[index])


@dataclass(frozen=True)
class _Samples:
    values: Mapping[str, Tensor]
    labels: Tensor


class _Fusion(nn.Module):
    """A tower to logits for one modality; for several, the sum of towers is a layer on their concatenated inputs."""

    def __init__(self, towers: Mapping[str, Tower], head: Tower | None, ridge: float) -> None:
        super().__init__()
        self.towers, self.head, self.ridge = nn.ModuleDict(towers), head, ridge

    def forward(self, x: Mapping[str, Tensor]) -> Tensor:
        total = torch.stack([tower(x[m]) for m, tower in self.towers.items()]).sum(dim=0)
        return total if self.head is None else self.head(F.gelu(total))


class _Training:
    """What all students of one set share."""

    def __init__(
        self,
        protocol: Classification,
        train: _Samples,
        classes: int,
        context: Context,
        pretrained: Callable[[float], nn.Module] | None,
    ) -> None:
        self.protocol, self.train, self.classes, self.context = protocol, train, classes, context
        self.pretrained = pretrained
        self.of = {m: Components.of(x, protocol.rank) for m, x in train.values.items() if x.dtype != torch.uint8}

    def inputs(self, samples: _Samples, ridge: float) -> dict[str, Tensor]:
        return {m: self.of[m].whiten(x, ridge) if m in self.of else x for m, x in samples.values.items()}

    def candidate(
        self, union: tuple[str, ...], ridge: float, noise: float, judge: _Samples
    ) -> tuple[nn.Module, Iterator[int], Callable[[nn.Module], float]]:
        p, seed, device = self.protocol, self.context.seed, self.context.device
        generator = stream(seed, "student weights " + " ".join(union))
        single, network = len(union) == 1, self.pretrained(ridge) if self.pretrained else p.student
        width, gain = (self.classes, 0.1) if single else (p.dim, 1.0)
        towers = {
            m: Tower(len(self.of[m].variance), width, generator, gain=gain)
            if m in self.of
            else Tower(0, width, generator, network, p.resolution or 0, gain=gain)
            for m in union
        }
        student = _Fusion(towers, None if single else Tower(width, self.classes, generator), ridge)
        inputs = {m: x.to(device) for m, x in self.inputs(self.train, ridge).items() if m in union}
        training = fit(
            student, partial(self.loss, student, inputs, noise), len(self.train.labels), p.schedule, seed, device
        )
        return student, training, lambda s: accuracy(self.logits(s, judge), judge.labels)

    def loss(self, student: nn.Module, inputs: dict[str, Tensor], noise: float, index: Tensor, t: int) -> Tensor:
        generator = stream(self.context.seed, "student draws", t)
        x = {m: value[index.to(value.device)] for m, value in inputs.items()}
        seen = {m: noisy(v, noise, len(self.of[m].mean), generator) if m in self.of else v for m, v in x.items()}
        if self.protocol.augment:
            seen |= {m: shaken(v, generator, mirror=m != "audio") for m, v in x.items() if m not in self.of}
        logits = student(seen)
        return F.cross_entropy(logits, self.train.labels[index].to(logits.device))

    @torch.no_grad()
    def logits(self, student: nn.Module, samples: _Samples) -> Tensor:
        assert isinstance(student, _Fusion)
        inputs, device = self.inputs(samples, student.ridge), self.context.device
        student.eval()
        rows = torch.split(torch.arange(len(samples.labels)), min(map(chunk_of, inputs.values())))
        result = torch.cat([student({m: x[r].to(device) for m, x in inputs.items()}).cpu() for r in rows])
        student.train()
        return result


def _averaged(features: Features, samples: int) -> Tensor:
    """The mean direction of each sample's rows: `float [samples, D]`."""
    total = torch.zeros(samples, features.vectors.shape[1]).index_add_(0, features.owner, features.vectors)
    return F.normalize(total, dim=1)
