"""Caption synthesis: exactly as many captions as were asked for, whoever writes them; and who does."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import limbeck as lb
from limbeck.annotation import Captioner, Knowledge
from limbeck.annotation.captioners.call import Call
from limbeck.annotation.captioners.retrieval import Retrieval
from limbeck.annotation.captioners.scenes import Scenes
from limbeck.annotation.captioners.template import Template
from limbeck.data.scene import Seen, sentences, told
from limbeck.errors import ConfigError, DataError, LimbeckWarning
from limbeck.methods.generative.diffusion.synthesis import check_captioner, described, images_of_budget, rewritten


@dataclass(frozen=True)
class Says(Captioner):
    """Says the same lists of texts of any image."""

    texts: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        return "said"

    def describe(self) -> dict[str, Any]:
        return {"name": "says"}

    def caption(self, images: Sequence[Any], classes: Sequence[str | None]) -> list[str]:
        return [self.texts[0]] * len(images)

    def describe_each(self, images: Sequence[Any], count: int) -> list[list[str]]:
        return [list(self.texts[:count]) for _ in images]


PIXELS = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)


def test_budgets() -> None:
    assert [images_of_budget(500, eta) for eta in (1, 2, 5)] == [500, 250, 100]
    with pytest.raises(
        ConfigError, match="3 captions an image do not divide a budget of 500 pairs; ask for 498 or 501 pairs"
    ):
        images_of_budget(500, 3)
    with pytest.raises(ConfigError, match="ask for 4 pairs"):
        images_of_budget(3, 4)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_exactly_as_many_as_asked_none_twice_and_never_the_prompt(count: int) -> None:
    voice = Says(("a cat", "  ", "a  pet", "a pet", "an animal", "a beast"))
    found = described(voice, PIXELS, ["a cat", "a dog", "a pet"], count)
    assert all(len(texts) == count == len(set(texts)) for texts in found.captions) and found.repeated == 0
    assert all(prompt not in texts for prompt, texts in zip(("a cat", "a dog", "a pet"), found.captions, strict=True))
    assert found.captions[0][0] == "a pet"


def test_too_few_are_filled_with_the_prompt_counted_and_told() -> None:
    with pytest.warns(LimbeckWarning, match="1 of 6 new captions are the prompt again"):
        found = described(Says(("a cat", "a pet")), PIXELS, ["a cat", "a dog", "x"], 2)
    assert found.captions == [["a pet", "a cat"], ["a cat", "a pet"], ["a cat", "a pet"]] and found.repeated == 1


def test_one_that_says_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="'says' said nothing new of any of 3 images"):
        described(Says(("", " ")), PIXELS, ["a", "b", "c"], 1)
    with pytest.raises(DataError, match="said nothing new"):
        described(Says(("a",)), PIXELS, ["a", "a", "a"], 1)
    with pytest.raises(ConfigError, match="has one text for an image, and 2 are asked for"):
        Template().describe_each([None], 2)
    with pytest.raises(ConfigError, match="rewrites no texts"):
        rewritten(Template(), ["a cat"], 1)


def test_an_interrupted_caption_run_asks_no_image_twice(tmp_path: Path) -> None:
    asked: list[int] = []

    @dataclass(frozen=True)
    class Counted(Says):
        def describe_each(self, images: Sequence[Any], count: int) -> list[list[str]]:
            asked.append(len(images))
            if len(asked) == 2:
                raise KeyboardInterrupt
            return super().describe_each(images, count)

    images, prompts = torch.zeros(40, 3, 4, 4, dtype=torch.uint8), [f"p{i}" for i in range(40)]
    with pytest.raises(KeyboardInterrupt):
        described(Counted(("a",)), images, prompts, 1, tmp_path)
    found = described(Counted(("a",)), images, prompts, 1, tmp_path)
    assert asked == [32, 8, 8] and found.captions == [["a"]] * 40
    assert len(json.loads((tmp_path / "captions-000000.json").read_text())["captions"]) == 32


def test_notes_are_written_where_no_folder_is_yet_and_damaged_ones_are_made_anew(tmp_path: Path) -> None:
    images, folder = torch.zeros(3, 3, 4, 4, dtype=torch.uint8), tmp_path / "run" / "samples"
    assert described(Says(("d",)), images, ["a", "b", "c"], 1, folder).captions == [["d"]] * 3
    path = folder / "captions-000000.json"
    for text in ("", "[]", "7", path.read_text().replace('"d"', '"e"'), "[" * 99_999, '{"captions": [["d"]]}'):
        path.write_text(text)
        with pytest.warns(LimbeckWarning, match="is damaged; its captions are made anew"):
            assert described(Says(("d",)), images, ["a", "b", "c"], 1, folder).captions == [["d"]] * 3
        assert described(Says(("e",)), images, ["a", "b", "c"], 1, folder).captions == [["d"]] * 3


def test_what_was_said_too_little_of_is_asked_again_by_the_next_run(tmp_path: Path) -> None:
    images, prompts = torch.zeros(3, 3, 4, 4, dtype=torch.uint8), ["a", "b", "c"]
    with pytest.raises(DataError, match="said nothing new"):
        described(Says(("",)), images, prompts, 1, tmp_path)
    assert described(Says(("d",)), images, prompts, 1, tmp_path).captions == [["d"]] * 3
    assert described(Says(("e",)), images, prompts, 1, tmp_path).captions == [["d"]] * 3, "what is whole is kept"


def test_any_function_can_write(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("mine")
    module.write = lambda values, n: [[f"{getattr(v, 'size', v)} {i}" for i in range(n)] for v in values]  # type: ignore[attr-defined]
    module.wrong = lambda values, n: "text"  # type: ignore[attr-defined]
    module.number = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", module)
    found = described(check_captioner("call:mine.write"), PIXELS, ["a", "b", "c"], 2)
    assert found.captions[0] == ["(8, 8) 0", "(8, 8) 1"]
    assert rewritten(Call("mine.write"), ["a"], 1).captions == [["a 0"]]
    assert Call("mine.write").caption([3], [None]) == ["3 0"] and "mine.write" in Call("mine.write").what
    for name, says in (("mine.wrong", "must return a list of 1 lists of texts"), ("mine.none", "cannot be found"), ("mine.number", "is no function"),
                       ("nowhere.f", "put its module on PYTHONPATH"), ("f", "names no function of a module")):  # fmt: skip
        with pytest.raises(ConfigError, match=says):
            Call(name).rewrite(["a"], 1)


def knowledge() -> Knowledge:
    """Captions of three colours; images are seen by their mean colour."""
    captions = ["red", "red one", "green", "blue", "red"]
    vectors = torch.tensor([[1.0, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    return Knowledge(
        captions,
        vectors,
        lambda images: images.mean(dim=(2, 3)),
        lambda texts: torch.stack([vectors[captions.index(t)] for t in texts]),
    )


def test_retrieval_tells_the_nearest_real_captions_without_repeating_one() -> None:
    voice = Retrieval().informed(knowledge())
    red, green = Image.new("RGB", (4, 4), (250, 10, 0)), Image.new("RGB", (4, 4), (0, 200, 90))
    assert voice.describe_each([red, green], 2) == [["red", "red one"], ["green", "blue"]]
    assert voice.describe_each([red, green.resize((8, 8))], 1) == [["red"], ["green"]]
    assert voice.caption([green], [None]) == ["green"] and voice.rewrite(["red"], 2) == [["red one", "green"]]
    assert voice.describe() == {"name": "retrieval"} and "other images" in voice.what
    with pytest.raises(ConfigError, match="is given by methods that generate"):
        Retrieval().caption([red], [None])


@pytest.mark.slow
def test_the_oracle_reads_rendered_scenes() -> None:
    source = lb.source("scenes", shapes=8, tie=0, samples=64, told="scene", seed=3)
    voice, want = Scenes(), [told(captions[0]) for captions in source.captions]
    pixels = (source.batch(range(64))["image"] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    seen = [voice.see(image) for image in pixels]
    right = [np.mean([s[k] == w[k] for s, w in zip(seen, want, strict=True)]) for k in range(4)]
    assert min(right) >= 0.95, right
    text = voice.caption([Image.fromarray(pixels[0])], [None])[0]
    assert told(text) == seen[0] and len(set(voice.describe_each([Image.fromarray(pixels[0])], 4)[0])) == 4
    assert voice.rewrite(["two dogs run over a field", "a red disc"], 1) == [[], ["a red disc is there"]]
    with pytest.raises(ValueError, match="a square RGB image"):
        voice.see(np.zeros((8, 9, 3), np.uint8))


def test_sentences_say_all_of_it_and_can_be_read_again() -> None:
    for seen in (
        Seen("red", "disc", "in the middle", "sea"),
        Seen("blue", "star"),
        Seen("cyan", None, "at the top left"),
        Seen(),
    ):
        texts = sentences(seen)
        assert len(set(texts)) == 4 and all(told(text) == seen for text in texts)
    scene = lb.source("scenes", samples=12, told="scene")
    assert all(len(set(c)) == 4 and None not in told(c[2]) for c in scene.captions)
    (others,) = Scenes().rewrite(["a red disc in the middle on sea"], 3)
    assert len(others) == 3 and all(told(o) == Seen("red", "disc", "in the middle", "sea") for o in others)
