"""What a prior will cost, counted without its weights, beside what it costs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from limbeck.errors import ConfigError
from priors import tiny_prior

pytest.importorskip("diffusers", reason="needs the diffusion extra")
from limbeck.methods.generative.diffusion.estimate import cost_of, throughput
from limbeck.methods.generative.diffusion.prior import DiffusersPrior
from limbeck.methods.generative.diffusion.tuned import TunedPrior

pytestmark = pytest.mark.slow

SIZE: dict[str, Any] = {"side": 16, "sampled": 16, "batch": 4, "steps": 3, "guided": True}


@pytest.mark.parametrize("subset", ["bias_norm", "cross_attention", "full"])
def test_counted_memory_is_what_an_update_holds(subset: str) -> None:
    prior = DiffusersPrior.open(tiny_prior())
    tuned = TunedPrior(prior, subset)
    held: dict[int, int] = {}
    kept: list[Tensor] = []

    def pack(value: Tensor) -> Tensor:
        if not isinstance(value, nn.Parameter):
            held[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
            kept.append(value)
        return value

    condition = prior.condition(["a red square"] * 4)
    latents = torch.randn(4, 4, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        prior.predict(latents, torch.zeros(4, dtype=torch.long), condition)
        prior.pipe.vae.decode(latents)
    trained = sum(p.numel() for p in tuned.trained.values())
    weights = sum(
        p.numel() for part in (prior.pipe.vae, prior.pipe.text_encoder, prior.denoiser) for p in part.parameters()
    )
    cost = cost_of(tiny_prior(), **SIZE, subset=subset)
    assert cost.trained == trained and cost.weights == weights
    assert cost.memory == pytest.approx(4 * weights + 28 * trained + sum(held.values()), rel=0.06)


def test_counted_operations_are_what_sampling_takes() -> None:
    prior = DiffusersPrior.open(tiny_prior())
    with FlopCounterMode(display=False) as counter:
        prior.sample(["a red square"], [torch.Generator().manual_seed(0)], 16, 3, 2.0)
    assert cost_of(tiny_prior(), **SIZE).image == pytest.approx(counter.get_total_flops(), rel=0.25), (
        "but for the text encoder"
    )


def test_options_change_what_they_should() -> None:
    usual = cost_of(tiny_prior(), **SIZE)
    assert cost_of(tiny_prior(), **SIZE, precision="bfloat16").memory < 0.7 * usual.memory
    saved = cost_of(tiny_prior(), **SIZE, checkpointing=True)
    assert saved.memory < usual.memory and saved.update > usual.update
    assert cost_of(tiny_prior(), **{**SIZE, "batch": 8}).update == pytest.approx(2 * usual.update)
    assert cost_of(tiny_prior(), **{**SIZE, "guided": False}).image < usual.image
    assert cost_of(tiny_prior(), **SIZE, decoded=False).update < usual.update
    prior = DiffusersPrior.open(tiny_prior())
    adapters = TunedPrior(prior, "lora", rank=4)
    assert cost_of(tiny_prior(), **SIZE, subset="lora", rank=4).trained == sum(
        p.numel() for p in adapters.trained.values()
    )
    assert throughput("cpu") > 10**8


def test_what_has_no_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(
        '{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}'
    )
    with pytest.raises(ConfigError, match=r"the unet of the pipeline .* cannot be built from its configuration"):
        cost_of(str(tmp_path), **SIZE)
    with pytest.raises(ConfigError, match="cannot be looked up"):
        cost_of("nobody/no-such-prior", **SIZE)
