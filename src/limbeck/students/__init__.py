"""Students: what is trained on a set to find out how much the set teaches."""

from limbeck.students.background import backgrounds, composite, masks, swappable, swapped
from limbeck.students.components import Components
from limbeck.students.inputs import distorted, pictures, shaken
from limbeck.students.pretrained import Pretrained
from limbeck.students.trainer import Samples, Trainer
from limbeck.students.training import (
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
