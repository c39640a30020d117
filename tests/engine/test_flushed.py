"""What appears under its name is on the disk: every file is flushed before the rename that shows it, and the folder after it.

Small entries of the cache are none of these: they are compared whole when they are opened, and made anew.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import limbeck as lb
from limbeck.check import toy_source
from limbeck.core import Recipe
from limbeck.engine.run import Run
from limbeck.evaluation import Score, write_scores
from limbeck.runtime.cache import Cache
from limbeck.runtime.files import write_text
from limbeck.spaces.binder import Binding, bind


class Disk:
    """Watches what is flushed and what is renamed.

    Attributes:
        shown: each rename: the name that appeared, and the names of the files in it that were not flushed before.
        stale: folders in which a name appeared, and that were not flushed since.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.flushed: set[tuple[int, int, int]] = set()  # device, inode, size when it was flushed
        self.shown: list[tuple[Path, list[str]]] = []
        self.stale: set[Path] = set()
        flush = os.fsync

        def fsync(descriptor: Any) -> None:
            found = os.fstat(descriptor)
            flush(descriptor)
            self.flushed.add((found.st_dev, found.st_ino, found.st_size if stat.S_ISREG(found.st_mode) else -1))
            self.stale -= {
                folder for folder in self.stale if folder.exists() and os.path.samestat(os.stat(folder), found)
            }

        monkeypatch.setattr(os, "fsync", fsync)
        for name in ("replace", "rename"):
            monkeypatch.setattr(os, name, self._watched(getattr(os, name)))

    def _watched(self, move: Callable[..., None]) -> Callable[..., None]:
        def moved(source: Any, target: Any, **more: Any) -> None:
            path = Path(source)
            files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
            lacking = [p.name for p in files if not self.knows(p)]
            move(source, target, **more)
            self.shown.append((Path(target), lacking))
            self.stale.add(Path(target).parent)

        return moved

    def knows(self, path: Path) -> bool:
        found = path.stat()
        return (found.st_dev, found.st_ino, found.st_size) in self.flushed


def task(folder: Path) -> lb.Problem:
    return lb.Problem(toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4), cache=Cache(folder / "cache"))


def checkpoint(folder: Path) -> Path:
    problem, method = task(folder), lb.methods.CF(steps=2)
    run = Run(folder / "run", Recipe.of(problem, method))
    synthetic = method.start(problem)
    optimizer = method.optimizer(synthetic)
    run.begin()
    for value in synthetic.parameters():
        value.grad = torch.ones_like(value)
    optimizer.step()  # type: ignore[union-attr]
    return run.save(1, synthetic, optimizer)


def recipe(folder: Path) -> Path:
    problem = task(folder)
    Run(folder / "run", Recipe.of(problem, lb.methods.Random())).begin()
    return folder / "run" / "recipe.yaml"


def saved(folder: Path) -> Path:
    return lb.distill(task(folder), lb.methods.Random()).save(folder / "set")


def bound(folder: Path) -> Path:
    few = Binding(dim=4, hidden=(), steps=1, batch=8)
    space = lb.space(image="convnet", text="bag_of_words")
    bind(toy_source(), space, folder / "space", few, cache=Cache(folder / "cache"))
    return folder / "space"


def scores(folder: Path) -> Path:
    common: dict[str, Any] = {
        "method": "m",
        "pairs": 9,
        "bytes": 9,
        "protocol": "p",
        "fingerprint": "f",
        "metric": "mean",
    }
    return write_scores(folder / "scores.json", [Score.of([1.0, 2.0], name="a", **common)])


def text(folder: Path) -> Path:
    write_text(folder / "a.txt", "words")
    return folder / "a.txt"


@pytest.mark.parametrize("make", [checkpoint, recipe, saved, bound, scores, text], ids=lambda make: make.__name__)
def test_it_is_on_the_disk_before_it_has_its_name(
    make: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    made = make(tmp_path)
    shown = [lacking for path, lacking in disk.shown if path == made]
    assert shown, f"{made.name} appears by a rename"
    assert shown == [[]] * len(shown), "every file was flushed, and has not grown since"
    assert made.parent not in disk.stale, "its folder was flushed after it"


def test_a_file_that_is_not_flushed_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a").write_text("x")
    os.replace(tmp_path / "work", tmp_path / "final")
    assert disk.shown == [(tmp_path / "final", ["a"])] and disk.stale == {tmp_path}
