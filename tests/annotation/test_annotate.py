"""`annotate`: the data with what they lacked, opened again by the source `manifest`."""

import errno
import json
import os
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import limbeck as lb
from annotators import Left, Sizes, disc, files, write_pets
from limbeck.annotation import Captioner, Segmenter, annotate
from limbeck.annotation.captioners.template import Template
from limbeck.annotation.files import samples_of
from limbeck.data.layout import Layout, Listing, Record
from limbeck.data.records import RecordSource
from limbeck.errors import ConfigError, DataError, LimbeckWarning, StorageError


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return write_pets(tmp_path / "pets")


def opened(pets: Path, **options: Any) -> lb.Source:
    return lb.source(f"folder:{pets}", resolution=20, mask_values="trimap", **options)


def again(out: Path, split: str = "train", **options: Any) -> lb.Source:
    return lb.source(f"manifest:{out / 'annotated.jsonl'}", split=split, resolution=20, **options)


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "annotated.jsonl").read_text().splitlines()]


def test_only_what_lacks_is_made_and_everything_is_opened_again(pets: Path, tmp_path: Path) -> None:
    source, out, ticks = opened(pets), tmp_path / "out", []
    found = annotate(source, out, Sizes(), Left(), tick=lambda *said: ticks.append(said))
    assert found == json.loads((out / "annotated.json").read_text())
    counts = {"made": 8, "kept": 4, "missing": 0, "classes_without_caption": []}
    assert found["captions"] == {"by": {"name": "sizes"}, "licence": None, "what": "sizes", **counts}
    assert {k: found["masks"][k] for k in ("made", "kept", "missing")} == {
        "made": 9,
        "kept": 3,
        "missing": 0,
    }
    assert ticks[0] == ("annotating", 2, 12) and ticks[-1] == ("annotating", 12, 12)
    for split in source.splits:
        old, new = source.split(split), again(out, split)
        assert list(new.keys) == list(old.keys) and new.classes == ("cat", "hot_dog")
        assert new.labels is not None and torch.equal(new.labels, old.labels)
        everything = range(len(old))
        assert torch.equal(new.batch(everything)["image"], old.batch(everything)["image"])
        for i, (own, captions) in enumerate(zip(old.captions, new.captions, strict=True)):
            named = new.classes[new.labels[i]] if new.labels[i] >= 0 else None
            assert captions == (own or (f"30 by 20, {named}",))
        masks, held = new.batch(everything)["mask"], old.batch(everything).mask("mask")
        assert torch.equal(masks[held], old.batch(everything)["mask"][held])
        edge = torch.where(torch.arange(20) == 0, torch.tensor(64 / 255), 0.0)  # the square begins at column 5
        assert torch.equal(masks[~held], edge.expand(int((~held).sum()), 1, 20, 20))
    made = [row.get("made") for row in rows_of(out)[:4]]
    assert made == [None, ["caption", "mask"], ["caption", "mask"], ["mask"]]


def test_masks_lie_on_upright_images(tmp_path: Path) -> None:
    exif, splits = Image.Exif(), ("train", "val", "test")
    exif[0x0112] = 6
    disc(0, (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    rows = [{"key": split, "image": "a.jpg", "caption": split, "split": split} for split in splits]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    annotate(lb.source(f"manifest:{tmp_path / 't.jsonl'}"), tmp_path / "out", masks=Left(10))
    with Image.open(tmp_path / "out" / rows_of(tmp_path / "out")[0]["mask"]) as mask:
        assert mask.size == (20, 30)
    new = again(tmp_path / "out")
    assert len(new) == 1 and new.batch([0])["mask"][0, 0, 7].gt(0).tolist() == [True] * 11 + [False] * 9


def test_a_second_call_ends_with_the_files_of_one_that_was_never_stopped(pets: Path, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    annotate(opened(pets), whole, Sizes(), Left())
    for most in (3, 4):
        with pytest.raises(KeyboardInterrupt):
            annotate(opened(pets), stopped, Sizes(most), Left())
        with (stopped / "annotated.jsonl").open("a") as table:
            table.write('{"key": "torn')
    assert "samples" not in json.loads((stopped / "annotated.json").read_text())
    last = Sizes()
    annotate(opened(pets), stopped, last, Left())
    assert 0 < len(last.seen) < 8
    assert files(stopped) == files(whole)
    never = Sizes(0)
    assert annotate(opened(pets), stopped, never, Left()) == json.loads((whole / "annotated.json").read_text())
    assert never.seen == []


@pytest.mark.slow
@pytest.mark.parametrize("what", ["annotated.jsonl", "annotated.json", "masks", "images"])
def test_stopped_at_any_moment_it_ends_with_every_row_once(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    annotate(opened(pets), whole, Sizes(), Left())
    state = {"left": 0}

    def interrupt(path: Path) -> None:
        if str(path).startswith(str(out / what)) and state["left"] > 0:
            state["left"] -= 1
            if not state["left"]:
                raise KeyboardInterrupt

    for name in ("open", "hardlink_to", "unlink", "write_bytes"):
        real = getattr(Path, name)
        monkeypatch.setattr(Path, name, lambda self, *a, real=real, **k: (interrupt(self), real(self, *a, **k))[1])
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (interrupt(b), replace(a, b))[1])
    stops = 0
    for moment in range(1, 40):
        state["left"] = moment
        try:
            annotate(opened(pets), out, Sizes(), Left())
        except KeyboardInterrupt:
            stops += 1
        if moment % 5 == 0 and state["left"] == 0:
            with (out / "annotated.jsonl").open("a") as table:
                table.write('{"key": "torn')
    assert stops > 1 and files(out) == files(whole)


def test_rows_that_are_there_twice_are_kept_once(pets: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    for folder in (whole, out):
        annotate(opened(pets), folder, Sizes(), Left())
    lines = (out / "annotated.jsonl").read_bytes().splitlines(keepends=True)
    facts = json.loads((out / "annotated.json").read_text())
    doubled = [line for i in range(0, 12, 2) for line in lines[i : i + 2] * 2]
    for table, rows in ((doubled, 12), (lines[:6] + lines[:8], 8)):
        (out / "annotated.jsonl").write_bytes(b"".join(table))
        (out / "annotated.json").write_text(json.dumps({**facts, "samples": len(table)}))
        with pytest.warns(LimbeckWarning, match=rf"had {len(table) - rows} rows twice, .*the first of each is kept"):
            found = annotate(opened(pets), out, Sizes(), Left())
        assert found["samples"] == 12 and files(out) == files(whole)
    (out / "annotated.jsonl").write_bytes(b"".join(doubled) + b'{"key": "mine"}\n')
    with pytest.raises(StorageError, match="has a row of 'mine', which is no sample of these data; remove it"):
        annotate(opened(pets), out, Sizes(), Left())


def test_a_finished_table_that_a_person_changed_stays_so(pets: Path, tmp_path: Path) -> None:
    annotate(opened(pets), tmp_path / "out", Sizes(), Left())
    mine = (
        (tmp_path / "out" / "annotated.jsonl")
        .read_text()
        .replace("30 by 20", "thirty by twenty")
        .splitlines(keepends=True)[1:]
    )
    (tmp_path / "out" / "annotated.jsonl").write_text("".join(mine))
    annotate(opened(pets), tmp_path / "out", Sizes(0), Left())
    assert (tmp_path / "out" / "annotated.jsonl").read_text() == "".join(mine)


def test_one_call_at_a_time_works_on_a_folder(pets: Path, tmp_path: Path) -> None:
    class Again(Sizes):
        """Calls annotate on the folder that it works for."""

        def caption(self, images: Sequence[Any], classes: Sequence[str | None]) -> list[str]:
            with pytest.raises(
                StorageError, match=r"out is in use by .*; wait until it ends, stop it, or choose another"
            ):
                annotate(opened(pets), tmp_path / "out", Sizes(), Left())
            return super().caption(images, classes)

    annotate(opened(pets), tmp_path / "out", Again(), Left())
    annotate(opened(pets), tmp_path / "whole", Sizes(), Left())
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_keys_of_older_folders_are_read(pets: Path, tmp_path: Path) -> None:
    made = annotate(opened(pets), tmp_path / "out", Sizes(), Left())
    facts = json.loads((tmp_path / "out" / "annotated.json").read_text())
    facts["without an image"] = facts.pop("without_image")
    facts["captions"] |= {"no caption": facts["captions"].pop("missing")}
    facts["captions"] |= {"classes without one": facts["captions"].pop("classes_without_caption")}
    facts["masks"] |= {"found nothing": facts["masks"].pop("missing")}
    (tmp_path / "out" / "annotated.json").write_text(json.dumps(facts))
    assert annotate(opened(pets), tmp_path / "out", Sizes(0), Left()) == made


@pytest.mark.parametrize("held", ["", "{", "[]", "7", "[" * 99_999])
def test_damaged_facts_are_told_with_their_remedy(pets: Path, tmp_path: Path, held: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "annotated.json").write_text(held)
    with pytest.raises(StorageError, match=r"annotated\.json.*name another folder with --out, or remove this one"):
        annotate(opened(pets), tmp_path / "out", Sizes())


def test_files_of_others_in_and_beside_the_folder_stay(pets: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        annotate(opened(pets), out, Sizes(3), Left())
    held = [
        out / "thesis.txt",
        out / "masks" / "mine.png",
        out / "images" / "deep" / "x",
        tmp_path / ".a-b" / "x",
        out / ".git" / "HEAD",
    ]
    for path in held:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    annotate(opened(pets), out, Sizes(), Left())
    assert all(path.read_text() == "mine" for path in held) and len(rows_of(out)) == 12


def test_a_full_disk_is_told_and_once_there_is_space_it_goes_on(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out, write = tmp_path / "whole", tmp_path / "out", Path.write_bytes
    annotate(opened(pets), whole, Sizes(), Left())

    def full(self: Path, data: bytes) -> int:
        if "000004" in self.name:
            write(self, data[:9])
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(
            StorageError, match=r"masks/000004.* cannot be written: .*No space left.*; free space there"
        ):
            annotate(opened(pets), out, Sizes(), Left())
    annotate(opened(pets), out, Sizes(), Left())
    assert files(out) == files(whole)


def test_other_options_other_data_and_other_folders_are_refused(pets: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    annotate(opened(pets), out, masks=Left())
    with pytest.raises(ConfigError, match=r"other masks than asked for now \(masks .*\"columns\": 5.*--out"):
        annotate(opened(pets), out, masks=Left(6))
    with pytest.raises(ConfigError, match="other captions than"):
        annotate(opened(pets), out, Sizes(), Left())
    with pytest.raises(ConfigError, match="other data and splits than"):
        annotate(opened(pets), out, masks=Left(), splits=["val"])
    disc(99).save(pets / "1.png")
    with pytest.raises(ConfigError, match="other data than asked for now; name another"):
        annotate(opened(pets), out, masks=Left())
    with pytest.raises(StorageError, match="holds no annotations"):
        annotate(opened(pets), pets, masks=Left())
    with pytest.raises(ConfigError, match="captions, masks or both"):
        annotate(opened(pets), tmp_path / "new")
    with pytest.raises(ConfigError, match=r"lies in memory.*limbeck export SET --to folder"):
        annotate(lb.check.toy_source(4), tmp_path / "new", Template())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("columns", [-1, 40])
def test_nothing_and_everything_are_no_masks_and_counted(pets: Path, tmp_path: Path, columns: int) -> None:
    out = tmp_path / "out"
    found = annotate(opened(pets), out, masks=Left(columns), splits=["train"])
    assert (found["masks"]["made"], found["masks"]["kept"], found["masks"]["missing"]) == (0, 1, 3)
    assert ["mask" in row for row in rows_of(out)] == [True, False, False, False]
    assert len(list((out / "masks").iterdir())) == 1


def test_images_without_a_caption_and_their_classes_are_counted(pets: Path, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Dogs(Sizes):
        """Knows no cats."""

        def caption(self, images: Sequence[Any], classes: Sequence[str | None]) -> list[str]:
            return ["a dog" if name == "hot_dog" else " " for name in classes]

    rows = [json.loads(line) for line in (pets / "metadata.jsonl").read_text().splitlines()]
    bare = [{k: v for k, v in row.items() if k != "caption"} for row in rows]
    (pets / "metadata.jsonl").write_text("\n".join(map(json.dumps, bare)))
    found = annotate(opened(pets), tmp_path / "out", Dogs())["captions"]
    assert (found["made"], found["missing"], found["classes_without_caption"]) == (6, 6, ["cat"])
    found = annotate(opened(pets), tmp_path / "template", Template())["captions"]
    assert (found["made"], found["missing"], found["classes_without_caption"]) == (11, 1, [])


class Wrong(Segmenter):
    """Breaks the contract in one way."""

    what = "wrong"

    def __init__(self, gives: Any) -> None:
        object.__setattr__(self, "gives", gives)

    def segment(self, images: Sequence[Any], classes: Sequence[str | None]) -> list[Any]:
        return [self.gives] * (len(images) - (self.gives is None))  # type: ignore[attr-defined]


class Mute(Captioner):
    """Gives no text."""

    what = "mute"

    def caption(self, images: Sequence[Any], classes: Sequence[str | None]) -> list[Any]:
        return [None] * len(images)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (Wrong(None), "one mask for each of 3 images, got 2"),
        (Wrong(np.zeros((30, 20))), r"20 rows and 30 columns in \[0, 1\] for 1.png, got \[30, 20\]"),
        (Wrong(np.full((20, 30), 1.5)), "from 1.5 to 1.5"),
        (Wrong(np.full((20, 30), np.nan)), "from nan to nan"),
        (Mute(), "one text for each of 2 images, got 2 values that are no texts"),
    ],
)
def test_annotators_that_break_their_contract_are_named(pets: Path, tmp_path: Path, part: Any, said: str) -> None:
    named = {"masks": part} if isinstance(part, Segmenter) else {"captions": part}
    with pytest.raises(DataError, match=said):
        annotate(opened(pets), tmp_path / "out", **named, splits=["train"])


def test_images_that_are_no_files_are_written_as_they_are(tmp_path: Path) -> None:
    scenes = lb.source("scenes", samples=12, resolution=20)
    annotate(scenes, tmp_path / "out", Template(), splits=["train", "test"])
    new = again(tmp_path / "out")
    assert torch.equal(new.batch(range(4))["image"], scenes.batch(range(4))["image"])
    assert torch.equal(new.batch(range(4))["mask"], scenes.batch(range(4))["mask"])
    assert rows_of(tmp_path / "out")[0]["image"] == "images/000000-00000.ppm"


def test_files_are_copied_where_there_are_no_links(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    annotate(opened(pets), tmp_path / "out", masks=Left())
    assert (tmp_path / "out" / "images" / "000003-3.png").read_bytes() == (pets / "3.png").read_bytes()
    assert (tmp_path / "out" / "images" / "000003-3.png").stat().st_nlink == 1 and len(
        again(tmp_path / "out", "val")
    ) == 4


def test_other_modalities_come_along_and_samples_without_images_stay(tmp_path: Path) -> None:
    disc(0).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", np.full((20, 30), 2.0))
    lines = [
        {"key": "../../x", "image": "a.png", "depth": "a.npy", "split": "train", "label": "1"},
        {"key": "b/c", "depth": "a.npy", "split": "train", "label": "0"},
        {"key": "y", "caption": "text alone", "split": "test"},
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    source = lb.source(f"manifest:{tmp_path / 't.jsonl'}", depth_unit="m")
    found = annotate(source, tmp_path / "out", Template(), Left())
    assert (found["samples"], found["without_image"], found["captions"]["made"]) == (3, 2, 1)
    new = again(tmp_path / "out", depth_unit="m")
    assert set(new.modalities) == {"image", "depth", "text", "label", "mask"} and new.classes == ("0", "1")
    assert torch.equal(new.batch([0, 1])["depth"], torch.full((2, 1, 20, 20), 2.0))
    assert {p.name for p in tmp_path.iterdir()} == {"a.png", "a.npy", "t.jsonl", "out"}


def test_vectors_of_captions_come_along(pets: Path, tmp_path: Path) -> None:
    table = tmp_path / "vectors.jsonl"
    images = sorted(path.relative_to(tmp_path).as_posix() for path in pets.rglob("*.png"))[:6]
    rows = [{"image": image, "vec": [i + 1.0, 2.0], "split": "train"} for i, image in enumerate(images)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = lb.source(f"manifest:{table}", resolution=20, caption_vectors="vec")
    found = annotate(source, tmp_path / "out", Sizes())
    assert found["captions"]["made"] == 0, "a vector is a caption"
    new = again(tmp_path / "out", caption_vectors="caption_vector")
    assert torch.equal(new.embeddings["text"], source.embeddings["text"]) and new.embedded_by == source.embedded_by


def test_an_image_that_has_gone_is_named(pets: Path, tmp_path: Path) -> None:
    source = opened(pets)
    (pets / "2.png").unlink()
    with pytest.raises(DataError, match=r"the image of 2.png can no longer be read .*same command again"):
        annotate(source, tmp_path / "out", masks=Left(), splits=["train"])


def test_a_key_of_two_splits_is_told_apart() -> None:
    class Twice(Layout):
        """Two splits that share a key."""

        def read(self) -> Listing:
            named = (("a", "train"), ("b", "train"), ("a", "test"))
            return Listing([Record(key, captions=("x",), split=split) for key, split in named])

    train = RecordSource(Twice(), Twice().read(), "train")
    samples = samples_of([train, train.split("test")])
    assert [s.key for s in samples] == ["train/a", "b", "test/a"]
    assert [s.stem for s in samples] == ["000000-a", "000001-b", "000002-a"]


def test_images_are_as_large_as_the_source_allows(pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.data.decode._limit", ContextVar("usual", default=100))
    with pytest.raises(DataError, match=r"4 records .* cannot be used"):
        len(opened(pets, max_pixels=500))
    seen = Sizes()
    assert annotate(opened(pets, max_pixels=700), tmp_path / "out", seen)["captions"]["made"] == 8
    assert len(seen.seen) == 8, "whole ones, of 600 pixels"
