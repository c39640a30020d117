"""The recipes that come with the package: the published figures, and two steps of each on tiny random weights."""

import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

import limbeck as lb
from limbeck.cli import main
from limbeck.commands import distill
from limbeck.commands._options import parse
from limbeck.commands._recipes import config_file, recipes
from limbeck.errors import UnknownName

PIXELS, TEXTS = (
    0.0722,
    1 / 212,
)  # from the published learning rates to those of pixels in [0, 1] and texts of unit length

# pairs, batch, latest start + 1, learning rate, of the similarity, rank, alpha, steps, merged, temperature
PUBLISHED = {
    "lors-flickr30k-100": (99, 20, 2, 100, 10, 10, 3, 3000, False, 0.07),
    "lors-flickr30k-200": (199, 20, 2, 1000, 10, 5, 1, 3000, False, 0.07),
    "lors-flickr30k-500": (499, 40, 3, 1000, 100, 20, 0.01, 3000, False, 0.07),
    "lors-coco-100": (99, 20, 2, 1000, 5, 10, 1, 3000, True, 0.07),
    "lors-coco-200": (199, 20, 2, 1000, 50, 20, 1, 2000, True, 0.07),
    "lors-coco-500": (499, 30, 2, 5000, 500, 40, 1, 3000, True, 0.1),
}

# pairs, rho, weight of the means, steps
COVARIANCES = {
    "covmatch-flickr30k-100": (100, 2, 0.1, 10_000),
    "covmatch-flickr30k-200": (200, 1, 0.1, 10_000),
    "covmatch-flickr30k-500": (500, 1, 0.6, 20_000),
    "covmatch-coco-100": (100, 2, 0.1, 10_000),
    "covmatch-coco-200": (200, 1, 0.1, 10_000),
    "covmatch-coco-500": (500, 1, 0.5, 20_000),
}
# pairs, epochs, samples an epoch
GENERATED = {
    "edge-flickr30k-100": (100, 16, 29_000),
    "edge-flickr30k-200": (200, 16, 29_000),
    "edge-flickr30k-500": (500, 16, 29_000),
    "edge-coco-100": (100, 8, 113_287),
    "edge-coco-200": (200, 8, 113_287),
    "edge-coco-500": (500, 8, 113_287),
}
TRAJECTORIES = sorted({*PUBLISHED, "mtt_vl-flickr30k-100"})
SMALLER = {  # what two steps of it are run with, by the method
    "lors": {"experts": 1, "inner_batch": 4, "inner_steps": 2, "expert_batch": 8, "rank": 2, "lr_similarity": 1},
    "mtt_vl": {"experts": 1, "inner_batch": 4, "inner_steps": 2, "expert_batch": 8},
    "covmatch": {"tokens": 8, "dim": 8, "reset": 2, "real_batch": 6},
}


class Pooled(nn.Module):
    """Stands for NFNet-L0 without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 3, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        """Features `[B, 6]`."""
        return torch.tanh(self.convolution(images)).mean(dim=(2, 3))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Random weights in place of those that a recipe names; what was asked for."""
    import transformers as t
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    asked: list[Any] = []
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "blue", "square", *"0123456789"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = t.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", model_max_length=16)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = t.BertConfig(**shape, vocab_size=len(words), max_position_embeddings=16)

    def bert(name: str) -> nn.Module:
        asked.append(name)
        torch.manual_seed(0)  # inside of the fork of `Encoder.network`
        return t.BertModel(config)

    def timm_model(name: str, pretrained: bool, num_classes: int) -> nn.Module:
        asked.append((name, pretrained, num_classes))
        torch.manual_seed(0)
        return Pooled()

    timm, numbers = ModuleType("timm"), {"input_size": (3, 16, 16), "crop_pct": 0.9, "interpolation": "bicubic"}
    numbers |= {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    timm.create_model = timm_model  # type: ignore[attr-defined]
    timm.data = SimpleNamespace(resolve_model_data_config=lambda model: numbers)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setattr(t.AutoConfig, "from_pretrained", lambda name: config)
    monkeypatch.setattr(t.AutoModel, "from_pretrained", bert)
    monkeypatch.setattr(t.AutoTokenizer, "from_pretrained", lambda name: fast)
    return asked


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve images with two captions each, as Karpathy's files list them."""
    root = tmp_path_factory.mktemp("photographs")
    (root / "images").mkdir()
    rows = []
    for i in range(12):
        name = ("red", "green", "blue")[i % 3]
        Image.new("RGB", (20, 20), tuple(200 if k == i % 3 else 10 * i for k in range(3))).save(
            root / "images" / f"{i}.png"
        )
        said = [{"raw": f"{name} square {i % 10}"}, {"raw": f"square {name} {i // 10} {i % 10}"}]
        rows.append({"filename": f"{i}.png", "split": "train" if i < 10 else "test", "sentences": said})
    rows.append({**rows[0], "filename": "10.png", "split": "val"})
    (root / "dataset.json").write_text(json.dumps({"images": rows}))
    return f"karpathy:{root}"


@cache
def _task(name: str) -> distill.Distill:
    return parse(distill.Distill, ["karpathy:somewhere", "--config", f"recipe:{name}", "--run", "r"])


def test_every_recipe_says_what_it_is_and_how_it_is_used() -> None:
    assert set(recipes()) == {*TRAJECTORIES, *COVARIANCES, *GENERATED}
    for name, says in recipes().items():
        text = config_file(f"recipe:{name}").read_text(encoding="utf-8")
        assert says.endswith("as published.") and f"--config recipe:{name} " in text
        assert "# Figures: " in text and "# What is not as published:" in text
    assert config_file("runs/a/recipe.yaml") == Path("runs/a/recipe.yaml")
    with pytest.raises(UnknownName, match="did you mean lors-coco-100"):
        config_file("recipe:lors-coco-10")


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_lors_has_the_published_figures(name: str) -> None:
    pairs, batch, start, rate, similarity, rank, alpha, steps, merged, temperature = PUBLISHED[name]
    task, method = _task(name), _task(name).method.make()
    assert (task.pairs, task.pixels, method.steps, method.inner_batch, method.max_start) == (
        pairs,
        "float32",
        steps,
        batch,
        start,
    )
    assert (method.loss, method.similarity, method.bound) == ("wbce", "lowrank", "none")
    assert (method.rank, method.alpha, method.lr_similarity) == (rank, alpha, similarity)
    assert (method.lr / rate, method.lr_text / rate) == pytest.approx((PIXELS, TEXTS), rel=0.03)
    assert (method.merged, method.temperature) == (merged, temperature)
    assert method.expert_augment == (name != "lors-coco-500")


@pytest.mark.parametrize("name", sorted(COVARIANCES))
def test_covmatch_has_the_published_figures(name: str) -> None:
    task, method = _task(name), _task(name).method.make()
    assert (task.pairs, method.rho, method.means, method.steps) == COVARIANCES[name]
    assert (task.method.spec, task.pixels, method.match, method.spread) == ("covmatch", "float32", "absolute", 0)
    assert (method.towers, method.text, method.head, method.dim) == ("encoder", "encoder", "mlp", 2304)
    assert (method.reset, method.real_batch, method.update, method.momentum) == (50, 128, "sgd", 0.5)
    assert (method.lr, method.lr_text) == (pytest.approx(PIXELS, rel=0.03), 1)


@pytest.mark.parametrize("name", sorted({*recipes()} - {*GENERATED}))
def test_all_recipes_are_for_the_same_encoders(name: str) -> None:
    task = _task(name)
    assert task.source and (task.source.spec, task.source.options) == ("karpathy:somewhere", {"resolution": 224})
    assert task.image and (task.image.spec, task.image.options) == ("timm:nfnet_l0", {})
    assert task.text and (task.text.spec, task.text.options) == ("hf:bert-base-uncased", {"pooling": "cls"})


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_edge_has_the_published_figures(name: str) -> None:
    pairs, epochs, images = GENERATED[name]
    task, method = _task(name), _task(name).method.make()
    assert task.source and task.source.options == {"resolution": 224} and (task.pairs, task.pixels) == (pairs, "uint8")
    assert {part.spec for part in (task.image, task.text) if part} == {"hf:openai/clip-vit-base-patch32"}
    assert (method.prior, method.steps) == (
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        epochs * images // method.batch,
    )
    assert (method.batch, method.lr, method.subset, method.temperature) == (8, 1e-4, "bias_norm", 0.5)
    assert (method.to_text, method.to_image, method.diverse, method.denoise, method.t_max) == (1, 1, 1, 0, 1000)
    assert (method.prompts, method.captions, method.repeats, method.stage) == ("random", 2, 1, "describe")
    assert method.captioner == "hf:llava-hf/llava-1.5-7b-hf" and not method.clean_input


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_what_all_recipes_of_trajectories_share(name: str) -> None:
    method = _task(name).method.make()
    assert (method.students, method.text, method.head) == (("encoder",), "frozen", "residual")
    assert (method.experts, method.expert_rate, method.expert_batch, method.expert_epochs) == (20, 0.1, 128, 1)
    assert (method.inner_steps, method.segments, method.student_rate) == (8, 1, 0.1)
    assert (method.expert_captions, method.expert_noise, method.mask, method.max_start_text) == ("all", 0, False, 0)
    assert (method.update, method.momentum, method.init, method.average, method.max_norm) == (
        "sgd",
        0.5,
        "random",
        0,
        0,
    )


def test_mtt_vl_has_the_published_figures() -> None:
    task = _task("mtt_vl-flickr30k-100")
    method = task.method.make()
    assert (task.method.spec, task.pairs, method.inner_batch, method.gradient) == ("mtt_vl", 100, 0, "exact")
    assert (method.lr, method.lr_text) == pytest.approx((1000 * PIXELS, 1000 * TEXTS), rel=0.03)


def test_the_rate_of_the_students_rates_makes_the_published_step() -> None:
    """A step of 0.01 g of the rate itself, at 0.1, is one of `lr_rate` of the parameter that it is learned through."""
    from limbeck.methods.trajectory.experts.learned_rate import LearnedRate

    rate = LearnedRate(0.1)
    (slope,) = torch.autograd.grad(rate(), rate.parameter)
    assert _task("lors-coco-100").method.make().lr_rate * float(slope) ** 2 == pytest.approx(0.01, rel=0.02)


@pytest.mark.slow
def test_two_steps_of_edge_run(photographs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a tiny prior and encoders that are not joint, as neither CLIP nor LLaVA is here; all else is the recipe's."""
    pytest.importorskip("diffusers", reason="needs the diffusion extra")
    from priors import tiny_prior

    words = [
        "distill",
        photographs,
        "--config",
        "recipe:edge-coco-100",
        "--run",
        str(tmp_path / "r"),
        "--source.resolution",
        "16",
    ]
    words += [
        "--space.image",
        "convnet",
        "--space.text",
        "bag_of_words",
        "--method.prior",
        tiny_prior(),
        "--method.resolution",
        "16",
    ]
    words += ["--pairs", "6", "--method.steps", "2", "--method.sampling_steps", "2", "--method.captioner", "retrieval"]
    assert main(words) == 0, capsys.readouterr().err
    small = lb.load(tmp_path / "r" / "set")
    assert (len(small), small.pairs) == (3, 6) and small.generation["prior"]["licence"] == "cc-by-nc-4.0"


@pytest.mark.parametrize("name", sorted({*recipes()} - {*GENERATED}))
@pytest.mark.slow
def test_two_steps_of_it_run(
    name: str, tiny: list[Any], photographs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["distill", photographs, "--config", f"recipe:{name}", "--run", str(tmp_path / "r")]
    smaller = {"steps": 2, **SMALLER[name.partition("-")[0]]}
    words += ["--source.resolution", "16", "--pairs", "6"]
    words += [word for key, value in smaller.items() for word in (f"--method.{key}", str(value))]
    assert main(words) == 0, capsys.readouterr().err
    assert set(tiny) == {("nfnet_l0", True, 0), "bert-base-uncased"}
    small = lb.load(tmp_path / "r" / "set")
    assert len(small) == 6 and small.tensors["image"].dtype == torch.float32
    assert (small.relation is not None) == name.startswith("lors")
    written = yaml.safe_load((tmp_path / "r" / "recipe.yaml").read_text())
    asked = yaml.safe_load(config_file(f"recipe:{name}").read_text(encoding="utf-8"))
    kept = {key: value for key, value in asked["method"].items() if key not in smaller}
    assert {key: written["method"][key] for key in kept} == kept
