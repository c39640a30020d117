"""Which real captions a generator is asked for."""

import difflib
from pathlib import Path

import torch
from torch import Tensor

from limbeck.core import Problem, select
from limbeck.errors import ConfigError
from limbeck.objectives.selection import RULES, rule

__all__ = ["check_prompts", "chosen_prompts", "listed"]

LISTED = "list:"


def listed(how: str) -> Path | None:
    """The file of a list of prompts; `None` where they are chosen by a rule."""
    return Path(how.removeprefix(LISTED)).expanduser() if how.startswith(LISTED) else None


def check_prompts(how: str) -> None:
    """Refuses what is no way to choose prompts.

    Raises:
        ConfigError: an unknown rule, or a list without a file.
        UnknownName: likewise, with the nearest rule.
    """
    if how.startswith(LISTED):
        if not how.removeprefix(LISTED):
            raise ConfigError("prompts list: needs a file, as in list:prompts.txt, with one caption or number a line")
    elif how != "cluster":
        rule(how)


def chosen_prompts(problem: Problem, how: str, count: int) -> Tensor:
    """Positions in `problem.candidates` of the pairs whose captions are asked for, `int64 [count]`.

    Args:
        problem: whose training captions.
        how: `"random"` as published; `"cluster"` for medoids of matched clusters of images and texts; another selection rule;
            or `"list:FILE"`, a text file with one caption, or the number of a caption, a line.
        count: how many.

    Raises:
        ConfigError: a file that cannot be read, has another number of lines, or names what is no training caption.
    """
    path = listed(how)
    if path is None:
        return select(problem, RULES["prototypes"] if how == "cluster" else rule(how), count, per_class=False)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the prompts {path} cannot be read: {error}; name a text file with one caption a line"
        ) from error
    if len(lines) != count:
        raise ConfigError(
            f"{path} has {len(lines)} prompts, and this budget asks for {count}; give as many, or change the budget"
        )
    place: dict[str, int] = {}
    for position, row in enumerate(problem.candidates.rows["text"].tolist()):
        place.setdefault(problem.captions[row], position)
    return torch.tensor([_position(problem, place, line, f"{path}, line {i + 1}") for i, line in enumerate(lines)])


def _position(problem: Problem, place: dict[str, int], line: str, where: str) -> int:
    if line in place:
        return place[line]
    if line.isdigit():
        found = (problem.candidates.rows["text"] == int(line)).nonzero().flatten().tolist()
        if found:
            return int(found[0])
        total = len(problem.captions)
        raise ConfigError(
            f"{where}: there is no caption {line} of a sample with an image; {problem.source.name} has {total} captions, from 0 to {total - 1}"
        )
    near = difflib.get_close_matches(line, place, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"{where}: {line!r} is no training caption of {problem.source.name}{hint}")
