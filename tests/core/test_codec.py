"""In which bytes images and vectors are stored, and what is read back from them."""

import io
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features
from torch import Tensor

import limbeck as lb
from limbeck.check import toy_source
from limbeck.core import DistilledSet, Method, Problem, Storage
from limbeck.core.codec import Files, decoded, exact_bytes, exact_files, pack, stored_files
from limbeck.data.decode import decode_image
from limbeck.data.parse import Unreadable
from limbeck.errors import ConfigError, LimbeckWarning, StorageError
from tiers import slow_but
from whole import ROWS, TABLE, whole_set, with_file, with_manifest

LOSSY = [name for name in ("jpeg", "webp", "avif") if features.check({"jpeg": "jpg"}.get(name, name))]


def noise(rows: int = 3, side: int = 16, channels: int = 3) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(256, (rows, channels, side, side), dtype=torch.uint8, generator=draw)


def pixels(file: bytes) -> Tensor:
    with Image.open(io.BytesIO(file)) as image:
        rows = torch.tensor(list(image.convert("RGB").tobytes()), dtype=torch.uint8)
        return rows.view(image.height, image.width, 3).permute(2, 0, 1)


def problem(budget: Any = None, storage: Storage | None = None, source: Any = None, text: bool = True) -> Problem:
    space = lb.space(image="convnet", **({"text": "bag_of_words"} if text else {}))
    return Problem(source or toy_source(48), space, budget or lb.Budget(pairs=6), storage=storage or Storage())


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"codec": "gif"}, "`codec` of storage must be auto, png, jpeg, webp or avif, got 'gif'"),
        ({"vectors": "int2"}, "`vectors` of storage must be float32, float16, int8 or int4, got 'int2'"),
        ({"codec": "jpeg", "quality": 0}, "from 1 to 100, got 0"),
        ({"codec": "jpeg", "quality": 101}, "from 1 to 100, got 101"),
        (
            {"codec": "png", "quality": 20},
            r"`quality=20` of storage is ignored when the codec is exact \(`codec=png`\)",
        ),
        ({"side": -1}, "from 0 to 16383, got -1"),
    ],
)
def test_what_cannot_be_stored_so(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Storage(**options)


def test_a_codec_that_pillow_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: name != "avif")
    with pytest.raises(ConfigError, match="writes no avif; choose another codec"):
        Storage("avif")


def test_floats_have_no_codec() -> None:
    with pytest.raises(ConfigError, match="floats have no codec"):
        problem(lb.Budget(pairs=2, pixels="float32"), Storage("jpeg"))


@pytest.mark.parametrize("codec", ["auto", "png"])
def test_exact_codecs_change_nothing(codec: str) -> None:
    for values in (noise(), (torch.arange(3 * 256) // 200).view(1, 3, 16, 16).byte()):
        made = stored_files(values, Storage(codec))
        assert made.exact and torch.equal(made.values, values)
        assert all(torch.equal(pixels(file), x) for file, x in zip(made.files, values, strict=True))
        assert all(len(file) <= exact_bytes(3, 16, 16) for file in made.files)


@pytest.mark.parametrize(("channels", "side"), [(3, 1), (3, 17), (3, 64), (1, 64), (3, 200)])
def test_noise_takes_no_more_than_is_assumed(channels: int, side: int) -> None:
    made = exact_files(noise(1, side, channels))
    assert 0 <= exact_bytes(channels, side, side) - len(made.files[0]) < 200 + side * side // 100


@pytest.mark.parametrize("codec", LOSSY)
def test_lossy_codecs_give_what_is_decoded(codec: str) -> None:
    low, high = (stored_files(noise(), Storage(codec, quality)) for quality in (10, 90))
    assert low.nbytes < high.nbytes < exact_files(noise()).nbytes and not low.exact
    assert [torch.equal(decoded(f, 16, 16), x) for f, x in zip(low.files, low.values, strict=True)] == [True] * 3
    errors = [(made.values.float() - noise().float()).abs().mean() for made in (low, high)]
    assert 0 < errors[1] < errors[0]


@pytest.mark.parametrize("codec", ["png", *LOSSY])
def test_a_side_is_what_is_stored_and_not_what_is_seen(codec: str) -> None:
    made = stored_files(noise(), Storage(codec, side=8))
    assert {Image.open(io.BytesIO(file)).size for file in made.files} == {(8, 8)} and not made.exact
    assert made.values.shape == (3, 3, 16, 16)
    assert torch.equal(made.values[1], torch.from_numpy(decode_image(made.files[1], 16)))
    larger = stored_files(noise(), Storage(codec, side=64))
    assert {Image.open(io.BytesIO(file)).size for file in larger.files} == {(16, 16)}, "nothing is gained"


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.floats(1e-30, 1e30), st.sampled_from(["float32", "float16", "int8", "int4"]))
def test_packed_vectors_are_near(width: int, size: float, kind: str) -> None:
    values = torch.randn(3, 2, width, generator=torch.Generator().manual_seed(width)) * size
    values[1] = 0
    packed = pack(values, kind)
    assert packed.values.shape == values.shape and not packed.values[1].any()
    if kind == "float32":
        assert torch.equal(packed.values, values)
    elif kind != "float16":
        step = values.abs().amax(-1, keepdim=True) / {"int8": 127, "int4": 7}[kind]
        assert bool(((packed.values - values).abs() <= 0.5001 * step + 1e-45).all())
    assert torch.equal(pack(packed.values, kind).values, packed.values), "nothing is lost twice"


def test_a_code_of_four_bits_is_half_a_byte() -> None:
    packed = pack(torch.tensor([[7.0, -7.0, 3.4, 0.0, -1.0]]), "int4")
    assert packed.parts[""].tolist() == [[8 + 7 | (8 - 7) << 4, 8 + 3 | 8 << 4, 8 - 1 | 8 << 4]]
    assert packed.values.tolist() == [[7.0, -7.0, 3.0, 0.0, -1.0]] and packed.parts[".scale"].tolist() == [[1.0]]


STORAGES = [Storage("png"), *(Storage(codec, 30, 8, "int8") for codec in LOSSY), Storage(vectors="int4"), Storage()]


@pytest.mark.parametrize("storage", slow_but(STORAGES, STORAGES[0], STORAGES[-1]), ids=str)
@pytest.mark.parametrize("method", [lb.methods.Random(), lb.methods.CF(steps=1)], ids=["random", "cf"])
def test_what_is_saved_is_what_was_judged(method: Method, storage: Storage, tmp_path: Path) -> None:
    small = lb.distill(problem(storage=storage), method)
    folder = small.save(tmp_path / "set")
    back = lb.load(folder)
    assert back.fingerprint == small.fingerprint and set(back.tensors) == set(small.tensors)
    assert all(torch.equal(back.tensors[name], value) for name, value in small.tensors.items())
    assert small.nbytes == back.nbytes == folder_bytes(folder)
    again = back.save(tmp_path / "again")
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert all((again / name).read_bytes() == (folder / name).read_bytes() for name in names)
    assert small.recipe.storage == {k: v for k, v in vars(storage).items() if v != vars(Storage())[k]}


def test_hugging_face_sees_the_stored_pixels(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    small = lb.distill(problem(storage=Storage(LOSSY[0], 30)), lb.methods.Random())
    table = datasets.load_dataset(str(small.save(tmp_path / "set")), split="train", cache_dir=str(tmp_path / "hf"))
    for row, x in zip(table, small.tensors["image"], strict=True):
        seen = torch.tensor(list(row["image"].convert("RGB").tobytes()), dtype=torch.uint8)
        assert torch.equal(seen.view(16, 16, 3).permute(2, 0, 1), x)


def test_a_set_of_schema_1_opens_and_is_saved_as_schema_2(tmp_path: Path) -> None:
    old, whole = lb.load(Path(__file__).parent / "schema1"), whole_set()
    assert old.fingerprint == whole.fingerprint == "4c988b089d6c4d51de3931387ece4cac"
    assert all(torch.equal(old.tensors[name], value) for name, value in whole.tensors.items())
    folder = old.save(tmp_path / "new")
    new = lb.load(folder)
    assert new.fingerprint == old.fingerprint and '"schema": 2' in (folder / "manifest.json").read_text()
    assert folder_bytes(folder) == old.nbytes == new.nbytes < folder_bytes(Path(__file__).parent / "schema1")


class Photos(type(toy_source())):  # type: ignore[misc]
    """Toy images that lie on the disk as WebP files of another shape."""

    def __init__(self, n: int) -> None:
        super().__init__(n, "train", ("image", "text", "label"), 32)
        self.bytes = []
        for x in self._image:
            buffer = io.BytesIO()
            rows = x.mul(255).byte().permute(1, 2, 0).numpy()
            Image.fromarray(rows).resize((64, 32)).save(buffer, "webp", quality=20)
            self.bytes.append(buffer.getvalue())
        self._image = torch.stack([torch.from_numpy(decode_image(b, 32)) for b in self.bytes]).float() / 255

    def files(self, modality: str, index: Any) -> list[bytes | None]:
        return [self.bytes[i] if modality == "image" else None for i in index]


def test_real_images_keep_their_files_and_their_shape() -> None:
    source = Photos(24)
    small = lb.distill(problem(source=source), lb.methods.Random())
    at = [list(source.keys).index(key) for key in small.origins]
    held = small.pictures["image"]
    own = [source.bytes[i] for i in at]
    assert any(file == mine for file, mine in zip(held.files, own, strict=True))
    assert all(len(file) <= len(mine) for file, mine in zip(held.files, own, strict=True))
    assert torch.equal(small.tensors["image"], source.batch(at)["image"].mul(255).round().byte())
    assert all(
        f.startswith(b"\x89PNG")
        for f in lb.distill(problem(storage=Storage("png"), source=source), lb.methods.Random()).pictures["image"].files
    )


def test_a_stored_image_is_made_of_the_file_where_there_is_one() -> None:
    source, storage = Photos(24), Storage("png", side=12)
    plain = problem(storage=storage).stored("image", torch.tensor([3]))
    assert plain.shape == (1, 3, 16, 16)
    of = problem(storage=Storage(LOSSY[0], 5, side=20), source=source)
    made = of.stored_images(torch.tensor([3, 3, 0]))
    assert made.files[0] == made.files[1] and Image.open(io.BytesIO(made.files[2])).size in {(20, 20), (64, 32)}
    seen = of.stored("image", torch.tensor([3, 0]))
    assert torch.equal(seen, made.values[[0, 2]].float().div(255))
    assert torch.equal(of.stored("label", torch.tensor([3, 0])), source.batch([3, 0])["label"])


@pytest.mark.parametrize(
    "storage",
    slow_but([Storage(), Storage("png"), *(Storage(codec, 60) for codec in LOSSY)], Storage(), Storage(LOSSY[0], 60)),
    ids=str,
)
@pytest.mark.parametrize(
    "name",
    ["random", "cf", *(pytest.param(n, marks=pytest.mark.slow) for n in ("herding", "kcenter", "prototypes", "kip"))],
)
def test_no_set_is_above_its_budget(name: str, storage: Storage, recwarn: pytest.WarningsRecorder) -> None:
    method = lb.registry.get("method", name)(**({"steps": 1} if name in ("cf", "kip") else {}))
    for limit in (15_000, 21_000):
        small = lb.distill(problem(lb.Budget(bytes=limit), storage), method)
        assert small.nbytes <= limit
        if not method.steps and len(small) < 48:
            assert small.nbytes > limit - 1100, "one more would not fit"


def test_quality_is_lowered_until_the_set_fits() -> None:
    add_noise = toy_source(96, resolution=32)
    add_noise._image = 0.5 + 0.01 * add_noise._image  # real images take few bytes
    of = problem(lb.Budget(bytes=30_000), Storage("jpeg", 95), add_noise)
    start = lb.methods.CF(steps=1).start(of)
    assert len(start) > 10
    from limbeck.core.fit import frozen
    from limbeck.core.recipe import Recipe

    with torch.no_grad():
        start.value("image").copy_(noise(len(start), 32).float() / 255)
    with pytest.warns(LimbeckWarning, match=r"quality \d+ instead of 95, so that the set fits 30,000 bytes"):
        small = frozen(of, Recipe(method={"name": "cf"}), start, learned_text=True)
    assert 27_000 < small.nbytes <= 30_000
    exact = problem(lb.Budget(bytes=30_000), Storage(), add_noise).but(budget=lb.Budget(bytes=9000))
    with pytest.raises(ConfigError, match="more than the 9,000 of the budget; ask for fewer pairs"):
        frozen(exact, Recipe(method={"name": "cf"}), start, learned_text=True)


@pytest.mark.parametrize("name", ["random", "cf"])
def test_a_budget_below_one_sample_is_refused_before_anything_is_encoded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limbeck.core.problem.embed_source", lambda *a, **k: pytest.fail("embedded"))
    with pytest.raises(ConfigError, match=r"2,000 bytes holds no pair: one takes about [\d,]+ bytes, and a set [\d,]+"):
        lb.distill(problem(lb.Budget(bytes="2kB")), lb.registry.get("method", name)())


def test_bytes_for_all_of_the_data_take_all_of_them() -> None:
    assert len(lb.distill(problem(lb.Budget(bytes="1MB")), lb.methods.Random())) == 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_set().save(tmp_path_factory.mktemp("codec") / "set")


def png(size: tuple[int, int] = (8, 8), mode: str = "RGB", kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind)
    return buffer.getvalue()


CELLS: dict[str, tuple[str, Any, str]] = {
    "no file": ("image", None, "image of row 1 cannot be used: empty file"),
    "no bytes": ("image", {"bytes": None, "path": "/etc/passwd"}, "image of row 1 cannot be used: empty file"),
    "another format": ("image", {"bytes": png(kind="bmp"), "path": None}, "image of row 1 cannot be used: not PNG or JPEG"),
    "text": ("image", {"bytes": b"hello", "path": None}, "image of row 1 cannot be used: not PNG or JPEG"),
    "truncated": ("image", {"bytes": png()[:40], "path": None}, "image of row 1 cannot be used: "),
    "another side": ("image", {"bytes": png((9, 8)), "path": None}, "9x8 pixels in the place of 8x8"),
    "another image": ("image", {"bytes": png(), "path": None}, "the fingerprint are not those"),
    "too many pixels": ("image", {"bytes": png((16_000, 16_000), "1"), "path": None}, "too many pixels"),
    "a mask in colours": ("mask", {"bytes": png(), "path": None}, "a mask of the mode RGB, not grey"),
    "a mask as JPEG": ("mask", {"bytes": png(mode="L", kind="jpeg"), "path": None}, "mask of row 1 cannot be used: not PNG"),
    "a larger mask": ("mask", {"bytes": png((16, 16), "L"), "path": None}, "16x16 pixels in the place of 8x8"),
    "no label": ("label", None, "row 1 has no label"),
    "another label": ("label", 7, "the labels lie between 0 and 7"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CELLS)
def test_cells_are_not_believed(folder: Path, tmp_path: Path, kind: str) -> None:
    name, cell, says = CELLS[kind]
    good = pq.read_table(folder / TABLE)
    rows = good.column(name).to_pylist()
    rows[1] = cell
    at = good.schema.get_field_index(name)
    pq.write_table(good.set_column(at, name, pa.array(rows, good.schema.field(name).type)), tmp_path / "t.parquet")
    with pytest.raises(StorageError, match=says):
        lb.load(with_file(folder, tmp_path / "set", TABLE, (tmp_path / "t.parquet").read_bytes()))


def test_columns_that_are_none(folder: Path, tmp_path: Path) -> None:
    good = pq.read_table(folder / TABLE)
    for name, changed, says in [
        ("gone", good.drop_columns(["image"]), "image"),
        ("text", good.set_column(0, "image", pa.array(["x"] * ROWS)), "columns of the table are not"),
    ]:
        pq.write_table(changed, tmp_path / "t.parquet")
        with pytest.raises(StorageError, match=says):
            lb.load(with_file(folder, tmp_path / name, TABLE, (tmp_path / "t.parquet").read_bytes()))


def test_what_would_not_fit_in_memory_is_not_decoded(folder: Path, tmp_path: Path) -> None:
    def change(manifest: dict[str, Any]) -> None:
        for m in manifest["modalities"][:2]:
            m["shape"][1:] = [100_000, 100_000]

    with pytest.raises(StorageError, match="times image of 100000x100000 take more than 8,589,934,592 bytes"):
        lb.load(with_manifest(folder, tmp_path / "set", change))


def test_images_that_are_repeated_take_their_bytes_once(folder: Path, tmp_path: Path) -> None:
    good = pq.read_table(folder / TABLE)
    big = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array([bytes(10**6)], pa.binary()))
    image = pa.StructArray.from_arrays([big, pa.nulls(3000, pa.string())], ["bytes", "path"])
    columns = {n: good.column(n).take(pa.array([0] * 3000)) for n in good.column_names if n != "image"}
    pq.write_table(
        pa.table({"image": image, **columns}), tmp_path / "t.parquet", store_schema=False, compression="zstd"
    )
    copy = shutil.copytree(folder, tmp_path / "copy")
    from safetensors.torch import load_file, save

    tensors = {
        k: v[:1].expand(3000, *v.shape[1:]).contiguous() if v.ndim else v
        for k, v in load_file(copy / "tensors.safetensors").items()
    }
    copy = with_file(folder, tmp_path / "one", "tensors.safetensors", save(tensors))
    with pytest.raises(StorageError, match="the pictures of the table have more than 2,147,483,648 bytes"):
        lb.load(with_file(copy, tmp_path / "set", TABLE, (tmp_path / "t.parquet").read_bytes()))


def test_the_bytes_of_a_tensor_that_was_replaced_are_forgotten() -> None:
    given = noise(2, 8)
    small = DistilledSet(
        "x", {"image": lb.Modality("image", (3, 8, 8))}, {"image": given}, origins=["a", "b"],
        stored={"image": Files(given.clone(), (b"1", b"2"))},
    )  # fmt: skip
    assert small.stored == {} and torch.equal(pixels(small.files("image", [1])[0] or b""), given[1])


def test_decoded_says_why() -> None:
    with pytest.raises(Unreadable, match="empty file"):
        decoded(b"", 8, 8)
