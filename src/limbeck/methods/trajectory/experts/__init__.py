"""Expert trajectories: students trained on the real data, whose paths through the space of parameters a set is to teach."""

from limbeck.methods.trajectory.experts.matching import TrajectoryMatching
from limbeck.methods.trajectory.experts.store import Experts, ExpertTraining

__all__ = ["ExpertTraining", "Experts", "TrajectoryMatching"]
