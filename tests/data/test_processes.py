"""Decoding in processes, under every way of starting them: it runs, or says what to do; it never hangs."""

import multiprocessing
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from limbeck.data.form import ImageForm
from limbeck.data.layout import ImageRef
from limbeck.data.store import FEW, decode_all, starts_safely
from limbeck.errors import DataError, OutOfMemory

METHODS = multiprocessing.get_all_start_methods()
SCRIPT = """
import multiprocessing
multiprocessing.set_start_method({method!r}, force=True)
import limbeck as lb

{guard}source = lb.source("folder:{data}", resolution=8{options})
{indent}print("opened", len(source))
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class folder of so many images that processes would be started for them."""
    folder = tmp_path_factory.mktemp("many")
    (folder / "train" / "cat").mkdir(parents=True)
    for i in range(FEW + 88):
        noise = np.random.default_rng(i).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "train" / "cat" / f"{'long name ' * 12}{i}.png")
    return folder


def run(
    folder: Path, many: Path, method: str, options: str = "", guarded: bool = False
) -> subprocess.CompletedProcess[str]:
    guard, indent = ('if __name__ == "__main__":\n    ', "    ") if guarded else ("", "")
    text = SCRIPT.format(method=method, data=many, options=options, guard=guard, indent=indent)
    (folder / "script.py").write_text(text)
    surroundings = {**os.environ, "LIMBECK_CACHE": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_script_without_a_guard_runs(tmp_path: Path, many: Path, method: str) -> None:
    done = run(tmp_path, many, method)
    assert done.returncode == 0 and done.stdout.split()[0] == "opened", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("method", [m for m in METHODS if m != "fork"])
def test_processes_that_are_asked_for_run_with_a_guard_and_are_explained_without(
    tmp_path: Path, many: Path, method: str
) -> None:
    done = run(tmp_path, many, method, ", workers=2", guarded=True)
    assert done.returncode == 0 and done.stdout.split()[0] == "opened", done.stderr
    (tmp_path / "bare").mkdir()
    done = run(tmp_path / "bare", many, method, ", workers=2")
    assert done.returncode == 1 and "under if __name__ == '__main__':, or use workers=0" in done.stderr.splitlines()[-1]


def test_where_processes_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    for method in METHODS:
        monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none, method=method: method)
        main.__spec__, main.__file__ = None, "script.py"
        assert starts_safely() == (method == "fork"), "a script would run again"
        for file in ("bin/limbeck", "Scripts/limbeck.exe"):
            main.__file__ = file
            assert starts_safely(), "the command has a guard"
        del main.__file__
        assert starts_safely(), "a notebook has no script"
    monkeypatch.setattr(multiprocessing, "current_process", lambda: type("Worker", (), {"daemon": True}))
    assert not starts_safely(), "a worker has no workers"


@dataclass(frozen=True)
class Greedy(ImageRef):
    """A file that takes more memory than there is, or the process that reads it."""

    dies: bool = False

    def read(self) -> bytes:
        if self.dies and threading.current_thread() is threading.main_thread():
            os.kill(os.getpid(), 9)
        raise MemoryError

    @property
    def stamp(self) -> Any:
        return "greedy.png", 1


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_memory_that_runs_out_is_told_with_its_remedy(workers: int) -> None:
    with pytest.raises(
        OutOfMemory, match=r"^memory ran out while files were decoded: .*greedy.png; use fewer processes"
    ):
        list(decode_all([Greedy()], ImageForm(8), workers))


@pytest.mark.slow
def test_a_process_that_is_killed_is_told_with_its_remedy() -> None:
    with pytest.raises(DataError, match=r"^a decoding process died .*If memory ran out, use fewer of them"):
        list(decode_all([Greedy(dies=True)], ImageForm(8), 1))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc to know the peak of another process")
def test_a_bomb_within_the_limit_takes_no_more_than_half_a_gigabyte(tmp_path: Path) -> None:
    """The most expensive kind: transparent, as many pixels as are allowed, few bytes."""
    Image.new("RGBA", (7000, 7000)).save(tmp_path / "bomb.png")
    code = (
        "import re, sys; from limbeck.data.decode import decode_image; peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', "
        "open('/proc/self/status').read())[1]); data = open(sys.argv[1], 'rb').read(); before = peak(); decode_image(data, 8); "
        "print((peak() - before) // 1024)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bomb.png")], capture_output=True, text=True, check=True
    )
    assert 150 < int(done.stdout) < 512, "MiB"


def test_what_is_skipped_for_its_size_is_tried_again_with_another_limit(tmp_path: Path) -> None:
    import limbeck as lb

    (tmp_path / "cat").mkdir()
    for i in range(20):
        Image.new("RGB", (30, 20 + i), (i, 0, 0)).save(tmp_path / "cat" / f"{i}.png")
    spec = f"folder:{tmp_path}"
    with pytest.raises(DataError, match="too many pixels"):
        lb.source(spec, resolution=8, max_pixels=700)
    small = lb.source(spec, resolution=8, max_pixels=700, max_skipped=1.0)
    assert {row["reason"] for row in small.skipped} == {
        "too many pixels: more than 700 pixels, see --limits (LIMBECK_LIMITS)"
    }
    assert len(lb.source(spec, resolution=8)) > len(small)
    for wrong in (0, 10**10):
        with pytest.raises(lb.errors.ConfigError, match="`max_pixels` of folder must be from 1 to 1000000000"):
            lb.source(spec, max_pixels=wrong)
