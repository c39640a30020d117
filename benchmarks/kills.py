"""Kills commands with SIGKILL, lets them go on, and compares every file with those of an uninterrupted run.

    OMP_NUM_THREADS=1 python benchmarks/kills.py --folder /tmp/kills --kills 1000 --seed 0

A trial gives one command again and again: each time it dies, at a random moment or before the n-th operation on a file, until it
has died as often as was drawn; then it may end. One parent imports everything once and forks each command, on toy data that it
makes itself. After each kill whatever is visible must be whole (JSON, safetensors, manifests with their checksums, every row of
a log but a torn last one); at the end every file must have the bits of the uninterrupted run, but for measured seconds and bytes
of memory, and nothing may be left over. It prints a line a command and a trial that differs, and the sums.
"""

import argparse
import hashlib
import importlib
import json
import math
import os
import random
import shutil
import signal
import struct
import sys
import time
import traceback
import wave
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "yellow": (220, 220, 30)}
SPLITS = ["train"] * 32 + ["val"] * 8 + ["test"] * 8
MEASURED = ("seconds", "peak_bytes")  # in scores: no two runs have the same
TIMED = ("seconds.json", "table.md", "table.csv")  # hold seconds
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
PATHS = {"os.rename": 1, "os.mkdir": 0, "os.remove": 0, "os.rmdir": 0, "os.chmod": 0, "os.link": 1, "shutil.rmtree": 0}
TINY = ["--space.image", "convnet", "--space.text", "bag_of_words"]
SLOWEST = 600  # seconds of a command before it counts as a hang


def make_data(root: Path) -> None:
    """Pictures of 24 pixels with captions and sounds of an eighth of a second, as a folder and as a table."""
    from PIL import Image

    rows = []
    for i, split in enumerate(SPLITS):
        colour = list(COLOURS)[i % 4]
        picture = Image.new("RGB", (24, 24), COLOURS[colour])
        picture.paste((i * 5 % 256, i * 91 % 256, i * 37 % 256), (i % 12, 0, i % 12 + 8, 12))
        for name in ("pets", "clips"):
            (root / name).mkdir(exist_ok=True)
            picture.save(root / name / f"{i:02d}.png")
        with wave.open(str(root / "clips" / f"{i:02d}.wav"), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(8000)
            tone = (int(9000 * math.sin(2 * math.pi * (200 + 20 * i) * t / 8000)) for t in range(1000))
            sound.writeframes(b"".join(struct.pack("<h", value) for value in tone))
        told = {"caption": f"a {colour} square number {i}", "split": split, "label": colour}
        rows.append({"image": f"{i:02d}.png", "audio": f"{i:02d}.wav", **told})
    (root / "clips" / "all.jsonl").write_text("\n".join(map(json.dumps, rows)))
    named = [{"file_name": row["image"], **{k: row[k] for k in ("caption", "split", "label")}} for row in rows]
    (root / "pets" / "metadata.jsonl").write_text("\n".join(map(json.dumps, named)))


def commands(root: Path) -> dict[str, list[str]]:
    """A name to the words of a command; its output goes into the current folder."""
    pets, small = f"folder:{root}/pets", ["--source.resolution", "16"]
    every = ["--pairs", "8", "--save_every", "3", "--run", "out"]

    def distill(method: str, *words: str) -> list[str]:
        return ["distill", pets, *small, *TINY, "--method", method, *words, *every]

    few = ["--method.steps", "12"]
    towers = [
        "--method.rank",
        "2",
        "--method.experts",
        "2",
        "--method.segments",
        "1",
        "--method.inner_steps",
        "2",
        "--method.expert_batch",
        "16",
    ]
    drawn = ["--method.prior", f"{root}/prior", "--method.sampling_steps", "3", "--method.captions", "2"]
    sounds = [
        "--source.audio_rate",
        "8000",
        "--source.audio_seconds",
        "0.125",
        "--source.mels",
        "16",
        "--space.audio",
        "convnet",
    ]
    train = ["train-prior", pets, *small, "--channels", "8,8", "--text_width", "8", "--vae_steps", "6", "--steps", "6"]
    return {
        "random": distill("random"),
        "cf": distill("cf", *few),
        "kip": distill("kip", *few),
        "label_distillation": distill("label_distillation", *few, "--storage.codec", "webp", "--storage.vectors", "int8"),
        "lors": distill("lors", *few, *towers),
        "imagebind_dc": ["distill", f"manifest:{root}/clips/all.jsonl", *small, *sounds, *TINY, "--method", "imagebind_dc", *few, *every],
        "dc": ["distill", pets, *small, "--space.image", "convnet", "--space.text", "none", "--method", "dc", "--method.steps", "4", *every],
        "prior": distill("prior", *drawn),
        "edge": distill("edge", *few, *drawn, "--method.batch", "4", "--method.save_prior", "true"),
        "train-prior": [*train, "--batch", "4", "--vae_batch", "4", "--save_every", "2", "--out", "out"],
        "embed": ["embed", pets, *small, *TINY, "--out", "out.safetensors"],
        "annotate": ["annotate", f"manifest:{root}/clips/all.jsonl", "--captions", "template", "--masks", "grabcut", "--out", "out"],
        "bind": ["bind", pets, *small, *TINY, "--dim", "16", "--hidden", "32", "--steps", "40", "--batch", "16", "--out", "out"],
        "evaluate": ["evaluate", f"{root}/run", "--allow", pets, "--seeds", "2", "--protocol.steps", "20", "--out", "out.json"],
        "compare": ["compare", pets, *small, *TINY, "--methods", "random,cf", "--cf.steps", "6", "--pairs", "6", "--seeds", "2",
                    "--protocol.steps", "20", "--out", "out"],
    }  # fmt: skip


def warm() -> None:
    """Imports what the commands import, so that a fork has it."""
    import torch

    torch.set_num_threads(1)
    from limbeck import registry

    folder = Path(importlib.import_module("limbeck.commands").__path__[0])
    for path in folder.glob("[!_]*.py"):
        importlib.import_module(f"limbeck.commands.{path.stem}")
    for kind in ("method", "source", "protocol", "captioner", "segmenter"):
        for name in registry.names(kind):
            registry.get(kind, name)
    for name in ("engine", "evaluation", "evaluation.plot", "annotation.annotate", "generation.training"):
        importlib.import_module(f"limbeck.{name}")


def start(words: list[str], root: Path, before: int | None) -> int:
    """Forks a command that works in `root`; it kills itself before operation number `before`. Returns the process."""
    from limbeck.cli import main

    if pid := os.fork():
        return pid
    code = 99
    try:
        os.setsid()
        output = os.open(root / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(root)
        os.environ["LIMBECK_CACHE"] = str(root / "cache")
        if before is not None:
            _count(root, before)
        code = main(words)
    except BaseException:  # noqa: BLE001 - it is printed, and counted as failed
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _count(root: Path, before: int) -> None:
    """Counts operations on files below `root`, kills before one of them; with 0 notes each in `operations.txt` instead."""
    done, notes = 0, os.open(root / "operations.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def hook(event: str, given: tuple[Any, ...]) -> None:
        nonlocal done
        writes = event == "open" and isinstance(given[2], int) and given[2] & WRITES
        if not (writes or event in PATHS):
            return
        path = given[PATHS.get(event, 0)]
        if not isinstance(path, str | bytes | os.PathLike) or not os.path.abspath(os.fsdecode(path)).startswith(
            str(root)
        ):
            return
        done += 1
        if not before:
            os.write(notes, f"{event} {os.fsdecode(path)}\n".encode())
        elif done == before:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def finish(pid: int, seconds: float | None = None) -> int:
    """Waits for a process, and kills it after so many seconds; returns its exit code."""
    begun = time.monotonic()
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        passed = time.monotonic() - begun
        if passed > SLOWEST or (seconds is not None and passed >= seconds):
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            return -9 if passed <= SLOWEST else -99
        time.sleep(0.002)


def files(root: Path) -> Iterator[tuple[str, Path]]:
    """What a trial made, by name, without what this program notes itself."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name not in ("said.txt", "operations.txt") and (path.is_file() or path.is_symlink()):
            yield name, path


def contents(root: Path) -> dict[str, str]:
    """A digest of every file, but for what is measured anew in each run; hidden ones are no result."""
    found = {}
    for name, path in files(root):
        if "/." in f"/{name}" or path.name in TIMED or path.suffix == ".sha256" or "/opened/" in name:
            continue  # what is opened is kept by path and time, which no two trials share
        data = path.read_bytes()
        if path.suffix == ".json" and b'"peak_bytes"' in data:
            tree = json.loads(data)
            data = json.dumps([{k: v for k, v in row.items() if k not in MEASURED} for row in tree["rows"]]).encode()
        found[name] = hashlib.sha256(data).hexdigest()
    return found


def halves(root: Path) -> list[str]:
    """Which visible files are not whole."""
    from safetensors import safe_open

    bad = []
    for name, path in files(root):
        if "/." in f"/{name}":
            continue
        try:
            if path.suffix == ".json":
                tree = json.loads(path.read_bytes())
                listed = tree.get("files") if isinstance(tree, dict) and path.name != "pipeline.json" else None
                for part, expected in (listed or {}).items() if isinstance(listed, dict) else ():
                    data = (path.parent / part).read_bytes()
                    if isinstance(expected, dict):  # of the cache: a digest of each MiB
                        pieces = [
                            hashlib.sha256(data[i : i + 2**20]).hexdigest()[:32] for i in range(0, len(data), 2**20)
                        ]
                        actual: Any = {"bytes": len(data), "pieces": pieces}
                    else:
                        actual = hashlib.sha256(data).hexdigest()
                    if actual != expected:
                        bad.append(f"{name}: {part}")
            elif path.suffix == ".jsonl":
                for line in path.read_bytes().split(b"\n")[:-1]:
                    json.loads(line)
            elif path.suffix == ".safetensors":
                with safe_open(path, "np") as file:
                    list(file.keys())
        except Exception as error:  # noqa: BLE001 - whatever it is, the file is not whole
            bad.append(f"{name}: {type(error).__name__} {error}")
    return bad


def leftovers(root: Path) -> list[str]:
    """Work folders and locks, of which none may be there at the end."""
    found = [p.relative_to(root).as_posix() for p in root.rglob(".*")]
    return [name for name in found if "/." not in name.removeprefix(".")[1:] or name.count("/.") == 1]


class Trials:
    """The trials of one command.

    Args:
        name: of the command.
        words: its words.
        folder: where they run.
        draw: what all moments are drawn with.
        most: kills of a trial, at most.
    """

    def __init__(self, name: str, words: list[str], folder: Path, draw: random.Random, most: int) -> None:
        self.name, self.words, self.folder, self.draw, self.most = name, words, folder, draw, most
        self.sums: Counter[str] = Counter(kills=0, trials=0, equal=0, differs=0, failed=0, halves=0, leftovers=0)
        shutil.rmtree(folder, ignore_errors=True)
        self.expected, self.seconds = self._alone("first", None)
        again, _ = self._alone("second", 0)
        if self.expected != again:
            raise SystemExit(f"{name}: two uninterrupted runs differ: {differing(self.expected, again)}")
        self.operations = len((folder / "second" / "operations.txt").read_text().splitlines())
        print(
            f"{name}: {self.seconds:.1f} s alone, {self.operations} operations on files, {len(again)} files", flush=True
        )

    def _alone(self, name: str, before: int | None) -> tuple[dict[str, str], float]:
        root = self.folder / name
        root.mkdir(parents=True)
        begun = time.monotonic()
        if code := finish(start(self.words, root, before)):
            raise SystemExit(f"{self.name} ends with {code}: {(root / 'said.txt').read_text()[-2000:]}")
        return contents(root), time.monotonic() - begun

    def trial(self) -> None:
        """Kills a command some times, lets it end, and counts."""
        root = self.folder / f"trial-{self.sums['trials']}"
        root.mkdir()
        self.sums["trials"] += 1
        plan = []
        for _ in range(self.draw.randint(1, self.most)):
            before = self.draw.randint(1, self.operations) if self.draw.random() < 0.6 else None
            moment = None if before else self.draw.uniform(0.02, 1) * self.seconds
            code = finish(start(self.words, root, before), moment)
            plan.append(f"operation {before}" if before else f"{moment:.2f} s")
            if code == -9:
                self.sums["kills"] += 1
            elif code:
                return self._report("failed", root, plan, f"exit {code}")
            if bad := halves(root):
                self._report("halves", root, plan, "; ".join(bad))
        if code := finish(start(self.words, root, None)):
            return self._report("failed", root, plan, f"exit {code} at the end")
        made = contents(root)
        if made != self.expected:
            return self._report("differs", root, plan, differing(self.expected, made))
        self.sums["equal"] += 1
        if left := leftovers(root):
            self.sums["leftovers"] += len(left) - 1
            self.sums["of the cache"] += sum(name.startswith("cache/") for name in left)
            return self._report("leftovers", root, plan, ", ".join(left))
        shutil.rmtree(root)
        return None

    def _report(self, what: str, root: Path, plan: list[str], text: str) -> None:
        self.sums[what] += 1
        said = (root / "said.txt").read_text(errors="replace")[-600:]
        print(f"! {self.name} {what}: {text}\n  killed at {', '.join(plan)}\n  in {root}\n  {said}", flush=True)


def differing(one: dict[str, str], other: dict[str, str]) -> str:
    """The names of files that differ, or are in one alone."""
    return ", ".join(name for name in sorted({*one, *other}) if one.get(name) != other.get(name))[:600]


def main() -> None:
    """Runs trials of every command in turn until there are enough kills."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="commands; by default all")
    parser.add_argument("--folder", type=Path, required=True, help="where everything is made; emptied first")
    parser.add_argument("--kills", type=int, default=1000, help="how many, over all commands")
    parser.add_argument("--most", type=int, default=5, help="kills of one trial, at most")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    root = given.folder.resolve()
    if root.exists() and any(root.iterdir()) and not (root / "kills.txt").is_file():
        raise SystemExit(f"{root} holds something else; choose another folder")
    shutil.rmtree(root, ignore_errors=True)  # ours: kills.txt is in it
    root.mkdir(parents=True)
    (root / "kills.txt").write_text("made by benchmarks/kills.py\n")
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    warm()
    make_data(root)
    every = commands(root)
    for name, words in {"prior": [*every["train-prior"][:-1], "prior"], "run": [*every["random"][:-1], "run"]}.items():
        if code := finish(start(words, root, None)):
            raise SystemExit(f"the {name} that commands read ends with {code}: {(root / 'said.txt').read_text()}")
    begun = time.monotonic()
    trials = [
        Trials(name, every[name], root / f"of-{name}", random.Random(f"{given.seed} {name}"), given.most)
        for name in given.names or every
    ]
    total: Counter[str] = Counter()
    while total["kills"] < given.kills:
        for one in trials:
            one.trial()
        total = sum((one.sums for one in trials), Counter())
        print(f"{(time.monotonic() - begun) / 60:.0f} min: " + _line(total), flush=True)
    for one in trials:
        print(f"{one.name}: {_line(one.sums)}")
    print(f"all: {_line(total)}")


def _line(sums: Counter[str]) -> str:
    return ", ".join(
        f"{what} {sums[what]}"
        for what in ("kills", "trials", "equal", "differs", "failed", "halves", "leftovers", "of the cache")
    )


if __name__ == "__main__":
    main()
