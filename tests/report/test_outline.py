"""The edge of a mask: a path that encloses exactly the object, drawn over its image."""

import re

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.data import Modality
from limbeck.report import page
from limbeck.report.gallery import cards
from limbeck.report.mask_outline import LONGEST, outline
from limbeck.report.show import view


def enclosed(path: str, height: int, width: int) -> Tensor:
    """The pixels inside a path of horizontal and vertical lines, by counting the lines to their left."""
    crossings, turns = np.zeros((height, width + 1), dtype=int), 0
    for line in re.findall(r"M(\d+) (\d+)([^z]*)z", path):
        x, y = first = int(line[0]), int(line[1])
        for axis, step in re.findall(r"([hv])(-?\d+)", line[2]):
            by = int(step)
            if axis == "h":
                x += by
            else:
                crossings[min(y, y + by) : max(y, y + by), x] += 1
                y += by
            turns += 1
        assert (x, y) == first, "every line is closed"
    return torch.from_numpy(np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1)


def disc(side: int) -> Tensor:
    at = torch.arange(side) - side / 2 + 0.5
    return ((at[:, None] ** 2 + at**2).sqrt() < side / 3).float()[None]


@pytest.mark.parametrize("seed", range(8))
def test_a_path_encloses_exactly_the_object(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    mask = torch.rand(1, 5 + seed, 12, generator=draw)  # with holes, corners that touch, and the border
    edge = outline(mask)
    assert edge is not None and torch.equal(enclosed(edge.path, *mask.shape[1:]), mask[0] >= 0.5)
    assert (edge.width, edge.height) == (12, 5 + seed)


def test_a_straight_side_is_one_piece() -> None:
    mask = torch.zeros(1, 9, 9)
    mask[:, 2:7, 3:8] = 0.5
    assert outline(mask).path == "M3 2h5v5h-5v-5z"  # type: ignore[union-attr]


@pytest.mark.parametrize("value", [0.0, 0.49, 0.5, 1.0])
def test_a_mask_of_everything_or_nothing_has_no_edge(value: float) -> None:
    assert outline(torch.full((1, 4, 4), value)) is None


@pytest.mark.parametrize("shape", [(128, 128), (101, 77)])
def test_noise_is_drawn_coarser(shape: tuple[int, int]) -> None:
    edge = outline(torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)))
    assert edge is not None and len(edge.path) <= LONGEST
    scale = shape[1] / edge.width
    assert scale > 1 and edge.height * scale == shape[0]
    whole = outline(disc(128))
    assert whole is not None and whole.width == 128, "what is short enough keeps its pixels"


@pytest.fixture
def masked(small):
    """Six samples: two with a mask of a quarter of the image, and the others with none of their own."""
    given = small("cf")
    masks = torch.full((6, 1, 16, 16), 255, dtype=torch.uint8)
    masks[:2] = 0
    masks[:2, :, 4:12, 4:12] = 255
    modalities = {**given.modalities, "mask": Modality("mask", (1, 16, 16))}
    return small("cf", tensors={**given.tensors, "mask": masks}, modalities=modalities)


def test_the_page_draws_the_masks_and_counts_them(tmp_path, masked, small):
    html = page(tmp_path / "page.html", sets=[masked, small("random")]).read_text(encoding="utf-8")
    assert html.count('<svg class="outline"') == html.count('<path d="M4 4h8v8h-8v-8z"/>') == 2
    assert html.count("(its mask covers 25 %)") == 2 and html.count("the edge of its mask") == 1
    assert "Masks: the object takes 75 % of an image on average, from 25 % to 100 %; 4 of 6 samples count" in html
    assert "<script" not in html and "mask " in html


def test_a_set_without_masks_has_no_outlines(tmp_path, small):
    html = page(tmp_path / "page.html", sets=[small("cf")]).read_text(encoding="utf-8")
    assert 'class="outline"' not in html and "Masks:" not in html and "its mask" not in html
    assert all(card.outline is None for card in cards(small("cf"), None, max_pairs=6, sets=1))


@pytest.mark.slow
def test_noise_stays_small(tmp_path, small):
    draw = torch.Generator().manual_seed(0)
    tensors = {
        "image": torch.zeros(100, 3, 64, 64, dtype=torch.uint8),
        "mask": torch.randint(256, (100, 1, 64, 64), generator=draw, dtype=torch.uint8),
    }
    fields = {"origins": ["x"] * 100, "captions": [("c",)] * 100, "neighbours": (), "nearest": ()}
    html = page(tmp_path / "page.html", sets=[small(tensors=tensors, **fields)], max_pairs=100)
    assert html.stat().st_size < 700_000


def test_the_terminal_tells_of_masks(masked, small, capsys):
    from rich.console import Console

    console = Console(width=150)
    console.print(view(masked))
    assert "masks" in (printed := capsys.readouterr().out) and "from 25 % to 100 %; 4 of 6 samples" in printed
    console.print(view(small("cf")))
    assert "masks" not in capsys.readouterr().out
