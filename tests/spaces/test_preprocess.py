"""Tensors against Pillow and against the image processors of transformers, on pictures of real sizes."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPConfig  # noqa: F401  (imported first: the image processors need its package)

from limbeck.errors import ConfigError
from limbeck.spaces.encoders import hf, openclip, timm
from limbeck.spaces.preprocess import Preprocess, centre_crop, disparity, log_depth, normalise, resize

SIZES = [(480, 640), (333, 500), (375, 250), (72, 72), (64, 97)]


def picture(height: int, width: int) -> tuple[Tensor, Image.Image]:
    """A random picture with structure at several scales, as a tensor and as Pillow sees it."""
    generator = torch.Generator().manual_seed(height * width)
    layers = [torch.rand(1, 3, max(height // k, 1), max(width // k, 1), generator=generator) for k in (1, 4, 32)]
    whole = sum(torch.nn.functional.interpolate(x, (height, width), mode="bilinear") for x in layers) / 3
    pixels = (whole * 255).round().byte()
    return pixels.float() / 255, Image.fromarray(pixels[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "number"), [("bilinear", 2), ("bicubic", 3)])
def test_resize_is_pillows(size: tuple[int, int], name: hf.Interpolation, number: int) -> None:
    tensor, image = picture(*size)
    for target in ((224, 224), (100, 31)):
        ours = resize(tensor, target, name)[0]
        reference = torch.from_numpy(np.array(image.resize(target[::-1], resample=number))).permute(2, 0, 1) / 255
        # Pillow rounds to 8 bits after each of its two passes: up to one level for positive kernels, two for bicubic.
        assert (ours - reference).abs().max() <= (2.0 if name == "bicubic" else 1.0) / 255 + 1e-6
        assert (ours - reference).abs().mean() <= 0.4 / 255


@pytest.mark.draws_globally
def test_resize_by_the_shorter_side() -> None:
    assert resize(torch.rand(1, 3, 333, 500), 224).shape[-2:] == (224, 336)
    assert resize(torch.rand(1, 3, 500, 333), 224).shape[-2:] == (336, 224)


def test_centre_crop_takes_the_middle_and_pads_with_black() -> None:
    image = torch.arange(35.0).reshape(1, 1, 5, 7) + 1
    assert torch.equal(centre_crop(image, 3, 3), image[..., 1:4, 2:5])
    assert torch.equal(centre_crop(image, 2, 4), image[..., 1:3, 1:5])
    padded = centre_crop(image, 8, 7)
    assert torch.equal(padded[..., 2:7, :], image) and padded.sum() == image.sum()


@pytest.mark.draws_globally
def test_normalise() -> None:
    image = torch.rand(2, 3, 4, 4)
    expected = torch.stack([(image[:, c] - m) / s for c, (m, s) in enumerate([(0.1, 1.0), (0.2, 2.0), (0.3, 4.0)])], 1)
    torch.testing.assert_close(normalise(image, (0.1, 0.2, 0.3), (1.0, 2.0, 4.0)), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", ["clip", "siglip", "vit"])
def test_preprocessing_is_the_image_processors(family: str, size: tuple[int, int]) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    kinds = {"clip": CLIPImageProcessorPil, "siglip": SiglipImageProcessorPil, "vit": ViTImageProcessorPil}
    processor = kinds[family]()
    tensor, image = picture(*size)
    expected = torch.as_tensor(np.asarray(processor(images=image)["pixel_values"][0]))
    ours = hf.read_preprocess(processor.to_dict(), "x")(tensor)[0]
    assert ours.shape == expected.shape
    # Two levels of 8 bits at most (see above), divided by the smallest spread.
    limit = 2 / 255 / min(processor.image_std) + 1e-5
    assert (ours - expected).abs().max() <= limit
    assert (ours - expected).abs().mean() <= 0.25 * limit


@pytest.mark.draws_globally
def test_preprocessing_is_twice_differentiable() -> None:
    image = torch.rand(1, 3, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    preprocess = Preprocess(size=5, crop=(4, 4))
    assert torch.autograd.gradcheck(preprocess, image.requires_grad_())
    assert torch.autograd.gradgradcheck(preprocess, image)


CLIP = {"size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}, "do_center_crop": True, "resample": 3}
NORM = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_pad": True}, "has do_pad"),
        ({"crop_pct": 0.9}, "crop_pct"),
        ({"rescale_factor": 1.0}, r"scale pixels to \[0, 1\]"),
        ({"resample": 1}, "Pillow's filter 1"),
        ({"size": {"longest_edge": 8}}, "longest_edge"),
    ],
)
def test_processors_that_do_more_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        hf.read_preprocess({**CLIP, **NORM, **change}, "x")


@pytest.mark.draws_globally
def test_processors_that_do_less_are_followed() -> None:
    nothing = hf.read_preprocess({"do_resize": False, "do_normalize": False}, "x")
    image = torch.rand(1, 3, 5, 6)
    assert torch.equal(nothing(image), image)


def test_timm_numbers() -> None:
    numbers = {"input_size": (3, 224, 224), "interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.2,) * 3}
    found = timm.read_preprocess({**numbers, "crop_pct": 0.9, "crop_mode": "center"}, "x")
    assert found == Preprocess(248, (224, 224), "bicubic", (0.5,) * 3, (0.2,) * 3)
    assert timm.read_preprocess({**numbers, "crop_pct": 1.0, "crop_mode": "squash"}, "x").size == (224, 224)
    for change in ({"crop_mode": "border"}, {"interpolation": "lanczos"}, {"input_size": (3, 224, 192)}):
        with pytest.raises(ConfigError, match="cannot follow"):
            timm.read_preprocess({**numbers, "crop_pct": 1.0, **change}, "x")


def test_openclip_numbers() -> None:
    numbers = {"size": (224, 224), "mean": (0.5,) * 3, "std": (0.2,) * 3}
    assert openclip.read_preprocess(numbers, "x") == Preprocess(224, (224, 224), "bicubic", (0.5,) * 3, (0.2,) * 3)
    squash = {**numbers, "size": 256, "resize_mode": "squash", "interpolation": "bilinear"}
    assert openclip.read_preprocess(squash, "x").size == (256, 256)
    for change in ({"resize_mode": "longest"}, {"interpolation": "random"}, {"size": (224, 192)}):
        with pytest.raises(ConfigError, match="cannot follow"):
            openclip.read_preprocess({**numbers, **change}, "x")


DEPTH = np.array([0.0, 0.1, 0.5, 0.7, 2.0, 9.0, 10.0, 30.0])


def test_depth_against_the_formulas() -> None:
    with np.errstate(divide="ignore"):
        inverse = np.where(DEPTH > 0, 0.5 / np.maximum(DEPTH, 0.5), 0)
        logarithm = np.where(DEPTH > 0, 1 - np.log(np.clip(DEPTH, 0.5, 10) / 0.5) / np.log(20), 0)
    depth = torch.from_numpy(DEPTH).view(1, 1, 2, 4)
    np.testing.assert_allclose(disparity(depth).flatten().numpy(), inverse, atol=1e-12)
    np.testing.assert_allclose(log_depth(depth).flatten().numpy(), logarithm, atol=1e-12)


@pytest.mark.parametrize("function", [disparity, log_depth])
def test_gradient_of_depth(function: Any) -> None:
    depth = (
        torch.rand(2, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 8 + 1
    ).requires_grad_()
    assert torch.autograd.gradcheck(function, depth)
    edge = torch.tensor([0.0, 0.1, 2.0]).view(1, 1, 1, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(function(edge).sum(), edge)
    assert gradient.flatten()[:2].tolist() == [0, 0] and float(gradient.flatten()[2]) < 0
