"""Opening what several commands are given: data, encoders, tasks, sets."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from limbeck.commands._options import Command, Part, part
from limbeck.constraints import Check
from limbeck.errors import ConfigError, StorageError
from limbeck.runtime.progress import ProgressCallback
from limbeck.terminal import note

if TYPE_CHECKING:
    from limbeck.core import DistilledSet, Problem
    from limbeck.data import Source
    from limbeck.evaluation import Score
    from limbeck.spaces import Space

__all__ = [
    "ENCODERS",
    "Device",
    "Encoded",
    "OfSet",
    "ceiling_said",
    "classes_without",
    "encoder_specs",
    "folder_of",
    "open_set",
    "open_source",
    "ready_parts",
    "recorded",
    "report_captions",
    "report_ceiling",
    "report_incomplete",
    "report_opened",
    "report_skipped",
    "report_small_classes",
    "scored",
    "space_of",
]

ENCODERS = {
    "image": "efficientnet_lite0",
    "text": "minilm",
    "audio": "efficientnet_lite0",
    "depth": "efficientnet_lite0",
}
"""By default; a network of images sees sound and depth as grey images."""

REASONS = 5  # that a note tells


def check_device(name: str) -> None:
    """Says so where this machine has no such device.

    Raises:
        ConfigError: it is no name of a device, or this torch does not see the device.
    """
    if name == "cpu":
        return
    found = re.fullmatch(r"(mps|cuda)(?::(\d+))?", name)
    if found is None or (found[1] == "mps" and found[2]):
        raise ConfigError(f"--device takes cpu, cuda, cuda:N (the N-th GPU, from 0) or mps, got {name!r}")
    import torch

    there = torch.backends.mps.is_available() if found[1] == "mps" else torch.cuda.is_available()
    if not there:
        raise ConfigError(
            f"--device {name}: this torch ({torch.__version__}) finds no {found[1]} device; leave the option out to use "
            "the CPU, or install a torch that fits your GPU and driver (pytorch.org)"
        )
    count = torch.cuda.device_count() if found[2] else 0
    if found[2] and int(found[2]) >= count:
        raise ConfigError(f"--device {name}: there are {count} GPUs, the last of them is cuda:{count - 1}")


Device = Annotated[str, Check(check_device)]


@dataclass(frozen=True, kw_only=True)
class Encoded(Command):
    """A command that opens data and encodes them.

    Args:
        ready: one name for the encoders of all modalities that a joint model knows, such as clip, clap, imagebind or
            bound:FOLDER; what is named below stands above it.
        image: the image encoder; none to leave images out.
        text: the text encoder; none to leave texts out.
        audio: the encoder of sound; none to leave it out.
        depth: the encoder of depth; none to leave it out.
        device: where encoders and sets live: cpu, cuda, cuda:1, mps.
    """

    ready: str | None = field(default=None, metadata={"name": "space"})
    image: Part | None = part("encoder", ENCODERS["image"], name="space.image")
    text: Part | None = part("encoder", ENCODERS["text"], name="space.text")
    audio: Part | None = part("encoder", ENCODERS["audio"], name="space.audio")
    depth: Part | None = part("encoder", ENCODERS["depth"], name="space.depth")
    device: Device = "cpu"

    def space(self, source: "Source") -> "Space":
        """The encoders of those modalities that the source has; says which it leaves out.

        Raises:
            ConfigError: an encoder is named of a modality that no sample has.
        """
        encoders = self.encoders()
        for m in (m for m in ENCODERS if f"space.{m}" in self.named and encoders[m] and m not in source.modalities):
            raise ConfigError(
                f"--space.{m}: no sample of {source.name} holds {m}, only {', '.join(source.modalities)}; leave it out, or check "
                "the data"
            )
        chosen = space_of(encoders, source)
        unasked = {m for m in source.modalities if f"space.{m}" not in self.named} - {
            "label",
            "mask",
            *chosen.modalities,
        }
        if unasked:
            note(f"{' and '.join(sorted(unasked))} of {source.name} is left out: this space has no encoder of it")
        return chosen

    def encoders(self) -> dict[str, Part | None]:
        """Modality to encoder: those that are named, above those of the ready space or else the default ones."""
        given = {m: getattr(self, m) for m in ENCODERS if self.ready is None or f"space.{m}" in self.named}
        return (ready_parts(self.ready) if self.ready else {}) | given


def encoder_specs(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Encoders as `evaluate` and `compare` take them: name and options."""
    return [{"name": p.spec, **p.options} for p in parts]


def ready_parts(name: str) -> dict[str, Part | None]:
    """The encoders of a ready space.

    Raises:
        UnknownName: there is none of that name.
    """
    from limbeck.spaces.ready import ready

    return {modality: recorded(encoder) for modality, encoder in ready(name).items()}


def recorded(encoder: Mapping[str, Any]) -> Part:
    """An encoder as a recipe writes it."""
    return Part("encoder", encoder["name"], {k: v for k, v in encoder.items() if k != "name"})


def space_of(encoders: Mapping[str, Part | None], source: "Source") -> "Space":
    """A space of the encoders of those modalities that the source has.

    Args:
        encoders: modality to encoder; `None` leaves the modality out.
        source: the data.

    Raises:
        ConfigError: none of them.
    """
    from limbeck.spaces.build import space

    chosen = {m: p for m, p in encoders.items() if p and m in source.modalities}
    if not chosen:
        held = ", ".join(source.modalities)
        raise ConfigError(
            f"{source.name} holds {held}: name an encoder of one of them with --space.image, --space.text, --space.audio "
            "or --space.depth"
        )
    return space(**{m: {"name": p.spec, **p.options} for m, p in chosen.items()})


@dataclass(frozen=True, kw_only=True)
class OfSet(Encoded):
    """What a command about a set is told of its encoders.

    Args:
        image: the image encoder, or none; by default, for a set, the one that it was distilled with.
        text: the text encoder, or none; likewise.
        audio: the encoder of sound, or none; likewise.
        depth: the encoder of depth, or none; likewise.
    """

    image: Part | None = part("encoder", name="space.image")
    text: Part | None = part("encoder", name="space.text")
    audio: Part | None = part("encoder", name="space.audio")
    depth: Part | None = part("encoder", name="space.depth")


def made_from(small: "Source", remedy: str, tick: ProgressCallback, **options: Any) -> "Source":
    """The data that a set was distilled from.

    Args:
        small: the set.
        remedy: what to do where it does not say.
        tick: see `Progress`.
        options: of the source, such as another split.

    Raises:
        ConfigError: it does not say.
    """
    from limbeck.sources import source

    if not small.recipe.source.get("name"):
        raise ConfigError(f"{small.name} does not say where it came from; {remedy}")
    report_opened(small, "source", {"data": small.recipe.source}, remedy)
    return source(small.recipe.source, **options, tick=tick)


def report_opened(small: "Source", kind: Literal["source", "encoder"], things: Mapping[str, Any], instead: str) -> None:
    """Says which data or encoders from elsewhere are opened because the set names them.

    Args:
        small: the set.
        kind: of the things.
        things: those of the set's recipe that are opened.
        instead: how to name others.

    Raises:
        ConfigError: nobody allowed them.
    """
    if found := small.refuse_strangers(kind, things, instead):
        note(f"{', '.join(found)}: opened because {small.name} names it")


def open_source(asked: Part | None, tick: ProgressCallback, split: str = "train") -> "Source":
    """The source that a command line names; the folder of a run stands for its finished set."""
    from limbeck.sources import source

    assert asked is not None  # the parser insists on it

    options = {"split": split, **asked.options}
    spec = asked.spec
    if os.path.isfile(Path(spec) / "recipe.yaml"):
        spec = str(folder_of(Path(spec)))
    return source(spec, **options, tick=tick)


def open_set(path: Path) -> "DistilledSet":
    """The set in a folder, or in the folder of a finished run."""
    from limbeck.core import load

    return load(folder_of(path))


def folder_of(path: Path) -> Path:
    """The folder of the set: the path itself, or `set` in the folder of a run.

    Raises:
        StorageError: a run that is not finished.
    """
    if not (path / "recipe.yaml").is_file():
        return path
    if not (path / "set").is_dir():
        raise StorageError(
            f"the run {path} is not finished; give the command that started it again, it continues (one that diverged needs "
            "another option, in a new run folder)"
        )
    return path / "set"


def report_captions(source: "Source") -> None:
    """Says how many samples have no caption where others have one: they are in no pair."""
    held = [i for i, sample in enumerate(source.captions) if sample]
    if "text" in source.modalities and len(held) < len(source):
        said = f"{_all_but(source, held)} have no caption; no pair is made of them"
        note(f"{said}")


def report_ceiling(test: "Source") -> None:
    """Says where so many samples share a caption that retrieval cannot tell students apart, and what can."""
    if said := ceiling_said(test):
        note(f"{test.name} has {said}")


def ceiling_said(source: "Source") -> str:
    """What captions that repeat leave of retrieval, and what to do; empty where that is most of it."""
    from limbeck.data.captions import ceiling

    if "text" not in source.modalities or "text" in source.embeddings or not any(source.captions):
        return ""
    found = ceiling(source.captions)
    remedy = "" if source.labels is not None else "give the captions as labels and "
    return f"{found}; {remedy}judge with --protocol classification" if found.low else ""


def report_incomplete(problem: "Problem") -> None:
    """Says how many samples miss a modality: no set starts from them."""
    if len(problem.complete) < len(problem.source):
        said = f"{_all_but(problem.source, problem.complete.tolist())} do not hold {' and '.join(problem.modalities)}"
        note(f"{said}; the set starts from the others")


def classes_without(source: "Source", held: Sequence[int]) -> list[str]:
    """The classes that no sample among those at `held` is of."""
    labels = source.labels
    here = set() if labels is None else set(labels[list(held)].tolist())
    return [] if labels is None else [name for c, name in enumerate(source.classes) if c not in here]


def _all_but(source: "Source", held: Sequence[int]) -> str:
    """How many samples are not at `held`, and which classes that leaves without any."""
    absent = classes_without(source, range(len(source)))
    whole = [name for name in classes_without(source, held) if name not in absent]
    among = f", among them all of {', '.join(whole)}," if whole else ""
    return f"{len(source) - len(held)} of the {len(source)} samples of {source.name}{among}"


def report_small_classes(small: "DistilledSet") -> None:
    """Says which classes had fewer samples than their equal share; what they lack went to the others."""
    share = len(small) // max(len(small.classes), 1)
    counts = Counter(small.labels.tolist() if small.labels is not None else [])
    short = {name: counts[c] for c, name in enumerate(small.classes) if counts[c] < share}
    if short:
        listed = ", ".join(f"{name} {count}" for name, count in short.items())
        note(f"{len(short)} classes have fewer complete samples than {share} each: {listed}; others hold more")


def scored(scores: "Sequence[Score]") -> dict[str, Any]:
    """Scores as JSON types: the rows of scores.json, and where there are unseen encoders the table of them."""
    from limbeck.evaluation.encoders import by_encoder

    tables = [found.plain() for found in by_encoder(scores)]
    return {"schema": 1, "rows": [s.row() for s in scores], **({"encoders": tables} if tables else {})}


def report_skipped(source: "Source", folder: Path | None = None) -> int:
    """Says how many records were left out and why, what else was not used, and how many masks say nothing.

    Args:
        source: the data.
        folder: takes `skipped.jsonl`.
    """
    from limbeck.data.plausible import depth_doubts

    skipped = source.skipped
    if unread := source.unread:
        from limbeck.data.unread import said_unread

        note(f"not read of {source.name}: {said_unread(unread)}")
    if unmasked := source.unmasked:
        said = " and ".join(f"{count} with {reason}" for reason, count in unmasked.items())
        note(f"of the {len(source)} samples of {source.name}, {said} count as object everywhere")
    for doubt in depth_doubts({source.name: source}):
        note(doubt)
    if skipped:
        counts = Counter(row["reason"] for row in skipped).most_common()
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts[:REASONS])
        if others := sum(count for _, count in counts[REASONS:]):
            reasons += f", {others} others"
        written = source.write_skipped(folder) if folder else None
        where = f"; see {written}" if written else ""
        note(f"{len(skipped)} records of {source.name} were skipped: {reasons}{where}")
    return len(skipped)
