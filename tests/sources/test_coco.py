"""COCO's instances: labels, masks, crowds, captions, splits, and what can be wrong with them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import limbeck as lb
from limbeck.data.contract import check_source
from limbeck.errors import ConfigError, DataError
from limbeck.sources.coco import Coco

WIDTH, HEIGHT = 20, 14  # of the images that `paint` makes
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 90, "name": "toothbrush"}]


def box(x: int, y: int, wide: int, high: int) -> list[list[float]]:
    return [[float(n) for n in (x, y, x + wide, y, x + wide, y + high, x, y + high)]]


def runs(left: int, width: int) -> dict[str, Any]:
    """Whole columns."""
    return {"size": [HEIGHT, WIDTH], "counts": [left * HEIGHT, width * HEIGHT, (WIDTH - left - width) * HEIGHT]}


def annotation(image: int, category: int, shape: Any, area: float, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "segmentation": shape, "area": area, "iscrowd": 0, **more}


def instances(numbers: list[int]) -> dict[str, Any]:
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "height": HEIGHT, "width": WIDTH} for i in numbers]
    held = []
    for i in numbers:
        held += [
            annotation(i, 18, box(4, 2, 3, 4), 12.0),
            annotation(i, 1, box(8, 3, 2 + i % 3, 5), 5.0 * (2 + i % 3)),
            annotation(i, 18, box(10, 8, 2, 2), 4.0),
        ]
    return {"images": images, "annotations": held, "categories": CATEGORIES}


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def coco(tmp_path: Path, paint: Any) -> Path:
    """Thirty training images and four validation images, as they unpack from the archives of COCO 2017."""
    for split, numbers in (("train2017", range(30)), ("val2017", range(100, 104))):
        for i in numbers:
            paint(tmp_path / split / f"{i:012d}.jpg", i)
        write(tmp_path / "annotations" / f"instances_{split}.json", instances(list(numbers)))
        said = [{"image_id": i, "caption": f"{word} {i}"} for word in ("a", "the") for i in numbers]
        write(tmp_path / "annotations" / f"captions_{split}.json", {"images": [], "annotations": said})
    return tmp_path


def test_the_published_layout(coco: Path) -> None:
    source = lb.source(f"coco:{coco}", resolution=7)
    check_source(source)
    assert list(source.modalities) == ["image", "mask", "text", "label"] and source.classes == ("dog", "person")
    held = {name: len(source.split(name)) for name in source.splits}
    assert held["test"] == 4 and held["train"] + held["val"] == 30 and 1 <= held["val"] <= 9
    test = source.split("test")
    assert test.keys[1] == "val2017/000000000101.jpg" and test.captions[1] == ("a 101", "the 101")
    assert test.labels is not None and test.labels.tolist() == [1, 1, 0, 1], "areas 12 against 15, 20, 10, 15"
    alone = lb.source(f"coco:{coco / 'annotations' / 'instances_val2017.json'}", "val", resolution=7)
    assert list(alone.keys) == list(test.keys) and alone.splits == ("val",)
    inner = lb.source(f"coco:{coco / 'annotations'}", resolution=7)
    assert inner.fingerprint == source.fingerprint and list(inner.keys) == list(source.keys)


def test_label_and_mask_are_of_the_largest_category(coco: Path) -> None:
    source = lb.source(f"coco:{coco}", "test", resolution=14)
    masks = source.batch(range(4))["mask"][:, 0]  # the columns 3 to 16 of the images
    dogs, person = torch.zeros(14, 14), torch.zeros(14, 14)
    dogs[2:6, 1:4] = dogs[8:10, 7:9] = 1
    person[3:8, 5:8] = 1
    assert torch.equal(masks[2], dogs), "both dogs, without the person"
    assert torch.equal(masks[0], person)
    every = lb.source(f"coco:{coco}", "test", resolution=14, label="none")
    check_source(every)
    assert "label" not in every.modalities and torch.equal(every.batch([0])["mask"][0, 0], torch.maximum(dogs, person))


def test_runs_crowds_and_boxes(coco: Path) -> None:
    content = instances([100, 101, 102, 103])
    content["annotations"] = [
        annotation(100, 18, runs(4, 3), 42.0),
        annotation(101, 18, runs(4, 3), 42.0, iscrowd=1),
        annotation(101, 1, box(6, 6, 2, 2), 4.0),
        annotation(102, 90, [], 4.0, bbox=[0, 0, 5, 5]),
        {k: v for k, v in annotation(102, 90, None, 0, bbox=[0, 0, 5, 5]).items() if k != "area"},
        annotation(999, 18, runs(4, 3), 42.0),
    ]
    write(coco / "annotations" / "instances_val2017.json", content)
    source = lb.source(f"coco:{coco}", "test", resolution=14)
    check_source(source)
    assert source.labels is not None and source.labels.tolist() == [0, 1, 2, -1]
    assert source.classes == ("dog", "person", "toothbrush"), "a person is no crowd of dogs"
    batch = source.batch(range(4))
    columns = torch.zeros(14, 14)
    columns[:, 1:4] = 1
    assert torch.equal(batch["mask"][0, 0], columns) and batch["mask"][1].sum() == 4
    assert batch.mask("mask").tolist() == [True, True, False, False], "a box is no mask"
    assert source.unmasked == {"no mask": 2}  # type: ignore[attr-defined]


def test_categories(coco: Path) -> None:
    content = instances([100, 101, 102, 103])
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 101 or a["category_id"] == 1]
    write(coco / "annotations" / "instances_val2017.json", content)
    source = lb.source(f"coco:{coco}", "test", resolution=8, categories="dog, toothbrush")
    check_source(source)
    assert [key[-7:] for key in source.keys] == ["100.jpg", "102.jpg", "103.jpg"] and source.classes == ("dog",)
    with pytest.raises(DataError, match="has no category cat; it has person, dog, toothbrush"):
        lb.source(f"coco:{coco}", categories="cat,dog")


def test_one_file_is_hashed(tmp_path: Path, paint: Any) -> None:
    for i in range(60):
        paint(tmp_path / "images" / f"{i:012d}.jpg", i)
    write(tmp_path / "labels.json", instances(list(range(60))))
    source = lb.source(f"coco:{tmp_path}", resolution=8)
    check_source(source)
    assert source.splits == ("train", "val", "test") and sum(len(source.split(s)) for s in source.splits) == 60
    assert "text" not in source.modalities and source.keys[0].startswith("images/")
    by_file = lb.source(f"coco:{tmp_path / 'labels.json'}", resolution=8, images="images")
    assert by_file.fingerprint == source.fingerprint == lb.source(source.describe()).fingerprint


def test_what_cannot_be_used_is_skipped_with_its_reason(coco: Path) -> None:
    content = instances([100, 101, 102, 103])
    content["images"] += [{"id": 7, "file_name": "gone.jpg"}, {"id": 8}, {**content["images"][0], "id": 9}]
    content["images"][1]["height"] = 50
    content["annotations"] += [annotation(9, 1, box(0, 0, 3, 3), 9.0)]
    content["annotations"][6]["segmentation"] = [[1, 2, 3]]  # of 102, whose dogs are the label
    write(coco / "annotations" / "instances_val2017.json", content)
    source = lb.source(f"coco:{coco}", "test", resolution=8, max_skipped=0.9)
    check_source(source)
    assert {s["key"][-7:]: s["reason"] for s in source.skipped} == {  # type: ignore[attr-defined]
        "one.jpg": "missing",
        "17/None": "no file name",
        "100.jpg": "duplicate key",
        "101.jpg": "mask of 20x50 pixels for an image of 20x14",
        "102.jpg": "a polygon that is not three or more corners",
    }
    assert [key[-7:] for key in source.keys] == ["100.jpg", "103.jpg"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "line 1: not JSON"),
        ([], "it has no list images, annotations, categories; it has none"),
        ({"images": [], "annotations": []}, "no list categories; it has images, annotations"),
        ({"images": [1], "annotations": [], "categories": []}, "images holds something that is no object"),
        ({"images": [], "annotations": [], "categories": [{"id": 1}]}, "a category without id or name"),
        ({"images": [{"id": [1]}], "annotations": [], "categories": []}, "images holds a value of id that is neither"),
    ],
)
def test_files_that_cannot_be(coco: Path, content: Any, match: str) -> None:
    write(coco / "annotations" / "instances_val2017.json", content)
    with pytest.raises(DataError, match=match):
        lb.source(f"coco:{coco}", resolution=8)


def test_folders_that_cannot_be(coco: Path, tmp_path: Path) -> None:
    write(coco / "annotations" / "captions_val2017.json", {"annotations": ["a"]})
    with pytest.raises(DataError, match="no file of COCO's captions"):
        lb.source(f"coco:{coco}", resolution=8)
    with pytest.raises(DataError, match=r"there is no folder .*pictures; check --source.images"):
        lb.source(f"coco:{coco}", images="pictures")
    with pytest.raises(
        DataError, match=r"no stuff_\*.json in .*; name the files of instances with --source.annotations"
    ):
        lb.source(f"coco:{coco}", annotations="stuff_*.json")
    for name in "ab":
        write(tmp_path / "two" / f"{name}.json", instances([]))
    with pytest.raises(DataError, match=r"several files of instances \(a.json, b.json\)"):
        lb.source(f"coco:{tmp_path / 'two'}")
    wrong = Coco()
    object.__setattr__(wrong, "label", "all")  # the constructor's types are checked while testing
    with pytest.raises(ConfigError, match="`label` of coco must be largest or none"):
        wrong.__post_init__()


def test_images_are_those_of_the_files(coco: Path) -> None:
    from limbeck.data.decode import decode_image

    source = lb.source(f"coco:{coco}", "test", resolution=8)
    data = (coco / source.keys[3]).read_bytes()
    assert np.array_equal((source.batch([3])["image"][0] * 255).round().byte().numpy(), decode_image(data, 8))
