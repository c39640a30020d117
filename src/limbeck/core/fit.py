"""Sets that fit a budget in bytes of files: real samples are as many as fit, learned ones are stored with less quality where they do not."""

import warnings
from collections.abc import Callable, Collection

from torch import Tensor

from limbeck.core.codec import Storage, lowered
from limbeck.core.distilled import DistilledSet, freeze, images_of, is_real
from limbeck.core.method import Method
from limbeck.core.problem import Problem
from limbeck.core.recipe import Recipe
from limbeck.core.synthetic import Synthetic, chosen_pairs, select
from limbeck.errors import ConfigError, LimbeckWarning
from limbeck.objectives.selection import Rule

__all__ = ["fitted", "frozen"]

TRIES = 12
FULL = 0.998  # of the bytes are enough
SLACK = (
    16  # bytes a sample of which something is learned: captions that are nearest in the end, and numbers, may be longer
)


def fitted(
    problem: Problem,
    method: Method,
    rule: Rule,
    per_class: bool | None = None,
    learn: Collection[str] = (),
    start: Callable[[Tensor], Synthetic] | None = None,
) -> Tensor:
    """Chooses real pairs whose images are kept: as many as the budget says or, in bytes, as its files hold.

    The rule chooses again for each number that is tried, and the set is measured with the bytes that would be stored.

    Args:
        problem: whose candidates to choose from.
        method: whose options the set will name.
        rule, per_class: see `limbeck.core.select`.
        learn: what is learned of them, no images.
        start: from chosen pairs to the set whose files are measured; by default that of `chosen_pairs`.

    Returns:
        `int64 [M]` positions in `problem.candidates`.

    Raises:
        ConfigError: the budget holds not one sample, or more pairs than there are.

    Example:
        >>> import limbeck as lb
        >>> from limbeck.objectives.selection import random
        >>> of = Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(bytes="12kB"))
        >>> less = of.but(budget=lb.Budget(bytes="9kB"))
        >>> len(fitted(of, lb.methods.Random(), random)) > len(fitted(less, lb.methods.Random(), random))
        True
    """
    most, limit = len(problem.complete), problem.budget.limit
    if limit is None:
        return select(problem, rule, problem.budget.resolve(1, most), per_class)
    each = problem.sample_bytes("text" in learn, real=True)
    count = max(problem.pairs("text" in learn, real=True), len(problem.groups(most, per_class)))
    recipe, slack = Recipe.of(problem, method), SLACK * bool(learn)
    low, high, best = 0, most + 1, None
    for _ in range(TRIES):
        chosen = select(problem, rule, count, per_class)
        made = chosen_pairs(problem, chosen, learn=learn) if start is None else start(chosen)
        size = freeze(problem, recipe, made, learned_text="text" in learn).nbytes + slack * count
        if size <= limit:
            low, best = count, chosen
        else:
            high = count
        if high - low <= 1 or FULL * limit <= size <= limit:
            break
        count = min(max(count + int((limit - size) / each), low + 1), high - 1)
    if best is None:
        raise ConfigError(
            f"a budget of {limit:,} bytes holds no set: one of {count} samples takes {size:,}; give it more, or store less"
        )
    return best


def frozen(problem: Problem, recipe: Recipe, synthetic: Synthetic, *, learned_text: bool) -> DistilledSet:
    """The distilled set of a synthetic one, see `freeze`, within the budget: with less quality where its files are too large.

    Args:
        problem, recipe, synthetic, learned_text: see `freeze`.

    Raises:
        ConfigError: its files are larger than the budget, at whatever quality.
    """
    small, limit = freeze(problem, recipe, synthetic, learned_text=learned_text), problem.budget.limit
    if limit is None or small.nbytes <= limit:
        return small
    if problem.storage.lossy and "image" in small.pictures:
        real, room = is_real(problem, synthetic), limit - small.nbytes + small.pictures["image"].nbytes

        def fits(storage: Storage) -> bool:
            return images_of(problem.but(storage=storage), synthetic, real).nbytes <= room

        found = lowered(problem.storage, fits)
        while found is not None:
            other = freeze(problem.but(storage=found), recipe, synthetic, learned_text=learned_text)
            if other.nbytes <= limit:
                warnings.warn(
                    f"images are stored with quality {found.quality} instead of {problem.storage.quality}, so that the set fits {limit:,} bytes",
                    LimbeckWarning,
                    stacklevel=2,
                )
                return other
            found = lowered(found, fits)
    raise ConfigError(
        f"the set of {small.pairs} pairs takes {small.nbytes:,} bytes, more than the {limit:,} of the budget; ask for fewer pairs "
        "(--pairs), or store less: a codec, a quality or a side (--storage.codec jpeg)"
    )
