"""Real embeddings under a few augmentations, encoded once, so that matching under augmentation needs no encoder for the real side."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from limbeck.constraints import OnlyIf
from limbeck.core.problem import Problem
from limbeck.data.augment import siamese
from limbeck.runtime.cache import digest
from limbeck.runtime.timing import seconds_of
from limbeck.spaces import Encoder

__all__ = ["AUGMENTED", "Views", "spread"]

AUGMENTED = OnlyIf(lambda o: o.augment, "nothing is augmented (`augment` is empty)", "name operations in `augment`")
PLAIN = -1  # the view of the data as they are
BATCH = 128  # images that are encoded at a time


@dataclass(frozen=True)
class Views:
    """R views of the real images: view r is all of them under one operation with one draw of parameters.

    The same operation moves the synthetic images, so that alike is compared with alike. Other modalities have one view.

    Args:
        operations: Siamese operations to draw from; none of them leaves one view, the data as they are.
        count: how many views R.
    """

    operations: tuple[str, ...] = ()
    count: int = 1

    def at(self, problem: Problem, t: int) -> int:
        """The view of step t."""
        if not self.operations or "image" not in problem.modalities:
            return PLAIN
        return int(torch.randint(self.count, (), generator=problem.rng("view", t)))

    def move(self, problem: Problem, view: int) -> Callable[[Tensor], Tensor] | None:
        """What moves images as in a view."""
        return None if view == PLAIN else partial(self._moved, problem, view)

    def vectors(self, problem: Problem, modality: str, view: int) -> Tensor:
        """Unit vectors of a view: `float [R, D]`, as `problem.features` has them, on the problem's device.

        A view's images are encoded when it is first asked for, and kept in the cache.
        """
        if view == PLAIN or modality != "image":
            return problem.once(("vectors", modality), lambda: problem.features[modality].vectors.to(problem.device))

        def make() -> Tensor:
            stored = problem.cache.tensors("views", self._entry(problem, view), partial(self._encode, problem, view))
            return stored["vectors"].to(problem.device)

        return problem.once(("view", self.operations, view), make)

    def cost(self, problem: Problem, steps: int) -> tuple[float, int]:
        """Seconds, estimated from one batch, and bytes in the cache of the views that are not there yet. Stores nothing.

        Args:
            problem: whose images.
            steps: how many draw a view each; one that none of them draws is never made.
        """
        asked = {self.at(problem, t) for t in range(steps)} - {PLAIN}
        missing = [v for v in asked if not problem.cache.path("views", self._entry(problem, v)).is_dir()]
        if not missing:
            return 0.0, 0
        owner, encoder = problem.features["image"].owner, problem.space["image"].to(problem.device)
        index = owner[:BATCH]
        batch = seconds_of(lambda: self._batch(problem, encoder, missing[0], index), problem.device)
        return len(missing) * batch * len(owner) / len(index), len(missing) * len(owner) * 4 * encoder.dim

    def _entry(self, problem: Problem, view: int) -> str:
        parts = [problem.source.fingerprint, problem.space["image"].fingerprint, problem.seed]
        return digest(*parts, list(self.operations), view)

    def _moved(self, problem: Problem, view: int, images: Tensor) -> Tensor:
        return siamese([images], problem.rng("augment", view), self.operations)[0]

    def _encode(self, problem: Problem, view: int) -> dict[str, Tensor]:
        """Batch by batch: all get the same parameters, as every batch draws from the same stream."""
        encoder, owner, parts = problem.space["image"].to(problem.device), problem.features["image"].owner, []
        for index in owner.split(BATCH):
            parts.append(self._batch(problem, encoder, view, index))
            problem.runtime.report(f"view {view + 1}", sum(map(len, parts)), len(owner))
        return {"vectors": torch.cat(parts)}

    @torch.no_grad()
    def _batch(self, problem: Problem, encoder: Encoder, view: int, index: Tensor) -> Tensor:
        images = problem.source.batch(index)["image"].to(problem.device)
        return encoder(self._moved(problem, view, images)).cpu()


def spread(problem: Problem, modality: str) -> float:
    """The median distance between two real vectors of a modality, over a draw of a thousand candidates; the unit of frequencies.

    Args:
        problem: whose features.
        modality: which.
    """

    def make() -> float:
        order = torch.randperm(len(problem.candidates), generator=problem.rng("spread"))[:1000]
        vectors = problem.features[modality].vectors[problem.candidates.rows[modality][order]]
        distance = torch.pdist(vectors)
        return max(float(distance.median()), 1e-3) if len(distance) else 1.0

    return problem.once(("spread", modality), make)
