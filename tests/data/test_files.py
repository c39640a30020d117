"""Whole files and folders: nothing half, nothing of others removed, nothing of the dead left."""

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from limbeck.errors import StorageError
from limbeck.runtime.files import (
    checksums,
    flush,
    foreign_files,
    save_tensors,
    settle,
    settle_within,
    whole_file,
    whole_folder,
    work_folder,
    write_text,
)
from limbeck.runtime.locks import LOCK, lock, owned, unlock


def in_another_process(code: str) -> "subprocess.Popen[str]":
    """A process that says `ready` and then waits to be killed."""
    code = f"from pathlib import Path\nimport time\n{code}"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()  # not read to its end: a child of the process may hold it open


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), whole_file(tmp_path / "a.txt") as made:
        made.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]
    with pytest.raises(StorageError, match="is not a file"):
        write_text(tmp_path, "x")


def test_a_folder_takes_the_place_of_ours_alone(tmp_path: Path) -> None:
    place = tmp_path / "set"
    for text in ("one", "two"):
        with whole_folder(place, "manifest.json") as made:
            (made / "data").mkdir()
            (made / "data" / "a").write_text(text)
            (made / "manifest.json").write_text(json.dumps({"schema": 1, "files": {"data/a": ""}}))
    assert (place / "data" / "a").read_text() == "two" and os.listdir(tmp_path) == ["set"]
    (place / "thesis.txt").write_text("years of work")
    with pytest.raises(StorageError, match=r"holds thesis\.txt"), whole_folder(place, "manifest.json"):
        pass
    with pytest.raises(StorageError, match="holds data/a"), whole_folder(place):
        pass
    assert (place / "thesis.txt").read_text() == "years of work"
    assert foreign_files(place, "manifest.json") == ["thesis.txt"]


def test_a_manifest_of_others_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "app.js").write_text("x")
    for text in ('{"files": ["app.js"]}', "[" * 100_000, "[1]", '{"schema": 1}', "null", ""):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(StorageError, match=r"holds app\.js"), whole_folder(tmp_path, "manifest.json"):
            pass
    assert sorted(os.listdir(tmp_path)) == ["app.js", "manifest.json"]


def test_empty_folders_of_others_are_foreign_too(tmp_path: Path) -> None:
    (tmp_path / "x" / "photos").mkdir(parents=True)
    with pytest.raises(StorageError, match="holds photos"), whole_folder(tmp_path / "x"):
        pass
    assert foreign_files(tmp_path / "x", None, ("photos/a.png",)) == []


def test_links_are_followed_and_stay(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    with whole_folder(tmp_path / "link") as made:
        (made / "a").write_text("new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "a").read_text() == "new"
    (tmp_path / "scores").symlink_to("disk/a")
    write_text(tmp_path / "scores", "newer")
    assert (tmp_path / "scores").is_symlink() and (tmp_path / "disk" / "a").read_text() == "newer"
    for dangling in ("gone", "far/gone"):
        (tmp_path / "dangling").unlink(missing_ok=True)
        (tmp_path / "dangling").symlink_to(dangling)
        write_text(tmp_path / "dangling", "x")
        assert (tmp_path / dangling).read_text() == "x"


def test_the_current_folder_and_names_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with whole_folder(Path(".")) as made:
        (made / "a").write_text("x")
    monkeypatch.chdir(tmp_path / "here")
    write_text(Path("b"), "y")
    assert sorted(os.listdir(tmp_path / "here")) == ["a", "b"] and os.listdir(tmp_path) == ["here"]


def test_the_folders_above_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "x")
    with whole_file(tmp_path / "d" / "e" / "f.safetensors") as path:
        save_tensors({"x": torch.ones(1)}, path)
    with whole_folder(tmp_path / "g" / "h" / "i") as made:
        (made / "j").write_text("y")
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["a/b/c.txt", "d/e/f.safetensors", "g/h/i/j"]
    assert (tmp_path / found[0]).read_text() == "x" and (tmp_path / found[2]).read_text() == "y"


def test_what_others_left_beside_is_never_removed(tmp_path: Path) -> None:
    names = [".vscode-server", ".limbeck-work-0123456789", ".limbeck-work-89abcdef", ".limbeck-work-01234567", ".a-b"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("mine")
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / names[3] / "owner.json").write_text(json.dumps({"target": "x"}))
    write_text(tmp_path / "a.txt", "x")
    with whole_folder(tmp_path / "b"):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted([*names, "a.txt", "b"])
    assert all((tmp_path / name / "file").read_text() == "mine" for name in names)


@pytest.mark.slow
def test_work_of_the_dead_is_swept_and_that_of_the_living_is_not(tmp_path: Path) -> None:
    target = tmp_path / "x"
    code = f"from limbeck.runtime.files import work_folder\nwith work_folder(Path({str(target)!r})) as w:\n print('ready', flush=True); time.sleep(99)"
    process = in_another_process(code)
    (work,) = tmp_path.iterdir()
    with work_folder(target) as mine:
        settle(target)
        assert work.is_dir() and mine.is_dir()
    assert list(tmp_path.iterdir()) == [work]
    kill(process)
    settle(target)
    assert not list(tmp_path.iterdir())


def test_a_kill_before_a_work_folder_says_whose_it_is_leaves_nothing(tmp_path: Path) -> None:
    for name, text in (
        (".limbeck-work-00000000", None),
        (".limbeck-work-00000001", ""),
        (".limbeck-work-00000002", "{"),
    ):
        (tmp_path / name).mkdir()
        if text is not None:
            (tmp_path / name / "owner.json").write_text(text)
    settle(tmp_path / "x")
    assert os.listdir(tmp_path) == [".limbeck-work-00000002"]


@pytest.mark.slow
def test_what_a_killed_replacement_took_away_comes_back(tmp_path: Path) -> None:
    target = tmp_path / "space"
    target.mkdir()
    (target / "a").write_text("old")
    code = f"import os\nfrom limbeck.runtime.files import work_folder\ntarget = Path({str(target)!r})\nwith work_folder(target) as w:\n os.replace(target, w / 'old'); print('ready', flush=True); time.sleep(99)"
    kill(in_another_process(code))
    assert not target.exists()
    settle(target)
    assert (target / "a").read_text() == "old" and os.listdir(tmp_path) == ["space"]


@pytest.mark.slow
def test_one_process_at_a_time_owns_a_folder(tmp_path: Path) -> None:
    code = f"from limbeck.runtime.locks import owned\nwith owned(Path({str(tmp_path)!r}), 'distil'):\n print('ready', flush=True); time.sleep(99)"
    process = in_another_process(code)
    said = rf"in use by process {process.pid} on .*distil, since .*; wait"
    with pytest.raises(StorageError, match=said), owned(tmp_path, "distil"):
        pass
    kill(process)
    with owned(tmp_path, "compare"):
        with pytest.raises(StorageError, match="this process itself"), owned(tmp_path, "compare"):
            pass
        assert (tmp_path / LOCK).is_file()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_lock_outlives_no_process_and_is_not_inherited(tmp_path: Path) -> None:
    code = (
        f"import os\nfrom limbeck.runtime.locks import lock\nlock(Path({str(tmp_path / LOCK)!r}))\n"
        "if os.fork() == 0:\n time.sleep(5); os._exit(0)\nprint('ready', flush=True); time.sleep(99)"
    )
    kill(in_another_process(code))
    start = time.monotonic()
    descriptor = lock(tmp_path / LOCK)
    assert descriptor is not None and time.monotonic() - start < 3
    unlock(tmp_path / LOCK, descriptor)


def test_a_folder_that_cannot_be_owned_is_told_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(StorageError, match=r"cannot be written: .*; free space there, or choose"),
        owned(tmp_path / "file", "distil"),
    ):
        pass
    (tmp_path / LOCK).symlink_to("elsewhere")
    with pytest.raises(StorageError, match="cannot be written"), owned(tmp_path, "distil"):
        pass
    assert (tmp_path / LOCK).is_symlink() and not (tmp_path / "elsewhere").exists()


def test_a_lock_is_taken_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with owned(tmp_path, "distil"):
        assert (tmp_path / LOCK).exists()
    assert not list(tmp_path.iterdir())


def test_tensors_have_the_mode_that_the_umask_says(tmp_path: Path) -> None:
    for umask, mode in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
        before = os.umask(umask)
        try:
            save_tensors({"x": torch.ones(2)}, tmp_path / f"{mode}")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / f"{mode}").stat().st_mode) == mode


@pytest.mark.slow
def test_looking_at_a_folder_does_not_give_its_lock_up(tmp_path: Path) -> None:
    other = f"from limbeck.runtime.locks import lock\nassert lock(Path({str(tmp_path / LOCK)!r})) is None; print('ready', flush=True)"
    with owned(tmp_path, "annotate"):
        (tmp_path / "a").write_text("x")
        flush(tmp_path)
        assert list(checksums(tmp_path)) == ["a"] and foreign_files(tmp_path) == ["a"]
        in_another_process(other).communicate()


def test_everything_is_on_the_disk_before_it_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    flush, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(os.readlink(f"/proc/self/fd/{fd}")), flush(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("rename"), replace(a, b))[1])
    with whole_folder(tmp_path / "x") as made:
        (made / "a").write_text("1")
    at = done.index("rename")
    assert [p.split("/")[-1] for p in done[:at]] == ["a", "new"] and done[at + 1] == str(tmp_path)


def test_a_full_disk_is_told_with_its_remedy(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with (
        pytest.raises(StorageError, match=r"x cannot be written: .*No space left.*; free space"),
        whole_folder(tmp_path / "x"),
        open("/dev/full", "w") as file,
    ):
        file.write("much")
        file.flush()
    assert not list(tmp_path.iterdir())


def test_what_the_dead_left_below_a_folder_is_ended(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "samples", tmp_path / "scores"):
        work = place / ".limbeck-work-0123abcd"
        (work / "new").mkdir(parents=True)
        (work / "new" / "half").write_text("half")
        (work / "owner.json").write_text('{"limbeck": "work", "target": "x"}')
        (place / "kept").write_text("whole")
    settle_within(tmp_path)
    left = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["kept", "samples/kept", "scores/kept"]
    settle_within(tmp_path / "nowhere")
