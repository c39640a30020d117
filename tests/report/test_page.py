"""The page as a file: escaped, self-contained, repeatable, and whole with any piece missing."""

import base64
import io
import re
from dataclasses import replace

import pytest
import torch
from PIL import Image

from limbeck.check import toy_source
from limbeck.errors import ConfigError, StorageError
from limbeck.report import page
from limbeck.report.gallery import cards, contact_sheet


@pytest.fixture
def write(tmp_path):
    return lambda **given: page(tmp_path / "report.html", **given).read_text(encoding="utf-8")


def _plain(html):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html).replace("\u00a0", " "))


def _cells(html):
    """The text with a blank between what stands in two elements."""
    return _plain(html.replace("<", " <").replace("&nbsp;", " "))


def test_first_sentence_says_what_is_kept(write, small, score):
    scores = [score("random", 6, (5.0, 7.0)), score("cf", 6, (20.0, 22.0)), score("full", 500, (42.0, 42.0))]
    text = _plain(write(sets=[small("random", learned=False), small("cf")], scores=scores))
    assert "6 pairs, 6.0 kB, keep 50 % of what 500 pairs teach" in text
    assert "Made by cf. A model that learns from them alone reaches 21.0 \u00b1 1.4 (mean)" in text
    assert "from as many random pairs 6.0 \u00b1 1.4, from all the real ones 42.0 \u00b1 0.0." in text


def test_first_sentence_says_what_as_many_bytes_teach(write, small, score):
    """By the bytes of files: the best set of more pairs and no more bytes, of another method."""
    rows = [
        ("random", 6, 2000, 6.0),
        ("herding", 17, 6050, 15.0),
        ("random", 18, 5900, 9.0),
        ("random", 40, 9000, 30.0),
    ]
    scores = [score(name, pairs, (mean, mean), bytes=size) for name, pairs, size, mean in rows]
    scores += [score("cf", 6, (20.0, 22.0), bytes=6000), score("full", 500, (42.0, 42.0))]
    text = _plain(write(sets=[small("cf")], scores=scores))
    assert (
        "from as many random pairs 6.0 \u00b1 0.0, from 17 pairs of herding in as many bytes 15.0 \u00b1 0.0, from all"
        in text
    )


def test_first_sentence_is_about_what_is_shown(write, small, score):
    scores = [score("cf", 6, (20.0,)), score("cf", 900, (30.0,)), score("full", 5000, (40.0,))]
    assert "6 pairs, 6.0 kB, keep 50 %" in _plain(write(sets=[small("cf")], scores=scores))
    assert "900 pairs, 900 kB, keep 75 %" in _plain(write(scores=scores))


@pytest.mark.slow
def test_encoders_that_took_no_part_lead_the_page(write, small, score):
    there = {"encoder": "b<i>", "home": "0123456789abcdef", "fingerprint": "unseen"}
    means = {"random": (6, 5.0, 4.0), "cf": (6, 20.0, 12.0), "full": (500, 40.0, 48.0)}
    scores = [
        made
        for name, (pairs, home, unseen) in means.items()
        for made in (score(name, pairs, (home,), encoder="a"), score(name, pairs, (unseen,), **there))
    ]
    html = write(sets=[small("cf")], scores=scores)
    text = _cells(html)
    assert (
        "reaches 20.0 (mean)" in text
        and "With b&lt;i&gt;, which took no part in making them, it reaches 12.0, 25 % of what" in text
    )
    assert "Set Pairs Size home: a of full unseen: b&lt;i&gt; of full" in text
    assert "cf-6 6 6.0 kB 20.0 50 % 12.0 25 % full-500 500 500 kB 40.0 100 % 48.0 100 %" in text
    assert html.count('<figure class="plot"') == 2 and "<i>" not in html.replace("<i aria", "")
    assert "All numbers of home: a" in text and "All numbers of unseen: b&lt;i&gt;" in text
    marked = [replace(s, took_part=bool(s.home) and s.method == "cf") for s in scores]
    text = _cells(write(sets=[small("cf")], scores=marked))
    assert "cf-6 6 6.0 kB 20.0 50 % 12.0 took part" in text and "which took no part in making them, it" not in text


def test_captions_names_and_labels_are_escaped(write, small, score, history):
    evil = "<script>alert(1)</script>\"'&"
    given = small(
        captions=[(evil,)] * 6,
        neighbours=[[(evil, 0.5)]] * 6,
        origins=[evil] * 6,
        name=evil,
        licence=evil,
        classes=(evil,),
    )
    html = write(
        sets=[given], scores=[score("cf", 6, (1.0,), name=evil, protocol=evil)], history={evil: history}, title=evil
    )
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 12


def test_the_file_needs_nothing_else(write, small, score, source, history):
    html = write(sets=[small()], scores=[score("cf", 6, (1.0,))], history={"run": history}, source=source)
    assert "default-src 'none'" in html
    for address in re.findall(r"""(?:src|href)=["']([^"']*)""", html):
        assert address.startswith(("data:image/", "#"))
    assert not re.findall(r"https?://|@import|<link|<script|url\((?!#)", html)


def test_two_builds_are_the_same_bytes(write, small, score, source, history):
    given = {"sets": [small()], "scores": [score("cf", 6, (1.0, 2.0))], "history": {"run": history}, "source": source}
    assert write(**given) == write(**given)


@pytest.mark.parametrize("missing", ["image", "text"])
def test_a_set_without_a_modality(write, small, source, missing):
    html = write(sets=[small(**{missing: False})], source=source)
    assert ('class="main"' in html) == ('class="sheet"' in html) == (missing != "image")
    assert html.count('class="captions"') == 6


def test_pieces_that_are_not_given_are_left_out(write, small, score, history):
    assert "How good it is</h2>" not in write(sets=[small()])
    assert "What is inside" not in write(scores=[score("cf", 6, (1.0,))])
    assert "What the run logged" in write(history={"run": history})


def test_gallery_tells_the_real_images_beside_the_learned_ones(small, source):
    shown = cards(small("cf"), source, max_pairs=4, sets=1)
    assert [card.key for card in shown] == ["s00000", "s00001", "s00002", "s00003"]
    assert shown[1].captions == [(source.captions[1][0], 0.875)]
    assert (shown[1].origin, shown[1].nearest) == (source.keys[1], (source.keys[2], 0.51))
    assert shown[1].start and shown[1].neighbour and shown[1].start.uri != shown[1].neighbour.uri
    assert not any(card.unchanged for card in shown)
    assert all(card.unchanged for card in cards(small("random", learned=False), source, max_pairs=4, sets=1))


def test_pictures_are_the_exact_pixels_while_the_page_is_small(small):
    given = small("cf")
    picture = cards(given, None, max_pairs=6, sets=1)[3].picture
    image = Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2])))
    pixels = torch.tensor(list(image.convert("RGB").tobytes())).view(16, 16, 3).permute(2, 0, 1)
    assert torch.equal(pixels.byte(), given.tensors["image"][3])


def test_a_source_that_lacks_the_origins_leaves_their_names(write, small):
    html = write(sets=[small(origins=["gone"] * 6, nearest=())], source=toy_source(4))
    assert html.count("gone</span>") == 6 and 'class="thumb"' not in html


def test_contact_sheet_holds_every_image_up_to_its_limit(small):
    sheet, shown = contact_sheet(small(pairs=10))
    assert (shown, sheet.width, sheet.height) == (10, 4 * 48, 3 * 48)


@pytest.mark.slow
def test_noise_stays_small(write, small):
    noise = torch.randint(0, 256, (100, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    given = small(tensors={"image": noise}, origins=["x"] * 100, captions=[("c",)] * 100, neighbours=(), nearest=())
    assert len(write(sets=[given], max_pairs=100)) < 3_000_000
    assert 3 * sum(len(card.picture.uri) for card in cards(given, None, max_pairs=100, sets=3)) < 2_500_000


def test_sets_of_one_method_get_tabs_that_differ(write, small):
    html = write(sets=[small("cf", 4), small("cf", 6), small("random", 4)])
    assert re.findall(r'<label for="tab\d">([^<]*)', html) == ["cf, 4 pairs", "cf, 6 pairs", "random"]


def test_one_seed_has_no_spread(write, score):
    html = write(scores=[score("cf", 6, (1.5,))])
    assert "One seed, so no spread." in html and "&plusmn;" not in html and "\u00b1" not in html


def test_what_was_skipped_is_counted_and_named(write, small):
    class Skipping(type(toy_source())):
        skipped = ({"key": "a<b.png", "reason": "truncated image", "where": "images"},)

    html = write(sets=[small()], source=Skipping(24, "train", ("image", "text"), 16))
    assert "1 file or line of the source could not be used" in html
    assert "a&lt;b.png" in html and "truncated image" in html


def test_wrong_calls_say_what_to_do(tmp_path, small):
    with pytest.raises(ConfigError, match="give sets, scores or history"):
        page(tmp_path / "x.html")
    with pytest.raises(ConfigError, match="max_pairs must be at least 1, got 0"):
        page(tmp_path / "x.html", sets=[small()], max_pairs=0)
    with pytest.raises(StorageError, match=r"is a folder; give the name of a file"):
        page(tmp_path, sets=[small()])
    assert list(tmp_path.iterdir()) == []
