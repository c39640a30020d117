"""Words in the names of files and folders: which tell a split, which a class, and what lies beside and is not read."""

import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import limbeck as lb
from limbeck import registry
from limbeck.cli import main
from limbeck.data.layout import Listing
from limbeck.errors import ConfigError, DataError

from .conftest import image_bytes


def read(spec: str, **options: Any) -> Listing:
    name, path = registry.parse_spec(spec)
    found: Listing = registry.get("source", name)(path=path, **options).read()
    return found


def tree(root: Path, names: dict[str, int], ending: str = "png") -> str:
    """A folder with so many images in each of these."""
    seed = 0
    for name, count in names.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            (root / name / f"{i:02d}.{ending}").write_bytes(image_bytes(seed := seed + 1))
    return f"folder:{root}"


def shard(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def shards(root: Path, counts: dict[str, int], same: bool = False) -> str:
    """Shards of so many samples each; with `same` their keys begin anew."""
    at = 0
    for name, count in counts.items():
        numbers = range(count) if same else range(at, at + count)
        members = {}
        for i in numbers:
            members |= {f"{i:04d}.png": image_bytes(at), f"{i:04d}.txt": f"picture {at}".encode()}
            at += 1
        shard(root / f"{name}.tar", members)
    return f"webdataset:{root}"


def splits(found: Listing) -> dict[str | None, int]:
    return dict(Counter(r.split for r in found.records))


@pytest.mark.parametrize(
    ("folders", "classes", "by"),
    [
        (["training/a", "testing/a"], ("a",), "folder names; val is a tenth of train, by hash"),
        (["Train/a", "Valid/b", "EVAL/b"], ("a", "b"), "folder names"),
        (["train/a", "dev/a", "test/a", "extra/a"], ("a",), "folder names"),
        (["train/a", "train/b"], ("a", "b"), "hash, as only train is told by folder names"),
        (["train", "car", "bus"], ("bus", "car", "train"), "hash"),
        (["train/x", "car/x", "bus/x"], ("bus", "car", "train"), "hash"),
        (["test", "tube", "dish"], ("dish", "test", "tube"), "hash"),
        (["train_station", "test_tube"], ("test_tube", "train_station"), "hash"),
    ],
)
def test_folders(tmp_path: Path, folders: list[str], classes: tuple[str, ...], by: str) -> None:
    found = read(tree(tmp_path, dict.fromkeys(folders, 20)))
    assert found.classes == classes and found.split_by == by
    held = splits(found)
    if by == "folder names":
        assert held == {"train": 20, "val": 20, "test": 20}
    assert found.unread == ({"folders": {"extra": 20}} if "extra/a" in folders else {})


def test_folders_as_a_person_says(tmp_path: Path) -> None:
    spec = tree(tmp_path, {"train/a": 20, "test/b": 20})
    assert read(spec, split_by="hash").classes == ("test", "train") and len(splits(read(spec, split_by="hash"))) == 3
    assert read(spec, split_by="folders").classes == ("a", "b")
    with pytest.raises(ConfigError, match="split_by is one of folders, hash, column:NAME, got 'files'"):
        read(spec, split_by="files")
    with pytest.raises(ConfigError, match="split_by is one of"):
        read(spec, split_by="column:")


@pytest.mark.parametrize(
    ("names", "held"),
    [
        (["train-00000-of-00002", "train-00001-of-00002", "val-0", "test-0"], {"train": 40, "val": 20, "test": 20}),
        (["training-000", "validation-000", "testing-000"], {"train": 20, "val": 20, "test": 20}),
        (["cc3m-train-0000", "cc3m-val-0000", "cc3m_test"], {"train": 20, "val": 20, "test": 20}),
        (["train/0", "valid/0", "test/0"], {"train": 20, "val": 20, "test": 20}),
        (["train_station", "bus_station", "test_tube"], {}),
        (["contest", "validate", "trainer"], {}),
    ],
)
def test_shards(tmp_path: Path, names: list[str], held: dict[str, int]) -> None:
    found = read(shards(tmp_path, dict.fromkeys(names, 20)))
    assert splits(found) == held if held else found.split_by == "hash" and len(splits(found)) == 3


def test_shards_of_which_some_tell_a_split(tmp_path: Path) -> None:
    spec = shards(tmp_path, {"test-0": 20, "bus": 20, "car": 20})
    with pytest.raises(
        DataError, match=r"test-0.tar tells a split and .*bus.tar does not; say --source.split_by files .* hash"
    ):
        read(spec)
    assert splits(read(spec, split_by="files"))["test"] >= 20 and read(spec, split_by="hash").split_by == "hash"


def test_a_folder_that_is_called_as_a_split(tmp_path: Path) -> None:
    spec = shards(tmp_path / "dev", {"0": 60})
    with pytest.raises(
        DataError,
        match=r"its splits: val \(split by folder names\); open .* or let a hash split all with --source.split_by hash",
    ):
        lb.source(spec)
    assert len(splits(read(spec, split_by="hash"))) == 3


def test_keys_are_unique_in_their_shard(tmp_path: Path) -> None:
    spec = shards(tmp_path, {"0000": 20, "0001": 20, "more/0001": 20}, same=True)
    found = read(spec)
    assert len(found.records) == 60 and not found.skipped
    assert {r.key.rsplit("/", 1)[0] for r in found.records} == {"0000", f"{tmp_path.name}/0001", "more/0001"}


def test_the_last_part_of_an_extension_is_the_format(tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for i in range(20):
        members |= {f"{i}.input.PNG": image_bytes(i), f"{i}.outputs.txt": b"a cat", f"{i}.target.cls": b"dog"}
    shard(tmp_path / "0.tar", members)
    found = read(f"webdataset:{tmp_path}")
    assert all(r.image and r.captions == ("a cat",) and r.label == 0 for r in found.records) and found.unread == {}


@pytest.mark.parametrize("endings", [("left.png", "right.png"), ("jpg", "png"), ("en.txt", "de.txt")])
def test_two_members_for_one_thing(tmp_path: Path, endings: tuple[str, str]) -> None:
    role = "caption" if endings[0].endswith("txt") else "image"
    members: dict[str, bytes] = {}
    for i in range(20):
        members |= {f"{i}.{ending}": b"a cat" if role == "caption" else image_bytes(i) for ending in endings}
        members |= {f"{i}.cls": b"3", f"{i}.x.webp": image_bytes(i)} if role == "caption" else {f"{i}.txt": b"a cat"}
    shard(tmp_path / "0.tar", members)
    spec = f"webdataset:{tmp_path}"
    with pytest.raises(
        DataError,
        match=f"{endings[0]}, {endings[1]} of 0 could each be the {role}; choose with --source.{role} {endings[0]}",
    ):
        read(spec)
    chosen = read(spec, **{role: endings[1]})
    assert chosen.unread == {"members": {endings[0]: 20}}
    assert read(spec, ignore=endings[0]).unread == {}


def test_maps_that_are_no_pictures(tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for i in range(20):
        members |= {f"{i}.depth.png": image_bytes(i), f"{i}.txt": b"a cat"}
    shard(tmp_path / "0.tar", members)
    with pytest.raises(DataError, match=r"20 members 'depth.png' hold images, which would be lost"):
        read(f"webdataset:{tmp_path}")
    assert all(r.image for r in read(f"webdataset:{tmp_path}", image="depth.png").records)
    assert not any(r.image for r in read(f"webdataset:{tmp_path}", ignore="depth.png").records)


def test_sounds_in_shards(tmp_path: Path, sing: Any) -> None:
    tone = sing(tmp_path / "tone.wav", 3).read_bytes()
    members: dict[str, bytes] = {}
    for i in range(20):
        members |= {f"{i}.wav": tone, f"{i}.json": json.dumps({"text": [f"a tone {i}"], "tag": ["x"]}).encode()}
    shard(tmp_path / "shards" / "0.tar", members)
    source = lb.source(f"webdataset:{tmp_path / 'shards'}", audio_rate=8000, audio_seconds=0.2, mels=20)
    assert list(source.modalities) == ["audio", "text"] and source.unread == {"fields": {"tag": 20}}  # type: ignore[attr-defined]
    shard(tmp_path / "other" / "0.tar", {name.replace("wav", "m4a"): data for name, data in members.items()})
    with pytest.raises(DataError, match="20 members 'm4a' hold sounds in a format that nothing here decodes"):
        read(f"webdataset:{tmp_path / 'other'}")
    assert len(read(f"webdataset:{tmp_path / 'other'}", ignore="m4a").records) == 20


@pytest.mark.parametrize("layout", ["00000", "10_mydog", ".", "cats"])
@pytest.mark.parametrize("ending", ["txt", "caption", "json"])
def test_texts_beside_images(tmp_path: Path, layout: str, ending: str) -> None:
    spec = tree(tmp_path, {layout: 20})
    for path in sorted(tmp_path.rglob("*.png"))[1:]:
        text = f"number {path.stem}"
        path.with_suffix(f".{ending}").write_text(
            json.dumps({"caption": text, "status": "success"}) if ending == "json" else text
        )
    found = read(spec)
    assert [r.captions for r in found.records][:2] == [(), ("number 01",)] and len(found.records) == 20
    assert found.classes == (("cats",) if layout == "cats" else ()) and found.unread == {}


def test_files_beside_images_that_are_no_captions(tmp_path: Path) -> None:
    spec = tree(tmp_path, {"cat": 20, "dog": 20})
    for path in tmp_path.rglob("*.png"):
        path.with_suffix(".txt").write_text("0 0.5 0.5 0.1 0.2\n")  # boxes
    (tmp_path / "cat" / "x.heic").write_bytes(b"x")
    found = read(spec)
    assert found.unread == {"files": {".txt": 40, ".heic": 1}} and found.classes == ("cat", "dog")
    assert read(spec, ignore=".txt,.heic").unread == {}


@pytest.mark.parametrize("ending", ["jfif", "jpe", "ico", "tga", "j2k", "pgm", "mpo", "apng", "JPG"])
def test_other_endings(tmp_path: Path, ending: str) -> None:
    assert len(read(tree(tmp_path, {"cat": 3, "dog": 3}, ending)).records) == 6


def test_images_that_a_table_does_not_name(tmp_path: Path) -> None:
    tree(tmp_path, {".": 20})
    (tmp_path / "metadata.csv").write_text("file_name,text\n" + "".join(f"{i:02d}.png,a\n" for i in range(15)))
    assert read(f"folder:{tmp_path}").unread == {"files": {"images that the table does not name": 5}}


def test_loose_images_are_told(tmp_path: Path) -> None:
    spec = tree(tmp_path, {".": 20})
    with pytest.raises(DataError, match=r"20 images lie there by themselves, without a .txt of the same name"):
        read(spec)


def test_a_table_whose_images_lie_in_folders_of_splits(tmp_path: Path) -> None:
    tree(tmp_path, {"train": 20, "test": 20})
    lines = [f"{part}/{i:02d}.png,a {i}" for part in ("train", "test") for i in range(20)]
    (tmp_path / "metadata.csv").write_text("file_name,text\n" + "\n".join(lines))
    found = read(f"folder:{tmp_path}")
    assert splits(found)["test"] == 20 and found.split_by.startswith("folder names")
    assert read(f"folder:{tmp_path}", split_by="hash").split_by == "hash"


def test_commands_tell_what_is_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path, {".": 40})
    rows = "".join(f"{i:02d}.png,picture {i},{i}\n" for i in range(40))
    (tmp_path / "t.csv").write_text("image,caption,views\n" + rows)
    spec = f"manifest:{tmp_path / 't.csv'}"
    options = ["--space.image", "convnet", "--space.text", "bag_of_words", "--source.resolution", "16"]
    assert main(["embed", spec, *options]) == 0
    assert f"note: not read of {spec}: columns views (40)" in capsys.readouterr().err
    assert main(["doctor", spec, *options, "--pairs", "4", "--method", "random"]) == 0
    said = capsys.readouterr().out
    assert (
        "split by: hash" in said
        and "not read: columns views (40); name what" in said
        and "nothing to complain of" not in said
    )
    assert main(["embed", spec, *options, "--source.ignore", "views"]) == 0
    assert "not read" not in capsys.readouterr().err


def test_class_folders_within_one_folder(tmp_path: Path) -> None:
    found = read(tree(tmp_path, {"images/cat": 20, "images/dog": 20}))
    assert found.classes == ("cat", "dog") and found.records[0].key == "images/cat/00.png"
    found = read(tree(tmp_path / "pets", {"v2/train/cat": 20, "v2/train/dog": 20, "v2/test/dog": 20}))
    assert found.classes == ("cat", "dog") and splits(found)["test"] == 20


@pytest.mark.parametrize("name", ["captions.txt", "metadata.tsv", "labels.csv", "data.json"])
def test_a_table_of_another_name_is_named(tmp_path: Path, name: str) -> None:
    spec = tree(tmp_path, {".": 3})
    (tmp_path / name).write_text("image,caption\n")
    reads = "karpathy" if name == "data.json" else "manifest"
    with pytest.raises(DataError, match=f"{name} may be a table, which {reads}:.*{name} reads"):
        read(spec)


@pytest.mark.parametrize(
    ("text", "encoding", "says"),
    [
        (
            "image,caption\n{0:02d}.png,a {0}, yes\n",
            "utf-8",
            "20 wrong number of columns; .*; put cells that hold the sign between",
        ),
        ("image,caption\n{0:02d}.png,caf\xe9 {0}\n", "latin-1", "20 not UTF-8; .*; save the file as UTF-8"),
        ("image,caption\n{0:02d}.png,a {0}\n", "utf-16-le", "no text, or UTF-16 without its mark; save it as UTF-8"),
        ("{0:02d}.png,a {0}\n", "utf-8", r"it has '00.png', 'a 0'\. Its first line looks like a row"),
        (
            "image caption\n{0:02d}.png a\n",
            "utf-8",
            r"it has 'image caption'\. It has one column: cells stand apart by",
        ),
        (
            "image,caption\ngone{0}.png,a\n",
            "utf-8",
            "20 missing; .*; names of files begin beside the table: name another folder with",
        ),
    ],
)
def test_tables_that_are_written_otherwise_get_a_remedy(tmp_path: Path, text: str, encoding: str, says: str) -> None:
    tree(tmp_path, {".": 20})
    head, body = text.split("\n", 1) if "image" in text else ("", text)
    lines = (head + "\n" if head else "") + "".join(body.format(i) for i in range(20))
    (tmp_path / "t.csv").write_bytes(lines.encode(encoding))
    with pytest.raises(DataError, match=says):
        lb.source(f"manifest:{tmp_path / 't.csv'}")


def test_what_is_written_here_is_read_whole(tmp_path: Path) -> None:
    from limbeck.core.export import export

    problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=20))
    small = lb.distill(problem, lb.methods.Random())
    for to in ("folder", "webdataset"):
        export(small, tmp_path / to, to)  # type: ignore[arg-type]
        assert read(f"{to}:{tmp_path / to}").unread == {}
