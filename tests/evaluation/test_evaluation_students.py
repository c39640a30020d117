"""The parts of students against independent references."""

import importlib

import pytest
import torch
import torch.nn.functional as F

import limbeck as lb
from limbeck.check import toy_source
from limbeck.data.batch import Batch
from limbeck.data.modality import Modality
from limbeck.data.source import Source
from limbeck.data.vectors import VectorSource
from limbeck.errors import ConfigError, DataError
from limbeck.evaluation import evaluate
from limbeck.evaluation.protocols.retrieval import Retrieval
from limbeck.runtime.cache import digest
from limbeck.students import (
    PCAWhitener,
    Pretrained,
    Schedule,
    Tower,
    add_noise,
    best_student,
    chunk_of,
    crop_flip,
    fit,
    pictures,
)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [9, 40])
def test_components_equal_scikit_learn(rows):
    from sklearn.decomposition import PCA

    x = random(rows, 12) * torch.linspace(3, 0.3, 12) + 5
    pca = PCA(6, whiten=True).fit(x.numpy())
    found = PCAWhitener.of(x, rank=6)
    assert torch.allclose(found.variance, torch.tensor(pca.explained_variance_ * (rows - 1) / rows), rtol=1e-4)
    ours, theirs = found.whiten(x, 0.0), torch.tensor(pca.transform(x.numpy()))
    cosine = F.cosine_similarity(ours, theirs, dim=0)  # equal up to the sign of each component and one scale
    assert torch.allclose(cosine.abs(), torch.ones(6), atol=1e-4)


@pytest.mark.parametrize("rows", [9, 10_000])
def test_components_are_those_of_one_piece(rows):
    """Summed up in chunks of rows, against double precision in one piece."""
    x = random(rows, 12) * torch.linspace(3, 0.3, 12) + 5
    centred = x.double() - x.double().mean(0)
    variance, vectors = torch.linalg.eigh(centred.T @ centred / rows)
    found = PCAWhitener.of(x, rank=6)
    kept = min(6, rows - 1)
    assert torch.allclose(found.mean.double(), x.double().mean(0), rtol=1e-6)
    assert torch.allclose(found.variance.double(), variance.flip(0)[:kept], rtol=1e-6)
    cosine = (found.basis.double() * vectors.flip(1)[:, :kept]).sum(0)
    assert torch.allclose(cosine.abs(), torch.ones(kept, dtype=torch.float64), atol=1e-6)
    assert found.ridge_unit == pytest.approx(float(variance.sum()) / 12, rel=1e-9)


def test_a_ridge_is_counted_in_mean_variances():
    x = random(60, 5) * torch.tensor([4.0, 2.0, 1.0, 1.0, 0.5])
    covariance = torch.cov(x.T, correction=0).double()
    reference = torch.linalg.inv(covariance + 3.0 * covariance.trace() / 5 * torch.eye(5))
    z = PCAWhitener.of(x, 5).whiten(x, 3.0)
    centred = (x - x.mean(0)).double()
    expected = centred @ reference @ centred.T
    assert torch.allclose(z @ z.T / (z @ z.T).trace(), (expected / expected.trace()).float(), atol=1e-5)
    assert z.square().sum(1).mean().item() == pytest.approx(1.0, rel=1e-4)


def test_directions_that_the_set_does_not_span_are_not_seen():
    x = torch.cat([random(30, 3), torch.zeros(30, 4)], dim=1)
    assert PCAWhitener.of(x, 7).whiten(torch.eye(7)[3:], 1.0).std(dim=0).max() < 1e-6
    assert len(PCAWhitener.of(x, 7).variance) == 3


def test_identical_samples_have_no_components():
    assert PCAWhitener.of(torch.ones(4, 8), 8).whiten(torch.ones(2, 8), 1.0).isfinite().all()


def test_noise_has_the_norm_it_says():
    x = add_noise(torch.zeros(500, 20), 2.0, 80, torch.Generator().manual_seed(0))
    assert x.square().sum(1).mean().sqrt().item() == pytest.approx(2.0 * (20 / 80) ** 0.5, rel=0.02)


def test_shaking_moves_pixels_and_invents_none():
    images = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(5, 3, 8, 8)
    g = torch.Generator().manual_seed(0)
    moved = [crop_flip(images, g) for _ in range(8)]
    assert all(m.shape == images.shape and m.dtype == torch.uint8 for m in moved)
    assert any(not torch.equal(m, images) for m in moved)


@pytest.mark.draws_globally
def test_every_epoch_takes_every_sample_once():
    seen = []
    model = torch.nn.Linear(1, 1)

    def loss(index, t):
        seen.append(index)
        return model.weight.sum()

    looks = list(fit(model, loss, 10, Schedule(steps=6, batch=5, rate=1e-3, looks=3), seed=0, device="cpu"))
    assert looks == [2, 4, 6]
    assert all(sorted(torch.cat(seen[i : i + 2]).tolist()) == list(range(10)) for i in (0, 2, 4))


def test_the_best_point_goes_on_for_longer_as_long_as_that_is_better():
    """Candidates whose values at two looks are given; what is trained, and which student is taken."""

    def choose(grid, longer):
        trained = []

        def candidate(name, values):
            student = torch.nn.Module()
            student.name, left = name, list(values)
            return student, iter(range(len(values))), lambda s: trained.append(s.name) or left.pop(0)

        further = lambda i: (candidate(f"{i} longer {j}", v) for j, v in enumerate(longer))
        best = best_student((candidate(str(i), v) for i, v in enumerate(grid)), None, further)
        return best.name, list(dict.fromkeys(trained))

    assert choose([(1, 2), (5, 3), (4, 4)], [(6, 5), (5, 7), (6, 7), (9, 9)]) == (
        "1 longer 1",
        ["0", "1", "2", "1 longer 0", "1 longer 1", "1 longer 2"],
    ), "it stops at the first that is no better"
    assert choose([(1, 2), (5, 3)], [(5, 4), (9, 9)]) == ("1", ["0", "1", "1 longer 0"])
    assert choose([(1, 2)], []) == ("0", ["0"])


class Exclusive(Source):
    """A label that is 1 where image and text differ: neither tells anything alone."""

    classes = ("same", "different")

    def __init__(self, split="train", n=96):
        g = torch.Generator().manual_seed(("train", "val", "test").index(split))
        self.name, self.fingerprint = f"exclusive[{split}]", digest("exclusive", split)
        self.modalities = {
            "image": Modality("image", (3, 16, 16)),
            "text": Modality("text"),
            "label": Modality("label"),
        }
        self.tilt, self.word = (torch.randint(2, (n,), generator=g) for _ in range(2))
        pattern = torch.stack([torch.eye(16), torch.eye(16).flip(0)])[self.tilt][:, None].expand(n, 3, 16, 16)
        self._image = 0.8 * pattern + 0.1 * torch.rand(n, 3, 16, 16, generator=g)

    def __len__(self):
        return len(self.tilt)

    def batch(self, index):
        return Batch({"image": self._image, "text": list(self.captions), "label": self.labels}).select(list(index))

    keys = property(lambda self: [str(i) for i in range(len(self))])
    captions = property(lambda self: [(("yes", "no")[w],) for w in self.word.tolist()])
    labels = property(lambda self: self.tilt ^ self.word)
    splits = ("train", "val", "test")

    def split(self, name):
        return Exclusive(name)


@pytest.mark.slow
def test_joint_fusion_sees_how_modalities_are_paired_and_late_fusion_cannot(space, cache):
    scores = evaluate(Exclusive(), Exclusive(), "classification", space, 1, cache=cache, noise=(0.5,), steps=250)
    found = {s.metric: s.mean for s in scores}
    assert found["joint accuracy"] > 90
    assert found["late accuracy"] < 75


def test_pictures_are_resized_once(tmp_path):
    from limbeck.check import toy_source
    from limbeck.data import Cache

    source, cache = toy_source(5), Cache(tmp_path)
    first = pictures(source, "image", 16, cache)
    assert torch.equal(first.vectors, source.batch(range(5))["image"].mul(255).round().byte())
    assert pictures(source, "image", 8, cache).vectors.shape == (5, 3, 8, 8)
    source.batch = None
    again = pictures(source, "image", 16, cache)
    assert torch.equal(again.vectors, first.vectors) and again.owner.tolist() == list(range(5))


class Sensors(Source):
    """Sound and depth of a few classes, and images of noise; one sample lacks sound, another depth."""

    classes = ("low", "high")

    def __init__(self, split="train", n=64):
        g = torch.Generator().manual_seed(("train", "val", "test").index(split))
        self.name, self.fingerprint = f"sensors[{split}]", digest("sensors", split, n)
        shapes = {"image": (3, 16, 16), "audio": (1, 16, 24), "depth": (1, 16, 16)}
        self.modalities = {m: Modality(m, shape, 0.0, 10.0 if m == "depth" else 1.0) for m, shape in shapes.items()}
        self.modalities["label"] = Modality("label")
        self._labels = torch.arange(n) % 2
        image = torch.rand(n, 3, 16, 16, generator=g)
        audio = 0.2 * torch.rand(n, 1, 16, 24, generator=g)
        audio[self._labels == 1, :, 8:] += 0.7  # a high tone
        depth = 1 + 0.2 * torch.rand(n, 1, 16, 16, generator=g)
        depth[self._labels == 1, :, :, 8:] += 5
        everyone = torch.ones(n, dtype=torch.bool)
        lacking = {"audio": everyone.index_fill(0, torch.tensor([3]), False)}
        lacking["depth"] = everyone.index_fill(0, torch.tensor([4]), False)
        values = {"image": image, "audio": audio, "depth": depth, "label": self._labels}
        self._batch = Batch(values, lacking)

    def __len__(self):
        return len(self._labels)

    def batch(self, index):
        return self._batch.select(list(index))

    keys = property(lambda self: [str(i) for i in range(len(self))])
    captions = property(lambda self: [()] * len(self))
    labels = property(lambda self: self._labels)
    splits = ("train", "val", "test")

    def split(self, name):
        return Sensors(name, len(self))


@pytest.mark.parametrize("student", ["frozen", pytest.param("convnet", marks=pytest.mark.slow)])
def test_sound_and_depth_are_judged_as_images_are(student, cache):
    options = {"cache": cache, "looks": 1, "student": student, "resolution": 16}
    options |= {"noise": (0.5,), "steps": 60} if student == "frozen" else {"steps": 12}
    encoders = lb.space(**{m: {"name": "convnet", "resolution": 16, "width": 8} for m in ("image", "audio", "depth")})
    found = evaluate(Sensors(), Sensors(), "classification", encoders, 1, **options)
    scores = {s.metric: s.mean for s in found}
    assert list(scores) == ["joint accuracy", "late accuracy", "image accuracy", "audio accuracy", "depth accuracy"]
    assert min(scores["audio accuracy"], scores["depth accuracy"]) > 95 and scores["image accuracy"] < 75


def test_pictures_leave_out_who_lacks_the_modality(cache):
    source = Sensors()
    seen = pictures(source, "depth", 16, cache)
    assert seen.vectors.shape == (63, 1, 16, 16) and 4 not in seen.owner.tolist()
    near, far = seen.vectors[seen.owner == 0], seen.vectors[seen.owner == 1]
    assert near.float().mean() > far[..., 8:].float().mean() + 50  # what is near is bright
    with pytest.raises(DataError, match="no sample has text"):
        pictures(_Empty(source), "text", 16, cache)


class _Empty(Sensors):
    def __init__(self, source):
        super().__init__()
        self.fingerprint = "empty"
        self._batch = Batch({"text": [()] * len(source)}, {"text": torch.zeros(len(source), dtype=torch.bool)})


class Trio(VectorSource):
    """Three modalities that see one point each through a map of its own; of every seventh sample c is missing."""

    splits = ("train", "val", "test")

    def split(self, name):
        return trio(name)


def trio(split="train", n=140, lacking=7):
    g = torch.Generator().manual_seed(("train", "val", "test").index(split))
    maps = torch.Generator().manual_seed(9)
    point = torch.randn(n, 6, generator=g)
    vectors = {m: point @ torch.randn(6, 12, generator=maps) + 0.05 * torch.randn(n, 12, generator=g) for m in "cab"}
    here = torch.arange(n) % lacking != 0
    return Trio(f"trio[{split}]", vectors, present={"c": here}, split=split)


@pytest.mark.slow
def test_retrieval_of_every_ordered_pair(cache):
    encoders = lb.space(**dict.fromkeys("abc", "vectors:12"))
    options = {"cache": cache, "steps": 150, "noise": (0.1,), "ridge": (0.1,), "looks": 1}
    found = {s.metric: s.mean for s in evaluate(trio(), trio(), "retrieval", encoders, 1, **options)}
    ways = [f"{y} to {x} R" for pair in ("ab", "ac", "bc") for x, y in (pair, pair[::-1])]
    assert list(found) == [*(f"{way}@{k}" for way in ways for k in (1, 5, 10)), "mean"]
    assert min(found[f"{way}@5"] for way in ways) > 80  # chance is 4
    assert found["mean"] == pytest.approx(sum(v for k, v in found.items() if k != "mean") / 18)
    two = lb.space(a="vectors:12", c="vectors:12")
    assert len(evaluate(trio(), trio(), "retrieval", two, 1, **options)) == 7
    with pytest.raises(ConfigError, match=r"share a that the space encodes .*retrieval takes two modalities or more"):
        evaluate(trio(), trio(), "retrieval", lb.space(a="vectors:12"), 1, **options)


def test_retrieval_is_blind_where_the_pairing_is_broken(cache):
    """What two modalities share is found only by a student of pairs that hold it."""
    encoders, whole = lb.space(**dict.fromkeys("abc", "vectors:12")), trio(lacking=1000)
    order = torch.randperm(140, generator=torch.Generator().manual_seed(0))
    values = whole.batch(range(140))
    broken = Trio("broken", {"a": values["a"], "b": values["b"], "c": values["c"][order]}, split="train")
    options = {"cache": cache, "steps": 100, "noise": (0.1,), "ridge": (0.1,), "looks": 1}
    found = {s.metric: s.mean for s in evaluate(broken, trio(), "retrieval", encoders, 1, **options)}
    assert found["a to b R@5"] > 60 and found["c to b R@5"] < 20


@pytest.fixture
def pretrained(space):
    images = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    frozen = space["image"](images)
    components = PCAWhitener.of(frozen, 6)
    return images, components.whiten(frozen, 3.0), Pretrained(space["image"], components, 3.0)


def test_a_pretrained_tower_begins_where_the_frozen_features_are(pretrained):
    images, frozen, network = pretrained
    assert network.dim == 6
    torch.testing.assert_close(network(images), frozen, rtol=0, atol=1e-5)
    tower = Tower(0, 4, torch.Generator().manual_seed(0), network)
    torch.testing.assert_close(tower((images * 255).byte()), tower.head(frozen), rtol=0, atol=0.05)


def test_pretrained_weights_move_at_a_tenth_of_the_rate(pretrained):
    images, _, network = pretrained
    student = Tower(0, 4, torch.Generator().manual_seed(0), network)
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    schedule = Schedule(steps=1, batch=12, rate=1e-3, decay=0.0, looks=1)
    list(fit(student, lambda index, t: student(images[index])[:, 0].square().mean(), 12, schedule, 0, "cpu"))
    moved = {name: (p - before[name]).abs().max().item() for name, p in student.named_parameters()}
    assert moved.pop("head.0.weight") == pytest.approx(1e-3, rel=1e-2)  # the first step of Adam is the rate
    moved.pop("head.0.bias")
    assert moved and max(moved.values()) == pytest.approx(1e-4, rel=1e-2)


@pytest.mark.parametrize("protocol", ["retrieval", "classification"])
def test_the_encoder_is_a_student_at_the_resolution_of_the_set(protocol, space, cache, monkeypatch):
    seen, read = set(), Pretrained.forward
    monkeypatch.setattr(Pretrained, "forward", lambda self, x: seen.add(x.shape[-1]) or read(self, x))
    source = toy_source(12)
    options = {"student": "encoder", "selection": "paper", "steps": 2, "batch": 6, "looks": 1}
    scores = evaluate(source, source, protocol, space, 1, cache=cache, **options)
    assert seen == {16} and all(0 <= value <= 100 for score in scores for value in score.values)
    evaluate(source, source, protocol, space, 1, cache=cache, **options, resolution=8)
    assert seen == {16, 8}


@pytest.mark.parametrize("protocol", ["retrieval", "classification"])
@pytest.mark.parametrize("augment", [True, False])
def test_images_are_mirrored_and_shifted_where_the_protocol_says_so(protocol, augment, space, cache, monkeypatch):
    called = []
    where = {"retrieval": "_towers", "classification": "_fusion"}[protocol]
    module = importlib.import_module(f"limbeck.evaluation.protocols.{where}")
    monkeypatch.setattr(module, "crop_flip", lambda images, generator, mirror: called.append(True) or images)
    source = toy_source(12)
    options = {"student": "convnet", "selection": "paper", "steps": 2, "batch": 6, "looks": 1, "resolution": 16}
    evaluate(source, source, protocol, space, 1, cache=cache, **options, augment=augment)
    assert bool(called) is augment


def test_resolutions_by_default():
    assert Retrieval(student="convnet").resolution == Retrieval().resolution == 32
    assert Retrieval(student="encoder").resolution is None
    with pytest.raises(ConfigError, match="`resolution` of retrieval must be 8 or more, got 0"):
        Retrieval(student="encoder", resolution=0)


def test_large_images_are_judged_in_smaller_chunks():
    shapes = [(2000, 512), (2000, 3, 32, 32), (2000, 3, 128, 128), (2, 3, 4096, 4096), (0, 3, 8, 8)]
    assert [chunk_of(torch.empty(shape, device="meta")) for shape in shapes] == [1024, 1024, 64, 1, 1]


def test_pixels_are_read_alike_as_bytes_and_in_zero_to_one():
    tower = Tower(0, 4, torch.Generator().manual_seed(0), "convnet", 16).eval()
    pixels = torch.randint(0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    with torch.no_grad():
        expected = tower.head(tower.network(pixels.double().div(255).float()))
        for x in (pixels, pixels.float() / 255):
            torch.testing.assert_close(tower(x), expected)
