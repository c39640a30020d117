"""EDGE and its training-free relatives: what moves, what does not, budgets, and sets that repeat themselves."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import limbeck as lb
from limbeck.check import check_method, toy_source
from limbeck.core.export import export
from limbeck.errors import ConfigError, DataError, Diverged, LimbeckWarning, StorageError
from limbeck.evaluation.filesize import file_bytes
from limbeck.objectives.diffusion import clean_estimate
from priors import CAPTIONS, tiny_prior

pytest.importorskip("diffusers", reason="needs the diffusion extra")
from limbeck.methods import Edge, Prior, PrototypePrior
from limbeck.methods.generative.diffusion.prior import DiffusersPrior
from limbeck.methods.generative.diffusion.tuned import TunedPrior, chosen_parameters

pytestmark = pytest.mark.slow

QUICK: dict[str, Any] = {"sampling_steps": 2, "steps": 3, "batch": 8}


def task(pairs: int = 8, seed: int = 0, **options: Any) -> lb.Problem:
    space = lb.space(image="convnet", text="bag_of_words")
    return lb.Problem(toy_source(), space, lb.Budget(pairs=pairs), seed=seed, **options)


def edge(**options: Any) -> Any:
    return Edge(**{"prior": tiny_prior(), **QUICK, **options})


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(lambda: edge(captions=2), id="edge"),
        pytest.param(lambda: edge(subset="lora", candidates=2), id="lora"),
        pytest.param(lambda: edge(features="latent", precision="bfloat16", denoise=0.0), id="latent"),
        pytest.param(lambda: Prior(prior=tiny_prior("v_prediction"), sampling_steps=2, captions=2), id="prior"),
        pytest.param(lambda: PrototypePrior(prior=tiny_prior(), sampling_steps=4, repeats=2), id="prototype"),
    ],
)
def test_contract(method: Any) -> None:
    check_method(method(), lb.space(image="convnet", text="bag_of_words"))


@pytest.mark.parametrize(
    ("subset", "named"),
    [("bias_norm", ("bias", "norm")), ("cross_attention", ("attn2",)), ("lora", ("lora_",)), ("full", ("",))],
)
def test_losses_reach_the_chosen_weights_and_nothing_else_moves(subset: str, named: tuple[str, ...]) -> None:
    problem, method = task(), edge(subset=subset, steps=4, lr=1e-2)
    synthetic = method.start(problem)
    tuned = synthetic.generator
    before = {name: p.detach().clone() for name, p in tuned.prior.denoiser.named_parameters()}
    parts = [*tuned.prior.pipe.vae.parameters(), *tuned.prior.pipe.text_encoder.parameters()]
    parts += list(problem.space["image"].network.parameters())
    frozen = [p.detach().clone() for p in parts]
    optimizer = method.optimizer(synthetic)
    for t in range(4):
        optimizer.zero_grad(set_to_none=True)
        method.step(problem, synthetic, t)
        assert all(p.grad is None for p in parts)
        if t == 3:  # low-rank adapters begin at zero, and the halves of them wait for each other
            assert all(p.grad is not None and bool(p.grad.any()) for p in tuned.trained.values())
        optimizer.step()
    assert tuned.moved > 0.9
    for name, p in tuned.prior.denoiser.named_parameters():
        chosen = any(part in name for part in named)
        assert torch.equal(p, before[name]) != chosen, name
        assert (p.grad is not None) == chosen
    assert all(torch.equal(a, b) for a, b in zip(frozen, parts, strict=True))


@pytest.mark.parametrize("term", ["to_text", "to_image", "diverse", "denoise"])
def test_each_loss_reaches_the_weights_by_itself(term: str) -> None:
    weights = {name: float(name == term) for name in ("to_text", "to_image", "diverse", "denoise")}
    problem, method = task(), edge(**weights)
    synthetic = method.start(problem)
    method.step(problem, synthetic, 0)
    gradients = [p.grad for p in synthetic.generator.trained.values()]
    assert all(g is not None and bool(g.any()) for g in gradients)


def test_a_prior_that_was_saved_makes_the_same_images_without_a_second_training(tmp_path: Path) -> None:
    for subset in ("bias_norm", "lora"):
        run, how = tmp_path / subset, {"sampling_steps": 2, "guidance": 2.0}
        small = lb.distill(task(4), edge(**how, subset=subset, lr=1e-2, save_prior=True), run=run)
        again = lb.distill(task(4), Prior(prior=str(run / "prior"), **how))
        plain = lb.distill(task(4), Prior(prior=tiny_prior(), **how))
        images = [x.tensors["image"].int() for x in (small, again, plain)]
        assert int((images[0] - images[1]).abs().max()) <= 1, f"{subset}: but for rounding"
        assert int((images[0] - images[2]).abs().max()) > 1, subset
        assert again.generation["prior"]["licence"] == "cc-by-nc-4.0"
    with pytest.warns(LimbeckWarning, match="the prior is not saved: there is no run folder"):
        lb.distill(task(4), edge(save_prior=True))


def test_captions_that_are_cut_are_told_and_counted(tmp_path: Path) -> None:
    from limbeck.methods.generative.diffusion.logging_off import logging_off
    from limbeck.methods.generative.diffusion.small import small_pipeline

    with logging_off():
        small_pipeline(CAPTIONS, 16, (16, 16), 32, length=4).save_pretrained(tmp_path / "short")
    with pytest.warns(LimbeckWarning) as told:
        small = lb.distill(task(4), edge(prior=str(tmp_path / "short")))
    said = [str(one.message) for one in told]
    assert said[0].startswith("48 of 48 training captions are longer") and said[1].startswith(
        "4 of 4 prompts are longer"
    )
    assert small.generation["training"]["truncated_captions"] == 48
    assert small.generation["prompts"]["truncated"] == 4


def test_masks_that_no_prior_makes_take_no_bytes() -> None:
    space = lb.space(image="convnet", text="bag_of_words")
    problem = lb.Problem(lb.source("scenes", samples=24), space, lb.Budget(bytes=40_000))
    with pytest.warns(LimbeckWarning, match="prompts are longer than"):
        small = lb.distill(problem, Prior(prior=tiny_prior(), sampling_steps=1))
    assert len(small) > 5 and small.nbytes <= 40_000


def test_texts_are_put_into_other_words_before_any_image_and_images_described_after() -> None:
    for stage, first in (("paraphrase", "caption"), ("describe", "sample")):
        done: list[str] = []
        problem = task(8, tick=lambda what, at, total, done=done: done.append(what))
        lb.distill(problem, Prior(prior=tiny_prior(), sampling_steps=1, captions=2, stage=stage))
        assert next(what for what in done if what in ("caption", "sample")) == first


@pytest.mark.parametrize("captioner", ["retrieval", "scenes", "call:textwrap.wrap"])
@pytest.mark.parametrize("trains", [True, False], ids=["edge", "prior"])
def test_texts_in_other_words_end_in_a_run_folder_too(
    tmp_path: Path, captioner: str, trains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import textwrap

    monkeypatch.setattr(
        textwrap, "wrap", lambda texts, count: [[f"{text} {i}" for i in range(count)] for text in texts]
    )
    made = {"captions": 2, "stage": "paraphrase", "captioner": captioner, "sampling_steps": 1}
    method = edge(**made) if trains else Prior(prior=tiny_prior(), **made)
    source = lb.source("scenes", samples=24, resolution=16, told="scene")
    problem = lb.Problem(source, lb.space(image="convnet", text="bag_of_words"), lb.Budget(pairs=8))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "too little of some|.*longer than|.*said too little", LimbeckWarning)
        small = lb.distill(problem, method, tmp_path / "run")
        assert lb.distill(problem, method).fingerprint == small.fingerprint
    assert small.pairs == 8 and (tmp_path / "run" / "samples" / "captions-000000.json").exists() == (
        small.generation["captions"]["repeated_prompts"] == 0
    )


@pytest.mark.parametrize("damage", ["bit", "truncated", "empty", "folder", "other"])
def test_damaged_samples_are_made_anew_and_end_in_the_same_set(tmp_path: Path, damage: str) -> None:
    from safetensors.torch import load_file, save_file

    method = Prior(prior=tiny_prior(), sampling_steps=1, captions=2)
    small = lb.distill(task(8), method, tmp_path / "run")
    folder = tmp_path / "run" / "samples"
    for path in (folder / "000000.safetensors", folder / "captions-000000.json"):
        data = path.read_bytes()
        if damage == "bit":
            path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        elif damage == "other":
            save_file(
                {"image": load_file(path)["image"][:1]}, path
            ) if path.suffix == ".safetensors" else path.write_text("[]")
        else:
            path.write_bytes(data[: len(data) // 2] if damage == "truncated" else b"")
            if damage == "folder":
                path.unlink()
                path.mkdir()
        (tmp_path / "run" / "set").rename(tmp_path / path.name)
        if damage == "folder":
            with (
                pytest.raises(StorageError, match=rf"{path.name} is not a file"),
                pytest.warns(LimbeckWarning, match="damaged"),
            ):
                lb.distill(task(8), method, tmp_path / "run")
            path.rmdir()
            lb.distill(task(8), method, tmp_path / "run")
        else:
            with pytest.warns(LimbeckWarning, match=rf"{path.name} is damaged; its \w+ are made anew"):
                lb.distill(task(8), method, tmp_path / "run")
        assert lb.load(tmp_path / "run" / "set").fingerprint == small.fingerprint
    (tmp_path / "run" / "set").rename(tmp_path / "set")
    (folder / "samples.json").write_text('{"key"')
    with pytest.raises(StorageError, match=r"samples\.json cannot be read: .*; delete .*samples, and give the same"):
        lb.distill(task(8), method, tmp_path / "run")


def test_the_share_that_is_trained_of_stable_diffusion() -> None:
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    chosen = chosen_parameters(unet, "bias_norm")
    assert sum(p.numel() for p in unet.parameters()) == 859_520_964
    assert sum(p.numel() for p in chosen.values()) == 443_844


def test_weights_that_do_not_move_are_told(tmp_path: Path) -> None:
    for _ in range(2):  # the same command again is told again
        with pytest.raises(Diverged, match="have moved in 10 updates"):
            lb.distill(task(), edge(steps=12, lr=0.0), run=tmp_path / "still")
    with pytest.raises(
        Diverged, match=r"step 10: only 0 % of the 166 trained tensors have moved .* raise lr, or choose another subset"
    ):
        lb.distill(task(), edge(steps=12, lr=0.0))
    small = lb.distill(task(), edge(steps=12))
    assert small.generation["training"] == {
        "updates": 12,
        "share_moved": 1.0,
        "truncated_captions": 0,
    }


def test_trained_weights_stay_in_float32_where_the_rest_is_half() -> None:
    tuned = edge(precision="bfloat16").start(task()).generator
    kinds = {p.requires_grad: p.dtype for p in tuned.prior.denoiser.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    *_, last = lb.steps(task(), edge(precision="bfloat16", steps=3, lr=1e-5))
    assert isinstance(last.synthetic.generator, TunedPrior) and last.synthetic.generator.moved > 0.9
    halved = [p.detach().bfloat16() for p in last.synthetic.generator.trained.values()]
    assert not all(
        torch.equal(h.float(), p) for h, p in zip(halved, last.synthetic.generator.trained.values(), strict=True)
    )


def first_logs(**options: Any) -> dict[str, float]:
    return list(lb.steps(task(), edge(steps=1, **options)))[-1].logs


def test_clean_input_differs_where_there_is_noise_and_not_where_there_is_none() -> None:
    prior, draw = DiffusersPrior.open(tiny_prior()), torch.Generator().manual_seed(0)
    clean, noise = torch.randn(4, 4, 4, 4, generator=draw), torch.randn(4, 4, 4, 4, generator=draw)
    condition, apart = prior.condition(CAPTIONS[:4]), []
    for t in (0, 900):
        step = torch.full((4,), t)
        add_noise = prior.noised(clean, noise, step)
        said = [prior.predict(seen, step, condition) for seen in (clean, add_noise)]
        a, b = (clean_estimate(x, add_noise, prior.alphas_cumprod[step], "epsilon") for x in said)
        apart.append(float((a - b).abs().mean()))
    assert apart[0] < 0.01 and apart[1] > 0.3
    assert abs(first_logs(t_max=1000, clean_input=True)["denoising"] - first_logs(t_max=1000)["denoising"]) > 0.01


def test_terms_have_their_weights() -> None:
    whole = first_logs()
    assert whole["loss"] == pytest.approx(
        sum(whole[k] for k in ("to text", "to image", "diversity", "denoising")), rel=1e-5
    )
    heavier = first_logs(to_text=1.0, diverse=3.0, denoise=2.0)
    assert heavier["to text"] == pytest.approx(2 * whole["to text"], rel=1e-5)
    assert heavier["diversity"] == pytest.approx(3 * whole["diversity"], rel=1e-5)
    assert heavier["denoising"] == pytest.approx(2 * whole["denoising"], rel=1e-5)
    assert set(first_logs(to_text=0, to_image=0, diverse=0)) == {"loss", "denoising", "gradient"}
    assert "denoising" not in first_logs(denoise=0.0)
    assert first_logs(temperature=0.1)["to text"] != whole["to text"]


def test_checkpoints_compute_the_decoder_twice_and_change_no_gradient() -> None:
    calls, norms = [], []
    for checkpointing in (False, True):
        problem, method = task(), edge(checkpointing=checkpointing)
        synthetic = method.start(problem)
        seen: list[int] = []
        block = synthetic.generator.prior.pipe.vae.decoder.up_blocks[0].resnets[0]
        block.register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
        method.step(problem, synthetic, 0)
        calls.append(len(seen))
        norms.append(sum(float(p.grad.norm()) for p in synthetic.parameters()))
    assert calls == [1, 2] and norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_captions_of_one_image_and_images_of_one_caption_are_not_driven_apart() -> None:
    from limbeck.methods.generative.edge import _owners

    problem, method = task(), edge()
    tuned = method.start(problem).generator
    rows = torch.tensor([0, 1, 2, 8])
    sample, words = _owners(problem, rows, problem.candidates.sample[rows])
    assert sample.tolist() == [0, 0, 1, 4]
    texts = [problem.captions[row] for row in rows.tolist()]
    assert [int(i) == int(j) for i in words for j in words] == [i == j for i in texts for j in texts]
    estimate = torch.randn(4, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    condition, apart, one = tuned.prior.condition(texts), torch.arange(4), torch.zeros(4, dtype=torch.long)
    found = {
        name: {k: float(v) for k, v in method._compared(problem, tuned, estimate, rows, condition, owners).items()}
        for name, owners in (("apart", (apart, apart)), ("one image", (one, apart)), ("one caption", (apart, one)))
    }
    assert min(abs(value) for value in found["apart"].values()) > 1e-3
    for name in ("one image", "one caption"):
        assert found[name] == pytest.approx({"to text": 0, "to image": 0, "diversity": 0}, abs=1e-6), name


def test_a_budget_counts_captions_and_is_divided_by_them() -> None:
    small = lb.distill(task(12), Prior(prior=tiny_prior(), captions=3, sampling_steps=1))
    assert (len(small), small.pairs) == (4, 12) and all(len(set(c)) == 3 for c in small.captions)
    assert small.tensors["image"].shape == (4, 3, 16, 16) and small.tensors["image"].dtype == torch.uint8
    assert [texts[0] for texts in small.captions] == [
        task().captions[row] for row in small.generation["prompts"]["captions"]
    ]
    with pytest.raises(
        ConfigError, match="5 captions an image do not divide a budget of 12 pairs; ask for 10 or 15 pairs"
    ):
        lb.distill(task(12), Prior(prior=tiny_prior(), captions=5))
    with pytest.raises(ConfigError, match="4 images of each caption do not divide 6 images"):
        lb.distill(task(6), Prior(prior=tiny_prior(), repeats=4))
    space = lb.space(image="convnet", text="bag_of_words")
    by_bytes = lb.Problem(toy_source(), space, lb.Budget(bytes=15_000))
    small = lb.distill(by_bytes, Prior(prior=tiny_prior(), captions=2, sampling_steps=1))
    assert 9000 < small.nbytes <= 15_000 and small.pairs == 2 * len(small)


def test_the_same_image_is_made_for_a_caption_whatever_is_made_beside_it(tmp_path: Path) -> None:
    def made(*rows: int, seed: int = 0) -> Any:
        path = tmp_path / "prompts.txt"
        path.write_text("\n".join(map(str, rows)))
        method = Prior(prior=tiny_prior(), sampling_steps=2, prompts=f"list:{path}")
        return lb.distill(task(len(rows), seed), method).tensors["image"].int()

    pair, other, twice = made(5, 9), made(30, 5), made(5, 5)
    assert int((pair[0] - other[1]).abs().max()) <= 1 and int((pair[0] - twice[0]).abs().max()) <= 1, "but for rounding"
    assert int((twice[0] - twice[1]).abs().max()) > 1, "a caption that is asked for again gives another image"
    assert int((pair[0] - made(5, 9, seed=1)[0]).abs().max()) > 1
    assert torch.equal(pair, made(5, 9))


def test_a_list_of_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(f"{CAPTIONS[5]}\n\n7\n")
    small = lb.distill(task(2), Prior(prior=tiny_prior(), sampling_steps=1, prompts=f"list:{path}"))
    assert small.captions[0] == (CAPTIONS[5],) and small.generation["prompts"]["captions"][1] == 7
    for text, says in (
        ("0\n", "has 1 prompts, and this budget asks for 2"),
        ("0\n99\n", r"line 2: there is no caption 99 .* 48 captions, from 0 to 47"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=says):
            lb.distill(task(2), Prior(prior=tiny_prior(), prompts=f"list:{path}"))
    path.write_text(f"{CAPTIONS[5]}\n{CAPTIONS[0]}s\n")
    with pytest.raises(ConfigError, match=f"is no training caption of .*; did you mean '{CAPTIONS[0]}'"):
        lb.distill(task(2), Prior(prior=tiny_prior(), prompts=f"list:{path}"))
    with pytest.raises(ConfigError, match="cannot be read"):
        lb.distill(task(2), Prior(prior=tiny_prior(), prompts=f"list:{path}x"))


def test_an_interrupted_sampling_goes_on_and_ends_in_the_same_set(tmp_path: Path) -> None:
    method = Prior(prior=tiny_prior(), sampling_steps=1, captions=2)
    space = lb.space(image="convnet", text="bag_of_words")
    done: list[tuple[str, int, int]] = []

    def tick(what: str, at: int, total: int) -> None:
        done.append((what, at, total))
        if what == "sample" and sum(w == "sample" for w, _, _ in done) == 1:
            raise KeyboardInterrupt

    problem = lb.Problem(toy_source(48), space, lb.Budget(pairs=40), tick=tick)
    with pytest.raises(KeyboardInterrupt):
        lb.distill(problem, method, tmp_path / "run")
    first = tmp_path / "run" / "samples" / "000000.safetensors"
    assert done[-1] == ("sample", 16, 20) and first.is_file()
    written = first.stat().st_mtime_ns
    small = lb.distill(problem, method, tmp_path / "run")
    assert first.stat().st_mtime_ns == written, "what was sampled is not sampled again"
    whole = lb.distill(lb.Problem(toy_source(48), space, lb.Budget(pairs=40)), method)
    assert small.fingerprint == whole.fingerprint
    (tmp_path / "run" / "samples" / "samples.json").write_text(json.dumps({"key": "other"}))
    (tmp_path / "run" / "set").rename(tmp_path / "gone")
    with pytest.raises(StorageError, match="samples of other prompts or options"):
        lb.distill(problem, method, tmp_path / "run")


def test_the_set_tells_what_it_was_made_by(tmp_path: Path) -> None:
    source = toy_source(24)
    small = lb.distill(task(4), edge(captions=2))
    small.save(tmp_path / "set")
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["pairs"] == 4 and manifest["licences"]["prior"] == "cc-by-nc-4.0"
    assert manifest["generation"]["captions"]["by"] == {"name": "retrieval"}
    card = (tmp_path / "set" / "README.md").read_text()
    assert "licence of its weights: cc-by-nc-4.0" in card and "4 of 2 images, the first of each real" in card
    again = lb.load(tmp_path / "set")
    assert again.generation == small.generation and again.captions == list(small.captions) and again.pairs == 4
    scores = lb.evaluate(again, source.split("test"), space=task().space, seeds=1)
    assert {score.pairs for score in scores} == {4} and {score.bytes for score in scores} == {file_bytes(small)}
    rows = [
        json.loads(line)
        for line in (export(small, tmp_path / "out", "folder") / "metadata.jsonl").read_text().splitlines()
    ]
    assert [row["captions"] for row in rows] == [list(c) for c in small.captions]
    for to, spec in (("folder", "folder"), ("webdataset", "webdataset")):
        export(small, tmp_path / to, to)
        assert [set(c) for c in lb.source(f"{spec}:{tmp_path / to}", resolution=16).captions] == [
            set(c) for c in small.captions
        ]


def test_other_weights_at_the_same_place_are_another_recipe(tmp_path: Path) -> None:
    from limbeck.core import Recipe
    from limbeck.methods.generative.diffusion.pipelines import prior_fingerprint

    method = Prior(prior=tiny_prior())
    path = tmp_path / "prompts.txt"
    path.write_text("1\n2\n")
    listed = Prior(prior=tiny_prior(), prompts=f"list:{path}")
    before = Recipe.of(task(2), listed).fingerprints["prompts"]
    path.write_text("1\n3\n")
    assert Recipe.of(task(2), listed).fingerprints["prompts"] != before
    recipe = Recipe.of(task(), method)
    assert (
        recipe.fingerprints["prior"] == prior_fingerprint(tiny_prior()) != prior_fingerprint(tiny_prior("v_prediction"))
    )


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"draws from a generative prior: name one with --method.prior"):
        lb.distill(task(), Prior())
    with pytest.raises(DataError, match="edge needs image and text"):
        edge().check(lb.Problem(toy_source(modalities=("image",)), lb.space(image="convnet"), lb.Budget(pairs=4)))
    for options, says in (
        ({"rank": 4}, "`rank=4` of edge is ignored when `subset=bias_norm`. Remove it, or set `subset=lora`."),
        ({"to_text": 0, "to_image": 0, "diverse": 0, "denoise": 0}, "edge has no loss"),
        ({"t_max": 2000}, "t_max is at most the 1000 diffusion steps"),
        ({"captioner": "scenes"}, "`captioner=scenes` of .* is ignored when each image has one caption"),
        ({"captions": 2, "captioner": "hf"}, "the captioner 'hf' is a family: say which"),
        ({"captions": 2, "captioner": "retrieval:x"}, "takes nothing after a colon"),
        ({"prompts": "list:"}, "needs a file"),
        ({"prompts": "herdin"}, "did you mean herding"),
        ({"captions": 3, "captioner": "template"}, "has one text for an image, and 2 are asked for"),
        ({"captions": 2, "captioner": "hf:nobody/no-model", "stage": "paraphrase"}, "rewrites no texts"),
        ({"captions": 2, "captioner": "hf:nobody/no-model"}, "cannot be read"),
        ({"captions": 2, "captioner": "call:no.such"}, "call:no.such cannot be found"),
        ({"batch": 1}, "`batch` of edge must be 2 or more"),
    ):
        with pytest.raises(ConfigError, match=says):
            lb.distill(task(), edge(**options))
    for options, says in (
        ({"sampling_steps": 2000}, "sampling_steps is at most the 1000 diffusion steps"),
        ({"resolution": 18}, "images of a multiple of 4 pixels a side, got 18"),
    ):
        with pytest.raises(ConfigError, match=says):
            edge(**options).start(task())  # before anything is trained
    with pytest.raises(ConfigError, match="`strength` of prototype_prior must be above 0 and at most 1, got 7"):
        PrototypePrior(strength=7)
    with pytest.raises(ConfigError, match=r"asks for .* captions of different samples, and .* has 24; ask for less"):
        space = lb.space(image="convnet", text="bag_of_words")
        lb.distill(lb.Problem(toy_source(), space, lb.Budget(bytes=10**6)), Prior(prior=tiny_prior()))
    with pytest.raises(ConfigError, match="images of a multiple of 4 pixels a side, got 18"):
        space = lb.space(image="convnet", text="bag_of_words")
        lb.distill(lb.Problem(toy_source(resolution=18), space, lb.Budget(pairs=4)), edge())
