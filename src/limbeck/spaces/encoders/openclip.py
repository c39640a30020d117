"""Any model of open_clip: an optional adapter."""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError, DataError
from limbeck.spaces.hub import optional
from limbeck.spaces.preprocess import ImageNetwork, Preprocess
from limbeck.spaces.space import Encoder

__all__ = ["OpenCLIP"]


@dataclass(frozen=True)
class OpenCLIP(Encoder):
    """The projected image or text features of an open_clip model: `openclip:ARCHITECTURE/WEIGHTS`.

    Args:
        name: architecture and weights of `open_clip.list_pretrained()`, such as `ViT-B-32/laion2b_s34b_b79k`, or
            `hf-hub:OWNER/MODEL`.
        modality: image or text; `limbeck.space(image=..., text=...)` fills it in.

    Raises:
        ConfigError: no weights are named, or they cannot be fetched.

    Example:
        >>> OpenCLIP("ViT-B-32/laion2b_s34b_b79k", "text").describe()["name"]
        'openclip:ViT-B-32/laion2b_s34b_b79k'
    """

    name: str
    modality: Literal["image", "text"] = "image"

    def __post_init__(self) -> None:
        super().__post_init__()
        if "/" not in self.name:
            raise ConfigError(f"openclip:{self.name} names no weights; write openclip:{self.name}/WEIGHTS")

    @cached_property
    def dim(self) -> int:
        """Read off the vectors of one probe."""
        device = next(self.network.parameters()).device
        probe = torch.full((1, 3, 64, 64), 0.5, device=device) if self.modality == "image" else ["a"]
        with torch.no_grad():
            return self.encode(self.network, probe).shape[1]

    def identity(self) -> dict[str, Any]:
        """Architecture and preprocessing."""
        network = self.network
        reading = asdict(network.preprocess) if isinstance(network, ImageNetwork) else {}
        return {**self.describe(), "reading": reading}

    def build(self) -> nn.Module:
        """The model behind its preprocessing or its tokenizer."""
        open_clip = optional("open_clip", "open_clip_torch", f"the encoder 'openclip:{self.name}'")
        hub = self.name.startswith("hf-hub:")
        architecture, weights = (self.name, None) if hub else self.name.rsplit("/", 1)
        try:
            model = open_clip.create_model(architecture, pretrained=weights)
            tokenizer = open_clip.get_tokenizer(architecture)
        except (RuntimeError, OSError) as error:
            raise ConfigError(
                f"openclip:{self.name} cannot be made: {error}; see open_clip.list_pretrained()"
            ) from error
        if self.modality == "text":
            return _Text(model, tokenizer)
        return ImageNetwork(model, read_preprocess(open_clip.get_model_preprocess_cfg(model), self.name), _image)

    def encode(self, network: nn.Module, values: Any) -> Tensor:
        """Vectors `[B, dim]` of images `[B, 3, H, W]` in [0, 1] or of B strings."""
        return network(values)  # type: ignore[no-any-return]


def read_preprocess(numbers: dict[str, Any], name: str) -> Preprocess:
    """The evaluation preprocessing of an open_clip model.

    Raises:
        ConfigError: a resize mode or an interpolation that tensors here cannot follow.
    """
    size = numbers["size"]
    height, width = (size, size) if isinstance(size, int) else size[-2:]
    mode: str = numbers.get("resize_mode") or "shortest"
    interpolation: Any = numbers.get("interpolation") or "bicubic"
    if interpolation not in ("bilinear", "bicubic"):
        raise ConfigError(f"openclip:{name} resizes by {interpolation!r}, which tensors here cannot follow")
    if mode not in ("shortest", "squash") or (mode == "shortest" and height != width):
        raise ConfigError(
            f"openclip:{name} resizes by {mode!r} to {height} x {width}, which tensors here cannot follow"
        )
    side = height if mode == "shortest" else (height, width)
    return Preprocess(side, (height, width), interpolation, tuple(numbers["mean"]), tuple(numbers["std"]))


class _Text(nn.Module):
    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer

    def forward(self, texts: Any) -> Tensor:
        if isinstance(texts, str) or not len(texts):
            raise DataError(f"a text encoder takes a list of at least one string, got {texts!r:.80}")
        device = next(self.model.parameters()).device
        return self.model.encode_text(self.tokenizer(list(texts)).to(device))  # type: ignore[no-any-return,operator]


def _image(model: nn.Module, images: Tensor) -> Tensor:
    return model.encode_image(images)  # type: ignore[no-any-return,operator]
