"""`bind`: heads over frozen encoders, trained so that several modalities share one space."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from math import cos, inf, isfinite, log, pi
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck import __version__
from limbeck.constraints import Check, Count, Ge, Interval, NotNegative, OnlyIf, Positive, validate
from limbeck.data.pairs import PairIndex
from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError, Diverged
from limbeck.objectives.binding import all_pairs, centroid, centroid_terms, fixed_terms, mean_of_terms
from limbeck.objectives.contrastive import infonce
from limbeck.runtime.cache import Cache, digest
from limbeck.runtime.locks import owned
from limbeck.runtime.progress import ProgressCallback
from limbeck.runtime.runtime import Runtime
from limbeck.spaces.embed import Features, embed_source
from limbeck.spaces.encoders.bound import Bound
from limbeck.spaces.heads import Head, read_manifest, refuse_other, write_heads
from limbeck.spaces.space import Space

__all__ = ["Binding", "bind", "load_space"]

LOGGED = 20  # steps of a training that the manifest tells of
COLDEST = 0.01  # the lowest temperature that is learned
Terms = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Tensor, Mapping[str, Tensor]], dict[str, Tensor]]


def _only(rule: str, modality: str = "") -> OnlyIf:
    return OnlyIf(lambda o: o.anchor.startswith(rule), "`anchor={o.anchor}`", f"set `anchor={rule}{modality}`")


CENTROID, ALL_PAIRS, FIXED = _only("centroid"), _only("all_pairs"), _only("fixed", ":image")


def _check_anchor(anchor: str) -> None:
    rule, _, modality = anchor.partition(":")
    if rule not in ("centroid", "all_pairs", "fixed") or (rule == "fixed") != bool(modality):
        raise ConfigError(f"`anchor` must be centroid, all_pairs or fixed:MODALITY (fixed:image), got {anchor!r}")


@dataclass(frozen=True, kw_only=True)
class Binding:
    """How heads are trained: on two noisy views of cached features, with AdamW, a cosine rate and clipped gradients.

    Args:
        anchor: what each modality is pulled to: centroid, all_pairs, or fixed:MODALITY.
        state: of a fixed anchor. pretrained: its head is trained alone by self-contrast, then frozen. random: its head is frozen as it was
            drawn. trainable: its head is trained with the others. own: it has no head and keeps the encoder's coordinates.
        dim: components of the common space.
        hidden: units of each hidden layer of a head; [] for linear heads.
        temperature: of the logits; lower keeps more of what a modality alone knows.
        learn_temperature: learn it, from that value, never below 0.01.
        steps: of training.
        batch: samples a step.
        rate: learning rate, which falls to zero.
        decay: weight decay.
        noise: of each view, in standard deviations of each feature.
        dropout: share of the features that a view lacks.
        weights: of modalities in the centroid; 1 where none is given.
        normalize: bring centroids to unit length.
        detach: let no gradient through the centroid.
        leave_one_out: a modality has no part in its own centroid.
        with_itself: with all_pairs also the two views of each modality.
        seed: of everything that is drawn.

    Raises:
        ConfigError: a value that cannot work, or an option of another anchor.

    Example:
        >>> Binding(anchor="fixed:image", leave_one_out=True)
        Traceback (most recent call last):
        limbeck.errors.ConfigError: `leave_one_out=True` of bind is ignored when `anchor=fixed:image`. Remove it, or set `anchor=centroid`.
    """

    anchor: Annotated[str, Check(_check_anchor)] = "centroid"
    state: Annotated[Literal["pretrained", "random", "trainable", "own"], FIXED] = "pretrained"
    dim: Count = 512
    hidden: tuple[Count, ...] = (2048,)
    temperature: Positive = 0.1
    learn_temperature: bool = False
    steps: Annotated[int, Ge(0)] = 3000
    batch: Annotated[int, Ge(2)] = 1024
    rate: Positive = 1e-3
    decay: NotNegative = 0.01
    noise: NotNegative = 0.1
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.1
    weights: Annotated[Mapping[str, Annotated[float, Interval(gt=0, lt=inf)]], CENTROID] = field(default_factory=dict)
    normalize: Annotated[bool, CENTROID] = False
    detach: Annotated[bool, CENTROID] = False
    leave_one_out: Annotated[bool, CENTROID] = False
    with_itself: Annotated[bool, ALL_PAIRS] = False
    seed: int = 0

    def __post_init__(self) -> None:
        validate(self, "bind")

    @property
    def fixed(self) -> str | None:
        """The modality that is a fixed anchor, if one is."""
        return self.anchor.partition(":")[2] or None

    def terms(
        self, first: Mapping[str, Tensor], second: Mapping[str, Tensor], temperature: Tensor, here: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The terms of the loss of a batch, see `limbeck.objectives.binding`.

        Args:
            first, second: modality to unit vectors `[B, dim]` of two views.
            temperature: of the logits.
            here: modality to the rows that have it.
        """
        if self.fixed:
            frozen = {self.fixed: first[self.fixed].detach()} if self.state != "trainable" else {}
            return fixed_terms({**first, **frozen}, second, temperature, here, anchor=self.fixed)
        if self.anchor == "all_pairs":
            return all_pairs(first, second, temperature, here, with_itself=self.with_itself)
        chosen = {"normalize": self.normalize, "detach": self.detach, "leave_one_out": self.leave_one_out}
        return centroid_terms(first, second, temperature, here, weights=self.weights, **chosen)


def bind(
    source: Source,
    space: Space,
    folder: str | Path,
    binding: Binding | None = None,
    *,
    cache: Cache | None = None,
    device: str | None = None,
    tick: ProgressCallback | None = None,
    runtime: Runtime | None = None,
) -> Space:
    """Trains a head on each frozen encoder, so that the modalities of a source share one space; keeps it in a folder.

    Samples may lack modalities: each term of the loss takes the rows that have both of its sides. Of several captions
    each step draws one.

    Args:
        source: the training split.
        space: frozen encoders; those of modalities that the source lacks are left out.
        folder: where the heads go; `limbeck.space(image="bound:FOLDER", ...)` opens it again.
        binding: how they are trained.
        cache, device, tick, runtime: a `Runtime`, or one by one its cache, device and progress (`tick`); not both.

    Returns:
        the space of `Bound` encoders, all of one dimension.

    Raises:
        ConfigError: fewer than two modalities, an anchor or a weight of none of them, an `own` anchor of another dimension.
        DataError: a modality that no sample has, or too few samples with two.
        StorageError: the folder holds something else, or another process binds into it.
        Diverged: the loss stopped being finite.

    Example:
        >>> import limbeck as lb
        >>> from tempfile import mkdtemp
        >>> encoders = lb.space(image="convnet", text="bag_of_words")
        >>> few = Binding(dim=8, hidden=(16,), steps=2, batch=16)
        >>> bind(lb.check.toy_source(), encoders, mkdtemp(), few, cache=lb.Cache(mkdtemp())).dims
        {'image': 8, 'text': 8}

    Paper: CentroBind, arXiv 2410.02086; Girdhar et al., ImageBind, CVPR 2023.
    """
    runtime = Runtime.of(runtime, device=device, cache=cache, tick=tick)
    binding, folder = binding or Binding(), Path(folder).expanduser()
    shared = Space({m: e for m, e in space.encoders.items() if m in source.modalities or m in source.embeddings})
    _refuse(source, shared, binding)
    refuse_other(folder)
    with owned(folder, "bind", beside=True):
        write_heads(folder, *_bound(source, shared, binding, runtime))
    return load_space(folder)


def _bound(source: Source, shared: Space, binding: Binding, runtime: Runtime) -> tuple[dict[str, Head], dict[str, Any]]:
    """Trained heads, and what the manifest tells of them."""
    features = embed_source(source, shared, runtime=runtime)
    data = _Data.of(features, len(source), source.name, runtime.device)
    heads = _heads(shared, features, binding)
    for head in heads.values():
        head.to(runtime.device)
    history = _train(data, heads, binding, runtime)
    return heads, {
        "dim": binding.dim,
        "encoders": shared.describe(),
        "fingerprints": {m: e.fingerprint for m, e in shared.encoders.items()},
        "licences": shared.licences,
        "binding": asdict(binding),
        "source": {**source.describe(), "fingerprint": source.fingerprint, "licence": source.licence},
        "samples": data.counts(),
        "history": history,
        "versions": {"limbeck": __version__, "torch": torch.__version__.split("+")[0]},
    }


def load_space(folder: str | Path) -> Space:
    """The bound space in a folder, of all its modalities.

    Raises:
        StorageError: the folder holds no bound space.
    """
    manifest = read_manifest(Path(folder).expanduser())
    return Space({modality: Bound(str(folder), modality) for modality in manifest["encoders"]})


def _refuse(source: Source, space: Space, binding: Binding) -> None:
    names = space.modalities
    if len(names) < 2:
        raise ConfigError(
            f"binding needs two modalities that source and space share; {source.name} holds {', '.join(source.modalities)} and "
            f"shares {', '.join(names) or 'none'} with the space"
        )
    if binding.fixed and binding.fixed not in names:
        raise ConfigError(f"the anchor {binding.fixed!r} is not among what is bound: {', '.join(names)}")
    if unknown := sorted(set(binding.weights) - set(names)):
        raise ConfigError(f"weights names {', '.join(unknown)}, which is not among what is bound: {', '.join(names)}")
    if binding.fixed and binding.state == "own" and space[binding.fixed].dim != binding.dim:
        raise ConfigError(
            f"an anchor that stays the encoder's own has its dimension: set dim to {space[binding.fixed].dim}, got {binding.dim}"
        )


@dataclass(frozen=True)
class _Data:
    """Features of all samples on one device, of which batches are drawn."""

    vectors: Mapping[str, Tensor]
    index: PairIndex

    @classmethod
    def of(cls, features: Mapping[str, Features], samples: int, name: str, device: str) -> "_Data":
        index = PairIndex.of({m: f.owner for m, f in features.items()}, samples)
        if absent := [m for m in features if not index.present(m).any()]:
            raise DataError(f"no sample of {name} has {absent[0]}; leave it out of the space")
        if (several := int((index.num_present > 1).sum())) < 2:
            raise DataError(f"{name}: only {several} samples have two of {', '.join(features)}; 2 are needed")
        return cls({m: f.vectors.to(device) for m, f in features.items()}, index)

    def counts(self) -> dict[str, int]:
        """How many samples there are, have one modality or none, and have each."""
        present, index = self.index.num_present, self.index
        counts = {
            "all": len(index),
            "one_modality": int((present == 1).sum()),
            "no_modality": int((present == 0).sum()),
        }
        return counts | {m: int(index.present(m).sum()) for m in self.vectors}

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Samples of one step after the other: each once an epoch; what is left of an epoch is dropped."""
        samples = (self.index.num_present > 0).nonzero().squeeze(1)
        while True:
            order = samples[torch.randperm(len(samples), generator=generator)]
            yield from (part for part in order.split(size) if len(part) == min(size, len(order)))

    def read(self, modality: str, samples: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A feature of each sample, drawn among its own, and whether it has one; where it has none, another's stands."""
        vectors = self.vectors[modality]
        rows = self.index.draw_one(modality, samples, generator)
        return vectors[rows.to(vectors.device)], (self.index.counts[modality][samples] > 0).to(vectors.device)


def _heads(space: Space, features: Mapping[str, Features], binding: Binding) -> dict[str, Head]:
    heads = {}
    for modality, encoder in space.encoders.items():
        own = binding.state == "own" and binding.fixed == modality
        drawn = _stream(binding.seed, f"head {modality}")
        heads[modality] = Head(encoder.dim, () if own else binding.hidden, 0 if own else binding.dim, drawn)
        if not own:
            heads[modality].standardise(features[modality].vectors)
    return heads


def _train(data: _Data, heads: Mapping[str, Head], binding: Binding, runtime: Runtime) -> list[dict[str, float]]:
    """Trains the heads in place, a frozen anchor's alone and first; returns what the last training logged."""
    moving, anchor = dict(heads), binding.fixed
    if anchor and binding.state != "trainable":
        frozen = moving.pop(anchor)
        if binding.state == "pretrained":
            _descend(
                data, {anchor: frozen}, {anchor: frozen}, binding, partial(_self_contrast, anchor), "anchor", runtime
            )
        frozen.requires_grad_(False)
    return _descend(data, heads, moving, binding, binding.terms, "binding", runtime)


def _self_contrast(
    modality: str,
    first: Mapping[str, Tensor],
    second: Mapping[str, Tensor],
    temperature: Tensor,
    here: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    rows = here[modality].nonzero().squeeze(1)
    logits = first[modality][rows] @ second[modality][rows].T / temperature
    return {modality: infonce(logits)} if len(rows) > 1 else {}


def _descend(
    data: _Data,
    heads: Mapping[str, Head],
    moving: Mapping[str, Head],
    binding: Binding,
    terms: Terms,
    what: str,
    runtime: Runtime,
) -> list[dict[str, float]]:
    """Steps of AdamW on the heads that move; returns loss, terms and centroid length at some of the steps."""
    order, views = _stream(binding.seed, f"{what} order"), _stream(binding.seed, f"{what} views")
    device = next(iter(data.vectors.values())).device
    log_temperature = nn.Parameter(torch.tensor(binding.temperature, device=device).log(), binding.learn_temperature)
    parameters = [p for head in moving.values() for p in head.parameters()]
    groups: list[dict[str, Any]] = [{"params": parameters}, {"params": [log_temperature], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups[: 1 + binding.learn_temperature], lr=binding.rate, weight_decay=binding.decay)
    history, batches = [], data.batches(binding.batch, order)
    told = {round(i * (binding.steps - 1) / (LOGGED - 1)) for i in range(LOGGED)}
    for step in range(binding.steps):
        for group in optimizer.param_groups:
            group["lr"] = binding.rate * (1 + cos(pi * step / binding.steps)) / 2
        first, second, here = _views(data, heads, next(batches), binding, views)
        found = terms(first, second, log_temperature.exp(), here)
        loss = mean_of_terms(found)
        value = float(loss.detach())
        if not isfinite(value):
            raise Diverged(f"{what}, step {step}: the loss is {value}; lower the rate ({binding.rate})")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
        optimizer.step()
        if binding.learn_temperature:
            log_temperature.data.clamp_(min=log(COLDEST))
        if step in told:
            length, temperature = centroid(first, here).detach().norm(dim=1).mean(), log_temperature.detach().exp()
            row = {"step": step, "loss": value, "centroid": float(length), "temperature": float(temperature)}
            history.append({**row, **{name: float(term.detach()) for name, term in found.items()}})
        if not step % 20 or step + 1 == binding.steps:
            runtime.report(what, step + 1, binding.steps)
    return history


def _views(
    data: _Data, heads: Mapping[str, Head], samples: Tensor, binding: Binding, generator: torch.Generator
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Unit vectors of two views of each modality, and which samples have it."""
    first, second, here = {}, {}, {}
    for modality, head in heads.items():
        features, here[modality] = data.read(modality, samples, generator)
        twice = torch.cat([features, features])
        if not head.dim:  # an anchor that is the encoder's own is not shaken
            first[modality], second[modality] = twice.chunk(2)
            continue
        x = head.standard(twice)
        if binding.noise:
            x = x + binding.noise * torch.randn(x.shape, generator=generator).to(x)
        if binding.dropout:
            x = x * (torch.rand(x.shape, generator=generator) >= binding.dropout).to(x)
        first[modality], second[modality] = F.normalize(head.project(x), dim=-1).chunk(2)
    return first, second, here


def _stream(seed: int, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(int(digest(seed, purpose)[:15], 16))
