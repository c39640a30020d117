"""What a modality takes on disk, and how a person sees it."""

import numpy as np
import pytest
import torch

from limbeck.data import Modality

AUDIO, DEPTH = Modality("audio", (1, 40, 100)), Modality("depth", (1, 8, 8), 0.0, 10.0)


def test_bytes() -> None:
    assert AUDIO.nbytes == 16000 and DEPTH.nbytes == 256 and Modality("text").nbytes == 0


def test_a_mask_is_a_grey_picture_of_one_byte_a_pixel() -> None:
    mask = Modality("mask", (1, 2, 3))
    picture = mask.preview(torch.tensor([[[0.0, 0.5, 1.0], [1.0, 0.0, 0.0]]]))
    assert mask.nbytes == 6 and picture.mode == "L" and list(picture.tobytes()) == [0, 128, 255, 255, 0, 0]


def test_a_spectrogram_is_drawn_with_low_bands_at_the_bottom() -> None:
    value = torch.zeros(1, 40, 100)
    value[:, 0] = 1
    picture = np.asarray(AUDIO.preview(value)).sum(-1)
    assert picture.shape == (40, 100) and picture[-1].min() > 3 * picture[:-1].max()


@pytest.mark.parametrize("length", [100, 16000])
def test_a_waveform_is_drawn_as_its_outline(length: int) -> None:
    wave = torch.linspace(0, 1, length) * torch.sin(torch.arange(length) * 1.0)
    picture = np.asarray(Modality("audio", (length,), -1.0, 1.0).preview(wave)).sum(-1)
    drawn = (picture > picture[0, 0]).sum(0)
    assert picture.shape == (65, min(length, 200)) and drawn[-10:].mean() > 4 * drawn[:10].mean()


def test_depth_is_bright_where_it_is_near_and_black_where_it_is_not_known() -> None:
    value = torch.tensor([[[0.0, 0.5], [3.0, 10.0]]])
    picture = np.asarray(DEPTH.preview(value.requires_grad_())).astype(int).sum(-1)
    assert picture[0, 0] == 0 < picture[1, 1] < picture[1, 0] < picture[0, 1]
