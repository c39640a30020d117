"""`limbeck demo`."""

import time
from dataclasses import dataclass
from pathlib import Path

from limbeck.commands._open import scored
from limbeck.commands._options import Answer, Command
from limbeck.errors import MissingDependency
from limbeck.runtime.progress import ProgressCallback
from limbeck.terminal import note

__all__ = ["Demo"]

UNSEEN = ("mobilenet_v2", "efficientnet_lite2")  # the first that is installed judges as well
STEPS = 200  # of students, at most: half of what they have elsewhere costs a point or two, and saves minutes


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """The main job on real data that come with the demo extra: a table, and a page to look at.

    Emoji of two open designs with their names as captions, EfficientNet-Lite0 and MiniLM as encoders; two coresets, real emoji with
    learned captions (label_distillation), as many real emoji as their bytes hold and the full data, each judged by students on emoji that
    none of them was made from: with the encoder that they were made with, and with one that took no part in it, MobileNetV2 or else EfficientNet-Lite2, where its
    weights are installed. Students have 200 steps, half of those that `compare`
    begins with, and never more.

    Args:
        out: the folder for scores.json, report.html and everything in between.
        pairs: how many pairs the small sets hold.
        seeds: how many times everything is repeated.
        steps: of the distillation.
    """

    resumes = "the same command does what is missing"

    out: Path = Path("limbeck-demo")
    pairs: int = 100
    seeds: int = 3
    steps: int = 150

    def execute(self, tick: ProgressCallback) -> Answer:
        """Compares random, herding, label_distillation, the better of the two coresets at its bytes, and the full data."""
        from limbeck import registry
        from limbeck.core import DistilledSet, Recipe, Storage
        from limbeck.engine import Run
        from limbeck.evaluation import compare
        from limbeck.report import page
        from limbeck.report.show import refuse_foreign
        from limbeck.sources import source
        from limbeck.spaces.build import space

        start, page_path = time.perf_counter(), self.out / "report.html"
        refuse_foreign(page_path)
        method = registry.get("method", "label_distillation")(steps=self.steps)
        train = source("demo", tick=tick)
        encoders = space(image="efficientnet_lite0", text="minilm")
        methods = ["random", "herding", method]
        found = compare(
            train,
            methods,
            [self.pairs],
            self.seeds,
            space=encoders,
            run=self.out,
            tick=tick,
            storage=Storage(vectors="int8"),
            unseen=_unseen(),
            steps=STEPS,
            longest=STEPS,
        )
        large = set(found.as_large.values())  # too many real images for a page
        first: list[DistilledSet] = [sets[0] for row, sets in found.sets.items() if row not in large]
        runs = [run for (name, _), folders in found.runs.items() if name not in found.one_shot for run in folders]
        history = {run.name: Run(run, Recipe.read(run / "recipe.yaml")).history() for run in runs}
        report = page(
            page_path,
            sets=first[::-1],
            scores=found.scores,
            history=history,
            source=train,
            title="Limbeck demo",
        )
        seconds = time.perf_counter() - start
        text = f"{found}\n\n{seconds:.0f} s\nscores: {self.out / 'scores.json'}\npage:   {report.resolve()}"
        return Answer(text, {**scored(found.scores), "page": str(report), "seconds": seconds})


def _unseen() -> list[str]:
    """The encoder that no set of the demo is made with; says how to install one where there is none."""
    from limbeck import registry

    missing: list[MissingDependency] = []
    for name in UNSEEN:
        try:
            registry.get("encoder", name)
        except MissingDependency as error:
            missing.append(error)
        else:
            return [name]
    note(f"judged at home alone, without an unseen encoder: {missing[0]}")
    return []
