"""Experts: made once, kept by content, resumed by epoch, read by name; the three settings of towers; what cannot work."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import limbeck as lb
from limbeck.check import toy_source
from limbeck.core import Problem, Recipe, encode, leaves
from limbeck.engine.run import Run
from limbeck.errors import ConfigError, DataError, Diverged, StorageError
from limbeck.methods.trajectory.experts.draws import draw, mix
from limbeck.methods.trajectory.experts.store import Experts, ExpertTraining
from limbeck.methods.trajectory.lors import LoRS
from limbeck.methods.trajectory.mtt_vl import MTTVL
from limbeck.runtime.cache import Cache
from limbeck.students.two_towers import TwoTowers
from tiers import slow_but

SPACE = {"image": "convnet", "text": "bag_of_words"}
QUICK: dict[str, Any] = {"steps": 2, "dim": 8, "experts": 2, "expert_batch": 8, "inner_steps": 2, "inner_batch": 4}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny text encoder with random weights, whose words are those of the toy source."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("bert")
    words = sorted({word for texts in toy_source().captions for text in texts for word in text.split()})
    model = models.WordLevel({word: i for i, word in enumerate(["[PAD]", "[UNK]", *words])}, unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.BertConfig(vocab_size=len(words) + 2, max_position_embeddings=32, **sizes)
        transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    fast.save_pretrained(folder)
    return f"hf:{folder}"


def problem_in(folder: Path, pairs: int = 6, n: int = 24, text: str = "bag_of_words") -> Problem:
    space = lb.space(image="convnet", text=text)
    return Problem(toy_source(n), space, lb.Budget(pairs=pairs), cache=Cache(folder))


def experts_in(
    folder: Path, training: ExpertTraining | None = None, encoder: str = "bag_of_words", **towers: Any
) -> Experts:
    return Experts(problem_in(folder, text=encoder), TwoTowers(dim=8, **towers), training or ExpertTraining(batch=8))


def entries(folder: Path) -> list[Path]:
    return sorted(lb.Cache(folder).folder.glob("experts/*/*/tensors.safetensors"))


def test_snapshots_are_made_once_and_only_as_far_as_they_are_read(tmp_path: Path) -> None:
    experts = experts_in(tmp_path)
    last = experts.snapshot(0, 2)
    assert len(entries(tmp_path)) == 2, "after each of two epochs; before training nothing is stored"
    stamps = [path.stat().st_mtime_ns for path in entries(tmp_path)]
    again = experts_in(tmp_path)
    assert all(torch.equal(value, last[name]) for name, value in again.snapshot(0, 2).items())
    again.snapshot(0, 1)
    assert [path.stat().st_mtime_ns for path in entries(tmp_path)] == stamps
    again.snapshot(1, 0)
    assert len(entries(tmp_path)) == 2
    again.snapshot(1, 1)
    assert len(entries(tmp_path)) == 3


def test_snapshots_differ_between_epochs_and_experts(tmp_path: Path) -> None:
    experts = experts_in(tmp_path)
    found = [experts.snapshot(0, 0), experts.snapshot(0, 1), experts.snapshot(0, 2), experts.snapshot(1, 1)]
    for i, a in enumerate(found):
        for b in found[i + 1 :]:
            assert all(not torch.equal(a[name], b[name]) for name in a if "weight" in name)
    assert set(found[0]) == {name for name, _ in experts.network.named_parameters()}


def test_a_killed_training_goes_on_after_its_last_epoch(tmp_path: Path) -> None:
    whole = experts_in(tmp_path / "whole").snapshot(0, 3)
    experts_in(tmp_path / "parts").snapshot(0, 1)
    rest = experts_in(tmp_path / "parts").snapshot(0, 3)
    assert all(torch.equal(value, whole[name]) for name, value in rest.items())


@pytest.mark.slow
def test_another_distillation_retrains_nothing(tmp_path: Path) -> None:
    problem = problem_in(tmp_path)
    lb.distill(problem, MTTVL(**QUICK, max_start=2))
    made = {path: path.stat().st_mtime_ns for path in entries(tmp_path)}
    assert len(made) == 2 * 2
    fresh = problem_in(tmp_path)
    lb.distill(fresh, LoRS(**{**QUICK, "inner_steps": 3}, rank=2, lr=0.1, loss="ence", gradient="exact", max_start=1))
    assert {path: path.stat().st_mtime_ns for path in entries(tmp_path)} == made
    lb.distill(fresh, LoRS(**QUICK, rank=2, expert_rate=0.2, max_start=1))
    assert len(entries(tmp_path)) == 4 + 2, "another rate makes other experts"


def test_experts_learn(tmp_path: Path) -> None:
    experts = experts_in(tmp_path, ExpertTraining(rate=1.0, batch=8))
    problem = experts.problem
    sample, caption = problem.candidates.sample, problem.candidates.rows["text"]
    measure = experts.towers.loss(experts.network, "infonce")
    pairs = (*experts.towers.real(problem, sample, caption, None), torch.eye(len(sample)))
    before, after = (float(measure(experts.snapshot(0, e), *pairs)) for e in (0, 5))
    assert after < before - 0.3


def test_plain_sgd_from_the_formula(tmp_path: Path) -> None:
    """One epoch is steps of `theta - rate * gradient` over the batches in their order."""
    experts = experts_in(tmp_path, ExpertTraining(rate=0.3, batch=8))
    theta = {k: v.clone().requires_grad_() for k, v in experts.snapshot(0, 0).items()}
    loss = experts.towers.loss(experts.network, "infonce")
    for sample, caption in experts._batches(0, 1):
        x, y = experts.towers.real(experts.problem, sample, caption, None)
        grads = torch.autograd.grad(loss(theta, x, y, torch.eye(len(sample))), list(theta.values()))
        theta = {k: (v - 0.3 * g).detach().requires_grad_() for (k, v), g in zip(theta.items(), grads, strict=True)}
    for name, value in experts.snapshot(0, 1).items():
        torch.testing.assert_close(value, theta[name].detach(), rtol=1e-4, atol=1e-6)


def test_an_epoch_takes_each_caption_or_each_image_once(tmp_path: Path) -> None:
    for captions, units in (("all", 48), ("one", 24)):
        experts = experts_in(tmp_path, ExpertTraining(batch=4, captions=captions))
        batches = list(experts._batches(0, 1))
        caption = torch.cat([c for _, c in batches])
        assert len(caption.unique()) == len(caption) == units
        assert torch.equal(experts.problem.features["text"].owner[caption], torch.cat([s for s, _ in batches]))
    assert len(torch.cat([s for s, _ in batches]).unique()) == units


def test_masked_captions_change_the_experts_and_their_key(tmp_path: Path) -> None:
    plain, masked = (experts_in(tmp_path, ExpertTraining(batch=48, mask=mask)).snapshot(0, 1) for mask in (False, True))
    assert not torch.equal(plain["image.head.0.weight"], masked["image.head.0.weight"])


def test_half_the_bytes_in_bfloat16(tmp_path: Path) -> None:
    experts = experts_in(tmp_path, ExpertTraining(batch=8, precision="bfloat16"))
    snapshot = experts.snapshot(0, 1)
    assert {value.dtype for value in snapshot.values()} == {torch.float32}
    assert {value.dtype for path in entries(tmp_path) for value in load_file(path).values()} == {torch.bfloat16}


def test_bfloat16_rounds_what_moved_and_not_the_weights(tmp_path: Path) -> None:
    whole, half = (
        experts_in(tmp_path, ExpertTraining(rate=0.003, batch=8, precision=precision))
        for precision in ("float32", "bfloat16")
    )
    for name, start in whole.snapshot(0, 0).items():
        assert torch.equal(half.snapshot(0, 0)[name], start)
        expected, found = (experts.snapshot(0, 1)[name] - start for experts in (whole, half))
        assert float(found.norm()) == pytest.approx(float(expected.norm()), rel=0.01)
        torch.testing.assert_close(found, expected, rtol=2**-8, atol=1e-6)


def test_training_goes_on_from_what_was_rounded(tmp_path: Path) -> None:
    """A second epoch is the same, whether the first is still in memory or is read from disk."""
    training = ExpertTraining(batch=8, precision="bfloat16")
    whole = experts_in(tmp_path / "whole", training).snapshot(0, 2)
    experts_in(tmp_path / "parts", training).snapshot(0, 1)
    rest = experts_in(tmp_path / "parts", training).snapshot(0, 2)
    assert all(torch.equal(value, whole[name]) for name, value in rest.items())


def test_what_is_pretrained_is_held_once(tmp_path: Path) -> None:
    experts = experts_in(tmp_path, image="encoder")
    starts = [experts.snapshot(k, 0) for k in range(3)]
    for name in starts[0]:
        places = {start[name].data_ptr() for start in starts}
        assert len(places) == (1 if name.startswith("image.0.") or name.endswith("bias") else 3), name
    held = dict(experts.network.named_parameters())
    moved = experts.snapshot(1, 1)
    assert all(torch.equal(held[name], starts[0][name]) for name in moved), "training leaves what is held alone"


@pytest.mark.parametrize(
    "towers",
    [
        {},
        {"head": "mlp"},
        {"head": "residual"},
        pytest.param({"image": "encoder"}, marks=pytest.mark.slow),
        pytest.param({"image": "encoder", "head": "residual"}, marks=pytest.mark.slow),
        {"image": "convnet"},
        {"text": "encoder", "tokens": 8},
        pytest.param({"image": "encoder", "text": "encoder", "tokens": 8}, marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.slow
def test_every_setting_of_towers(tmp_path: Path, bert: str, towers: dict[str, Any]) -> None:
    experts = experts_in(tmp_path, ExpertTraining(batch=8, rate=0.01), bert, **towers)
    before, after = experts.snapshot(0, 0), experts.snapshot(0, 1)
    assert {name.split(".")[0] for name in before} == {"image", "text"}
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(moved) == len(before), f"stored but never moved: {set(before) - set(moved)}"
    options = {"image": "students", "text": "text", "head": "head", "tokens": "tokens"}
    fields = {options[k]: (v,) if k == "image" else v for k, v in towers.items()}
    method = LoRS(**{**QUICK, **fields}, rank=2, expert_rate=0.01, student_rate=0.01, max_start=1)
    small = lb.distill(experts.problem, method)
    assert len(small) == 6 and small.tensors["text"].ndim == (3 if "text" in towers else 2)


def test_frozen_towers_read_what_the_protocols_student_reads(tmp_path: Path) -> None:
    experts = experts_in(tmp_path)
    problem = experts.problem
    synthetic = MTTVL(**QUICK, max_start=1).start(problem)
    values = experts.towers.synthetic(problem, synthetic)
    rows = problem.features["image"].first(len(problem.source))[synthetic.origin]
    features = problem.features["image"].vectors[rows]
    expected = experts.towers.components(problem, "image").whiten(features, experts.towers.ridge)
    torch.testing.assert_close(values["image"].detach(), expected, rtol=1e-3, atol=1e-4)
    assert encode(problem.space, synthetic)["image"].shape == features.shape


def test_text_and_image_may_start_apart(tmp_path: Path) -> None:
    problem = problem_in(tmp_path)
    method = MTTVL(**QUICK, max_start=1, max_start_text=3)
    lb.distill(problem, method)
    assert len(entries(tmp_path)) == 2 * 3, "as far as the text is read"


@pytest.mark.parametrize("blend", [0.0, 1.0])
def test_blending_mixes_pairs_alike(tmp_path: Path, blend: float) -> None:
    problem = problem_in(tmp_path)
    method = MTTVL(**QUICK, blend=blend)
    synthetic = method.start(problem)
    values = method._experts(problem, "frozen").towers.synthetic(problem, synthetic)
    index, mixed = torch.arange(4), mix(4, blend, problem.rng("x"))
    image, text, similarity = method._batch(problem, synthetic, values, index, mixed)
    assert torch.equal(similarity, torch.eye(4)), "labels are not mixed"
    if mixed is None:
        assert torch.equal(image, values["image"][:4])
    else:
        order, weight = mixed
        torch.testing.assert_close(text, weight * values["text"][:4] + (1 - weight) * values["text"][:4][order])
        assert not torch.equal(image, values["image"][:4])


@pytest.mark.parametrize("students", [("frozen",), ("convnet",)])
@pytest.mark.slow
def test_synthetic_images_can_be_moved(tmp_path: Path, students: tuple[str, ...]) -> None:
    problem = problem_in(tmp_path)
    plain, moved = (
        MTTVL(**QUICK, students=students, expert_rate=0.01, augment=operations) for operations in ((), ("flip", "crop"))
    )
    synthetic = plain.start(problem)
    logs = [float(method.step(problem, synthetic, 1)["loss"]) for method in (plain, plain, moved)]
    assert logs[0] == logs[1] != logs[2]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"inner_batch": 20}, ConfigError, "inner_batch is 20, but the set has 6 pairs"),
        ({"expert_batch": 500}, ConfigError, "expert_batch is 500, but an epoch has 48 pairs"),
        ({"students": ("frozzen",)}, ConfigError, "frozzen"),
        ({"augment": ("flop",)}, ConfigError, "unknown augmentation flop"),
        ({"students": ()}, ConfigError, "`students` of mtt_vl must be 1 value or more"),
        ({"blend": 1.0, "students": ("convnet",)}, ConfigError, "`blend=1.0` .* it mixes features of frozen towers"),
        ({"student_rate": 10.0}, ConfigError, "`student_rate` of mtt_vl must be above 0.00011 and below 9"),
        ({"inner_batch": 1}, ConfigError, "one pair alone teaches nothing"),
        ({"students": ("frozen", "typo")}, ConfigError, "typo"),
        ({"expert_rate": 1e30, "students": ("convnet",)}, Diverged, "lower the experts' rate, expert_rate"),
        ({"expert_rate": 1e20}, Diverged, "beyond 1e.06; lower the experts' rate, expert_rate"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, options: dict[str, Any], error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        lb.distill(problem_in(tmp_path), MTTVL(**{**QUICK, **options}))


def test_a_rank_larger_than_the_set_is_refused_before_anything_is_encoded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rank 7 is above the 6 pairs"):
        lb.distill(problem_in(tmp_path), LoRS(**QUICK, rank=7))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_rank_zero_leaves_the_weights_alone(tmp_path: Path) -> None:
    small = lb.distill(problem_in(tmp_path), LoRS(**QUICK, rank=0))
    assert small.similarity["kind"] == "diagonal"
    assert lb.distill(problem_in(tmp_path), LoRS(**QUICK, similarity="none")).relation is None


def test_one_caption_in_all_is_refused(tmp_path: Path) -> None:
    class Mute(type(toy_source())):  # type: ignore[misc]
        @property
        def captions(self) -> list[tuple[str, ...]]:
            return [("a thing",)] * len(self)

    source = Mute(24, "train", ("image", "text", "label"), 16)
    with pytest.raises(DataError, match=r"one caption|same caption"):
        lb.distill(Problem(source, lb.space(**SPACE), lb.Budget(pairs=4), cache=Cache(tmp_path)), MTTVL(**QUICK))


@pytest.mark.parametrize("precision", slow_but(["float32", "bfloat16"], "float32"))
def test_a_method_says_what_its_experts_will_take(tmp_path: Path, precision: Any) -> None:
    method = MTTVL(**QUICK, students=("frozen", "convnet"), max_start=2, expert_rate=0.01, expert_precision=precision)
    problem = problem_in(tmp_path)
    seconds, size = method.preparation_cost(problem)
    assert seconds > 0 and not entries(tmp_path)
    networks = [method._experts(problem, student).network for student in method.students]
    numbers = sum(value.numel() for network in networks for value in network.parameters())
    assert size == 2 * 2 * numbers * (4 if precision == "float32" else 2), "experts, epochs, numbers and bytes of each"
    method.start(problem)
    assert size == pytest.approx(sum(path.stat().st_size for path in entries(tmp_path)), rel=0.02)
    assert method.preparation_cost(problem_in(tmp_path)) == (0, 0), "what is there costs nothing"


def test_a_store_of_other_towers_is_named(tmp_path: Path) -> None:
    experts = experts_in(tmp_path)
    experts.snapshot(0, 1)
    (path,) = entries(tmp_path)
    values = load_file(path)
    values["image.other"] = values.pop("image.head.0.weight")
    cache = experts.problem.cache
    cache.put("experts", path.parent.name, lambda folder: save_file(values, folder / path.name), anew=True)
    with pytest.raises(StorageError, match=r"is not of these towers: image.head.0.weight is missing; delete"):
        experts_in(tmp_path).snapshot(0, 1)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"lr_similarity": 1e6, "bound": "none"}, "similarity reached .*; .*; lower lr_similarity, or bound it, in a new run"),
     ({"lr_similarity": 1e6}, "similarity reached .*; .*; lower lr_similarity, in a new run"),
     ({"lr_similarity": 1e6, "bound": "clamp"}, "similarity reached .*; .*; lower lr_similarity, in a new run"),
     ({"lr_similarity": 3.0, "similarity": "diagonal", "alpha": 0.0}, "similarity collapsed: .*; .*; lower lr_similarity, in a new"),
     ({"lr_rate": 1e3}, "rate_.* reached an end of its range, 0.0001 to 10; .*; lower lr_rate, in a new run")],
)  # fmt: skip
@pytest.mark.slow
def test_what_diverges_stops_with_advice_and_the_state_before(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    method = LoRS(**{**QUICK, "steps": 8, **options}, rank=2)
    problem = problem_in(tmp_path)
    with pytest.raises(Diverged, match=says.replace("; .*;", "; the last good state is in .*;")):
        lb.distill(problem, method, run=tmp_path / "run")
    synthetic = method.start(problem)
    run = Run(tmp_path / "run", Recipe.of(problem, method))
    run.restore(synthetic, method.optimizer(synthetic))
    assert method.validate(synthetic) is None


@pytest.mark.parametrize("students", [("frozen",), ("frozen", "convnet")])
def test_a_step_is_the_mean_of_its_segments(tmp_path: Path, students: tuple[str, ...]) -> None:
    problem = problem_in(tmp_path)
    method = MTTVL(**QUICK, segments=4, students=students, expert_rate=0.01)
    synthetic = method.start(problem)
    logs = method.step(problem, synthetic, 0)
    found = {name: value.grad.clone() for name, value in synthetic.named_parameters()}  # type: ignore[union-attr]
    synthetic.zero_grad()
    losses = []
    for s in range(4):
        kind = students[draw(problem.rng(f"segment {s}", 0), len(students))]
        experts = method._experts(problem, kind)
        with leaves(experts.towers.synthetic(problem, synthetic)) as values:
            part = method._segment(problem, experts, synthetic, values, problem.rng(f"segment {s} batches", 0))
        losses.append(part["loss"])
    assert float(logs["loss"]) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)
    for name, value in synthetic.named_parameters():
        torch.testing.assert_close(found[name], value.grad / 4, rtol=1e-3, atol=1e-7)  # type: ignore[operator]


@pytest.mark.slow
def test_lors_without_its_similarity_is_mtt_vl(tmp_path: Path) -> None:
    problem = problem_in(tmp_path)
    plain = lb.distill(problem, MTTVL(**QUICK))
    frozen = LoRS(**QUICK, loss="ence", bound="none", rank=2, alpha=0.0, lr_similarity=0.0)
    for twin in (frozen, LoRS(**QUICK, loss="ence", similarity="none")):
        small = lb.distill(problem, twin)
        assert torch.equal(small.tensors["image"], plain.tensors["image"])
        torch.testing.assert_close(small.tensors["text"], plain.tensors["text"], rtol=1e-5, atol=1e-6)
        assert small.hints == pytest.approx(plain.hints)


def test_options_that_are_not_read_make_no_other_experts(tmp_path: Path) -> None:
    experts_in(tmp_path).snapshot(0, 1)
    made = entries(tmp_path)
    experts_in(tmp_path, ExpertTraining(batch=8, augment=False), tokens=16, resolution=8).snapshot(0, 1)
    assert entries(tmp_path) == made
    experts_in(tmp_path, ExpertTraining(batch=8, noise=0.5)).snapshot(0, 1)
    assert len(entries(tmp_path)) == 2 * len(made)


@pytest.mark.slow
def test_networks_with_batch_norms_are_functions_of_their_parameters(tmp_path: Path) -> None:
    method = MTTVL(**{**QUICK, "experts": 1}, students=("resnet18",), expert_rate=0.01, student_rate=0.01)
    assert len(lb.distill(problem_in(tmp_path), method)) == 6


def test_equal_captions_are_masked_in_the_student(tmp_path: Path) -> None:
    problem = problem_in(tmp_path, pairs=20)
    method = MTTVL(**QUICK, mask=True)
    synthetic = method.start(problem)
    wording = method._wording(problem, synthetic).tolist()
    texts = [problem.captions[row] for row in synthetic.caption.tolist()]  # type: ignore[union-attr]
    assert [[a == b for b in wording] for a in wording] == [[a == b for b in texts] for a in texts]
    values = method._experts(problem, "frozen").towers.synthetic(problem, synthetic)
    *_, ignored = method._batch(problem, synthetic, values, torch.arange(20), None)
    assert int(ignored.sum()) == sum(a == b for a in texts for b in texts) - 20


@pytest.mark.slow
def test_a_similarity_is_paid_for_in_bytes(tmp_path: Path) -> None:
    space = lb.space(**SPACE)
    problem = Problem(toy_source(96), space, lb.Budget(bytes=30_000), cache=Cache(tmp_path))
    limit = problem.fixed_bytes + 10 * problem.sample_bytes(True) + 200  # of ten samples, not of their similarity
    problem = problem.but(budget=lb.Budget(bytes=limit))
    quick = {**QUICK, "expert_batch": 16}
    plain, full = lb.distill(problem, MTTVL(**quick)), lb.distill(problem, LoRS(**quick, similarity="full"))
    assert full.nbytes <= limit and plain.nbytes <= limit
    assert len(full) < len(plain)


def test_kmeans_starts_from_other_pairs(tmp_path: Path) -> None:
    problem = problem_in(tmp_path)
    assert not torch.equal(MTTVL(**QUICK, init="kmeans").start(problem).origin, MTTVL(**QUICK).start(problem).origin)


def test_learned_rates_and_similarity_travel_with_the_set(tmp_path: Path) -> None:
    small = lb.distill(problem_in(tmp_path), LoRS(**QUICK, rank=2))
    folder = small.save(tmp_path / "set")
    again = lb.load(folder)
    assert set(again.hints) == {"rate_image", "rate_text"}
    assert again.training == {"loss": "ence", "temperature": 0.07}
    assert again.relation is not None and torch.equal(again.relation, small.relation)
