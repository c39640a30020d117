"""`Method`: hyper-parameters plus `start` and `step`. All that changes lives in the synthetic set."""

import inspect
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.optim import Optimizer

from limbeck import registry
from limbeck.constraints import validate
from limbeck.core.problem import Problem
from limbeck.core.synthetic import Synthetic
from limbeck.errors import ConfigError, DataError, Fault
from limbeck.spaces.encoders.pool import members_of

__all__ = ["Method"]

RENAMED = {
    "rate": "lr_schedule",
    "prepares": "preparation_cost",
    "costs": "estimates",
    "sound": "validate",
    "reads": "extra_fingerprints",
    "finish": "materialize",
    "cure": "remedy_for",
}  # members of the contract, old name to new
DRAW = "cf, covmatch, imagebind_dc, kip or ncfm"  # those with `pools` = drawn, for a message


@dataclass(frozen=True)
class Method(ABC):
    """One way to make a synthetic set. A subclass is final: one frozen dataclass in one file.

    The contract (`limbeck.check.check_method` tests it):

    1. `step` leaves gradients in the parameters of the synthetic set, by as many `backward()` calls as it likes, or edits
       the set in place and has no optimizer.
    2. All randomness comes from `problem.rng(purpose, t)`.
    3. Nothing outside `problem` and `synthetic` is read or written, except through `problem.cache`.
    4. Returned scalars are finite; the loop checks and raises `Diverged` otherwise.

    Attributes:
        needs: modalities that it cannot do without.
        pools: what its steps read of a pool of encoders: all members, one that is drawn at each step, or none: it refuses a pool.
        again: whether `step` may be called several times for one t, which leaves nothing but other gradients.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    pools: ClassVar[Literal["all", "drawn", "none"]] = "none"
    again: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuses members by the names that they had: they would never be called."""
        super().__init_subclass__(**kwargs)
        for old, new in RENAMED.items():
            if inspect.isfunction(vars(cls).get(old)):
                raise ConfigError(f"{cls.__name__}.{old} is called {new} now; rename it")

    def __post_init__(self) -> None:
        validate(self)

    def check(self, problem: Problem) -> None:
        """Refuses a problem that it cannot work on, before anything is encoded: no check may read the problem's features.

        Raises:
            DataError: a modality that it needs is missing, or labels that its `per_class` asks for.
            ConfigError: a budget below one a class, as far as the source tells which samples hold every modality; a pool of
                encoders where its steps read one; options of pixels where it learns none.
        """
        if missing := [m for m in self.needs if m not in problem.modalities]:
            raise DataError(
                f"{self.describe()['name']} needs {' and '.join(self.needs)}, but {problem.source.name} with this space has no "
                f"{' and no '.join(missing)}; choose other data, or a space that encodes them"
            )
        self._check_pixels(problem)
        for modality in problem.modalities:
            members = [member.describe()["name"] for member in members_of(problem.space[modality])]
            if len(members) > 1 and self.steps and self.pools == "none":
                raise ConfigError(
                    f"{self.describe()['name']} learns with one {modality} encoder, and this is a pool of {' and '.join(members)}; "
                    f"use {DRAW}, which draw one of them a step, label_distillation, which reads each, or one encoder: --space.{modality} "
                    f"ensemble:{'+'.join(members)}"
                )
        per_class = getattr(self, "per_class", False)
        if problem.budget.limit is not None or problem.by_class(per_class):
            size = problem.sample_bytes(self.learns_text, self.text_tokens, real=self.keeps_images)
            pairs = problem.budget.resolve(size, problem.available, problem.fixed_bytes)
            if problem.by_class(per_class):
                problem.refuse_classes(pairs, per_class)

    def refuse_others(self, problem: Problem, matched: dict[str, str], instead: str = "") -> None:
        """Refuses modalities that a method would leave as they were; for `check`.

        Args:
            problem: whose modalities.
            matched: those that it matches, each with its name in the message.
            instead: what else can be done than to leave the others out.

        Raises:
            DataError: names them, and how to leave them out.
        """
        if others := [m for m in problem.modalities if m not in matched]:
            raise DataError(
                f"{self.describe()['name']} matches {' and '.join(matched.values())}, and would leave {' and '.join(others)} as it was; "
                f"{instead}leave it out with {' '.join(f'--space.{m} none' for m in others)}"
            )

    def _check_pixels(self, problem: Problem) -> None:
        name, given = self.describe()["name"], problem.pixels.given
        if given and not (self.learns_pixels and "image" in problem.modalities):
            raise ConfigError(
                f"{name} learns no pixels here, so {', '.join(given)} of pixels is ignored; leave out --pixels.{next(iter(given))}, or "
                "use data with images and a method that learns them, such as cf, kip or dm"
            )
        if problem.pixels.views and not self.again:
            raise ConfigError(
                f"{name} trains a classifier on the set from step to step, which can see it in one way alone; leave out --pixels.views, "
                "or use cf, kip, dm or another method without one"
            )

    @property
    def steps(self) -> int:
        """How many times the loop calls `step`: 0 for a one-shot method. Iterative methods have it as a field."""
        return 0

    @property
    def learns_text(self) -> bool:
        """Whether a synthetic text is an embedding (4 bytes a component) rather than a caption."""
        return False

    @property
    def keeps_images(self) -> bool:
        """Whether a synthetic image is that of a real sample, unchanged: what it takes is the bytes of its file."""
        return not self.steps

    @property
    def learns_pixels(self) -> bool:
        """Whether its steps move the pixels of images, so that the options of `Pixels` have a say."""
        return bool(self.steps) and not self.keeps_images

    @property
    def text_tokens(self) -> int:
        """How many token embeddings a learned text consists of; 0 where it is one vector."""
        return 0

    @property
    def clip(self) -> float | None:
        """The largest norm of the whole gradient; `None` leaves it as it is."""
        return None

    def lr_schedule(self, t: int) -> float:
        """What every learning rate is multiplied by at step `t`: a schedule without state."""
        return 1.0

    def cosine(self, t: int) -> float:
        """A cosine from 1 at the first step to 0 behind the last: an `lr_schedule` that many methods share."""
        return (1 + cos(pi * t / self.steps)) / 2

    @abstractmethod
    def start(self, problem: Problem) -> Synthetic:
        """The synthetic set before the first step. May be costly, through `problem.cache`; repeatable."""

    def preparation_cost(self, problem: Problem) -> tuple[float, int]:
        """Seconds and bytes in the cache that a run will take beyond its features and steps, estimated; nothing is stored."""
        return 0.0, 0

    def estimates(self, problem: Problem) -> dict[str, Any]:
        """More rows for `limbeck doctor`, such as the memory of a prior: name to value. A row of a name that doctor has replaces doctor's."""
        return {}

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | Tensor]:
        """One improvement; returns the scalars to log, with `"loss"` among them."""
        raise NotImplementedError(f"{type(self).__name__} has no steps")

    def optimizer(self, synthetic: Synthetic) -> Optimizer | None:
        """The optimizer of the synthetic set's parameters; `None` where `step` edits in place."""
        return None

    def validate(self, synthetic: Synthetic) -> Fault | None:
        """What is wrong with a set that is finite but of no use, after every step; the loop then stops and keeps the set before.

        Returns:
            what went too far and which option to lower; `None` where nothing did.
        """
        return None

    def extra_fingerprints(self) -> dict[str, str]:
        """What else than source and space decides a run, such as the weights of a prior: name to digest, for its recipe."""
        return {}

    def materialize(self, problem: Problem, synthetic: Synthetic, folder: Path | None = None) -> Synthetic:
        """The samples that a set is frozen from, behind the last step: of a generator, drawn from it; else the set itself.

        Args:
            problem: what is distilled.
            synthetic: after the last step.
            folder: of the run, where work that takes long may keep what is done.
        """
        return synthetic

    def remedy_for(self, name: str) -> str:
        """What to change where a logged scalar, the gradient or a parameter of this name stopped being finite."""
        return "lower the learning rate"

    def describe(self) -> dict[str, Any]:
        """Name and hyper-parameters, as they are written in a recipe."""
        return {"name": registry.name_of(type(self)), **asdict(self)}
