"""One table of values, written as each source reads it."""

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .conftest import image_bytes

Rows = list[dict[str, Any]]
SPLITS = ["training", "Training", "train", "valid", "testing", "Test"]


def names(folder: Path, rows: Rows, column: str) -> Rows:
    """The rows with the name of an image each, whose file is written."""
    for i in range(len(rows)):
        (folder / f"{i}.png").write_bytes(image_bytes(i))
    return [{column: f"{i}.png", **row} for i, row in enumerate(rows)]


def jsonl(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def text(path: Path, rows: Rows, separator: str = ",") -> None:
    """CSV, where lists are JSON in a cell and nothing is an empty cell."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        columns = list(dict.fromkeys(c for row in rows for c in row))
        writer.writerow(columns)
        cells = [[row.get(c) for c in columns] for row in rows]
        writer.writerows(
            [["" if v is None else json.dumps(v) if isinstance(v, list) else v for v in row] for row in cells]
        )


def manifest_jsonl(folder: Path, rows: Rows) -> str:
    jsonl(folder / "t.jsonl", names(folder, rows, "Image"))
    return f"manifest:{folder / 't.jsonl'}"


def manifest_csv(folder: Path, rows: Rows) -> str:
    text(folder / "t.csv", names(folder, rows, " img_path"))
    return f"manifest:{folder / 't.csv'}"


def manifest_tsv(folder: Path, rows: Rows) -> str:
    text(folder / "t.tsv", names(folder, rows, "FileName"), "\t")
    return f"manifest:{folder / 't.tsv'}"


def manifest_parquet(folder: Path, rows: Rows) -> str:
    pq.write_table(pa.Table.from_pylist(names(folder, rows, "filepath")), folder / "t.parquet")
    return f"manifest:{folder / 't.parquet'}"


def folder_jsonl(folder: Path, rows: Rows) -> str:
    jsonl(folder / "metadata.jsonl", names(folder, rows, "file_name"))
    return f"folder:{folder}"


def folder_csv(folder: Path, rows: Rows) -> str:
    text(folder / "metadata.csv", names(folder, rows, "File Name"), ";")
    return f"folder:{folder}"


def hf(folder: Path, rows: Rows) -> str:
    held = [{"picture": {"bytes": image_bytes(i), "path": None}, **row} for i, row in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(held), folder / "train-00000-of-00001.parquet")
    return f"hf:{folder}"


def webdataset(folder: Path, rows: Rows) -> str:
    with tarfile.open(folder / "0.tar", "w") as tar:
        for i, row in enumerate(rows):
            for name, data in ((f"{i}.png", image_bytes(i)), (f"{i}.json", json.dumps(row).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return f"webdataset:{folder}"


def karpathy(folder: Path, rows: Rows) -> str:
    (folder / "c.json").write_text(json.dumps(names(folder, rows, "filename")))
    return f"karpathy:{folder}"


TEXT: dict[str, Callable[[Path, Rows], str]] = {f.__name__: f for f in (manifest_csv, manifest_tsv, folder_csv)}
TYPED: dict[str, Callable[[Path, Rows], str]] = {
    f.__name__: f for f in (manifest_jsonl, manifest_parquet, folder_jsonl, hf, webdataset)
}
