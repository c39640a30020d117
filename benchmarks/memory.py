"""Peak memory and seconds a step of methods on any data, each in a process of its own, as the command line runs them.

    python benchmarks/memory.py --methods ncfm,imagebind_dc --pairs 8,40 --steps 5 [METHOD.OPTION=VALUE ...] -- SOURCE OPTIONS ...

What follows `--` is handed to `limbeck distill`. `peak` is the largest resident memory of the process in MiB, that of `random` being what
Python, the encoders and the data take by themselves; `seconds a step` is the difference between a run of twice as many steps and one of so
many, so that starting up has no part in it.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEASURE = """
import resource, sys
from limbeck.cli import main
code = main(sys.argv[1:])
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""
ONE_SHOT = ("random", "herding", "kcenter", "prototypes")


def run(words: list[str]) -> tuple[float, float]:
    """MiB and seconds of one command."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", MEASURE, *words], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip().splitlines()[-1])
    return int(done.stdout.rsplit("PEAK", 1)[1]) / 1024, time.perf_counter() - start


def main() -> None:
    """Prints a table: a row a method, two columns a number of pairs."""
    ours, _, handed = " ".join(sys.argv[1:]).partition(" -- ")
    parser = argparse.ArgumentParser()
    parser.add_argument("--methods", required=True)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("options", nargs="*")
    asked = parser.parse_args(ours.split())
    sizes = asked.pairs.split(",")
    print("| method | " + " | ".join(f"peak at {n} | s a step" for n in sizes) + " |")
    print("|---|" + "--:|" * 2 * len(sizes))
    for method in ["random", *asked.methods.split(",")]:
        cells = []
        for pairs in sizes:
            with tempfile.TemporaryDirectory() as folder:
                words = ["distill", *handed.split(), "--method", method, "--pairs", pairs]
                for name, value in (o.split("=") for o in asked.options if o.startswith(f"{method}.")):
                    words += [f"--method.{name.partition('.')[2]}", value]
                taken, peak = [], 0.0
                for times in (1,) if method in ONE_SHOT else (1, 2):
                    steps = [] if method in ONE_SHOT else ["--method.steps", str(times * asked.steps)]
                    memory, seconds = run([*words, *steps, "--run", str(Path(folder) / str(times))])
                    taken, peak = [*taken, seconds], max(peak, memory)
                step = f"{max(taken[1] - taken[0], 0) / asked.steps:.2f}" if len(taken) > 1 else ""
                cells.append(f"{peak:,.0f} | {step}")
        print(f"| {method} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
