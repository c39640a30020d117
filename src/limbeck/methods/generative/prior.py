"""Prior: images that a generative prior samples for real captions, without any training."""

from dataclasses import dataclass

from limbeck.methods.generative.diffusion.generated import Generated

__all__ = ["Prior"]


@dataclass(frozen=True)
class Prior(Generated):
    """Images sampled from a text-to-image prior for training captions: the baseline of every generative method.

    Args:
        prior, prompts, repeats, captions, captioner, stage, sampling_steps, guidance, candidates, resolution, precision: see `Generated`.

    Paper: Rombach et al., High-resolution image synthesis with latent diffusion models, CVPR 2022 (the prior).

    Example:
        >>> Prior(prior="priors/emoji", prompts="cluster").describe()["prompts"]
        'cluster'
    """
