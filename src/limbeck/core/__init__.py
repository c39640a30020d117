"""The nouns: budget, problem, synthetic set, method, recipe, distilled set."""

from limbeck.core.budget import Budget
from limbeck.core.distilled import DistilledSet, freeze, load
from limbeck.core.method import Method
from limbeck.core.problem import Pairs, Problem, stream
from limbeck.core.recipe import Recipe
from limbeck.core.synthetic import Synthetic, chosen_pairs, select

__all__ = [
    "Budget",
    "DistilledSet",
    "Method",
    "Pairs",
    "Problem",
    "Recipe",
    "Synthetic",
    "chosen_pairs",
    "freeze",
    "load",
    "select",
    "stream",
]
