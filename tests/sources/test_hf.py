"""Hugging Face datasets: local Parquet and image folders, columns found or named."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import limbeck as lb
from limbeck.data.contract import check_source
from limbeck.errors import ConfigError, DataError

from .conftest import image_bytes, mask_bytes

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()


def parquet(folder: Path, splits: dict[str, Any], features: Any = None) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for split, columns in splits.items():
        datasets.Dataset.from_dict(columns, features=features).to_parquet(str(folder / f"{split}-00000.parquet"))
    return f"hf:{folder}"


def columns(count: int, start: int = 0) -> dict[str, Any]:
    seeds = range(start, start + count)
    return {
        "picture": [{"bytes": image_bytes(i), "path": None} for i in seeds],
        "captions": [[f"a {i}", f"the {i}"] for i in seeds],
        "kind": [i % 2 for i in seeds],
    }


FEATURES = {
    "picture": datasets.Image(),
    "captions": datasets.Sequence(datasets.Value("string")),
    "kind": datasets.ClassLabel(names=["cat", "dog"]),
}


def test_parquet_with_declared_types(tmp_path: Path) -> None:
    splits = {"train": columns(4), "validation": columns(2, 4), "test": columns(2, 6)}
    spec = parquet(tmp_path / "data", splits, datasets.Features(FEATURES))
    source = lb.source(spec, resolution=8)
    check_source(source)
    assert source.splits == ("train", "val", "test") and source.classes == ("cat", "dog")
    assert source.captions[3] == ("a 3", "the 3") and source.keys[0] == "train/0"
    assert source.batch([3])["label"].tolist() == [1] and len(source.split("val")) == 2


def test_undeclared_bytes_and_named_columns(tmp_path: Path) -> None:
    data = {
        "jpg": [image_bytes(i) for i in range(30)],
        "en": [f"a {i}" for i in range(30)],
        "de": [f"ein {i}" for i in range(30)],
        "kind": [i % 3 for i in range(30)],
    }
    spec = parquet(tmp_path / "data", {"train": data})
    with pytest.raises(DataError, match=r"en or de could be the caption; choose with caption=. its columns: jpg"):
        lb.source(spec)
    source = lb.source(spec, caption="de", label="kind", resolution=8)
    assert source.captions[0][0].startswith("ein") and source.classes == ("0", "1", "2")
    assert sum(len(source.split(s)) for s in source.splits) == 30
    for option in ("image", "caption", "label"):
        with pytest.raises(DataError, match=f"no column 'x' for {option}=; its columns: jpg"):
            lb.source(spec, **{"caption": "de", option: "x"})


def test_image_folder(tmp_path: Path, paint: Any) -> None:
    for i in range(8):
        split, kind = ("train", "test")[i // 4], ("cat", "dog")[i % 2]
        paint(tmp_path / "data" / split / kind / f"{i}.png", i)
    source = lb.source(f"hf:{tmp_path / 'data'}", resolution=8)
    assert source.classes == ("cat", "dog") and len(source.split("test")) == 4
    folder = lb.source(f"folder:{tmp_path / 'data'}", "test", resolution=8)
    assert source.split("test").fingerprint == folder.fingerprint, "the same content by another layout"


def test_missing_values_and_broken_images(tmp_path: Path) -> None:
    data = columns(6)
    data["picture"][1] = {"bytes": b"no image", "path": None}
    data["picture"][2] = None
    data["captions"][3] = []
    data["kind"][4] = None
    splits = {"train": data, "validation": columns(1, 6), "test": columns(1, 7)}
    spec = parquet(tmp_path / "data", splits, datasets.Features(FEATURES))
    source = lb.source(spec, resolution=8, max_skipped=0.5)
    check_source(source)
    assert [row["reason"] for row in source.skipped] == ["not an image"]  # type: ignore[attr-defined]
    batch = source.batch(range(5))
    assert batch.mask("image").tolist() == [True, False, True, True, True]
    assert batch.mask("text").tolist() == [True, True, False, True, True]
    assert batch.mask("label").tolist() == [True, True, True, False, True]


def test_a_saved_distilled_set_opens(tmp_path: Path) -> None:
    problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=20))
    small = lb.distill(problem, lb.methods.Random())
    small.save(tmp_path / "set")
    source = lb.source(f"hf:{tmp_path / 'set'}", resolution=16)
    assert source.classes == small.classes and source.captions[0] in [tuple(c) for c in small.captions]


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hf needs a dataset"):
        lb.source("hf")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=r"cannot be opened by datasets\.load_dataset"):
        lb.source(f"hf:{tmp_path / 'nothing'}")
    spec = parquet(tmp_path / "words", {"train": {"text": ["a", "b"]}})
    with pytest.raises(DataError, match=r"no image column; its columns: text \(Value\)"):
        lb.source(spec)
    spec = parquet(tmp_path / "pictures", {"train": {"image": [image_bytes(0)], "size": [1.5]}})
    with pytest.raises(DataError, match="no caption or label column"):
        lb.source(spec)


def test_rows_of_one_image_are_joined_and_lie_in_one_split(tmp_path: Path) -> None:
    said = [(i, text) for text in ("a", "the", "a") for i in range(40)]
    data = {"image": [image_bytes(i) for i, _ in said], "caption": [f"{text} {i}" for i, text in said]}
    source = lb.source(parquet(tmp_path / "data", {"train": data}), resolution=8)
    check_source(source)
    parts = [source.split(name) for name in source.splits]
    digests = [sha for part in parts for sha in part.digests("image")]  # type: ignore[attr-defined]
    assert len(digests) == len(set(digests)) == 40 and len(parts) == 3
    assert all(c[0][2:] == c[1][4:] and len(c) == 2 for part in parts for c in part.captions), "in order, none twice"

    turned = {name: values[::-1] for name, values in data.items()}
    other = lb.source(parquet(tmp_path / "turned", {"train": turned}), resolution=8)
    for name in source.splits:
        a, b = source.split(name), other.split(name)
        assert set(a.digests("image")) == set(b.digests("image")), "the split follows the image, not the row"  # type: ignore[attr-defined]


def test_rows_of_one_image_with_other_labels_or_splits_are_kept(tmp_path: Path) -> None:
    image = image_bytes(0)
    rows = {"image": [image] * 3, "caption": ["a", "b", "c"], "label": [0, 1, 0]}
    other = {"image": [image], "caption": ["d"], "label": [0]}
    source = lb.source(parquet(tmp_path / "data", {"train": rows, "validation": other, "test": other}), resolution=8)
    assert source.captions == [("a", "c"), ("b",)] and source.split("test").captions == [("d",)]


def test_rows_of_one_file_are_joined(tmp_path: Path, paint: Any) -> None:
    lines = []
    for i in range(30):
        paint(tmp_path / "data" / f"{i}.png", i)
        lines += [f'{{"file_name": "{i}.png", "text": "{word} {i}"}}\n' for word in ("a", "the")]
    (tmp_path / "data" / "metadata.jsonl").write_text("".join(lines))
    source = lb.source(f"hf:{tmp_path / 'data'}", resolution=8)
    folder = lb.source(f"folder:{tmp_path / 'data'}", resolution=8)
    assert sum(len(source.split(name)) for name in source.splits) == 30 and len(source.captions[0]) == 2
    assert source.fingerprint == folder.fingerprint, "split by the path in the folder, wherever that lies"


def masked(kind: str) -> dict[str, Any]:
    """Rows with a mask each, but for the second."""
    cells: dict[str, Any] = {
        "image": [{"bytes": mask_bytes(i), "path": None} for i in range(4)],
        "segments": [{"size": [14, 20], "polygons": [[i, 3, i + 5, 3, i + 5, 11, i, 11]]} for i in range(4)],
    }
    cells["list"] = [[cell] for cell in cells["segments"]]
    cells["text"] = [json.dumps(cell) for cell in cells["segments"]]
    held = cells[kind]
    held[1] = None
    return {"image": [image_bytes(i) for i in range(4)], "caption": [f"a {i}" for i in range(4)], "mask": held}


@pytest.mark.parametrize("kind", ["image", "segments", "list", "text"])
def test_a_mask_column(tmp_path: Path, kind: str) -> None:
    data = masked(kind)
    spec = parquet(tmp_path / "data", {name: data for name in ("train", "validation", "test")})
    source = lb.source(spec, resolution=14, **({"mask": "mask"} if kind == "text" else {}))
    check_source(source)
    batch = source.batch(range(4))
    assert batch.mask("mask").tolist() == [True, False, True, True] and source.captions[3] == ("a 3",)
    for i, start in ((0, 0), (2, 0), (3, 0)):  # the crop leaves out three columns
        expected = torch.zeros(14, 14)
        expected[3:11, start : i + 2] = 1
        assert torch.equal(batch["mask"][i, 0], expected)
    assert source.unmasked == {"no mask": 1}  # type: ignore[attr-defined]


def test_a_mask_column_of_another_name_or_size(tmp_path: Path) -> None:
    data = masked("image")
    data["outline"] = data.pop("mask")
    data["outline"][2] = {"bytes": mask_bytes(5, (14, 20)), "path": None}
    spec = parquet(tmp_path / "data", {name: data for name in ("train", "validation", "test")})
    assert "mask" not in lb.source(spec, resolution=8).modalities, "the image is the column called so"
    with pytest.raises(
        DataError, match=r"mask of 14x20 pixels for an image of 20x14; the first: train/2 .*column outline, row 2"
    ):
        lb.source(spec, mask="outline", resolution=8)
    with pytest.raises(DataError, match="no column 'x' for mask=; its columns: image"):
        lb.source(spec, mask="x")
    source = lb.source(spec, mask="outline", mask_values="7", resolution=8, max_skipped=0.5)
    assert source.unmasked == {"no mask": 1, "empty mask": 2}  # type: ignore[attr-defined]


def test_objects_of_one_image_stay_apart(tmp_path: Path) -> None:
    data = {"image": [image_bytes(0)] * 3, "caption": ["a", "b", "c"], "mask": [mask_bytes(i) for i in (5, 9, 5)]}
    source = lb.source(parquet(tmp_path / "data", {n: data for n in ("train", "validation", "test")}), resolution=8)
    assert source.captions == [("a", "c"), ("b",)]


def test_what_datasets_hides_behind_its_error_is_told(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"image": pa.array([], pa.binary()), "caption": pa.array([], pa.string())}), tmp_path / "a.parquet"
    )
    with pytest.raises(DataError) as caught:
        lb.source(f"hf:{tmp_path}")
    assert "An error occurred while generating" not in str(caught.value)
