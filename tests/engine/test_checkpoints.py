"""What happens to a run's files: damage is told, the newest whole checkpoint is used, and the set has the same bits."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import limbeck as lb
from limbeck.check import toy_source
from limbeck.core import Synthetic
from limbeck.engine import Run
from limbeck.engine.checkpoints import Checkpoints
from limbeck.errors import ConfigError, LimbeckWarning, StorageError
from limbeck.runtime.files import checksums
from tiers import slow_but

METHOD = lb.methods.CF(steps=6)


@pytest.fixture(scope="module")
def problem() -> lb.Problem:
    return lb.Problem(toy_source(), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=4))


@pytest.fixture(scope="module")
def whole(problem: lb.Problem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    lb.distill(problem, METHOD, run=folder, save_every=2)
    return folder


@pytest.fixture(scope="module")
def half(problem: lb.Problem, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after five of six steps, with checkpoints after two and four."""
    folder = tmp_path_factory.mktemp("half") / "run"
    for state in lb.steps(problem, METHOD, run=folder, save_every=2):
        if state.step == 5:
            break
    assert names(folder) == ["step-2", "step-4"]
    return folder


@pytest.fixture
def run(half: Path, tmp_path: Path) -> Path:
    shutil.copytree(half, tmp_path / "run")
    return tmp_path / "run"


def names(run: Path) -> list[str]:
    return sorted(p.name for p in (run / "checkpoint").iterdir())


def flip(path: Path, at: float = 0.9) -> None:
    data = bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 16
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a flipped bit of a tensor": lambda c: flip(c / "state.safetensors"),
    "a flipped bit of the header": lambda c: flip(c / "state.safetensors", 0.01),
    "truncated tensors": lambda c: cut(c / "state.safetensors"),
    "no tensors": lambda c: (c / "state.safetensors").unlink(),
    "empty tensors": lambda c: (c / "state.safetensors").write_bytes(b""),
    "an empty state": lambda c: (c / "state.json").write_bytes(b""),
    "an odd state": lambda c: (c / "state.json").write_text("[1, 2]"),
    "a flipped bit of the state": lambda c: flip(c / "state.json", 0.5),
    "no state": lambda c: (c / "state.json").unlink(),
    "no checksums": lambda c: (c / "checksums.json").unlink(),
    "odd checksums": lambda c: (c / "checksums.json").write_text("5"),
    "other checksums": lambda c: (c / "checksums.json").write_text('{"files": {"state.json": "", "a": ""}}'),
    "an empty folder": empty,
}


@pytest.mark.parametrize(
    "damage", slow_but(DAMAGE, "a flipped bit of a tensor", "an odd state", "no checksums", "an empty folder")
)
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(
    run: Path, whole: Path, problem: lb.Problem, damage: str
) -> None:
    DAMAGE[damage](run / "checkpoint" / "step-4")
    with pytest.warns(LimbeckWarning, match=r"step-4 cannot be used \(.*\) and is now damaged-step-4; .* from step 2"):
        made = lb.distill(problem, METHOD, run=run, save_every=2)
    assert made.fingerprint == lb.load(whole / "set").fingerprint
    assert (run / "log.jsonl").read_text() == (whole / "log.jsonl").read_text()
    assert names(run) == ["damaged-step-4", "step-4", "step-6"]
    assert checksums(run / "checkpoint" / "step-6") == checksums(whole / "checkpoint" / "step-6")


def test_without_a_whole_checkpoint_the_run_starts_anew(run: Path, whole: Path, problem: lb.Problem) -> None:
    for name in ("step-2", "step-4"):
        flip(run / "checkpoint" / name / "state.safetensors")
    with pytest.warns(LimbeckWarning, match="starts anew from step 0, as no other is whole") as said:
        made = lb.distill(problem, METHOD, run=run, save_every=2)
    assert len(said) == 2 and made.fingerprint == lb.load(whole / "set").fingerprint
    assert (run / "log.jsonl").read_text() == (whole / "log.jsonl").read_text()


def test_what_is_no_checkpoint_is_left_alone(run: Path, whole: Path, problem: lb.Problem) -> None:
    root = run / "checkpoint"
    for name in ("step-x9", "step-007", "step-", "best"):
        (root / name).mkdir()
        (root / name / "mine").write_text("years of work")
    (root / "step-99").write_text("a file")
    (root / "step-3").mkdir()
    (root / "step-3" / "thesis.tex").write_text("years of work")
    with pytest.warns(LimbeckWarning, match="holds best, step-, step-007, step-99, step-x9: no checkpoints"):
        made = lb.distill(problem, METHOD, run=run, save_every=1)
    assert made.fingerprint == lb.load(whole / "set").fingerprint
    for name in ("step-x9", "step-007", "step-", "best"):
        assert (root / name / "mine").read_text() == "years of work"
    assert (root / "step-3" / "thesis.tex").is_file() and not (root / "step-4").exists()


def test_a_checkpoint_with_something_of_a_person_in_it_is_kept(run: Path, problem: lb.Problem) -> None:
    (run / "checkpoint" / "step-2" / "notes.txt").write_text("why it was good")
    lb.distill(problem, METHOD, run=run, save_every=1)
    assert names(run) == ["step-2", "step-5", "step-6"]
    assert (run / "checkpoint" / "step-2" / "notes.txt").is_file()


def test_checkpoints_of_before_there_were_checksums_still_load(run: Path, whole: Path, problem: lb.Problem) -> None:
    for name in ("step-2", "step-4"):
        folder = run / "checkpoint" / name
        (folder / "checksums.json").unlink()
        state = json.loads((folder / "state.json").read_text())
        del state["schema"]
        (folder / "state.json").write_text(json.dumps(state))
    made = lb.distill(problem, METHOD, run=run, save_every=1)
    assert made.fingerprint == lb.load(whole / "set").fingerprint
    assert names(run) == ["step-5", "step-6"], "they are ours, and dropped"


@pytest.mark.parametrize("change", ["the set", "the moments", "no optimizer"])
def test_a_checkpoint_of_something_else_has_a_remedy(run: Path, problem: lb.Problem, change: str) -> None:
    folder = run / "checkpoint" / "step-4"
    tensors, state = load_file(folder / "state.safetensors"), json.loads((folder / "state.json").read_text())
    if change == "no optimizer":
        del state["optimizer"]
    kind = "set." if change == "the set" else "optimizer."
    short = {k: v[:2] if v.ndim and k.startswith(kind) else v for k, v in tensors.items()}
    save_file(short, folder / "state.safetensors")
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "checksums.json").unlink()
    (folder / "checksums.json").write_text(json.dumps({"files": checksums(folder)}))
    with pytest.raises(StorageError, match=r"step-4 does not fit this recipe: .*; delete the run folder"):
        lb.distill(problem, METHOD, run=run)


BROKEN = {
    "not UTF-8": b'{"step": 3, "loss": "\xff"}\n',
    "a number": b"5\n",
    "a word": b'{"step": 3, "loss": "low"}\n',
    "nothing of a line": b"\x00\x00\x00\n",
    "deep": b"[" * 100_000 + b"\n",
    "long": b'{"step": 3, "loss": ' + b"9" * 5000 + b"}\n",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_log_line_that_cannot_be_read_is_told(run: Path, whole: Path, problem: lb.Problem, kind: str) -> None:
    log = run / "log.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([*lines[:2], BROKEN[kind], *lines[3:]]))
    with pytest.warns(LimbeckWarning, match=r"lacks 1 of the 4 steps that are done; its line 3 cannot be read"):
        made = lb.distill(problem, METHOD, run=run, save_every=2)
    assert made.fingerprint == lb.load(whole / "set").fingerprint
    rows = Run(run, made.recipe).history()
    assert [row["step"] for row in rows] == [1, 2, 4, 5, 6]


def test_a_log_that_is_gone_or_doubled(run: Path, half: Path, whole: Path, problem: lb.Problem) -> None:
    lines = (run / "log.jsonl").read_text().splitlines(keepends=True)
    (run / "log.jsonl").write_text("".join(line * 2 for line in lines) + '{"step": 6, "lo')
    lb.distill(problem, METHOD, run=run, save_every=2)
    assert (run / "log.jsonl").read_text() == (whole / "log.jsonl").read_text()
    shutil.rmtree(run)
    shutil.copytree(half, run)
    (run / "log.jsonl").unlink()
    with pytest.warns(LimbeckWarning, match="lacks 4 of the 4 steps"):
        lb.distill(problem, METHOD, run=run, save_every=2)


@pytest.mark.parametrize("text", [b"", b"source: {", b"\xff\xfe", b"5", b"source: 2001-99-99", b"a: 1"])
def test_a_damaged_recipe_has_a_remedy(run: Path, problem: lb.Problem, text: bytes) -> None:
    (run / "recipe.yaml").write_bytes(text)
    with pytest.raises(StorageError, match=r"recipe\.yaml .*; put a copy of it back, or delete"):
        lb.distill(problem, METHOD, run=run)


def test_a_folder_of_checkpoints_that_is_a_file(run: Path, problem: lb.Problem) -> None:
    shutil.rmtree(run / "checkpoint")
    (run / "checkpoint").write_text("")
    with pytest.raises(StorageError, match="see to it that it is a folder"):
        lb.distill(problem, METHOD, run=run)


def test_a_checkpoint_that_cannot_be_written_leaves_the_others(run: Path, whole: Path, problem: lb.Problem) -> None:
    real, full = Checkpoints.save, OSError(28, "No space left on device")

    def save(self: Checkpoints, step: int, tensors: object, plain: object) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("safetensors.torch.save_file", lambda *of: (_ for _ in ()).throw(full))
            return real(self, step, tensors, plain)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", save)
        with pytest.raises(StorageError, match=r"No space left on device; free space there"):
            lb.distill(problem, METHOD, run=run, save_every=1)
    assert names(run) == ["step-2", "step-4"]
    assert lb.distill(problem, METHOD, run=run).fingerprint == lb.load(whole / "set").fingerprint


def test_nothing_hidden_is_left(whole: Path) -> None:
    assert not [p for p in whole.rglob("*") if p.name.startswith(".")]


def test_a_finished_run_ends_what_a_killed_process_left(whole: Path, problem: lb.Problem, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / ".limbeck-lock").write_text('{"pid": 1}')
    left = tmp_path / "run" / ".limbeck-work-01234567"
    left.mkdir()
    (left / "owner.json").write_text('{"limbeck": "work", "target": "set"}')
    lb.distill(problem, METHOD, run=tmp_path / "run")
    assert not [p for p in (tmp_path / "run").iterdir() if p.name.startswith(".")]


def test_a_checkpoint_that_a_killed_process_could_not_drop_goes(
    whole: Path, half: Path, problem: lb.Problem, tmp_path: Path
) -> None:
    """It died between the last checkpoint and the end of the one that this made superfluous."""
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "set")
    shutil.copytree(half / "checkpoint" / "step-2", tmp_path / "run" / "checkpoint" / "step-2")
    made = lb.distill(problem, METHOD, run=tmp_path / "run")
    assert names(tmp_path / "run") == names(whole) == ["step-4", "step-6"]
    assert made.fingerprint == lb.load(whole / "set").fingerprint


def test_a_refused_start_leaves_no_folder(problem: lb.Problem, tmp_path: Path) -> None:
    class Refuses(lb.methods.CF):
        """Finds out at its start that it cannot."""

        def start(self, problem: lb.Problem) -> Synthetic:
            raise ConfigError("this cannot work")

    with pytest.raises(ConfigError, match="this cannot work"):
        lb.distill(problem, Refuses(steps=2), run=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_ctrl_c_between_two_steps_keeps_that_step(whole: Path, problem: lb.Problem, tmp_path: Path) -> None:
    def tick(what: str, done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    stopped = lb.Problem(problem.source, problem.space, problem.budget, tick=tick)
    with pytest.raises(KeyboardInterrupt):
        lb.distill(stopped, METHOD, run=tmp_path / "run")
    assert names(tmp_path / "run") == ["step-3"]
    assert lb.distill(problem, METHOD, run=tmp_path / "run").fingerprint == lb.load(whole / "set").fingerprint


def test_a_run_has_one_owner_in_one_process_too(problem: lb.Problem, tmp_path: Path) -> None:
    states = lb.steps(problem, METHOD, run=tmp_path / "run")
    assert next(states).step == 0
    with pytest.raises(StorageError, match="in use by this process itself"):
        lb.distill(problem, METHOD, run=tmp_path / "run")
    states.close()  # type: ignore[attr-defined]
    assert len(lb.distill(problem, METHOD, run=tmp_path / "run")) == 4


@pytest.mark.draws_globally
def test_optimizer_state_survives_the_file(tmp_path: Path) -> None:
    """The flat form of a checkpoint gives back each tensor and number."""
    layer = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.5)
    layer(torch.ones(2)).sum().backward()
    optimizer.step()
    run = Run(tmp_path / "run", lb.Recipe())
    run.begin()
    run.save(1, layer, optimizer)
    other = torch.nn.Linear(2, 1)
    again = torch.optim.Adam(other.parameters(), lr=0.1)
    run.log({"step": 1})
    assert run.restore(other, again) == 1
    assert torch.equal(other.weight, layer.weight) and again.param_groups[0]["lr"] == 0.5
    for mine, theirs in zip(again.state.values(), optimizer.state.values(), strict=True):
        assert torch.equal(mine["exp_avg_sq"], theirs["exp_avg_sq"]) and mine["step"] == theirs["step"]
