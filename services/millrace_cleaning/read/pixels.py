"""What an image's header says, read from its first bytes: the format, and how many pixels decoding would make."""

from __future__ import annotations

import struct

HEAD_BYTES = 2**20
"""As much is looked at; a JPEG's frame may stand behind large metadata."""

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def image_size(head: bytes) -> tuple[int, int] | None:
    """(width, height) in pixels; None if the bytes begin no image that Millrace reads."""
    try:
        if head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR":
            return _pair(">II", head, 16)
        if head.startswith((b"GIF87a", b"GIF89a")):
            return _pair("<HH", head, 6)
        if head.startswith(b"BM"):
            width, height = _pair("<ii", head, 18)
            return width, abs(height)
        if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
            return _webp(head)
        if head.startswith(b"\xff\xd8\xff"):
            return _jpeg(head)
        if head.startswith((b"II*\0", b"MM\0*")):
            return _tiff(head)
    except struct.error:
        return None
    return None


def is_audio(head: bytes) -> bool:
    """Whether bytes begin WAV, FLAC, Ogg or MP3."""
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WAVE"
    is_frame = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    return head.startswith((b"fLaC", b"OggS", b"ID3")) or is_frame


def _pair(form: str, head: bytes, at: int) -> tuple[int, int]:
    first, second = struct.unpack_from(form, head, at)
    return int(first), int(second)


def _webp(head: bytes) -> tuple[int, int] | None:
    kind = head[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = _pair("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 < len(head):
        if head[at] != 0xFF:
            return None
        marker = head[at + 1]
        if marker in _FRAMES:
            height, width = _pair(">HH", head, at + 5)
            return width, height
        is_filler = marker == 0xFF
        at += 1 if is_filler else 2 + max(2, struct.unpack_from(">H", head, at + 2)[0])
    return None


def _tiff(head: bytes) -> tuple[int, int] | None:
    order = "<" if head.startswith(b"II") else ">"
    (start,) = struct.unpack_from(order + "I", head, 4)
    (num_tags,) = struct.unpack_from(order + "H", head, start)
    found: dict[int, int] = {}
    for i in range(num_tags):
        at = start + 2 + 12 * i
        tag, kind = struct.unpack_from(order + "HH", head, at)
        if tag in (256, 257):  # the first page's ImageWidth and ImageLength, short or long
            found[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), head, at + 8)[0]
    return (found[256], found[257]) if len(found) == 2 else None
