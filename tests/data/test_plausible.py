"""Depth maps that cannot be what they claim: of another shape than their images, of two units, too near, without readings."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import limbeck as lb
from limbeck.cli import main
from limbeck.data.plausible import DepthFacts, depth_doubts
from limbeck.errors import DataError

SIDE = 12


def facts(*metres: float, missing: float = 0.0) -> DepthFacts:
    """Of maps around these distances."""
    maps = np.array(metres)[:, None, None, None] * np.linspace(0.9, 1.1, SIDE * SIDE).reshape(1, 1, SIDE, SIDE)
    maps[:, :, : round(missing * SIDE)] = 0
    return DepthFacts.of(maps.astype(np.float32), np.arange(len(maps)))


def test_sound_maps_raise_no_doubts() -> None:
    rooms = np.random.default_rng(0).uniform(1.2, 4.0, 200)
    assert facts(*rooms).doubts("train") == [] and facts(2.0).doubts("train") == []
    assert facts(*rooms, 0.02).doubts("train") == [], "a single odd one is no second unit"


@pytest.mark.parametrize(
    ("held", "doubt"),
    [
        (
            facts(0.05, 0.06, 0.07),
            "the depth of train is nearer than 10 cm (the median is 0.06 m): is the unit right? see depth_unit",
        ),
        (
            facts(*[0.06] * 5, *[2.4] * 20),
            "the depth maps of train are of two kinds, 5 near 0.06 m and 20 near 2.4 m: are they of one unit?",
        ),
        (facts(2, 3, 4, missing=0.75), "3 of the 3 depth maps of train have no reading in most of their pixels"),
        (
            DepthFacts.of(np.full((4, 1, 2, 2), 2.0, np.float32), np.array([0, 3])),
            "2 of the 2 depth maps of train are constant: they tell nothing of a scene",
        ),
    ],
    ids=["near", "two units", "missing", "constant"],
)
def test_doubts(held: DepthFacts, doubt: str) -> None:
    (told,) = held.doubts("train")
    assert told.startswith(doubt)


def table(folder: Path, train: float, test: float, shape: tuple[int, int] = (40, 48)) -> str:
    """Thirty images of 48 x 40 with depth in millimetres, times a factor of each split."""
    rows = []
    for i in range(30):
        split = "train" if i < 20 else "val" if i < 25 else "test"
        noise = np.random.default_rng(i).integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
        ramp = np.tile(np.linspace(1000 + i, 4000, shape[1]), (shape[0], 1)) * (test if split == "test" else train)
        Image.fromarray(np.rint(ramp).astype(np.uint16)).save(folder / f"{i}d.png")
        rows.append({"image": f"{i}.png", "depth": f"{i}d.png", "label": i % 2, "split": split})
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"manifest:{folder / 't.jsonl'}"


@pytest.mark.slow
def test_two_units_of_two_splits_are_told_by_doctor_and_by_what_uses_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = table(tmp_path, train=0.0255, test=1.0)
    words = [
        spec,
        "--source.depth_unit",
        "mm",
        "--source.resolution",
        "8",
        "--space.image",
        "convnet",
        "--space.depth",
        "convnet",
    ]
    assert main(["doctor", *words, "--pairs", "4"]) == 0
    said = capsys.readouterr().out
    assert "train and test differ 39-fold in depth (0.064 and 2.5 m): are they of one unit?" in said
    assert "the depth of train is nearer than 10 cm" in said and "the depth of test" not in said
    assert main(["distill", *words, "--method", "random", "--pairs", "4", "--run", str(tmp_path / "run")]) == 0
    assert f"the depth of {spec} is nearer than 10 cm" in capsys.readouterr().err
    sound = lb.source(table(tmp_path, 1.0, 1.0), depth_unit="mm", resolution=8)
    assert depth_doubts({name: sound.split(name) for name in sound.splits}) == []
    assert depth_doubts({"toy": lb.check.toy_source()}) == []


def test_a_map_lies_upon_its_image(tmp_path: Path) -> None:
    for shape in ((40, 48), (20, 24), (10, 12)):  # depth cameras have fewer pixels
        assert len(lb.source(table(tmp_path, 1.0, 1.0, shape), depth_unit="mm", resolution=8)) == 20
    for shape in ((48, 40), (40, 40), (20, 48)):
        told = f"20 depth map of {shape[1]}x{shape[0]} pixels for an image of 48x40"
        with pytest.raises(DataError, match=told):
            lb.source(table(tmp_path, 1.0, 1.0, shape), depth_unit="mm", resolution=8)
