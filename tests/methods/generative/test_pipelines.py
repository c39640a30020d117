"""Pipelines that come with code of their own are refused before anything of them is opened."""

import json
from pathlib import Path

import pytest

from limbeck.errors import ConfigError

pytest.importorskip("diffusers", reason="needs the diffusion extra")
from limbeck.methods.generative.diffusion.pipelines import pipeline_folder, read_index
from limbeck.methods.generative.diffusion.prior import DiffusersPrior

GOOD = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.38.0",
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
}


def folder(at: Path, **changes: object) -> Path:
    (at / "model_index.json").write_text(json.dumps(GOOD | changes))
    return at


def test_what_diffusers_and_transformers_hold_is_known(tmp_path: Path) -> None:
    assert pipeline_folder(str(folder(tmp_path))) == tmp_path and read_index(tmp_path) == GOOD


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"_class_name": ["evil", "Evil"]}, "_class_name must be a text"),
        ({"_class_name": "NoSuchPipeline"}, r"names diffusers\.NoSuchPipeline for the pipeline"),
        ({"unet": ["evilunet", "EvilUNet"]}, r"names evilunet\.EvilUNet for unet"),
        ({"unet": ["os", "system"]}, r"names os\.system for unet"),
        ({"unet": ["diffusers", "utils"]}, r"names diffusers\.utils for unet"),
        ({"unet": ["../evil", "Evil"]}, r"names \.\./evil\.Evil for unet"),
        ({"unet": ["stable_diffusion.pipeline_output", "np"]}, "for unet"),
        ({"unet": ["diffusers"]}, "names diffusers for unet"),
        ({"tokenizer": ["onnxruntime", "X"]}, "neither diffusers nor transformers holds"),
    ],
)
def test_other_modules_are_refused(changes: dict[str, object], says: str, tmp_path: Path) -> None:
    for ask in (DiffusersPrior.open, pipeline_folder):
        with pytest.raises(ConfigError, match=says):
            ask(str(folder(tmp_path, **changes)))  # type: ignore[operator]


@pytest.mark.parametrize("place", ["evil.py", "unet/evilunet.py", "a/b/c.py"])
def test_python_files_are_refused(place: str, tmp_path: Path) -> None:
    (folder(tmp_path) / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text("raise SystemExit('it ran')")
    with pytest.raises(ConfigError, match=rf"holds code of its own \({place}\)"):
        DiffusersPrior.open(str(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"_class_name": 5}', "[" * 100_000, '{"a": 1, "a": 2}'])
def test_an_index_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(ConfigError, match=r"model_index\.json cannot be read"):
        DiffusersPrior.open(str(tmp_path))


def test_a_name_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the model 'some/pipeline' cannot be read"):
        DiffusersPrior.open("some/pipeline")


def test_parts_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        DiffusersPrior.open(str(folder(tmp_path)))
