"""Made-up data of which we know what each modality holds: they tell what a common space keeps and what it loses."""

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data.vectors import VectorSource
from limbeck.errors import ConfigError
from limbeck.runtime.cache import digest

__all__ = ["FactorSource", "factors", "ranked"]

WIDTH = 64  # components of a modality
NAMES = ("a", "b", "c")


class FactorSource(VectorSource):
    """A `VectorSource` that knows what its vectors were made of; see `factors`.

    Attributes:
        truth: factor to `float [N, 4]`; `"bc"` is what b and c share and a lacks, `"a"` what a alone knows.
    """

    truth: dict[str, Tensor]


def factors(samples: int, split: str = "train", seed: int = 0, broken: str = "") -> FactorSource:
    """Three modalities a, b, c of 64 components, made of seven independent factors of four components each.

        x_i = W2_i leaky(W1_i h_i) / s + 0.1 noise,    h_i = the four factors that hold i, of abc, ab, ac, bc, a, b, c

    The maps are fixed by the seed, another pair for each modality, and s brings the deviation to one.

    Args:
        samples: N.
        split: names a draw: another split has other samples and the same maps.
        seed: of the maps and of every draw.
        broken: a factor of two modalities; the second of them gets it from other samples. Each modality alone stays as
            it was, and so does every other tie.

    Raises:
        ConfigError: no sample, or `broken` is no factor of two modalities.

    Example:
        >>> source = factors(5)
        >>> list(source.modalities), list(source.truth)
        (['a', 'b', 'c'], ['abc', 'ab', 'ac', 'bc', 'a', 'b', 'c'])
    """
    held = ["abc", *("".join(pair) for pair in combinations(NAMES, 2)), *NAMES]
    if samples < 1 or (broken and (broken not in held or len(broken) != 2)):
        raise ConfigError(
            f"factors needs a sample or more, and broken to be ab, ac or bc; got {samples} and {broken!r}"
        )
    truth = _draws(held, samples, f"factors {seed} {split}")
    reference = _draws(held, 4096, f"factors {seed} reference")
    seen = {m: [name for name in held if m in name] for m in NAMES}
    vectors = {}
    for m in NAMES:
        own = dict(truth)
        if broken and m == broken[1]:
            own[broken] = own[broken][torch.randperm(samples, generator=_stream(f"factors {seed} {split} broken"))]
        maps = _maps(16, _stream(f"factors {seed} maps {m}"))
        scale = _map(torch.cat([reference[name] for name in seen[m]], dim=1), maps).std()
        noise = torch.randn(samples, WIDTH, generator=_stream(f"factors {seed} {split} noise {m}"))
        vectors[m] = _map(torch.cat([own[name] for name in seen[m]], dim=1), maps) / scale + 0.1 * noise
    source = FactorSource(f"factors[{split}, {seed}]", vectors, split=split, licence="CC0-1.0")
    source.truth = truth
    return source


def ranked(samples: int, split: str = "train", seed: int = 0) -> VectorSource:
    """Four modalities a, b, c, d of rising knowledge: they see 2, 4, 8 and all 16 coordinates of a labelled point.

    The points are a mixture of twenty Gaussians of unit covariance with standard normal centres, and the label is the
    component. Each modality sees coordinates after a rotation of its own, through maps as in `factors`, with noise of 0.3.

    Args:
        samples: N.
        split: names a draw; the centres, rotations and maps are those of the seed.
        seed: of everything.

    Raises:
        ConfigError: no sample.

    Example:
        >>> len(ranked(5).classes) <= 20, list(ranked(5).modalities)
        (True, ['a', 'b', 'c', 'd', 'label'])
    """
    if samples < 1:
        raise ConfigError(f"ranked needs a sample or more, got {samples}")
    centres = torch.randn(20, 16, generator=_stream(f"ranked {seed} centres"))

    def points(n: int, purpose: str) -> tuple[Tensor, Tensor]:
        drawn = _stream(f"ranked {seed} {purpose}")
        label = torch.randint(20, (n,), generator=drawn)
        return centres[label] + torch.randn(n, 16, generator=drawn), label

    (z, label), (reference, _) = points(samples, split), points(4096, "reference")
    vectors = {}
    for m, rank in zip("abcd", (2, 4, 8, 16), strict=True):
        drawn = _stream(f"ranked {seed} maps {m}")
        rotation = torch.linalg.qr(torch.randn(16, 16, generator=drawn))[0][:, :rank]
        maps = _maps(rank, drawn)
        noise = torch.randn(samples, WIDTH, generator=_stream(f"ranked {seed} {split} noise {m}"))
        vectors[m] = _map(z @ rotation, maps) / _map(reference @ rotation, maps).std() + 0.3 * noise
    return VectorSource(f"ranked[{split}, {seed}]", vectors, labels=label, split=split, licence="CC0-1.0")


def _draws(names: list[str], samples: int, purpose: str) -> dict[str, Tensor]:
    return {name: torch.randn(samples, 4, generator=_stream(f"{purpose} {name}")) for name in names}


def _maps(inputs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    first = torch.randn(inputs, WIDTH, generator=generator) / inputs**0.5
    return first, torch.randn(WIDTH, WIDTH, generator=generator) / WIDTH**0.5


def _map(hidden: Tensor, maps: tuple[Tensor, Tensor]) -> Tensor:
    return F.leaky_relu(hidden @ maps[0], 0.2) @ maps[1]


def _stream(purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(int(digest(purpose)[:15], 16))
