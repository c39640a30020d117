"""The loop and its run folder: resume to the same bits, divergence, folders of other recipes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch.optim import SGD, Optimizer

import limbeck as lb
from limbeck.check import toy_source
from limbeck.core import Method, Problem, Synthetic, chosen_pairs
from limbeck.engine import Run
from limbeck.errors import ConfigError, Diverged, StorageError


def toy(pairs: int = 4, seed: int = 0) -> Problem:
    return Problem(toy_source(), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=pairs), seed=seed)


@dataclass(frozen=True)
class Breaks(Method):
    """Turns bad at one step, in one of several ways."""

    how: str = "loss"
    at: int = 3
    steps: int = 6

    def start(self, problem: Problem) -> Synthetic:
        return chosen_pairs(problem, torch.arange(4), learn=["image"])

    def optimizer(self, synthetic: Synthetic) -> Optimizer:
        return SGD(synthetic.parameters(), lr=0.1)

    def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | torch.Tensor]:
        image = synthetic.value("image")
        image.grad = torch.ones_like(image)
        if t == self.at:
            if self.how == "gradient":
                image.grad[0] = torch.inf
            if self.how == "parameter":
                with torch.no_grad():
                    image[0] = torch.nan
        return {"loss": float("nan") if self.how == "loss" and t == self.at else 1.0}


@pytest.mark.parametrize(
    ("how", "names"), [("loss", "loss = nan"), ("gradient", "gradient norm"), ("parameter", "image")]
)
def test_divergence_keeps_the_last_good_state(tmp_path: Path, how: str, names: str) -> None:
    with pytest.raises(Diverged, match=f"step 4: .*{names}.* not finite; the last good state is in .*; lower"):
        lb.distill(toy(), Breaks(how=how), run=tmp_path / "run", save_every=2)
    run = Run(tmp_path / "run", lb.Recipe.of(toy(), Breaks(how=how)))
    synthetic = Breaks(how=how).start(toy())
    step = run.restore(synthetic, Breaks().optimizer(synthetic))
    assert step == (2 if how == "parameter" else 3)
    assert all(torch.isfinite(p).all() for p in synthetic.parameters())
    assert not run.result.exists()


def test_divergence_in_place_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class InPlace(Breaks):
        """Edits the set itself, and has no optimizer."""

        def optimizer(self, synthetic: Synthetic) -> None:
            return None

        def step(self, problem: Problem, synthetic: Synthetic, t: int) -> dict[str, float | torch.Tensor]:
            with torch.no_grad():
                synthetic.value("image").mul_(float("nan") if t == self.at else 0.9)
            return {"loss": float("nan") if t == self.at else 1.0}

    with pytest.raises(Diverged, match=r"the last good state is in .*step-2;"):
        lb.distill(toy(), InPlace(), run=tmp_path / "run", save_every=2)
    synthetic = InPlace().start(toy())
    assert Run(tmp_path / "run", lb.Recipe.of(toy(), InPlace())).restore(synthetic, None) == 2
    assert torch.isfinite(synthetic.value("image")).all()


def test_a_kill_while_the_folder_is_made_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.recipe.yaml.part").write_text("source: {")
    (tmp_path / "run/recipe.yaml").write_text(lb.Recipe.of(toy(), lb.methods.Random()).yaml())
    assert len(lb.distill(toy(), lb.methods.Random(), run=tmp_path / "run")) == 4
    assert (tmp_path / "run/environment.json").is_file()


def test_a_run_at_the_path_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("precious")
    with pytest.raises(StorageError, match="is a file"):
        lb.distill(toy(), lb.methods.Random(), run=tmp_path / "run")


def test_save_every_counts_from_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="save_every"):
        lb.distill(toy(), lb.methods.CF(steps=2), run=tmp_path / "run", save_every=0)


def test_divergence_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="pass `run=`"):
        lb.distill(toy(), Breaks())


def test_steps_is_what_distill_exhausts() -> None:
    method = lb.methods.CF(steps=3)
    states = list(lb.steps(toy(), method))
    assert [s.step for s in states] == [0, 1, 2, 3] and {s.total for s in states} == {3}
    assert {"loss", "image", "text", "tie", "gradient"} == set(states[-1].logs)
    image = states[-1].synthetic.value("image").detach().mul(255).round().byte()
    assert torch.equal(image, lb.distill(toy(), method).tensors["image"])


@pytest.mark.slow
def test_a_loss_goes_down() -> None:
    losses = [s.logs["loss"] for s in lb.steps(toy(8), lb.methods.CF(steps=60, lr=0.05, lr_text=0.05)) if s.logs]
    assert losses[-1] < 0.5 * losses[0]


def test_schedule_and_clip_reach_the_optimizer() -> None:
    @dataclass(frozen=True)
    class Clipped(Breaks):
        at: int = 99

        @property
        def clip(self) -> float:
            return 0.5

        def lr_schedule(self, t: int) -> float:
            return 0.0 if t else 1.0

    states = lb.steps(toy(), Clipped())
    start = next(states).synthetic.value("image").detach().clone()
    first = next(states).synthetic.value("image").detach().clone()
    moved = (first - start.clamp(0, 1))[(start > 0.1) & (start < 0.9)]
    assert moved.norm() <= 0.1 * 0.5 + 1e-5 and moved.norm() > 0
    assert torch.equal(next(states).synthetic.value("image"), first), "a rate of 0 must stop the set"


def test_a_run_folder_belongs_to_one_recipe(tmp_path: Path) -> None:
    lb.distill(toy(), lb.methods.CF(steps=2), run=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"another recipe: method.steps: 2 -> 3"):
        lb.distill(toy(), lb.methods.CF(steps=3), run=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"seed: 0 -> 1"):
        lb.distill(toy(seed=1), lb.methods.CF(steps=2), run=tmp_path / "run")


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StorageError, match="is not a run"):
        lb.distill(toy(), lb.methods.CF(steps=2), run=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_run_leaves_what_the_design_says(tmp_path: Path) -> None:
    lb.distill(toy(), lb.methods.CF(steps=5), run=tmp_path / "run", save_every=2)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "checkpoint", "environment.json", "log.jsonl", "recipe.yaml", "set",
    ]  # fmt: skip
    kept = sorted(p.name for p in (tmp_path / "run/checkpoint").iterdir())
    assert kept == ["step-4", "step-5"], "older checkpoints are dropped"
    rows = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]


def test_a_torn_log_line_and_half_a_checkpoint_do_no_harm(tmp_path: Path) -> None:
    method, folder = lb.methods.CF(steps=4), tmp_path / "run"
    for state in lb.steps(toy(), method, run=folder, save_every=2):
        if state.step == 3:
            break
    with (folder / "log.jsonl").open("a") as log:
        log.write('{"step": 4, "lo')
    (folder / "checkpoint/.step-4").mkdir()
    resumed = lb.distill(toy(), method, run=folder)
    assert resumed.fingerprint == lb.distill(toy(), method).fingerprint
    assert [row["step"] for row in Run(folder, resumed.recipe).history()] == [1, 2, 3, 4]


SCRIPT = """
import sys
import torch
torch.set_num_threads(1)
import limbeck as lb
from limbeck.check import toy_source
space = lb.space(image="convnet", text="bag_of_words")
problem = lb.Problem(toy_source(), space, lb.Budget(pairs=8), cache=lb.Cache(sys.argv[2]))
print(lb.distill(problem, lb.methods.CF(steps=400, lr=0.05), run=sys.argv[1], save_every=3).fingerprint)
"""


@pytest.mark.slow
@pytest.mark.timeout(400)  # five processes, one after the other
def test_sigkill_at_any_moment_ends_in_the_same_bits(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)

    def start(run: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(script), str(tmp_path / run), str(tmp_path / "cache")]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        while not condition() and process.poll() is None:
            time.sleep(0.01)

    whole = start("whole").communicate()[0].strip()
    assert len(whole) == 32
    kills = 0
    for lines in (1, 40, 150):
        process = start("killed")
        log = tmp_path / "killed/log.jsonl"
        wait_for(lambda log=log, lines=lines: log.is_file() and len(log.read_text().splitlines()) > lines, process)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
    assert kills == 3, "the process was never killed in the middle"
    process = start("killed")
    assert process.communicate()[0].strip() == whole
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "killed")]
    assert logs[0] == logs[1]


def test_a_refused_budget_claims_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="larger than the data"):
        lb.distill(toy(pairs=99), lb.methods.Random(), run=tmp_path / "run")
    assert len(lb.distill(toy(), lb.methods.Random(), run=tmp_path / "run")) == 4
