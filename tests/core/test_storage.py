"""A saved set is opened as what it was, or not at all."""

import json
import os
import random
import shutil
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import limbeck as lb
from limbeck.core import DistilledSet
from limbeck.errors import LimbeckError, StorageError
from whole import ROWS, TABLE, TENSORS, whole_set, with_file, with_manifest, with_tensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_set().save(tmp_path_factory.mktemp("whole") / "set")


def facts(small: DistilledSet) -> list[Any]:
    """All that a set says."""
    plain = (small.captions, small.origins, small.neighbours, small.nearest, small.licence, small.encoder_licences)
    how = (small.name, small.modalities, small.classes, small.recipe.plain(), small.embedded_by)
    return [small.fingerprint, *plain, *how, small.training, small.similarity, small.generation, small.hints]


def test_what_is_saved_comes_back(folder: Path) -> None:
    small, back = whole_set(), lb.load(folder)
    assert facts(back) == facts(small)
    assert all(torch.equal(back.tensors[name], value) for name, value in small.tensors.items())


def test_a_set_from_before_there_was_a_digest_opens(folder: Path, tmp_path: Path) -> None:
    old = with_manifest(folder, tmp_path / "old", lambda manifest: None, sealed=False)
    assert "digest" not in json.loads((old / "manifest.json").read_text())
    assert facts(lb.load(old)) == facts(whole_set())


def test_flipped_bits_are_noticed(folder: Path, tmp_path: Path) -> None:
    rng, good = random.Random(0), facts(lb.load(folder))
    counts: Counter[str] = Counter()
    copy = shutil.copytree(folder, tmp_path / "copy")
    for path in sorted(p for p in copy.rglob("*") if p.is_file()):
        raw = path.read_bytes()
        for _ in range(60):
            place = rng.randrange(8 * len(raw))
            path.write_bytes(raw[: place // 8] + bytes([raw[place // 8] ^ 1 << place % 8]) + raw[place // 8 + 1 :])
            try:
                counts["the same" if facts(lb.load(copy)) == good else "something else"] += 1
            except StorageError:
                counts["refused"] += 1
        path.write_bytes(raw)
    assert set(counts) <= {"refused", "the same"} and counts["refused"] > 220


MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no files": (lambda m: m.update(files={}), r"files lacks README\.md"),
    "a path out of the folder": (
        lambda m: m["files"].update({"../../x": "0" * 64}),
        r"'\.\./\.\./x', which does not belong",
    ),
    "no name": (lambda m: m.pop("name"), "lacks name"),
    "a number for a name": (lambda m: m.update(name=5), "name must be a text, got 5"),
    "a class that is none": (lambda m: m["classes"].append(None), r"classes\[2\] must be a text"),
    "a digest that is none": (lambda m: m["files"].update({TABLE: "x"}), "must be a SHA-256"),
    "a shape of nothing": (
        lambda m: m["modalities"][0].update(shape=[3, 0, 8]),
        r"shape\[1\] must be a whole number from 1",
    ),
    "a huge number": (lambda m: m["recipe"].update(seed=10**40), "recipe must be made of texts"),
    "a modality twice": (lambda m: m["modalities"].append(m["modalities"][0]), "'image' is listed twice"),
    "no range": (lambda m: m["modalities"][0].update(low=1.0), "which is no range"),
    "one channel": (lambda m: m["modalities"][0].update(shape=[1, 8, 8]), "it needs 3 channels"),
    "another size of masks": (lambda m: m["modalities"][1].update(shape=[1, 4, 4]), "differ in size"),
    "a modality too many": (
        lambda m: m["modalities"].append(dict(m["modalities"][3], name="heat")),
        "no tensor 'heat'",
    ),
    "a modality too few": (lambda m: m["modalities"].pop(3), "'audio' is of no modality"),
    "too few classes": (lambda m: m["classes"].pop(), "the labels lie between 0 and 1, there are 1 classes"),
    "another class": (lambda m: m["classes"].reverse(), "the fingerprint are not those"),
    "a codec of vectors that is none": (
        lambda m: m.update(packed={"text": {"kind": "int2", "width": 5}}),
        "type of vectors",
    ),
    "packed what is not": (
        lambda m: m.update(packed={"text": {"kind": "int8", "width": 5}}),
        "'text' cannot be unpacked: codes",
    ),
    "packed what is not there": (lambda m: m.update(packed={"heat": {"kind": "int8", "width": 5}}), "no tensor 'heat'"),
    "images that are no exact files": (lambda m: m.update(exact=["mask"]), "the fingerprint are not those"),
    "other pairs": (lambda m: m.update(pairs=9), "the pairs are not those"),
    "another similarity": (lambda m: m["similarity"].update(rank=3), r"left has shape \[4, 2\]"),
    "a similarity of another kind": (lambda m: m["similarity"].update(kind="full"), "are not those of its kind"),
    "a similarity of no kind": (lambda m: m["similarity"].update(kind="round"), "cannot be restored"),
    "no similarity": (lambda m: m.update(similarity={}), "a similarity that the manifest does not describe"),
    "half a generation": (lambda m: m["generation"].pop("prompts"), "generation lacks prompts"),
    "an encoder without a name": (lambda m: m["recipe"]["space"].update(image={}), "image lacks name"),
    "embedded what cannot be": (lambda m: m["embedded_by"].update(image="0"), "'image' is said to be embedded"),
    "a newer schema": (lambda m: m.update(schema=3), "upgrade limbeck"),
    "deep": (lambda m: m["recipe"].update(method=_deep(40)), "must be made of texts"),
}


def _deep(levels: int) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for _ in range(levels):
        tree = {"x": tree}
    return tree


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_is_not_believed(folder: Path, tmp_path: Path, kind: str) -> None:
    change, says = MANIFESTS[kind]
    with pytest.raises(StorageError, match=says):
        lb.load(with_manifest(folder, tmp_path / "changed", change))


def test_a_manifest_that_was_changed_by_hand_differs_from_its_digest(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    text = (copy / "manifest.json").read_text(encoding="utf-8")
    (copy / "manifest.json").write_text(text.replace("CC0-1.0", "CC1-1.0"), encoding="utf-8")
    with pytest.raises(StorageError, match="differs from the digest in it"):
        lb.load(copy)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read"),
        ("[]", "must be a mapping"),
        ('{"schema": 1, "schema": 1}', "'schema' stands there twice"),
        ('{"schema": ' + "1" * 5000 + "}", "cannot be read"),
        ("[" * 100_000, "nested too deeply"),
        ("\xff", "not UTF-8"),
    ],
)
def test_a_manifest_that_is_no_json(folder: Path, tmp_path: Path, text: str, says: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(StorageError, match=says):
        lb.load(copy)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs")
def test_a_fifo_is_no_file(folder: Path, tmp_path: Path) -> None:
    for name in ("manifest.json", TENSORS):
        copy = shutil.copytree(folder, tmp_path / name)
        (copy / name).unlink()
        os.mkfifo(copy / name)
        with pytest.raises(StorageError, match=r"holds no manifest|is missing or differs"):
            lb.load(copy)


TENSOR_CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "fewer rows of one": (lambda t: {**t, "audio": t["audio"][:2]}, "'audio' has shape"),
    "no channel": (lambda t: {**t, "depth": t["depth"][:, 0]}, "'depth' has shape"),
    "another side": (lambda t: {**t, "depth": t["depth"][..., :4]}, "'depth' has shape"),
    "float64": (lambda t: {**t, "audio": t["audio"].double()}, "'audio' is float64, it must be float32"),
    "pixels beside the table": (lambda t: {**t, "image": torch.zeros(ROWS, 3, 8, 8).byte()}, "are those of the table"),
    "bfloat16": (lambda t: {**t, "text": t["text"].bfloat16()}, "'text' is bfloat16"),
    "not finite": (lambda t: {**t, "text": t["text"] * float("nan")}, "'text' holds values that are not finite"),
    "infinite": (lambda t: {**t, "audio": t["audio"] + float("inf")}, "'audio' holds values that are not finite"),
    "no learned text": (lambda t: {k: v for k, v in t.items() if k != "text"}, "the text was learned, and there is no"),
    "a text of one axis": (lambda t: {**t, "text": t["text"][:, 0]}, "'text' has shape"),
    "no width": (lambda t: {**t, "text": t["text"][:, :0]}, "'text' has shape"),
    "no depth": (lambda t: {k: v for k, v in t.items() if k != "depth"}, "no tensor 'depth'"),
    "a stranger": (lambda t: {**t, "evil": torch.zeros(ROWS)}, "'evil' is of no modality"),
    "a label that is none": (lambda t: {**t, "label": torch.full((ROWS,), 999)}, "labels lie between 999 and 999"),
    "a label below zero": (lambda t: {**t, "label": torch.full((ROWS,), -5)}, "labels lie between -5"),
    "labels of another type": (lambda t: {**t, "label": torch.zeros(ROWS)}, "'label' is float32, it must be int64"),
    "no rows": (
        lambda t: {k: v[:0] if v.ndim else v for k, v in t.items()},
        "the table has 4 rows, the tensors have 0",
    ),
    "half a similarity": (lambda t: {k: v for k, v in t.items() if k != "similarity.right"}, "cannot be restored"),
    "many rates": (lambda t: {**t, "hint.lr": torch.zeros(3)}, "must be one number"),
}


@pytest.mark.parametrize("kind", TENSOR_CHANGES)
def test_tensors_must_fit(folder: Path, tmp_path: Path, kind: str) -> None:
    change, says = TENSOR_CHANGES[kind]
    with pytest.raises(StorageError, match=says):
        lb.load(with_tensors(folder, tmp_path / "changed", change))


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / TABLE).to_pylist()
    return found


def table(folder: Path, to: Path, changed: pa.Table) -> Path:
    pq.write_table(changed, to.with_suffix(".parquet"))
    return with_file(folder, to, TABLE, to.with_suffix(".parquet").read_bytes())


def test_tables_must_fit(folder: Path, tmp_path: Path) -> None:
    good = pq.read_table(folder / TABLE)
    none = pa.array([None] * ROWS, good.schema.field("captions").type)
    number = good.schema.get_field_index("captions")
    for name, changed, says in [
        ("short", good.slice(0, 2), "the table has 2 rows"),
        ("none", good.slice(0, 0), "the table has 0 rows"),
        ("column", good.drop_columns(["origin"]), "origin"),
        ("type", good.set_column(number, "captions", pa.array(["a"] * ROWS)), "columns of the table are not"),
        ("null", good.set_column(number, "captions", none), r"row 0: captions must be a list, got None"),
    ]:
        with pytest.raises(StorageError, match=says):
            lb.load(table(folder, tmp_path / name, changed))
    for name, data in [("parquet", b"PAR1"), ("text", b"a,b\n1,2\n")]:
        with pytest.raises(StorageError, match="holds no table that can be read"):
            lb.load(with_file(folder, tmp_path / name, TABLE, data))
    with pytest.raises(StorageError, match="holds no tensors that can be read"):
        lb.load(with_file(folder, tmp_path / "tensors", TENSORS, b"\x08" + bytes(7) + b"[" * 8))


def test_texts_that_are_repeated_take_their_bytes_once(folder: Path, tmp_path: Path) -> None:
    good = pq.read_table(folder / TABLE)
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 9000, pa.int32()), pa.array(["x" * 100_000]))
    captions = pa.ListArray.from_arrays(pa.array([0, 8997, 8998, 8999, 9000], pa.int32()), values)
    bomb = good.set_column(good.schema.get_field_index("captions"), "captions", captions)
    path = tmp_path / "bomb.parquet"
    pq.write_table(bomb, path, store_schema=False, compression="zstd")  # 900 MB of text in a few kB
    assert path.stat().st_size < 50_000
    with pytest.raises(StorageError, match="the texts of the table have more than 536,870,912 bytes, see --limits"):
        lb.load(with_file(folder, tmp_path / "set", TABLE, path.read_bytes()))


ODD = "photo\udce9 \ud800"


def test_keys_of_older_sets_are_read(tmp_path: Path) -> None:
    def older(manifest: dict[str, Any]) -> None:
        manifest["generation"]["prompts"] = {"longer than the prior reads": 3}
        manifest["generation"]["training"] = {"tensors that moved": 0.5, "captions longer than the prior reads": 2}
        manifest["generation"]["captions"] = {"by": {"name": "x"}, "stage": "describe", "prompts again": 1}

    back = lb.load(with_manifest(whole_set().save(tmp_path / "a"), tmp_path / "b", older))
    assert back.generation["prompts"] == {"truncated": 3} and back.generation["captions"]["repeated_prompts"] == 1
    assert back.generation["training"] == {"share_moved": 0.5, "truncated_captions": 2}


def test_names_that_are_not_utf8_can_be_saved(tmp_path: Path) -> None:
    recipe = lb.Recipe(source={"name": f"folder:{ODD}"}, method={"name": "cf"}, seed=0)
    small = whole_set(
        captions=[(ODD,)] * ROWS, origins=[ODD] * ROWS, neighbours=[[(ODD, 0.5)]] * ROWS, nearest=[(ODD, 0.5)] * ROWS,
        classes=(ODD, "dog"), licence=ODD, recipe=recipe,
        generation={"prior": {"name": ODD, "licence": ODD}, "prompts": {"truncated": 0}},
    )  # fmt: skip
    back = lb.load(small.save(tmp_path / "set"))
    assert back.classes == (r"photo\xe9 \ud800", "dog") and back.fingerprint == small.fingerprint
    assert {*back.origins, back.licence, back.captions[0][0], back.nearest[0][0]} == {r"photo\xe9 \ud800"}
    assert back.recipe.source["name"] == f"folder:{ODD}"  # a path: it opens the folder again


def test_modes_are_those_that_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        saved = whole_set().save(tmp_path / "set")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in saved.rglob("*") if path.is_file()}
    assert modes == {0o640}


def test_what_is_not_of_the_set_stays(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "set")
    assert whole_set().save(copy) == copy  # a set takes the place of a set
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"holds notes\.txt"):
        whole_set().save(copy)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="exists and is not a distilled set"):
        whole_set().save(tmp_path / "file")
    assert (copy / "notes.txt").read_text() == "mine" == (tmp_path / "file").read_text()


def test_nothing_but_our_errors(folder: Path, tmp_path: Path) -> None:
    for path in sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file()):
        for size in (0, 1, 7, 100):
            copy = shutil.copytree(folder, tmp_path / f"{path.name}{size}")
            (copy / path).write_bytes((copy / path).read_bytes()[:size])
            with pytest.raises(LimbeckError):
                lb.load(copy)


@pytest.mark.slow
def test_a_set_that_a_killed_replacement_took_away_comes_back(tmp_path: Path) -> None:
    small = whole_set()
    folder = small.save(tmp_path / "set")
    code = f"import os\nfrom pathlib import Path\nfrom limbeck.runtime.files import work_folder\ntarget = Path({str(folder)!r})\nwith work_folder(target) as work:\n os.replace(target, work / 'old'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    assert not folder.exists()
    assert lb.load(folder).fingerprint == small.fingerprint
