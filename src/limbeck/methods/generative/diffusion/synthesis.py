"""Caption synthesis: eta captions an image, one of which it was made from."""

import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck import registry
from limbeck.annotation import Captioner, Knowledge
from limbeck.data.modality import Modality
from limbeck.errors import ConfigError, DataError, LimbeckWarning
from limbeck.runtime import processes
from limbeck.runtime.cache import digest
from limbeck.runtime.files import write_text
from limbeck.runtime.runtime import Runtime

__all__ = [
    "Synthesised",
    "captioner",
    "check_ability",
    "check_captioner",
    "described",
    "images_of_budget",
    "rewritten",
    "several",
]

TRIES = 2  # how often a captioner is asked about an image, each time for more
CHUNK = 32  # images between two notes on disk


@dataclass(frozen=True)
class Synthesised:
    """New captions of each image.

    Args:
        captions: exactly as many for each image as were asked for.
        repeated: how many of them are the caption of the prompt again, as nothing else was said.
    """

    captions: list[list[str]]
    repeated: int


def images_of_budget(pairs: int, captions: int) -> int:
    """How many images make a budget of pairs, where each has several captions: the same image with two captions is two pairs.

    Args:
        pairs: the budget |S|.
        captions: of each image, eta.

    Raises:
        ConfigError: the captions do not divide the pairs; the message names the nearest budgets that they do.

    Example:
        >>> images_of_budget(500, 2)
        250
    """
    if pairs % captions:
        low = pairs - pairs % captions
        near = " or ".join(str(n) for n in (low, low + captions) if n)
        raise ConfigError(
            f"{captions} captions an image do not divide a budget of {pairs} pairs; ask for {near} pairs, or other captions"
        )
    return pairs // captions


def captioner(spec: str, knowledge: Callable[[], Knowledge]) -> Captioner:
    """The captioner that a spec names, told what real data can tell it.

    Args:
        spec: a name of `limbeck list captioners`, with what follows a colon: retrieval, hf:NAME, call:module.function.
        knowledge: makes it, for a captioner that wants it.

    Raises:
        UnknownName: there is no such captioner.
        ConfigError: a family without what follows the colon.
    """
    made = check_captioner(spec)
    return made.informed(knowledge()) if type(made).informed is not Captioner.informed else made


def check_captioner(spec: str) -> Captioner:
    """The captioner that a spec names, which knows nothing yet; see `captioner`."""
    found, named = registry.named("captioner", spec)
    made: Captioner = found(**named)
    return made


def check_ability(voice: Captioner, stage: str, count: int) -> None:
    """Refuses a captioner that cannot do what it will be asked for, before anything that takes long.

    Args:
        voice: the captioner, which need know nothing yet.
        stage: describe or paraphrase.
        count: new captions of each image.

    Raises:
        ConfigError: it rewrites no texts, or has only one text for an image.
    """
    kind = type(voice)
    if stage == "paraphrase" and kind.rewrite is Captioner.rewrite:
        voice.rewrite([""], count)
    if stage == "describe" and kind.describe_each is Captioner.describe_each and count > 1:
        voice.describe_each([], count)


def described(
    voice: Captioner,
    images: Tensor,
    prompts: Sequence[str],
    count: int,
    folder: Path | None = None,
    runtime: Runtime | None = None,
) -> Synthesised:
    """`count` new captions of each generated image, by what it looks like.

    Args:
        voice: the captioner.
        images: `uint8 [n, 3, R, R]`.
        prompts: the caption that each was made from.
        count: new captions of each image.
        folder: where they are noted down, chunk by chunk, so that an interrupted run asks no image twice.
        runtime: who hears of progress.

    Raises:
        DataError: the captioner says nothing of any image.
    """
    seen = [Modality("image", tuple(image.shape)).preview(image.float() / 255) for image in images]
    return _whole(voice, _asked(voice.describe_each, seen, prompts, count, folder, runtime), prompts, count)


def rewritten(
    voice: Captioner, prompts: Sequence[str], count: int, folder: Path | None = None, runtime: Runtime | None = None
) -> Synthesised:
    """`count` captions that say what each prompt says in other words: text alone, without a look at any image.

    Args:
        voice, prompts, count, folder, runtime: see `described`.

    Raises:
        DataError: the captioner has no other words for any prompt.
    """
    return _whole(voice, _asked(voice.rewrite, list(prompts), prompts, count, folder, runtime), prompts, count)


def _asked(
    ask: Callable[[Sequence[Any], int], list[list[str]]],
    values: Sequence[Any],
    prompts: Sequence[str],
    count: int,
    folder: Path | None,
    runtime: Runtime | None,
) -> list[list[str]]:
    """The texts of every value, chunk by chunk; processes share the chunks where there is a folder to leave them in."""
    runtime = runtime or Runtime()
    parts = [range(i, min(i + CHUNK, len(prompts))) for i in range(0, len(prompts), CHUNK)]
    found: dict[int, list[list[str]]] = {}
    for part in parts if folder is None else processes.share(parts):
        path = None if folder is None else _note(folder, part)
        said = None if path is None else _noted(path)
        if said is None:
            said = several(ask, [values[i] for i in part], [prompts[i] for i in part], count)
            if path is not None:
                write_text(path, json.dumps({"captions": said, "digest": digest(said)}))
        found[part.start] = said
        runtime.report("caption", part.stop, len(prompts))
    processes.wait()
    for part in parts:
        if part.start not in found and folder is not None:
            found[part.start] = _noted(_note(folder, part)) or []
    if folder is not None:
        processes.wait()
        for part in parts:  # what was said too little of is asked again, if the run has to be repeated
            if processes.is_first() and any(len(texts) < count for texts in found[part.start]):
                _note(folder, part).unlink(missing_ok=True)  # a note of this run, which was just read
    return [texts for part in parts for texts in found[part.start]]


def _note(folder: Path, part: range) -> Path:
    return folder / f"captions-{part.start:06d}.json"


def _noted(path: Path) -> list[list[str]] | None:
    """What a note says; `None` where it is not there, or not as it was written."""
    if not os.path.lexists(path):
        return None
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
        if note["digest"] == digest(note["captions"]):
            return note["captions"]  # type: ignore[no-any-return]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    warnings.warn(f"{path} is damaged; its captions are made anew", LimbeckWarning, stacklevel=3)
    return None


def several(
    ask: Callable[[Sequence[Any], int], list[list[str]]], values: Sequence[Any], prompts: Sequence[str], count: int
) -> list[list[str]]:
    """Up to `count` different texts for each value, none of them empty, or the prompt again.

    A value that gets too few is asked about again, for more.

    Args:
        ask: from values and a number to texts for each.
        values: images or texts.
        prompts: of each.
        count: texts of each.

    Example:
        >>> several(lambda values, n: [["a cat", " ", "a pet"] for _ in values], [0], ["a cat"], 2)
        [['a pet']]
    """
    kept: list[dict[str, None]] = [{} for _ in values]
    for again in range(TRIES):
        short = [i for i, texts in enumerate(kept) if len(texts) < count]
        if not short:
            break
        more = 2 * count + 2 if again else count
        try:
            said = ask([values[i] for i in short], more)
        except ConfigError:
            if again:  # it has no more than it said
                break
            raise
        for i, texts in zip(short, said, strict=True):
            for text in (" ".join(t.split()) for t in texts):
                if text and text != prompts[i] and len(kept[i]) < count:
                    kept[i].setdefault(text)
    return [list(texts) for texts in kept]


def _whole(voice: Captioner, found: list[list[str]], prompts: Sequence[str], count: int) -> Synthesised:
    """Exactly `count` captions each: where too few were said, the prompt stands again, counted and told."""
    name = voice.describe()["name"]
    if found and not any(found):
        raise DataError(
            f"the captioner {name!r} said nothing new of any of {len(found)} images; try it alone with limbeck annotate, choose another, "
            "or ask for one caption an image"
        )
    whole = [[*texts[:count], *[prompt] * (count - len(texts))] for texts, prompt in zip(found, prompts, strict=True)]
    repeated = sum(max(count - len(texts), 0) for texts in found)
    if repeated:
        warnings.warn(
            f"the captioner {name!r} said too little of some images: {repeated} of {count * len(found)} new captions are the prompt again",
            LimbeckWarning,
            stacklevel=3,
        )
    return Synthesised(whole, repeated)
