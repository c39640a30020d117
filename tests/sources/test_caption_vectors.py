"""Captions that a table gives as vectors: reading them, what can be wrong with them, and every step to a judged set."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import limbeck as lb
from limbeck.cli import main
from limbeck.core import DistilledSet, Method, Problem
from limbeck.core.export import export
from limbeck.data.contract import check_source
from limbeck.errors import ConfigError, DataError
from limbeck.spaces import embed_source
from limbeck.spaces.binder import Binding, bind

N, D = 18, 4
Row = dict[str, Any]


@pytest.fixture
def rows(tmp_path: Path, paint: Any) -> list[Row]:
    """Images of two classes with the vectors of their captions, as lists and in files."""
    vectors = np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)
    found: list[Row] = []
    for i, vector in enumerate(vectors):
        paint(tmp_path / f"{i}.png", i)
        np.save(tmp_path / f"{i}.npy", vector)
        row: Row = {"image": f"{i}.png", "vec": vector.tolist(), "file": f"{i}.npy", "caption": "a dog"}
        found.append(
            {**row, "label": "ab"[i % 2], "split": ["train", "train", "val", "test"][min(i // 6, 2) + (i > 14)]}
        )
    return found


def table(folder: Path, rows: Sequence[Row], name: str = "all.jsonl") -> str:
    path = folder / name
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return f"manifest:{path}"


def opened(folder: Path, rows: Sequence[Row], column: str = "vec", **options: Any) -> Any:
    return lb.source(table(folder, rows), resolution=8, caption_vectors=column, **options)


def space(text: str = f"vectors:{D}") -> lb.Space:
    return lb.space(image={"name": "convnet", "width": D}, text=text)


def units(rows: Sequence[Row]) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor([row["vec"] for row in rows]), dim=1)


@pytest.mark.parametrize("name", ["all.jsonl", "all.parquet"])
def test_lists_and_files_are_the_same_vectors(tmp_path: Path, rows: list[Row], name: str) -> None:
    spec = table(tmp_path, rows, name)
    sources = [lb.source(spec, resolution=8, caption_vectors=column) for column in ("vec", "file")]
    for source in sources:
        check_source(source)
        torch.testing.assert_close(source.embeddings["text"], units(rows[:12]))
        assert source.embedded_by == {"text": space()["text"].fingerprint}
        assert source.captions == [("a dog",)] * 12 and tuple(source.modalities) == ("image", "text", "label")
        assert torch.equal(source.batch([3, 1])["text"], source.embeddings["text"][[3, 1]])
        assert lb.source(source.describe()).fingerprint == source.fingerprint
    assert sources[0].fingerprint == sources[1].fingerprint
    assert lb.source(spec, resolution=8).fingerprint != sources[0].fingerprint
    rows[0]["vec"][0] += 1
    assert opened(tmp_path, rows).fingerprint != sources[0].fingerprint
    assert opened(tmp_path, rows).split("test").fingerprint == sources[0].split("test").fingerprint


def test_the_key_stands_for_a_caption_that_is_not_there(tmp_path: Path, rows: list[Row]) -> None:
    bare = [{k: v for k, v in row.items() if k != "caption"} for row in rows]
    source = opened(tmp_path, [{**row, "vec": json.dumps(row["vec"])} for row in bare])
    check_source(source)
    assert source.captions[:2] == [("0.png",), ("1.png",)]
    alone = opened(tmp_path, [{"vec": row["vec"], "split": row["split"]} for row in rows])
    check_source(alone)
    assert tuple(alone.modalities) == ("text",) and alone.captions[2] == ("row 2",)


def test_a_sample_without_a_vector_has_no_text(tmp_path: Path, rows: list[Row]) -> None:
    rows[1]["vec"] = None
    source = opened(tmp_path, rows)
    check_source(source)
    assert source.captions[:3] == [("a dog",), (), ("a dog",)]
    assert source.batch([0, 1, 2]).mask("text").tolist() == [True, False, True]
    found = embed_source(source, space())["text"]
    assert found.owner.tolist() == [0, *range(2, 12)]
    torch.testing.assert_close(found.vectors, units([rows[0], *rows[2:12]]))
    problem = Problem(source, space(), lb.Budget(pairs=11))
    assert len(problem.captions) == len(problem.candidates) == 11
    assert "1.png" not in lb.distill(problem, lb.methods.Random()).origins


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ([1.0, 2.0], "caption vector of 2 numbers, where the first has 4"),
        (["1", "2", "3", "4"], "caption vector is not numbers"),
        ([True] * 4, "caption vector is not numbers"),
        ([1, None, 3, 4], "caption vector is not numbers"),
        ([1.0, [2.0], 3.0, 4.0], "caption vector is not numbers"),
        ([[1.0, 2.0], [3.0, 4.0]], "caption vector of shape [2, 2], not [D]"),
        ([1.0, float("nan"), 3.0, 4.0], "caption vector holds NaN or infinite numbers"),
        ([1.0, 1e300, 3.0, 4.0], "caption vector holds NaN or infinite numbers"),
        ([0.0] * 4, "caption vector of zeros"),
        (7, "no file name"),
        ("[1, 2", "not JSON"),
        ("gone.npy", "missing"),
        ("../1.npy", "leads out of"),
        ("1.png", "caption vector is no NPY file"),
        ("wide.npy", "caption vector of shape [2, 4], not [D]"),
        ("words.npy", "caption vector is not numbers"),
        ("torn.npy", "damaged"),
    ],
)
def test_vectors_that_cannot_be(tmp_path: Path, rows: list[Row], cell: object, reason: str) -> None:
    np.save(tmp_path / "wide.npy", np.ones((2, 4)))
    np.save(tmp_path / "words.npy", np.array(["a", "b", "c", "d"]))
    (tmp_path / "torn.npy").write_bytes((tmp_path / "1.npy").read_bytes()[:-5])
    rows[1]["vec"] = cell
    source = opened(tmp_path, rows, max_skipped=0.2)
    assert len(source.skipped) == 1 and source.skipped[0]["reason"].startswith(reason)
    assert len(source) == 11
    with pytest.raises(DataError, match=r"1 records .* cannot be used"):
        opened(tmp_path, rows)


def test_one_caption_and_one_vector_a_sample(tmp_path: Path, rows: list[Row]) -> None:
    rows[1]["caption"] = ["a dog", "a hound"]
    rows += [dict(rows[0]), {**rows[2], "caption": "a hound"}, {**rows[3], "vec": [1.0, 2.0, 3.0, 4.0]}]
    source = opened(tmp_path, rows, max_skipped=0.5)
    assert [(row["key"], row["reason"]) for row in source.skipped] == [
        ("row 1", "several captions beside one caption vector"),
        ("2.png", "duplicate key"),
        ("3.png", "duplicate key"),
    ]
    assert set(map(len, source.captions)) == {1}


def test_a_column_that_is_not_there(tmp_path: Path, rows: list[Row]) -> None:
    with pytest.raises(DataError, match="no filled column 'vectors'; it has caption, file"):
        opened(tmp_path, rows, "vectors")


@pytest.mark.parametrize("text", ["bag_of_words", "vectors:9"])
def test_another_encoder_is_refused_before_images_are_encoded(tmp_path: Path, rows: list[Row], text: str) -> None:
    told: list[str] = []
    with pytest.raises(DataError, match=f"another encoder than .*{text}.* vectors:4 .--space.text vectors:4."):
        embed_source(opened(tmp_path, rows), space(text), tick=lambda what, *_: told.append(what))
    assert told == []


def test_texts_are_no_vectors(tmp_path: Path, rows: list[Row]) -> None:
    texts = lb.source(table(tmp_path, rows), resolution=8)
    with pytest.raises(DataError, match=r"vectors:4 reads vectors, and these are texts; .*--source.caption_vectors"):
        embed_source(texts, space())


Guided = lb.methods.Guided
SMALL: Row = {"steps": 2, "width": 8, "batch": 6}


@pytest.mark.parametrize(
    "method",
    [
        lb.methods.Random(per_class=True),
        lb.methods.Herding(),
        Guided(**SMALL, captions="proj"),
        Guided(**SMALL, captions="clip", text="class_mean"),
        Guided(**SMALL, captions="embed", text="learn"),
        lb.methods.CF(steps=2),
        lb.methods.DM(steps=2, width=8),
    ],
    ids=lambda method: type(method).__name__ + getattr(method, "text", ""),
)
@pytest.mark.slow
def test_from_vectors_to_a_judged_set(tmp_path: Path, rows: list[Row], method: Method) -> None:
    for i, row in enumerate(rows):
        row["caption"] = f"caption {i}"
    source = opened(tmp_path, rows)
    problem = Problem(source, space(), lb.Budget(pairs=6))
    small = lb.distill(problem, method)
    assert len(small) == 6 and small.sizes["text"] >= 6 * 4 * D
    again = lb.load(small.save(tmp_path / "set"))
    assert again.fingerprint == small.fingerprint and again.embedded_by == source.embedded_by
    if not method.learns_text:
        at = [list(source.keys).index(key) for key in again.origins]
        torch.testing.assert_close(again.embeddings["text"], source.embeddings["text"][at])
        assert list(again.captions) == [source.captions[i] for i in at]
        assert [near[0] for near in again.neighbours] == [(caption, 1.0) for (caption,) in again.captions]
    if isinstance(method, lb.methods.Random):
        scores = lb.evaluate(again, lb.source(source.describe(), "test"), protocol="classification", seeds=1, epochs=2)
        assert {"text accuracy", "joint accuracy"} <= {score.metric for score in scores}
    assert (export(again, tmp_path / "out", "folder") / "metadata.jsonl").read_text().count('"text": "caption') == 6


def test_alike_captions_are_told_by_their_nearest_vector(tmp_path: Path, rows: list[Row]) -> None:
    rows[5]["caption"] = "a cat"
    small = lb.distill(Problem(opened(tmp_path, rows), space(), lb.Budget(pairs=12)), lb.methods.Random())
    assert [near[0] for near in small.neighbours] == [(caption, 1.0) for (caption,) in small.captions]
    assert all(len(near) == 2 for near in small.neighbours)


def test_a_set_of_vectors_is_a_source_to_distil_again(tmp_path: Path, rows: list[Row]) -> None:
    first = lb.distill(Problem(opened(tmp_path, rows), space(), lb.Budget(pairs=8)), lb.methods.Random())
    second = lb.distill(Problem(first, space(), lb.Budget(pairs=4)), lb.methods.Random())
    assert isinstance(second, DistilledSet) and second.embedded_by == first.embedded_by
    at = [list(first.keys).index(key) for key in second.origins]
    torch.testing.assert_close(second.tensors["text"], first.tensors["text"][at])


def test_a_method_that_learns_tokens_says_that_vectors_have_none(tmp_path: Path, rows: list[Row]) -> None:
    problem = Problem(opened(tmp_path, rows), space(), lb.Budget(pairs=4))
    with pytest.raises(ConfigError, match="reads no token embeddings"):
        lb.distill(problem, lb.methods.CovMatch(steps=1, towers="encoder", text="encoder"))


def test_heads_are_bound_over_vectors(tmp_path: Path, rows: list[Row]) -> None:
    rows[1]["vec"] = None
    source = opened(tmp_path, rows)
    few = Binding(dim=3, hidden=(8,), steps=2, batch=6)
    bound = bind(source, space(), tmp_path / "bound", few)
    found = embed_source(source, bound)["text"]
    with torch.no_grad():
        torch.testing.assert_close(found.vectors, bound["text"](units([rows[0], *rows[2:12]])))
    assert found.owner.tolist() == [0, *range(2, 12)]
    small = lb.distill(Problem(source, bound, lb.Budget(pairs=4)), lb.methods.Random())
    assert small.tensors["text"].shape == (4, 3) and small.embedded_by == {"text": bound["text"].fingerprint}
    assert embed_source(small, bound)["text"].vectors.shape == (4, 3)
    with pytest.raises(DataError, match="another encoder"):
        embed_source(replace(small, embedded_by={"text": "else"}), bound)


def test_doctor_reads_them(tmp_path: Path, rows: list[Row], capsys: pytest.CaptureFixture[str]) -> None:
    spec = [table(tmp_path, rows), "--source.resolution", "8", "--source.caption_vectors", "vec", "--pairs", "4"]
    encoders = ["--space.image", "convnet", "--space.image.width", "8", "--space.text", f"vectors:{D}"]
    assert main(["doctor", *spec, *encoders, "--method", "random", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["encoders"]["text"]["bytes of features"] == 12 * 4 * D
    assert 7000 < found["task"]["bytes of the set"] < 9000
