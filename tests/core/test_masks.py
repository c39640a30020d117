"""Masks travel with their images: from the source through every method into the set, its files and its layouts."""

import io
import json
import re
import tarfile
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import limbeck as lb
from limbeck import registry
from limbeck.check import check_method, check_source, toy_source
from limbeck.core import DistilledSet, chosen_pairs, encode, object_masks
from limbeck.core.card import card
from limbeck.core.codec import exact_bytes, png
from limbeck.core.distilled import freeze
from limbeck.core.export import export
from limbeck.core.recipe import Recipe
from limbeck.data import Batch, Source
from limbeck.errors import DataError
from limbeck.spaces import embed_source
from masked import Masked
from priors import GENERATIVE

QUICK = {
    "steps": 2,
    "width": 8,
    "experts": 1,
    "expert_batch": 8,
    "inner_steps": 2,
    "inner_batch": 4,
    "segments": 1,
    "rank": 2,
}
READERS = {"guided"}  # methods whose losses read masks, so that what they learn depends on them


def problem(pairs: int = 6, source: Source | None = None, **encoders: str) -> lb.Problem:
    space = lb.space(**(encoders or {"image": "convnet", "text": "bag_of_words"}))
    return lb.Problem(source or Masked(), space, lb.Budget(pairs=pairs))


@pytest.fixture(scope="module")
def small() -> DistilledSet:
    return lb.distill(problem(source=Masked(modalities=("image", "label")), image="convnet"), lb.methods.Random())


def _grey(data: bytes) -> Tensor:
    picture = Image.open(io.BytesIO(data))
    assert picture.mode == "L"
    return torch.tensor(list(picture.tobytes()), dtype=torch.uint8).view(1, picture.height, picture.width)


def test_the_source_of_these_tests_is_one() -> None:
    check_source(Masked())


def test_a_sample_without_a_mask_or_with_an_empty_one_is_object_everywhere() -> None:
    source = Masked(10)
    masks = object_masks(source.batch(range(10)))
    assert masks.mean(dim=(1, 2, 3)).tolist() == [0.25, 1.0, 1.0, 0.25, 0.25] * 2
    assert torch.equal(masks[0], source.masks[0])


def _unfit(**change: Tensor) -> Batch:
    return Batch({"image": torch.zeros(2, 3, 8, 8), "mask": torch.ones(2, 1, 8, 8), **change})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mask": torch.ones(2, 1, 4, 8)}, r"masks of \[1, 4, 8\] do not fit images of 8 x 8 pixels"),
        ({"mask": torch.ones(2, 3, 8, 8)}, r"masks of \[3, 8, 8\] do not fit"),
        ({"mask": torch.full((2, 1, 8, 8), 255.0)}, "lie in .0, 1.*from 255 to 255; divide by the largest value"),
        ({"mask": torch.full((2, 1, 8, 8), -0.5)}, "from -0.5 to -0.5"),
        ({"mask": torch.full((2, 1, 8, 8), torch.nan)}, "from nan to nan"),
    ],
)
def test_masks_that_do_not_belong_are_refused(change: dict[str, Tensor], said: str) -> None:
    with pytest.raises(DataError, match=said):
        object_masks(_unfit(**change))


def test_a_synthetic_set_carries_the_masks_of_its_start() -> None:
    of = problem()
    synthetic = chosen_pairs(of, torch.tensor([6, 0, 2]), learn=of.modalities)
    origin = synthetic.origin
    assert "mask" in synthetic.modalities and "mask" not in synthetic.learned, "carried, not learned"
    expected = object_masks(of.source.batch(origin))
    assert torch.equal(synthetic.batch()["mask"], expected) and expected.mean() < 1
    assert torch.equal(synthetic.batch(torch.tensor([2]))["mask"], expected[2:])


@pytest.mark.parametrize("unmasked", ["no masks", "no images"])
def test_a_set_without_masks_is_as_it_was(unmasked: str) -> None:
    of = problem(source=toy_source()) if unmasked == "no masks" else problem(text="bag_of_words")
    synthetic = chosen_pairs(of, torch.arange(3))
    assert not of.masked and "mask" not in synthetic.modalities
    small = lb.distill(of, lb.methods.Random())
    assert "mask" not in small.modalities and "mask" not in small.tensors and small.coverage is None


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in registry.names("method") if name not in GENERATIVE])
def test_every_method_takes_the_masks_along(name: str) -> None:
    method = registry.get("method", name)()
    method = replace(method, **{key: value for key, value in QUICK.items() if key in {f.name for f in fields(method)}})
    source, encoders = Masked(), {"image": "convnet", "text": "bag_of_words"}
    try:
        method.check(problem(8, source, **encoders))
    except DataError:  # it is for images alone
        del encoders["text"]
    small = lb.distill(problem(8, source, **encoders), method)
    rows = [list(source.keys).index(key) for key in small.origins]
    assert torch.equal(small.batch(range(8))["mask"], object_masks(source.batch(rows)))
    if name not in READERS:
        plain = lb.distill(problem(8, source.plain, **encoders), method)
        assert all(torch.equal(small.tensors[key], value) for key, value in plain.tensors.items())


@pytest.mark.slow
def test_an_interrupted_run_keeps_its_masks() -> None:
    check_method(lb.methods.CF(steps=3), lb.space(image="convnet"), Masked())


def test_freezing_rounds_masks_to_8_bits() -> None:
    of = replace(problem(3), budget=lb.Budget(pairs=3, pixels="float32"))
    synthetic = chosen_pairs(of, torch.arange(3))
    soft = torch.linspace(-0.1, 1.1, 3 * 256).view(3, 1, 16, 16)
    synthetic.value("mask").copy_(soft)
    small = freeze(of, Recipe(method={"name": "none"}), synthetic, learned_text=False)
    assert small.tensors["mask"].dtype == torch.uint8 and small.tensors["image"].dtype == torch.float32
    assert torch.equal(small.tensors["mask"], (soft.clamp(0, 1) * 255).round().byte())
    assert (small.batch([2, 0])["mask"] - soft.clamp(0, 1)[[2, 0]]).abs().max() <= 0.5 / 255 + 1e-6


def test_a_mask_is_paid_for() -> None:
    masked, plain = (problem(source=s) for s in (Masked(), toy_source()))
    assert masked.sample_bytes(True) - plain.sample_bytes(True) == exact_bytes(1, 16, 16) >= 256
    limit = lb.Budget(bytes=5 * masked.sample_bytes(True) + masked.fixed_bytes)
    small = lb.distill(replace(masked, budget=limit), lb.methods.CF(steps=1))
    assert len(small) == 5 and small.nbytes <= limit.bytes and small.sizes["mask"] > 100


def test_coverage_counts_what_is_object(small: DistilledSet) -> None:
    rows = [list(Masked().keys).index(key) for key in small.origins]
    whole = sum(row % 5 in (1, 2) for row in rows)
    assert small.coverage is not None and 0 < whole < 6
    assert torch.allclose(small.coverage.mean(), torch.tensor(0.25 + 0.75 * whole / 6))
    said = f"- Masks: the object takes {25 + 75 * whole / 6:.0f} % of an image on average, from 25 % to 100 %; {whole} of 6"
    assert said in card(small, small.nbytes)


def test_save_and_load_give_the_same_masks(small: DistilledSet, tmp_path: Path) -> None:
    again = lb.load(small.save(tmp_path / "set"))
    assert again.fingerprint == small.fingerprint and again.modalities == small.modalities
    assert torch.equal(again.tensors["mask"], small.tensors["mask"])
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["exact"] == ["image", "mask"] and again.nbytes == small.nbytes
    check_source(again)


def test_a_set_of_before_masks_keeps_its_fingerprint() -> None:
    """The digest is part of the format: it names sets in recipes and caches."""
    images = torch.arange(2 * 3 * 4).view(2, 3, 2, 2).byte()
    modalities = {"image": lb.Modality("image", (3, 2, 2))}
    old = DistilledSet("old", modalities, {"image": images}, captions=[(), ()], origins=["a", "b"])
    assert old.fingerprint == "18b6fc412c9b3de84b612cba97cc4788"
    assert torch.equal(old.batch([1, 0])["image"], images[[1, 0]].float() / 255)


def test_the_table_shows_the_masks(small: DistilledSet, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.load_dataset(str(small.save(tmp_path / "set")), split="train", cache_dir=str(tmp_path / "hf"))
    assert isinstance(table.features["mask"], datasets.Image) and table[3]["mask"].mode == "L"
    seen = torch.tensor(list(table[3]["mask"].tobytes()), dtype=torch.uint8).view(1, 16, 16)
    assert torch.equal(seen, small.tensors["mask"][3])


def test_exports_carry_the_masks(small: DistilledSet, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    folder = export(small, tmp_path / "folder", "folder")
    assert torch.equal(_grey((folder / "masks" / "s00004.png").read_bytes()), small.tensors["mask"][4])
    table = datasets.load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "hf"))
    assert len(table) == 6 and table[4]["mask"].size == (16, 16) and table[4]["origin"] == small.origins[4]
    export(small, tmp_path / "tar", "webdataset")
    with tarfile.open(next((tmp_path / "tar").glob("*.tar"))) as tar:
        assert {name.partition(".")[2] for name in tar.getnames()} == {"png", "mask.png", "json", "cls"}
        assert torch.equal(_grey(tar.extractfile("s00002.mask.png").read()), small.tensors["mask"][2])  # type: ignore[union-attr]
    assert torch.equal(lb.load(export(small, tmp_path / "hf-set", "hf")).tensors["mask"], small.tensors["mask"])


@pytest.mark.parametrize("to", ["folder", "webdataset", "hf"])
def test_an_export_opens_again_with_its_masks(
    small: DistilledSet, tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if to == "hf":
        monkeypatch.setattr(pytest.importorskip("datasets").config, "HF_DATASETS_CACHE", tmp_path / "cache")
    source = lb.source(f"{to}:{export(small, tmp_path / 'out', to)}", split="train", resolution=16)
    check_source(source)
    assert sum(len(source.split(name)) for name in source.splits) == 6 and source.classes == small.classes
    rows = [int(re.findall(r"\d+", key)[0]) for key in source.keys]  # s00004, s00004.png, train/4
    batch, own = source.batch(range(len(source))), small.batch(rows)
    assert torch.equal(batch["mask"], own["mask"]) and 0 < batch["mask"].mean() < 1
    assert torch.equal(batch["image"], own["image"]) and torch.equal(batch["label"], own["label"])


def test_what_reads_features_ignores_masks(small: DistilledSet) -> None:
    of = problem()
    assert set(embed_source(of.source, of.space)) == {"image", "text"}
    assert set(embed_source(small, of.space)) == {"image"}
    synthetic = chosen_pairs(of, torch.arange(3), learn=of.modalities)
    assert set(encode(of.space, synthetic)) == set(of.space.embed(synthetic.batch())) == {"image", "text"}


@pytest.mark.slow
def test_a_masked_set_is_judged_as_it_is() -> None:
    source, rows, sets = Masked(40), [], []
    for train in (source, source.plain):
        of = problem(8, train)
        sets.append(small := lb.distill(of, lb.methods.Random()))
        rows.append(lb.evaluate(small, train.split("test"), protocol="classification", seeds=2, epochs=2))
    masked, without = rows
    assert [(s.metric, s.values) for s in masked] == [(s.metric, s.values) for s in without]
    files = sum(len(png(mask)) for mask in sets[0].tensors["mask"])
    assert 0.3 * files < masked[0].bytes - without[0].bytes < 1.5 * files, "compressed, and with its names"


def test_coverage_is_the_share_of_each_image() -> None:
    """A mask of ones is 1, half a mask 0.5, an empty mask counts as object everywhere."""
    small = lb.distill(lb.Problem(Masked(), lb.space(image="convnet"), lb.Budget(pairs=12)), lb.methods.Random())
    masks = small.batch(range(len(small)))["mask"]
    shares = [sum(mask.flatten().tolist()) / mask.numel() for mask in masks]
    assert small.coverage is not None
    assert small.coverage.tolist() == pytest.approx([share or 1.0 for share in shares])
    assert {0.25, 1.0} <= {round(share, 4) for share in small.coverage.tolist()}
