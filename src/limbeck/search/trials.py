"""What a search tried: one row a trial, kept in the run folder as JSON and as a table, so that nothing is tried twice."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from limbeck.core.recipe import differences
from limbeck.data.plain import COUNT, NONE, NUMBER, PLAIN, TEXT, dump_json, read_sealed, seal
from limbeck.errors import ConfigError
from limbeck.runtime.files import write_text
from limbeck.terminal import columns, visible

__all__ = ["FILE", "TEXT_FILE", "Ledger", "Trial", "table_of"]

FILE, TEXT_FILE = "auto.json", "auto.txt"
SCHEMA = 1
ROW = {
    "stage": TEXT,
    "label": TEXT,
    "candidate": {"*": PLAIN},
    "samples": COUNT,
    "bytes": COUNT,
    "scores": {"*": NUMBER},
    "seconds": NUMBER,
    "failed": TEXT,
}
SHAPE = {"schema": COUNT, "limbeck": TEXT, "question": {"*": PLAIN}, "trials": [ROW], "winner": ({"*": PLAIN}, NONE)}
REMEDY = "delete it to search anew"


@dataclass(frozen=True)
class Trial:
    """One candidate, made and judged.

    Args:
        stage: of the search; scores of one stage can be compared.
        label: the candidate, readable.
        candidate: method and storage.
        samples: in its set.
        bytes: of the files of its set.
        scores: judge to score on the validation split, in percent.
        seconds: that it took.
        failed: why it has no score; empty where it has one.
    """

    stage: str
    label: str
    candidate: Mapping[str, Any]
    samples: int
    bytes: int
    scores: Mapping[str, float]
    seconds: float
    failed: str = ""

    @property
    def value(self) -> float:
        """What candidates are chosen by: the mean of its scores; lower than any where it has none."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else -1.0


@dataclass
class Ledger:
    """The trials of a search, written after each of them.

    Args:
        folder: of the run; `None` to keep nothing.
        question: what is searched for, as JSON types: a folder holds the answer to one.
        trials: those that are done.
        winner: the candidate that was chosen; `None` before the search ended.
    """

    folder: Path | None
    question: Mapping[str, Any]
    trials: list[Trial] = field(default_factory=list)
    winner: Mapping[str, Any] | None = None

    @classmethod
    def open(cls, folder: Path | None, question: Mapping[str, Any]) -> "Ledger":
        """That of the folder, or a new one.

        Raises:
            ConfigError: the folder holds another search.
            StorageError: its file is damaged.
        """
        path = None if folder is None else folder / FILE
        if path is None or not path.is_file():
            return cls(folder, question)
        content = read_sealed(path, SHAPE, "the trials of a search", SCHEMA, REMEDY)
        if changed := differences(content["question"], dict(question)):
            raise ConfigError(
                f"the run folder {folder} belongs to another search: {'; '.join(changed[:5])}; choose another folder, or delete this "
                "one to start anew"
            )
        return cls(folder, question, [Trial(**row) for row in content["trials"]], content["winner"])

    @property
    def seconds(self) -> float:
        """Of all trials."""
        return sum(trial.seconds for trial in self.trials)

    def found(self, stage: str, candidate: Mapping[str, Any]) -> Trial | None:
        """The trial of a candidate, where it was done."""
        return next((t for t in self.trials if (t.stage, t.candidate) == (stage, candidate)), None)

    def add(self, trial: Trial) -> None:
        """Keeps one more."""
        self.trials.append(trial)
        self.write()

    def close(self, winner: Mapping[str, Any]) -> None:
        """Keeps what was chosen."""
        self.winner = winner
        self.write()

    def write(self) -> None:
        """Writes both files.

        Raises:
            StorageError: they cannot be written.
        """
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {
            "schema": SCHEMA,
            "limbeck": "auto",
            "question": dict(self.question),
            "trials": [asdict(trial) for trial in self.trials],
            "winner": None if self.winner is None else dict(self.winner),
        }
        write_text(self.folder / FILE, dump_json(seal(content)))
        write_text(self.folder / TEXT_FILE, table_of(self.trials) + "\n")


def table_of(trials: Sequence[Trial]) -> str:
    """The trials as a table, for a person.

    Args:
        trials: in the order in which they were done.

    Example:
        >>> print(table_of([Trial("storage", "random, png", {}, 4, 9000, {"home convnet": 31.25}, 1.5)]))
        stage    candidate    samples  bytes  home convnet  seconds
        storage  random, png        4  9,000         31.25      1.5
    """
    judges = list(dict.fromkeys(name for trial in trials for name in trial.scores))
    lines = [["stage", "candidate", "samples", "bytes", *judges, "seconds"]]
    for t in trials:
        scores = [f"{t.scores[name]:.2f}" if name in t.scores else "failed" if t.failed else "-" for name in judges]
        lines.append([t.stage, visible(t.label), str(t.samples), f"{t.bytes:,}", *scores, f"{t.seconds:.1f}"])
    return "\n".join(columns(lines, left=2))
