"""`limbeck bind`."""

import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.commands._open import Encoded, open_source, report_skipped
from limbeck.commands._options import Answer, Part, part
from limbeck.errors import ConfigError
from limbeck.runtime.progress import ProgressCallback
from limbeck.spaces.binder import Binding
from limbeck.terminal import note

if TYPE_CHECKING:
    from limbeck.data import Source

__all__ = ["Bind"]


@dataclass(frozen=True, kw_only=True)
class Bind(Encoded, Binding):
    """Trains heads over frozen encoders, so that modalities share one space; reports it on the validation split.

    Every command then takes the folder as encoders: --space bound:FOLDER.

    Args:
        source: the data, such as demo or karpathy:data/flickr8k.
        out: the folder of the space.
    """

    words = "source"
    resumes = "features are kept; the same command trains the heads anew"

    source: Part | None = part("source")
    out: Path
    weights: Mapping[str, str] = field(default_factory=dict)  # type: ignore[assignment]  # as words; typed by `binding`

    def __post_init__(self) -> None:
        super().__post_init__()
        self.binding()

    def binding(self) -> Binding:
        """The options of the training."""
        given = {f.name: getattr(self, f.name) for f in fields(Binding)}
        try:
            given["weights"] = {modality: float(weight) for modality, weight in self.weights.items()}
        except ValueError as error:
            raise ConfigError(f"--weights takes MODALITY=NUMBER, got {dict(self.weights)}") from error
        return Binding(**given)

    def execute(self, tick: ProgressCallback) -> Answer:
        """Trains, keeps and reports."""
        from limbeck.evaluation.alignment import alignment
        from limbeck.spaces.binder import bind
        from limbeck.spaces.heads import read_manifest

        start = time.perf_counter()
        train = open_source(self.source, tick)
        report_skipped(train)
        encoders = self.space(train)
        space = bind(train, encoders, self.out, self.binding(), device=self.device, tick=tick)
        seconds, held = time.perf_counter() - start, _held_out(train)
        found = alignment(held or train, space, train if held else None, device=self.device, tick=tick)
        manifest = read_manifest(self.out)
        on = "the validation split" if held else "the data it was trained on, as there is no validation split"
        lines = [f"measured on {on}: {found.samples} samples", found.text(), f"{seconds:.1f} s", f"space: {self.out}"]
        for key, words in (("one_modality", "one modality"), ("no_modality", "no modality")):
            if count := manifest["samples"][key]:
                note(f"{count} samples of {train.name} have {words}")
        lines += [f"next:  give --space {shlex.quote(f'bound:{self.out}')} to another command"]
        data = {"space": str(self.out), "fingerprint": space.fingerprint, "licences": space.licences}
        return Answer(
            "\n".join(lines),
            {
                **data,
                "samples": manifest["samples"],
                "report": {"split": "val" if held else None, **found.data()},
                "seconds": seconds,
            },
        )


def _held_out(train: "Source") -> "Source | None":
    return train.split("val") if "val" in train.splits else None
