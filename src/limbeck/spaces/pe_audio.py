"""PE-AV's sound and text, with what its port in transformers 5.23 lacks: a gradient into sound, and texts alone."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.spaces.hub import read

__all__ = ["KINDS", "joint_audio", "joint_text", "load"]

KINDS = ("pe_audio", "pe_audio_video")  # types of configurations


def load(name: str, config: Any) -> nn.Module:
    """The sound and text of a PE-AV model, whose video (and with it timm) is left on the disk.

    Args:
        name: on the hub, or a folder.
        config: its configuration.

    Raises:
        ConfigError: it cannot be read, or it lacks weights.
    """
    from transformers import PeAudioModel

    own = config.audio_config if config.model_type == "pe_audio_video" else config
    loader: Any = PeAudioModel.from_pretrained
    model, found = read(loader, name, config=own, output_loading_info=True)
    if found["missing_keys"]:
        raise ConfigError(
            f"the model {name!r} lacks weights of its sound and text: {sorted(found['missing_keys'])[:3]}"
        )
    model.audio_encoder.embedder = Codec(model.audio_encoder.embedder)
    whole: nn.Module = model
    return whole


class Codec(nn.Module):
    """The codec below the network, with the weights of `closed`, which lets no gradient through.

    Args:
        closed: the embedder of transformers.
    """

    def __init__(self, closed: Any) -> None:
        super().__init__()
        self.dac_encoder, self.bottleneck, self.data_proj = closed.dac_encoder, closed.bottleneck, closed.data_proj

    def forward(self, input_values: Tensor, padding_mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Features of frames `[B, T, E]` of waveforms `[B, 1, L]`, none of which is padded."""
        return self.data_proj(self.bottleneck(self.dac_encoder(input_values)).transpose(1, 2)), padding_mask


def joint_audio(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """Sound in the space of sound and text: `[B, D]`."""
    return model.audio_head(model.audio_encoder(**inputs).pooler_output)  # type: ignore[no-any-return]


def joint_text(model: Any, tokens: Mapping[str, Tensor]) -> Tensor:
    """Texts in the space of sound and text: `[B, D]`."""
    return model.text_audio_head(model.text_model(**tokens).last_hidden_state[:, 0])  # type: ignore[no-any-return]
