"""MTT-VL: trajectory matching of image-text pairs, each image with its own text alone."""

from dataclasses import dataclass

from limbeck.methods.trajectory.experts import TrajectoryMatching

__all__ = ["MTTVL"]


@dataclass(frozen=True)
class MTTVL(TrajectoryMatching):
    """Trajectory matching of image-text pairs with InfoNCE: image i matches text i and no other.

    Paper: Wu et al., Vision-language dataset distillation, TMLR 2024.

    Example:
        >>> import limbeck as lb
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> MTTVL().describe()["name"]
        'mtt_vl'
    """
