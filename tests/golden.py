"""What every method makes and every protocol says of toy data, kept in `golden.json` so that a change of the code cannot change it unseen.

    PYTHONPATH=tests python tests/golden.py            # prints what differs
    PYTHONPATH=tests python tests/golden.py --renew    # and writes it down; the commit says why it changed

Of each set its fingerprint is kept, and mean and spread of its tensors. Fingerprints and scores are compared with the torch and on the model of
processor that wrote them; elsewhere only the numbers of the tensors are, with some room.
"""

import argparse
import json
import platform
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import limbeck as lb
from limbeck import registry
from limbeck.check import toy_source
from limbeck.core import DistilledSet, Method
from limbeck.errors import DataError
from limbeck.runtime.cache import Cache
from priors import GENERATIVE, tiny_prior

FILE = Path(__file__).with_name("golden.json")
PAIRS = 12
QUICK = {
    "steps": 3,
    "inner": 1,
    "experts": 2,
    "expert_batch": 8,
    "inner_steps": 2,
    "inner_batch": 4,
    "segments": 2,
    "sampling_steps": 2,
}
UNREAD = {"guided": {"inner"}}  # has no say by its defaults
RELATIVE, ABSOLUTE = 0.05, 0.02  # how far numbers may be off on another processor
BITWISE = ("fingerprint", "scores")  # the same bits on one kind of machine alone


def method_of(name: str) -> Method:
    """A method with few steps."""
    kind = registry.get("method", name)
    prior = {"prior": tiny_prior()} if name in GENERATIVE else {}
    method: Method = kind(**prior)
    known = {f.name for f in fields(method)} - UNREAD.get(name, set())
    return replace(method, **{key: value for key, value in QUICK.items() if key in known})


def numbers_of(small: DistilledSet) -> dict[str, list[float]]:
    """Mean and standard deviation of each tensor of a set."""
    tensors = {name: x.double() for name, x in small.tensors.items()}
    return {name: [float(x.mean()), float(x.std(correction=0))] for name, x in sorted(tensors.items())}


def sets(cache: Cache) -> Iterator[tuple[str, dict[str, Any], DistilledSet]]:
    """Every method's set, with what is kept of it."""
    space = lb.space(image={"name": "convnet", "resolution": 16, "width": 16}, text="bag_of_words")
    alone = lb.space(image=space["image"])
    for name in registry.names("method"):
        method = method_of(name)
        problem = lb.Problem(toy_source(), space, lb.Budget(pairs=PAIRS), seed=0, cache=cache)
        try:
            method.check(problem)
        except DataError:  # it matches images, and would leave texts as they were
            problem = replace(problem, space=alone)
        small = lb.distill(problem, method)
        yield name, {"fingerprint": small.fingerprint, "numbers": numbers_of(small)}, small


def scores(small: DistilledSet, cache: Cache) -> dict[str, float]:
    """What every protocol says of a set, by 20 steps of a student."""
    test = toy_source(40, "test")
    short = {"steps": 20, "longest": 20, "selection": "paper"}
    found = {}
    for name in registry.names("protocol"):
        for student in ("frozen", "convnet"):
            for score in lb.evaluate(small, test, name, seeds=1, cache=cache, student=student, **short):
                found[f"{name} {student} {score.metric}"] = score.mean
    return found


def machine() -> str:
    """Where bits can be compared: the same torch on the same model of processor."""
    said, facts = [platform.machine()], Path("/proc/cpuinfo")
    if facts.is_file():
        first = facts.read_text().split("\n\n")[0].splitlines()
        said += [line.split(":")[1].strip() for line in first if line.startswith(("model", "cpu family", "stepping"))]
    return ", ".join([*said, torch.backends.cpu.get_cpu_capability(), f"torch {torch.__version__}"])


def measured() -> dict[str, Any]:
    """Everything, as it is kept."""
    with TemporaryDirectory() as folder:
        cache = Cache(Path(folder))
        made = {name: (kept, small) for name, kept, small in sets(cache)}
        judged = {name: scores(made[name][1], cache) for name in ("random", "lors")}
    return {"machine": machine(), "sets": {name: kept for name, (kept, _) in made.items()}, "scores": judged}


def differences(kept: Any, now: Any, bits: bool, where: str = "") -> Iterator[str]:
    """A line for each value that is not what was kept.

    Args:
        kept, now: what was measured.
        bits: whether they must be the same, and what is `BITWISE` counts.
        where: both stand.
    """
    if isinstance(kept, dict) and isinstance(now, dict):
        for name in [*kept, *(n for n in now if n not in kept)]:
            if name != "machine" and (bits or name not in BITWISE):
                yield from differences(kept.get(name), now.get(name), bits, f"{where}/{name}")
    elif isinstance(kept, list) and isinstance(now, list) and len(kept) == len(now):
        for i, (a, b) in enumerate(zip(kept, now, strict=True)):
            yield from differences(a, b, bits, f"{where}/{i}")
    elif isinstance(kept, float) and isinstance(now, float):
        if abs(kept - now) > (0 if bits else ABSOLUTE + RELATIVE * abs(kept)):
            yield f"{where}: {kept} was kept, {now} it is"
    elif kept != now:
        yield f"{where}: {kept} was kept, {now} it is"


def main() -> None:
    """Prints what differs from the file, and renews it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renew", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    now = measured()
    kept = json.loads(FILE.read_text()) if FILE.is_file() else {}
    lines = list(differences(kept, now, kept.get("machine") == machine()))
    print("\n".join(lines) or "nothing differs")
    if given.renew:
        FILE.write_text(json.dumps(now, indent=1) + "\n")


if __name__ == "__main__":
    main()
