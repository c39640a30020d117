"""Who judges the sets of a search: students on the encoders that make them, and on one that takes no part in it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from limbeck import registry
from limbeck.core import DistilledSet, Problem
from limbeck.core.kept import kept_vectors
from limbeck.data.source import Source
from limbeck.errors import ConfigError, DataError, LimbeckError
from limbeck.evaluation.protocol import Context, Protocol
from limbeck.spaces import Encoder, Space
from limbeck.spaces.build import space
from limbeck.spaces.encoders.pool import members_of
from limbeck.spaces.image_like import IMAGE_LIKE

__all__ = ["ORDER", "Judge", "judges_of", "protocol_of", "validation_of"]

ORDER = ("efficientnet_lite2", "mobilenet_v2", "efficientnet_lite0")
"""The first of them that is installed and takes no part judges."""


@dataclass(frozen=True)
class Judge:
    """A student's encoders.

    Args:
        name: of the encoder that is at home, or stands in.
        space: the encoders that a student reads.
        unseen: whether it takes no part in making the sets.
    """

    name: str
    space: Space
    unseen: bool

    def score(self, problem: Problem, small: DistilledSet, held_out: Source, protocol: Protocol, kept: bool) -> float:
        """What a student of the set finds of the validation data, in percent: the mean of all its metrics.

        Args:
            problem: what the set was made from, and how it is stored.
            small: the set.
            held_out: validation data.
            protocol: how students are trained.
            kept: whether the set keeps real samples: those are read once, whatever sets they are in.
        """
        seen = self._read(problem, small) if kept else small
        context = Context(problem.seed, replace(problem.runtime, progress=None))
        found = protocol.run(seen, held_out, self.space, context)
        return found["mean"] if "mean" in found else sum(found.values()) / len(found)

    def _read(self, problem: Problem, small: DistilledSet) -> DistilledSet:
        """The set with the vectors of its real samples in their place."""
        place = problem.once("place of each key", lambda: {key: i for i, key in enumerate(problem.source.keys)})
        index = torch.tensor([place[key] for key in small.origins])
        kept = [m for m in self.space.modalities if m in small.modalities and m not in small.embeddings and m != "text"]
        vectors = {}
        for modality in kept:
            for encoder in members_of(self.space[modality])[:1]:
                vectors[modality] = kept_vectors(problem, modality, encoder, problem.features[modality], index).cpu()
        by = {m: members_of(self.space[m])[0].fingerprint for m in vectors}
        return replace(small, tensors={**small.tensors, **vectors}, embedded_by={**small.embedded_by, **by})


def validation_of(problem: Problem, on: Source) -> Source:
    """The split that sets are chosen on.

    Args:
        problem: the search is for.
        on: the data with all their splits.

    Raises:
        DataError: there is none.
        ConfigError: it is the training split.
    """
    if "val" not in on.splits:
        raise DataError(
            f"{on.name} has no validation split to choose a method on (its splits: {', '.join(on.splits) or 'none'}); add a split "
            "named 'val' to the data, or choose yourself: --method label_distillation, or another of limbeck list methods"
        )
    held_out = on.split("val")
    if held_out.fingerprint == problem.source.fingerprint:
        raise ConfigError(
            f"{on.name} would be judged on the data that it is made from; distil the training split, or name a method with --method"
        )
    return held_out


def protocol_of(problem: Problem, **options: Any) -> Protocol:
    """How a student is trained and judged: retrieval where texts stand beside something else, classification of labels, else retrieval.

    Raises:
        DataError: the data have neither labels nor two modalities.
    """
    several = len(problem.modalities) > 1
    if not several and problem.source.labels is None:
        raise DataError(
            f"{problem.source.name} with this space has {problem.modalities[0]} alone and no labels, so no student can tell methods "
            "apart; name a method with --method, or use data with captions, labels or another modality"
        )
    retrieval = several and ("text" in problem.modalities or problem.source.labels is None)
    found = registry.get("protocol", "retrieval" if retrieval else "classification")
    made: Protocol = found(**options, selection="paper")  # students are chosen, and judged, on the validation split
    return made


def judges_of(problem: Problem, asked: str | Mapping[str, Any] | Encoder | None) -> list[Judge]:
    """The encoders of the problem, and one that took no part where there is one.

    Args:
        problem: whose space is at home.
        asked: the encoder to take; `None` for the first of `ORDER` that is installed and takes no part, `"none"` for no other.

    Raises:
        ConfigError: the encoder takes part, or stands in for no modality of the problem.
        UnknownName, MissingDependency: see `limbeck.space`.
    """
    places = [m for m in IMAGE_LIKE if m in problem.modalities and m not in problem.source.embeddings]
    place = places[0] if places else ""
    home = [m for m in problem.modalities if m != "text"] or ["text"]
    read = {m: members_of(problem.space[m])[0] for m in problem.modalities}
    found = [Judge("+".join(read[m].describe()["name"] for m in home), Space(read), False)]
    if asked == "none" or (asked is None and not place):
        return found
    if not place:
        raise ConfigError(
            f"a judge is an encoder of {', '.join(IMAGE_LIKE)}, and {problem.source.name} with this space has "
            f"{', '.join(problem.modalities)}; leave --judge out"
        )
    other = _first(problem, place) if asked is None else _opened(problem, place, asked)
    if other is not None:
        found.append(Judge(other.describe()["name"], Space({**read, place: other}), True))
    return found


def _first(problem: Problem, place: str) -> Encoder | None:
    """The first of `ORDER` that can be had and takes no part."""
    for name in ORDER:
        try:
            encoder = space(**{place: name})[place]
            if not _takes_part(problem, encoder):
                return encoder
        except LimbeckError:  # its weights are not installed
            continue
    return None


def _opened(problem: Problem, place: str, asked: str | Mapping[str, Any] | Encoder) -> Encoder:
    encoder = asked if isinstance(asked, Encoder) else space(**{place: asked})[place]
    if encoder.modality != place:
        raise ConfigError(
            f"the judge {encoder.describe()['name']!r} encodes {encoder.modality}, and it stands in for {place}"
        )
    if len(members_of(encoder)) > 1:
        raise ConfigError("a judge is one encoder, got a pool; name one of its members with --judge")
    if _takes_part(problem, encoder):
        raise ConfigError(
            f"{encoder.describe()['name']} takes part in making the set, so it cannot judge as one that does not; name another with "
            "--judge, or none"
        )
    return encoder


def _takes_part(problem: Problem, encoder: Encoder) -> bool:
    """Whether an encoder of the problem has weights of this one, alone or as a part of others."""
    return any(encoder.all_weights & problem.space[m].all_weights for m in IMAGE_LIKE if m in problem.modalities)
