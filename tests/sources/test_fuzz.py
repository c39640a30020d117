"""Fuzzing of the readers of text: whatever is in a file, it is read, skipped with a reason, or refused with a message."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck.errors import LimbeckError

from .conftest import image_bytes
from .fuzzed import READERS, edited, edits, read, read_changed, shard_of, values

pytestmark = pytest.mark.slow
short = settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))

COLUMNS = [
    "image",
    "caption",
    "captions",
    "text",
    "label",
    "class",
    "split",
    "mask",
    "id2",
    "Label",
    "file_name",
    "audio",
]


@pytest.mark.parametrize("name", READERS)
@short
@given(changes=edits)
def test_changed_bytes(name: str, changes: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        read_changed(name, Path(folder), lambda data: edited(data, changes))


@short
@given(rows=st.lists(st.dictionaries(st.sampled_from(COLUMNS), values, max_size=5), min_size=1, max_size=5))
def test_no_line_is_lost(rows: Any) -> None:
    """Each line is a record or is counted."""
    with tempfile.TemporaryDirectory() as folder:
        for i in range(5):
            (Path(folder) / f"{i}.png").write_bytes(image_bytes(i))
        table = Path(folder) / "t.jsonl"
        table.write_text("".join(json.dumps({"key": f"k{i}", **row}) + "\n" for i, row in enumerate(rows)))
        try:
            found = read(f"manifest:{table}", depth_unit="m")
        except LimbeckError as error:
            assert str(error)
            return
        assert len(found.records) + len(found.skipped) == len(rows)
        assert all(skipped.reason for skipped in found.skipped)


@short
@given(rows=st.lists(st.one_of(values, st.dictionaries(st.sampled_from(COLUMNS), values, max_size=4)), max_size=4))
def test_fields_of_shards(rows: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shard_of(rows, Path(folder) / "0.tar")
        try:
            found = read(f"webdataset:{folder}")
        except LimbeckError as error:
            assert str(error)
            return
        assert len(found.records) + len(found.skipped) == len(rows)


@short
@given(
    data=st.dictionaries(
        st.sampled_from(["images", "annotations", "categories"]), st.one_of(values, st.lists(values, max_size=3))
    )
)
def test_json_of_coco_and_karpathy(data: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "0.png").write_bytes(image_bytes(0))
        (Path(folder) / "a.json").write_text(json.dumps(data))
        for source in ("coco", "karpathy"):
            try:
                read(f"{source}:{folder}")
            except LimbeckError as error:
                assert str(error)
