"""Tar shards, and what can be wrong with them."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import limbeck as lb
from limbeck import registry
from limbeck.data.contract import check_source
from limbeck.errors import ConfigError, DataError, LimbeckWarning

from .conftest import image_bytes, mask_bytes


def shard(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def sample(i: int, **facts: Any) -> dict[str, bytes]:
    return {
        f"s{i}.png": image_bytes(i),
        f"s{i}.json": json.dumps({"caption": [f"a {i}", f"the {i}"], **facts}).encode(),
    }


def reasons(source: Any) -> list[str]:
    return [row["reason"] for row in source.skipped]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for number, part in enumerate((range(3), range(3, 6))):
        members: dict[str, bytes] = {}
        for i in part:
            members |= sample(i)
        shard(tmp_path / f"train-{number:04d}.tar", members)
    shard(tmp_path / "val-0000.tar", sample(6))
    shard(tmp_path / "test-0000.tar", sample(7))
    return tmp_path


def test_shards(shards: Path) -> None:
    source = lb.source(f"webdataset:{shards}", resolution=8)
    check_source(source)
    assert source.keys == [f"s{i}" for i in range(6)] and source.captions[4] == ("a 4", "the 4")
    assert source.splits == ("train", "val", "test") and source.split("test").keys == ["s7"]
    same = [
        lb.source(f"webdataset:{shards}/{pattern}", resolution=8).fingerprint
        for pattern in ("*.tar", "{train-{0000..0001},val-0000,test-0000}.tar")
    ]
    assert same == [source.fingerprint] * 2


def test_pixels_are_those_of_the_member(shards: Path) -> None:
    from limbeck.data.decode import decode_image

    got = lb.source(f"webdataset:{shards}", resolution=8).batch([4])["image"][0]
    assert ((got * 255).round().byte().numpy() == decode_image(image_bytes(4), 8)).all()


def test_members_of_every_kind(tmp_path: Path) -> None:
    members = {
        "d/a.jpg": image_bytes(0, "jpeg"),
        "d/a.txt": b" a cat \n",
        "d/a.cls": b"dog\n",
        "d/b.webp": image_bytes(1, "webp"),
        "d/b.json": b'{"text": "b", "label": "cat"}',
        "d/b.txt": b"b",
        "d/c.txt": b"only words",
        "d/e.png": image_bytes(3),
        "d/.hidden": b"x",
        "d/README": b"x",
        "test/f.png": image_bytes(4),
        "test/f.seg.png": b"another picture",
    }
    shard(tmp_path / "train.tar", members)
    shard(tmp_path / "test.tar", sample(9, label="cat"))
    source = lb.source(f"webdataset:{tmp_path}", resolution=8)
    check_source(source)
    assert dict(zip(source.keys, source.captions, strict=True)) == {
        "d/a": ("a cat",),
        "d/b": ("b",),
        "d/c": ("only words",),
        "d/e": (),
        "test/f": (),
    }
    assert source.classes == ("cat", "dog") and source.labels is not None
    assert source.labels.tolist() == [1, 0, -1, -1, -1]
    assert source.batch(range(5)).mask("image").tolist() == [True, True, False, True, True]


def test_bad_members_are_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "train.tar"
    good = [item for i in range(4) for item in sample(i).items()]
    bad = [
        ("../escape.png", image_bytes(9)),
        ("/etc/absolute.png", image_bytes(9)),
        ("s0.png", image_bytes(8)),
        ("latin.png", image_bytes(5)),
        ("latin.txt", b"caf\xe9"),
        ("broken.png", image_bytes(6)),
        ("broken.json", b'{"caption": '),
        ("listed.png", image_bytes(6)),
        ("listed.json", b"[1]"),
        ("lonely.cls", b"3"),
        ("cut.png", image_bytes(7)[:60]),
        ("cut.txt", b"cut"),
    ]
    shard(path, good + bad)
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    shard(tmp_path / "train2.tar", sample(1))
    shard(tmp_path / "test.tar", sample(11))
    shard(tmp_path / "val.tar", sample(12))
    source = lb.source(f"webdataset:{tmp_path}", resolution=8, max_skipped=0.9)
    assert source.keys == ["train/s0", "train/s1", "train/s2", "train/s3", "train2/s1"], "a key is unique in its shard"
    one = ["not a regular file", "not UTF-8", "not JSON", "not an object", "no image and no caption", "truncated"]
    assert sorted(reasons(source)) == sorted([*one, *["a member that leads out of its shard"] * 2, "duplicate key"])
    with pytest.raises(DataError, match="max_skipped"):
        lb.source(f"webdataset:{tmp_path}", resolution=8)


def test_unsafe_member_is_never_written(tmp_path: Path) -> None:
    shard(tmp_path / "in" / "train.tar", [*sample(0).items(), ("../../escape.png", image_bytes(9))])
    with pytest.raises(DataError):
        lb.source(f"webdataset:{tmp_path / 'in'}")
    assert not list(tmp_path.rglob("escape*"))


@pytest.mark.parametrize("content", [b"", b"not a tar at all", None])
def test_damaged_shards_are_named(shards: Path, content: bytes | None) -> None:
    path = shards / "train-0001.tar"
    path.write_bytes(path.read_bytes()[:900] if content is None else content)
    with pytest.raises(DataError, match=r"train-0001.tar is no whole, uncompressed tar file"):
        lb.source(f"webdataset:{shards}")


def test_a_compressed_shard_is_refused(tmp_path: Path) -> None:
    import gzip

    shard(tmp_path / "a.tar", sample(0))
    (tmp_path / "b.tar").write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes()))
    with pytest.raises(DataError, match=r"b\.tar is no whole, uncompressed"):
        lb.source(f"webdataset:{tmp_path / 'b.tar'}")


def test_missing_shards(shards: Path) -> None:
    with pytest.raises(DataError, match="no tar file at"):
        lb.source(f"webdataset:{shards}/nope-*.tar")
    with pytest.raises(DataError, match=r"there is no .*train-0002.tar"):
        lb.source(f"webdataset:{shards}/train-{{0000..0002}}.tar")
    with pytest.raises(ConfigError, match="more than 1,000,000 shards, see --limits"):
        lb.source("webdataset:x-{0..99999999}.tar")
    with pytest.raises(ConfigError, match="needs a path"):
        lb.source("webdataset")
    shard(shards / "empty" / "x.tar", {})
    with pytest.raises(DataError, match="hold no samples"):
        lb.source(f"webdataset:{shards / 'empty'}")
    shard(shards / "bare" / "x.tar", {"a.png": image_bytes(0)})
    with pytest.raises(DataError, match="none of the 1 samples has a caption or a label"):
        lb.source(f"webdataset:{shards / 'bare'}")


def test_masks_are_members_or_stand_in_the_json(tmp_path: Path) -> None:
    array, block = io.BytesIO(), {"size": [14, 20], "polygons": [[5, 3, 10, 3, 10, 11, 5, 11]]}
    np.save(array, np.pad(np.ones((8, 5), dtype=bool), ((3, 3), (5, 10))))
    members = [*sample(0).items(), ("s0.mask.png", mask_bytes(5))]
    members += [("s1.mask.npy", array.getvalue()), *sample(1).items()]
    members += [*sample(2, mask=[block]).items()]
    members += [*sample(3, mask=["another"]).items(), ("s3.mask.png", mask_bytes(5))]  # a member goes first
    members += [*sample(4, mask=None).items()]
    shard(tmp_path / "train.tar", members)
    for i, split in enumerate(("val", "test")):
        shard(tmp_path / f"{split}.tar", sample(8 + i))
    source = lb.source(f"webdataset:{tmp_path}", resolution=14)
    check_source(source)
    batch = source.batch(range(5))
    assert batch.mask("mask").tolist() == [True, True, True, True, False] and source.keys[4] == "s4"
    expected = torch.zeros(14, 14)
    expected[3:11, 2:7] = 1  # the crop leaves out three columns
    assert torch.equal(batch["mask"][:4, 0], expected.expand(4, 14, 14)) and batch["mask"][4].min() == 1
    assert "mask" not in lb.source(f"webdataset:{tmp_path}", "test", resolution=14).modalities
    none = lb.source(f"webdataset:{tmp_path}", resolution=14, mask_values="7")
    assert none.unmasked == {"no mask": 1, "empty mask": 3}, "segments have no numbers"  # type: ignore[attr-defined]


def test_masks_that_cannot_be_used_are_skipped_with_their_reason(tmp_path: Path) -> None:
    outside = io.BytesIO()
    np.save(outside, np.full((14, 20), 2.0))
    members = [*sample(0).items()]
    members += [*sample(1).items(), ("s1.mask.png", mask_bytes(5, (14, 20)))]
    members += [*sample(2).items(), ("s2.mask.npy", outside.getvalue())]
    members += [*sample(3, mask="s3.png").items(), ("s4.mask.png", mask_bytes(5)), ("s4.txt", b"no image")]
    members += [("s5.mask.png", mask_bytes(5))]
    shard(tmp_path / "train.tar", members)
    for i, split in enumerate(("val", "test")):
        shard(tmp_path / f"{split}.tar", sample(8 + i))
    source = lb.source(f"webdataset:{tmp_path}", resolution=8, max_skipped=0.9)
    assert source.keys == ["s0"]
    assert {row["key"]: row["reason"] for row in source.skipped} == {  # type: ignore[attr-defined]
        "s1": "mask of 14x20 pixels for an image of 20x14",
        "s2": "mask values outside 0 to 1",
        "s3": "a segment that is neither runs nor polygons",
        "s4": "mask without an image",
        "s5": "no image and no caption",
    }


def whole_tar(folder: Path, first: int, count: int) -> bytes:
    """A shard of pictures with captions."""
    keys = range(first, first + count)
    members = [m for i in keys for m in ((f"{i}.png", image_bytes(i)), (f"{i}.txt", f"a thing {i}".encode()))]
    return shard(folder / "whole.tar", members).read_bytes()


def listed(path: Path) -> list[str]:
    return sorted((r.key for r in registry.get("source", "webdataset")(path=str(path)).read().records), key=int)


@pytest.mark.parametrize("zeros", [0, 512, 3 << 20])
def test_archives_behind_each_other_are_one_shard(tmp_path: Path, zeros: int) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(whole_tar(tmp_path, 0, 4) + bytes(zeros) + whole_tar(tmp_path, 4, 3) + bytes(zeros))
    assert listed(path) == [str(i) for i in range(7)]
    images = lb.source(f"webdataset:{path}", resolution=8, split_by="hash")
    for split in images.splits:
        part = images.split(split)
        for key, ref in zip(part.keys, part.records, strict=True):  # type: ignore[attr-defined]
            assert ref.image.read() == image_bytes(int(key))


def test_what_is_behind_a_damaged_header_is_not_lost_without_a_word(tmp_path: Path) -> None:
    path, data = tmp_path / "a.tar", whole_tar(tmp_path, 0, 4)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        heads = [member.offset for member in tar]
    for head in heads:
        path.write_bytes(data[: head + 150] + b"7" + data[head + 151 :])  # within the checksum
        with pytest.raises(
            DataError, match=f"a damaged header at byte {head:,}" if head else "no whole, uncompressed tar"
        ):
            listed(path)
        path.write_bytes(data[: head + 300])
        with pytest.raises(DataError, match="no whole, uncompressed tar"):
            listed(path)
    path.write_bytes(data[: heads[5]])
    with pytest.warns(LimbeckWarning, match="lacks the zeros that end a tar file"):
        assert listed(path) == ["0", "1", "2"]


def test_many_members_that_could_be_the_image_are_told_in_one_line(tmp_path: Path) -> None:
    members = [(f"img.v1.{i}.png", image_bytes(i)) for i in range(30)]
    with pytest.raises(
        DataError, match=r"v1\.0\.png, .*, v1\.7\.png and 22 others of img could each be the image; choose with"
    ):
        listed(shard(tmp_path / "a.tar", members))
