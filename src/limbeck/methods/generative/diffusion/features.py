"""Pair features: what an image and a caption are compared by, where images are latents that a denoiser has estimated."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import sqrt
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck.core import Problem
from limbeck.errors import ConfigError
from limbeck.methods.generative.diffusion.prior import Condition, DiffusersPrior
from limbeck.runtime.cache import digest
from limbeck.spaces import Space, embed_source
from limbeck.spaces.binder import Binding, bind, load_space

__all__ = [
    "DecodedFeatures",
    "LatentFeatures",
    "PairFeatures",
    "agreement",
    "caption_vectors",
    "is_joint",
    "joint_space",
]

BINDING = Binding(anchor="all_pairs", hidden=(), dim=256, steps=600, batch=512)
"""How the heads are trained that bring together encoders which were not trained together."""

POOLED = 4  # a side of what is left of a latent, before it is projected
WIDTH = 128  # components of a learned projection


class PairFeatures(ABC):
    """Vectors of estimated latents and of captions, which can be compared; gradients reach the latents."""

    @abstractmethod
    def image(self, latents: Tensor) -> Tensor:
        """`[B, D]` of clean latents `[B, C, h, w]`."""

    @abstractmethod
    def text(self, rows: Tensor, condition: Condition) -> Tensor:
        """`[B, D]` of captions: their rows among all captions of the source, and what the denoiser reads of them."""


class DecodedFeatures(PairFeatures):
    """Latents are decoded, and seen by a frozen joint encoder; captions by its other half.

        x_i = f(clip(d(z_i), 0, 1)),    y_i = g(caption_i)

    Args:
        prior: decodes.
        space: joint encoders of image and text.
        captions: unit vectors of all captions of the source `[R, D]`.
    """

    def __init__(self, prior: DiffusersPrior, space: Space, captions: Tensor) -> None:
        self.prior, self.space, self.captions = prior, space, captions

    def image(self, latents: Tensor) -> Tensor:
        """Of decoded latents."""
        return self.space["image"](self.prior.decode(latents).clamp(0, 1))

    def text(self, rows: Tensor, condition: Condition) -> Tensor:
        """Computed once."""
        return self.captions[rows].to(self.prior.device)


class LatentFeatures(nn.Module, PairFeatures):
    """A learned projection of the latent, and one of the hidden states of the caption: the paper taken at its word.

        x_i = A pool(z_i),    y_i = B mean(hidden_i)

    Args:
        channels: of a latent.
        width: of the hidden states.
        generator: of the weights.
    """

    def __init__(self, channels: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.see = nn.Parameter(_scaled(channels * POOLED**2, WIDTH, generator))
        self.read = nn.Parameter(_scaled(width, WIDTH, generator))

    def image(self, latents: Tensor) -> Tensor:
        """Of the pooled latent."""
        return F.normalize(F.adaptive_avg_pool2d(latents, POOLED).flatten(1) @ self.see, dim=1)

    def text(self, rows: Tensor, condition: Condition) -> Tensor:
        """Of the mean hidden state."""
        return F.normalize(condition.hidden.float().mean(1) @ self.read, dim=1)


def is_joint(space: Space) -> bool:
    """Whether image and text were trained together: both encoders are towers of one model, or heads of one binding.

    Example:
        >>> import limbeck as lb
        >>> is_joint(lb.space(image="convnet", text="bag_of_words"))
        False
    """
    names = [space[m].describe()["name"] for m in ("image", "text")]
    return names[0] == names[1] and space["image"].dim == space["text"].dim


def joint_space(problem: Problem) -> Space:
    """The encoders of the problem, where images can be compared with texts by them; else with linear heads that make it so.

    The heads are trained once on the training split (`BINDING`, 600 steps of a contrastive loss) and kept in the cache. For
    better ones run `limbeck bind`, and pass `--space bound:FOLDER`; or take a joint model such as `--space clip`.

    Raises:
        ConfigError: an encoder that cannot see learned images.
    """
    pair = Space({m: problem.space[m] for m in ("image", "text")})
    if is_joint(pair):
        return pair.to(problem.device)

    def make(folder: Path) -> None:
        bind(problem.source, pair, folder / "space", BINDING, runtime=problem.runtime)

    key = digest(problem.source.fingerprint, pair.fingerprint, repr(BINDING), str(problem.device))
    return load_space(problem.cache.entry("bound", key, make) / "space").to(problem.device)


def caption_vectors(problem: Problem, space: Space) -> Tensor:
    """Unit vectors of all captions of the source `[R, D]`, in the order of `problem.captions`."""
    held = embed_source(problem.source, Space({"text": space["text"]}), problem.cache, device=problem.device)
    if len(held["text"].vectors) != len(problem.captions):
        raise ConfigError(
            f"{problem.source.name} holds captions as vectors; a generator reads words, so give it data with strings"
        )
    vectors: Tensor = held["text"].vectors
    return vectors


def agreement(space: Space, images: Tensor, captions: Sequence[str]) -> Tensor:
    """The cosine of each image with its own caption `[B]`."""
    device = images.device
    with torch.no_grad():
        cosine: Tensor = (space["image"](images) * space["text"](list(captions)).to(device)).sum(1)
        return cosine


def _scaled(inputs: int, outputs: int, generator: torch.Generator) -> Tensor:
    drawn: Tensor = torch.randn(inputs, outputs, generator=generator)
    return drawn / sqrt(inputs)
