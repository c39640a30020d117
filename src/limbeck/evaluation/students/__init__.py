"""Students: what is trained on a set to find out how much the set teaches."""

from limbeck.evaluation.students.components import Components
from limbeck.evaluation.students.inputs import Side, pictures, shaken, side_of
from limbeck.evaluation.students.pretrained import Pretrained
from limbeck.evaluation.students.training import Schedule, Tower, best_student, chunk_of, fit, noisy

__all__ = [
    "Components",
    "Pretrained",
    "Schedule",
    "Side",
    "Tower",
    "best_student",
    "chunk_of",
    "fit",
    "noisy",
    "pictures",
    "shaken",
    "side_of",
]
