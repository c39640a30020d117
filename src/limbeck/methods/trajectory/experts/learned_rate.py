"""`LearnedRate`: a learning rate of the student that is learned with the set."""

from math import log

import torch
from jaxtyping import Float
from torch import Tensor, nn

from limbeck.errors import ConfigError

__all__ = ["LearnedRate"]


class LearnedRate(nn.Module):
    """A positive, bounded number with one parameter p, learned in log space: in the middle of its
    range equal steps of p are about equal factors, towards its ends they shrink.

        rate = exp( log low + (log high - log low) sigmoid(p) )

    Args:
        initial: where it starts.
        low, high: its bounds.

    Raises:
        ConfigError: not 0 < low < initial < high.

    Example:
        >>> round(LearnedRate(0.1)().item(), 6)
        0.1
    """

    def __init__(self, initial: float, low: float = 1e-4, high: float = 10.0) -> None:
        super().__init__()
        if not 0 < low < initial < high:
            raise ConfigError(
                f"a learned rate needs 0 < low < initial < high, got {low}, {initial}, {high}; "
                "choose an initial rate between the bounds"
            )
        self.low, self.high = low, high
        share = log(initial / low) / log(high / low)
        self.parameter = nn.Parameter(torch.tensor(log(share / (1 - share))))

    def forward(self) -> Float[Tensor, ""]:
        """The rate."""
        return self.low * (log(self.high / self.low) * self.parameter.sigmoid()).exp()
