"""What fine-tuning and sampling a prior will cost, from the configurations of its parts alone: no weight is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from limbeck.errors import ConfigError
from limbeck.methods.generative.diffusion.logging_off import diffusers, logging_off
from limbeck.methods.generative.diffusion.pipelines import factor_of, read_index, side_of
from limbeck.methods.generative.diffusion.tuned import ADAPTED, chosen_parameters
from limbeck.runtime.timing import seconds_of

__all__ = ["Cost", "cost_of", "throughput"]

KEPT = 28  # bytes a trained weight: gradient and two moments; what it was at first; and the loop's copy of it all but the gradient
LENGTH = 77  # tokens of a caption, where the text encoder does not say


@dataclass(frozen=True)
class Cost:
    """Numbers of one pipeline at one size of images and batches.

    Args:
        weights: of all parts.
        trained: those that are trained.
        memory: bytes at the peak of an update, without the joint encoder: weights, gradients, moments, copies, activations.
        update: floating-point operations of an update, without those of the joint encoder.
        image: of sampling one image.
    """

    weights: int
    trained: int
    memory: int
    update: float
    image: float


def cost_of(
    name: str,
    *,
    side: int,
    sampled: int | None,
    batch: int,
    steps: int,
    guided: bool,
    subset: str = "bias_norm",
    rank: int = 8,
    precision: str = "float32",
    checkpointing: bool = False,
    decoded: bool = True,
) -> Cost:
    """What an update and an image cost.

    Parts are built on PyTorch's meta device, where tensors have a shape and no content: operations are counted as they run, and
    what they save for the gradient is added up.

    Args:
        name: a folder with configurations, with or without weights, or a name on the hub.
        side: pixels a side in training.
        sampled: pixels a side in sampling; `None` for what the denoiser was made for.
        batch: pairs an update.
        steps: of the scheduler.
        guided: whether each step predicts twice.
        subset, rank, precision, checkpointing: see `Edge`.
        decoded: whether estimates are decoded in training.

    Raises:
        ConfigError: a part has no configuration, or is of a class that diffusers does not know.
    """
    parts = _parts(name)
    denoiser, vae, text = parts["denoiser"], parts["vae"], parts["text_encoder"]
    trained = _trained(denoiser, subset, rank)
    size, factor = (2 if precision == "bfloat16" else 4), factor_of(vae)
    shape = int(vae.config.latent_channels), side // factor, side // factor
    total = sum(p.numel() for part in parts.values() for p in part.parameters())
    length = int(getattr(text.config, "max_position_embeddings", LENGTH))
    hidden = torch.empty(batch, length, text.config.hidden_size, device="meta")
    images = torch.empty(batch, 3, side, side, device="meta")
    latents = torch.empty(batch, *shape, device="meta", requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        with torch.no_grad():
            vae.encode(images)
            text(torch.zeros(batch, length, dtype=torch.long, device="meta"))
        frozen = counter.get_total_flops()
        with _saved() as saved:
            _predict(denoiser, latents, hidden)
        there = counter.get_total_flops() - frozen
        held = sum(saved.values())
        if decoded:
            held += _decoding(vae, latents, checkpointing)
        decode = counter.get_total_flops() - frozen - there
    side = sampled or factor * side_of(denoiser)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        seen = torch.empty(1, shape[0], side // factor, side // factor, device="meta")
        _predict(denoiser, seen, hidden[:1])
        once = counter.get_total_flops()
        vae.decode(seen)
        last = counter.get_total_flops() - once
    weights = total * size + (4 * trained if precision == "bfloat16" else 0)
    update = frozen + there * (3 if subset == "full" else 2) + decode * (3 if checkpointing else 2)
    image = steps * (2 if guided else 1) * once + last
    return Cost(total, trained, weights + KEPT * trained + held * size // 4, update, image)


def throughput(device: str, precision: str = "float32") -> float:
    """Floating-point operations a second of large products on a device, measured."""
    n = 2048 if device == "cpu" else 8192
    dtype = getattr(torch, precision)
    a = torch.ones(n, n, device=device, dtype=dtype)
    return 2 * n**3 / seconds_of(lambda: a @ a, device)


def _predict(denoiser: Any, latents: Tensor, hidden: Tensor) -> None:
    given = (
        {"added_cond_kwargs": {"resolution": None, "aspect_ratio": None}}
        if "Transformer" in type(denoiser).__name__
        else {}
    )
    denoiser(latents, timestep=torch.zeros(len(latents), device="meta"), encoder_hidden_states=hidden, **given)


def _trained(denoiser: nn.Module, subset: str, rank: int) -> int:
    """Marks what is trained, and counts it; adapters are counted without being built."""
    denoiser.requires_grad_(False)
    if subset == "lora":
        sizes = [
            tuple(p.shape)
            for name, p in denoiser.named_parameters()
            if name.endswith(tuple(f".{layer}.weight" for layer in ADAPTED))
        ]
        return sum(rank * (rows + columns) for rows, columns in sizes)
    chosen = chosen_parameters(denoiser, subset)
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    return sum(p.numel() for p in chosen.values())


def _parts(name: str) -> dict[str, Any]:
    """Denoiser, VAE and text encoder on the meta device."""
    import transformers

    known = diffusers()

    folder = Path(name) if Path(name).is_dir() else _fetched(name)
    index = read_index(folder)
    found: dict[str, Any] = {}
    for role, names in (("denoiser", ("unet", "transformer")), ("vae", ("vae",)), ("text_encoder", ("text_encoder",))):
        part = next((p for p in names if index.get(p, [None])[0]), None)
        if part is None:
            raise ConfigError(
                f"the pipeline {name} has no {' or '.join(names)} in its model_index.json; a prior needs one"
            )
        library, kind = index[part]
        try:
            with logging_off(), torch.device("meta"):
                if library == "transformers":
                    config = transformers.AutoConfig.from_pretrained(folder / part)
                    found[role] = getattr(transformers, kind)(config)
                else:
                    made = getattr(known, kind)
                    found[role] = made.from_config(made.load_config(folder / part))
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ConfigError(
                f"the {part} of the pipeline {name} cannot be built from its configuration: {str(error).strip().splitlines()[0]}; fetch or "
                "make the pipeline again"
            ) from error
        found[role].eval().requires_grad_(False)
    return found


def _fetched(name: str) -> Path:
    """The folder of a hub pipeline's configurations."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json"]))
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise ConfigError(
            f"the pipeline {name!r} cannot be looked up: {str(error).splitlines()[0]}; name a folder, or a pipeline on huggingface.co while "
            "online"
        ) from error


@contextmanager
def _saved() -> Iterator[dict[int, int]]:
    """The bytes of every storage that is saved for the gradient, parameters apart."""
    found: dict[int, int] = {}
    held: list[Tensor] = []  # so that no storage's number is used twice

    def pack(value: Tensor) -> Tensor:
        if not isinstance(value, nn.Parameter):
            storage = value.untyped_storage()
            found[storage._cdata] = storage.nbytes()
            held.append(value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        yield found


def _decoding(vae: Any, latents: Tensor, checkpointing: bool) -> int:
    """The bytes that decoding saves; with checkpoints the inputs of blocks, and the inside of the largest of them."""
    inside: list[int] = []
    inputs: list[int] = []
    with _saved() as saved:

        def start(_: Any, given: Any) -> None:
            inside.append(-sum(saved.values()))
            inputs.append(given[0].untyped_storage().nbytes())

        def stop(*_: Any) -> None:
            inside[-1] += sum(saved.values())

        blocks = vae.decoder.up_blocks if checkpointing and hasattr(vae, "decoder") else ()
        handles = [
            h for block in blocks for h in (block.register_forward_pre_hook(start), block.register_forward_hook(stop))
        ]
        vae.decode(latents)
    for handle in handles:
        handle.remove()
    return sum(saved.values()) - sum(inside) + sum(inputs) + max(inside, default=0)
