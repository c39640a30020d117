"""The loop, run folders."""

from limbeck.engine.distill import State, distill, steps
from limbeck.engine.run import Run

__all__ = ["Run", "State", "distill", "steps"]
