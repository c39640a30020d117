"""Masks of manifests and folders: files, runs, polygons, trimaps; other sizes, empty ones, values that cannot be."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import limbeck as lb
from limbeck.cli import main
from limbeck.commands._open import report_skipped
from limbeck.data.contract import check_source
from limbeck.data.decode import decode_image
from limbeck.errors import ConfigError, DataError

WIDTH, HEIGHT, SPLITS = 20, 14, ["train"] * 6 + ["validation", "test"]  # of the images that `paint` makes
CORNERS = (4, 3, 12, 11)  # left, top, right, bottom of the object


def block(value: int = 255) -> Any:
    left, top, right, bottom = CORNERS
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[top:bottom, left:right] = value
    return mask


def polygon() -> dict[str, Any]:
    left, top, right, bottom = CORNERS
    return {"size": [HEIGHT, WIDTH], "polygons": [[left, top, right, top, right, bottom, left, bottom]]}


def runs() -> dict[str, Any]:
    left, top, right, bottom = CORNERS
    high = bottom - top
    between = [high, HEIGHT - high] * (right - left)
    rest = HEIGHT * WIDTH - left * HEIGHT - top - sum(between[:-1])
    return {"size": [HEIGHT, WIDTH], "counts": [left * HEIGHT + top, *between[:-1], rest]}


@pytest.fixture
def pets(tmp_path: Path, paint: Any) -> Path:
    """Eight images with a mask of one block each."""
    (tmp_path / "masks").mkdir()
    for i in range(8):
        paint(tmp_path / f"{i}.png", i)
        Image.fromarray(block()).save(tmp_path / "masks" / f"{i}.png")
    return tmp_path


def rows(**more: Any) -> list[dict[str, Any]]:
    return [
        {"image": f"{i}.png", "mask": f"masks/{i}.png", "label": ("cat", "dog")[i % 2], "split": split, **more}
        for i, split in enumerate(SPLITS)
    ]


def manifest(folder: Path, data: list[dict[str, Any]], name: str = "all.jsonl") -> str:
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in data))
    elif name.endswith(".csv"):
        lines = [",".join('"{}"'.format(str(cell).replace('"', '""')) for cell in row.values()) for row in data]
        path.write_text("\n".join([",".join(data[0]), *lines]) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist(data), path)
    return f"manifest:{path}"


def expected() -> torch.Tensor:
    whole = np.repeat(block()[..., None], 3, axis=-1)
    fitted = Image.fromarray(whole[:, 3:17, 0]).resize((7, 7), Image.Resampling.BOX)  # the centre, halved
    return torch.from_numpy(np.array(fitted)).float() / 255


@pytest.mark.parametrize("name", ["all.jsonl", "all.csv", "all.parquet"])
@pytest.mark.parametrize("kind", ["file", "runs", "polygons"])
def test_manifest(pets: Path, name: str, kind: str) -> None:
    cell: Any = {"runs": runs(), "polygons": polygon()}.get(kind)
    cell = json.dumps(cell) if cell and name == "all.csv" else cell
    source = lb.source(manifest(pets, rows(**({"mask": cell} if cell else {})), name), resolution=7)
    check_source(source)
    assert list(source.modalities) == ["image", "mask", "label"] and source.keys[2] == "2.png"
    batch = source.batch([0, 5])
    assert torch.allclose(batch["mask"][:, 0], expected().expand(2, 7, 7), atol=0.003)
    assert batch.mask("mask").tolist() == [True, True] and source.unmasked == {}  # type: ignore[attr-defined]


def test_bytes_in_parquet(pets: Path) -> None:
    data = rows()
    held = [{**row, "mask": (pets / row["mask"]).read_bytes()} for row in data]
    more = [{**row, "mask": {"bytes": (pets / row["mask"]).read_bytes(), "path": None}} for row in data]
    prints = {
        lb.source(manifest(pets, d, f"{i}.parquet"), resolution=8).fingerprint for i, d in enumerate((held, more))
    }
    assert prints == {lb.source(manifest(pets, data), resolution=8).fingerprint}


def test_the_mask_lies_upon_its_image(pets: Path) -> None:
    for i in range(8):
        Image.fromarray(block()).convert("RGB").save(pets / f"{i}.png")
    batch = lb.source(manifest(pets, rows()), resolution=14).batch(range(6))
    assert torch.equal(batch["image"][:, :1].round(), batch["mask"].round()) and 0.2 < batch["mask"].mean() < 0.5


def test_pets_trimaps(pets: Path) -> None:
    for i in range(8):
        trimap = np.where(block() > 0, 1, 2).astype(np.uint8)
        trimap[2] = 3
        Image.fromarray(trimap).save(pets / "masks" / f"{i}.png")
    spec = manifest(pets, rows())
    source = lb.source(spec, resolution=14, mask_values="trimap")
    check_source(source)
    mask = source.batch([0])["mask"][0, 0]
    assert mask[2].unique().tolist() == pytest.approx([128 / 255]) and mask[4, 1:9].min() == 1 and mask[0].max() == 0
    assert source.fingerprint != lb.source(spec, resolution=14).fingerprint
    assert lb.source(spec, resolution=14, mask_values="1,3").batch([0])["mask"][0, 0, 2].min() == 1
    with pytest.raises(ConfigError, match="mask_values is auto, soft, nonzero, trimap"):
        lb.source(spec, mask_values="pet")


def test_a_mask_of_another_size_is_skipped_with_both_sizes(pets: Path) -> None:
    Image.fromarray(block().T).save(pets / "masks" / "1.png")
    data = rows()
    data[3]["mask"] = {**runs(), "size": [WIDTH, HEIGHT]}
    spec = manifest(pets, data)
    with pytest.raises(DataError, match="mask of 14x20 pixels for an image of 20x14"):
        lb.source(spec, resolution=8)
    source = lb.source(spec, resolution=8, max_skipped=0.5)
    check_source(source)
    reason = "mask of 14x20 pixels for an image of 20x14"
    assert [(s["key"], s["reason"]) for s in source.skipped] == [("1.png", reason), ("3.png", reason)]  # type: ignore[attr-defined]
    assert source.keys == ["0.png", "2.png", "4.png", "5.png"]
    same = torch.allclose(source.batch([1])["mask"], lb.source(spec, "test", resolution=8).batch([0])["mask"])
    assert same, "rows of the stores still belong together"
    Image.fromarray(block()).save(pets / "masks" / "1.png")
    assert "1.png" in lb.source(spec, resolution=8, max_skipped=0.5).keys, "a mended mask is read again"
    Image.new("RGB", (9, 9)).save(pets / "0.png")
    assert "0.png" not in lb.source(spec, resolution=8, max_skipped=0.5).keys, "so is an image that changes"


def test_an_empty_mask_is_one_of_everything_and_counted(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(block(0)).save(pets / "masks" / "0.png")
    beyond = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    beyond[:, :2] = 255  # which the crop leaves out
    Image.fromarray(beyond).save(pets / "masks" / "1.png")
    data = rows()
    data[4]["mask"] = None
    source = lb.source(manifest(pets, data), resolution=8)
    check_source(source)
    batch = source.batch(range(6))
    assert batch["mask"].flatten(1).amin(dim=1).tolist() == [1, 1, 0, 0, 1, 0]
    assert batch.mask("mask").tolist() == [True, True, True, True, False, True]
    assert source.unmasked == {"no mask": 1, "empty mask": 2} and not source.skipped  # type: ignore[attr-defined]
    assert source.split("test").unmasked == {}  # type: ignore[attr-defined]
    report_skipped(source)
    said = capsys.readouterr().err
    assert "of the 6 samples of" in said and "1 with no mask and 2 with empty mask count as object everywhere" in said


def test_without_masks_there_is_no_modality(pets: Path) -> None:
    data = [{k: v for k, v in row.items() if k != "mask"} for row in rows()]
    source = lb.source(manifest(pets, data), resolution=8)
    assert "mask" not in source.modalities and source.unmasked == {}  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="no filled column 'outline'"):
        lb.source(manifest(pets, data), mask="outline")


def test_what_cannot_be_used_is_skipped_with_its_reason(pets: Path) -> None:
    np.save(pets / "outside.npy", 2.0 * (block() > 0))
    (pets / "broken.png").write_bytes(b"no mask")
    Image.new("RGB", (WIDTH, HEIGHT), (200, 10, 10)).save(pets / "colours.png")
    cells = ["outside.npy", "broken.png", "colours.png", "gone.png", '{"size": [14, 20]}', ["a.png", "b.png"]]
    data = [{**row, "mask": cell} for row, cell in zip(rows(), cells, strict=False)] + rows()[6:]
    data += [{"mask": "masks/0.png", "caption": "no image", "split": "train"}, {**rows()[0], "key": "whole"}]
    source = lb.source(manifest(pets, data), resolution=8, max_skipped=0.99)
    broken = "a segment that is neither runs nor polygons"
    assert {s["key"]: s["reason"] for s in source.skipped} == {  # type: ignore[attr-defined]
        "row 3": "missing",
        "row 4": broken,
        "row 5": broken,
        "row 8": "mask without an image",
        "0.png": "mask values outside 0 to 1",
        "1.png": "not an image",
        "2.png": "colours, not a mask",
    }
    assert source.keys == ["whole"]


def test_many_reasons_are_not_all_told(tmp_path: Path, paint: Any, capsys: pytest.CaptureFixture[str]) -> None:
    data = []
    for i in range(20):
        paint(tmp_path / f"{i}.png", i)
        data.append({"image": f"{i}.png", "mask": {"size": [i + 1, 30], "counts": [30 * (i + 1)]}, "split": "train"})
    whole = [{"image": "0.png", "key": f"whole {split}", "split": split} for split in ("train", "val", "test")]
    spec = manifest(tmp_path, [*data, *whole])
    with pytest.raises(DataError, match=r"of 30x5 pixels for an image of 20x14, 15 others; the first"):
        lb.source(spec, resolution=8)
    report_skipped(lb.source(spec, resolution=8, max_skipped=1.0))
    assert "20 records" in (said := capsys.readouterr().err) and said.count("pixels") == 5 and "15 others" in said


@pytest.mark.parametrize("column", ["mask", "mask_file_name"])
def test_folder(pets: Path, column: str) -> None:
    table = [
        {"file_name": row["image"], column: row["mask"], "text": "a pet", "label": row["label"], "split": row["split"]}
        for row in rows()
    ]
    del table[2][column]
    table.append({**table[0], "text": "the same"})
    (pets / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    source = lb.source(f"folder:{pets}", resolution=7)
    check_source(source)
    assert list(source.modalities) == ["image", "mask", "text", "label"] and source.captions[0] == ("a pet", "the same")
    batch = source.batch([0, 2])
    assert torch.allclose(batch["mask"][0, 0], expected(), atol=0.003) and batch["mask"][1].min() == 1
    assert batch.mask("mask").tolist() == [True, False] and source.unmasked == {"no mask": 1}  # type: ignore[attr-defined]
    assert np.array_equal(
        (batch["image"][0] * 255).round().byte().numpy(), decode_image((pets / "0.png").read_bytes(), 7)
    )
    nothing = lb.source(f"folder:{pets}", resolution=7, mask_values="7")
    assert nothing.unmasked == {"no mask": 1, "empty mask": 5}  # type: ignore[attr-defined]
    table.append({**table[1], column: table[3][column], "text": "another object"})
    (pets / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    with pytest.raises(DataError, match=r"1 duplicate key; the first: 1\.png"):
        lb.source(f"folder:{pets}", resolution=7)
    (pets / "metadata.jsonl").write_text(json.dumps({**table[0], column: "../x.png"}) + "\n")
    with pytest.raises(DataError, match="leads out of"):
        lb.source(f"folder:{pets}", resolution=7)


def test_the_command_line_counts_masks_and_misses_no_encoder(pets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = rows()
    data[0]["mask"] = None
    words = ["doctor", manifest(pets, data), "--source.resolution", "8", "--space.image", "convnet", "--pairs", "2"]
    assert main([*words, "--method", "random", "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["splits"]["train"]["object everywhere"] == {"no mask": 1} and "left out" not in said.err
    assert list(found["shared files"]) == ["image"], "two masks may have one outline"
    assert any("train: 1 samples have no mask, or an empty one" in line for line in found["advice"])
