"""An optimizer that leaves samples without a gradient where they are, and its learning rates."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam

from limbeck.core.synthetic import Synthetic

__all__ = ["RowAdam", "rates"]


class RowAdam(Adam):
    """Adam, for which a sample whose gradient is exactly zero does not take part in the step.

    The samples of all classes are rows of one parameter. Momentum would go on moving the rows of a class that a step did not
    look at; here both they and their moments stay, to the bit, as they would with an optimizer a class. All else is
    element by element in Adam already, so no class's step moves another.

    Example:
        >>> x = torch.nn.Parameter(torch.zeros(2, 3))
        >>> optimizer = RowAdam([x], lr=0.1)
        >>> for own in (x, x[:1]):
        ...     optimizer.zero_grad()
        ...     own.sum().backward()
        ...     optimizer.step()
        >>> [round(row, 6) for row in x[:, 0].tolist()]
        [-0.2, -0.1]
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of Adam; rows without a gradient are then put back."""
        kept: list[tuple[Tensor, Tensor, list[Tensor]]] = []
        for p in (p for group in self.param_groups for p in group["params"] if p.grad is not None and p.ndim):
            still = (p.grad.flatten(1) if p.ndim > 1 else p.grad[:, None]).eq(0).all(1)
            if still.any():
                kept.append((p, still, [value[still].clone() for value in (p, *self._moments(p))]))
        loss: float | None = super().step(closure)
        for p, still, before in kept:
            for value, rows in zip((p, *self._moments(p)), before, strict=False):  # moments appear with the first step
                value[still] = rows
        return loss

    def _moments(self, p: Tensor) -> list[Any]:
        return [self.state[p][name] for name in ("exp_avg", "exp_avg_sq") if name in self.state[p]]


def rates(synthetic: Synthetic, lr: float, lr_text: float) -> list[dict[str, Any]]:
    """Groups of an optimizer: a learning rate for text, and one for all else, in units of the range of a modality.

    Pixels and sound lie in [0, 1], but depth in metres; a step is to mean the same in each.

    Args:
        synthetic: whose learned modalities.
        lr: for a range of one.
        lr_text: of texts.
    """
    span = {m: high - low for m, (low, high) in synthetic.ranges.items()}
    return [
        {"params": [v], "lr": lr_text if m == "text" else lr * span.get(m, 1.0)} for m, v in synthetic.learned.items()
    ]
