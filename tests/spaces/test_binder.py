"""Bound spaces: the contract, what is trained and what is not, missing modalities, the folder, and refusals."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import limbeck as lb
from limbeck.data.factors import factors
from limbeck.data.plain import seal
from limbeck.data.vectors import VectorSource
from limbeck.errors import ConfigError, DataError, Diverged, StorageError
from limbeck.runtime.locks import owned
from limbeck.spaces import Space, binder, embed_source
from limbeck.spaces.binder import Binding, bind, load_space
from limbeck.spaces.contract import check_encoder
from limbeck.spaces.encoders.vectors import Vectors
from limbeck.spaces.heads import MANIFEST, Head, read_heads, read_manifest

FEW = Binding(dim=8, hidden=(16,), steps=6, batch=16, seed=3)
PLAIN = {m: "vectors:64" for m in "abc"}


def encoders() -> Space:
    return lb.space(image={"name": "convnet", "width": 16}, text={"name": "bag_of_words", "width": 32})


def read(folder: Path) -> dict[str, Head]:
    return read_heads(folder, read_manifest(folder))


def weights(head: Head) -> Tensor:
    return torch.cat([p.detach().flatten() for p in head.parameters()])


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A space over images and texts of the toy source."""
    folder = tmp_path_factory.mktemp("spaces") / "bound"
    bind(lb.check.toy_source(), encoders(), folder, FEW)
    return folder


@pytest.mark.parametrize("modality", ["image", "text"])
def test_a_bound_encoder_keeps_the_contract(bound: Path, modality: str) -> None:
    check_encoder(lb.space(**{modality: f"bound:{bound}"})[modality])


def test_vectors_keep_the_contract() -> None:
    check_encoder(Vectors("4", "audio"), torch.randn(3, 4, generator=torch.Generator().manual_seed(1)))
    with pytest.raises(ConfigError, match="vectors:64; got 'x'"):
        lb.space(audio="vectors:x")
    with pytest.raises(DataError, match=r"takes \[B, 4\], got \(2, 3\)"):
        lb.space(audio="vectors:4")["audio"](torch.ones(2, 3))


def test_a_bound_space_is_opened_by_name_and_used_by_methods(bound: Path) -> None:
    space = lb.space(image=f"bound:{bound}", text=f"bound:{bound}")
    below = encoders()
    assert [space[m].parts[0].weights == below[m].weights for m in ("image", "text")] == [True, True]
    assert space["image"].weights != below["image"].weights, "the head has weights, too"
    assert space.dims == {"image": 8, "text": 8} and space.fingerprint == load_space(bound).fingerprint
    small = lb.distill(lb.Problem(lb.check.toy_source(), space, lb.Budget(pairs=4)), lb.methods.Herding())
    assert lb.space(**small.recipe.space).fingerprint == space.fingerprint
    assert small.encoder_licences["image"] == "CC0-1.0"


def test_one_name_opens_a_bound_space(bound: Path) -> None:
    space = lb.space(f"bound:{bound}")
    assert space.describe() == load_space(bound).describe() and set(space.modalities) == {"image", "text"}


def test_gradients_reach_the_pixels_and_no_weight(bound: Path) -> None:
    encoder = load_space(bound)["image"]
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (encoder(images) @ torch.arange(8.0)).sum().backward()
    assert images.grad is not None and images.grad.isfinite().all() and images.grad.any()
    assert all(p.grad is None for p in encoder.network.parameters())


def test_a_seed_gives_one_space_and_the_place_is_no_part_of_it(bound: Path, tmp_path: Path) -> None:
    source = lb.check.toy_source()
    again = bind(source, encoders(), tmp_path / "again", FEW)
    first, images = load_space(bound), source.batch(range(5))["image"]
    assert again.fingerprint == first.fingerprint
    assert read_manifest(tmp_path / "again")["history"] == read_manifest(bound)["history"]
    versions = read_manifest(bound)["versions"]
    assert versions["limbeck"] == lb.__version__ and f"{torch.__version__}+".startswith(versions["torch"] + "+")
    assert torch.equal(again["image"](images), first["image"](images))
    assert bind(source, encoders(), tmp_path / "other", replace(FEW, seed=4)).fingerprint != first.fingerprint
    moved = shutil.copytree(bound, tmp_path / "moved")
    assert load_space(moved).fingerprint == first.fingerprint


def test_a_cached_feature_through_the_head_is_the_vector(bound: Path, tmp_path: Path) -> None:
    """Head of encoder is the bound encoder: what was trained on cached features is what is used."""
    source, cache = lb.check.toy_source(), lb.Cache(tmp_path)
    features = embed_source(source, encoders(), cache)["image"].vectors
    with torch.no_grad():
        expected = torch.nn.functional.normalize(read(bound)["image"](features), dim=1)
    torch.testing.assert_close(
        embed_source(source, load_space(bound), cache)["image"].vectors, expected, rtol=0, atol=1e-6
    )


def test_frozen_encoders_stay_as_they_were(tmp_path: Path) -> None:
    space = encoders()
    before = [p.clone() for e in space.encoders.values() for p in e.network.parameters()]
    bind(lb.check.toy_source(), space, tmp_path / "a", FEW)
    after = [p for e in space.encoders.values() for p in e.network.parameters()]
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


@pytest.mark.parametrize("state", ["random", "pretrained", "trainable", "own"])
def test_what_a_fixed_anchor_does(state: Any, tmp_path: Path) -> None:
    train = factors(48)
    told: list[str] = []
    anchor = replace(FEW, anchor="fixed:b", state=state, dim=64 if state == "own" else 8)
    untrained = bind(train, lb.space(**PLAIN), tmp_path / "start", replace(anchor, steps=0))
    space = bind(train, lb.space(**PLAIN), tmp_path / "end", anchor, tick=lambda what, *_: told.append(what))
    start, end = read(tmp_path / "start"), read(tmp_path / "end")
    assert not torch.equal(weights(start["a"]), weights(end["a"]))
    if state == "own":
        values = train.batch(range(3))["b"]
        assert torch.equal(space["b"](values), lb.space(b="vectors:64")["b"](values))
    else:
        assert torch.equal(weights(start["b"]), weights(end["b"])) == (state == "random")
    assert ("anchor" in told) == (state == "pretrained")
    assert untrained.dims == space.dims


def test_a_frozen_anchor_does_not_hear_of_the_others(tmp_path: Path) -> None:
    """Pretrained alone: the same head whether one or two modalities are bound to it."""
    anchor = replace(FEW, anchor="fixed:a")
    for name, modalities in (("two", "ab"), ("three", "abc")):
        bind(factors(48), lb.space(**{m: PLAIN[m] for m in modalities}), tmp_path / name, anchor)
    assert torch.equal(weights(read(tmp_path / "two")["a"]), weights(read(tmp_path / "three")["a"]))


def test_missing_modalities_are_counted_and_what_they_hold_is_not_read(tmp_path: Path) -> None:
    whole = factors(40).batch(range(40))
    here = {
        "a": torch.arange(40) >= 4,
        "b": torch.arange(40) >= 2,
        "c": (torch.arange(40) >= 2) & (torch.arange(40) < 30),
    }
    sources = [
        VectorSource("some", {m: whole[m].where(here[m][:, None], fill) for m in here}, present=here)
        for fill in (torch.tensor(torch.nan), torch.tensor(7.0))
    ]
    spaces = [bind(s, lb.space(**PLAIN), tmp_path / str(i), FEW) for i, s in enumerate(sources)]
    assert spaces[0].fingerprint == spaces[1].fingerprint
    counted = read_manifest(tmp_path / "0")["samples"]
    assert counted == {"all": 40, "one_modality": 0, "no_modality": 2, "a": 36, "b": 38, "c": 28}
    assert all(torch.isfinite(weights(head)).all() for head in read(tmp_path / "0").values())
    manifest = json.loads((tmp_path / "0" / MANIFEST).read_text())
    older = {"one_modality": "of one modality", "no_modality": "of none"}
    manifest["samples"] = {older.get(key, key): count for key, count in counted.items()}
    (tmp_path / "0" / MANIFEST).write_text(json.dumps(seal(manifest)))
    assert read_manifest(tmp_path / "0")["samples"] == counted
    del manifest["samples"]  # no reader of spaces needs them
    (tmp_path / "0" / MANIFEST).write_text(json.dumps(seal(manifest)))
    assert len(load_space(tmp_path / "0").modalities) == 3


def test_each_caption_is_met(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rows: set[int] = set()
    original = binder._Data.read

    def spy(self: Any, modality: str, samples: Tensor, generator: torch.Generator) -> Any:
        found = original(self, modality, samples, generator)
        if modality == "text":
            equal = (found[0][:, None] == self.vectors["text"][None]).all(-1)
            owner = torch.arange(48) // 2
            assert (equal & (owner[None] == samples[:, None])).any(1).all(), "a caption of another sample"
            rows.update(equal.nonzero()[:, 1].tolist())
        return found

    monkeypatch.setattr(binder._Data, "read", spy)
    bind(lb.check.toy_source(), encoders(), tmp_path / "a", replace(FEW, steps=20))
    assert rows == set(range(48))


def test_the_temperature_is_learned_within_bounds(tmp_path: Path) -> None:
    cold = replace(FEW, learn_temperature=True, temperature=0.0101, rate=0.5)
    bind(factors(48), lb.space(**PLAIN), tmp_path / "a", cold)
    learned = [row["temperature"] for row in read_manifest(tmp_path / "a")["history"]]
    assert len(set(learned)) > 1 and min(learned) >= 0.00999
    bind(factors(48), lb.space(**PLAIN), tmp_path / "b", replace(FEW, temperature=0.005))
    assert [row["temperature"] for row in read_manifest(tmp_path / "b")["history"]] == pytest.approx([0.005] * 6)


def test_a_loss_that_is_not_finite_says_which_rate_to_lower(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"binding, step \d: the loss is .*lower the rate \(1e\+30\)"):
        bind(factors(48), lb.space(**PLAIN), tmp_path / "a", replace(FEW, rate=1e30))
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"anchor": "centre"}, "`anchor` must be centroid, all_pairs or fixed:MODALITY"),
        ({"anchor": "fixed"}, "`anchor` must be centroid"),
        (
            {"anchor": "all_pairs", "detach": True},
            "`detach=True` of bind is ignored when `anchor=all_pairs`. Remove it, or set `anchor=centroid`.",
        ),
        ({"with_itself": True}, "`with_itself=True` .* `anchor=centroid`. Remove it, or set `anchor=all_pairs`."),
        ({"state": "own"}, "`state=own` .* `anchor=centroid`. Remove it, or set `anchor=fixed:image`."),
        ({"batch": 1}, "`batch` of bind must be 2 or more, got 1"),
        ({"hidden": (0,)}, r"`hidden` of bind must be 1 or more, each of its values, got \(0,\)"),
        ({"dim": 0}, "`dim` of bind must be 1 or more"),
        ({"steps": -1}, "`steps` of bind must be 0 or more"),
        ({"temperature": 0.0}, "`temperature` of bind must be above 0"),
        ({"rate": 0.0}, "`rate` of bind must be above 0"),
        ({"decay": -0.1}, "`decay` of bind must be 0 or more"),
        ({"noise": -0.1}, "`noise` of bind must be 0 or more"),
        ({"dropout": 1.0}, "`dropout` of bind must be 0 or more and below 1"),
        ({"dropout": -0.1}, "`dropout` of bind must be 0 or more and below 1"),
        ({"weights": {"a": 0.0}}, "`weights` of bind must be above 0 .*, each of its values"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Binding(**options)


def test_the_least_of_every_option_can_work() -> None:
    least = {"dim": 1, "hidden": (1,), "steps": 0, "batch": 2, "decay": 0.0, "noise": 0.0, "dropout": 0.0}
    assert vars(replace(FEW, **least)).items() >= least.items()  # type: ignore[arg-type]


def test_what_cannot_be_bound(tmp_path: Path) -> None:
    toy, space = lb.check.toy_source(), lb.space(**PLAIN)
    with pytest.raises(ConfigError, match="shares image with the space"):
        bind(toy, lb.space(image="convnet", audio="vectors:3"), tmp_path / "a", FEW)
    with pytest.raises(ConfigError, match="anchor 'd' is not among what is bound: a, b, c"):
        bind(factors(9), space, tmp_path / "a", replace(FEW, anchor="fixed:d"))
    with pytest.raises(ConfigError, match="weights names d"):
        bind(factors(9), space, tmp_path / "a", replace(FEW, weights={"d": 1.0}))
    with pytest.raises(ConfigError, match="set dim to 64, got 8"):
        bind(factors(9), space, tmp_path / "a", replace(FEW, anchor="fixed:a", state="own"))
    values = {m: factors(9).batch(range(9))[m] for m in "ab"}
    none = VectorSource("none", values, present={"b": torch.zeros(9, dtype=torch.bool)})
    with pytest.raises(DataError, match="no sample of none has b"):
        bind(none, space, tmp_path / "a", FEW)
    apart = VectorSource("apart", values, present={"a": torch.arange(9) < 5, "b": torch.arange(9) > 3})
    with pytest.raises(DataError, match="only 1 samples have two of a, b"):
        bind(apart, space, tmp_path / "a", FEW)


def test_folders_that_are_something_else(bound: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="exists and is not a bound space"):
        bind(lb.check.toy_source(), encoders(), tmp_path / "mine", FEW)
    with pytest.raises(StorageError, match=r"holds no space\.json"):
        _ = lb.space(image=f"bound:{tmp_path / 'mine'}")["image"].dim
    with pytest.raises(ConfigError, match="has no audio; it has image, text"):
        _ = lb.space(audio=f"bound:{bound}")["audio"].dim

    def copy(name: str, **changes: Any) -> Path:
        folder = shutil.copytree(bound, tmp_path / name)
        manifest = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps(seal(manifest | changes)))
        return folder

    with pytest.raises(StorageError, match="has schema 99, this version reads up to 1; upgrade"):
        load_space(copy("newer", schema=99))
    with pytest.raises(StorageError, match="not a manifest of a bound space: encoders must be a mapping"):
        load_space(copy("odd", encoders=[]))
    with pytest.raises(StorageError, match="other weights or options than when"):
        _ = load_space(copy("weights", fingerprints={"image": "0", "text": "0"}))["image"].network
    with pytest.raises(StorageError, match=r"heads are of .*encoders of"):
        load_space(copy("one", heads={"image": {"inputs": 3, "hidden": [], "dim": 8}}))
    head = {"inputs": 3, "hidden": [], "dim": 8}
    with pytest.raises(StorageError, match="does not hold the heads"):
        _ = load_space(copy("heads", heads={"image": head, "text": head}))["image"].network
    changed = copy("changed") / "tensors.safetensors"
    raw = bytearray(changed.read_bytes())
    raw[-1] ^= 1
    changed.write_bytes(raw)
    with pytest.raises(StorageError, match="differs from its SHA-256"):
        _ = load_space(changed.parent)["image"].network


def test_binding_again_replaces_the_space(tmp_path: Path) -> None:
    first = bind(factors(20), lb.space(**PLAIN), tmp_path / "a", FEW).fingerprint
    again = bind(factors(20), lb.space(**PLAIN), tmp_path / "a", replace(FEW, anchor="all_pairs"))
    assert again.fingerprint != first and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_the_licence_is_that_of_all_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = encoders()
    monkeypatch.setattr(type(space["text"]), "licence", "CC-BY-NC-4.0")
    bound = bind(lb.check.toy_source(), space, tmp_path / "a", FEW)
    assert set(bound.licences.values()) == {"CC-BY-NC-4.0 AND CC0-1.0"}


def test_a_head_standardises_and_does_not_blow_up_what_hardly_moves() -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([2.0, 1.0, 0.0]) + 5
    head = Head(3, (), 2, torch.Generator().manual_seed(0))
    head.standardise(x)
    z = head.standard(x)
    torch.testing.assert_close(z[:, :2].std(0, correction=0), torch.ones(2))
    assert z[:, 2].abs().max() < 1e-3 and float(head.deviation[2]) == pytest.approx(
        0.01 * (x.std(0, correction=0).mean())
    )


def test_one_process_at_a_time_binds_into_a_folder(tmp_path: Path) -> None:
    place = tmp_path / "space"
    with (
        owned(place, "bind", beside=True),
        pytest.raises(StorageError, match=r"space is in use by this process itself"),
    ):
        bind(lb.check.toy_source(), encoders(), place, FEW)
    assert not place.exists()
    for _ in range(2):
        bind(lb.check.toy_source(), encoders(), place, FEW)
    assert [p.name for p in tmp_path.iterdir()] == ["space"]


def test_a_space_that_a_killed_process_was_to_replace_is_put_back(tmp_path: Path, bound: Path) -> None:
    work = tmp_path / ".limbeck-work-01234567"
    work.mkdir()
    (work / "owner.json").write_text('{"limbeck": "work", "target": "space"}')
    shutil.copytree(bound, work / "old")
    assert load_space(tmp_path / "space").modalities == load_space(bound).modalities
    assert [p.name for p in tmp_path.iterdir()] == ["space"]
