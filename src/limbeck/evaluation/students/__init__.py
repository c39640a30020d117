"""Students: what is trained on a set to find out how much the set teaches."""

from limbeck.evaluation.students.components import Components
from limbeck.evaluation.students.inputs import Side, pixels, shaken, side_of
from limbeck.evaluation.students.training import Schedule, Tower, best_student, fit, noisy, soft_cross_entropy

__all__ = [
    "Components",
    "Schedule",
    "Side",
    "Tower",
    "best_student",
    "fit",
    "noisy",
    "pixels",
    "shaken",
    "side_of",
    "soft_cross_entropy",
]
