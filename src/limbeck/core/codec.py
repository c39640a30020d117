"""`Storage`: in which bytes images and vectors are stored; and the way there and back."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from limbeck.constraints import Interval, OnlyIf, validate
from limbeck.data.decode import decode_image, lacking_formats, opened_image, whole_image
from limbeck.data.parse import Unreadable
from limbeck.errors import ConfigError

__all__ = [
    "Files",
    "Packed",
    "Storage",
    "decoded",
    "exact_bytes",
    "exact_files",
    "lowered",
    "pack",
    "png",
    "preview",
    "stored_files",
    "unpack",
    "vector_bytes",
]

Codec = Literal["auto", "png", "jpeg", "webp", "avif"]
Vectors = Literal["float32", "float16", "int8", "int4"]
EXACT = ("auto", "png")  # codecs that change no pixel
FORMATS = {"image": ("PNG", "JPEG", "WEBP", "AVIF"), "mask": ("PNG",)}  # that a set holds
LEVELS = {"int8": 127, "int4": 7}  # the largest code
HALF = 2  # times as large as the file of a sample must a PNG be, so that no other codec is tried
QUALITY = 75
PREVIEW = 64  # pixels of a side of a small picture


@dataclass(frozen=True)
class Storage:
    """In which bytes a set is stored. What a student learns from is always decoded from them.

    Args:
        codec: of images: auto keeps the file of an image that is unchanged, and stores others exactly, in the smaller of PNG and
            lossless WebP; png; or jpeg, webp or avif, which lose details, and keep the file of an image where it is smaller.
        quality: of jpeg, webp and avif, from 1 to 100.
        side: pixels a side of the stored images, 0 for the resolution of the data; a student sees them at that resolution.
        vectors: numbers of texts that are vectors: float32, float16, or int8 and int4 with a scale a vector.

    Masks, sound and depth are always exact.

    Raises:
        ConfigError: an unknown codec, one that Pillow lacks, a quality that is out of range or unused, a negative side.

    Example:
        >>> Storage("jpeg", quality=20, vectors="int8").lossy
        True
    """

    codec: Codec = "auto"
    quality: Annotated[
        int,
        Interval(ge=1, le=100),
        OnlyIf(lambda o: o.lossy, "the codec is exact (`codec={o.codec}`)", "set `codec` to jpeg, webp or avif"),
    ] = QUALITY
    side: Annotated[int, Interval(ge=0, le=16_383)] = 0
    vectors: Vectors = "float32"

    def __post_init__(self) -> None:
        validate(self, "storage")
        if self.codec in ("webp", "avif", "jpeg") and not _is_there(self.codec):
            raise ConfigError(
                f"the Pillow of this machine writes no {self.codec}; choose another codec, or upgrade Pillow"
            )

    @property
    def lossy(self) -> bool:
        """Whether images lose details."""
        return self.codec not in EXACT


@dataclass(frozen=True, eq=False)
class Files:
    """Images or masks as they are stored.

    Args:
        values: `uint8 [M, C, H, W]`, decoded from the files.
        files: the encoded bytes of each.
        exact: whether each file is nothing but its row of `values`, so that any decoder gives the same.
    """

    values: Tensor
    files: tuple[bytes, ...]
    exact: bool = True

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files))


@dataclass(frozen=True, eq=False)
class Packed:
    """Vectors as they are stored.

    Args:
        values: `float32 [M, ..., D]`, what the codes stand for.
        kind: of numbers, see `Storage.vectors`.
        parts: suffix to tensor: `""` the codes and, of whole numbers, `".scale"` that of each vector.
    """

    values: Tensor
    kind: str
    parts: Mapping[str, Tensor]


def pack(values: Tensor, kind: str) -> Packed:
    """Vectors in fewer bytes.

        code = round(x / scale),   scale = max |x_d| / largest    with largest = 127 (int8) or 7 (int4), a scale for each vector

    Args:
        values: `float32 [..., D]`.
        kind: see `Storage.vectors`.

    Example:
        >>> pack(torch.tensor([[7.0, -3.4, 1.8]]), "int4").values.tolist()
        [[7.0, -3.0, 2.0]]
    """
    values = values.detach().float().cpu().contiguous()
    if kind == "float32":
        return Packed(values, kind, {"": values})
    if kind == "float16":
        parts = {"": values.clamp(-65504, 65504).half()}
    else:
        scale = values.abs().amax(dim=-1, keepdim=True) / LEVELS[kind]
        codes = (values / scale.clamp(min=torch.finfo(torch.float32).tiny)).round().to(torch.int8)
        parts = {"": codes if kind == "int8" else _nibbles(codes), ".scale": scale}
    return unpack(parts, kind, values.shape[-1])


def unpack(parts: Mapping[str, Tensor], kind: str, width: int) -> Packed:
    """The vectors that codes stand for.

    Args:
        parts: see `Packed`.
        kind: see `Storage.vectors`.
        width: D.

    Raises:
        ValueError: the codes or scales are not those of such vectors.
    """
    codes, scale = parts[""], parts.get(".scale")
    wanted = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8, "int4": torch.uint8}[kind]
    columns = (width + 1) // 2 if kind == "int4" else width
    if codes.dtype != wanted or codes.ndim < 2 or codes.shape[-1] != columns:
        raise ValueError(
            f"codes of {kind} have type {codes.dtype} and shape {list(codes.shape)}, not {wanted} and [..., {columns}]"
        )
    if (scale is not None) != (kind in LEVELS):
        raise ValueError(f"vectors of {kind} have {'no' if scale is None else 'a'} scale")
    if scale is None:
        return Packed(codes.float(), kind, dict(parts))
    if scale.dtype != torch.float32 or scale.shape != (*codes.shape[:-1], 1):
        raise ValueError(f"the scales have type {scale.dtype} and shape {list(scale.shape)}, not one number a vector")
    if kind == "int4":
        codes = torch.stack([codes & 15, codes >> 4], dim=-1).flatten(-2)[..., :width].to(torch.int8) - 8
    return Packed(codes.float() * scale, kind, dict(parts))


def vector_bytes(kind: str, width: int) -> float:
    """Bytes of one stored vector of `width` numbers.

    Example:
        >>> vector_bytes("int4", 384)
        196.0
    """
    return {"float32": 4.0, "float16": 2.0, "int8": 1.0, "int4": 0.5}[kind] * width + 4 * (kind in LEVELS)


def _nibbles(codes: Tensor) -> Tensor:
    """Codes from -8 to 7, two a byte, the first in the low half."""
    codes = torch.nn.functional.pad(codes, (0, codes.shape[-1] % 2)).add(8).to(torch.uint8)
    return codes[..., ::2] | codes[..., 1::2] << 4


def exact_files(pixels: Tensor) -> Files:
    """Images or masks as PNG files that are nothing but their pixels.

    Args:
        pixels: `uint8 [M, C, H, W]`, C of 3 or 1.

    Example:
        >>> [file[1:4] for file in exact_files(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).files]
        [b'PNG', b'PNG']
    """
    return Files(pixels, tuple(map(png, pixels)))


def png(pixels: Tensor) -> bytes:
    """PNG bytes of one image `[3, H, W]` or mask `[1, H, W]`; `uint8`, or floats in [0, 1] that are rounded."""
    whole = pixels if pixels.dtype == torch.uint8 else pixels.detach().clamp(0, 1).mul(255).round().byte().cpu()
    return _encoded(_picture(whole), "png", optimize=True)


def stored_files(pixels: Tensor, storage: Storage, own: Sequence[bytes | None] = ()) -> Files:
    """Images as a set stores them, and what a student sees of them.

    Args:
        pixels: `uint8 [M, 3, H, W]`, what a student should see.
        storage: how.
        own: of images that are real and unchanged their files, or `None`; empty where none is.
    """
    files, values, exact = [], [], True
    height, width = pixels.shape[-2:]
    for i, x in enumerate(pixels):
        file = _best(x, storage, own[i] if own else None)
        plain = not storage.lossy and _is_plain(file, x)
        exact &= plain
        files.append(file)
        values.append(x if plain else decoded(file, height, width))
    return Files(torch.stack(values), tuple(files), exact)


def _best(pixels: Tensor, storage: Storage, own: bytes | None) -> bytes:
    """The bytes of one image."""
    height, width = pixels.shape[-2:]
    own = None if own is None or storage.codec == "png" or not _sees(own, pixels) else own
    picture = _picture(pixels)
    side = storage.side if own is not None else min(storage.side, height)  # nothing is gained by enlarging
    if side and height == width != side:
        picture = _fitted(own, side) if own is not None else picture.resize((side, side), 3)
    if storage.lossy:
        made = _encoded(picture, storage.codec, quality=storage.quality)
    elif own is not None and HALF * len(own) <= len(_encoded(picture, "png")):
        made = own
    else:
        made = _smallest(picture, storage.codec)
    return own if own is not None and len(own) <= len(made) else made


def _fitted(file: bytes, side: int) -> Any:
    from PIL import Image

    return Image.fromarray(decode_image(file, side).transpose(1, 2, 0))


def _sees(file: bytes, pixels: Tensor) -> bool:
    """Whether a file is of a format that sets hold, and a student sees these pixels of it."""
    try:
        check_format(file, "image")
        return torch.equal(decoded(file, *pixels.shape[-2:]), pixels)
    except Unreadable:
        return False


def _is_plain(file: bytes, pixels: Tensor) -> bool:
    """Whether a file of a lossless codec holds these pixels as they are, without any resizing or transparency."""
    with opened_image(file, "not an image") as image:
        lossless = image.format == "PNG" or file[12:16] == b"VP8L"
        return lossless and image.mode == "RGB" and image.size == (pixels.shape[-1], pixels.shape[-2])


def check_format(file: bytes, modality: str) -> tuple[int, int]:
    """Width and height of a file, once its format is one that a set may hold.

    Raises:
        Unreadable: the format is another, or the file is none.
    """
    formats = tuple(name for name in FORMATS[modality] if name not in lacking_formats())
    with opened_image(file, f"not {' or '.join(formats)}", formats) as image:
        size: tuple[int, int] = image.size
        return size


def decoded(file: bytes, height: int, width: int, modality: str = "image", exact: bool = False) -> Tensor:
    """What a student sees of a stored image or mask, `uint8 [C, height, width]`.

    Args:
        file: encoded bytes.
        height, width: of what is seen; an image of another size is fitted and cropped to a square as those of data are.
        modality: image or mask; a mask is grey, and as large as it is seen.
        exact: whether an image must be as large as it is seen, too.

    Raises:
        Unreadable: another format or size, or bytes that are damaged.
    """
    size = check_format(file, modality)
    if (modality == "mask" or exact or height != width) and size != (width, height):
        raise Unreadable(f"{size[0]}x{size[1]} pixels in the place of {width}x{height}")
    if modality == "mask":
        with opened_image(file, "not a mask", FORMATS["mask"]) as image:
            image.load()
            if image.mode != "L":
                raise Unreadable(f"a mask of the mode {image.mode}, not grey")
            return torch.from_numpy(np.array(image))[None]
    if height == width:
        return torch.from_numpy(decode_image(file, height))
    return torch.from_numpy(np.array(whole_image(file)).transpose(2, 0, 1).copy())


def exact_bytes(channels: int, height: int, width: int) -> int:
    """The most bytes that the file of an image takes which is stored exactly, as of noise."""
    raw = height * (channels * width + 1)
    return raw + raw // 1000 + 150


def preview(picture: Any) -> bytes:
    """A picture for people to look at, in few bytes."""
    picture.thumbnail((PREVIEW, PREVIEW))
    return _encoded(picture, "jpeg", quality=30)


def lowered(storage: Storage, fits: Callable[[Storage], bool]) -> Storage | None:
    """The same storage with the highest quality at which images fit; `None` where there is none.

    Args:
        storage: of a lossy codec.
        fits: whether images fit.
    """
    low, high = 0, storage.quality
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(replace(storage, quality=middle)) else (low, middle)
    return replace(storage, quality=low) if low else None


def _picture(pixels: Tensor) -> Any:
    from PIL import Image

    rows = pixels.permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(rows[..., 0] if rows.shape[-1] == 1 else rows)


def _smallest(picture: Any, codec: str) -> bytes:
    """PNG, or of `auto` lossless WebP where that is smaller."""
    made = _encoded(picture, "png", optimize=True)
    if codec == "auto" and picture.mode == "RGB" and _is_there("webp"):
        made = min(made, _encoded(picture, "webp", lossless=True, quality=80, method=4), key=len)
    return made


OPTIONS: Mapping[str, Mapping[str, Any]] = {"jpeg": {"optimize": True}, "webp": {"method": 4}}


def _encoded(picture: Any, codec: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=codec, **{**OPTIONS.get(codec, {}), **options})
    return buffer.getvalue()


def _is_there(codec: str) -> bool:
    from PIL import features

    return bool(features.check({"jpeg": "jpg"}.get(codec, codec)))
