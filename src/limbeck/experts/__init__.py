"""Experts: students trained on the real data, whose paths through parameter space a synthetic set is to teach."""

from limbeck.experts.matching import TrajectoryMatching
from limbeck.experts.store import Experts, ExpertTraining
from limbeck.experts.towers import TwoTowers

__all__ = ["ExpertTraining", "Experts", "TrajectoryMatching", "TwoTowers"]
