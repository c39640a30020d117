"""What the command line prints, whatever the encoding, and whatever captions, names and paths hold."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from limbeck.cli import main
from limbeck.commands._progress import Progress
from limbeck.terminal import columns, note, say, visible

ESC = "\x1b]0;owned\x07\x1b[2J"
BIDI = "\u202e"
SMALL = ["--space.image", "convnet", "--space.text", "bag_of_words"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (ESC, r"\x1b]0;owned\x07\x1b[2J"),
        ("a\rb", r"a\x0db"),
        ("a\tb\nc", "a\tb\nc"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        (f"gpj{BIDI}.exe", r"gpj\u202e.exe"),
        ("a\u2028b", r"a\u2028b"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("\ud800", r"\ud800"),
        ("\u00e9\u4e2d\U0001f600 \u0627", "\u00e9\u4e2d\U0001f600 \u0627"),
    ],
)
def test_controls_are_shown_and_letters_are_left(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_no_encoding_ends_in_an_error(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, newline="")
    say(f"\u00e9 \u2588 \U0001f600 {ESC}", stream)
    said = raw.getvalue().decode(encoding)
    assert said.endswith("\\x1b[2J\n") and len(said) > 10
    assert ("\u2588" in said) == (encoding == "utf-8") and ("\\u2588" in said) == (encoding != "utf-8")


def test_cells_stand_below_each_other() -> None:
    lines = [["a", "word", ""], ["long", "{x}", ""], ["b", "", ""]]
    assert columns(lines) == ["a     word", "long   {x}", "b"]
    assert columns(lines, left=2) == ["a     word", "long  {x}", "b"]
    assert columns([]) == []


def test_notes_and_progress_are_visible(capsys: pytest.CaptureFixture[str]) -> None:
    note(f"the class {ESC} is empty")
    clock = iter(range(0, 1000, 50))
    progress = Progress(clock=lambda: float(next(clock)))
    progress.tick(f"decode {ESC}", 1, 9)
    said = capsys.readouterr().err
    assert said.count(r"\x1b[2J") == 2 and "\x1b" not in said and said.startswith("note: the class")


def test_progress_that_cannot_be_shown_stops_no_work() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    clock = iter(range(0, 1000, 50))
    progress = Progress(Gone(), clock=lambda: float(next(clock)))
    for i in range(3):
        progress.tick("distil", i, 9)
    progress.close()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures whose captions, classes and names hold control characters."""
    root = tmp_path_factory.mktemp("hostile")
    rows = []
    for i in range(12):
        name = f"{i}{BIDI}.png"
        Image.new("RGB", (16, 16), (20 * i, 255 - 20 * i, 0)).save(root / name)
        split = "train" if i < 8 else "test"
        rows.append(
            {"file_name": name, "caption": f"{ESC} number {i} \u2603", "label": f"{ESC}{i % 2}", "split": split}
        )
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


@pytest.mark.slow
def test_every_command_prints_hostile_data_visibly(
    hostile: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / f"run {ESC}")
    words = ["--method", "random", "--pairs", "4", "--run", run, *SMALL, "--source.resolution=16"]
    data = f"folder:{hostile}"
    commands = [
        ["distill", data, *words],
        ["show", run],
        ["show", run, "--json"],
        ["evaluate", run, "--seeds", "1", "--protocol.steps", "2", "--protocol.selection", "paper"],
        ["doctor", data, *SMALL, "--pairs", "4", "--source.resolution=16"],
        ["distill", f"folder:{hostile}/{ESC}", *words],
        ["show", str(tmp_path / ESC)],
        [ESC],
        ["list", ESC],
    ]
    for command in commands:
        main(command)
        out, err = capfd.readouterr()
        for text in (out, err):
            assert not [c for c in text if visible(c) != c], f"{command[0]}: {text!r}"
        if "--json" in command:
            assert json.loads(out)["page"] == f"{run}/report.html"


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_that_is_not_utf_8(hostile: Path, tmp_path: Path, encoding: str) -> None:
    run = str(tmp_path / "run")
    assert main(["distill", f"folder:{hostile}", "--method", "random", "--pairs", "4", "--run", run, *SMALL]) == 0
    for words in (["show", run], ["show", run, "--json"], ["list"], ["show", f"{run}\u2603"]):
        asked = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
        done = subprocess.run([sys.executable, "-m", "limbeck", *words], env=asked, check=False, capture_output=True)
        assert b"Traceback" not in done.stderr and done.returncode == (5 if words[-1].endswith("\u2603") else 0)
        text = done.stdout.decode(encoding)
        if "--json" in words:
            assert json.loads(text)["page"] == f"{run}/report.html"


def test_what_comes_next_can_be_pasted(hostile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "my $HOME run"
    words = ["--method", "random", "--pairs", "4", "--run", str(run), *SMALL, "--source.resolution=16"]
    assert main(["distill", f"folder:{hostile}", *words]) == 0
    assert f"next: limbeck evaluate '{run}'   limbeck show '{run}'" in capsys.readouterr().out
