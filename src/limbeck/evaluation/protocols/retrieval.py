"""Retrieval: a student with a tower a modality, trained on the set, finds images by captions, sounds by images, and so on."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import nn

from limbeck.constraints import Count, Positive
from limbeck.data.captions import check_captions
from limbeck.data.pairs import PairIndex
from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation.protocol import Context, Protocol
from limbeck.evaluation.protocols._towers import USUAL, Pairs, StudentObjective, Training, learned_rates
from limbeck.spaces import Space

__all__ = ["Retrieval"]


@dataclass(frozen=True)
class Retrieval(Protocol):
    """A tower a modality, trained by symmetric InfoNCE of every two of them, or as the set asks to; hit rates on the test split.

        s_ij = <f(image_i), g(text_j)> / temperature,    loss = (CE(s, I) + CE(s^T, I)) / 2

    A tower is a head on the space's frozen features of its modality. That of images may be the encoder itself or a network, trained
    on pixels with light augmentation (`student`); so may be sound and depth, as grey images. Features are seen in the ridge-whitened
    principal components of the set that is judged, and Gaussian noise is added in training; without them a linear
    student on the full Flickr8k loses a third of its recall.

    An epoch takes each sample once, with one of its captions drawn anew, so that no two captions of one image meet as
    negatives in a batch. With more than two modalities the losses of all pairs are averaged, each over those of the batch that
    hold both; a sample of two modalities or more takes part.

    A distilled set may carry how it wants to be learned: a loss (a name of `limbeck.objectives.contrastive`) with its
    temperature and the similarity that it learned, and learning rates. The loss takes the place of InfoNCE, for every
    student of the grid; a similarity without a loss is read as soft targets (`cwcl`). The rates make one student more,
    trained without noise by SGD (momentum 0.9, weight decay 5e-4, a tenth of the rates from half of the steps on); it is
    chosen where it is the best on validation, as any other.

    Args:
        student, selection, ridge, noise, rank, steps, batch, rate, looks, longest, resolution, augment: see `Protocol`.
        head: `"linear"`, or `"mlp"` with one hidden layer of 512.
        dim: components of the joint space.
        temperature: of the softmax, where the set carries none.
        carried: train with what the set carries; off, every set is learned by InfoNCE at the protocol's temperature.
        mask_duplicates: pairs of a set that started from one real image are no negatives of each other.

    Example:
        >>> Retrieval().title
        'retrieval, frozen student'

    Paper: Radford et al., Learning transferable visual models from natural language supervision, ICML 2021 (the loss).
    """

    version = 2

    selection: Literal["clean", "paper"] = "clean"
    head: Literal["linear", "mlp"] = "linear"
    dim: Count = 256
    temperature: Positive = 0.07
    carried: bool = True
    mask_duplicates: bool = False

    def check(self, source: Source) -> None:
        """Two modalities are needed, and texts that differ."""
        if len(_found(source.modalities)) < 2:
            raise DataError(
                f"{source.name} holds {', '.join(source.modalities)}, so it cannot be judged by retrieval, which takes two "
                "modalities or more; judge labelled data with --protocol classification"
            )
        if "text" in source.modalities:
            check_captions(source)

    def run(self, small: Source, test: Source, space: Space, context: Context) -> dict[str, float]:
        """Hit rates in percent: `IR@1, IR@5, IR@10, TR@1, TR@5, TR@10` of images and texts, such as `image to audio R@1` of
        every other ordered pair, and the `mean` of all."""
        modalities, tested = self.modalities(small, test, space)
        side = self.side(small) if self.trained(modalities) else 0
        pairs = self.read(small, modalities, space, context, side)
        if len(pairs) < 2:
            named = "image-text" if modalities == USUAL else " or ".join(modalities)
            raise DataError(f"{small.name} has {len(pairs)} {named} pairs; a retrieval student needs two or more")
        train = self.trainer(pairs, tested, 0, context, self.pretrained(small, space, context))
        judge = self.judge(test)
        held_out = self.read(judge, modalities, space, context, side)
        student = train.chosen(
            held_out,
            partial(context.runtime.report, "student", total=self.looks * (len(train.points) + len(self.longer))),
        )
        if judge.fingerprint != test.fingerprint:
            held_out = self.read(test, modalities, space, context, side)
        return train.score(student, held_out)

    def trainer(
        self,
        train: Pairs,
        tested: tuple[str, ...],
        classes: int,
        context: Context,
        pretrained: Callable[[float], nn.Module] | None = None,
    ) -> Training:
        """Students with a tower a modality; all modalities are tested, and there are no classes."""
        return Training(self, train, context, pretrained)

    def training(self, small: Source) -> str:
        """Loss, temperature, similarity and rates that the set carries, such as `"wbce, lowrank similarity"`."""
        if not self.carried:
            return ""
        name, said = str(small.training.get("loss", "")), [str(small.training.get("loss", ""))]
        if (temperature := small.training.get("temperature", self.temperature)) != self.temperature:
            said.append(f"temperature {temperature}")
        if small.relation is not None and name != "infonce":
            said.append(f"{small.similarity.get('kind', 'soft')} similarity")
        if learned_rates(small):
            said.append("learned rates offered")
        return ", ".join(filter(None, said))

    def modalities(self, small: Source, test: Source, space: Space) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """As of every protocol; all that are trained on are tested."""
        known = [m for m in _found(test.modalities) if m in space or self.trained([m])]
        shared = tuple(m for m in known if m in small.modalities)
        if len(shared) < 2:
            raise ConfigError(
                f"{small.name} and {test.name} share {' and '.join(shared) or 'no modality'} that the space encodes "
                f"({', '.join(space.modalities) or 'none'}), and retrieval takes two modalities or more; pass a space "
                f"with encoders for two of {', '.join(_found(small.modalities))}"
            )
        return shared, shared

    def read(self, source: Source, modalities: tuple[str, ...], space: Space, context: Context, side: int) -> Pairs:
        """The samples that hold two modalities or more; every feature, also of the others, can be found, and is no stranger."""
        features = self.seen(source, modalities, space, context, side)
        every = PairIndex.of({m: features[m].owner for m in modalities}, len(source))
        index = every.take((every.num_present >= 2).nonzero().squeeze(1))
        return Pairs(features, index, StudentObjective.of(self, source, index.sample))


def _found(modalities: Iterable[str]) -> tuple[str, ...]:
    """What can be found and searched with, image and text first."""
    return tuple(sorted((m for m in modalities if m not in ("label", "mask")), key=lambda m: (m not in USUAL, m)))
