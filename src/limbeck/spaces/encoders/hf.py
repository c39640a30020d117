"""Any image or text model that transformers opens: CLIP, SigLIP, ViT, DINO, BERT and their families."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from inspect import signature
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.data.cache import digest
from limbeck.errors import ConfigError
from limbeck.spaces.hub import licence_of, read
from limbeck.spaces.preprocess import ImageNetwork, Interpolation, Preprocess
from limbeck.spaces.space import Encoder
from limbeck.spaces.text import TextNetwork, first_token, mean_of_tokens

__all__ = ["HuggingFace"]

RESAMPLE: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
TOWERS = {"image": ("text_model", "text_projection"), "text": ("vision_model", "visual_projection")}


@dataclass(frozen=True)
class HuggingFace(Encoder):
    """One tower of a model on huggingface.co, or in a folder that `save_pretrained` wrote: `hf:NAME`.

    A joint model (CLIP, SigLIP) gives its projected image or text features, so that images and texts can be compared. A
    model of one modality gives the first token of an image, or the mean of a text's tokens, unless `pooling` says
    otherwise. Images are resized, cropped and normalised by the numbers of the model's own image processor.

    Args:
        name: a model on the hub (`openai/clip-vit-base-patch32`) or a folder.
        modality: image or text; `limbeck.space(image=..., text=...)` fills it in.
        pooling: `"mean"` or `"cls"` over the last hidden states; `None` for the model's own joint features where it
            has them.
        max_length: tokens that are read of a text; `None` for as many as the model allows.

    Raises:
        ConfigError: the model cannot be read, or its image processor does more than resize, crop and normalise.

    Example:
        >>> HuggingFace("openai/clip-vit-base-patch32", "text").describe()["name"]
        'hf:openai/clip-vit-base-patch32'
    """

    name: str
    modality: Literal["image", "text"] = "image"
    pooling: Literal["mean", "cls"] | None = None
    max_length: int | None = None

    requires = (("transformers", "hf"),)

    def __post_init__(self) -> None:
        if self.modality not in TOWERS:
            raise ConfigError(f"hf encodes image or text, got modality={self.modality!r}")
        if self.pooling not in (None, "mean", "cls"):
            raise ConfigError(f"pooling is mean, cls or None, got {self.pooling!r}")
        if self.max_length is not None and self.max_length < 3:
            raise ConfigError(f"max_length needs to be at least 3, got {self.max_length}")

    @cached_property
    def dim(self) -> int:
        """Read off the vectors of one probe."""
        probe: Any = torch.full((1, 3, 64, 64), 0.5) if self.modality == "image" else ["a"]
        with torch.no_grad():
            network = self.network
            device = next(network.parameters()).device
            return self.encode(network, probe.to(device) if isinstance(probe, Tensor) else probe).shape[1]

    @cached_property
    def licence(self) -> str:
        """As the model's card says, where it has been downloaded."""
        return licence_of(self.name)

    def identity(self) -> dict[str, Any]:
        """Options, preprocessing and vocabulary; not the name, which is only a place."""
        network = self.network
        if isinstance(network, ImageNetwork):
            reading: Any = asdict(network.preprocess)
        else:
            assert isinstance(network, TextNetwork)
            reading = [network.max_length, network.fixed, digest(network.tokenizer.get_vocab())]
        return {**self.describe(), "name": "hf", "reading": reading}

    def build(self) -> nn.Module:
        """The model, less its other tower, behind its preprocessing or its tokenizer."""
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        model = read(AutoModel.from_pretrained, self.name).float()
        joint = hasattr(model, f"get_{self.modality}_features") and self.pooling is None
        config = getattr(model.config, "text_config" if self.modality == "text" else "vision_config", model.config)
        kind = str(model.config.model_type)
        if self.pooling is not None and hasattr(model, "text_model") and hasattr(model, "vision_model"):
            model = model.text_model if self.modality == "text" else model.vision_model
        elif joint:
            for part in TOWERS[self.modality]:
                if hasattr(model, part):
                    delattr(model, part)
        if self.modality == "image":
            preprocess = read_preprocess(read(AutoImageProcessor.from_pretrained, self.name).to_dict(), self.name)
            return ImageNetwork(model, preprocess, _joint_image if joint else _pooled_image(self.pooling or "cls"))
        tokenizer = read(AutoTokenizer.from_pretrained, self.name)
        limits = (self.max_length, tokenizer.model_max_length, getattr(config, "max_position_embeddings", None))
        limit = min(int(n) for n in limits if n is not None)
        pool = _joint_text if joint else first_token if self.pooling == "cls" else mean_of_tokens
        return TextNetwork(model, tokenizer, pool, limit, fixed=kind.startswith("siglip"))

    def encode(self, network: nn.Module, values: Any) -> Tensor:
        """Vectors `[B, dim]` of images `[B, 3, H, W]` in [0, 1], or of B strings or token embeddings `[B, L, E]`."""
        return network(values)  # type: ignore[no-any-return]

    def tokens(self, strings: Sequence[str], length: int) -> Float[Tensor, "b {length} e"]:
        """Token embeddings `[B, length, E]` of B strings, zeros behind them; of models of text alone."""
        network = self.network
        if (
            not isinstance(network, TextNetwork)
            or network.pool is _joint_text
            or "inputs_embeds" not in signature(network.model.forward).parameters
        ):
            return super().tokens(strings, length)
        return network.tokens(strings, length)


def read_preprocess(numbers: Mapping[str, Any], name: str) -> Preprocess:
    """The preprocessing that an image processor's configuration describes.

    Args:
        numbers: its `to_dict()`.
        name: of the model, for messages.

    Raises:
        ConfigError: it does something else than resize, centre crop, scale by 1/255 and normalise.
    """

    def refuse(what: str) -> ConfigError:
        return ConfigError(f"hf:{name}: its image processor {what}, which tensors here cannot follow; write an encoder")

    for flag in ("do_pad", "do_flip_channel_order", "do_convert_grayscale", "do_image_splitting"):
        if numbers.get(flag):
            raise refuse(f"has {flag}")
    if numbers.get("crop_pct") is not None:
        raise refuse("has crop_pct")
    if not numbers.get("do_rescale", True) or abs(numbers.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-4:
        raise refuse("does not scale pixels to [0, 1]")
    interpolation = RESAMPLE.get(int(numbers.get("resample", 3)))
    if interpolation is None:
        raise refuse(f"resamples by Pillow's filter {numbers['resample']}")
    preprocess = Preprocess(interpolation=interpolation, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    if numbers.get("do_resize", True):
        size = numbers.get("size") or {}
        if "height" in size and "width" in size:
            preprocess = replace(preprocess, size=(int(size["height"]), int(size["width"])))
        elif set(size) == {"shortest_edge"}:
            preprocess = replace(preprocess, size=int(size["shortest_edge"]))
        else:
            raise refuse(f"resizes to {dict(size)}")
    if numbers.get("do_center_crop"):
        crop = numbers["crop_size"]
        preprocess = replace(preprocess, crop=(int(crop["height"]), int(crop["width"])))
    if numbers.get("do_normalize", True):
        mean, std = (tuple(float(x) for x in numbers[key]) for key in ("image_mean", "image_std"))
        preprocess = replace(preprocess, mean=mean, std=std)
    return preprocess


def _features(output: Any) -> Tensor:
    """The tensor of `get_*_features`: itself in transformers 4, inside an output object since 5."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _joint_image(model: nn.Module, images: Tensor) -> Tensor:
    return _features(model.get_image_features(pixel_values=images))  # type: ignore[operator]


def _joint_text(model: nn.Module, tokens: Mapping[str, Tensor]) -> Tensor:
    return _features(model.get_text_features(**tokens))  # type: ignore[operator]


def _pooled_image(pooling: str) -> Any:
    def pool(model: nn.Module, images: Tensor) -> Tensor:
        hidden: Tensor = model(pixel_values=images).last_hidden_state
        if hidden.ndim == 4:  # a convolutional network has positions, no tokens
            return hidden.mean(dim=(2, 3))
        return hidden[:, 0] if pooling == "cls" else hidden.mean(dim=1)

    return pool
