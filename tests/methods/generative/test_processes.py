"""Several processes make what one makes: the same gradients, the same images, one writer."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import limbeck as lb
from limbeck.check import toy_source
from limbeck.runtime import processes
from priors import tiny_prior

pytest.importorskip("diffusers", reason="needs the diffusion extra")
pytest.importorskip("accelerate", reason="needs the diffusion extra")

WORK = """
import sys, torch
torch.set_num_threads(1)
import limbeck as lb
from limbeck.check import toy_source
folder, prior = sys.argv[1:]
method = lb.methods.Edge(prior=prior, steps=2, batch=12, sampling_steps=1, captions=2, captioner="call:counted.write")
problem = lb.Problem(toy_source(80), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=72))
small = lb.distill(problem, method, run=folder)
plain = lb.distill(problem, lb.methods.Prior(prior=prior, sampling_steps=2), run=f"{folder}-plain")
print(small.fingerprint, plain.fingerprint)
torch.distributed.is_initialized() and torch.distributed.destroy_process_group()
"""

COUNTED = """
from pathlib import Path

def write(images, count):
    with (Path(__file__).parent / "asked").open("a") as file:
        file.write(f"{len(images)} ")
    return [[f"mean {sum(image.resize((1, 1)).getpixel((0, 0))) // 64}, {i}" for i in range(count)] for image in images]
"""


def test_alone_everything_is_at_rest() -> None:
    x = torch.ones(2, 2, requires_grad=True)
    assert processes.gathered(x) is x and processes.share([3, 4]) == [3, 4] and processes.is_first()
    processes.sum_gradients([x])
    processes.wait()
    assert (processes.count(), processes.rank()) == (1, 0)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("count", [2, 3])
def test_a_set_is_the_same_from_any_number_of_processes(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    base = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": str(count),
    }
    base |= {"LIMBECK_CACHE": str(tmp_path / "cache"), "ACCELERATE_USE_CPU": "true"}
    (tmp_path / "counted.py").write_text(COUNTED)
    base["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    monkeypatch.syspath_prepend(tmp_path)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, str(tmp_path / "run"), tiny_prior()],
            env={**base, "RANK": str(r), "LOCAL_RANK": str(r)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(count)
    ]
    said = [process.communicate(timeout=380) for process in started]
    assert all(process.returncode == 0 for process in started), said
    prints = {out.strip().splitlines()[-1] for out, _ in said}
    assert len(prints) == 1, "every process has the same set"
    asked = (tmp_path / "asked").read_text().split()
    assert sum(map(int, asked)) == 36 and len(asked) == 2, "no image is captioned twice"
    writes = "call:counted.write"
    method = lb.methods.Edge(prior=tiny_prior(), steps=2, batch=12, sampling_steps=1, captions=2, captioner=writes)
    space = lb.space(image="convnet", text="bag_of_words")
    same = lb.Problem(toy_source(80), space, lb.Budget(pairs=72))
    alone = lb.distill(same, method, run=tmp_path / "alone")
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("run", "alone")
    ]
    assert [row["step"] for row in logs[0]] == [1, 2], "one process writes the log"
    for ours, theirs in zip(*logs, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3), "the losses and the gradient are those of one process"
    made = lb.load(tmp_path / "run" / "set")
    assert len(made) == len(alone) == 36 and made.captions == list(alone.captions)
    images = [small.tensors["image"].float() for small in (made, alone)]
    assert float((images[0] - images[1]).abs().max()) <= 1, "but for the last bits of what trained"
    plain = lb.distill(same, lb.methods.Prior(prior=tiny_prior(), sampling_steps=2), run=tmp_path / "one")
    assert prints == {f"{made.fingerprint} {plain.fingerprint}"}, "what nothing trained is the same to the bit"
    chunks = sorted(path.name for path in (tmp_path / "run" / "samples").glob("*.safetensors"))
    assert chunks == ["000000.safetensors", "000016.safetensors", "000032.safetensors"], "no gaps"
