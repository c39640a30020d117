"""Every command that writes: files of others stay as they are, and a full disk leaves nothing half and blocks no second try."""

import json
import os
import resource
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import limbeck as lb
from limbeck.cli import main
from limbeck.data import Cache
from limbeck.data.layout import FileImage

TINY = ["--source.resolution", "16", "--space.image", "convnet", "--space.text", "bag_of_words"]
Say = Callable[..., str]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixteen pictures with captions and classes, half of them for training; the classes once more as folders, without captions."""
    root = tmp_path_factory.mktemp("data")
    rows = []
    for i in range(16):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i}.png")
        split = ("train", "train", "val", "test")[i % 4]
        rows.append({"file_name": f"{i}.png", "caption": f"thing {i}", "label": "ab"[i // 4 % 2], "split": split})
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"folder:{root}"


@pytest.fixture(scope="module")
def run(data: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("run") / "run"
    assert main(["distill", data, *TINY, "--method", "random", "--pairs", "4", "--run", str(folder)]) == 0
    return folder


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs a command; returns what it says."""

    def command(*words: object, code: int = 0) -> str:
        found = main([str(word) for word in words])
        said = capsys.readouterr()
        assert found == code, said.err
        assert "Traceback" not in said.err and "fault of Limbeck" not in said.err
        return said.out + said.err

    return command


def plant(*folders: Path) -> dict[Path, bytes]:
    """Files and folders of somebody else, old, hidden or not, some with names that look like ours; with their contents."""
    names = [
        "thesis.txt",
        ".vscode-server/keys",
        ".venv-py311/bin/python",
        ".step-9/x",
        "step-x9/x",
        ".pipeline/x",
        ".set-1a2b/x",
    ]
    names += [
        ".limbeck-work-01234567/x",
        ".limbeck-work-0123456789abcdef/owner.json",
        "old/x",
        "new/x",
        "samples.bak/000000.safetensors",
    ]
    held = {}
    for folder in folders:
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"mine: {path}")
            os.utime(path, (0, 0))
            os.utime(path.parent, (0, 0))
            held[path] = path.read_bytes()
    return held


def untouched(held: dict[Path, bytes]) -> bool:
    return all(path.read_bytes() == data for path, data in held.items())


def options(name: str, data: str, run: Path) -> list[str]:
    """The words of a quick command that writes to what follows."""
    judged = ["--seeds", "1", "--protocol.steps", "2"]
    return {
        "embed": ["embed", data, *TINY, "--out"],
        "bind": ["bind", data, *TINY, "--dim", "8", "--hidden", "8", "--steps", "2", "--batch", "4", "--out"],
        "hf": ["export", str(run), "--to", "hf", "--out"],
        "webdataset": ["export", str(run), "--to", "webdataset", "--out"],
        "folder": ["export", str(run), "--to", "folder", "--out"],
        "evaluate": ["evaluate", str(run), *judged, "--out"],
        "audit": ["audit", str(run), "--seeds", "0", "--out"],
        "show": ["show", str(run), "--out"],
        "annotate": ["annotate", data, "--source.resolution", "16", "--captions", "template", "--out"],
        "compare": ["compare", data, *TINY, "--methods", "random", "--pairs", "4", *judged, "--out"],
        "distill": ["distill", data, *TINY, "--method", "cf", "--method.steps", "4", "--save_every", "2", "--pairs", "4", "--run"],
    }[name]  # fmt: skip


FILES = ("embed", "evaluate", "audit", "show")
SLOW = dict.fromkeys(("bind", "evaluate", "audit", "compare", "distill"), pytest.mark.slow)
FOLDERS = ("bind", "hf", "webdataset", "folder", "annotate", "compare", "distill")


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in FILES])
def test_files_beside_what_is_written_stay(name: str, data: str, run: Path, tmp_path: Path, say: Say) -> None:
    held = plant(tmp_path, tmp_path / "limbeck-2")
    out = tmp_path / "out.file"
    for _ in range(2):  # the second overwrites the file that was named
        say(*options(name, data, run), out)
    assert untouched(held) and out.is_file() and stat.S_IMODE(out.stat().st_mode) == 0o644
    (tmp_path / "folder" / "x").mkdir(parents=True)
    assert "; " in say(*options(name, data, run), tmp_path / "folder", code=5)
    assert (tmp_path / "folder" / "x").is_dir() and untouched(held)
    assert not list(tmp_path.glob(".limbeck-work-????????")) or untouched(held)


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in FOLDERS])
def test_files_beside_and_inside_what_is_written_stay(
    name: str, data: str, run: Path, tmp_path: Path, say: Say
) -> None:
    beside, out = plant(tmp_path), tmp_path / "out"
    for _ in range(1 + (name not in ("hf", "webdataset", "folder"))):
        say(*options(name, data, run), out)
        assert untouched(beside)
    inside = plant(out, *(path for path in out.iterdir() if path.is_dir()))
    main([*options(name, data, run), str(out)])
    if name == "distill":
        shutil.rmtree(out / "set") if not any(out / "set" in p.parents for p in inside) else None
        main([*options(name, data, run), str(out)])
    assert untouched(beside) and untouched(inside)
    foreign = plant(tmp_path / "foreign")
    if name not in ("annotate", "compare"):  # these two write beside what is there, if it is not of the same name
        assert "; choose another" in say(*options(name, data, run), tmp_path / "foreign", code=5)
    else:
        main([*options(name, data, run), str(tmp_path / "foreign")])
    assert untouched(foreign)


def test_tables_and_pages_of_others_are_not_overwritten(data: str, run: Path, tmp_path: Path, say: Say) -> None:
    (tmp_path / "table.csv").write_text("mine")
    assert "holds table.csv, which is of no comparison; choose another folder" in say(
        *options("compare", data, run), tmp_path, code=5
    )
    (tmp_path / "scores.json").write_text('{"schema": 1, "rows": []}')
    assert "which is of no comparison" in say(*options("compare", data, run), tmp_path, code=5)
    assert (tmp_path / "table.csv").read_text() == "mine" and sorted(os.listdir(tmp_path)) == [
        "scores.json",
        "table.csv",
    ]
    shutil.copytree(run / "set", tmp_path / "set")
    (tmp_path / "set.html").write_text("<title>my own page</title>")
    assert "set.html is there, and not a page of Limbeck; name another file" in say("show", tmp_path / "set", code=5)
    assert (tmp_path / "set.html").read_text() == "<title>my own page</title>"
    (tmp_path / "report.html").write_text("mine")
    assert "report.html is there, and not a page of Limbeck" in say("demo", "--out", tmp_path, code=5)
    (tmp_path / "set.html").unlink()
    for _ in range(2):
        say("show", tmp_path / "set")
    say("show", tmp_path / "set", "--out", tmp_path / "set.html")


def test_a_home_folder_as_the_cache(
    data: str, run: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = plant(tmp_path, tmp_path / "features", tmp_path / "pixels" / "ab")
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path))
    say(*options("embed", data, run), tmp_path / "x.safetensors")
    held |= plant(Cache().folder, Cache().folder / "features", *Cache().folder.glob("*/*"))
    for path in Cache().folder.glob("*/*/*/*.*"):
        if path.name in ("tensors.safetensors", "index.json", "pixels.bin"):
            os.truncate(path, 3)
    assert "it is made anew" in say(*options("embed", data, run), tmp_path / "y.safetensors")
    assert untouched(held) and (tmp_path / "x.safetensors").read_bytes() == (tmp_path / "y.safetensors").read_bytes()
    entries = [p for p in Cache().folder.glob("features/*/*") if len(p.name) == 32]
    inside = plant(*entries)
    say(*options("embed", data, run), tmp_path / "z.safetensors")
    for entry in entries:
        (entry / "tensors.safetensors").unlink()
    assert "which Limbeck has not written; move that away" in say(
        *options("embed", data, run), tmp_path / "z.safetensors", code=5
    )
    assert untouched(held | inside)


def test_an_empty_variable_makes_no_folder_the_cache(
    data: str, run: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "usual"))
    monkeypatch.setenv("LIMBECK_CACHE", "")
    say(*options("embed", data, run), tmp_path / "x.safetensors")
    assert not os.listdir(tmp_path / "here") and (tmp_path / "usual" / "limbeck" / "limbeck-2").is_dir()


@pytest.mark.slow
def test_contents_are_compared_where_one_asks_for_it_and_by_doctor(
    data: str, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system that keeps every time: nothing but the bytes tells that a file is another."""
    monkeypatch.setattr(FileImage, "stamp", property(lambda self: (self.path, self.size)))
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    own = tmp_path / "data"
    shutil.copytree(data.removeprefix("folder:"), own)
    for i in range(16):
        (own / f"{i}.png").write_bytes(b"P6 16 16 255\n" + np.random.default_rng(i).bytes(768))
    embed, out = ["embed", f"folder:{own}", *TINY, "--out"], [tmp_path / name for name in "abcd"]
    doctor = ["doctor", f"folder:{own}", *TINY, "--method", "random", "--pairs", "4"]
    say(*embed, out[0])
    clean = say(*doctor)
    assert "  files: 16\n  changed: 0" in clean and "  damaged: 0" in clean and "hold other bytes" not in clean
    assert "note: verified 16 files of the data, 0 changed, and " in say(*embed, out[1], "--verify")
    (own / "0.png").write_bytes(b"P6 16 16 255\n" + np.random.default_rng(99).bytes(768))
    say(*embed, out[1])
    assert out[0].read_bytes() == out[1].read_bytes(), "nobody looked"
    told = (
        "1 files of train hold other bytes than when they were decoded, with their size and times kept; the first is "
        + str(own / "0.png")
    )
    said = say(*embed, out[2], "--verify")
    assert told in said and "16 files of the data, 1 changed" in said and out[2].read_bytes() != out[0].read_bytes()
    (own / "0.png").write_bytes(b"P6 16 16 255\n" + np.random.default_rng(0).bytes(768))
    held_out = [path for path in Cache().folder.glob("pixels/*/*/pixels.bin") if path.stat().st_size == 4 * 768]
    held_out[0].write_bytes(bytes(4 * 768))
    said = say(*doctor)
    assert (
        told in said
        and "1 files hold other bytes than before" in said
        and "1 entries of the cache were damaged" in said
    )
    say(*embed, out[3])
    assert out[3].read_bytes() == out[0].read_bytes()


class Full:
    """A disk that is full: files longer than so many bytes cannot be written by this process."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __enter__(self) -> None:
        self.handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.limits[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)
        signal.signal(signal.SIGXFSZ, self.handler)


@pytest.fixture(autouse=True, scope="module")
def one_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMBECK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def contents(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, of scores and what shows them, which tell seconds, the names alone."""
    timed = ("seconds.json", "environment.json", "scores.json", "table.md", "table.csv")
    files = [p for p in folder.rglob("*") if p.is_file()]
    return {
        p.relative_to(folder).as_posix(): b"" if p.name.endswith(timed) or p.parent.name == "scores" else p.read_bytes()
        for p in files
    }


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no limits of files there")
@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in (*FILES, *FOLDERS)])
def test_a_full_disk_is_told_with_its_cure_and_blocks_no_second_try(
    name: str, data: str, run: Path, tmp_path: Path, say: Say
) -> None:
    out = "scores.json" if name == "evaluate" else "out"
    say(*options(name, data, run), tmp_path / "a" / out)  # and everything that it reads is in the cache
    told = 0
    for size in (0, 1000, 20_000):
        (tmp_path / "b").mkdir()
        with Full(size):
            code = main([*options(name, data, run), str(tmp_path / "b" / out)])
        if code:
            told += 1
            assert code == 5, size
            if name not in ("annotate", "compare", "distill"):  # which go on where they stopped
                assert not os.listdir(tmp_path / "b"), f"{size}: nothing half, and nothing in the way"
        if code or not name.startswith(("hf", "web", "folder")):  # exports go into a new folder
            say(*options(name, data, run), tmp_path / "b" / out)
        assert contents(tmp_path / "b") == contents(tmp_path / "a")
        shutil.rmtree(tmp_path / "b")
    assert told, "no file of this command is as long as the least limit"


@pytest.mark.slow
def test_the_cure_of_a_full_disk(
    data: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*FILES, *FOLDERS):
        reads = "embed" if name == "annotate" else name  # links that annotate makes change the times of the data
        assert main([*options(reads, data, run), str(tmp_path / f"before-{name}")]) == 0  # the cache has all it needs
        capsys.readouterr()
        with Full(0):
            assert main([*options(name, data, run), str(tmp_path / name)]) == 5
        assert "; free space there, or choose another" in capsys.readouterr().err, name
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    with Full(0):
        assert main([*options("embed", data, run), str(tmp_path / "x")]) == 5
    assert "; free space there, or set LIMBECK_CACHE to a folder that can be written" in capsys.readouterr().err
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert lb.load(run / "set").pairs == 4
