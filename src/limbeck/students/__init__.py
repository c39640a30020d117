"""Students: what is trained on a set to find out how much the set teaches."""

from limbeck.students.background import backgrounds, composite, masks, swappable, swapped
from limbeck.students.components import PCAWhitener
from limbeck.students.inputs import crop_flip, pictures, siamese_augment
from limbeck.students.pretrained import Pretrained
from limbeck.students.trainer import Samples, Trainer
from limbeck.students.training import (
    Candidate,
    Schedule,
    Tower,
    add_noise,
    best_student,
    chunk_of,
    fit,
    last_student,
)

__all__ = [
    "Candidate",
    "PCAWhitener",
    "Pretrained",
    "Samples",
    "Schedule",
    "Tower",
    "Trainer",
    "add_noise",
    "backgrounds",
    "best_student",
    "chunk_of",
    "composite",
    "crop_flip",
    "fit",
    "last_student",
    "masks",
    "pictures",
    "siamese_augment",
    "swappable",
    "swapped",
]
