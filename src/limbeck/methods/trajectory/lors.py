"""LoRS: trajectory matching that learns how much each synthetic image matches each synthetic text."""

from dataclasses import dataclass
from typing import Annotated, Literal

from limbeck.constraints import Ge, NotNegative
from limbeck.core import Problem
from limbeck.errors import ConfigError
from limbeck.methods.trajectory.experts import TrajectoryMatching
from limbeck.objectives.contrastive import LossName
from limbeck.objectives.similarity import Similarity

__all__ = ["LoRS"]


@dataclass(frozen=True)
class LoRS(TrajectoryMatching):
    """Trajectory matching with a learned similarity of images and texts, stored in low rank.

        S = diag(w) + alpha / r  L R^T,      w = 1, R = 0 at the start: S = I

    S takes the place of the identity in the student's loss, in distillation and in every student of the set.

    Args:
        loss: ence, cwcl, wbce (as published), bce or infonce (which reads no similarity).
        similarity: lowrank, diagonal (w alone), scalar (one w), full (all M x M entries) or none (S = I).
        rank: r of lowrank; 0 leaves w alone.
        alpha: weight of the low-rank part.
        bound: sigmoid or clamp keep S in [0, 1]; none (as published) leaves it free.
        lr_similarity: learning rate of w, L and R.

    Paper: Xu et al., Low-rank similarity mining for multimodal dataset distillation, ICML 2024.

    Example:
        >>> LoRS(rank=5).describe()["rank"]
        5
    """

    loss: LossName = "ence"
    similarity: Literal["none", "scalar", "diagonal", "lowrank", "full"] = "lowrank"
    rank: Annotated[int, Ge(0)] = 10
    alpha: NotNegative = 1.0
    bound: Literal["none", "clamp", "sigmoid"] = "sigmoid"
    lr_similarity: NotNegative = 0.04

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss == "infonce" and self.similarity != "none":
            raise ConfigError(
                "the loss infonce reads no similarity, so nothing would be learned of it; set similarity to none, or take "
                "another loss, such as ence"
            )

    @property
    def contrast(self) -> str:
        """`loss`."""
        return self.loss

    @property
    def lr_relation(self) -> float:
        """`lr_similarity`."""
        return self.lr_similarity

    def fits(self, pairs: int) -> None:
        """Refuses a rank above the number of pairs, too."""
        super().fits(pairs)
        if self.similarity == "lowrank" and self.rank > pairs:
            raise ConfigError(
                f"rank {self.rank} is above the {pairs} pairs of the set; lower rank, or ask for more pairs"
            )

    def learned_similarity(self, problem: Problem, pairs: int) -> Similarity | None:
        """The low-rank module, or what `similarity` says."""
        if self.similarity == "none":
            return None
        kind = "diagonal" if self.similarity == "lowrank" and self.rank == 0 else self.similarity
        return Similarity(pairs, kind, self.rank or 1, self.alpha, self.bound, generator=problem.rng("similarity"))
