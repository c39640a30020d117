"""`limbeck annotate`."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.commands._open import Device, open_source, report_skipped
from limbeck.commands._options import Answer, Command, Part, part
from limbeck.runtime.progress import ProgressCallback
from limbeck.terminal import note

if TYPE_CHECKING:
    from limbeck.data import Source

__all__ = ["Annotate"]


@dataclass(frozen=True, kw_only=True)
class Annotate(Command):
    """Makes the captions and masks that data lack, and writes them beside the data as a table that manifest: opens.

    Those that the data have are kept. Every split is annotated, unless --source.split names one.

    Args:
        source: the data, such as folder:data/pets.
        captions: what captions samples without a caption, such as template or hf:Salesforce/blip-image-captioning-base.
        masks: what finds the objects of samples without a mask, such as grabcut or hf:facebook/mask2former-swin-tiny-coco-instance.
        out: the folder to write; by default beside the data, DATA_annotated.
        device: where models run: cpu, cuda, cuda:1, mps.
    """

    words = "source"
    resumes = "give the same command again, it continues after the last batch"

    source: Part | None = part("source")
    captions: Part | None = part("captioner")
    masks: Part | None = part("segmenter")
    out: Path | None = None
    device: Device = "cpu"

    def execute(self, tick: ProgressCallback) -> Answer:
        """Writes the folder."""
        from limbeck.annotation import annotate
        from limbeck.annotation.annotate import TABLE

        captions, masks = (None if asked is None else asked.make() for asked in (self.captions, self.masks))
        source = open_source(self.source, tick)
        report_skipped(source)
        named = self.source.options.get("split") if self.source else None
        folder = self.out or _beside(source.name)
        found = annotate(
            source, folder, captions, masks, splits=[named] if named else None, device=self.device, tick=tick
        )
        if found["splits"] == ["train"]:
            note("a table of train alone is split anew, 80/10/10, where it is opened")
        here = ["--source.split", str(named)] if named not in (None, "train") else []
        opens = [f"manifest:{folder / TABLE}", *here, *_options(source)]
        lines = [
            f"{source.name}: {found['samples']} samples of {', '.join(found['splits'])}",
            *_said(found, "captions", "no caption"),
            *_said(found, "masks", "found nothing"),
            f"written: {folder / TABLE}",
            f"next:  limbeck distill {shlex.join(opens)} --pairs 100",
        ]
        return Answer("\n".join(lines), {**found, "table": str(folder / TABLE), "opens": opens})


def _beside(name: str) -> Path:
    """`data/pets_annotated` of `folder:data/pets`; in the current folder where the data lie nowhere."""
    layout, _, place = name.partition(":")
    path = Path(place).expanduser()
    if not place or not path.exists():
        return Path(f"{layout}_annotated")
    return path.resolve().with_name(f"{path.resolve().stem if path.is_file() else path.resolve().name}_annotated")


def _options(source: "Source") -> list[str]:
    """What `manifest` must be told to read the other modalities as this source does."""
    from limbeck.annotation.files import VECTOR
    from limbeck.data.form import DepthForm, ImageForm, SoundForm
    from limbeck.sources.manifest import Manifest

    options: dict[str, Any] = {"caption_vectors": VECTOR} if "text" in source.embeddings else {}
    options["max_pixels"] = source.describe()["max_pixels"]
    for form in source.forms:
        if isinstance(form, ImageForm):
            options["resolution"] = form.resolution
        elif isinstance(form, SoundForm):
            options |= {"audio_rate": form.rate, "audio_seconds": form.seconds, "mels": form.mels}
        elif isinstance(form, DepthForm):
            options |= {"depth_unit": form.unit, "depth_far": form.far}
    usual = {f.name: f.default for f in fields(Manifest)}
    return [
        word for name, value in options.items() if value != usual[name] for word in (f"--source.{name}", str(value))
    ]


def _said(found: Mapping[str, Any], name: str, lacking: str) -> list[str]:
    held = found[name]
    if held is None:
        return []
    lines = [f"{name}: {held['made']} made by {held['by']['name']}, {held['kept']} kept, {held['missing']} {lacking}"]
    if name == "masks" and held["missing"]:
        lines[0] += " (object everywhere)"
    if held["made"]:
        licence = f"; licence of the weights: {held['licence']}" if held["licence"] else ""
        lines.append(f"  {held['what']}{licence}")
    if without := held.get("classes_without_caption"):
        lines.append(f"  classes without a caption: {', '.join(without)}")
    return lines
