"""The Parquet table of a distilled set, which `datasets` opens: images, masks, texts, labels, and where each sample came from."""

import io
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.core.checks import check_rows
from limbeck.core.codec import png, preview
from limbeck.core.distilled import DistilledSet
from limbeck.data.tables import text_bytes
from limbeck.limits import SET_FILES, SET_TEXTS

__all__ = ["column_sizes", "column_types", "read_table", "write_table"]

COLUMNS = ("captions", "nearest_captions", "nearest_image", "origin")  # that every set is opened with
TEXTS = (
    "captions.list.element",
    "nearest_captions.list.element.caption",
    "nearest_image.key",
    "origin",
)  # in Parquet's words
PARTS = {"captions": "text", "nearest_captions": "nearest", "nearest_image": "nearest", "origin": "nearest"}


def write_table(small: DistilledSet) -> bytes:
    """The table of a set as a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns, features = _columns(small)
    kinds = column_types()
    table = pa.table({name: pa.array(values, kinds[name]) for name, values in columns.items()})
    info = {"info": {"features": features}}
    file = io.BytesIO()
    texts = [name for name in TEXTS if name.partition(".")[0] in columns]
    with pq.ParquetWriter(
        file,
        table.schema,
        compression="zstd",
        compression_level=19,
        use_dictionary=texts,
        write_statistics=False,  # the least and the largest image would be written twice
        store_schema=False,
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"huggingface": json.dumps(info, separators=(",", ":"))})
    return file.getvalue()


def _columns(small: DistilledSet) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """The values of each column, and what `datasets` calls them."""
    columns: dict[str, list[Any]] = {}
    for modality in (m for m in ("image", "mask") if m in small.tensors):
        held = small.pictures.get(modality)
        columns[modality] = _cells(map(png, small.tensors[modality]) if held is None else held.files)
    previews = (
        m for m in ("audio", "depth") if m in small.tensors and m in small.modalities and m not in small.embeddings
    )
    for modality in previews:
        seen = small.modalities[modality].preview
        if modality == "depth" and small.tensors["depth"].ndim != 4:
            continue  # vectors, no maps
        columns[f"{modality}_preview"] = _cells(preview(seen(x)) for x in small.tensors[modality])
    features: dict[str, Any] = {name: {"_type": "Image"} for name in columns}
    near = [[{"caption": c, "similarity": s} for c, s in n] for n in small.neighbours] or [[] for _ in small.origins]
    nearest: list[Any] = [{"key": k, "similarity": s} for k, s in small.nearest]
    columns |= {
        "captions": [list(c) for c in small.captions] or [[] for _ in small.origins],
        "nearest_captions": near,
        "nearest_image": nearest or [None] * len(small),
        "origin": list(small.origins),
    }
    pair = {"caption": _value("string"), "similarity": _value("float64")}
    features |= {
        "captions": {"feature": _value("string"), "_type": "List"},
        "nearest_captions": {"feature": pair, "_type": "List"},
        "nearest_image": {"key": _value("string"), "similarity": _value("float64")},
        "origin": _value("string"),
    }
    if small.labels is not None and not small.labels.is_floating_point():
        columns["label"] = small.labels.tolist()
        features["label"] = {"names": list(small.classes), "_type": "ClassLabel"} if small.classes else _value("int64")
    return columns, features


def _cells(files: Any) -> list[Any]:
    return [{"bytes": file, "path": None} for file in files]


def column_types() -> dict[str, Any]:
    """The columns that a table may hold, and their types."""
    import pyarrow as pa

    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pair = pa.struct([("caption", pa.string()), ("similarity", pa.float64())])
    near = pa.struct([("key", pa.string()), ("similarity", pa.float64())])
    return {
        **dict.fromkeys(("image", "mask", "audio_preview", "depth_preview"), picture),
        "captions": pa.list_(pa.string()),
        "nearest_captions": pa.list_(pair),
        "nearest_image": near,
        "origin": pa.string(),
        "label": pa.int64(),
    }


def _value(dtype: str) -> dict[str, str]:
    return {"dtype": dtype, "_type": "Value"}


def column_sizes(table: bytes) -> dict[str, int]:
    """Bytes of a table by what they are of: modalities, `nearest` (captions, images, origins), and `table` for its frame."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(io.BytesIO(table)) as file:
        facts = file.metadata
    found: dict[str, int] = {}
    for group in (facts.row_group(i) for i in range(facts.num_row_groups)):
        for column in (group.column(i) for i in range(group.num_columns)):
            name = column.path_in_schema.partition(".")[0]
            part = PARTS.get(name, name.removesuffix("_preview"))
            found[part] = found.get(part, 0) + column.total_compressed_size
    return {**found, "table": len(table) - sum(found.values())}


def read_table(
    path: Path, lengths: set[int], pictures: Collection[str]
) -> tuple[list[dict[str, Any]], Mapping[str, Sequence[Any]]]:
    """The rows of a table, once there are as many as the tensors have, and the columns that tensors are made of.

    Args:
        path: of the Parquet file.
        lengths: of the tensors.
        pictures: which of `image`, `mask` and `label` to read.

    Raises:
        ValueError: it is no table of a set; says why.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        wanted = [*COLUMNS, *pictures]
        if {name: schema.field(name).type for name in wanted} != {name: column_types()[name] for name in wanted}:
            raise ValueError("the columns of the table are not those of a set")
        coded = [*TEXTS, *(f"{name}.bytes" for name in pictures if name != "label")]
        with pq.ParquetFile(path, read_dictionary=coded) as file:  # what is repeated takes its bytes once
            count = file.metadata.num_rows
            if not count or (lengths and count not in lengths):
                held = ", ".join(map(str, sorted(lengths))) or "none"
                raise ValueError(f"the table has {count} rows, the tensors have {held}")
            table = file.read(wanted)
        for names, kind, limit in ((COLUMNS, "texts", SET_TEXTS), (pictures, "pictures", SET_FILES)):
            if sum(text_bytes(chunk) for name in names for chunk in table.column(name).chunks) > limit.most:
                raise ValueError(f"the {kind} of the table have {limit}")
        rows: list[dict[str, Any]] = table.select(list(COLUMNS)).to_pylist()
        columns = {name: table.column(name).to_pylist() for name in pictures}
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} holds no table that can be read ({error})") from error
    check_rows(rows)
    return rows, columns
