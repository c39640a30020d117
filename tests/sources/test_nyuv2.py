"""The labelled MATLAB file of NYU Depth v2, written as MATLAB 7.3 writes it, and what can be wrong with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

import limbeck as lb
from limbeck import registry
from limbeck.data.contract import check_source
from limbeck.data.decode import decode_image
from limbeck.data.parse import Unreadable
from limbeck.errors import ConfigError, DataError, MissingDependency

h5py = pytest.importorskip("h5py", reason="needs the nyuv2 extra")

SIZE, WIDTH, HEIGHT = 40, 16, 12
SMALL: dict[str, Any] = {"resolution": 8}


def scene(i: int) -> str:
    return f"{('kitchen', 'home_office')[i // 20]}_{i // 4:04d}"


def write(path: Path, depths: int = SIZE, leave: str = "") -> Path:
    """Images whose left half is bright, depth that grows to the right, four images a scene."""
    with h5py.File(path, "w") as file:
        images = np.random.default_rng(0).integers(0, 60, (SIZE, 3, WIDTH, HEIGHT), dtype=np.uint8)
        images[:, :, : WIDTH // 2] += 180
        metres = np.linspace(1, 4, WIDTH, dtype=np.float32)[None, :, None] + np.arange(depths)[:, None, None] / 100
        file["images"], file["depths"] = images, np.repeat(metres, HEIGHT, axis=2).astype(np.float32)
        for name in ("scenes", "sceneTypes"):
            texts = [scene(i) if name == "scenes" else scene(i)[:-5] for i in range(SIZE)]
            group = file.create_group(f"#refs#/{name}")
            refs = []
            for i, text in enumerate(texts):
                group[str(i)] = np.array([[ord(c)] for c in text], dtype=np.uint16)
                refs.append(group[str(i)].ref)
            file.create_dataset(name, data=np.array([refs], dtype=h5py.ref_dtype))
        if leave:
            del file[leave]
    return path


@pytest.fixture
def nyuv2(tmp_path: Path) -> Path:
    """Forty images of ten scenes; the scenes 0 to 2 and 5 to 7 are for training."""
    write(tmp_path / "nyu_depth_v2_labeled.mat")
    train = [i + 1 for i in range(SIZE) if i // 4 % 5 < 3]
    test = [i + 1 for i in range(SIZE) if i // 4 % 5 >= 3]
    savemat(tmp_path / "splits.mat", {"trainNdxs": np.array(train)[:, None], "testNdxs": np.array(test)[:, None]})
    return tmp_path


def test_the_published_layout(nyuv2: Path) -> None:
    source = lb.source(f"nyuv2:{nyuv2}", **SMALL)
    check_source(source)
    assert list(source.modalities) == ["image", "depth", "label"] and source.classes == ("home_office", "kitchen")
    assert source.modalities["depth"].high == 10 and source.keys[0] == "kitchen_0001/0005"
    held = {split: len(source.split(split)) for split in source.splits}
    assert held["test"] == 16 and held["train"] + held.get("val", 0) == 24
    batch = source.batch([0])
    left, right = batch["image"][0, :, :, :3].mean(), batch["image"][0, :, :, 5:].mean()
    assert left > 0.7 and right < 0.2, "the axes are turned back"
    across = batch["depth"][0, 0, 4]
    assert (across.diff() > 0.2).all() and torch.allclose(batch["depth"][0, 0], across.expand(8, 8))
    by_file = lb.source(f"nyuv2:{nyuv2 / 'nyu_depth_v2_labeled.mat'}", **SMALL)
    assert by_file.fingerprint == source.fingerprint == lb.source(source.describe()).fingerprint


def test_pixels_are_those_of_the_file(nyuv2: Path) -> None:
    from io import BytesIO

    from PIL import Image

    source = lb.source(f"nyuv2:{nyuv2}", "test", **SMALL)
    with h5py.File(nyuv2 / "nyu_depth_v2_labeled.mat") as file:
        pixels = file["images"][12].transpose(2, 1, 0)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    assert source.keys[0] == "kitchen_0003/0013"
    assert np.array_equal(source.batch([0])["image"][0].mul(255).byte().numpy(), decode_image(buffer.getvalue(), 8))


def test_without_lists_the_scenes_are_hashed(nyuv2: Path) -> None:
    (nyuv2 / "splits.mat").unlink()
    source = lb.source(f"nyuv2:{nyuv2}", **SMALL)
    scenes = {split: {key.split("/")[0] for key in source.split(split).keys} for split in source.splits}
    assert sum(map(len, scenes.values())) == 10 == len(set().union(*scenes.values())), "a scene lies in one split"


def test_depth_beyond_range_is_skipped(nyuv2: Path) -> None:
    with h5py.File(nyuv2 / "nyu_depth_v2_labeled.mat", "r+") as file:
        file["depths"][4] = 0
    with pytest.raises(DataError, match="1 no reading; the first"):
        lb.source(f"nyuv2:{nyuv2}", **SMALL)
    assert "kitchen_0001/0005" not in lb.source(f"nyuv2:{nyuv2}", **SMALL, max_skipped=0.1).keys
    with pytest.raises(ConfigError, match=r"`depth_far` of nyuv2 must be above 0\.5"):
        lb.source(f"nyuv2:{nyuv2}", depth_far=0.1)


def test_files_that_cannot_be(nyuv2: Path) -> None:
    path = nyuv2 / "nyu_depth_v2_labeled.mat"
    write(path, depths=SIZE - 1)
    with pytest.raises(
        DataError, match=r"expected images \[N, 3, W, H\] of 8 bits, depths \[N, W, H\].*\(39, 16, 12\)"
    ):
        lb.source(f"nyuv2:{nyuv2}", **SMALL)
    with h5py.File(write(path), "r+") as file:
        wide = file["images"][()].astype(np.uint16)
        del file["images"]
        file["images"] = wide
    with pytest.raises(DataError, match="of 8 bits"):
        lb.source(f"nyuv2:{nyuv2}", **SMALL)
    write(path, leave="sceneTypes")
    with pytest.raises(DataError, match="has no sceneTypes; it has #refs#, depths, images, scenes"):
        lb.source(f"nyuv2:{nyuv2}", **SMALL)
    savemat(path, {"images": np.zeros(3)})
    with pytest.raises(DataError, match=r"cannot be read as a MATLAB 7.3 file \(HDF5\)"):
        lb.source(f"nyuv2:{nyuv2}", **SMALL)
    path.unlink()
    with pytest.raises(DataError, match=r"no nyu_depth_v2_labeled.mat in"):
        lb.source(f"nyuv2:{nyuv2}", **SMALL)


def test_lists_that_cannot_be(nyuv2: Path) -> None:
    path = nyuv2 / "splits.mat"
    savemat(path, {"trainNdxs": [[1]], "testNdxs": [[41]]})
    with pytest.raises(DataError, match="testNdxs names images 41 to 41, but there are 40"):
        lb.source(f"nyuv2:{nyuv2}", **SMALL)
    savemat(path, {"trainNdxs": [[1]]})
    with pytest.raises(DataError, match="with trainNdxs, testNdxs: it has no testNdxs; it has trainNdxs"):
        lb.source(f"nyuv2:{nyuv2}", **SMALL)
    for content in (b"", b"no matrix at all"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as a MATLAB file"):
            lb.source(f"nyuv2:{nyuv2}", **SMALL)


def test_without_h5py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"'nyuv2' needs the package 'h5py'.*limbeck\[nyuv2\]"):
        lb.source("nyuv2:somewhere")


def refused(folder: Path, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        lb.source(f"nyuv2:{folder}", **SMALL)


def test_numbers_that_lie_in_other_files_are_not_read(nyuv2: Path) -> None:
    path, secret = nyuv2 / "nyu_depth_v2_labeled.mat", nyuv2 / "secret"
    secret.write_bytes(b"secret " * 10_000)
    whole = write(nyuv2 / "other.h5")
    with h5py.File(path, "r+") as file:
        del file["images"]
        shape = (SIZE, 3, WIDTH, HEIGHT)
        file.create_dataset("images", shape=shape, dtype=np.uint8, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
    refused(nyuv2, "the numbers of images lie in another file")
    with h5py.File(path, "r+") as file:
        del file["images"]
        file["images"] = h5py.ExternalLink(str(whole), "images")
    refused(nyuv2, "images is a link")
    with h5py.File(path, "r+") as file:
        del file["images"]
        layout = h5py.VirtualLayout(shape=shape, dtype=np.uint8)
        layout[:] = h5py.VirtualSource(str(whole), "images", shape=shape)
        file.create_virtual_dataset("images", layout)
    refused(nyuv2, "the numbers of images lie in another file")
    with h5py.File(path, "r+") as file:
        del file["images"]
        file["images"] = h5py.SoftLink("/depths")
    refused(nyuv2, "images is a link")


def test_a_file_that_changes_after_it_was_listed_is_looked_at_again(nyuv2: Path) -> None:
    path, secret = nyuv2 / "nyu_depth_v2_labeled.mat", nyuv2 / "secret"
    secret.write_bytes(b"secret " * 10_000)
    record = registry.get("source", "nyuv2")(path=str(nyuv2), **SMALL).read().records[0]
    with h5py.File(path, "r+") as file:
        del file["images"]
        file.create_dataset(
            "images", shape=(SIZE, 3, WIDTH, HEIGHT), dtype=np.uint8, external=[(str(secret), 0, h5py.h5f.UNLIMITED)]
        )
    with pytest.raises(Unreadable, match="lie in another file"):
        record.ref("image").read()
    path.write_bytes(b"no longer HDF5")
    with pytest.raises(Unreadable, match=r"^damaged$"):
        record.ref("depth").read()


@pytest.mark.parametrize(
    ("name", "instead", "reason"),
    [
        ("images", None, "images is no array"),
        ("sceneTypes", None, "sceneTypes is no array"),
        ("scenes", {"data": np.zeros((1, SIZE))}, "scenes holds something that is no reference to a text"),
        (
            "scenes",
            {"shape": (1, SIZE), "dtype": h5py.ref_dtype},
            "scenes holds something that is no reference to a text",
        ),
        (
            "images",
            {"shape": (SIZE, 3, 60000, 60000), "dtype": np.uint8, "chunks": (1, 3, 64, 64)},
            "too many pixels: more than .*",
        ),
        ("images", {"shape": (10**9, 3, WIDTH, HEIGHT), "dtype": np.uint8, "chunks": (1, 3, 4, 4)}, "expected images"),
        (
            "images",
            {"shape": (10**9, 3, 16, 16), "dtype": np.uint8, "chunks": (2**20, 3, 16, 16)},
            "is packed in parts of more",
        ),
        ("depths", {"shape": (SIZE, WIDTH, HEIGHT), "dtype": "S4"}, "expected images"),
    ],
    ids=["group", "group of texts", "numbers", "null", "pixels", "count", "one chunk", "texts"],
)
def test_arrays_that_are_not_what_they_should_be(
    nyuv2: Path, name: str, instead: dict[str, Any] | None, reason: str
) -> None:
    with h5py.File(nyuv2 / "nyu_depth_v2_labeled.mat", "r+") as file:
        del file[name]
        file.create_group(name) if instead is None else file.create_dataset(name, **instead)
    refused(nyuv2, reason)


def test_texts_that_are_none(nyuv2: Path) -> None:
    for codes, kind in (([0x110000], np.uint32), ([0xD800], np.uint16), ([97] * 2000, np.uint16), ([1.5], np.float64)):
        with h5py.File(nyuv2 / "nyu_depth_v2_labeled.mat", "r+") as file:
            del file["#refs#/scenes/0"]
            file["#refs#/scenes/0"] = np.array(codes, dtype=kind)
            refs = file["scenes"][()]
            refs[0, 0] = file["#refs#/scenes/0"].ref
            file["scenes"][...] = refs
        refused(nyuv2, "a text of scenes is none")


def test_lists_in_a_newer_file(nyuv2: Path) -> None:
    path = nyuv2 / "splits.mat"
    before = {s: lb.source(f"nyuv2:{nyuv2}", s, **SMALL).keys for s in ("train", "test")}
    train = [i + 1 for i in range(SIZE) if i // 4 % 5 < 3]
    test = [i + 1 for i in range(SIZE) if i // 4 % 5 >= 3]
    with h5py.File(path, "w") as file:
        file["trainNdxs"], file["testNdxs"] = np.array([train], float), np.array([test], float)
    assert before == {s: lb.source(f"nyuv2:{nyuv2}", s, **SMALL).keys for s in ("train", "test")}
    for lists, reason in (
        ({"trainNdxs": [1, 2], "testNdxs": [2, 3]}, "image 2 in trainNdxs and in testNdxs; leave it in one"),
        ({"trainNdxs": [1.5], "testNdxs": [2]}, "trainNdxs holds something else than the numbers of images"),
        ({"trainNdxs": [np.inf], "testNdxs": [2]}, "trainNdxs holds something else"),
        ({"trainNdxs": [0], "testNdxs": [2]}, "trainNdxs names images 0 to 0"),
        ({"trainNdxs": ["a"], "testNdxs": ["b"]}, "its lists are no lists of numbers"),
    ):
        with h5py.File(path, "w") as file:
            for name, numbers in lists.items():
                file.create_dataset(name, data=numbers if not isinstance(numbers[0], str) else np.array(numbers, "S1"))
        refused(nyuv2, reason)
