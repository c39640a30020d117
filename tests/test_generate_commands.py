"""From a folder of pictures to a generated set on the command line: train-prior, doctor, distill, evaluate, show."""

import json
from pathlib import Path
from typing import Any

import pytest

from limbeck.cli import main
from priors import tiny_prior

pytest.importorskip("diffusers", reason="needs the diffusion extra")

pytestmark = pytest.mark.slow

SCENES = ["scenes", "--source.samples", "24", "--source.resolution", "16", "--source.told", "scene"]
ENCODERS = ["--space.image", "convnet", "--space.text", "bag_of_words"]
TINY = ["--channels", "16,16", "--text_width", "32", "--vae_steps", "2", "--steps", "2", "--batch", "4"]


def said(capsys: pytest.CaptureFixture[str], words: list[str], code: int = 0) -> str:
    assert main(words) == code, capsys.readouterr().err
    found = capsys.readouterr()
    return found.out if code == 0 else found.err


def test_from_pictures_to_a_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prior = str(tmp_path / "prior")
    out = said(capsys, ["train-prior", *SCENES, "--out", prior, *TINY])
    assert "makes images of 16 pixels; losses at the end: vae" in out and "licence: CC0-1.0" in out
    assert f"--method.prior {prior}" in out
    again: dict[str, Any] = json.loads(said(capsys, ["train-prior", *SCENES, "--out", prior, *TINY, "--json"]))
    assert set(again["losses"]) == {"vae", "denoiser"} and again["resolution"] == 16
    edge = [
        "--method",
        "edge",
        "--method.prior",
        prior,
        "--method.steps",
        "2",
        "--method.batch",
        "4",
        "--method.sampling_steps",
        "1",
    ]
    edge += ["--method.captions", "2", "--method.captioner", "scenes", "--pairs", "6"]
    found = json.loads(said(capsys, ["doctor", *SCENES, *ENCODERS, *edge, "--json"]))["task"]
    assert found["images"] == 3 and found["memory at the peak of an update, estimated"] > 10**6
    assert found["seconds of sampling, estimated"] > 0 and found["seconds of all steps, estimated"] > 0
    run = str(tmp_path / "run")
    out = said(capsys, ["distill", *SCENES, *ENCODERS, *edge, "--run", run])
    assert "scenes by edge: 6 pairs" in out
    shown = said(capsys, ["show", run, "--out", str(tmp_path / "page.html")])
    assert "prompt of" in shown and "started as" not in shown
    assert ["pairs", "6"] in [line.split() for line in shown.splitlines()]
    page = (tmp_path / "page.html").read_text()
    assert page.count("synthetic image s0000") >= 3 and "prompt of" in page
    rows = json.loads(said(capsys, ["evaluate", run, "--seeds", "1", "--json"]))
    assert rows["rows"][0]["pairs"] == 6
    assert json.loads(said(capsys, ["distill", *SCENES, *ENCODERS, *edge, "--run", run, "--json"]))["pairs"] == 6


def test_doctor_needs_no_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = Path(tiny_prior())
    for name in ("unet/config.json", "vae/config.json", "text_encoder/config.json", "model_index.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((whole / name).read_text())
    words = [
        "doctor",
        *SCENES,
        *ENCODERS,
        "--method",
        "prior",
        "--method.prior",
        str(tmp_path),
        "--pairs",
        "4",
        "--json",
    ]
    found = json.loads(said(capsys, words))["task"]
    assert main([*words, "--method.captions", "2", "--method.captioner", "hf:nobody/no-model"]) == 0, (
        "nor of captioners"
    )
    capsys.readouterr()
    counted = sum(p.numel() for part in _parts(whole) for p in part.parameters())
    assert found["weights of the prior"] == counted and found["seconds of all steps, estimated"] == 0


def _parts(folder: Path) -> list[Any]:
    from limbeck.methods.generative.diffusion.prior import DiffusersPrior

    pipe = DiffusersPrior.open(str(folder)).pipe
    return [pipe.unet, pipe.vae, pipe.text_encoder]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([], 2, "name one with --method.prior, a folder that `limbeck train-prior` wrote"),
        (["--method.prior", "nowhere/at-all"], 2, "cannot be read"),
        (
            ["--method.prior", "PRIOR", "--method.captions", "4"],
            2,
            "4 captions an image do not divide a budget of 6 pairs; ask for 4 or 8",
        ),
        (
            ["--method.prior", "PRIOR", "--method.stage", "before"],
            2,
            "--method.stage takes 'describe' or 'paraphrase', got 'before'",
        ),
        (
            ["--method.prior", "PRIOR", "--method.captions", "2", "--method.captioner", "retreival"],
            2,
            "did you mean retrieval",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    words: list[str], code: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [tiny_prior() if word == "PRIOR" else word for word in words]
    line = ["distill", *SCENES, *ENCODERS, "--method", "prior", *words, "--pairs", "6", "--run", str(tmp_path / "run")]
    assert says in said(capsys, line, code)
    assert not (tmp_path / "run").exists(), "what cannot work claims no folder"
