"""`Cache`: whole entries or none, readable by others, mended where damaged."""

import errno
import os
import stat
import time
from pathlib import Path

import pytest
import torch

from limbeck.data import Cache
from limbeck.errors import StorageError


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


def test_stale_work_folders_are_swept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    dead, alive, whole = (tmp_path / "features" / "ff" / name for name in (".ffff-1", ".ffff-2", "ffff"))
    root = tmp_path / ".decode-3"
    past = time.time() - 2 * 24 * 3600
    for folder in (dead, alive, whole, root):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
        os.utime(folder / "file", (past, past))
        os.utime(folder, (past, past))
    os.utime(alive / "file")  # its process writes still
    cache.tensors("features", "abcd", ones)
    assert not dead.exists() and alive.exists() and whole.exists() and root.exists()
    with cache.work(tmp_path, "decode") as work:
        assert work.is_dir() and not root.exists()
    assert not work.exists()


@pytest.mark.parametrize("kept", [None, 0, 5, -2])
def test_a_damaged_entry_is_made_again(tmp_path: Path, kept: int | None) -> None:
    cache = Cache(tmp_path)
    cache.tensors("features", "abcd", ones)
    file = cache.path("features", "abcd") / "tensors.safetensors"
    if kept is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:kept])
    calls: list[int] = []
    for _ in range(2):
        again = cache.tensors("features", "abcd", lambda: calls.append(1) or ones())  # type: ignore[func-returns-value]
        assert torch.equal(again["x"], torch.ones(3)) and calls == [1]


def test_what_cannot_be_written_names_the_path_and_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"file/features/ab/.* cannot be written: .*LIMBECK_CACHE"):
        Cache(tmp_path / "file").tensors("features", "abcd", ones)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(StorageError, match=r"features/ab/abcd cannot be written: .*No space left.*LIMBECK_CACHE"):
            Cache(tmp_path / "cache").tensors("features", "abcd", ones)
    assert not list((tmp_path / "cache" / "features" / "ab").iterdir()), "no half entry is left"


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
