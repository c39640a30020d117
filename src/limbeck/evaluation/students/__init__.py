"""Students: what is trained on a set to find out how much the set teaches."""

from limbeck.evaluation.students.background import backgrounds, composite, masks, swappable, swapped
from limbeck.evaluation.students.components import Components
from limbeck.evaluation.students.inputs import distorted, pictures, shaken
from limbeck.evaluation.students.pretrained import Pretrained
from limbeck.evaluation.students.trainer import Samples, Trainer
from limbeck.evaluation.students.training import (
    Candidate,
    Schedule,
    Tower,
    best_student,
    chunk_of,
    fit,
    last_student,
    noisy,
)

__all__ = [
    "Candidate",
    "Components",
    "Pretrained",
    "Samples",
    "Schedule",
    "Tower",
    "Trainer",
    "backgrounds",
    "best_student",
    "chunk_of",
    "composite",
    "distorted",
    "fit",
    "last_student",
    "masks",
    "noisy",
    "pictures",
    "shaken",
    "swappable",
    "swapped",
]
