"""A text network: tokenizer, transformer and pooling, run over strings in order of length."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.errors import ConfigError, DataError

__all__ = ["TextNetwork", "first_token", "mean_of_tokens"]

Pool = Callable[[nn.Module, Mapping[str, Tensor]], Tensor]
CHUNK = 32  # texts of similar length that go through the network together


def mean_of_tokens(model: nn.Module, tokens: Mapping[str, Tensor]) -> Tensor:
    """The mean of the last hidden states over the tokens that are not padding: `[B, D]`."""
    hidden: Tensor = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)


def first_token(model: nn.Module, tokens: Mapping[str, Tensor]) -> Tensor:
    """The last hidden state of the first token: `[B, D]`."""
    return model(**tokens).last_hidden_state[:, 0]  # type: ignore[no-any-return]


class TextNetwork(nn.Module):
    """Strings to vectors. Texts are sorted by length before they are padded, so that little padding is computed.

    Args:
        model: a transformer.
        tokenizer: its tokenizer.
        pool: from the model and its tokens to vectors.
        max_length: tokens that are read of a text.
        fixed: pad every text to `max_length`, as models want that were trained so.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, pool: Pool, max_length: int, fixed: bool = False) -> None:
        super().__init__()
        self.model, self.tokenizer, self.pool = model, tokenizer, pool
        self.max_length, self.fixed = max_length, fixed

    def tokens(self, texts: Sequence[str], length: int) -> Float[Tensor, "b {length} e"]:
        """The rows of the table of word vectors that B strings read, with rows of zeros behind them.

        Args:
            texts: B strings, each cut to `length` tokens.
            length: rows of each.

        Raises:
            ConfigError: a length that the network cannot read.
        """
        if not 1 <= length <= self.max_length:
            raise ConfigError(f"this text encoder reads 1 to {self.max_length} tokens of a text, got {length}")
        table = self.model.get_input_embeddings()  # type: ignore[operator]
        ids = self.tokenizer(list(texts), truncation=True, max_length=length)
        padded = self.tokenizer.pad(ids, padding="max_length", max_length=length, return_tensors="pt")
        padded = padded.to(table.weight.device)
        return table(padded["input_ids"]) * padded["attention_mask"].unsqueeze(-1)  # type: ignore[no-any-return]

    def forward(self, texts: Any) -> Tensor:
        """Vectors `[B, D]` of B strings, in their order, or of `tokens` `[B, L, E]`.

        Raises:
            DataError: the input is no list of strings, or it is empty.
        """
        if isinstance(texts, Tensor):
            mask = (texts.detach() != 0).any(-1).long()
            return self.pool(self.model, {"inputs_embeds": texts, "attention_mask": mask})
        if isinstance(texts, str) or not len(texts) or not all(isinstance(text, str) for text in texts):
            raise DataError(f"a text encoder takes a list of at least one string, got {texts!r:.80}")
        device = next(self.model.parameters()).device
        ids = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)
        order = sorted(range(len(texts)), key=lambda i: len(ids["input_ids"][i]))
        vectors = []
        for start in range(0, len(order), CHUNK):
            chosen = {name: [rows[i] for i in order[start : start + CHUNK]] for name, rows in ids.items()}
            padding = {"padding": "max_length", "max_length": self.max_length} if self.fixed else {"padding": True}
            tokens = self.tokenizer.pad(chosen, return_tensors="pt", **padding).to(device)
            vectors.append(self.pool(self.model, tokens))
        return torch.cat(vectors)[torch.tensor(order).argsort().to(device)]
