"""Every limit of the readers: what is beyond it is refused with its number and the option, and read where the option allows it."""

import csv
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.io import savemat, wavfile

import limbeck as lb
from limbeck import limits
from limbeck.cli import main
from limbeck.data import Cache, scaled_limits
from limbeck.data.audio import decode_audio
from limbeck.data.decode import decode_array, decode_image
from limbeck.data.layout import FileImage
from limbeck.data.mask import decode_mask
from limbeck.data.matfile import mat_numbers
from limbeck.data.parse import clean_captions, clean_label, index_labels
from limbeck.data.plain import TEXT, read_json
from limbeck.data.plain_yaml import read_yaml
from limbeck.data.regular import read_regular
from limbeck.data.shards import expand, read_shard
from limbeck.data.tables import csv_rows, jsonl_rows, parquet_rows
from limbeck.errors import ConfigError, DataError, LimbeckError, StorageError
from limbeck.limits import Limit, limit_factor
from limbeck.sources.nyuv2 import NYUv2


def file(folder: Path, data: bytes | str) -> Path:
    path = folder / "file"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "png")
    return buffer.getvalue()


def npy(numbers: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, numbers)
    return buffer.getvalue()


def wav(samples: int) -> bytes:
    buffer = io.BytesIO()
    wavfile.write(buffer, 16000, np.sin(np.arange(samples) / 9).astype(np.float32))
    return buffer.getvalue()


def mat(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, arrays, do_compression=True)
    return buffer.getvalue()


def polygon(corners: int) -> bytes:
    points = [[x, 30 * (x % 2)] for x in range(corners)]
    return json.dumps({"size": [32, 32], "polygons": [[number for point in points for number in point]]}).encode()


def shard(folder: Path, size: int) -> Path:
    with tarfile.open(folder / "a.tar", "w") as tar:
        member = tarfile.TarInfo("a.txt")
        member.size = size
        tar.addfile(member, io.BytesIO(b"x" * size))
    return folder / "a.tar"


def repeated(folder: Path) -> Path:
    pq.write_table(pa.table({"caption": ["a" * 1000] * 2000}), folder / "a.parquet")
    return folder / "a.parquet"


def text_of(path: Path) -> bytes:
    text = next(iter(read_shard(path, None, []))).members["txt"].text
    if text is None:
        raise DataError(str(limits.TEXT_FILE))
    return text


def nyu(folder: Path) -> Path:
    with h5py.File(folder / "nyu_depth_v2_labeled.mat", "w") as made:
        made["images"] = np.zeros((3, 3, 8, 6), np.uint8)
        made["depths"] = np.ones((3, 8, 6), np.float32)
        refs = made.create_group("#refs#")
        for name in ("scenes", "sceneTypes"):
            texts = [refs.create_dataset(f"{name}{i}", data=np.array([[97 + i]], np.uint16)).ref for i in range(3)]
            made.create_dataset(name, data=np.array(texts, dtype=h5py.ref_dtype).reshape(1, -1), dtype=h5py.ref_dtype)
    return folder


def saved(folder: Path) -> Path:
    problem = lb.Problem(lb.check.toy_source(6), lb.space(image="convnet"), lb.Budget(pairs=4), 0, "cpu", Cache(folder))
    return lb.distill(problem, lb.methods.Random()).save(folder / "set")


READERS: dict[str, tuple[Callable[[Path], Any], Callable[[Any], Any], float]] = {
    # what is read, by what, and a factor that is too small for it
    "pixels": (lambda _: png(80, 80), lambda data: decode_image(data, 8), 1e-4),
    "a side": (lambda _: png(40, 2), lambda data: decode_image(data, 2), 3e-4),
    "an array": (lambda _: npy(np.zeros((90, 90))), lambda data: decode_array(data, "no"), 1e-4),
    "polygons": (lambda _: polygon(30), lambda data: decode_mask(data, 8), 5e-5),
    "a sound": (lambda _: wav(16000), lambda data: decode_audio(data, 1000, 480), 1e-5),
    "a caption": (lambda _: "x" * 3000, clean_captions, 1e-3),
    "a name": (lambda _: "x" * 300, clean_label, 0.1),
    "classes": (lambda _: [0, 500], index_labels, 1e-4),
    "a whole file": (lambda at: file(at, b"x" * 9000), read_regular, 1e-6),
    "an image file": (lambda at: file(at, b"x" * 9000), lambda path: FileImage.of(path).read(), 1e-6),
    "a line": (lambda at: file(at, json.dumps("x" * 3000)), lambda path: list(jsonl_rows(path)), 1e-5),
    "a cell": (lambda at: file(at, f"image\n{'x' * 3000}\n"), lambda path: list(csv_rows(path)), 1e-5),
    "a table": (repeated, lambda path: list(parquet_rows(path)), 1e-3),
    "shards": (lambda _: "a-{000..199}.tar", expand, 1e-4),
    "a text in a shard": (lambda at: shard(at, 2000), text_of, 1e-3),
    "JSON": (lambda at: file(at, json.dumps("x" * 3000)), lambda path: read_json(path, TEXT, "mend it"), 1e-5),
    "YAML": (lambda at: file(at, "x" * 3000), lambda path: read_yaml(path, "mend it", ConfigError), 1e-2),
    "values of YAML": (
        lambda at: file(at, "a: [1, 2, 3, 4, 5, 6, 7, 8]"),
        lambda path: read_yaml(path, "mend it", ConfigError),
        3e-4,
    ),
    "MATLAB": (lambda _: mat(a=np.arange(9000.0)), mat_numbers, 1e-3),
    "MATLAB, packed": (lambda _: mat(a=np.zeros(9000)), mat_numbers, 1e-3),
    "HDF5": (nyu, lambda path: NYUv2(path=str(path)).read(), 2e-6),
    "a set": (saved, lb.load, 1e-9),
}


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("LIMBECK_LIMITS", raising=False)
    before = csv.field_size_limit()
    yield
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("name", READERS)
def test_every_reader_refuses_beyond_its_limit_and_reads_below_it(tmp_path: Path, name: str) -> None:
    make, read, factor = READERS[name]
    made = make(tmp_path)
    with scaled_limits(factor), pytest.raises((LimbeckError, ValueError), match=r"more than [\d,]+ .*, see --limits"):
        read(made)
    read(made)


@pytest.mark.parametrize(
    ("beyond", "read"),
    [
        ("x" * (limits.CAPTION.number + 1), clean_captions),
        ("x" * (limits.NAME.number + 1), clean_label),
        ([0, limits.CLASSES.number + 1], index_labels),
    ],
)
def test_a_larger_factor_reads_what_the_usual_one_refuses(beyond: Any, read: Callable[[Any], Any]) -> None:
    with pytest.raises((LimbeckError, ValueError), match="see --limits"):
        read(beyond)
    with scaled_limits(2):
        read(beyond)


def test_the_factor_holds_within_and_the_environment_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    ten = Limit(10, "things")
    assert ten.most == 10 and limit_factor() == 1
    with scaled_limits(4):
        with scaled_limits(0.5):
            assert ten.most == 5 and str(ten) == "more than 5 things, see --limits (LIMBECK_LIMITS)"
        assert ten.most == 40
    monkeypatch.setenv("LIMBECK_LIMITS", "2.5")
    assert ten.most == 25
    with pytest.raises(RuntimeError), scaled_limits(3):
        raise RuntimeError
    assert ten.most == 25
    monkeypatch.setenv("LIMBECK_LIMITS", "")
    assert ten.most == 10, "empty counts as not set"


@pytest.mark.parametrize("wrong", ["many", "0", "-1", "nan", "inf", "1e9"])
def test_wrong_factors_are_told_before_anything_is_read(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["list", "methods"], ["doctor", f"folder:{tmp_path}"]):
        assert main([*words, f"--limits={wrong}"]) == 2
        assert "limits" in capsys.readouterr().err
    monkeypatch.setenv("LIMBECK_LIMITS", wrong)
    assert main(["list", "methods"]) == 2
    assert (
        f"LIMBECK_LIMITS is what every limit of the readers is multiplied by, a number above 0 up to a million, got '{wrong}'"
        in (capsys.readouterr().err)
    )
    with pytest.raises(ConfigError, match="LIMBECK_LIMITS is"):
        lb.source(f"folder:{tmp_path}")
    with pytest.raises(ConfigError, match="limits is"):
        scaled_limits(float(wrong.replace("many", "nan"))).__enter__()


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    """Twelve that a factor of 0.01 refuses."""
    folder = tmp_path / "data" / "cat"
    folder.mkdir(parents=True)
    for i in range(12):
        (folder / f"{i}.png").write_bytes(png(800, 800 + i))
    return f"folder:{tmp_path / 'data'}"


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_processes_that_decode_have_the_limits_and_what_was_refused_is_tried_again(pictures: str, workers: int) -> None:
    options: dict[str, Any] = {"resolution": 8, "workers": workers}
    with scaled_limits(1e-2), pytest.raises(DataError, match="too many pixels: more than 500,000 pixels, see --limits"):
        lb.source(pictures, **options)
    small = lb.source(pictures, max_pixels=640_000, max_skipped=1.0, **options)
    assert len(small) < 9 and {row["reason"] for row in small.skipped} == {
        "too many pixels: more than 640,000 pixels, see --limits (LIMBECK_LIMITS)"
    }
    with scaled_limits(2):
        assert not lb.source(pictures, max_pixels=640_000, **options).skipped, "max_pixels is multiplied, too"
    assert not lb.source(pictures, **options).skipped


def test_the_option_of_a_command_and_no_file_of_it(
    pictures: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["embed", pictures, "--source.resolution", "8", "--space.image", "convnet", "--space.text", "none"]
    assert main([*words, "--limits", "1e-2"]) == 3
    assert "more than 500,000 pixels, see --limits" in capsys.readouterr().err
    assert main([*words, "--limits", "2"]) == 0 and limit_factor() == 1
    (tmp_path / "c.yaml").write_text("limits: 1000\n")
    assert main([*words, "--config", str(tmp_path / "c.yaml")]) == 2
    assert "says limits; that is said on the command line alone" in capsys.readouterr().err


def test_a_set_that_is_refused_says_so(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    with scaled_limits(1e-6), pytest.raises(StorageError, match="more than 67 bytes, see --limits"):
        lb.load(folder)
