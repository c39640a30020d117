"""ImageBind, from the copy that a user has installed: an opt-in adapter to a model for non-commercial use."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.constraints import Count, Interval
from limbeck.errors import ConfigError, DataError
from limbeck.spaces.audio_features import kaldi_mel
from limbeck.spaces.audio_frontend import AudioNetwork, SoundRate
from limbeck.spaces.hub import optional
from limbeck.spaces.preprocess import CLIP_MEAN, CLIP_STD, Preprocess, disparity
from limbeck.spaces.space import Encoder

__all__ = ["ImageBind"]

KEYS = {"image": "vision", "text": "text", "audio": "audio", "depth": "depth"}  # what ImageBind calls them
PARTS = ("modality_preprocessors", "modality_trunks", "modality_heads", "modality_postprocessors")
END = 49407  # the token that ends a text, of which the vector is taken; the largest of all
INSTALL = "pip install git+https://github.com/facebookresearch/ImageBind"


@dataclass(frozen=True)
class ImageBind(Encoder):
    """One tower of ImageBind (huge): images, texts, sounds and depth in one space of 1024 dimensions.

    The package is not on the index and is never installed by us; its code and weights are for **non-commercial use**, under a
    licence that passes to what is made with them. Each tower but that of images scales its vectors; they are brought back to
    length 1. Images, waveforms and depth are prepared here in torch, so that gradients pass; texts by the package.

    A sound is heard as `clips` of two seconds, evenly spaced, of which the vectors are averaged; one clip where it is not
    longer. Depth becomes `disparity(depth, near)`, then minus 0.0418 over 0.0295. There is no official loader of depth. By
    default a pixel is 0.065 m / depth, of which those two numbers can be the mean and the spread indoors: 0.075 m (baseline) x
    519 (focal length in pixels) / 75, and a factor of 8 for the rotated bits of the published SUN RGB-D files.

    Args:
        modality: image, text, audio or depth; `limbeck.space(image=..., text=...)` fills it in.
        weights: the file of weights; by default the package fetches 4.5 GB into `.checkpoints` of the current folder.
        rate: samples a second of the waveforms, as the source's `audio_rate`; they are brought to 16 kHz.
        clips: of a sound.
        near: metres over depth is what a pixel of depth becomes, at most 1.

    Raises:
        MissingDependency: no copy of ImageBind is installed.
        ConfigError: an option that cannot be, or weights that cannot be read.

    Paper: Girdhar et al., ImageBind: one embedding space to bind them all, CVPR 2023.

    Example:
        >>> ImageBind("audio", rate=44100).licence
        'CC-BY-NC-SA-4.0'
    """

    modality: Literal["image", "text", "audio", "depth"] = "image"
    weights: str = ""
    rate: SoundRate = 16000
    clips: Count = 3
    near: Annotated[float, Interval(gt=0, le=100)] = 0.065

    licence = "CC-BY-NC-SA-4.0"  # of the file LICENSE and the model card; the README leaves SA out

    @property
    def sample_rate(self) -> int:
        """That of its option `rate`."""
        return self.rate

    @property
    def dim(self) -> int:
        """1024."""
        return 1024

    def identity(self) -> dict[str, Any]:
        """What decides the vectors; the file of weights is only a place."""
        described = self.describe()
        del described["weights"]
        return described

    def build(self) -> nn.Module:
        """One tower behind its preprocessing."""
        package = _module("imagebind.models.imagebind_model")
        model = package.imagebind_huge(pretrained=not self.weights)
        if self.weights:
            _load(model, Path(self.weights).expanduser())
        key = KEYS[self.modality]
        for part in (getattr(model, name) for name in PARTS):
            for other in [k for k in part if k != key]:
                del part[other]
        if self.modality == "audio":
            return AudioNetwork(model, Clips(self.clips), lambda tower, inputs: tower(inputs)["audio"], self.rate)
        if self.modality == "text":
            tokenise = _module("imagebind.data").load_and_transform_text
            return Tower(model, key, lambda texts: read_tokens(tokenise, texts))
        if self.modality == "depth":
            numbers = Preprocess(224, (224, 224), "bilinear", (0.0418,), (0.0295,))
            return Tower(model, key, lambda depth: numbers(disparity(depth, self.near)))
        return Tower(model, key, Preprocess(224, (224, 224), "bicubic", CLIP_MEAN, CLIP_STD))

    def encode(self, network: nn.Module, values: Any) -> Tensor:
        """Vectors `[B, 1024]` of images `[B, 3, H, W]`, B strings, waveforms `[B, L]` or metres `[B, 1, H, W]`."""
        return network(values)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Clips:
    """Filter banks of clips of two seconds at 16 kHz: `audio [B, S, 1, 128, 204]`.

    Args:
        count: clips S of what is longer than one.
    """

    count: int

    rate = 16000
    length = 32000

    def __call__(self, waves: Float[Tensor, "b t"]) -> dict[str, Tensor]:
        """What the model takes: each clip without its mean, its frames padded with zeros to 204, then scaled."""
        room = max(0, waves.shape[1] - self.length)
        count = self.count if room else 1
        starts = [room * i // max(1, count - 1) for i in range(count)]
        clips = torch.stack([waves[:, start : start + self.length] for start in starts], dim=1).flatten(0, 1)
        mel = kaldi_mel(clips - clips.mean(dim=1, keepdim=True), self.rate, 128).transpose(1, 2)
        scaled = (F.pad(mel, (0, 204 - mel.shape[2])) + 4.268) / 9.138
        return {"audio": scaled.unflatten(0, (-1, count))[:, :, None]}


class Tower(nn.Module):
    """The network behind the preparation of one modality.

    Args:
        model: ImageBind.
        key: its name of the modality.
        prepare: from values to what the model takes.
    """

    def __init__(self, model: nn.Module, key: str, prepare: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.model, self.key, self.prepare = model, key, prepare

    def forward(self, values: Any) -> Tensor:
        """Vectors `[B, D]`."""
        device = next(self.model.parameters()).device
        return self.model({self.key: self.prepare(values).to(device)})[self.key]  # type: ignore[no-any-return]


def read_tokens(tokenise: Callable[..., Tensor], texts: Any) -> Tensor:
    """Tokens `[B, 77]` of B strings. Copies before November 2025 lose the end of a text that is too long; it is put back.

    Raises:
        DataError: no list of strings.
    """
    if isinstance(texts, str) or not len(texts) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"a text encoder takes a list of at least one string, got {texts!r:.80}")
    tokens = tokenise(list(texts), "cpu").clone()
    tokens[~(tokens == END).any(dim=1), -1] = END
    return tokens


def _module(name: str) -> Any:
    return optional(name, "imagebind", "the encoder 'imagebind' (for non-commercial use)", INSTALL)


def _load(model: nn.Module, path: Path) -> None:
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a file that is something else raises whatever it leads to
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"the weights {path} are not those of ImageBind (huge), or cannot be read: {reason}"
        ) from error
