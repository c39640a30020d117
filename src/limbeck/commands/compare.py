"""`limbeck compare`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from limbeck.commands._open import (
    Encoded,
    encoder_specs,
    open_source,
    report_captions,
    report_ceiling,
    report_skipped,
    scored,
)
from limbeck.commands._options import Answer, Part, part
from limbeck.commands._pixels import Pixelled
from limbeck.commands._stored import Stored
from limbeck.commands._vary import varied
from limbeck.runtime.progress import ProgressCallback

__all__ = ["Compare"]

PAIRS = (50, 100)


@dataclass(frozen=True, kw_only=True)
class Compare(Pixelled, Stored, Encoded):
    """Distils and judges every method at every budget beside the full data: a paper's table in one command.

    A method's options are below its name: --methods random,cf --cf.steps 500. An ablation is a row for each value:
    --vary cf.steps=100,500 or, for every method that has the option, --vary method.steps=100,500; several times for
    every combination.

    Args:
        source: the data, such as demo or karpathy:data/flickr8k.
        methods: which methods, with commas.
        vary: METHOD.OPTION=VALUE,VALUE makes a row for each value.
        pairs: which budgets, with commas; by default 50,100 where no bytes are given.
        bytes: budgets as bytes of files, with commas, such as 400kB,1.2MB; each row has as many samples as they hold.
        seeds: how many seeds; each makes its own sets and its own students.
        students: which students, with commas: frozen, encoder, or networks that are trained, such as convnet:32.
        unseen: encoders that the sets are judged with as well, with commas, such as mobilenet_v2, or audio:mobilenet_v2 in the place
            of that of sound; none may have taken part in making them.
        protocol: how to judge.
        on: the data to test on; by default the test split of the same data.
        out: the folder that runs, scores, table and plot go to.
    """

    words = "source"
    resumes = "the same command does what is missing"

    source: Part | None = part("source")
    methods: tuple[Part, ...] = part("method", ("random", "herding", "cf"))
    vary: Mapping[str, str] = field(default_factory=dict)
    pairs: tuple[int, ...] = ()
    bytes: tuple[str, ...] = ()
    seeds: int = 3
    students: tuple[str, ...] = ("frozen",)
    unseen: tuple[Part, ...] = part("encoder", ())
    protocol: Part = part("protocol", "retrieval", without=("student",))
    on: Part | None = part("source", split="test")
    out: Path

    def execute(self, tick: ProgressCallback) -> Answer:
        """Runs the grid."""
        from limbeck.evaluation import compare

        storage, pixels = self.storage(), self.learned_as()
        methods = [method.make() for method in varied(self.methods, self.vary)]
        train = open_source(self.source, tick)
        report_skipped(train, self.out)
        space = self.space(train)
        if "text" in space:
            report_captions(train)
        on = open_source(self.on, tick, split="test") if self.on else None
        test = train if on is None else on
        if self.protocol.spec == "retrieval":
            report_ceiling(test.split("test") if "test" in test.splits else test)
        found = compare(
            train,
            methods,
            self.pairs or (() if self.bytes else PAIRS),
            self.seeds,
            self.students,
            space=space,
            run=self.out,
            on=on,
            protocol=self.protocol.spec,
            device=self.device,
            tick=tick,
            storage=storage,
            pixels=pixels,
            bytes=self.bytes,
            unseen=encoder_specs(self.unseen),
            **self.protocol.options,
        )
        text = f"{found}\n\nwritten: {self.out}/table.md, table.csv, scores.json, score_vs_bytes.svg"
        return Answer(text, scored(found.scores))
