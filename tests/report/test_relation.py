"""A learned similarity on the page: its numbers, its map and its strongest ties."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from limbeck.objectives.similarity import Similarity
from limbeck.report import figures, page
from limbeck.report.relation import relation


@pytest.fixture(scope="module")
def similarity():
    """S of 6 pairs that ties image 4 to text 1, image 0 to text 5, and text 2 to every image."""
    learned = Similarity(6, rank=3)
    with torch.no_grad():
        learned.weight.fill_(2.0)
        learned.left.zero_()
        learned.left[4, 0] = learned.left[0, 1] = learned.right[1, 0] = 3.0
        learned.right[5, 1] = 1.5
        learned.left[:, 2] = learned.right[2, 2] = 1.0
    return learned


@pytest.fixture(scope="module")
def tied(small, similarity):
    """Builds a set with that similarity."""

    def build(**other):
        plain = small("lors")
        tensors = {**plain.tensors, **{f"similarity.{k}": v for k, v in similarity.state_dict().items()}}
        return small("lors", **{"tensors": tensors, "similarity": similarity.describe(), **other})

    return build


def _masks(svg):
    """The masks of a heat map as arrays, those of `--s0` and of `--s1`."""
    found = re.findall(r'href="data:image/png;base64,([^"]*)"', svg)
    pictures = [Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA") for data in found]
    assert all(np.asarray(picture)[..., :3].min() == 255 for picture in pictures)  # white: a mask reads luminance
    return [np.asarray(picture)[..., 3] / 255 for picture in pictures]


def test_numbers_and_ties_are_those_of_the_matrix(tied, similarity):
    given = tied()
    s = similarity().detach().numpy()
    found = relation(given, "r")
    assert (found.low, found.high) == pytest.approx((s.min(), s.max()))
    assert (found.mean, found.diagonal) == pytest.approx((s.mean(), np.diag(s).mean()))
    assert [(t.image, t.text) for t in found.ties[:2]] == [("s00004", "s00001"), ("s00000", "s00005")]
    off = np.where(np.eye(6, dtype=bool), np.nan, s)
    rest = off - np.nanmean(off, 1, keepdims=True) - np.nanmean(off, 0, keepdims=True) + np.nanmean(off)
    assert found.ties[0].value == pytest.approx(rest[4, 1], abs=1e-5)
    assert [t.value for t in found.ties] == sorted((t.value for t in found.ties), reverse=True)
    assert all(t.value > 0 for t in found.ties) and len(found.ties) <= 12
    assert (found.ties[0].caption, found.ties[0].own) == (given.captions[1][0], given.captions[4][0])
    assert found.ties[0].picture.width == 16


def test_the_map_draws_each_sign_in_its_colour_at_its_place():
    matrix = torch.zeros(6, 6)
    matrix[4, 1], matrix[2, 3], matrix[0, 5] = 1.0, -0.5, 3.0
    svg = figures.heatmap(matrix, 1.0, "r")
    above, below = _masks(svg)
    assert above.shape == (6, 6) and (above[4, 1], above[0, 5], below[2, 3]) == pytest.approx((1, 1, 0.5), abs=0.05)
    assert (above > 0).sum() == 2 and (below > 0).sum() == 1
    assert [re.findall(rf'mask="url\(#r-mask{k}\)" style="fill: var\(--s{k}\)"', svg) for k in (0, 1)]
    assert "<image" not in re.sub(r"<mask.*?</mask>", "", svg, flags=re.DOTALL)
    assert svg == figures.heatmap(matrix, 1.0, "r")


def test_maps_stay_small():
    noise = torch.randn(100, 100, generator=torch.Generator().manual_seed(0))
    assert len(figures.heatmap(noise, 3.0, "r")) < 30_000
    large = torch.zeros(450, 450)
    large[449, 2] = 1.0
    above, _ = _masks(figures.heatmap(large, 1.0, "r"))
    assert above.shape == (150, 150) and above[149, 0] == 1 and above.sum() == 1


def test_the_page_shows_it(tied, similarity, tmp_path):
    evil = "<script>alert(1)</script>"
    html = page(tmp_path / "page.html", sets=[tied(captions=[(evil,)] * 6)]).read_text(encoding="utf-8")
    text = " ".join(re.sub(r"<svg.*?</svg>|<[^>]+>", " ", html, flags=re.DOTALL).split())
    s = similarity().detach()
    numbers = (f"{float(x):.2f}" for x in (s.min(), s.max(), s.mean(), s.diagonal().mean()))
    assert "It goes from {} to {}, {} on average and {} between an image and its own text.".format(*numbers) in text
    assert html.count('<ol class="ties">') == 1 and "s00004 with the text of s00001" in text
    assert "<script" not in html and "&lt;script&gt;" in html
    assert "similarity 168 bytes" in text and "similarity.left" not in text
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids))


def test_nothing_beyond_the_diagonal_is_said_in_a_sentence(small, tmp_path):
    learned = Similarity(6, "diagonal")
    tensors = {**small("lors").tensors, "similarity.weight": learned.weight.detach()}
    given = small("lors", tensors=tensors, similarity=learned.describe())
    assert relation(given, "r").plot == ""
    html = page(tmp_path / "page.html", sets=[given]).read_text(encoding="utf-8")
    assert "Between others it says nothing." in html and 'class="relation"' not in html


def test_a_set_without_images_or_captions_names_its_samples(tied):
    imageless = {name: value for name, value in tied().tensors.items() if name != "image"}
    first = relation(tied(tensors=imageless, captions=[()] * 6), "r").ties[0]
    assert first.picture is None and (first.caption, first.own) == ("s00001", "s00004")


def test_a_set_without_a_similarity_shows_none(small, tmp_path):
    assert relation(small(), "r") is None
    assert "Which images match" not in page(tmp_path / "page.html", sets=[small()]).read_text(encoding="utf-8")
