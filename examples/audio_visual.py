"""Sound and image together: several methods in one table, judged by classification.

    python examples/audio_visual.py --per-class 2
    python examples/audio_visual.py clips/clips.jsonl --per-class 2     # a table of your own
    python examples/audio_visual.py --toy                               # the same in seconds, with random encoders

Without a table the script makes up its data: nine classes, each a shape that is seen with a melody that is heard. Three shapes
and three melodies make nine pairs, so that an image alone can tell a third of the classes apart, a sound alone another third,
and both together all of them. A table of your own has one sample a line:

    {"image": "a.jpg", "audio": "a.wav", "label": "dog", "split": "train"}

`image accuracy` and `audio accuracy` are those of one modality, `late accuracy` is that of two students whose answers are averaged,
`joint accuracy` that of one student who reads both. Sounds are decoded with `pip install 'limbeck[audio]'`.
"""

import argparse
import json
import math
import wave
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import limbeck as lb

SHAPES = ("disc", "square", "cross")
MELODIES = {"rising": (0, 4, 7), "falling": (7, 4, 0), "steady": (4, 4, 4)}  # semitones
RATE = 8000


def picture(shape: str, rng: np.random.Generator, side: int) -> Image.Image:
    """A shape of any colour, at any place, on noise."""
    noise = rng.integers(0, 110, (side, side, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    draw, colour = ImageDraw.Draw(image), tuple(rng.integers(120, 256, 3).tolist())
    r = side * rng.uniform(0.15, 0.25)
    x, y = rng.uniform(r, side - r, 2)
    if shape == "disc":
        draw.ellipse((x - r, y - r, x + r, y + r), colour)
    elif shape == "square":
        draw.rectangle((x - r, y - r, x + r, y + r), colour)
    else:
        draw.rectangle((x - r, y - r / 3, x + r, y + r / 3), colour)
        draw.rectangle((x - r / 3, y - r, x + r / 3, y + r), colour)
    return image


def sing(melody: str, rng: np.random.Generator, path: Path) -> None:
    """Three notes in any key, with noise, as a WAV file."""
    key, time = rng.uniform(200, 500), np.arange(RATE // 4) / RATE
    notes = [np.sin(2 * math.pi * key * 2 ** (step / 12) * time) for step in MELODIES[melody]]
    sound = 0.4 * np.concatenate(notes) + 0.1 * rng.standard_normal(3 * len(time))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((32767 * sound.clip(-1, 1)).astype("<i2").tobytes())


def made_up(folder: Path, per_class: dict[str, int], side: int) -> Path:
    """The table of a data set that is made up here: so many samples a class in each split."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(0), []
    for split, count in per_class.items():
        for i, (shape, melody) in enumerate([(s, m) for s in SHAPES for m in MELODIES] * count):
            key = f"{split}-{i:04d}"
            picture(shape, rng, side).save(folder / f"{key}.png")
            sing(melody, rng, folder / f"{key}.wav")
            files = {"image": f"{key}.png", "audio": f"{key}.wav"}
            rows.append(json.dumps({**files, "label": f"{shape} {melody}", "split": split}))
    (folder / "clips.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder / "clips.jsonl"


def main() -> None:
    """Compares choices of real samples with methods that learn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, nargs="?", help="a table with columns image, audio and label")
    parser.add_argument("--per-class", type=int, default=2, help="samples a class in each small set")
    parser.add_argument("--out", type=Path, default=Path("runs/audio_visual"), help="where everything is written")
    parser.add_argument("--toy", action="store_true", help="run in seconds, with random encoders")
    options = parser.parse_args()

    sizes = {"train": 4, "val": 2, "test": 2} if options.toy else {"train": 40, "val": 10, "test": 20}
    table = options.table or made_up(options.out / "clips", sizes, side=16 if options.toy else 64)
    size = {"resolution": 16, "audio_rate": RATE, "audio_seconds": 0.75, "mels": 16} if options.toy else {}
    train = lb.source(f"manifest:{table}", **size)

    encoder = "convnet" if options.toy else "efficientnet_lite0"  # a spectrogram is a grey image to it
    space = lb.space(image=encoder, audio=encoder)
    avdd = lb.methods.AVDD(steps=20, batch=16, width=32, lr=0.01)
    methods = ["random", "herding", lb.methods.LabelDistillation(learn="label"), avdd, lb.methods.ImageBindDC(steps=50)]
    if options.toy:
        avdd = lb.methods.AVDD(steps=2, batch=8, width=8, lr=0.001)
        methods = ["random", "herding", avdd, lb.methods.ImageBindDC(steps=2)]
    seeds, students = (1, {"steps": 10, "noise": (1.0,)}) if options.toy else (3, {"steps": 200, "longest": 200})
    pairs = [options.per_class * len(train.classes)]
    found = lb.compare(
        train, methods, pairs, seeds, space=space, run=options.out, protocol="classification", **students
    )
    print(found)


if __name__ == "__main__":
    main()
