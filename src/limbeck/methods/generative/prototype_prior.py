"""Prototype prior: clusters of images and of texts, matched; each prototype is sampled anew from the prior."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from limbeck.constraints import Check, Interval
from limbeck.core import Problem, Synthetic
from limbeck.methods.generative.diffusion.generated import Generated
from limbeck.methods.generative.diffusion.prompts import check_prompts

__all__ = ["PrototypePrior"]


@dataclass(frozen=True)
class PrototypePrior(Generated):
    """Prototype-guided sampling without any training: matched clusters of both modalities, and an image from each prototype.

    k-means clusters images and texts; clusters are matched by how many pairs they share; a match's prototype is the pair nearest
    to its centres. The latent of that image is noised as far as `strength` says, and denoised with that caption as prompt:

        z = sqrt(a_s) z_prototype + sqrt(1 - a_s) e,    s = strength T

    Args:
        prompts: by default cluster, which is what it is about.
        strength: which share of the schedule is gone through, from above 0, nearly the real image as the VAE sees it, to 1, noise alone.
        prior, repeats, captions, captioner, stage, sampling_steps, guidance, candidates, resolution, precision: see `Generated`.

    Paper: PDS, ICLR 2026 (matched clusters of images and texts); D4M, CVPR 2024 (latents of prototypes to start from).

    Example:
        >>> PrototypePrior(prior="priors/emoji").strength
        0.7
    """

    prompts: Annotated[str, Check(check_prompts)] = "cluster"
    strength: Annotated[float, Interval(gt=0, le=1)] = 0.7

    def depth(self) -> float:
        """As `strength` says."""
        return self.strength

    def origins(self, problem: Problem, synthetic: Synthetic) -> Callable[[range], Tensor] | None:
        """The images of the prototypes."""
        index = synthetic.origin.cpu()

        def start(part: range) -> Tensor:
            images: Tensor = problem.source.batch(index[part.start : part.stop])["image"]
            return images

        return start
