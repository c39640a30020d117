"""Damages every kind of file that Limbeck keeps, fills disks, plants files of others, and counts what the commands make of it.

python benchmarks/storage_faults.py [--flips 8] [--seed 0] [--only cache,run,set,space,comparison,disks]

A case is one damage to one file of a sound folder, then the same command twice, in this process. Wrong bits: exit 0, another result
than that of the sound folder, and not a word. Traceback: exit code 1, or an exception. Prints the section Storage of faults.md.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from limbeck.cli import main

TINY = ["--source.resolution", "16", "--space.image", "convnet", "--space.text", "bag_of_words"]
JUDGED = ["--seeds", "1", "--protocol.steps", "2"]
Words = Callable[[Path, Path], list[str]]  # from the folder that is damaged and a place for the result to a command


def run(words: list[str]) -> tuple[int, str]:
    """Exit code and what was said; -1 for an exception."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = main(words)
        except BaseException:  # noqa: BLE001  what comes out is counted
            code = -1
            traceback.print_exc(file=said)
    return code, said.getvalue()


def make_data(folder: Path) -> str:
    """Thirty-two small pictures with captions, labels and splits."""
    folder.mkdir()
    rows = []
    for i in range(32):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(
            folder / f"{i}.png"
        )
        split = ("train", "train", "val", "test")[i % 4]
        rows.append({"file_name": f"{i}.png", "caption": f"thing number {i}", "label": "ab"[i % 3 % 2], "split": split})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"folder:{folder}"


@dataclass(frozen=True)
class Kind:
    """A kind of folder that is kept.

    Args:
        name: for the table.
        sound: an undamaged folder.
        files: patterns of the files that are damaged.
        words: the command that reads it.
        prepare: brings a copy into the state in which its files are read.
    """

    name: str
    sound: Path
    files: tuple[str, ...]
    words: Words
    prepare: Callable[[Path, str], None] = lambda folder, file: None


def damages(
    path: Path, other: bytes, flips: int, draws: np.random.Generator
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Names of damages, and what does each to the file."""
    data = path.read_bytes()
    yield "truncated", lambda: path.write_bytes(data[: len(data) // 2])
    yield "a byte short", lambda: path.write_bytes(data[:-1])
    yield "empty", lambda: path.write_bytes(b"")
    yield "zeros", lambda: path.write_bytes(bytes(len(data)))
    yield "missing", path.unlink
    yield "a folder", lambda: (path.unlink(), path.mkdir())
    if other != data:
        yield "another of its kind", lambda: path.write_bytes(other)
    yield "JSON of another shape", lambda: path.write_text('[{"files": 1}]')
    yield "foreign", lambda: path.write_bytes(b"%PDF-1.4\n" + draws.bytes(200))
    for _ in range(flips):
        at, bit = int(draws.integers(len(data))), int(draws.integers(8))
        yield (
            "a bit",
            lambda at=at, bit=bit: path.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]),
        )  # type: ignore[misc]


def result(code: int, said: str, out: Path) -> str:
    """What a command has made, without what tells seconds."""
    if code:
        return f"exit {code}"
    if out.is_file() and out.suffix == ".json":
        return repr([(row["metric"], row["values"]) for row in json.loads(out.read_text())["rows"]])
    files = (
        [out]
        if out.is_file()
        else sorted(out.glob("set/**/*.safetensors")) + sorted(out.glob("set/data/*")) + sorted(out.glob("scores.json"))
    )
    return " ".join(
        result(0, "", f) if f.suffix == ".json" else hashlib.sha256(f.read_bytes()).hexdigest() for f in files
    )


def judge(kind: Kind, work: Path, flips: int, draws: np.random.Generator) -> tuple[Counter[str], list[str]]:
    """The outcomes of all cases of one kind, and the worst of them in words."""
    counts: Counter[str] = Counter()
    worst: list[str] = []
    for pattern in kind.files:
        matches = sorted(p.relative_to(kind.sound) for p in kind.sound.glob(pattern))
        name, other = matches[-1], (kind.sound / matches[0]).read_bytes()
        probe = work / "probe"
        shutil.copytree(kind.sound / name.parent, probe)
        number = len(list(damages(probe / name.name, other, flips, np.random.default_rng(0))))
        shutil.rmtree(probe)
        for i in range(number):
            folder, out = work / "folder", work / "out.safetensors"
            shutil.copytree(kind.sound, folder, symlinks=True)
            kind.prepare(folder, pattern)
            what, damage = list(damages(folder / name, other, flips, draws))[i]
            damage()
            ends = []
            for _ in range(2):
                words = kind.words(folder, out)
                place = folder if kind.name in ("run", "comparison") else Path(words[-1])
                ends.append((*run(words), place))
            expected = EXPECTED[kind.name]
            (code, said, place), (again, later, _) = ends
            found = [result(code, said, place), result(again, later, place)]
            silent = not any(word in said for word in ("note:", "error:"))
            if code in (1, -1) or again in (1, -1) or "fault of Limbeck" in said + later:
                counts["tracebacks"] += 1
                worst.append(f"traceback: {kind.name}, {name}, {what}: {said.strip().splitlines()[-1][:150]}")
            elif code == 0 and found[0] != expected:
                counts["wrong bits" if silent else "other bits, told"] += 1
                worst.append(f"other bits: {kind.name}, {name}, {what}: {said.strip()[-150:]}")
            elif code:
                counts["refused"] += 1
            else:
                counts["same bits" if silent else "mended, told"] += 1
            if code == 0 and found[1] != expected:
                counts["wrong the second time"] += 1
            counts["cases"] += 1
            shutil.rmtree(folder)
            for path in work.glob("out*"):
                path.unlink()
    return counts, worst


EXPECTED: dict[str, str] = {}


def kinds(base: Path) -> list[Kind]:
    """Sound folders of every kind."""
    data, cache = make_data(base / "data"), base / "cache"
    os.environ["LIMBECK_CACHE"] = str(cache)
    embed = ["embed", data, *TINY, "--out"]
    distill = [
        "distill",
        data,
        *TINY,
        "--method",
        "cf",
        "--method.steps",
        "6",
        "--save_every",
        "2",
        "--pairs",
        "6",
        "--run",
    ]
    compare = ["compare", data, *TINY, "--methods", "random", "--pairs", "4", *JUDGED, "--out"]
    for words in (
        [*embed, str(base / "x.safetensors")],
        [*distill, str(base / "run")],
        [
            "bind",
            data,
            *TINY,
            "--dim",
            "8",
            "--hidden",
            "8",
            "--steps",
            "4",
            "--batch",
            "4",
            "--out",
            str(base / "space"),
        ],
        [*compare, str(base / "comparison")],
    ):
        code, said = run(words)
        assert code == 0, said

    def use(folder: Path, file: str) -> None:
        os.environ["LIMBECK_CACHE"] = str(folder)
        if "features" not in file:
            shutil.rmtree(folder / "limbeck-2" / "features")

    def unset(folder: Path, file: str) -> None:
        os.environ["LIMBECK_CACHE"] = str(cache)
        shutil.rmtree(folder / "set")

    def untabled(folder: Path, file: str) -> None:
        (folder / "scores.json").unlink()
        for name in ("table.md", "table.csv", "score_vs_bytes.svg", "score_vs_bytes.png"):
            (folder / name).unlink()

    entries = [
        f"limbeck-2/{kind}/*/*/{file}"
        for kind, file in (("opened", "index.json"), ("pixels", "pixels.bin"), ("features", "tensors.safetensors"))
    ]
    entries += [f"limbeck-2/{kind}/*/*/entry.json" for kind in ("opened", "pixels", "features")]
    run_files = ("checkpoint/*/*.safetensors", "checkpoint/*/*.json", "recipe.yaml", "log.jsonl", "environment.json")
    judged = lambda folder, out: ["evaluate", str(folder), *JUDGED, "--out", str(out.with_suffix(".json"))]
    bound = lambda folder, out: [
        "embed",
        data,
        "--source.resolution",
        "16",
        "--space",
        f"bound:{folder}",
        "--out",
        str(out),
    ]
    return [
        Kind("cache", cache, tuple(entries), lambda folder, out: [*embed, str(out)], use),
        Kind("run", base / "run", run_files, lambda folder, out: [*distill, str(folder)], unset),
        Kind("set", base / "run" / "set", ("tensors.safetensors", "manifest.json", "README.md", "data/*"), judged),
        Kind("space", base / "space", ("tensors.safetensors", "space.json"), bound),
        Kind("comparison", base / "comparison", ("scores/*.json", "scores/*.sha256", "runs/*/set/manifest.json"), lambda folder, out: [*compare, str(folder)], untabled),
    ]  # fmt: skip


@contextlib.contextmanager
def small_disk(size: int) -> Iterator[None]:
    """No file of this process may be longer than so many bytes: writing more fails, as on a full disk."""
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def full_disks(base: Path, data: str) -> Iterator[tuple[str, Counter[str]]]:
    """Every command that writes, on disks of several sizes, and again with space."""
    os.environ["LIMBECK_CACHE"] = str(base / "cache")
    commands: dict[str, list[str]] = {
        "distill": [
            "distill",
            data,
            *TINY,
            "--method",
            "cf",
            "--method.steps",
            "4",
            "--save_every",
            "2",
            "--pairs",
            "4",
            "--run",
        ],
        "embed": ["embed", data, *TINY, "--out"],
        "bind": ["bind", data, *TINY, "--dim", "8", "--hidden", "8", "--steps", "4", "--batch", "4", "--out"],
        "evaluate": ["evaluate", str(base / "run"), *JUDGED, "--out"],
        "audit": ["audit", str(base / "run"), "--seeds", "0", "--out"],
        "show": ["show", str(base / "run"), "--out"],
        "annotate": ["annotate", data, "--source.resolution", "16", "--captions", "template", "--out"],
        "compare": ["compare", data, *TINY, "--methods", "random", "--pairs", "4", *JUDGED, "--out"],
        **{f"export {to}": ["export", str(base / "run"), "--to", to, "--out"] for to in ("hf", "webdataset", "folder")},
        "embed, cache": ["embed", data, *TINY],
    }
    for name, words in commands.items():
        counts: Counter[str] = Counter()
        for size in (0, 100, 1000, 4000, 10_000, 30_000, 100_000):
            folder = base / "disk"
            folder.mkdir()
            line = [*words, str(folder / "out")] if words[-1].startswith("--") else words
            os.environ["LIMBECK_CACHE"] = str(folder if line is words else base / "cache")
            with small_disk(size):
                code, said = run(line)
            counts[f"exit {code}"] += 1
            counts["tracebacks"] += code in (1, -1) or "fault of Limbeck" in said
            counts["left in the way"] += bool(
                code and any(p.name.startswith(".limbeck-work") for p in folder.rglob("*"))
            )
            if code:
                again, _ = run(line)
                counts["failed with space"] += again != 0
            shutil.rmtree(folder)
        yield name, counts


def report(flips: int, seed: int, only: str) -> None:
    """Runs everything, or the kinds whose names are in `only`, and prints the section."""
    with tempfile.TemporaryDirectory() as folder:
        base, draws = Path(folder), np.random.default_rng(seed)
        made = kinds(base)
        columns = (
            "cases",
            "same bits",
            "mended, told",
            "refused",
            "other bits, told",
            "wrong bits",
            "wrong the second time",
            "tracebacks",
        )
        print("| what is damaged | " + " | ".join(columns) + " |\n|---|" + "--:|" * len(columns))
        worst, total = [], Counter[str]()
        for kind in (kind for kind in made if not only or kind.name in only):
            work = base / "work"
            work.mkdir(exist_ok=True)
            copy, out = work / "sound", work / "out.safetensors"
            shutil.copytree(kind.sound, copy)
            kind.prepare(copy, kind.files[0])
            words = kind.words(copy, out)
            code, said = run(words)
            EXPECTED[kind.name] = result(code, said, copy if kind.name in ("run", "comparison") else Path(words[-1]))
            assert code == 0, said
            shutil.rmtree(work)
            work.mkdir()
            counts, told = judge(kind, work, flips, draws)
            worst, total = worst + told, total + counts
            print(f"| {kind.name} | " + " | ".join(str(counts[c]) for c in columns) + " |", flush=True)
        print("| all | " + " | ".join(str(total[c]) for c in columns) + " |\n")
        print(
            "| command on a full disk (7 sizes) | exit codes | tracebacks | left in the way | fails again with space |\n|---|---|--:|--:|--:|"
        )
        for name, counts in () if only and "disks" not in only else full_disks(base, f"folder:{base / 'data'}"):
            codes = ", ".join(f"{counts[c]} x {c.split()[1]}" for c in sorted(counts) if c.startswith("exit"))
            print(
                f"| {name} | {codes} | "
                + " | ".join(str(counts[c]) for c in ("tracebacks", "left in the way", "failed with space"))
                + " |",
                flush=True,
            )
        print(*[f"\n{line}" for line in worst[:40]])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--flips", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    report(asked.flips, asked.seed, asked.only)
