"""What PNG and JPEG bytes hold besides pixels, found without decoding any: text and profiles to leave out, scans to count."""

import struct
import zlib
from collections.abc import Iterator

__all__ = ["in_one_scan", "without_text"]

PNG = b"\x89PNG\r\n\x1a\n"
TEXT = (b"tEXt", b"zTXt", b"iTXt")
TURNS = (b"XML:com.adobe.xmp", b"Raw profile type exif")  # the texts that may say how an image is turned
LONGEST_TEXT = 1_000_000  # bytes, unpacked; Pillow's own limit is a little above it
FRAMES = {0xC0 + i for i in range(16)} - {0xC4, 0xC8, 0xCC}  # markers of JPEG that tell how many components there are


def without_text(data: bytes) -> bytes:
    """A PNG without its colour profile and texts, which change no pixel and may be as large as they like; other bytes as they are.

    The texts that may say how the image is turned stay, the first of each kind, if they are not long.

    Args:
        data: the bytes of a file.

    Example:
        >>> import io; from PIL import Image; from PIL.PngImagePlugin import PngInfo
        >>> info = PngInfo(); info.add_text("prompt", "a cat"); buffer = io.BytesIO()
        >>> Image.new("L", (2, 2)).save(buffer, "png", pnginfo=info)
        >>> b"prompt" in buffer.getvalue(), b"prompt" in without_text(buffer.getvalue())
        (True, False)
    """
    if not data.startswith(PNG):
        return data
    kept, begin, at, known = [], 0, len(PNG), set()
    for start, stop, kind in _chunks(data):
        at = stop
        if kind in TEXT:
            keyword, _, text = data[start + 8 : stop - 4].partition(b"\0")
            if keyword in TURNS and keyword not in known and _length(kind, text) <= LONGEST_TEXT:
                known.add(keyword)
                continue
        elif kind != b"iCCP":
            continue
        kept.append(data[begin:start])
        begin = at
    return b"".join([*kept, data[begin:]]) if kept else data


def _chunks(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Where each chunk of a PNG begins and ends, and its kind; those behind a broken one are not told."""
    at = len(PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        stop = at + 12 + length
        if stop > len(data):
            return
        yield at, stop, kind
        at = stop


def _length(kind: bytes, text: bytes) -> int:
    """Bytes of a text behind its keyword, unpacked as far as it may be long."""
    if kind == b"iTXt":
        packed, text = text[:1] != b"\0", text[2:].partition(b"\0")[2].partition(b"\0")[2]
    else:
        packed, text = kind == b"zTXt", text[kind == b"zTXt" :]
    if not packed:
        return len(text)
    try:
        return len(zlib.decompressobj().decompress(text, LONGEST_TEXT + 1))
    except zlib.error:
        return LONGEST_TEXT + 1


def in_one_scan(data: bytes) -> bool:
    """Whether a JPEG holds all its components in one scan, so that a decoder keeps a few lines at a time, not the whole.

    Args:
        data: the bytes of a file; `False` where they are no JPEG, or a damaged one.
    """
    at, components = 2, 0
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a byte that fills
            at += 1
            continue
        if marker == 0xDA:
            return at + 4 < len(data) and data[at + 4] == components
        if marker in FRAMES and at + 9 < len(data):
            components = data[at + 9]
            if marker not in (0xC0, 0xC1):  # progressive, lossless, hierarchical
                return False
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False
