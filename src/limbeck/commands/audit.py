"""`limbeck audit`."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.commands._open import (
    ENCODERS,
    OfSet,
    made_from,
    open_set,
    open_source,
    ready_parts,
    recorded,
    report_opened,
    report_skipped,
    space_of,
)
from limbeck.commands._options import Answer, Part, part
from limbeck.runtime.progress import ProgressCallback

if TYPE_CHECKING:
    from limbeck.core import DistilledSet
    from limbeck.data import Source
    from limbeck.spaces import Space

__all__ = ["Audit"]


@dataclass(frozen=True, kw_only=True)
class Audit(OfSet):
    """Tells what a set gives away of the data it was made from: nearest real samples, membership, diversity.

    Args:
        small: the folder of a set or of a run.
        against: the data to compare with; by default those that the set was distilled from.
        student: whose confidence is attacked: frozen for heads on the frozen encoders, or a network; limbeck list networks
            names them.
        seeds: students of each kind; 0 leaves membership inference out.
        shadows: shadow students of the likelihood-ratio attack, an even number; papers take 64 to 256, 0 leaves it out.
        out: a page to write, with every sample beside the real one nearest to it and the one it started from.
    """

    words = "small"
    resumes = "features are kept; the same command encodes nothing twice"

    small: Path
    against: Part | None = part("source")
    student: str = "frozen"
    seeds: int = 3
    shadows: int = 16
    out: Path | None = None

    def execute(self, tick: ProgressCallback) -> Answer:
        """Compares, attacks and measures."""
        from limbeck.evaluation.audit import audit

        start, small = time.perf_counter(), open_set(self.small)
        source = self._source(small, tick)
        report_skipped(source)
        found = audit(
            small,
            source,
            self._space(small),
            student=self.student,
            seeds=self.seeds,
            shadows=self.shadows,
            device=self.device,
            tick=tick,
        )
        data = {**found.data(), "seconds": time.perf_counter() - start}
        if self.out is None:
            return Answer(found.text(), data)
        from limbeck.report.audit import audit_page

        page = audit_page(self.out, found, small, source)
        return Answer(f"{found.text()}\n\npage: {page.resolve()}", {**data, "page": str(page)})

    def _source(self, small: "DistilledSet", tick: ProgressCallback) -> "Source":
        if self.against is not None:
            return open_source(self.against, tick)
        return made_from(small, "name the data to compare with: --against SOURCE", tick)

    def _space(self, small: "DistilledSet") -> "Space | None":
        """The encoders that are named, above those of the set; those of the set where none is."""
        named = {m for m in ENCODERS if f"space.{m}" in self.named}  # also where it is named none
        made, ready = small.recipe.space, ready_parts(self.ready) if self.ready else {}
        used = {m: encoder for m, encoder in made.items() if m not in named | ready.keys()}
        report_opened(small, "encoder", used, "name the encoders yourself: --space.MODALITY NAME")
        if not named and not self.ready and made:
            return None
        chosen: dict[str, Part | None] = {
            m: recorded({"name": e} if isinstance(e, str) else e) for m, e in (made or ENCODERS).items()
        }
        return space_of(chosen | ready | {m: getattr(self, m) for m in named}, small)
