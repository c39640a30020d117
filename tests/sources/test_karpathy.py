"""Karpathy's JSON, BLIP's lists, plain lists, and what can be wrong with them."""

import json
from pathlib import Path
from typing import Any

import pytest

import limbeck as lb
from limbeck.data.contract import check_source
from limbeck.errors import ConfigError, DataError

from .conftest import mask_bytes


def plain(folder: Path, rows: Any, name: str = "captions.json") -> str:
    (folder / name).write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return f"karpathy:{folder}"


def test_karpathy_json(flickr: Path) -> None:
    source = lb.source(f"karpathy:{flickr}", resolution=8)
    check_source(source)
    assert source.splits == ("train", "val", "test") and source.keys == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert source.captions[2] == ("a 2", "the 2") and source.labels is None
    assert source.split("val").keys == ["4.jpg", "5.jpg"]
    by_file = lb.source(f"karpathy:{flickr / 'dataset.json'}", "val", resolution=8)
    assert by_file.fingerprint == source.split("val").fingerprint != source.fingerprint


def test_describe_opens_it_again(flickr: Path) -> None:
    source = lb.source(f"karpathy:{flickr}", "test", resolution=8)
    assert lb.source(source.describe()).fingerprint == source.fingerprint
    assert lb.source(source.describe(), "val").fingerprint == source.split("val").fingerprint


def test_coco_filepath_and_restval(tmp_path: Path, paint: Any) -> None:
    rows = []
    for i, (split, part) in enumerate(
        [("train", "train2014"), ("restval", "val2014"), ("val", "val2014"), ("test", "val2014")]
    ):
        paint(tmp_path / "images" / part / f"{i}.jpg", i)
        rows.append({"filename": f"{i}.jpg", "filepath": part, "split": split, "sentences": [{"raw": "x"}]})
    source = lb.source(plain(tmp_path, {"images": rows}), resolution=8)
    assert source.keys == ["train2014/0.jpg", "val2014/1.jpg"] and source.splits == ("train", "val", "test")


def test_blip_lists(tmp_path: Path, paint: Any) -> None:
    for i in range(4):
        paint(tmp_path / f"pictures/{i}.jpg", i)
    train = [{"image": f"{i}.jpg", "caption": f"{w} {i}", "image_id": str(i)} for i in (0, 1) for w in ("a", "the")]
    plain(tmp_path, train, "flickr30k_train.json")
    plain(tmp_path, [{"image": "2.jpg", "caption": ["a 2", "the 2"]}], "flickr30k_val.json")
    plain(tmp_path, [{"image": "3.jpg", "caption": ["a 3"]}], "flickr30k_test.json")
    source = lb.source(f"karpathy:{tmp_path}", images="pictures", resolution=8)
    assert list(source.captions) == [("a 0", "the 0"), ("a 1", "the 1")]
    assert source.split("val").captions == [("a 2", "the 2")] and source.split("test").keys == ["3.jpg"]


def test_plain_list_without_splits_is_hashed(tmp_path: Path, paint: Any) -> None:
    rows = [{"file": paint(tmp_path / f"{i}.jpg", i).name, "captions": ["x"]} for i in range(60)]
    source = lb.source(plain(tmp_path, rows), resolution=8)
    assert set(source.splits) == {"train", "val", "test"} and sum(len(source.split(s)) for s in source.splits) == 60


def test_bad_entries_are_skipped_with_reason_and_place(flickr: Path) -> None:
    data = json.loads((flickr / "dataset.json").read_text())
    data["images"] += [
        {"filename": "gone.jpg", "split": "train", "sentences": [{"raw": "x"}]},
        {"filename": "../../secret.jpg", "split": "train", "sentences": [{"raw": "x"}]},
        {"filename": "0.jpg", "split": "train", "sentences": [{"raw": "again"}]},
        {"filename": "1.jpg", "split": "val", "sentences": [{"raw": "leaked"}]},
        {"filename": "2.jpg", "split": "train", "sentences": [{"raw": 7}]},
        {"filename": "2.jpg", "split": 4, "sentences": []},
        {"split": "train"},
        "words",
    ]
    (flickr / "dataset.json").write_text(json.dumps(data))
    source = lb.source(f"karpathy:{flickr}", resolution=8, max_skipped=0.9)
    found = {
        row["reason"]: row["where"].rsplit(" ", 1)[-1] for row in source.skipped if row["reason"] != "duplicate key"
    }  # type: ignore[attr-defined]
    assert found == {
        "missing": "8",
        f"leads out of {flickr / 'images'}": "9",
        "caption is not text": "12",
        "split is not a name": "13",
        "no file name": "14",
        "not an object": "15",
    }
    assert len(source) == 4 and source.captions[0] == ("a 0", "the 0", "again"), "rows of one image are joined"
    assert [row["reason"] for row in source.split("val").skipped if row["key"] == "1.jpg"] == ["duplicate key"]  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"records \(.*max_skipped"):
        lb.source(f"karpathy:{flickr}", resolution=8)


def test_sample_without_captions_is_kept_and_masked(flickr: Path) -> None:
    data = json.loads((flickr / "dataset.json").read_text())
    data["images"][1]["sentences"] = []
    (flickr / "dataset.json").write_text(json.dumps(data))
    source = lb.source(f"karpathy:{flickr}", resolution=8)
    check_source(source)
    assert source.batch([0, 1]).mask("text").tolist() == [True, False]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [\n{"filename": "a.jpg"},\n{"filename" }]}', "line 3: not JSON"),
        ('{"pictures": []}', "expected a list of images"),
        ("[]", "is empty: it has not one sample"),
        ('[{"file": "a.png", "file": "b.png", "captions": ["x"]}]', "the key 'file' with two values; leave one"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_unusable_json(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        lb.source(plain(tmp_path, content))


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "captions.json").write_bytes(b'[{"file": "a.jpg", "captions": ["caf\xe9"]}]')
    with pytest.raises(DataError, match=r"not UTF-8 \(byte 36\)"):
        lb.source(f"karpathy:{tmp_path}")


def test_missing_things(tmp_path: Path, flickr: Path) -> None:
    with pytest.raises(DataError, match=r"there is no .*nowhere; check the path"):
        lb.source(f"karpathy:{tmp_path / 'nowhere'}")
    with pytest.raises(ConfigError, match="needs a path"):
        lb.source("karpathy")
    with pytest.raises(DataError, match=r"no other.json .* annotations="):
        lb.source(f"karpathy:{flickr}", annotations="other.json")
    with pytest.raises(DataError, match=r"no folder .* images="):
        lb.source(f"karpathy:{flickr}", images="photos")
    (flickr / "more.json").write_text("[]")
    with pytest.raises(DataError, match=r"several JSON files \(dataset.json, more.json\)"):
        lb.source(f"karpathy:{flickr}")
    assert len(lb.source(f"karpathy:{flickr}", annotations="dataset.json", resolution=8)) == 4


def test_no_captions_at_all(flickr: Path) -> None:
    data = json.loads((flickr / "dataset.json").read_text())
    for row in data["images"]:
        row["sentences"] = [{"raw": "  "}]
    (flickr / "dataset.json").write_text(json.dumps(data))
    with pytest.raises(DataError, match="none of the 8 images has a caption"):
        lb.source(f"karpathy:{flickr}")


def test_masks_lie_in_a_folder_of_their_own(flickr: Path) -> None:
    for i in range(3):
        path = flickr / "masks" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(mask_bytes(5))
    assert "mask" not in lb.source(f"karpathy:{flickr}", resolution=14).modalities, "nobody asked for them"
    source = lb.source(f"karpathy:{flickr}", resolution=14, masks="masks")
    check_source(source)
    batch = source.batch(range(4))
    assert batch.mask("mask").tolist() == [True, True, True, False] and source.unmasked == {"no mask": 1}  # type: ignore[attr-defined]
    assert batch["mask"][0, 0, 3:11, 2:7].min() == 1 and batch["mask"][0].sum() == 40
    none = lb.source(f"karpathy:{flickr}", resolution=14, masks="masks", mask_values="7")
    assert none.unmasked == {"no mask": 1, "empty mask": 3}  # type: ignore[attr-defined]
    with pytest.raises(
        DataError, match=r"none of the 8 images has a mask in .*elsewhere, where that of 0.jpg would be 0.png"
    ):
        lb.source(f"karpathy:{flickr}", masks="elsewhere")
    (flickr / "masks" / "1.png").write_bytes(mask_bytes(5, (14, 20)))
    with pytest.raises(DataError, match="mask of 14x20 pixels for an image of 20x14"):
        lb.source(f"karpathy:{flickr}", resolution=14, masks="masks")
