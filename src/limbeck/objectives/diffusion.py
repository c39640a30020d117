"""Diffusion in one step: noising, the estimate of the clean latent, and what a denoiser is asked to predict.

    z_t = sqrt(a_t) z_0 + sqrt(1 - a_t) e        a_t: the product of all (1 - beta) up to step t

Three parametrisations say the same, whatever the denoiser predicts: the noise e (`"epsilon"`), the velocity
v = sqrt(a_t) e - sqrt(1 - a_t) z_0 (`"v_prediction"`), or the clean latent z_0 itself (`"sample"`).
"""

from jaxtyping import Float
from torch import Tensor

from limbeck.errors import ConfigError

__all__ = ["PREDICTIONS", "check_prediction", "clean_estimate", "denoising_target", "noised"]

PREDICTIONS = ("epsilon", "v_prediction", "sample")

Latents = Float[Tensor, "b *shape"]
Shares = Float[Tensor, " b"]


def noised(clean: Latents, noise: Latents, share: Shares) -> Latents:
    """Noisy latents z_t.

    Args:
        clean: z_0.
        noise: e, of the same shape.
        share: a_t of each sample, in (0, 1].

    Example:
        >>> import torch
        >>> noised(torch.ones(1, 2), torch.zeros(1, 2), torch.tensor([0.25]))
        tensor([[0.5000, 0.5000]])
    """
    signal, spread = _roots(share, clean)
    return signal * clean + spread * noise


def clean_estimate(predicted: Latents, add_noise: Latents, share: Shares, prediction: str) -> Latents:
    """The clean latent that a prediction stands for, in one step.

        epsilon:       z = (z_t - sqrt(1 - a_t) e) / sqrt(a_t)
        v_prediction:  z = sqrt(a_t) z_t - sqrt(1 - a_t) v
        sample:        z = what was predicted

    Args:
        predicted: what the denoiser says.
        noisy: z_t, which it has seen.
        share: a_t of each sample.
        prediction: one of `PREDICTIONS`.

    Raises:
        ConfigError: another prediction.

    Paper: Ho, Jain and Abbeel, Denoising diffusion probabilistic models, NeurIPS 2020 (epsilon); Salimans and Ho, Progressive
    distillation, ICLR 2022 (velocity).

    Example:
        >>> import torch
        >>> z, e, a = torch.ones(1, 2), torch.full((1, 2), 3.0), torch.tensor([0.25])
        >>> clean_estimate(e, noised(z, e, a), a, "epsilon")
        tensor([[1., 1.]])
    """
    check_prediction(prediction)
    signal, spread = _roots(share, add_noise)
    if prediction == "epsilon":
        return (add_noise - spread * predicted) / signal
    return signal * add_noise - spread * predicted if prediction == "v_prediction" else predicted


def denoising_target(clean: Latents, noise: Latents, share: Shares, prediction: str) -> Latents:
    """What a denoiser of this kind should predict.

    Args:
        clean, noise, share: see `noised`.
        prediction: one of `PREDICTIONS`.

    Raises:
        ConfigError: another prediction.

    Example:
        >>> import torch
        >>> denoising_target(torch.ones(1, 1), torch.zeros(1, 1), torch.tensor([0.75]), "v_prediction")
        tensor([[-0.5000]])
    """
    check_prediction(prediction)
    if prediction == "v_prediction":
        signal, spread = _roots(share, clean)
        return signal * noise - spread * clean
    return noise if prediction == "epsilon" else clean


def check_prediction(prediction: str) -> None:
    """Refuses what is none of `PREDICTIONS`.

    Raises:
        ConfigError: names it and those that are known.
    """
    if prediction not in PREDICTIONS:
        raise ConfigError(
            f"the scheduler predicts {prediction!r}, and one of {', '.join(PREDICTIONS)} is needed; choose a pipeline whose "
            "scheduler has one of these as its prediction_type"
        )


def _roots(share: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    share = share.to(like).reshape(-1, *[1] * (like.ndim - 1))
    return share.sqrt(), (1 - share).sqrt()
