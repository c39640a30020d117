"""The distilled set: as a source, on disk, in other layouts."""

import gc
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import limbeck as lb
from limbeck.check import toy_source
from limbeck.core import DistilledSet
from limbeck.core.export import export
from limbeck.errors import ConfigError, StorageError
from limbeck.spaces import Features, embed_source


@pytest.fixture(scope="module")
def coreset() -> DistilledSet:
    problem = lb.Problem(toy_source(), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=5))
    return lb.distill(problem, lb.methods.Random())


@pytest.fixture(scope="module")
def learned() -> DistilledSet:
    problem = lb.Problem(toy_source(), lb.space(image="convnet"), lb.Budget(pairs=5, pixels="float32"))
    return lb.distill(problem, lb.methods.CF(steps=3, lr=0.1))


def test_it_is_a_source(coreset: DistilledSet) -> None:
    batch = coreset.batch([0, 3])
    assert batch["image"].dtype == torch.float32 and batch["image"].shape == (2, 3, 16, 16)
    assert set(coreset.origins) <= set(toy_source().keys) and len(set(coreset.origins)) == 5
    source = toy_source()
    index = [list(source.keys).index(key) for key in coreset.origins]
    assert torch.equal(coreset.labels, source.labels[index])  # type: ignore[index,arg-type]
    assert (coreset.batch(range(5))["image"] - source.batch(index)["image"]).abs().max() <= 0.5 / 255 + 1e-6


def test_bytes_are_those_of_the_files(coreset: DistilledSet, learned: DistilledSet, tmp_path: Path) -> None:
    for small in (coreset, learned, _learned_texts()):
        folder = small.save(tmp_path / "set")
        assert small.nbytes == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) == lb.load(folder).nbytes
        assert (
            small.nbytes == sum(small.sizes.values())
            and f"({small.nbytes:,} bytes)" in (folder / "README.md").read_text()
        )
        assert small.sizes["card"] + small.sizes["manifest"] + small.sizes["table"] + small.sizes["tensors"] < 7000
    assert coreset.sizes["image"] < 5 * 3 * 16 * 16 and learned.sizes["image"] > 4 * 5 * 3 * 16 * 16


def test_a_real_sample_keeps_all_of_its_captions(coreset: DistilledSet, learned: DistilledSet, tmp_path: Path) -> None:
    """First the one of the pair that was chosen; a learned text has none of its own. Pairs and bytes are counted as they are."""
    source = toy_source()
    real = dict(zip(source.keys, source.captions, strict=True))
    assert [sorted(c) for c in coreset.captions] == [sorted(real[key]) for key in coreset.origins]
    firsts = {real[key].index(captions[0]) for key, captions in zip(coreset.origins, coreset.captions, strict=True)}
    assert firsts == {0, 1}, "not always the first of the data"
    assert len(coreset) == coreset.pairs == 5
    features = embed_source(coreset, lb.space(text="bag_of_words"))["text"]
    assert features.owner.tolist() == [i for i in range(5) for _ in range(2)], "a student draws among both"
    assert all(len(captions) == 1 for captions in _learned_texts().captions)


def _learned_texts() -> DistilledSet:
    problem = lb.Problem(toy_source(), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=4))
    return lb.distill(problem, lb.methods.CF(steps=1))


def test_all_captions_come_back_from_every_layout(coreset: DistilledSet, tmp_path: Path) -> None:
    for layout, spec in (("folder", "folder:{}"), ("webdataset", "webdataset:{}")):
        out = export(coreset, tmp_path / layout, layout)
        again = lb.source(spec.format(out), resolution=16)
        found = [captions for name in again.splits for captions in again.split(name).captions]
        assert sorted(map(sorted, found)) == sorted(map(sorted, coreset.captions)), layout
    again = lb.load(export(coreset, tmp_path / "hf", "hf"))
    assert list(again.captions) == list(coreset.captions) and again.pairs == 5
    manifest = json.loads((tmp_path / "hf" / "manifest.json").read_text())
    assert manifest["pairs"] == 5


def test_a_set_of_one_caption_a_sample_is_as_it_was(coreset: DistilledSet, tmp_path: Path) -> None:
    """Sets that were saved with the caption of the pair alone."""
    old = replace(coreset, captions=[captions[:1] for captions in coreset.captions])
    again = lb.load(old.save(tmp_path / "old"))
    assert again.fingerprint == old.fingerprint and again.pairs == 5 and again.captions == old.captions


def test_save_and_load_give_the_same_set(learned: DistilledSet, coreset: DistilledSet, tmp_path: Path) -> None:
    for small in (learned, coreset):
        again = lb.load(small.save(tmp_path / "set"))
        assert again.fingerprint == small.fingerprint
        assert all(torch.equal(again.tensors[k], v) for k, v in small.tensors.items())
        for name in ("captions", "origins", "nearest", "classes", "licence", "name", "modalities", "encoder_licences"):
            assert getattr(again, name) == getattr(small, name), name
        assert again.recipe.plain() == small.recipe.plain()


def test_the_manifest_names_everything(coreset: DistilledSet, tmp_path: Path) -> None:
    manifest = json.loads((coreset.save(tmp_path / "s") / "manifest.json").read_text())
    assert manifest["schema"] == 2 and manifest["exact"] == ["image"] and manifest["packed"] == {}
    assert manifest["licences"]["data"] == "CC0-1.0" and set(manifest["licences"]["encoders"]) == {"image", "text"}
    assert set(manifest["files"]) == {"README.md", "tensors.safetensors", "data/train-00000-of-00001.parquet"}
    assert all(len(h) == 64 for h in manifest["files"].values())


def test_hugging_face_opens_the_folder(learned: DistilledSet, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.load_dataset(str(learned.save(tmp_path / "set")), split="train", cache_dir=str(tmp_path / "hf"))
    assert table.features["label"].names == list(learned.classes)
    assert table[2]["origin"] == learned.origins[2] and table[0]["image"].size == (16, 16)


@pytest.mark.parametrize("damage", ["change", "remove"])
def test_a_damaged_set_is_refused(coreset: DistilledSet, tmp_path: Path, damage: str) -> None:
    folder = coreset.save(tmp_path / "set")
    file = folder / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x") if damage == "change" else file.unlink()
    with pytest.raises(StorageError, match=r"tensors.safetensors is missing or differs"):
        lb.load(folder)


def test_other_folders_are_refused(coreset: DistilledSet, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no manifest.json"):
        lb.load(tmp_path)
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(StorageError, match="is not a distilled set"):
        coreset.save(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_a_newer_schema_is_refused(coreset: DistilledSet, tmp_path: Path) -> None:
    path = coreset.save(tmp_path / "set") / "manifest.json"
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 99'))
    with pytest.raises(StorageError, match="upgrade limbeck"):
        lb.load(tmp_path / "set")


def test_export_to_a_folder(coreset: DistilledSet, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    out = export(coreset, tmp_path / "out", "folder")
    table = datasets.load_dataset("imagefolder", data_dir=str(out), split="train", cache_dir=str(tmp_path / "hf"))
    assert len(table) == 5 and table[1]["origin"] == coreset.origins[1]


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # webdataset leaves its files to the collector
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_export_to_webdataset(coreset: DistilledSet, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    export(coreset, tmp_path / "out", "webdataset", shard=2)
    shards = sorted(str(p) for p in (tmp_path / "out").glob("*.tar"))
    assert len(shards) == 3
    with tarfile.open(shards[0]) as tar:
        assert tar.getnames() == [f"s0000{i}.{e}" for i in (0, 1) for e in ("png", "json", "txt", "cls")]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    gc.collect()
    assert [int(s["cls"]) for s in samples] == coreset.labels.tolist()  # type: ignore[union-attr]


def test_export_refuses(coreset: DistilledSet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="known: hf, webdataset, folder"):
        export(coreset, tmp_path / "x", "zip")  # type: ignore[arg-type]
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(StorageError, match="not empty"):
        export(coreset, tmp_path, "folder")


@pytest.mark.parametrize("counts", [(1, 2, 0, 3, 1), (2, 1, 1, 0, 2)])
def test_captions_beside_the_first_are_written_where_there_are_some(
    coreset: DistilledSet, tmp_path: Path, counts: tuple[int, ...]
) -> None:
    captions = [tuple(f"caption {i}, {j}" for j in range(count)) for i, count in enumerate(counts)]
    out = export(replace(coreset, captions=captions), tmp_path / "out", "folder")
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert [row.get("text") for row in rows] == [texts[0] if texts else None for texts in captions]
    assert [row.get("captions") for row in rows] == [list(texts) if len(texts) > 1 else None for texts in captions]


@pytest.mark.parametrize("to", ["hf", "folder", "webdataset"])
def test_export_makes_the_folders_above(coreset: DistilledSet, tmp_path: Path, to: str) -> None:
    out = export(coreset, tmp_path / "not" / "there" / "out", to)
    assert names_in(out) == names_in(export(coreset, tmp_path / "out", to)) and len(names_in(out)) >= 2


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_learned_text_is_readable(tmp_path: Path) -> None:
    problem = lb.Problem(toy_source(), lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=4))
    small = lb.distill(problem, lb.methods.CF(steps=2))
    assert small.tensors["text"].shape == (4, problem.space["text"].dim)
    real = {text for sample in toy_source().captions for text in sample}
    assert all(set(c) <= real and c == (near[0][0],) for c, near in zip(small.captions, small.neighbours, strict=True))
    again = lb.load(small.save(tmp_path / "set"))
    assert again.neighbours == small.neighbours and again.embedded_by == small.embedded_by
    features = embed_source(again, problem.space)["text"]
    assert isinstance(features, Features) and torch.allclose(features.vectors, small.tensors["text"], atol=1e-6)


def test_two_sets_in_folders_of_one_name_stay_apart(
    coreset: DistilledSet, learned: DistilledSet, tmp_path: Path
) -> None:
    """`datasets` caches a local repository by the folder's name and the configuration's, not by what is in it."""
    datasets = pytest.importorskip("datasets")
    for name, small in (("a", coreset), ("b", learned)):
        folder = small.save(tmp_path / name / "set")
        table = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "hf"))
        assert list(table["origin"]) == list(small.origins)
