"""`show`: sets, finished and unfinished runs, and what it prints."""

import io
import json

import pytest
from rich.console import Console

import limbeck as lb
from limbeck.engine.run import Run
from limbeck.errors import ConfigError, StorageError
from limbeck.report import show
from limbeck.report.formatting import size


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=120, color_system=None)


def test_a_saved_set(tmp_path, small, console, source):
    written = show(small().save(tmp_path / "tiny"), console=console, source=source)
    assert written == tmp_path / "tiny.html"
    printed = console.file.getvalue()
    assert (
        "toy by cf" in printed
        and f"{size(lb.load(tmp_path / 'tiny').nbytes)} (image " in printed
        and "CC0-1.0" in printed
    )
    assert source.captions[0][0] in printed and source.captions[5][0] not in printed.replace(source.captions[1][0], "")
    assert 'class="thumb"' in written.read_text(encoding="utf-8")


def test_a_source_that_it_was_not_made_from(tmp_path, small, console, source):
    saved = small(origins=["gone"] * 6).save(tmp_path / "tiny")
    with pytest.raises(ConfigError, match=r"was not made from toy\[train\]: it started from toy, .* such as 'gone'"):
        show(saved, console=console, source=source)
    assert not (tmp_path / "tiny.html").exists()


def test_a_finished_run_with_its_curves(tmp_path, small, console):
    given = small()
    run = Run(tmp_path / "run", given.recipe)
    run.begin()
    for step in (1, 2):
        run.log({"step": step, "loss": 1 / step})
    given.save(run.result)
    written = show(tmp_path / "run", console=console)
    assert written == tmp_path / "run" / "report.html"
    assert "loss over the steps" in written.read_text(encoding="utf-8")
    assert show(tmp_path / "run", console=console, out=tmp_path / "else.html") == tmp_path / "else.html"


def test_an_unfinished_run_says_how_far_it_is_and_how_to_go_on(tmp_path, small, console):
    run = Run(tmp_path / "run", small().recipe)
    run.begin()
    run.log({"step": 3, "loss": 1.0})
    with pytest.raises(StorageError, match=r"is not finished: 3 of 5 steps are done; give the command .* again"):
        show(tmp_path / "run", console=console)


def test_something_else(tmp_path, console):
    (tmp_path / "notes.json").write_text(json.dumps({}))
    with pytest.raises(StorageError, match=r"neither a distilled set \(manifest.json\) nor a run"):
        show(tmp_path, console=console)
    with pytest.raises(StorageError, match="check the path"):
        show(tmp_path / "missing", console=console)


def test_captions_are_printed_as_they_are(tmp_path, small, console):
    show(small(captions=[("[red]not markup[/red]",)] * 6).save(tmp_path / "tiny"), console=console)
    assert "[red]not markup[/red]" in console.file.getvalue()
