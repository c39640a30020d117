"""The similarity that a set learns: how much image i matches text j, as a small module, and how to read it."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from limbeck.errors import ConfigError

__all__ = ["BOUNDS", "KINDS", "Similarity", "centred", "partners", "summary"]

KINDS = ("scalar", "diagonal", "lowrank", "full")
BOUNDS = ("none", "clamp", "sigmoid")
STEEP = (
    6.0  # of the sigmoid bound: 0.9975 on the diagonal and 0.0025 off it at the start, little beside 1 for 100 pairs
)
LARGEST, LEAST = (
    100.0,
    0.05,
)  # an entry before its bound beyond the one, or a mean diagonal below the other: it diverged


class Similarity(nn.Module):
    """S `[M, M]`, rows images and columns texts; the identity at the start (`sigmoid`: near it).

        raw = diag(w) + (alpha / r) L R^T,    w = 1, L normal, R = 0 at the start

    `lowrank` is this; `diagonal` has w alone, `scalar` one w for all pairs; `full` is a free matrix.

    Args:
        pairs: M.
        kind: `"scalar"`, `"diagonal"`, `"lowrank"` or `"full"`.
        rank: r, columns of L and R; read by `lowrank` only.
        alpha: size of the low-rank part; read by `lowrank` only.
        bound: `"none"`: S = raw, as published; `"clamp"`: raw cut to [0, 1], its gradient as if it were not;
            `"sigmoid"`: S = sigmoid(6 (2 raw - 1)).
        generator: draws L; by default a fixed one.

    Raises:
        ConfigError: an unknown kind or bound, or a rank below 1 or above the number of pairs.

    Paper: Xu et al., Low-rank similarity mining for multimodal dataset distillation, ICML 2024; bounds are ours.

    Example:
        >>> s = Similarity(pairs=100, rank=10)
        >>> bool(torch.equal(s(), torch.eye(100))), s(torch.tensor([3, 1])).shape, s.nbytes
        (True, torch.Size([2, 2]), 8400)
    """

    def __init__(
        self,
        pairs: int,
        kind: str = "lowrank",
        rank: int = 10,
        alpha: float = 1.0,
        bound: str = "none",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if kind not in KINDS or bound not in BOUNDS:
            raise ConfigError(
                f"a similarity is of the kind {', '.join(KINDS)} and has the bound {', '.join(BOUNDS)}; "
                f"got {kind!r} and {bound!r}"
            )
        if kind == "lowrank" and not 1 <= rank <= pairs:
            raise ConfigError(
                f"the rank of a similarity of {pairs} pairs must be from 1 to {pairs}, got {rank}; "
                "give a lower rank, or a larger budget"
            )
        self.pairs, self.kind, self.rank, self.alpha, self.bound = pairs, kind, rank, alpha, bound
        if kind == "full":
            self.matrix = nn.Parameter(torch.eye(pairs))
        else:
            self.weight = nn.Parameter(torch.ones(() if kind == "scalar" else pairs))
        if kind == "lowrank":
            draw = generator if generator is not None else torch.Generator().manual_seed(0)
            self.left = nn.Parameter(torch.randn(pairs, rank, generator=draw))
            self.right = nn.Parameter(torch.zeros(pairs, rank))

    def forward(self, index: Int[Tensor, " b"] | None = None) -> Float[Tensor, "b b"]:
        """S of the pairs at `index` (of all by default), without the rest of it."""
        return self._bounded(self.raw(index))

    def _bounded(self, raw: Tensor) -> Tensor:
        if self.bound == "clamp":
            return raw.clamp(0, 1).detach() + (raw - raw.detach())
        return (STEEP * (2 * raw - 1)).sigmoid() if self.bound == "sigmoid" else raw

    def raw(self, index: Int[Tensor, " b"] | None = None) -> Float[Tensor, "b b"]:
        """The same before the bound."""
        if self.kind == "full":
            return self.matrix if index is None else self.matrix[index][:, index]
        weight = self.weight if index is None or self.kind == "scalar" else self.weight[index]
        if index is None:
            index = torch.arange(self.pairs, device=weight.device)
        raw = (index[:, None] == index) * weight
        if self.kind == "lowrank":
            raw = raw + self.alpha / self.rank * self.left[index] @ self.right[index].T
        return raw

    @torch.no_grad()
    def trouble(self) -> str:
        """What went wrong with it, empty where nothing did: it grew without end, or a pair is no more alike than two strangers."""
        raw = self.raw()
        bounded = self._bounded(raw)
        largest, n = float(raw.abs().max()), len(raw)
        if not largest < LARGEST:
            return f"reached {largest:.3g}"
        own = float(bounded.diagonal().mean())
        others = (float(bounded.sum()) - n * own) / max(n * n - n, 1)
        if own < LEAST or own <= others:
            return (
                f"collapsed: {own:.2g} on average for a pair, {others:.2g} for an image with the text of another pair"
            )
        return ""

    @property
    def nbytes(self) -> int:
        """Bytes of what is learned."""
        return sum(p.numel() * p.element_size() for p in self.parameters())

    def describe(self) -> dict[str, Any]:
        """What `restore` needs beside the parameters, as JSON types."""
        return {"pairs": self.pairs, "kind": self.kind, "rank": self.rank, "alpha": self.alpha, "bound": self.bound}

    @classmethod
    def restore(cls, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "Similarity":
        """The similarity of a description and its parameters, the same to the bit.

        Args:
            description: of `describe`.
            tensors: of `state_dict`.

        Example:
            >>> s = Similarity(4, rank=2, bound="clamp")
            >>> torch.equal(Similarity.restore(s.describe(), s.state_dict())(), s())
            True
        """
        similarity = cls(**description)
        similarity.load_state_dict(dict(tensors))
        return similarity


def summary(similarity: Float[Tensor, "m m"]) -> dict[str, float]:
    """S in five numbers: its range and mean, the mean of its diagonal, the standard deviation of what is off it.

    Args:
        similarity: S.

    Example:
        >>> summary(torch.eye(4))
        {'min': 0.0, 'max': 1.0, 'mean': 0.25, 'diagonal': 1.0, 'spread': 0.0}
    """
    own = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    rest = similarity[~own] if len(similarity) > 1 else similarity.new_zeros(1)
    return {
        "min": similarity.min().item(),
        "max": similarity.max().item(),
        "mean": similarity.mean().item(),
        "diagonal": similarity.diagonal().mean().item(),
        "spread": rest.std(correction=0).item(),
    }


def centred(similarity: Float[Tensor, "m m"]) -> Float[Tensor, "m m"]:
    """What S says of a pair beyond how well its image and its text match in general; zero on the diagonal.

        C_ij = S_ij - r_i - c_j + g    for i != j;    r, c, g: means of rows, columns and all, without the diagonal

    Args:
        similarity: S.

    Example:
        >>> centred(torch.tensor([[1.0, 0.2, 0.2], [0.2, 1.0, 0.2], [0.2, 0.2, 1.0]])).abs().max().item() < 1e-6
        True
    """
    m = len(similarity)
    own = torch.eye(m, dtype=torch.bool, device=similarity.device)
    rest = similarity.masked_fill(own, 0)
    rows, columns = (rest.sum(dim=d, keepdim=True) / max(m - 1, 1) for d in (1, 0))
    return (rest - rows - columns + rest.sum() / max(m * (m - 1), 1)).masked_fill(own, 0)


def partners(similarity: Float[Tensor, "m m"], k: int) -> list[tuple[int, int, float]]:
    """The k pairs of an image and the text of another that S ties most, best first.

    Args:
        similarity: S.
        k: how many, at most.

    Returns:
        (image, text, value), the value that of `centred`.

    Example:
        >>> s = torch.eye(4)
        >>> s[2, 0] = 0.5
        >>> [(i, j) for i, j, _ in partners(s, 1)]
        [(2, 0)]
    """
    m = len(similarity)
    found = centred(similarity).masked_fill(torch.eye(m, dtype=torch.bool, device=similarity.device), -torch.inf)
    value, place = found.flatten().topk(min(k, m * (m - 1)))
    return [(p // m, p % m, v) for p, v in zip(place.tolist(), value.tolist(), strict=True)]
