"""Adapters to a user's own ImageBind and LanguageBind, on stand-ins of the same interface."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import limbeck as lb
from limbeck.check import toy_source
from limbeck.errors import ConfigError, DataError, MissingDependency
from limbeck.spaces.audio_features import kaldi_mel
from limbeck.spaces.contract import check_encoder
from limbeck.spaces.encoders.imagebind import END, Clips
from limbeck.spaces.encoders.languagebind import Thirds
from limbeck.spaces.preprocess import disparity

TEXTS = ["a red square", "a photo of a small dog on a very long sandy beach at night", "rain"]
NUMBERS = torch.Generator().manual_seed(0)
SOUNDS = 0.3 * torch.randn(3, 9000, generator=NUMBERS)
VALUES: dict[str, Any] = {
    "image": torch.rand(3, 3, 40, 56, generator=NUMBERS),
    "text": TEXTS,
    "audio": SOUNDS,
    "depth": 0.6 + 8 * torch.rand(3, 1, 40, 56, generator=NUMBERS),
}


class Pooled(nn.Module):
    """A tower that sees coarse positions of its input; the real ones see patches."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(48, width, generator=torch.Generator().manual_seed(seed)))
        self.out_features = width

    def forward(self, values: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(values.mean(1, keepdim=True), (6, 8)).flatten(1) @ self.weight


class FakeImageBind(nn.Module):
    """Scales its vectors and averages clips, as ImageBind does."""

    SCALES: ClassVar = {"vision": 1.0, "text": 14.3, "audio": 20.0, "depth": 5.0, "thermal": 10.0, "imu": 5.0}

    def __init__(self) -> None:
        super().__init__()
        seeds = enumerate(self.SCALES)
        self.modality_preprocessors = nn.ModuleDict({key: nn.Identity() for key in self.SCALES})
        self.modality_trunks = nn.ModuleDict({key: Pooled(1024, seed) for seed, key in seeds})
        self.modality_heads = nn.ModuleDict({key: nn.Identity() for key in self.SCALES})
        self.modality_postprocessors = nn.ModuleDict({key: nn.Identity() for key in self.SCALES})
        self.seen: dict[str, Tensor] = {}

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        found = {}
        for key, value in inputs.items():
            self.seen[key] = value.detach()
            clips = value.shape[1] if value.ndim == 5 else 0
            if key == "text":
                value = F.one_hot(value, END + 1)[:, None, :, :256].float()
            whole = self.modality_preprocessors[key](value.flatten(0, 1) if clips else value)
            vectors = self.modality_heads[key](self.modality_trunks[key](whole))
            vectors = self.SCALES[key] * F.normalize(self.modality_postprocessors[key](vectors), dim=-1)
            found[key] = vectors.unflatten(0, (-1, clips)).mean(1) if clips else vectors
        return found


def tokenise(texts: list[str], device: str) -> Tensor:
    """Letters between a beginning and an end, which a text that is too long loses."""
    rows = [[END - 1, *(ord(letter) for letter in text), END][:77] for text in texts]
    return torch.tensor([row + [0] * (77 - len(row)) for row in rows], device=device)


class FakeLanguageBind(nn.Module):
    """Keeps encoders in two dictionaries, as LanguageBind does."""

    def __init__(self, clip_type: dict[str, str], use_temp: bool = True, cache_dir: str | None = "here") -> None:
        super().__init__()
        assert not use_temp and cache_dir is None
        (kind, self.checkpoint), *rest = clip_type.items()
        if self.checkpoint == "nothing":
            raise OSError("LanguageBind/nothing is not a valid model")
        assert not rest
        sound = {
            "audio_sample_rate": 16000,
            "num_mel_bins": 16,
            "target_length": 60,
            "audio_mean": -4.2,
            "audio_std": 4.6,
        }
        self.modality_config = {kind: SimpleNamespace(vision_config=SimpleNamespace(**sound))}
        self.modality_encoder = nn.ModuleDict({kind: nn.Identity(), "language": nn.Identity()})
        self.modality_proj = nn.ModuleDict({kind: Pooled(12, 1), "language": Pooled(12, 2)})
        self.seen: dict[str, Tensor] = {}

    def forward(self, inputs: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
        found = {}
        for key, value in inputs.items():
            values = value["input_ids" if key == "language" else "pixel_values"]
            self.seen[key] = values.detach()
            values = F.one_hot(values, 128)[:, None].float() if key == "language" else values
            found[key] = F.normalize(self.modality_proj[key](self.modality_encoder[key](values)), dim=-1)
        return found


class FakeTokenizer:
    """Letters, padded to 77."""

    @classmethod
    def from_pretrained(cls, name: str) -> "FakeTokenizer":
        assert name == "LanguageBind/LanguageBind_Image"
        return cls()

    def __call__(self, texts: list[str], max_length: int, **options: Any) -> dict[str, Tensor]:
        assert options == {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        return {"input_ids": torch.tensor([[ord(c) for c in t.ljust(max_length)[:max_length]] for t in texts])}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Both packages; the list says for each ImageBind that was made whether it was to fetch its weights."""
    fetched: list[bool] = []

    def imagebind_huge(pretrained: bool) -> FakeImageBind:
        fetched.append(pretrained)
        return FakeImageBind()

    names = ("imagebind", "imagebind.models", "imagebind.models.imagebind_model", "imagebind.data", "languagebind")
    made = {name: ModuleType(name) for name in names}
    made["imagebind.models.imagebind_model"].imagebind_huge = imagebind_huge
    made["imagebind.data"].load_and_transform_text = tokenise
    made["languagebind"].LanguageBind = FakeLanguageBind
    made["languagebind"].LanguageBindImageTokenizer = FakeTokenizer
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
    return fetched


@pytest.mark.parametrize("modality", list(VALUES))
@pytest.mark.parametrize("name", ["imagebind", "languagebind"])
@pytest.mark.usefixtures("installed")
def test_contract(name: str, modality: str) -> None:
    encoder = lb.space(name)[modality]
    others = {"imagebind": {"depth": {"near": 0.5}}}.get(name, {})
    check_encoder(encoder, VALUES[modality], other={"audio": {"rate": 8000}, **others}.get(modality))
    assert len(encoder.network.model.state_dict()) == 1, "other towers are kept"


def test_imagebind_is_brought_back_to_unit_length(installed: list[bool]) -> None:
    space = lb.space("imagebind")
    whole = FakeImageBind()
    tokens = tokenise(TEXTS, "cpu")
    expected = F.normalize(whole({"text": tokens})["text"], dim=-1)
    torch.testing.assert_close(space["text"](TEXTS), expected)
    assert space.dims == dict.fromkeys(VALUES, 1024) and installed == [True]


@pytest.mark.usefixtures("installed")
def test_imagebind_hears_three_clips_of_two_seconds() -> None:
    """As its loader makes them: less the mean, Kaldi's filter bank, padded to 204 frames, scaled."""
    long = 0.3 * torch.randn(2, 80000, generator=torch.Generator().manual_seed(1))
    encoder = lb.space("imagebind")["audio"]
    encoder(long)
    seen = encoder.network.model.seen["audio"]
    assert seen.shape == (2, 3, 1, 128, 204)
    for clip, start in enumerate((0, 24000, 48000)):
        part = long[:, start : start + 32000]
        mel = kaldi_mel(part - part.mean(1, keepdim=True), 16000, 128).transpose(1, 2)
        torch.testing.assert_close(seen[:, clip, 0, :, :198], (mel + 4.268) / 9.138)
        assert torch.allclose(seen[:, clip, 0, :, 198:], torch.tensor(4.268 / 9.138))
    assert Clips(1)(long)["audio"].shape == (2, 1, 1, 128, 204)
    assert Clips(3)(long[:, :32000])["audio"].shape == (2, 1, 1, 128, 204)


@pytest.mark.usefixtures("installed")
def test_imagebind_sees_disparity() -> None:
    encoder = lb.space("imagebind")["depth"]
    metres = torch.full((1, 1, 224, 224), 2.0)
    metres[..., :100] = 0
    encoder(metres)
    expected = (disparity(metres, 0.065) - 0.0418) / 0.0295
    seen = encoder.network.model.seen["depth"]
    torch.testing.assert_close(seen, expected)
    assert seen[0, 0, 0, 0] < -1 and abs(seen[0, 0, 0, 200]) < 1


@pytest.mark.usefixtures("installed")
def test_imagebind_reads_the_end_of_a_long_text() -> None:
    encoder = lb.space("imagebind")["text"]
    encoder(["short", "long " * 40])
    seen = encoder.network.model.seen["text"]
    assert (seen == END).sum(1).tolist() == [1, 1] and seen[1, -1] == END and seen[1, -2] != END


@pytest.mark.usefixtures("installed")
def test_images_of_both_are_clips() -> None:
    """Against Pillow, in 8 bits as the packages do it."""
    from PIL import Image

    pixels = (
        VALUES["image"][:1] * 100 + 80
    ).round()  # so that nothing overshoots, which 8 bits cut off after each pass
    picture = Image.fromarray(pixels[0].byte().permute(1, 2, 0).numpy()).resize((313, 224), Image.Resampling.BICUBIC)
    array = np.asarray(picture, dtype=np.float32)[:, 44:268] / 255
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    expected = torch.from_numpy((array - np.array(mean)) / np.array(std)).permute(2, 0, 1)[None].float()
    for name, key in (("imagebind", "vision"), ("languagebind", "image")):
        encoder = lb.space(name)["image"]
        encoder(pixels / 255)
        seen = encoder.network.model.seen[key]
        torch.testing.assert_close(seen, expected, rtol=0, atol=0.05)


def test_imagebind_reads_a_file_of_weights(installed: list[bool], tmp_path: Path) -> None:
    whole = FakeImageBind()
    nn.init.ones_(whole.modality_trunks["depth"].weight)
    torch.save(whole.state_dict(), tmp_path / "huge.pth")
    given = lb.space(f"imagebind:{tmp_path / 'huge.pth'}")["depth"]
    vectors = given(VALUES["depth"])
    assert vectors.std() < 1e-6 and installed == [False]  # of ones
    copied = (tmp_path / "huge.pth").rename(tmp_path / "elsewhere.pth")
    assert lb.space(f"imagebind:{copied}")["depth"].fingerprint == given.fingerprint
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    for bad in ("bad.pth", "none.pth"):
        with pytest.raises(ConfigError, match=f"{bad} are not those of ImageBind"):
            _ = lb.space(f"imagebind:{tmp_path / bad}")["depth"].network


@pytest.mark.usefixtures("installed")
def test_languagebind_sees_depth_as_grey_images() -> None:
    encoder = lb.space("languagebind")["depth"]
    encoder(torch.full((1, 1, 60, 80), 5.0))
    seen = encoder.network.model.seen["depth"]
    assert seen.shape == (1, 3, 224, 224)
    expected = [
        (0.5 - m) / s
        for m, s in zip((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), strict=True)
    ]
    torch.testing.assert_close(seen[0, :, 0, 0], torch.tensor(expected))


@pytest.mark.parametrize("length", [300 * 160, 61 * 160, 60 * 160 + 1, 60 * 160, 5000])
def test_languagebind_hears_thirds(length: int) -> None:
    """Places of three parts as NumPy's `array_split` of all places has them; a short sound is repeated."""
    sound = 0.3 * torch.randn(1, length, generator=torch.Generator().manual_seed(2))
    whole = sound if length > 9600 else F.pad(sound.repeat(1, 9600 // length), (0, 9600 % length))
    mel = kaldi_mel(whole - whole.mean(), 16000, 16)[0]
    places = [part.tolist() or [0] for part in np.array_split(np.arange(max(1, len(mel) - 60 + 1)), 3)]
    found = Thirds(16000, 16, 60, -4.2, 4.6)(sound)["pixel_values"][0]
    assert found.shape == (3, 16, 60)
    for part, (start, *_) in zip(found, places, strict=True):
        rows = F.pad(mel[start : start + 60], (0, 0, 0, max(0, 60 - len(mel)))).T
        torch.testing.assert_close(part, (rows + 4.2) / 4.6)


@pytest.mark.usefixtures("installed")
def test_languagebind_checkpoints() -> None:
    space = lb.space("languagebind", audio={"checkpoint": "LanguageBind_Audio"})
    found = {m: e.network.model.checkpoint for m, e in space.encoders.items()}
    assert found["audio"] == "LanguageBind_Audio" and found["text"] == found["image"] == "LanguageBind_Image"
    assert set(space.dims.values()) == {12}
    with pytest.raises(ConfigError, match="'nothing' cannot be read"):
        _ = lb.space(image={"name": "languagebind", "checkpoint": "nothing"})["image"].network


@pytest.mark.usefixtures("installed")
@pytest.mark.slow
def test_the_licence_reaches_the_set(tmp_path: Path) -> None:
    source = toy_source(8)
    problem = lb.Problem(source, lb.space("imagebind", audio=None, depth=None), lb.Budget(pairs=2))
    small = lb.distill(problem, lb.methods.Herding())
    licences = {"image": "CC-BY-NC-SA-4.0", "text": "CC-BY-NC-SA-4.0"}
    assert small.encoder_licences == licences
    small.save(tmp_path / "made")
    assert "CC-BY-NC-SA-4.0" in (tmp_path / "made" / "README.md").read_text()
    assert lb.load(tmp_path / "made").encoder_licences == licences


@pytest.mark.parametrize(
    ("name", "modality", "remedy"),
    [
        ("imagebind", "image", r"pip install git\+https://github.com/facebookresearch/ImageBind$"),
        ("languagebind", "audio", r"pip install 'languagebind\[all\]'$"),
    ],
)
def test_missing_packages_are_named(name: str, modality: str, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    space = lb.space(name)
    assert space.modalities == ("image", "text", "audio", "depth") and "NC" in space.licences[modality]
    with pytest.raises(MissingDependency, match=remedy):
        _ = space[modality].network


def test_what_an_installed_package_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    for line, error, message in (
        ("import no_such_module", MissingDependency, "needs the package 'no_such_module'"),
        ("raise ModuleNotFoundError(name='cv2')", MissingDependency, "pip install opencv-python-headless"),
        ("from math import no_such_name", ConfigError, "cannot be imported: cannot import name 'no_such_name'"),
        ("raise RuntimeError('operator torchvision::nms does not exist')", ConfigError, "torchvision::nms"),
    ):
        monkeypatch.delitem(sys.modules, "languagebind", raising=False)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        (tmp_path / "languagebind.py").write_text(line)
        with pytest.raises(error, match=message):
            _ = lb.space("languagebind")["image"].network


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "imagebind", "clips": 0}, "`clips` of imagebind must be 1 or more"),
        ({"name": "imagebind", "near": 0.0}, "`near` of imagebind must be above 0"),
        ({"name": "imagebind", "rate": 2}, "`rate` of imagebind must be"),
        ({"name": "imagebind", "modality": "smell"}, "`modality` of imagebind must be image, text, audio or depth"),
        ({"name": "languagebind", "rate": 2}, "`rate` of languagebind must be"),
        (
            {"name": "languagebind", "modality": "smell"},
            "`modality` of languagebind must be image, text, audio or depth",
        ),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        lb.space(image=options)


@pytest.mark.parametrize("name", ["imagebind", "languagebind"])
@pytest.mark.parametrize("texts", ["a text", []])
@pytest.mark.usefixtures("installed")
def test_texts_are_lists(name: str, texts: Any) -> None:
    with pytest.raises(DataError, match="list of at least one string"):
        lb.space(name)["text"](texts)
