"""Image folders: tables, class folders, split folders, and what can be wrong with them."""

import json
from pathlib import Path
from typing import Any

import pytest

import limbeck as lb
from limbeck.data.contract import check_source
from limbeck.errors import DataError


def reasons(source: Any) -> list[str]:
    return [row["reason"] for row in source.skipped]


def table(folder: Path, paint: Any, rows: list[dict[str, Any]]) -> str:
    for i, row in enumerate(rows):
        paint(folder / row["file_name"], i)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"folder:{folder}"


def rows(count: int = 6, **more: Any) -> list[dict[str, Any]]:
    splits = ["train"] * (count - 2) + ["validation", "test"]
    return [{"file_name": f"{i}.png", "text": f"a {i}", "split": s, **more} for i, s in enumerate(splits)]


def test_jsonl(tmp_path: Path, paint: Any) -> None:
    data = rows()
    data[0] |= {"text": ["one", "two"], "label": "dog"}
    data[1] |= {"text": None, "label": "cat"}
    source = lb.source(table(tmp_path, paint, data), resolution=8)
    check_source(source)
    assert source.splits == ("train", "val", "test") and source.classes == ("cat", "dog")
    assert source.captions[:3] == [("one", "two"), (), ("a 2",)]
    assert source.labels is not None and source.labels.tolist() == [1, 0, -1, -1]
    assert source.batch([0, 1]).mask("text").tolist() == [True, False]
    assert "label" not in source.split("val").modalities and source.split("val").classes == ()


def test_csv_with_quoted_line_breaks_and_named_columns(tmp_path: Path, paint: Any) -> None:
    for i in range(3):
        paint(tmp_path / f"{i}.png", i)
    lines = ["file_name,words,kind,split", '0.png,"a, b\nc",7,train', "1.png,d,2,train", "2.png,e,7,test"]
    (tmp_path / "metadata.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    source = lb.source(f"folder:{tmp_path}", caption="words", label="kind", resolution=8)
    check_source(source)
    assert source.captions[0] == ("a, b c",) and source.labels is not None
    assert source.labels.tolist() == [7, 2] and source.classes[7] == "7"
    with pytest.raises(DataError, match="no filled column 'wrods'; it has file_name, kind, split, words"):
        lb.source(f"folder:{tmp_path}", caption="wrods")


def test_csv_without_file_names(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("what,text\na.png,x\n")
    with pytest.raises(DataError, match="no column 'file_name'; it has what, text"):
        lb.source(f"folder:{tmp_path}")


def test_class_folders_with_splits(tmp_path: Path, paint: Any) -> None:
    for i, name in enumerate(["train/cat/a", "train/dog/deep/b", "validation/dog/c", "test/cat/d"]):
        paint(tmp_path / f"{name}.png", i)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    source = lb.source(f"folder:{tmp_path}", resolution=8)
    check_source(source)
    assert source.keys == ["train/cat/a.png", "train/dog/deep/b.png"] and source.classes == ("cat", "dog")
    assert source.split("val").batch([0])["label"].tolist() == [1] and list(source.modalities) == ["image", "label"]


def test_class_folders_without_splits_are_hashed(tmp_path: Path, paint: Any) -> None:
    for i in range(60):
        paint(tmp_path / ("cat" if i % 2 else "dog") / f"{i}.png", i)
    source = lb.source(f"folder:{tmp_path}", resolution=8)
    assert source.splits == ("train", "val", "test") and sum(len(source.split(s)) for s in source.splits) == 60


def test_a_table_in_each_split_folder(tmp_path: Path, paint: Any) -> None:
    for split in ("train", "test"):
        table(tmp_path / split, paint, [{"file_name": f"{i}.png", "text": f"{split} {i}"} for i in range(30)])
    source = lb.source(f"folder:{tmp_path}", resolution=8)
    assert source.keys[0].startswith("train/") and source.captions[0][0].startswith("train")
    assert source.splits == ("train", "val", "test") and len(source.split("test")) == 30
    assert 0 < len(source.split("val")) < 10, "a tenth of train becomes val"


def test_bad_rows_are_skipped_with_their_line(tmp_path: Path, paint: Any) -> None:
    spec = table(tmp_path, paint, rows(10))
    bad = [
        b'{"file_name": "0.png", "text": "again", "label": "cat", "split": "train"}',
        b'{"file_name": "gone.png", "text": "x", "split": "train"}',
        b'{"file_name": "/etc/x.png", "text": "x", "split": "train"}',
        b'{"file_name": "1.png", "text": "x"',
        b'{"file_name": "1.png", "text": "caf\xe9"}',
        b'{"file_name": "1.png", "text": 5}',
        b'{"file_name": "1.png", "label": [5]}',
        b'"words"',
        b'{"text": "x"}',
    ]
    with (tmp_path / "metadata.jsonl").open("ab") as file:
        file.write(b"\n".join(bad) + b"\n\n")
    source = lb.source(spec, resolution=8, max_skipped=0.7)
    assert sorted(reasons(source)) == sorted(
        [
            "duplicate key",
            "missing",
            f"an absolute path outside {tmp_path}: say where files may lie with --source.files FOLDER, such as .. (in Python files=)",
            "not JSON",
            "not UTF-8",
            "caption is not text",
            "label is neither a name nor a whole number",
            "not an object",
            "no file name",
        ]
    )
    assert source.skipped[0]["where"].endswith("metadata.jsonl, line 12")  # type: ignore[attr-defined]
    assert len(source) == 8 and source.captions[0] == ("a 0",)
    with pytest.raises(DataError, match="max_skipped"):
        lb.source(spec, resolution=8)


def test_rows_of_one_image_are_joined(tmp_path: Path, paint: Any) -> None:
    spec = table(tmp_path, paint, rows(10))
    with (tmp_path / "metadata.jsonl").open("a") as file:
        for text in ("again", "a 0", "more"):
            file.write(json.dumps({"file_name": "0.png", "text": text, "split": "train"}) + "\n")
    source = lb.source(spec, resolution=8)
    assert source.captions[0] == ("a 0", "again", "more") and len(source) == 8 and not reasons(source)


def test_bad_csv_rows(tmp_path: Path, paint: Any) -> None:
    for i in range(4):
        paint(tmp_path / f"{i}.png", i)
    lines = [
        b"file_name,text,split",
        b"0.png,a,train",
        b"1.png,caf\xe9,train",
        b"2.png,a,train,more",
        b"3.png",
        b"3.png,b,test",
    ]
    (tmp_path / "metadata.csv").write_bytes(b"\n".join(lines))
    source = lb.source(f"folder:{tmp_path}", resolution=8, max_skipped=0.9)
    assert reasons(source) == ["not UTF-8", "wrong number of columns", "wrong number of columns"]


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02", b"\xff\xd8\xff\xe0 cut"])
def test_broken_images(tmp_path: Path, paint: Any, content: bytes) -> None:
    spec = table(tmp_path, paint, rows(12))
    (tmp_path / "3.png").write_bytes(content)
    source = lb.source(spec, resolution=8, max_skipped=0.2)
    assert len(source) == 9 and "3.png" not in source.keys and len(reasons(source)) == 1


def test_nothing_to_learn_from(tmp_path: Path, paint: Any) -> None:
    with pytest.raises(DataError, match=r"no metadata.jsonl, metadata.csv or class folder"):
        lb.source(f"folder:{tmp_path}")
    with pytest.raises(DataError, match="none of the 6 images has a caption or a label"):
        lb.source(table(tmp_path, paint, [{"file_name": row["file_name"]} for row in rows()]))
    with pytest.raises(DataError, match="is not a folder"):
        lb.source(f"folder:{tmp_path / 'metadata.jsonl'}")


def test_labels_of_two_kinds(tmp_path: Path, paint: Any) -> None:
    with pytest.raises(DataError, match="all whole numbers or all names"):
        lb.source(table(tmp_path, paint, [*rows(3, label="a"), {"file_name": "z.png", "label": 3}]))


def test_an_exported_set_comes_back_with_its_classes(tmp_path: Path) -> None:
    problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=20))
    small = lb.distill(problem, lb.methods.Random())
    from limbeck.core.export import export

    for to in ("folder", "webdataset"):
        export(small, tmp_path / to, to)  # type: ignore[arg-type]
        back = lb.source(f"{to}:{tmp_path / to}", resolution=16)
        assert back.classes == small.classes and small.labels is not None and back.labels is not None
        for key, label, caption in zip(back.keys, back.labels.tolist(), back.captions, strict=True):
            i = int(key.removesuffix(".png")[1:])
            assert label == small.labels[i] and caption == small.captions[i]
            assert back.batch([back.keys.index(key)])["image"].equal(small.batch([i])["image"])


def test_a_table_of_which_nothing_can_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text('["a.png", "a cat"]\n{"file_name": ""}\n{"file_name":\n')
    says = r"no samples in split 'train'; its splits: none; what cannot be read: 1 not an object, 1 no file name, 1 not JSON; "
    with pytest.raises(DataError, match=says + r"the first: row 0 \(not an object, .*metadata.jsonl, line 1\)"):
        lb.source(f"folder:{tmp_path}")
