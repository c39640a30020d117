"""`limbeck audit` from a folder of pictures to a verdict and a page."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from limbeck.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on 40 pictures of noise in two classes, of which 24 are for training."""
    root = tmp_path_factory.mktemp("audit")
    draw, lines = torch.Generator().manual_seed(0), []
    for i in range(40):
        pixels = torch.randint(0, 256, (16, 16, 3), generator=draw, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(root / f"{i}.png")
        split = "train" if i < 24 else "val" if i < 32 else "test"
        lines.append({"file_name": f"{i}.png", "caption": f"picture {i} <b>", "label": "ab"[i % 2], "split": split})
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = ["distill", f"folder:{root}", "--source.resolution", "16", "--method", "random", "--pairs", "6"]
    encoders = ["--space.image", "convnet", "--space.text", "bag_of_words"]
    assert main([*words, *encoders, "--run", str(root / "run")]) == 0
    return root / "run"


@pytest.mark.slow
def test_text_says_the_verdict_and_the_rule(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(run), "--seeds", "1", "--shadows", "2"]) == 0
    out = capsys.readouterr().out
    assert "6 samples against 24 training samples" in out and "16 held-out ones" in out
    assert "image: 6 of 6 samples are memorised" in out and "text: 6 of 6" in out
    assert "memorised: as near to a training sample as the nearest 1 % of held-out samples" in out
    assert re.search(r"the set +LiRA +\d\.\d\d \[", out) and "Vendi" in out


def test_json_and_a_page_that_needs_nothing_else(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "new" / "audit.html"
    words = ["audit", str(run / "set"), "--against", f"folder:{run.parent}", "--against.resolution", "16"]
    assert main([*words, "--seeds", "0", "--json", "--out", str(page)]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["memorised"] == {"image": 6, "text": 6} and data["leaks"] == [] and data["page"] == str(page)
    html = page.read_text(encoding="utf-8")
    assert "6 of 6 samples <em>show</em> real training samples" in html and html.count('class="three"') == 6
    assert html.count("data:image/webp") >= 12 and html.count("memorised: image, RMSE") == 6
    assert "default-src 'none'" in html and "<script" not in html and "<b>" not in html
    assert not re.findall(r"https?://|@import|<link|url\((?!#)", html)


def test_another_encoder_and_none_of_a_modality(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["audit", str(run), "--seeds", "0", "--json", "--space.text", "none", "--space.image", "convnet"]
    assert main([*words, "--space.image.width", "16"]) == 0
    measures = [(n["modality"], n["measure"]) for n in json.loads(capsys.readouterr().out)["nearness"]]
    assert measures == [("image", "rmse"), ("image", "ssim"), ("image", "features")]


def test_a_folder_is_no_page_and_odd_shadows_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(run), "--seeds", "0", "--out", str(run)]) == 5
    assert "is a folder; give the name of a file in it" in capsys.readouterr().err
    assert main(["audit", str(run), "--shadows", "3"]) == 2
    assert "shadows an even one, got 3 and 3" in capsys.readouterr().err
