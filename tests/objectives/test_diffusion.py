"""The one-step estimate of the clean latent, whatever a denoiser predicts."""

import pytest
import torch
from torch import Tensor

from limbeck.errors import ConfigError
from limbeck.objectives.diffusion import PREDICTIONS, clean_estimate, denoising_target, noised


def schedule() -> Tensor:
    """The products of Stable Diffusion's scaled-linear betas, in double precision."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_true_prediction_gives_the_clean_latent_back_at_every_step(prediction: str) -> None:
    draw = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(1000, 3, dtype=torch.float64, generator=draw) for _ in range(2))
    share = schedule()
    truth = denoising_target(clean, noise, share, prediction)
    found = clean_estimate(truth, noised(clean, noise, share), share, prediction)
    assert torch.allclose(found, clean, atol=1e-10)


@pytest.mark.parametrize("t", [0, 100, 500, 900])
def test_in_single_precision_the_estimate_is_good_to_four_digits(t: int) -> None:
    draw = torch.Generator().manual_seed(1)
    clean, noise = (torch.randn(64, 4, 8, 8, generator=draw) for _ in range(2))
    share = schedule().float()[torch.full((64,), t)]
    found = clean_estimate(noise, noised(clean, noise, share), share, "epsilon")
    assert float((found - clean).abs().max()) < 1e-4


def test_the_three_predictions_agree_where_they_say_the_same() -> None:
    draw = torch.Generator().manual_seed(2)
    clean, noise = (torch.randn(50, 5, dtype=torch.float64, generator=draw) for _ in range(2))
    guess = noise + 0.1 * torch.randn(50, 5, dtype=torch.float64, generator=draw)  # a denoiser that is wrong
    share = schedule()[torch.randint(1000, (50,), generator=draw)]
    add_noise = noised(clean, noise, share)
    root, rest = share.sqrt()[:, None], (1 - share).sqrt()[:, None]
    sample = (add_noise - rest * guess) / root
    velocity = root * guess - rest * sample
    said = {"epsilon": guess, "sample": sample, "v_prediction": velocity}
    found = [clean_estimate(said[name], add_noise, share, name) for name in PREDICTIONS]
    assert torch.allclose(found[0], found[1], atol=1e-9) and torch.allclose(found[0], found[2], atol=1e-9)


def test_noise_keeps_the_variance() -> None:
    draw = torch.Generator().manual_seed(3)
    clean, noise = (torch.randn(20_000, 2, generator=draw) for _ in range(2))
    assert float(noised(clean, noise, torch.full((20_000,), 0.3)).var()) == pytest.approx(1, abs=0.02)


def test_the_estimate_is_differentiable() -> None:
    share = torch.tensor([0.2, 0.9], dtype=torch.float64)
    said = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4)).requires_grad_()
    for name in PREDICTIONS:
        add_noise = torch.ones(2, 3, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda x, n=name, z=add_noise: clean_estimate(x, z, share, n), said)


@pytest.mark.parametrize("function", [clean_estimate, denoising_target])
def test_another_prediction_is_refused_by_name(function) -> None:  # type: ignore[no-untyped-def]
    x = torch.zeros(1, 1)
    with pytest.raises(ConfigError, match="predicts 'flow', and one of epsilon, v_prediction, sample is needed"):
        function(x, x, torch.ones(1), "flow")
