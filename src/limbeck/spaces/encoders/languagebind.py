"""LanguageBind, from the copy that a user has installed: an opt-in adapter."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.errors import DataError
from limbeck.spaces.audio_features import fit, kaldi_mel
from limbeck.spaces.audio_frontend import AudioNetwork, SoundRate
from limbeck.spaces.hub import optional, read
from limbeck.spaces.preprocess import CLIP_MEAN, CLIP_STD, Preprocess
from limbeck.spaces.space import Encoder

__all__ = ["LanguageBind"]

CHECKPOINTS = {"image": "LanguageBind_Image", "text": "LanguageBind_Image"}
CHECKPOINTS |= {"audio": "LanguageBind_Audio_FT", "depth": "LanguageBind_Depth"}
FAR = 10.0  # metres, of the brightest grey


@dataclass(frozen=True)
class LanguageBind(Encoder):
    """One tower of LanguageBind: images, texts, sounds and depth, each bound to language.

    The package `languagebind` needs transformers before version 5, so an environment of its own. Its vectors are scaled by a
    learned temperature; here they have length 1. Images, waveforms and depth are prepared in torch, so that gradients pass.
    A long sound is three spectrograms, at its start, middle and end; the package draws their places, here they are fixed.

    Args:
        modality: image, text, audio or depth; `limbeck.space(image=..., text=...)` fills it in.
        checkpoint: of this modality at huggingface.co/LanguageBind, such as `LanguageBind_Audio`; `None` for the best known.
        rate: samples a second of the waveforms, as the source's `audio_rate`; they are brought to the model's own rate.

    Raises:
        MissingDependency: no copy of LanguageBind is installed.
        ConfigError: an option that cannot be, or a checkpoint that cannot be read.

    Paper: Zhu et al., LanguageBind: extending video-language pretraining to N-modality by language-based semantic
    alignment, ICLR 2024.

    Example:
        >>> LanguageBind("depth").describe()["modality"]
        'depth'
    """

    modality: Literal["image", "text", "audio", "depth"] = "image"
    checkpoint: str | None = None
    rate: SoundRate = 16000

    licence = "MIT (trained on VIDAL-10M, CC-BY-NC-4.0)"

    @property
    def sample_rate(self) -> int:
        """That of its option `rate`."""
        return self.rate

    @cached_property
    def dim(self) -> int:
        """The width of the projection."""
        (projection,) = self.network.model.modality_proj.values()  # type: ignore[union-attr,operator]
        return int(projection.out_features)

    def build(self) -> nn.Module:
        """One tower behind its preprocessing."""
        what = "the encoder 'languagebind' (with transformers below 5)"
        package = optional("languagebind", "languagebind", what, "pip install 'languagebind[all]'")
        checkpoint = self.checkpoint or CHECKPOINTS[self.modality]
        kind = "image" if self.modality == "text" else self.modality

        def load(name: str) -> Any:
            return package.LanguageBind({kind: name}, use_temp=False, cache_dir=None)

        model = read(load, checkpoint)
        key = "language" if self.modality == "text" else kind
        for part in (model.modality_encoder, model.modality_proj):
            for other in [k for k in part if k != key]:
                del part[other]
        if key == "language":
            tokenizer = read(package.LanguageBindImageTokenizer.from_pretrained, f"LanguageBind/{checkpoint}")
            return Texts(model, tokenizer)
        if key == "audio":
            numbers = model.modality_config[key].vision_config
            return AudioNetwork(model, read_thirds(numbers), lambda m, inputs: m({"audio": inputs})["audio"], self.rate)
        return Pixels(model, key)

    def encode(self, network: nn.Module, values: Any) -> Tensor:
        """Vectors `[B, dim]` of images `[B, 3, H, W]`, B strings, waveforms `[B, L]` or metres `[B, 1, H, W]`."""
        return network(values)  # type: ignore[no-any-return]


class Pixels(nn.Module):
    """The tower of images or of depth.

    Args:
        model: LanguageBind.
        key: image or depth.
    """

    def __init__(self, model: nn.Module, key: str) -> None:
        super().__init__()
        self.model, self.key = model, key
        self.preprocess = Preprocess(224, (224, 224), "bicubic", CLIP_MEAN, CLIP_STD)

    def forward(self, values: Float[Tensor, "b c h w"]) -> Tensor:
        """Vectors `[B, D]` of images in [0, 1], or of metres: as grey images, 1 at 10 m, darkest where there is none."""
        images = values if self.key == "image" else (values.clamp(0.01, FAR) / FAR).expand(-1, 3, -1, -1)
        return self.model({self.key: {"pixel_values": self.preprocess(images)}})[self.key]  # type: ignore[no-any-return]


class Texts(nn.Module):
    """The tower of texts.

    Args:
        model: LanguageBind.
        tokenizer: its tokenizer.
    """

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer

    def forward(self, texts: Any) -> Tensor:
        """Vectors `[B, D]` of B strings.

        Raises:
            DataError: no list of strings.
        """
        if isinstance(texts, str) or not len(texts):
            raise DataError(f"a text encoder takes a list of at least one string, got {texts!r:.80}")
        tokens = self.tokenizer(list(texts), max_length=77, padding="max_length", truncation=True, return_tensors="pt")
        device = next(self.model.parameters()).device
        return self.model({"language": {k: v.to(device) for k, v in tokens.items()}})["language"]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Thirds:
    """Filter banks of three parts of a sound: `pixel_values [B, 3, mels, frames]`.

    Args:
        rate: samples a second.
        mels, frames: of a part.
        mean, std: of the scaling.
    """

    rate: int
    mels: int
    frames: int
    mean: float
    std: float

    def __call__(self, waves: Float[Tensor, "b t"]) -> dict[str, Tensor]:
        """What the model takes; a sound of one part or less is repeated as often as it fits, and seen three times."""
        length = self.frames * self.rate // 100
        waves = waves if waves.shape[1] > length else fit(waves, length)
        mel = kaldi_mel(waves - waves.mean(dim=1, keepdim=True), self.rate, self.mels)
        room = max(1, mel.shape[1] - self.frames + 1)  # places where a part may begin, cut into thirds
        starts = [0, -(-room // 3), -(-room // 3) + -(-(room - 1) // 3)] if room > 2 else [0, room - 1, 0]
        parts = torch.stack([mel[:, start : start + self.frames] for start in starts], dim=1)
        parts = F.pad(parts, (0, 0, 0, self.frames - parts.shape[2])).transpose(2, 3)
        return {"pixel_values": (parts - self.mean) / self.std}


def read_thirds(numbers: Any) -> Thirds:
    """The features that LanguageBind's configuration of sound describes."""
    return Thirds(
        int(numbers.audio_sample_rate),
        int(numbers.num_mel_bins),
        int(numbers.target_length),
        float(numbers.audio_mean),
        float(numbers.audio_std),
    )
