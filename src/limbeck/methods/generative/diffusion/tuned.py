"""Which weights of a denoiser are trained, and proof that they move."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError, Fault
from limbeck.methods.generative.diffusion.pipelines import write_pipeline
from limbeck.methods.generative.diffusion.prior import DiffusersPrior
from limbeck.spaces.hub import card_of, optional

__all__ = ["Subset", "TunedPrior", "chosen_parameters"]

Subset = Literal["bias_norm", "cross_attention", "lora", "full"]
NAMES = {
    "bias_norm": ("bias", "norm", "gamma", "y_embed"),
    "cross_attention": ("attn2.",),
    "lora": ("lora_",),
    "full": ("",),
}
ADAPTED = ("to_q", "to_k", "to_v", "to_out.0")  # layers of attention that LoRA adapts
CHECKED = 10  # updates after which trained weights must have moved
MOVED = 0.9  # the share of tensors that must have


def chosen_parameters(denoiser: nn.Module, subset: str) -> dict[str, nn.Parameter]:
    """The parameters of a denoiser that a subset names, by their names.

    Args:
        denoiser: a U-Net or a transformer.
        subset: `"bias_norm"`, every parameter whose name holds "bias" or "norm" (0.05 % of Stable Diffusion 1.5), as
            published; `"cross_attention"`, the layers that read the caption; `"lora"`, the adapters that are in it; `"full"`.

    Raises:
        ConfigError: another subset, or one that chooses nothing.

    Paper: Gu et al., Efficient dataset distillation via minimax diffusion, CVPR 2024 (biases and norms).

    Example:
        >>> list(chosen_parameters(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, bias=False)), "bias_norm"))
        ['0.bias']
    """
    if subset not in get_args(Subset):
        raise ConfigError(f"subset is one of {', '.join(get_args(Subset))}, got {subset!r}")
    chosen = {name: p for name, p in denoiser.named_parameters() if any(part in name for part in NAMES[subset])}
    if not chosen:
        raise ConfigError(f"no parameter of {type(denoiser).__name__} belongs to the subset {subset!r}; choose another")
    return chosen


class TunedPrior(nn.Module):
    """A prior, some of whose denoiser's weights are trained: its parameters are these alone, so that a checkpoint is small.

    The weights are kept in float32, whatever the rest is in: in bfloat16 a small step would round to nothing.

    Args:
        prior: changed in place.
        subset: see `chosen_parameters`.
        rank: of LoRA.
        generator: draws what is new in LoRA.
        more: what else is trained with them, such as a projection of latents.

    Example:
        >>> from limbeck.methods.generative.diffusion.small import small_pipeline
        >>> tuned = TunedPrior(DiffusersPrior(small_pipeline(["a cat"], 16, (8, 8), 8)), "cross_attention")
        >>> all("attn2" in name for name, _ in tuned.named_parameters()), tuned.moved
        (True, 0.0)
    """

    updates: Tensor

    def __init__(
        self,
        prior: DiffusersPrior,
        subset: str = "bias_norm",
        rank: int = 8,
        generator: torch.Generator | None = None,
        more: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if subset == "lora":
            _add_lora(prior, rank, generator)
        chosen = chosen_parameters(prior.denoiser, subset)
        for parameter in chosen.values():
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
        self.held = [prior]  # in a list: what is frozen is no part of this module's state
        self.trained = nn.ParameterDict({name.replace(".", "/"): p for name, p in chosen.items()})
        self.more = nn.ModuleDict(dict(more or {}))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self._before = [p.detach().clone() for p in self.trained.values()]

    @property
    def prior(self) -> DiffusersPrior:
        """What makes images; trained in place."""
        return self.held[0]

    @property
    def moved(self) -> float:
        """The share of trained tensors that are no longer what they were."""
        pairs = list(zip(self._before, self.trained.values(), strict=True))
        return sum(not torch.equal(old.to(new.device), new.detach()) for old, new in pairs) / len(pairs)

    def save(self, folder: Path) -> None:
        """Writes the whole pipeline, with adapters added to the weights beside them; training cannot go on after it.

        Args:
            folder: of the pipeline; `model_index.json`, which makes it one, comes last.
        """
        prior = self.prior
        for name, module in list(prior.denoiser.named_modules()):
            if hasattr(module, "lora_A"):
                module.merge()
                parent, _, own = name.rpartition(".")
                setattr(prior.denoiser.get_submodule(parent), own, module.get_base_layer())
        write_pipeline(prior.pipe, folder, card_of(prior.name))

    def stuck(self) -> Fault | None:
        """That fewer than nine in ten tensors have moved, after some updates; `None` where more have, or it is too early."""
        if int(self.updates) == CHECKED and (moved := self.moved) < MOVED:
            return Fault(
                f"only {100 * moved:.0f} % of the {len(self._before)} trained tensors have moved in {CHECKED} updates",
                "raise lr, or choose another subset",
            )
        return None

    def __deepcopy__(self, memo: dict[int, Any]) -> "TunedPrior":
        raise ConfigError("a tuned prior is not copied: it holds a whole pipeline")


def _add_lora(prior: DiffusersPrior, rank: int, generator: torch.Generator | None) -> None:
    """Puts low-rank adapters beside the attention of the denoiser; they add nothing at first."""
    peft = optional("peft", "peft", "subset lora", "diffusion")
    how = peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=list(ADAPTED))
    seed = int(torch.randint(2**31, (), generator=generator or torch.Generator().manual_seed(0)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(how, prior.denoiser)
    prior.denoiser.eval()
    for name, parameter in prior.denoiser.named_parameters():
        parameter.requires_grad_("lora_" in name)
