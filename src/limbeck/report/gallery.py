"""The synthetic pairs as cards: what each one is, where it started, and the real sample nearest to it."""

import base64
import io
import math
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from limbeck.core.distilled import DistilledSet
from limbeck.data.modality import Modality
from limbeck.data.source import Source
from limbeck.report.mask_outline import Outline, outline

__all__ = ["Card", "Picture", "began", "cards", "contact_sheet", "thumbnail"]

LOSSLESS = 1_500_000  # bytes of pixels a page may carry unaltered; above it pictures are compressed with loss
LARGEST = 128  # pixels a side of a picture in the gallery
THUMBNAIL = 64  # pixels a side of a real image beside it, and in lists
SHEET = 400  # images on the contact sheet


@dataclass(frozen=True)
class Picture:
    """An image inside the page: a data URI, its width and height in pixels, and what it shows."""

    uri: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True)
class Card:
    """One synthetic sample.

    Args:
        key: its name in the set.
        picture: its image.
        captions: its captions, each with its cosine similarity where it is the nearest real one to a learned text.
        label: the name of its class.
        origin, start: the key and the image of the real sample it started from.
        unchanged: whether its image is still exactly that of the sample it started from.
        nearest, neighbour: the key, the cosine similarity and the image of the real image nearest to it.
        others: pictures of its sound and its depth, where it has them.
        sound: its sound as a data URI, where it can be heard.
        outline: the edge of its mask, where it has one that is not the whole image.
        began: what that real sample is to it.
        moved: the cosine of its learned vector with its own real one, of a text with the mean of its captions.
    """

    key: str
    picture: Picture | None
    captions: Sequence[tuple[str, float | None]]
    label: str | None
    origin: str
    start: Picture | None
    unchanged: bool
    nearest: tuple[str, float] | None
    neighbour: Picture | None
    others: Sequence[Picture] = ()
    sound: str = ""
    outline: Outline | None = None
    began: str = "started as"
    moved: float | None = None


def cards(small: DistilledSet, source: Source | None, *, max_pairs: int, sets: int) -> list[Card]:
    """A card for each of the first `max_pairs` samples.

    Args:
        small: the set.
        source: the real data it came from, for the images where samples started.
        max_pairs: the most cards.
        sets: how many sets share the page, so that the page stays small.
    """
    shown = range(min(len(small), max_pairs))
    images = small.tensors.get("image")
    lossless = images is not None and images[0].numel() * len(shown) * sets <= LOSSLESS
    wanted = [small.origins[i] for i in shown] + [small.nearest[i][0] for i in shown if small.nearest]
    real = _real_images(source, wanted)
    masks = small.batch(shown)["mask"] if images is not None and "mask" in small.tensors else None
    thumbnails = {key: _picture(image, f"the real image {key}", THUMBNAIL) for key, image in real.items()}
    result = []
    for i in shown:
        origin, nearest = small.origins[i], small.nearest[i] if small.nearest else None
        captions = _captions(small, i)
        alt = f"synthetic image {small.keys[i]}" + (f": {captions[0][0]}" if captions else "")
        edge = None if masks is None else outline(masks[i])
        alt += f" (its mask covers {100 * masks[i].mean():.0f} %)" if masks is not None and edge else ""
        result.append(
            Card(
                key=small.keys[i],
                picture=None if images is None else _picture(images[i], alt, LARGEST, lossless=lossless),
                captions=captions,
                label=_label(small, i),
                origin=origin,
                start=thumbnails.get(origin),
                unchanged=images is not None and origin in real and _same(images[i], real[origin]),
                nearest=nearest,
                neighbour=None if nearest is None else thumbnails.get(nearest[0]),
                others=_others(small, i),
                sound=_sound(small, i),
                outline=edge,
                began=began(small),
                moved=small.moved[i] if small.moved else None,
            )
        )
    return result


def began(small: DistilledSet) -> str:
    """What a sample's origin is to it: what it started as, or, of a generated one, the sample whose caption was its prompt."""
    return "prompt of" if small.generation else "started as"


def contact_sheet(small: DistilledSet) -> tuple[Picture, int] | None:
    """All images of the set on one picture, and how many there are on it; `None` where it has no images."""
    from PIL import Image

    images = small.tensors.get("image")
    if images is None:
        return None
    shown = min(len(images), SHEET)
    columns = math.ceil(math.sqrt(shown))
    cell = max(24, min(48, 640 // columns))
    sheet = Image.new("RGBA", (columns * cell, math.ceil(shown / columns) * cell))
    for i in range(shown):
        image = _preview(images[i]).resize((cell, cell), Image.Resampling.LANCZOS)
        sheet.paste(image, (i % columns * cell, i // columns * cell))
    return _encode(sheet, f"{shown} synthetic images side by side", lossless=False), shown


def thumbnail(small: DistilledSet, i: int) -> Picture | None:
    """The image of sample `i`, small; `None` where the set has no images."""
    images = small.tensors.get("image")
    return None if images is None else _picture(images[i], f"synthetic image {small.keys[i]}", THUMBNAIL)


def _real_images(source: Source | None, keys: Sequence[str]) -> Mapping[str, Tensor]:
    """Key to image `[C, H, W]`, for the keys that the source holds."""
    if source is None or "image" not in source.modalities:
        return {}
    wanted = set(keys)
    rows = {key: i for i, key in enumerate(source.keys) if key in wanted}
    return dict(zip(rows, source.batch(list(rows.values()))["image"], strict=True)) if rows else {}


def _captions(small: DistilledSet, i: int) -> list[tuple[str, float | None]]:
    if "text" in small.tensors and small.neighbours:
        return list(small.neighbours[i])
    return [(text, None) for text in small.captions[i]]


def _others(small: DistilledSet, i: int) -> list[Picture]:
    """Sound and depth of sample `i` as a person looks at them."""
    pictures = []
    for modality in (m for m in ("audio", "depth") if m in small.tensors and m not in small.embeddings):
        preview = small.modalities[modality].preview(small.tensors[modality][i])
        preview.thumbnail((LARGEST, LARGEST))
        pictures.append(_encode(preview, f"synthetic {modality} {small.keys[i]}", lossless=False))
    return pictures


def _sound(small: DistilledSet, i: int) -> str:
    """The sound of sample `i` as a WAV file of 16 bits in a data URI; empty where there is none to hear."""
    modality = small.modalities.get("audio")
    held = "audio" in small.tensors and "audio" not in small.embeddings
    waves = modality.sound(small.tensors["audio"][i]) if modality and held else None
    if waves is None or modality is None:
        return ""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(modality.rate)
        file.writeframes(waves.mul(32767).round().short().numpy().astype("<i2").tobytes())
    return f"data:audio/wav;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _label(small: DistilledSet, i: int) -> str | None:
    if small.labels is None or int(small.labels[i]) < 0:
        return None
    if small.soft_labels is not None:  # the classes that make up nearly all of it
        share, order = small.soft_labels[i].sort(descending=True, stable=True)
        shown = [
            (small.classes[c], s) for c, s in zip(order.tolist()[:3], share.tolist()[:3], strict=True) if s >= 0.005
        ]
        return ", ".join(f"{name} {100 * s:.0f} %" for name, s in shown)
    label = int(small.labels[i])
    return small.classes[label] if label < len(small.classes) else str(label)


def _same(image: Tensor, real: Tensor) -> bool:
    if image.shape != real.shape:
        return False
    pixels = image if image.dtype.is_floating_point else image.float() / 255
    return bool((pixels - real).abs().max() < 1 / 255)


def _preview(image: Tensor) -> Any:
    value = image if image.dtype.is_floating_point else image.float() / 255
    return Modality("image", tuple(image.shape)).preview(value)


def _picture(image: Tensor, alt: str, largest: int, *, lossless: bool = False) -> Picture:
    preview = _preview(image)
    preview.thumbnail((largest, largest))
    return _encode(preview, alt, lossless=lossless)


def _encode(image: Any, alt: str, *, lossless: bool) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, format="webp", lossless=lossless, quality=80, method=4)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"data:image/webp;base64,{data}", image.width, image.height, alt)
