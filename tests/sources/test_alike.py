"""All sources understand the same: one table of values gives one listing, whichever of them reads it."""

import json
from pathlib import Path
from typing import Any

import pytest

import limbeck as lb
from limbeck import registry
from limbeck.data.layout import Listing
from limbeck.errors import DataError
from tiers import slow_but

from .written import SPLITS, TEXT, TYPED, Rows, karpathy, manifest_csv, manifest_jsonl

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf"))
    datasets.disable_progress_bars()


def with_splits(rows: list[dict[str, Any]], column: str = "split") -> Rows:
    return [{**row, column: split} for row, split in zip(rows, SPLITS, strict=True)]


def read(spec: str, **options: Any) -> Listing:
    """What the source lists; no image is decoded."""
    name, path = registry.parse_spec(spec)
    found: Listing = registry.get("source", name)(path=path, **options).read()
    assert not found.skipped
    return found


def listing(spec: str, **options: Any) -> dict[str, list[tuple[tuple[str, ...], str | None]]]:
    """Split to captions and the name of the class of each sample."""
    found = read(spec, **options)
    rows = [(r.split, (r.captions, None if r.label is None else found.classes[r.label])) for r in found.records]
    return {split: [row for of, row in rows if of == split] for split in found.splits}


def expected(captions: list[tuple[str, ...]], kinds: list[str | None]) -> dict[str, list[Any]]:
    rows = list(zip(captions, kinds, strict=True))
    return {"train": rows[:3], "val": rows[3:4], "test": rows[4:]}


ONE = [(f"picture {i}",) for i in range(6)]
TWO = [(f"picture {i}", f"number {i}") for i in range(6)]
NONE: list[tuple[str, ...]] = [()] * 6
NO_KIND: list[str | None] = [None] * 6

# name: the cells of each row, the captions and the classes that they are, and whether a table of text can hold them
CASES: dict[str, tuple[list[dict[str, Any]], list[tuple[str, ...]], list[str | None], bool]] = {
    "one caption": ([{" Caption": f" picture  {i}"} for i in range(6)], ONE, NO_KIND, True),
    "title": ([{"TITLE": f"picture {i}"} for i in range(6)], ONE, NO_KIND, True),
    "numbered": ([{"caption_1": f"number {i}", "caption_0": f"picture {i}"} for i in range(6)], TWO, NO_KIND, True),
    "two columns": ([{"caption": f"picture {i}", "captions": f"number {i}"} for i in range(6)], TWO, NO_KIND, True),
    "list": ([{"captions": [f"picture {i}", f"number {i}"]} for i in range(6)], TWO, NO_KIND, True),
    "list as text": ([{"text": str([f"picture {i}", f"number {i}"])} for i in range(6)], TWO, NO_KIND, True),
    "struct": ([{"sentences": {"raw": f"picture {i}", "tokens": ["a"]}} for i in range(6)], ONE, NO_KIND, False),
    "structs": (
        [{"sentences": [{"raw": f"picture {i}"}, {"raw": f"number {i}"}]} for i in range(6)],
        TWO,
        NO_KIND,
        False,
    ),
    "names": ([{"Label": "ab"[i % 2]} for i in range(6)], NONE, ["a", "b"] * 3, True),
    "names beside captions": (
        [{"label": "ab"[i % 2], "caption": f"picture {i}"} for i in range(6)],
        ONE,
        ["a", "b"] * 3,
        True,
    ),
    "numbers with names": (
        [{"label": i % 2, "class": ["zebra", "ant"][i % 2]} for i in range(6)],
        NONE,
        ["zebra", "ant"] * 3,
        True,
    ),
    "target and category": (
        [{"target": i % 2, "category": ["zebra", "ant"][i % 2]} for i in range(6)],
        NONE,
        ["zebra", "ant"] * 3,
        True,
    ),
    "floats": ([{"label": [2.0, 10.0][i % 2]} for i in range(6)], NONE, ["2", "10"] * 3, True),
    "minus one": ([{"label": [0, 1, -1][i % 3]} for i in range(6)], NONE, ["0", "1", None] * 2, True),
    "zeros in front": ([{"label": ["007", "10"][i % 2]} for i in range(6)], NONE, ["007", "10"] * 3, True),
    "signs and words": ([{"label": ["7", "A"][i % 2]} for i in range(6)], NONE, ["7", "A"] * 3, True),
    "truth": ([{"label": i % 2 == 0} for i in range(6)], NONE, ["True", "False"] * 3, True),
    "missing": (
        [{"label": "a" if i % 2 else None, "text": f"picture {i}"} for i in range(6)],
        ONE,
        [None, "a"] * 3,
        True,
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("source", [*TYPED, *TEXT])
def test_one_table_of_values(tmp_path: Path, source: str, case: str) -> None:
    rows, captions, kinds, as_text = CASES[case]
    if source in TEXT and not as_text:
        pytest.skip("a table of text holds no structs")
    spec = {**TYPED, **TEXT}[source](tmp_path, with_splits(rows))
    assert listing(spec) == expected(captions, kinds)


@pytest.mark.parametrize("case", [c for c in CASES if CASES[c][1] is not NONE])
def test_captions_of_karpathy(tmp_path: Path, case: str) -> None:
    rows, captions, _, _ = CASES[case]
    assert listing(karpathy(tmp_path, with_splits(rows))) == expected(captions, NO_KIND)


@pytest.mark.parametrize("source", [*TYPED, *TEXT])
@pytest.mark.parametrize("column", slow_but(["Split", "set", "partition"], "Split"))
def test_a_column_of_splits(tmp_path: Path, source: str, column: str) -> None:
    spec = {**TYPED, **TEXT}[source](tmp_path, with_splits([{"caption": text} for (text,) in ONE], column))
    assert {name: len(rows) for name, rows in listing(spec).items()} == {"train": 3, "val": 1, "test": 2}
    assert read(spec).split_by == f"{'field' if source == 'webdataset' else 'column'} {column!r}"
    assert read(spec, split_by="hash").split_by == "hash"


@pytest.mark.parametrize("source", [*TYPED, *TEXT])
def test_what_is_not_read_is_counted(tmp_path: Path, source: str) -> None:
    rows = [{"caption": text, "views": i, "rating": "x" if i else None} for i, (text,) in enumerate(ONE)]
    spec = {**TYPED, **TEXT}[source](tmp_path, with_splits(rows))
    kind = "fields" if source == "webdataset" else "columns"
    found = read(spec).unread[kind]
    assert found["views"] == 6 and "rating" in found and "caption" not in found
    assert read(spec, ignore="views, rating").unread == {}
    assert lb.source(spec, resolution=8).unread[kind] == found  # type: ignore[attr-defined]


@pytest.mark.parametrize("source", [*TYPED, *TEXT])
def test_two_columns_that_could_be_the_label(tmp_path: Path, source: str) -> None:
    rows = [{"caption": text, "label": "ab"[i % 2], "Label": "ba"[i % 2]} for i, (text,) in enumerate(ONE)]
    spec = {**TYPED, **TEXT}[source](tmp_path, with_splits(rows))
    with pytest.raises(DataError, match=r"(?i)'label' or 'label' could be the label; choose with --source.label"):
        lb.source(spec)
    assert [kind for _, kind in listing(spec, label="Label")["train"]] == ["b", "a", "b"]


@pytest.mark.parametrize("source", [s for s in TYPED if s != "webdataset"] + [*TEXT])
def test_texts_under_an_unknown_name_are_not_lost(tmp_path: Path, source: str) -> None:
    rows = [{"beschreibung": f"ein Bild, Nummer {i}", "label": "ab"[i % 2]} for i in range(6)]
    spec = {**TYPED, **TEXT}[source](tmp_path, with_splits(rows))
    if source == "hf":  # the one text column, whatever its name
        assert listing(spec)["val"] == [(("ein Bild, Nummer 3",), "b")]
        return
    with pytest.raises(DataError, match=r"6 columns 'beschreibung' hold texts, which would be lost"):
        lb.source(spec)
    assert listing(spec, caption="beschreibung")["val"] == [(("ein Bild, Nummer 3",), "b")]
    assert listing(spec, ignore="beschreibung")["val"] == [((), "b")]


@pytest.mark.parametrize("write", [manifest_csv, manifest_jsonl])
def test_images_under_an_unknown_name_are_not_lost(tmp_path: Path, write: Any) -> None:
    spec = write(tmp_path, with_splits([{"caption": text} for (text,) in ONE]))
    path = Path(spec.partition(":")[2])
    path.write_text(path.read_text().replace(" img_path", "left eye").replace('"Image"', '"left eye"'))
    with pytest.raises(DataError, match=r"6 columns 'left eye' hold images.* name it with --source.image 'left eye'"):
        lb.source(spec)
    assert "image" in lb.source(spec, resolution=8, image="left eye").modalities


def test_labels_that_are_minus_one_and_one(tmp_path: Path) -> None:
    spec = manifest_jsonl(tmp_path, with_splits([{"label": [-1, 1][i % 2]} for i in range(6)]))
    with pytest.raises(DataError, match="labels are -1 and 1, and -1 stands for no label"):
        lb.source(spec)


def test_names_of_classes_that_do_not_belong_to_one_number(tmp_path: Path) -> None:
    rows = [{"label": i % 3, "class": ["animal", "animal", "plant"][i % 3]} for i in range(6)]
    found = listing(manifest_jsonl(tmp_path, with_splits(rows)))
    assert [kind for _, kind in found["train"]] == ["0", "1", "2"], "a coarser class names no number"


def test_a_number_among_names_is_told(tmp_path: Path) -> None:
    spec = manifest_jsonl(tmp_path, with_splits([{"label": "a" if i else 3} for i in range(6)]))
    with pytest.raises(DataError, match="got the number 3 and the name 'a'"):
        lb.source(spec)


def test_rows_without_captions_among_others(tmp_path: Path) -> None:
    rows = with_splits([{"caption": json.loads(cell)} for cell in ('"a"', "null", "[]", '""', '["b", null]', "null")])
    assert [said for part in listing(manifest_jsonl(tmp_path, rows)).values() for said, _ in part] == [
        ("a",),
        (),
        (),
        (),
        ("b",),
        (),
    ]
