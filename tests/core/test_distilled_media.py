"""Sound and depth in a set: exact on disk, counted, and to be looked at."""

import base64
import io
import wave
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import limbeck as lb
from limbeck.core import chosen_pairs
from limbeck.core.distilled import DistilledSet, freeze
from limbeck.core.export import export
from limbeck.core.recipe import Recipe
from limbeck.data.vectors import VectorSource
from limbeck.errors import ConfigError
from limbeck.report import page
from limbeck.report.gallery import cards


def media() -> DistilledSet:
    draw = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {
        "image": torch.randint(256, (3, 3, 8, 8), dtype=torch.uint8, generator=draw),
        "audio": torch.rand(3, 1, 20, 30, generator=draw),
        "depth": 10 * torch.rand(3, 1, 8, 8, generator=draw),
    }
    modalities = {
        "image": lb.Modality("image", (3, 8, 8)),
        "audio": lb.Modality("audio", (1, 20, 30), rate=8000),
        "depth": lb.Modality("depth", (1, 8, 8), 0.0, 10.0),
    }
    return DistilledSet("toy", modalities, tensors, captions=[()] * 3, origins=["a", "b", "c"])


def test_a_saved_set_gives_the_same_floats_back(tmp_path: Path) -> None:
    small = media()
    assert small.sizes["audio"] > 7200 and small.sizes["depth"] > 768
    back = lb.load(small.save(tmp_path / "set"))
    assert back.fingerprint == small.fingerprint and back.nbytes == small.nbytes and back.modalities == small.modalities
    for name in ("audio", "depth"):
        assert torch.equal(back.batch([2, 0])[name], small.tensors[name][[2, 0]])


def test_the_table_shows_sound_and_depth(tmp_path: Path) -> None:
    import datasets

    folder = media().save(tmp_path / "set")
    table = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]
    assert table[1]["audio_preview"].size == (30, 20) and table[1]["depth_preview"].size == (8, 8)
    shown = cards(media(), None, max_pairs=2, sets=1)
    assert [[p.alt for p in card.others] for card in shown][1] == ["synthetic audio s00001", "synthetic depth s00001"]


def test_sound_can_be_heard(tmp_path: Path) -> None:
    small = lb.load(media().save(tmp_path / "set"))
    (card,) = cards(small, None, max_pairs=1, sets=1)
    raw = base64.b64decode(card.sound.removeprefix("data:audio/wav;base64,"))
    with wave.open(io.BytesIO(raw)) as file:
        assert (file.getframerate(), file.getnframes(), file.getsampwidth()) == (8000, 30 * 80, 2)
        assert any(file.readframes(2400))
    html = page(tmp_path / "page.html", sets=[small]).read_text()
    assert html.count("<audio controls") == 3 and "media-src data:" in html
    unknown = replace(small, modalities={**small.modalities, "audio": lb.Modality("audio", (1, 20, 30))})
    assert cards(unknown, None, max_pairs=1, sets=1)[0].sound == ""


@pytest.mark.parametrize("to", ["webdataset", "folder"])
def test_layouts_without_a_place_for_sound_refuse_it(to: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no place for audio, depth; export to 'hf'"):
        export(media(), tmp_path / "out", to)


def test_freeze_keeps_every_modality_and_project_its_range() -> None:
    values = _vectors()
    source = VectorSource("mine", values)
    problem = lb.Problem(source, lb.space(audio="vectors:4", depth="vectors:5"), lb.Budget(pairs=2))
    synthetic = chosen_pairs(problem, torch.tensor([1, 3]), learn=["audio"])
    with torch.no_grad():
        synthetic.value("audio").fill_(1e6)
    synthetic.project()
    assert float(synthetic.value("audio").detach().max()) == source.modalities["audio"].high
    small = freeze(problem, Recipe(method={"name": "none"}), synthetic, learned_text=False)
    assert torch.equal(small.batch([0, 1])["depth"], values["depth"][[1, 3]]) and small.sizes["audio"] > 32


def _vectors() -> dict[str, Any]:
    draw = torch.Generator().manual_seed(0)
    return {"audio": torch.rand(6, 4, generator=draw), "depth": torch.rand(6, 5, generator=draw)}
