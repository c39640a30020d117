"""`Cache`: whole entries or none, readable by others, mended where damaged."""

import errno
import os
import shutil
import stat
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.data import Cache, verifying
from limbeck.errors import LimbeckWarning, StorageError
from limbeck.runtime.cache import Contents


def never() -> dict[str, torch.Tensor]:
    raise AssertionError("made again")


def ones() -> dict[str, torch.Tensor]:
    return {"x": torch.ones(3)}


def test_entries_may_be_read_as_the_umask_says(tmp_path: Path) -> None:
    for umask, folder_mode in ((0o022, 0o755), (0o077, 0o700)):
        before = os.umask(umask)
        try:
            cache = Cache(tmp_path / f"{umask:o}")
            cache.tensors("features", "abcd", ones)
        finally:
            os.umask(before)
        entry = cache.path("features", "abcd")
        assert stat.S_IMODE(entry.stat().st_mode) == folder_mode
        assert stat.S_IMODE((entry / "tensors.safetensors").stat().st_mode) == folder_mode & 0o666


def plant(
    folder: Path, names: tuple[str, ...] = ("thesis.txt", ".vscode-server/keys", ".venv-py311/bin/python")
) -> dict[Path, str]:
    """Old files of somebody else; returns what they hold."""
    held = {folder / name: f"mine, {name}" for name in names}
    for path, text in held.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for old in (path, *path.parents[: len(path.relative_to(folder).parts) - 1]):
            os.utime(old, (0, 0))
    return held


def untouched(held: dict[Path, str]) -> bool:
    return all(path.read_text() == text for path, text in held.items())


def test_what_is_not_ours_is_never_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    entry = cache.path("features", "abcd")
    old = (
        ".limbeck-work-0123456789",
        "limbeck-2/.limbeck-work-01234567/x",
        ".abcd-12345678/pixels.bin",
        "features/ab/abcd/tensors.safetensors",
    )
    held = (
        plant(tmp_path)
        | plant(tmp_path, old[1:])
        | plant(cache.folder)
        | plant(cache.folder / "features")
        | plant(entry.parent)
    )
    cache.tensors("features", "abcd", ones)
    with cache.work() as work:
        assert work.is_dir()
    assert not work.exists()
    os.truncate(entry / "tensors.safetensors", 9)
    with pytest.warns(LimbeckWarning, match="it is made anew where it is needed"):
        assert torch.equal(cache.tensors("features", "abcd", ones)["x"], torch.ones(3))
    assert untouched(held)


@pytest.mark.parametrize(
    "names", [("thesis.txt",), ("tensors.safetensors/thesis.txt",), ("deep/er/x", "tensors.safetensors")]
)
@pytest.mark.parametrize("whole", [True, False])
def test_foreign_files_in_the_place_of_an_entry(tmp_path: Path, whole: bool, names: tuple[str, ...]) -> None:
    cache = Cache(tmp_path)
    entry = cache.path("features", "abcd")
    if whole:
        cache.tensors("features", "abcd", ones)
        (entry / "tensors.safetensors").unlink()
    held = plant(entry, names)
    with pytest.raises(
        StorageError, match=rf"{names[0]}.*, which Limbeck has not written; move that away, or set LIMBECK_CACHE"
    ):
        cache.tensors("features", "abcd", ones)
    assert untouched(held)
    for path in held:
        path.rename(tmp_path / path.name)
    for folder in sorted((p for p in entry.rglob("*") if p.is_dir()), reverse=True):
        folder.rmdir()
    with pytest.warns(LimbeckWarning, match="it is made anew where it is needed"):
        assert torch.equal(cache.tensors("features", "abcd", ones)["x"], torch.ones(3))


def test_a_file_or_a_link_in_the_place_of_an_entry(tmp_path: Path) -> None:
    cache, elsewhere = Cache(tmp_path / "cache"), tmp_path / "elsewhere"
    held = plant(elsewhere)
    for i, make in enumerate(
        (lambda p: p.write_text("mine"), lambda p: p.symlink_to(elsewhere), lambda p: p.symlink_to("gone"))
    ):
        place = cache.path("features", f"abc{i}")
        place.parent.mkdir(parents=True, exist_ok=True)
        make(place)
        with pytest.raises(StorageError, match=f"holds abc{i}, which Limbeck has not written"):
            cache.tensors("features", f"abc{i}", ones)
        assert place.is_symlink() or place.read_text() == "mine"
    assert untouched(held)


def test_an_entry_whose_files_lie_elsewhere_by_links_is_used(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.tensors("features", "abcd", ones)
    entry = cache.path("features", "abcd")
    entry.rename(tmp_path / "disk")
    entry.mkdir()
    for path in (tmp_path / "disk").iterdir():
        (entry / path.name).symlink_to(path)
    assert torch.equal(cache.tensors("features", "abcd", never)["x"], torch.ones(3))


@pytest.mark.parametrize("value", ["", "  "])
def test_an_empty_variable_is_one_that_is_not_set(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", value)
    assert Cache().root.is_absolute() and Cache().root.name == "limbeck"


@pytest.mark.parametrize("kept", [None, 0, 5, -2])
def test_a_damaged_entry_is_made_again(tmp_path: Path, kept: int | None) -> None:
    cache = Cache(tmp_path)
    cache.tensors("features", "abcd", ones)
    file = cache.path("features", "abcd") / "tensors.safetensors"
    if kept is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:kept])
    with pytest.warns(
        LimbeckWarning,
        match=r"features/ab/abcd is damaged \(tensors.safetensors.*\); it is made anew where it is needed",
    ):
        assert torch.equal(cache.tensors("features", "abcd", ones)["x"], torch.ones(3))
    assert torch.equal(cache.tensors("features", "abcd", never)["x"], torch.ones(3))


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.tensors("features", "abcd", ones)
    draws = np.random.default_rng(0)
    for name in ("tensors.safetensors", "entry.json"):
        path = cache.path("features", "abcd") / name
        for _ in range(40):
            data = bytearray(path.read_bytes())
            data[draws.integers(len(data))] ^= 1 << int(draws.integers(8))
            path.write_bytes(data)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", LimbeckWarning)
                assert torch.equal(cache.tensors("features", "abcd", ones)["x"], torch.ones(3))
        assert torch.equal(cache.tensors("features", "abcd", never)["x"], torch.ones(3))


@pytest.mark.slow
def test_of_a_large_file_a_sample_is_compared_and_when_verifying_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limbeck.runtime.cache.PIECE", 64)
    cache, made = Cache(tmp_path), {"x": torch.arange(64 * 50)}
    cache.tensors("features", "abcd", lambda: made)
    path = cache.path("features", "abcd") / "tensors.safetensors"
    whole, pieces = path.read_bytes(), -(-path.stat().st_size // 64)
    seen = []
    for piece in range(pieces):
        path.write_bytes(whole[: 64 * piece] + bytes([whole[64 * piece] ^ 1]) + whole[64 * piece + 1 :])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LimbeckWarning)
            seen.append(cache.whole("features", "abcd") is None)
        with verifying() as contents, pytest.warns(LimbeckWarning, match="damaged"):
            assert cache.whole("features", "abcd") is None
        assert contents == Contents(entries=1, damaged=1)
        with verifying(), pytest.warns(LimbeckWarning, match="damaged"):
            assert torch.equal(cache.tensors("features", "abcd", lambda: made)["x"], made["x"])
        assert path.read_bytes() == whole, "mended"
    assert sum(seen) == 16 and seen[0] and seen[-1], "the ends and a sample, the same within a process"


def test_an_entry_that_is_removed_while_it_is_read_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    cache, load = Cache(tmp_path), safetensors.torch.load_file
    cache.tensors("features", "abcd", ones)

    calls: list[Path] = []

    def gone(path: Path) -> dict[str, torch.Tensor]:
        calls.append(path)
        if len(calls) == 1:
            shutil.rmtree(cache.folder)
        return load(path)

    monkeypatch.setattr(safetensors.torch, "load_file", gone)
    assert torch.equal(cache.tensors("features", "abcd", ones)["x"], torch.ones(3))

    def always(path: Path) -> dict[str, torch.Tensor]:
        shutil.rmtree(cache.folder)
        return load(path)

    monkeypatch.setattr(safetensors.torch, "load_file", always)
    with pytest.raises(StorageError, match="was removed or changed while it was read; give the same command again"):
        cache.tensors("features", "abcd", ones)


def test_of_two_processes_the_first_wins(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def slow() -> dict[str, torch.Tensor]:
        cache.tensors("features", "abcd", ones)
        return {"x": torch.zeros(3)}

    assert torch.equal(cache.tensors("features", "abcd", slow)["x"], torch.ones(3))
    assert [p.name for p in cache.folder.iterdir()] == ["features"], "no work folder is left"


def test_what_cannot_be_written_names_the_path_and_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"file/limbeck-2.* cannot be written: .*LIMBECK_CACHE"):
        Cache(tmp_path / "file").tensors("features", "abcd", ones)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(StorageError, match=r"features/ab/abcd cannot be written: .*No space left.*LIMBECK_CACHE"):
            Cache(tmp_path / "cache").tensors("features", "abcd", ones)
    assert not list(Cache(tmp_path / "cache").folder.glob("features/ab/*")), "no half entry is left"


def test_errors_of_safetensors_while_writing_are_storage_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors.torch

    def full(*_: object) -> None:
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(StorageError, match=r"features/ab/abcd cannot be written: .*No space left.*LIMBECK_CACHE"):
        Cache(tmp_path).tensors("features", "abcd", ones)


def test_an_error_of_the_maker_is_its_own(tmp_path: Path) -> None:
    def make() -> dict[str, torch.Tensor]:
        raise FileNotFoundError("no weights")

    with pytest.raises(FileNotFoundError, match="no weights"):
        Cache(tmp_path).tensors("features", "abcd", make)


def test_what_the_dead_left_goes_where_every_entry_is_whole(tmp_path: Path) -> None:
    """Killed behind the rename that shows an entry: later commands make nothing, and still remove the work folder."""
    Cache(tmp_path / "first").tensors("x", "abcdef", ones)
    cache = Cache(shutil.copytree(tmp_path / "first", tmp_path / "second"))  # which this process has not opened
    left = cache.folder / ".limbeck-work-0123abcd"
    left.mkdir()
    (left / "owner.json").write_text('{"limbeck": "work", "target": "entry"}')
    assert cache.whole("x", "abcdef") == cache.path("x", "abcdef") and not left.exists()
