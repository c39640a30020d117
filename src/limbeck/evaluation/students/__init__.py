"""Students: what is trained on a set to find out how much the set teaches."""

from limbeck.evaluation.students.background import backgrounds, composite, masks, swappable, swapped
from limbeck.evaluation.students.components import Components
from limbeck.evaluation.students.inputs import Side, distorted, pictures, shaken, side_of
from limbeck.evaluation.students.pretrained import Pretrained
from limbeck.evaluation.students.training import Candidate, Schedule, Tower, best_student, chunk_of, fit, noisy

__all__ = [
    "Candidate",
    "Components",
    "Pretrained",
    "Schedule",
    "Side",
    "Tower",
    "backgrounds",
    "best_student",
    "chunk_of",
    "composite",
    "distorted",
    "fit",
    "masks",
    "noisy",
    "pictures",
    "shaken",
    "side_of",
    "swappable",
    "swapped",
]
