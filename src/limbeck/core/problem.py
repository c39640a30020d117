"""`Problem`: everything a method may look at, and nothing else. There is no test split inside."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from math import ceil, prod
from typing import Any, TypeVar

import torch
from torch import Tensor

from limbeck.core.budget import Budget
from limbeck.core.budget import per_class as per_class_shares
from limbeck.core.codec import Files, Storage, decoded, exact_bytes, stored_files
from limbeck.core.estimate import image_bytes, text_bytes
from limbeck.core.pixels import Pixels
from limbeck.data.batch import Batch
from limbeck.data.captions import check_captions
from limbeck.data.pairs import PairIndex
from limbeck.data.source import Source, TrainingView
from limbeck.errors import ConfigError, DataError
from limbeck.runtime.cache import Cache
from limbeck.runtime.progress import ProgressCallback
from limbeck.runtime.random import stream
from limbeck.runtime.runtime import Runtime
from limbeck.spaces import Features, Space, embed_source

__all__ = ["Problem"]

T = TypeVar("T")
CHUNK = 256  # images that are stored at a time
FIXED = 7_000  # bytes of card, manifest and the frame of the table, with a recipe of many options
PREVIEW = 2_000  # bytes of a picture of sound or depth, at most


@dataclass(frozen=True)
class Problem:
    """What a method may look at.

    Args:
        source: the *training* split; a method sees it without its siblings.
        space: encoders of the source's modalities.
        budget: how much the synthetic set may hold.
        seed: of every named random stream.
        device, cache, tick, runtime: a `Runtime`, or one by one its device, cache and progress (`tick`); not both.
        storage: in which bytes the synthetic set is stored.
        pixels: how images are learned, by methods that learn them.

    Raises:
        DataError: the source has no samples, no modality that the space encodes, or one caption in all.
        ConfigError: a budget of more pairs than there are samples, or a lossy codec where pixels are kept as floats.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> problem.pairs(learned_text=True)
        4
    """

    source: Source
    space: Space
    budget: Budget
    seed: int
    device: str
    cache: Cache
    tick: ProgressCallback | None
    storage: Storage
    pixels: Pixels

    def __init__(
        self,
        source: Source,
        space: Space,
        budget: Budget,
        seed: int = 0,
        device: str | None = None,
        cache: Cache | None = None,
        tick: ProgressCallback | None = None,
        storage: Storage | None = None,
        pixels: Pixels | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        where = Runtime.of(runtime, device=device, cache=cache, tick=tick)
        vars(self).update(source=TrainingView(source), space=space, budget=budget, seed=seed, pixels=pixels or Pixels())
        vars(self).update(device=where.device, cache=where.cache, tick=where.progress, storage=storage or Storage())
        if len(self.source) == 0:
            raise DataError(f"{self.source.name} has no samples to distil")
        if not self.modalities:
            raise DataError(
                f"{self.source.name} holds {', '.join(self.source.modalities)}, "
                f"but the space only encodes {', '.join(self.space.modalities) or 'nothing'}"
            )
        if "text" in self.modalities:
            check_captions(self.source)
        if not self.available:
            raise self._none_complete()
        if self.budget.pixels == "float32" and (self.storage.codec, self.storage.side) != ("auto", 0):
            raise ConfigError("pixels that are kept as floats have no codec and no side; leave out one or the other")
        if self.budget.pairs is not None:  # refused again with what is encoded, but then time is spent
            self.budget.resolve(sample_bytes=1, available=self.available)

    @cached_property
    def runtime(self) -> Runtime:
        """Device, cache and tick in one."""
        return Runtime(self.device, self.cache, self.tick)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the source has and the space encodes."""
        return tuple(m for m in self.space.modalities if m in self.source.modalities)

    @property
    def masked(self) -> bool:
        """Whether a set carries masks: the source has them, and their images are among the modalities."""
        return "mask" in self.source.modalities and "image" in self.modalities

    @cached_property
    def features(self) -> dict[str, Features]:
        """Unit vectors of the whole source, computed once and kept in the cache."""
        self.runtime.report("weights", 0, 1)
        return embed_source(self.source, self.space, runtime=self.runtime)

    @cached_property
    def index(self) -> PairIndex:
        """Which rows of the features belong to which sample."""
        return PairIndex.of({m: f.owner for m, f in self.features.items()}, len(self.source))

    @cached_property
    def candidates(self) -> PairIndex:
        """Every real pair: an image with one of its captions, or a sample alone where there is no text."""
        pairs = self.index.aligned(self.modalities)
        if len(pairs) == 0:
            raise self._none_complete()
        return pairs

    def _none_complete(self) -> DataError:
        return DataError(
            f"{self.source.name}: no sample has all of {', '.join(self.modalities)}, and a set starts from samples that do; leave "
            "out a modality (--space.NAME none), or distil each combination by itself"
        )

    @cached_property
    def complete(self) -> Tensor:
        """The samples that hold every modality, `int64`: those a pair can be taken from."""
        index: Tensor = self.candidates.sample.unique()
        return index

    @cached_property
    def captions(self) -> list[str]:
        """Every caption of the source, in the order of the rows of the text features."""
        return [text for sample in self.source.captions for text in sample]

    def groups(self, pairs: int, per_class: bool | None = None) -> list[tuple[Tensor, int]]:
        """The candidates that a selection chooses among, and how many of each: one group, or one a class.

        Args:
            pairs: the number of pairs to choose in all.
            per_class: one group a class; `None` means: where the source is labelled and has no text.

        Returns:
            (`int64` positions in `candidates`, how many to choose), one a class in the order of the classes.

        Raises:
            ConfigError: `pairs` is below one a class.
            DataError: `per_class` without labels.
        """
        if not self.by_class(per_class):
            return [(torch.arange(len(self.candidates)), pairs)]
        return self.once(("classes", pairs), partial(self._classes, self._labels(), pairs))

    def _labels(self) -> Tensor:
        if self.source.labels is None:
            raise DataError(
                f"{self.source.name} has no labels, so nothing can be chosen per class; leave per_class out"
            )
        return self.source.labels

    def _classes(self, labels: Tensor, pairs: int) -> list[tuple[Tensor, int]]:
        """The candidates of each class that has a share of `pairs`, in one pass over them, and that share."""
        count = len(self.source.classes)
        shares, label = per_class_shares(pairs, labels[self.complete], count), labels[self.candidates.sample]
        known = (label >= 0).nonzero().squeeze(1)
        order = known[label[known].argsort(stable=True)]
        members = order.split(torch.bincount(label[known], minlength=count).tolist())
        return [(among, share) for among, share in zip(members, shares, strict=True) if share]

    def refuse_classes(self, pairs: int, per_class: bool | None = None) -> None:
        """Refuses what `groups` would refuse, as far as it is known before anything is encoded.

        Args:
            pairs, per_class: see `groups`.

        Raises:
            ConfigError: `pairs` is below one a class.
            DataError: `per_class` without labels.
        """
        if self.by_class(per_class):
            labels, (held, certain) = self._labels(), self._listed
            if certain:
                per_class_shares(pairs, labels[held], len(self.source.classes))

    @property
    def available(self) -> int:
        """How many samples can make a pair, at most; counted before anything is encoded."""
        return int(self._listed[0].sum())

    @cached_property
    def _listed(self) -> tuple[Tensor, bool]:
        """Which samples hold every modality by what the source lists, `bool [N]`, and whether it lists all: some list no files."""
        held, certain = torch.ones(len(self.source), dtype=torch.bool), True
        for name in self.modalities:
            if name in self.source.embeddings:
                held &= self.source.embeddings[name].flatten(1).any(dim=1)
            elif name == "text":
                held &= torch.tensor([bool(captions) for captions in self.source.captions])
            elif (digests := self.source.digests(name)) is not None:
                held &= torch.tensor([digest is not None for digest in digests])
            else:
                certain = False
        return held, certain

    def by_class(self, per_class: bool | None = None) -> bool:
        """Whether classes are looked at one by one: as asked for, else where the source is labelled and has no text."""
        return self.source.labels is not None and "text" not in self.modalities if per_class is None else per_class

    @cached_property
    def _memo(self) -> dict[Any, Any]:
        return {}

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """`make()`, computed once for this problem and kept in memory; it must be a pure function of problem and key."""
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]  # type: ignore[no-any-return]

    def but(self, **changed: Any) -> "Problem":
        """The same problem with another budget or storage; what is computed of the data is shared.

        Args:
            changed: `budget` or `storage`.
        """
        other = copy.copy(self)
        vars(other).update(changed, _memo=self._memo)
        return other

    def stored_images(self, index: Tensor) -> Files:
        """The images of real samples as a set stores them, each encoded and decoded once.

        Args:
            index: `int64 [n]`, which samples; each holds an image.
        """
        known: dict[int, tuple[bytes, bool]] = self.once(("stored", self.storage), dict)
        seen = self._stored_pixels
        for part in torch.tensor([i for i in index.unique().tolist() if i not in known], dtype=torch.long).split(CHUNK):
            pixels = self.source.batch(part)["image"].clamp(0, 1).mul(255).round().byte().cpu()
            own = self.source.files("image", part.tolist())
            for i, x, file in zip(part.tolist(), pixels, own, strict=True):
                made = stored_files(x[None], self.storage, [file])
                known[i], seen[i] = (made.files[0], made.exact), made.values[0]
        height, width = self.source.modalities["image"].shape[1:]
        for i in set(index.tolist()) - seen.keys():
            seen[i] = decoded(known[i][0], height, width)
        files, exact = zip(*(known[i] for i in index.tolist()), strict=True)
        return Files(torch.stack([seen[i] for i in index.tolist()]), files, all(exact))

    @property
    def _stored_pixels(self) -> dict[int, Tensor]:
        """Sample to what a student sees of its stored image; only the storage that was asked for last is remembered."""
        last: dict[Storage, dict[int, Tensor]] = self.once("stored pixels", dict)
        for other in set(last) - {self.storage}:
            del last[other]
        return last.setdefault(self.storage, {})

    def stored(self, modality: str, index: Tensor) -> Tensor:
        """What a student would see of real samples that are kept in a set: images decoded from what is stored, the rest as it is.

        Args:
            modality: held by the source, no text.
            index: `int64 [n]`, which samples.

        Returns:
            `float [n, ...]`, images in [0, 1], of the modality's resolution.

        Example:
            >>> import limbeck as lb
            >>> of = Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4), storage=Storage("jpeg", 10))
            >>> index = torch.tensor([3, 5])
            >>> bool((of.stored("image", index) - of.source.batch(index)["image"]).abs().max() > 0.02)
            True
        """
        if modality != "image" or self.budget.pixels == "float32":
            return self.source.batch(index)[modality]  # type: ignore[no-any-return]
        return self.stored_images(index).values.float().div(255)

    def pairs(self, learned_text: bool, tokens: int = 0, real: bool = False) -> int:
        """The number of synthetic samples M that the budget allows.

        Learned images that are stored exactly take no more than this assumes; of lossy codecs the bytes are estimated, and the quality
        is lowered in the end where they are more. Real samples are counted with their own bytes by `limbeck.core.fitted`.

        Args:
            learned_text: a text costs the bytes of an embedding, as also where the source holds vectors; else all captions of a
                sample are kept, and cost their mean UTF-8 length.
            tokens: token embeddings that a learned text consists of; 0 where it is one vector.
            real: whether images are those of real samples.
        """
        size = self.sample_bytes(learned_text, tokens, real=real)
        return self.budget.resolve(size, len(self.complete), self.fixed_bytes)

    @property
    def fixed_bytes(self) -> int:
        """Bytes of a set before its first sample, at most: card, manifest, and the frame of its table."""
        return FIXED + 4 * sum(len(name.encode()) + 8 for name in self.source.classes)

    def sample_bytes(
        self, learned_text: bool, tokens: int = 0, masks: bool = True, captions: int = 0, real: bool = False
    ) -> int:
        """Bytes of one synthetic sample in the files of a set: estimated for lossy codecs, of others no less than they are.

        Args:
            learned_text, tokens: see `pairs`.
            masks: with its mask, where the source has them.
            captions: how many it has where text is not learned; 0 for all of a real sample.
            real: whether its image is that of a real sample.
        """
        kinds, total = self.source.modalities, 64.0 + 8 * ("label" in self.source.modalities)
        total += 2 * sum(map(len, self.source.keys)) / len(self.source)  # origin and nearest
        if "image" in self.modalities:
            total += image_bytes(self, self._listed[0].nonzero().squeeze(1), real)
        if masks and self.masked:
            total += exact_bytes(1, *kinds["mask"].shape[1:])
        for name in (m for m in self.modalities if m not in ("image", "text")):
            total += 4 * prod(kinds[name].shape) + PREVIEW * (name in ("audio", "depth"))
        if "text" in self.modalities:
            total += text_bytes(self, learned_text, tokens, captions)
        return ceil(total)

    def rng(self, purpose: str, t: int = 0) -> torch.Generator:
        """The named random stream for `purpose` at step `t`."""
        return stream(self.seed, purpose, t)

    def draw(self, n: int, t: int, purpose: str = "real", among: Tensor | None = None) -> Tensor:
        """`n` sample indices drawn without replacement at step `t` (all of them where there are fewer): `int64`.

        Args:
            among: the indices to draw from; by default the samples that hold every modality.
        """
        pool = self.complete if among is None else among
        order = torch.randperm(len(pool), generator=self.rng(purpose, t))
        return pool[order[:n]]

    def draw_groups(self, n: int, t: int, pairs: int, per_class: bool | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """`n` real samples of each group at step `t`, and to which group real and synthetic samples belong.

        Args:
            n: real samples a group.
            t: step.
            pairs, per_class: see `groups`.

        Returns:
            `int64`: sample indices, the group of each, and the group of each of the `pairs` synthetic samples.
        """
        groups, sample = self.groups(pairs, per_class), self.candidates.sample
        drawn = [self.draw(n, t, f"real {g}", sample[among].unique()) for g, (among, _) in enumerate(groups)]
        counts = [*map(len, drawn)], [share for _, share in groups]
        real, own = (torch.arange(len(groups)).repeat_interleave(torch.tensor(count)) for count in counts)
        return torch.cat(drawn), real, own

    def real(self, n: int, t: int, purpose: str = "real") -> Batch:
        """A random batch of `n` real samples at step `t`, on the problem's device."""
        return self.source.batch(self.draw(n, t, purpose)).to(self.device)
