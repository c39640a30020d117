"""The nouns: budget, problem, synthetic set, method, recipe, distilled set."""

from limbeck.core.budget import Budget
from limbeck.core.codec import Storage
from limbeck.core.distilled import DistilledSet, freeze, load
from limbeck.core.encode import encode, leaves
from limbeck.core.fit import fitted
from limbeck.core.masks import object_masks
from limbeck.core.method import Method
from limbeck.core.pixels import Pixels
from limbeck.core.problem import Problem
from limbeck.core.recipe import Recipe
from limbeck.core.synthetic import Synthetic, chosen_pairs, learned_pairs, select
from limbeck.core.whiten import whitened, whitening_of
from limbeck.runtime.random import stream

__all__ = [
    "Budget",
    "DistilledSet",
    "Method",
    "Pixels",
    "Problem",
    "Recipe",
    "Storage",
    "Synthetic",
    "chosen_pairs",
    "encode",
    "fitted",
    "freeze",
    "learned_pairs",
    "leaves",
    "load",
    "object_masks",
    "select",
    "stream",
    "whitened",
    "whitening_of",
]
