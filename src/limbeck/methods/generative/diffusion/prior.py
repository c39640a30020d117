"""`DiffusersPrior`: a text-to-image pipeline of diffusers behind one small interface."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.methods.generative.diffusion.logging_off import diffusers, logging_off
from limbeck.methods.generative.diffusion.pipelines import factor_of, pipeline_folder, read_index, side_of
from limbeck.objectives.diffusion import check_prediction, noised
from limbeck.spaces.hub import fetch_card, licence_of, read

__all__ = ["Condition", "DiffusersPrior"]

PARTS = {"vae": "a VAE", "scheduler": "a scheduler", "tokenizer": "a tokenizer", "text_encoder": "a text encoder"}
DECODED = 2**20  # pixels that are decoded at once in sampling: four images of 512
SECOND = ("text_encoder_2", "text_encoder_3", "tokenizer_2")  # of pipelines that read a text twice

Images = Float[Tensor, "b 3 h w"]
Latents = Float[Tensor, "b k u v"]


@dataclass(frozen=True)
class Condition:
    """Captions as a denoiser reads them.

    Args:
        hidden: the last hidden states of the text encoder `[B, L, D]`.
        mask: `[B, L]`, which of them are tokens; `None` where the denoiser reads all.
    """

    hidden: Tensor
    mask: Tensor | None = None

    @classmethod
    def cat(cls, parts: Sequence["Condition"]) -> "Condition":
        """Several, one after the other."""
        masks = [part.mask for part in parts if part.mask is not None]
        return cls(torch.cat([part.hidden for part in parts]), torch.cat(masks) if masks else None)


class DiffusersPrior:
    """A latent diffusion model that makes images from captions, for training steps and for sampling.

    It reads everything from the pipeline's own configuration: scaling and shift of latents, range of pixels, the noise schedule
    and what the denoiser predicts (epsilon, v or the sample). The same class serves a real Stable Diffusion and a tiny
    pipeline that was built in a second. Images are in [0, 1], as everywhere here.

    Args:
        pipe: has `vae`, `unet` or `transformer`, `scheduler`, `tokenizer` and one `text_encoder`, as `StableDiffusionPipeline`.
        name: the folder, or the name on the hub, that it came from.

    Raises:
        ConfigError: the pipeline lacks a part, reads texts by two encoders, or its scheduler is none of a diffusion that
            predicts epsilon, v or the sample.

    Example:
        >>> from limbeck.methods.generative.diffusion.small import small_pipeline
        >>> prior = DiffusersPrior(small_pipeline(["a red square", "a blue disc"], resolution=16))
        >>> prior.encode(torch.rand(2, 3, 16, 16)).shape, prior.prediction
        (torch.Size([2, 4, 4, 4]), 'epsilon')
    """

    def __init__(self, pipe: Any, name: str = "") -> None:
        self.pipe, self.name = pipe, name
        called = f"the pipeline {name or type(pipe).__name__}"
        if lacking := [says for part, says in PARTS.items() if getattr(pipe, part, None) is None]:
            raise ConfigError(
                f"{called} has no {' and no '.join(x.split(' ', 1)[1] for x in lacking)}; a prior is a latent text-to-image "
                "pipeline such as Stable Diffusion: VAE, denoiser, scheduler, tokenizer, text encoder"
            )
        if two := [part for part in SECOND if getattr(pipe, part, None) is not None]:
            raise ConfigError(
                f"{called} reads texts by several encoders ({two[0]}); choose one with a single text encoder"
            )
        denoiser = getattr(pipe, "unet", None)
        self.denoiser: nn.Module = denoiser if denoiser is not None else getattr(pipe, "transformer", None)  # type: ignore[assignment]
        if self.denoiser is None:
            raise ConfigError(f"{called} has neither a unet nor a transformer, so nothing that removes noise")
        config = pipe.scheduler.config
        if not hasattr(pipe.scheduler, "alphas_cumprod"):
            raise ConfigError(
                f"the scheduler {type(pipe.scheduler).__name__} of {called} has no alphas_cumprod: it is none of a diffusion that "
                "predicts epsilon, v or the sample; choose a pipeline with DDPM, DDIM, PNDM, Euler or DPM-Solver"
            )
        self.prediction = str(config.get("prediction_type", "epsilon"))
        check_prediction(self.prediction)
        self.alphas_cumprod: Float[Tensor, " t"] = pipe.scheduler.alphas_cumprod.float().cpu()
        for part in (pipe.vae, pipe.text_encoder, self.denoiser):
            part.eval().requires_grad_(False)
        self._asked = set(signature(self.denoiser.forward).parameters)
        self._autocast: torch.dtype | None = None

    @classmethod
    def open(cls, name: str, device: str = "cpu", precision: str = "float32") -> "DiffusersPrior":
        """The pipeline in a folder that `save_pretrained` or `limbeck train-prior` wrote, or on the hub.

        Args:
            name: a folder, or a name such as `stable-diffusion-v1-5/stable-diffusion-v1-5`.
            device: where it runs.
            precision: `"float32"` or `"bfloat16"`, in which weights are kept that do not train, and products are computed.

        Raises:
            ConfigError: there is no such pipeline, or it is not one that a prior can be.
            MissingDependency: diffusers is not installed.
        """
        pipeline = diffusers().DiffusionPipeline
        if Path(name).is_dir() and not (Path(name) / "model_index.json").is_file():
            raise ConfigError(
                f"the folder {name} holds no model_index.json, so it is no pipeline; if `limbeck train-prior` was stopped in it, give "
                "the same command again, it continues"
            )
        unchecked = {"safety_checker": None, "requires_safety_checker": False}
        index = read_index(Path(name)) if Path(name).is_dir() else {}
        known = unchecked if "StableDiffusion" in str(index.get("_class_name", "StableDiffusion")) else {}
        if not index:
            fetch_card(name)
        with torch.random.fork_rng(devices=[]), logging_off():
            folder = pipeline_folder(name, **known)
            pipe = read(pipeline.from_pretrained, str(folder), use_safetensors=True, **known)
            pipe.set_progress_bar_config(disable=True)
            return cls(pipe, name).to(device, precision)

    def to(self, device: str, precision: str = "float32") -> "DiffusersPrior":
        """Moves everything to `device`; in bfloat16 frozen weights become that, and products are computed in it."""
        if precision not in ("float32", "bfloat16"):
            raise ConfigError(f"precision is 'float32' or 'bfloat16', got {precision!r}")
        dtype = getattr(torch, precision)
        self._autocast = None if precision == "float32" else dtype
        with logging_off():
            for part in (self.pipe.vae, self.pipe.text_encoder, self.denoiser):
                part.to(device, dtype)
        return self

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.denoiser.parameters()).device

    @property
    def licence(self) -> str:
        """As the pipeline's card says; `"unknown"` where it says nothing."""
        return licence_of(self.name) if self.name else "unknown"

    @property
    def factor(self) -> int:
        """Pixels a side that one latent stands for."""
        return factor_of(self.pipe.vae)

    @property
    def resolution(self) -> int:
        """Pixels a side that the denoiser was made for."""
        return self.factor * side_of(self.denoiser)

    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """Channels, height and width of the latent of an image.

        Raises:
            ConfigError: the side is no multiple of what the pipeline halves.
        """
        if resolution % self.factor or resolution < self.factor:
            raise ConfigError(
                f"the prior {self.name} makes images of a multiple of {self.factor} pixels a side, got {resolution}"
            )
        channels = int(self.pipe.vae.config.latent_channels)
        return channels, resolution // self.factor, resolution // self.factor

    def encode(self, images: Images, draw: Latents | None = None) -> Latents:
        """Latents z_0 as the denoiser knows them: scaled, and shifted where the VAE says so.

        Args:
            images: in [0, 1].
            draw: standard normal numbers, for a draw from the posterior; `None` for its mean.
        """
        vae = self.pipe.vae
        pixels = (2 * images - 1 if self._signed else images).to(self.device, vae.dtype)
        posterior = vae.encode(pixels).latent_dist
        latents: Tensor = posterior.mean.float()
        if draw is not None:
            latents = latents + posterior.std.float() * draw.to(latents)
        return (latents - self._shift) * self._scale

    def decode(self, latents: Latents) -> Images:
        """Images in about [0, 1], not clipped; gradients pass."""
        latents = latents / self._scale + self._shift
        with self._products():
            pixels: Tensor = self.pipe.vae.decode(latents.to(self.pipe.vae.dtype)).sample.float()
        return pixels / 2 + 0.5 if self._signed else pixels

    def condition(self, captions: Sequence[str]) -> Condition:
        """The captions as the denoiser reads them; longer ones are cut, see `truncated`."""
        tokens = self._tokens(captions)
        encoder = self.pipe.text_encoder
        asks = getattr(encoder.config, "use_attention_mask", False) or "encoder_attention_mask" in self._used_masks
        mask = tokens["attention_mask"].to(self.device) if asks else None
        with torch.no_grad():
            hidden = encoder(tokens["input_ids"].to(self.device), attention_mask=mask)[0]
        return Condition(hidden, mask)

    def truncated(self, captions: Sequence[str]) -> list[int]:
        """The positions of captions that have more tokens than the text encoder reads."""
        if not captions:
            return []
        whole = self.pipe.tokenizer(list(captions), padding=False, truncation=False, verbose=False)["input_ids"]
        return [i for i, ids in enumerate(whole) if len(ids) > self._length]

    def predict(self, add_noise: Latents, step: Real[Tensor, " b"], condition: Condition) -> Latents:
        """What the denoiser predicts of noisy latents.

        Args:
            noisy: z_t, as the scheduler would hand it over.
            step: t of each.
            condition: of each.
        """
        given: dict[str, Any] = {"encoder_hidden_states": condition.hidden}
        if condition.mask is not None and "encoder_attention_mask" in self._asked:
            given["encoder_attention_mask"] = condition.mask
        if "added_cond_kwargs" in self._asked and self._used_masks:
            given["added_cond_kwargs"] = {"resolution": None, "aspect_ratio": None}
        with self._products():
            said: Tensor = self.denoiser(
                add_noise.to(condition.hidden.dtype), timestep=step.to(self.device), **given
            ).sample
        return said[:, : add_noise.shape[1]].float()  # some predict a variance as well

    def sample(
        self,
        captions: Sequence[str],
        generators: Sequence[torch.Generator],
        resolution: int,
        steps: int = 30,
        guidance: float = 3.0,
        origin: Latents | None = None,
        strength: float = 1.0,
    ) -> Images:
        """Images of captions, in [0, 1].

        Each image has a generator of its own, so that it does not depend on what is sampled beside it, but for the last bits.
        Predictions are guided without a classifier: `e = e_0 + guidance (e_c - e_0)`, e_0 of the empty caption.

        Args:
            captions: what to show.
            generators: one a caption, on the CPU.
            resolution: pixels a side.
            steps: of the scheduler.
            guidance: 1 for none.
            origin: latents to start from instead of noise alone, with `strength` of the schedule.
            strength: which share of the schedule is gone through, one step at least, up to 1 (noise). A part of a schedule is gone
                through by DDIM, as schedulers that look back cannot begin in the middle.
        """
        with logging_off(), torch.no_grad():
            return self._sampled(captions, generators, resolution, steps, guidance, origin, strength)

    def _sampled(
        self,
        captions: Sequence[str],
        generators: Sequence[torch.Generator],
        resolution: int,
        steps: int,
        guidance: float,
        origin: Tensor | None,
        strength: float,
    ) -> Tensor:
        scheduler = self.scheduler(steps, whole=origin is None or strength == 1)
        shape = (len(captions), *self.latent_shape(resolution))
        noise = torch.cat([_normal((1, *shape[1:]), g) for g in generators]).to(self.device)
        times = scheduler.timesteps[len(scheduler.timesteps) - max(round(strength * len(scheduler.timesteps)), 1) :]
        latents = noise * scheduler.init_noise_sigma
        if origin is not None and strength < 1:
            latents = scheduler.add_noise(origin.to(self.device), noise, times[:1].repeat(len(captions)))
        guided = guidance != 1
        condition = self.condition(list(captions))
        if guided:
            condition = Condition.cat([self.condition([""] * len(captions)), condition])
        draws = {"generator": list(generators)} if "generator" in signature(scheduler.step).parameters else {}
        for t in times:
            seen = scheduler.scale_model_input(torch.cat([latents] * 2) if guided else latents, t)
            said = self.predict(seen, t.repeat(len(seen)), condition)
            if guided:
                empty, own = said.chunk(2)
                said = empty + guidance * (own - empty)
            latents = scheduler.step(said, t, latents, **draws).prev_sample
        parts = latents.split(max(DECODED // resolution**2, 1))
        return torch.cat([self.decode(part).clamp(0, 1) for part in parts])

    def scheduler(self, steps: int, whole: bool = True) -> Any:
        """A new scheduler of so many steps: the pipeline's own, or DDIM for a part of a schedule.

        Raises:
            ConfigError: more steps than it was trained with, or a number that it cannot take.
        """
        own = self.pipe.scheduler
        clip = {} if whole else {"clip_sample": own.config.get("clip_sample", False)}  # DDIM would, if nothing is said
        made = (type(own) if whole else diffusers().DDIMScheduler).from_config(own.config, **clip)
        if steps > len(self.alphas_cumprod):
            raise ConfigError(
                f"sampling_steps is at most the {len(self.alphas_cumprod)} diffusion steps of {self.name}, got {steps}"
            )
        try:
            with logging_off():
                made.set_timesteps(steps)
        except ValueError as error:
            raise ConfigError(f"the scheduler {type(made).__name__} refuses {steps} sampling steps: {error}") from error
        return made

    def noised(self, clean: Latents, noise: Latents, step: Int[Tensor, " b"]) -> Latents:
        """z_t of clean latents."""
        return noised(clean, noise, self.alphas_cumprod[step].to(clean))

    @property
    def _signed(self) -> bool:
        """Whether the VAE sees pixels in [-1, 1], as the pipeline's image processor says; else in [0, 1]."""
        processor = getattr(self.pipe, "image_processor", None)
        return processor is None or bool(processor.config.do_normalize)

    @property
    def _scale(self) -> float:
        return float(self.pipe.vae.config.scaling_factor)

    @property
    def _shift(self) -> float:
        return float(getattr(self.pipe.vae.config, "shift_factor", None) or 0.0)

    @property
    def _length(self) -> int:
        """Tokens that the text encoder reads."""
        most = getattr(self.pipe.text_encoder.config, "max_position_embeddings", None)
        return int(min(self.pipe.tokenizer.model_max_length, most or 300))

    @property
    def _used_masks(self) -> tuple[str, ...]:
        """Transformers that read texts by cross-attention are told which tokens are none."""
        return ("encoder_attention_mask",) if getattr(self.pipe, "unet", None) is None else ()

    def _tokens(self, captions: Sequence[str]) -> Mapping[str, Tensor]:
        return self.pipe.tokenizer(  # type: ignore[no-any-return]
            list(captions), padding="max_length", max_length=self._length, truncation=True, return_tensors="pt"
        )

    def _products(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._autocast is None else torch.autocast(self.device.type, self._autocast)


def _normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.randn(tuple(shape), generator=generator)
