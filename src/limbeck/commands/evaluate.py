"""`limbeck evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.commands._open import (
    ENCODERS,
    OfSet,
    encoder_specs,
    made_from,
    open_source,
    ready_parts,
    recorded,
    report_captions,
    report_ceiling,
    report_opened,
    report_skipped,
    scored,
    space_of,
)
from limbeck.commands._options import Answer, Part, part
from limbeck.errors import ConfigError
from limbeck.runtime.progress import ProgressCallback
from limbeck.terminal import note

if TYPE_CHECKING:
    from limbeck.data import Source
    from limbeck.spaces import Space

__all__ = ["Evaluate"]


@dataclass(frozen=True, kw_only=True)
class Evaluate(OfSet):
    """Trains students on a set, or on any data, and tests them on held-out data.

    Args:
        small: what to judge: the folder of a set or of a run, or data such as demo.
        on: the data to test on; by default those that the set was distilled from, or the same data.
        protocol: how to judge; limbeck list protocols names them.
        student: frozen for heads on the frozen encoders; encoder for the image encoder itself, pretrained and trained on;
            or a network that is trained, such as resnet18, or convnet:32 for 32 channels; limbeck list networks names them.
        unseen: encoders to judge with as well, with commas, such as mobilenet_v2, or audio:mobilenet_v2 in the place of that of sound.
        full: judge all of the training data as well, so that each encoder has the percent of them that the set keeps.
        seeds: how many students.
        name: of the row in the table; by default the set's.
        out: a scores.json to write.
    """

    words = "small"
    resumes = "features are kept; the same command encodes nothing twice"

    small: Part | None = part("source")
    on: Part | None = part("source", split="test")
    protocol: Part = part("protocol", "retrieval", without=("student",))
    student: str = "frozen"
    unseen: tuple[Part, ...] = part("encoder", ())
    full: bool = False
    seeds: int = 3
    name: str | None = None
    out: Path | None = None

    def execute(self, tick: ProgressCallback) -> Answer:
        """Judges the set."""
        from limbeck.evaluation import evaluate, table, write_scores

        small = open_source(self.small, tick)
        on = self._on(small, tick)
        report_skipped(on)
        if unjudged := sorted(set(small.modalities) - set(on.modalities)):
            note(f"{' and '.join(unjudged)} of {small.name} is not judged: {on.name} has none")
        if self.protocol.spec == "retrieval":
            report_captions(small)
            report_ceiling(on.split("test") if "test" in on.splits else on)
        space = self._space(small)
        options = {**self.protocol.options, "student": self.student, "unseen": encoder_specs(self.unseen)}
        scores = []
        for data, name in [(small, self.name), *((whole, "full data") for whole in self._whole(small, on))]:
            scores += evaluate(
                data, on, self.protocol.spec, space, self.seeds, name, device=self.device, tick=tick, **options
            )
        if self.out is not None:
            write_scores(self.out, scores)
        return Answer(table(scores), scored(scores))

    def _whole(self, small: "Source", on: "Source") -> "list[Source]":
        """The training data, where they are to be judged and are not what is judged anyway."""
        if not self.full:
            return []
        if "train" not in on.splits:
            raise ConfigError(
                f"--full: {on.name} has no split 'train' (its splits: {', '.join(on.splits) or 'none'}); leave it out, or judge the "
                "whole data by their name"
            )
        train = on.split("train")
        return [] if train.fingerprint == small.fingerprint else [train]

    def _on(self, small: "Source", tick: ProgressCallback) -> "Source":
        if self.on is not None:
            if self.on.options.get("split", "test") != "test":
                raise ConfigError("students are tested on the test split; leave --on.split out")
            return open_source(self.on, tick, split="test")
        if small.recipe is None:
            return small
        return made_from(small, "name the data to test on with --on SOURCE", tick, split="test")

    def _space(self, small: "Source") -> "Space | None":
        from limbeck.spaces.build import space

        named = {m for m in ENCODERS if f"space.{m}" in self.named}  # also where it is named none
        made = small.recipe.space if small.recipe is not None else {}
        ready = ready_parts(self.ready) if self.ready else {}
        if small.recipe is not None:
            used = {m: encoder for m, encoder in made.items() if m not in named | ready.keys()}
            report_opened(small, "encoder", used, "name the encoders yourself: --space.MODALITY NAME")
            if not named and not self.ready:
                return space(**made) if made else None
        by_default = {m: recorded(made.get(m, {"name": name})) for m, name in ENCODERS.items()}
        return space_of(by_default | ready | {m: getattr(self, m) for m in named}, small)
