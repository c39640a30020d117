"""Any image, text or audio model that transformers opens: CLIP, SigLIP, CLAP, ViT, BERT, wav2vec and their families."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from inspect import signature
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.constraints import Ge
from limbeck.errors import ConfigError
from limbeck.runtime.cache import digest
from limbeck.spaces import pe_audio
from limbeck.spaces.audio_frontend import AudioNetwork, SoundRate, read_features
from limbeck.spaces.hub import licence_of, read
from limbeck.spaces.preprocess import ImageNetwork, Interpolation, Patches, Preprocess
from limbeck.spaces.space import Encoder
from limbeck.spaces.text import TextNetwork, first_token, mean_of_tokens

__all__ = ["HuggingFace"]

RESAMPLE: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
TOWERS = {"image": "vision_model", "text": "text_model", "audio": "audio_model"}
PARTS = {  # of joint models, besides the tower
    "image": ("vision_model", "visual_projection", "vision_tower", "embed_vision"),
    "text": ("text_model", "text_projection", "text_audio_head"),
    "audio": ("audio_model", "audio_projection", "audio_encoder", "audio_head", "audio_tower", "embed_audio"),
}
READS = {"pixel_values": "image", "input_ids": "text", "input_values": "audio", "input_features": "audio"}
SHIFTED = (
    "roberta",
    "xlm-roberta",
    "camembert",
    "mpnet",
    "clap_text_model",
)  # whose positions begin behind that of padding


@dataclass(frozen=True)
class HuggingFace(Encoder):
    """One tower of a model on huggingface.co, or in a folder that `save_pretrained` wrote: `hf:NAME`.

    A joint model (CLIP, SigLIP, SigLIP 2, CLAP, PE-AV) gives its projected features, so that its modalities can be
    compared. A model of one modality gives the first token of an image, or the mean of the tokens of a text (so does
    EmbeddingGemma 2) or a sound, unless `pooling` says otherwise. Images are prepared by the numbers of the model's own image
    processor, waveforms by those of its feature extractor: in torch, so that gradients pass.

    Args:
        name: a model on the hub (`openai/clip-vit-base-patch32`) or a folder.
        modality: image, text or audio; `limbeck.space(image=..., text=...)` fills it in.
        pooling: `"mean"` or `"cls"` over the last hidden states; `None` for the model's own joint features where it
            has them.
        max_length: tokens that are read of a text; `None` for as many as the model allows.
        rate: samples a second of the waveforms, as the source's `audio_rate`; they are brought to the model's own rate.

    Raises:
        ConfigError: the model cannot be read, or its processor does more than tensors here can follow.

    Example:
        >>> HuggingFace("openai/clip-vit-base-patch32", "text").describe()["name"]
        'hf:openai/clip-vit-base-patch32'
    """

    name: str
    modality: Literal["image", "text", "audio"] = "image"
    pooling: Literal["mean", "cls"] | None = None
    max_length: Annotated[int, Ge(3)] | None = None
    rate: SoundRate = 16000

    requires = (("transformers", "hf"),)

    def describe(self) -> dict[str, Any]:
        """Name and options; the rate where there is one."""
        described = super().describe()
        if self.modality != "audio":
            del described["rate"]
        return described

    @property
    def sample_rate(self) -> int:
        """That of its option `rate`."""
        return self.rate

    @cached_property
    def dim(self) -> int:
        """Read off the vectors of one probe."""
        probes: dict[str, Any] = {"image": torch.full((1, 3, 64, 64), 0.5), "text": ["a"]}
        probe = probes.get(self.modality, torch.linspace(-0.5, 0.5, self.rate)[None])
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
        elif isinstance(network, AudioNetwork):
            reading = asdict(network.reading)
        else:
            assert isinstance(network, TextNetwork)
            reading = [network.max_length, network.fixed, digest(network.tokenizer.get_vocab())]
        return {**self.describe(), "name": "hf", "reading": reading}

    def build(self) -> nn.Module:
        """The model, less its other towers, behind its preprocessing, its tokenizer or its features."""
        from transformers import AutoFeatureExtractor, AutoImageProcessor

        model = self._model()
        joint = self.pooling is None and (_is_pe(model) or hasattr(model, f"get_{self.modality}_features"))
        if self.modality == "text":
            return self._text(model, joint)
        if self.modality == "image":
            preprocess = read_preprocess(read(AutoImageProcessor.from_pretrained, self.name).to_dict(), self.name)
            return ImageNetwork(model, preprocess, _joint_image if joint else _pooled_image(self.pooling or "cls"))
        reading = read_features(read(AutoFeatureExtractor.from_pretrained, self.name).to_dict(), self.name)
        pool = (
            pe_audio.joint_audio if _is_pe(model) else _joint_audio if joint else _pooled_audio(self.pooling or "mean")
        )
        return AudioNetwork(model, reading, pool, self.rate)

    def _model(self) -> Any:
        """The model without what other modalities need.

        Raises:
            ConfigError: it cannot be read, or has no vectors of this modality.
        """
        from transformers import AutoConfig, AutoModel

        config = read(AutoConfig.from_pretrained, self.name)
        pe = config.model_type in pe_audio.KINDS
        if pe and (self.modality == "image" or self.pooling is not None):
            raise ConfigError(f"hf:{self.name} is PE-AV: it serves audio and text here, by its joint features")
        model: Any = pe_audio.load(self.name, config) if pe else read(AutoModel.from_pretrained, self.name)
        self._check_modality(model, pe)
        tower = getattr(model, TOWERS[self.modality], None)
        if self.pooling is not None and tower is not None and any(hasattr(model, t) for t in others(self.modality)):
            return tower.float()
        for part in others(self.modality):
            if hasattr(model, part):
                delattr(model, part)
        return model.float()

    def _check_modality(self, model: Any, pe: bool) -> None:
        served = {m for m in TOWERS if hasattr(model, f"get_{m}_features")}
        if served and "text" not in served and self.modality in served:
            raise ConfigError(
                f"hf:{self.name}: its features of {self.modality} are made for the language model behind them, they cannot "
                "be compared; choose a joint model such as CLIP or CLAP, or this one for text"
            )
        if pe or (served and "text" not in served):
            return
        serves = served or {READS.get(model.main_input_name, self.modality)}
        if self.modality not in serves:
            raise ConfigError(f"hf:{self.name} is a model of {' and '.join(sorted(serves))}; it has no {self.modality}")

    def _text(self, model: Any, joint: bool) -> TextNetwork:
        from transformers import AutoTokenizer

        tokenizer = read(AutoTokenizer.from_pretrained, self.name)
        config = getattr(model.config, "text_config", model.config)
        positions = getattr(config, "max_position_embeddings", None)
        if positions is not None and config.model_type in SHIFTED:
            positions -= (config.pad_token_id or 0) + 1
        limits = (self.max_length, tokenizer.model_max_length, positions)
        limit = min(int(n) for n in limits if n is not None)
        own = _joint_text if joint else first_token if self.pooling == "cls" else mean_of_tokens
        fixed = str(model.config.model_type).startswith("siglip")
        return TextNetwork(model, tokenizer, pe_audio.joint_text if _is_pe(model) else own, limit, fixed)

    def encode(self, network: nn.Module, values: Any) -> Tensor:
        """Vectors `[B, dim]` of images `[B, 3, H, W]` in [0, 1], waveforms `[B, L]`, B strings or their tokens `[B, L, E]`."""
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


def others(modality: str) -> list[str]:
    """The parts of a joint model that `modality` does not need."""
    return [part for owner, parts in PARTS.items() if owner != modality for part in parts]


def read_preprocess(numbers: Mapping[str, Any], name: str) -> Preprocess | Patches:
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
    if numbers.get("do_normalize", True):
        mean, std = (tuple(float(x) for x in numbers[key]) for key in ("image_mean", "image_std"))
        preprocess = replace(preprocess, mean=mean, std=std)
    if numbers.get("max_num_patches"):
        patch, most = int(numbers["patch_size"]), int(numbers["max_num_patches"])
        return Patches(patch, most, interpolation, preprocess.mean, preprocess.std)
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
    return preprocess


def _features(output: Any) -> Tensor:
    """The tensor of `get_*_features`: itself in transformers 4, inside an output object since 5."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _is_pe(model: Any) -> bool:
    return model.config.model_type in pe_audio.KINDS


def _joint_image(model: nn.Module, images: Tensor | Mapping[str, Tensor]) -> Tensor:
    inputs = {"pixel_values": images} if isinstance(images, Tensor) else images
    return _features(model.get_image_features(**inputs))  # type: ignore[operator]


def _joint_audio(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    return _features(model.get_audio_features(**inputs))  # type: ignore[operator]


def _joint_text(model: nn.Module, tokens: Mapping[str, Tensor]) -> Tensor:
    return _features(model.get_text_features(**tokens))  # type: ignore[operator]


def _pooled_audio(pooling: str) -> Any:
    def pool(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        with torch.random.fork_rng(devices=[]):  # wav2vec 2.0 of transformers 4 draws for each layer, and drops none
            hidden: Tensor = model(**inputs).last_hidden_state
        if hidden.ndim == 4:
            return hidden.mean(dim=(2, 3))
        return hidden[:, 0] if pooling == "cls" else hidden.mean(dim=1)

    return pool


def _pooled_image(pooling: str) -> Any:
    def pool(model: nn.Module, images: Tensor | Mapping[str, Tensor]) -> Tensor:
        inputs = {"pixel_values": images} if isinstance(images, Tensor) else images
        hidden: Tensor = model(**inputs).last_hidden_state
        if hidden.ndim == 4:  # a convolutional network has positions, no tokens
            return hidden.mean(dim=(2, 3))
        return hidden[:, 0] if pooling == "cls" else hidden.mean(dim=1)

    return pool
