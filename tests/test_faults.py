"""Memory that runs out, disks, rights and signals: one line with the remedy, and an exit code that says which."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from limbeck.cli import EXIT_CODES, main
from limbeck.commands._faults import explain
from limbeck.errors import DataError, OutOfMemory, StorageError
from limbeck.methods.matching.cf import CF

SMALL = ["--space.image", "convnet", "--space.text", "bag_of_words"]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 3 GiB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("x.so: failed to map segment from shared object"),
    ],
)
def test_memory_that_runs_out_is_no_fault_of_ours(error: Exception) -> None:
    for command, names in (("distill", "--pairs"), ("train-prior", "--batch"), ("embed", "--source.resolution")):
        said = explain(error, command)
        assert isinstance(said, OutOfMemory) and said.exit_code == 7 and 7 in EXIT_CODES
        assert names in str(said) and "lower" in str(said) and "fault of" not in str(said)


def test_other_faults_are_told_apart(tmp_path: Path) -> None:
    full = explain(OSError(errno.ENOSPC, "No space left on device"))
    assert isinstance(full, StorageError) and "free space" in str(full) and "fault" not in str(full)
    gone = explain(FileNotFoundError(errno.ENOENT, "No such file or directory", "a/b"))
    assert (
        isinstance(gone, StorageError)
        and str(gone) == "a/b: No such file or directory; check the path, or choose another"
    )
    assert explain(KeyError("x")).exit_code == 1 and "a fault of Limbeck" in str(explain(KeyError("x")))
    assert explain(RuntimeError("the size of tensor a must match")).exit_code == 1


def test_data_without_the_right_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_text("")
    denied = PermissionError(errno.EACCES, "Permission denied", str(path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    said = explain(denied)
    assert isinstance(said, DataError) and said.exit_code == 3 and f"{path} may not be read" in str(said)
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    assert explain(denied).exit_code == 5


@pytest.mark.parametrize("where", ["step", "start"])
def test_memory_in_a_command(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*given: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    for i in range(12):
        Image.new("RGB", (16, 16), (20 * i, 0, 0)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"number {i}")
    monkeypatch.setattr(CF, where, fails)
    code = main(
        ["distill", f"folder:{tmp_path}", "--method", "cf", "--pairs", "4", "--run", str(tmp_path / "run"), *SMALL]
    )
    err = capsys.readouterr().err
    assert code == 7 and "error: memory ran out" in err and "--pairs" in err and "Traceback" not in err


def test_the_end_of_a_pipe_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "limbeck", "list", "methods"], check=False, stdout=write, stderr=subprocess.PIPE
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_stdout_is_told() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "limbeck", "--version"], check=False, stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 5 and b"No space left" in done.stderr and b"Traceback" not in done.stderr


def start(folder: Path, *words: str) -> "subprocess.Popen[str]":
    """A long run that is under way; signals reach it as from a terminal."""
    data = folder / "data"
    data.mkdir()
    for i in range(12):
        Image.new("RGB", (16, 16), (20 * i, 0, 0)).save(data / f"{i}.png")
        (data / f"{i}.txt").write_text(f"number {i}")
    asked = [
        "distill",
        f"folder:{data}",
        "--source.resolution=16",
        "--method",
        "cf",
        "--pairs",
        "4",
        *SMALL,
        "--run",
        str(folder / "run"),
    ]
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from limbeck.cli import main; raise SystemExit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *asked, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = folder / "run" / "log.jsonl"
    while process.poll() is None and not (log.is_file() and log.read_bytes().count(b"\n") > 2):
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()
    return process


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_saves_and_the_same_command_goes_on(tmp_path: Path, name: str, code: int) -> None:
    process = start(tmp_path, "--method.steps", "100000")
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=60)
    assert process.returncode == code and code in EXIT_CODES and "Traceback" not in err
    assert "stopping after this step" in err and "stopped: the same command continues" in err
    done = (tmp_path / "run" / "log.jsonl").read_bytes().count(b"\n")
    assert [p.name for p in (tmp_path / "run" / "checkpoint").iterdir()] == [f"step-{done}"]
    assert not [p for p in (tmp_path / "run").rglob(".*")]


@pytest.mark.slow
@pytest.mark.parametrize("gap", [0.0, 0.01, 0.1])
def test_a_second_ctrl_c_is_quiet(tmp_path: Path, gap: float) -> None:
    process = start(tmp_path, "--method.steps", "100000")
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(gap)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err and "ignored" not in err


@pytest.mark.slow
def test_a_second_process_is_told_who_works_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = start(tmp_path, "--method.steps", "100000")
    words = ["distill", f"folder:{tmp_path}/data", "--source.resolution=16", "--method", "cf", "--pairs", "4", *SMALL]
    code = main([*words, "--run", str(tmp_path / "run"), "--method.steps", "100000"])
    said = capsys.readouterr().err
    assert (
        code == 5
        and f"in use by process {process.pid} on " in said
        and "since" in said
        and "wait until it ends" in said
    )
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_nohup_stays_in_force(tmp_path: Path) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start(tmp_path, "--method.steps", "100000")
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143


@pytest.mark.slow
def test_a_limit_of_memory_is_a_message(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    code = (
        "import torch, limbeck.engine, limbeck.sources, resource, sys\n"
        "from limbeck.cli import main\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 40_000_000,) * 2)\n"
        "raise SystemExit(main(sys.argv[1:]))"
    )
    for i in range(12):
        Image.new("RGB", (16, 16), (20 * i, 0, 0)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"number {i}")
    words = ["distill", f"folder:{tmp_path}", "--source.resolution=1024", "--pairs", "9", *SMALL]
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--run", str(tmp_path / "run")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 7 and "memory ran out" in done.stderr and "fault of" not in done.stderr, done.stderr


SIGNALLED = """
import os, signal, sys
from limbeck.cli import main
from limbeck.commands._progress import Progress
what, at, usual = sys.argv.pop(1), int(sys.argv.pop(1)), Progress.tick
def tick(self, name, done, total):
    usual(self, name, done, total)
    if what in name and done >= at:
        os.kill(os.getpid(), signal.SIGTERM)
Progress.tick = tick
raise SystemExit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "at", "says"),
    [
        (["embed"], ("text", 0), "the same command continues after the last shard"),
        (["bind", "--steps", "60"], ("binding", 21), "features are kept; the same command trains the heads anew"),
        (["evaluate", "--seeds", "1"], ("student", 2), "features are kept; the same command encodes nothing twice"),
        (["annotate", "--masks", "grabcut"], ("annotating", 8), "it continues after the last batch"),
    ],
)
def test_what_is_said_of_a_stopped_command_is_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], at: tuple[str, int], says: str
) -> None:
    """What is kept is neither made again nor lost, and the second try ends with what one that was never stopped makes."""
    data = tmp_path / "data"
    data.mkdir()
    for i in range(24):
        Image.new("RGB", (16, 16), (10 * i, 0, 0)).save(data / f"{i}.png")
        (data / f"{i}.txt").write_text(f"number {i}")
    command, source = words[0], f"folder:{data}"
    space = [] if command == "annotate" else SMALL
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    if command == "evaluate":
        given = ["distill", source, "--source.resolution=16", "--method", "random", "--pairs", "4", *space]
        assert main([*given, "--run", str(tmp_path / "run")]) == 0
        source, space = str(tmp_path / "run"), []
    line = [*words, source, *space, "--out"]

    def kept() -> dict[str, int]:
        if command == "annotate":
            return {"rows": (tmp_path / "out" / "annotated.jsonl").read_bytes().count(b"\n")}
        made = tmp_path / "cache" / "limbeck-2" / "features"
        return {p.relative_to(made).as_posix(): p.stat().st_mtime_ns for p in made.rglob("*.safetensors")}

    code = [sys.executable, "-c", SIGNALLED, at[0], str(at[1]), *line, str(tmp_path / "out")]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert (done.returncode, says in done.stderr, "Traceback" in done.stderr) == (143, True, False), done.stderr
    before = kept()
    assert before and (command == "annotate" or not (tmp_path / "out").exists())
    assert main([*line, str(tmp_path / "out")]) == 0
    after = kept()
    if command == "annotate":
        assert (before["rows"], after["rows"]) == (8, 24)
    else:
        assert {name: after[name] for name in before} == before, "nothing is encoded again"
    if command != "evaluate":  # whose file tells seconds
        monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "other"))
        assert main([*line, str(tmp_path / "whole")]) == 0
        assert written(tmp_path / "out") == written(tmp_path / "whole")


def written(path: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(path)): p.read_bytes() for p in [path, *path.rglob("*")] if p.is_file() and p.name[0] != "."
    }
