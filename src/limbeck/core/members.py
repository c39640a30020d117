"""The members of a pool of encoders: their features, the one that a step draws, and what they cost."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from limbeck.core.problem import Problem
from limbeck.runtime.timing import seconds_of
from limbeck.spaces import Encoder, Features, Space, embed_source
from limbeck.spaces.encoders.pool import members_of

__all__ = ["drawn_member", "member_costs", "member_features"]


def member_features(problem: Problem, modality: str) -> list[tuple[Encoder, Features]]:
    """Each encoder of a modality, one or the members of a pool, with its features of the whole source.

    Args:
        problem: whose space.
        modality: which.
    """

    def make() -> list[tuple[Encoder, Features]]:
        first, *others = members_of(problem.space[modality])
        found = [(first, problem.features[modality])]
        for encoder in others:
            space = Space({modality: encoder})
            found.append((encoder, embed_source(problem.source, space, runtime=problem.runtime)[modality]))
        return found

    return problem.once(("members", modality), make)


def drawn_member(problem: Problem, t: int) -> Problem:
    """The problem as step t of a method sees it that reads one encoder: of each pool one member, drawn; else itself.

    Args:
        problem: whose space may hold pools. What is derived of a member's features is kept with that member.
        t: step.
    """
    counts = {m: len(members_of(problem.space[m])) for m in problem.modalities}
    if max(counts.values()) == 1:
        return problem
    chosen = {
        m: int(torch.randint(count, (), generator=problem.rng(f"member of {m}", t))) for m, count in counts.items()
    }

    def make() -> Problem:
        members = {m: member_features(problem, m)[k] for m, k in chosen.items()}
        one = replace(problem, space=Space({m: encoder for m, (encoder, _) in members.items()}))
        one.__dict__["features"] = {m: features for m, (_, features) in members.items()}
        return one

    return problem.once(("member", *chosen.items()), make)


def member_costs(problem: Problem) -> tuple[float, int]:
    """Seconds, estimated from one batch, and bytes in the cache of the features of all members but the first of each pool.

    Args:
        problem: whose space.
    """
    seconds, size = 0.0, 0
    for modality in problem.modalities:
        for encoder in members_of(problem.space[modality])[1:]:
            probe = problem.source.batch(problem.complete[:32])[modality].to(problem.device)
            batch = seconds_of(partial(_read, encoder.to(problem.device), probe), problem.device)
            seconds += batch * len(problem.source) / len(probe)
            size += 4 * encoder.dim * len(problem.source)
    return seconds, size


@torch.no_grad()
def _read(encoder: Encoder, values: Tensor) -> Tensor:
    return encoder(values)
