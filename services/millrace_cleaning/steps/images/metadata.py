"""Cutting metadata out of JPEG, PNG and WebP files without touching the picture's own bytes.

Sources:
    JPEG: ITU-T T.81, annex B. PNG: third edition, section 11. WebP: RFC 9649, section 2.
"""

from __future__ import annotations

import re

_END_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # within a scan FF 00 is a byte FF, and FF D0 to D7 restart
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = {
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD", b"pHYs", b"cICP",
    b"acTL", b"fcTL", b"fdAT",
}  # fmt: skip
_WEBP_KEPT = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF"}
_ICC, _EXIF, _XMP = 0x20, 0x08, 0x04  # flags in VP8X


class Malformed(ValueError):
    """A file's parts are not where its format says; it may still decode."""


def strip(data: bytes, format_: str, *, keep_icc: bool) -> bytes:
    """Return the file without EXIF, XMP, IPTC, comments and whatever stands behind its end.

    Raises:
        Malformed: The parts cannot be told apart, or the format is none of the three.
    """
    if format_ == "jpeg":
        return _strip_jpeg(data, keep_icc=keep_icc)
    if format_ == "png":
        return _strip_png(data, keep_icc=keep_icc)
    if format_ == "webp":
        return _strip_webp(data, keep_icc=keep_icc)
    raise Malformed(f"no way is known to cut metadata out of {format_}")


def _strip_jpeg(data: bytes, *, keep_icc: bool) -> bytes:
    kept, at = [data[:2]], 2
    while True:
        while data[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        marker = data[at + 1] if at + 1 < len(data) and data[at] == 0xFF else -1
        if marker == 0xD9:  # what follows the end may be a second picture with its own EXIF
            return b"".join([*kept, b"\xff\xd9"])
        size = int.from_bytes(data[at + 2 : at + 4])
        if marker < 0xC0 or size < 2 or at + 2 + size > len(data):
            raise Malformed("a JPEG segment is broken")
        end = at + 2 + size
        if marker == 0xDA:
            scan = _END_OF_SCAN.search(data, end)
            if scan is None:
                raise Malformed("a JPEG scan has no end")
            end = scan.start()
        if _is_jpeg_kept(marker, data[at + 4 : at + 18], keep_icc=keep_icc):
            kept.append(_without_thumbnail(data[at:end]) if marker == 0xE0 else data[at:end])
        at = end


def _without_thumbnail(segment: bytes) -> bytes:
    """A JFIF header can carry a small picture of what this one was before it was cropped."""
    if len(segment) < 18:
        raise Malformed("a JFIF header is broken")
    return segment[:2] + (16).to_bytes(2) + segment[4:16] + b"\x00\x00"


def _is_jpeg_kept(marker: int, start: bytes, *, keep_icc: bool) -> bool:
    """Of application segments only JFIF (not its extension, a thumbnail), Adobe's colour transform, perhaps ICC."""
    if marker == 0xE2:
        return keep_icc and start.startswith(b"ICC_PROFILE\x00")
    if marker == 0xE0:
        return start.startswith(b"JFIF\x00")
    if marker == 0xEE:
        return start.startswith(b"Adobe")
    return not (0xE0 <= marker <= 0xEF or marker == 0xFE)


def _strip_png(data: bytes, *, keep_icc: bool) -> bytes:
    kept, at = [data[:8]], 8
    if data[:8] != _PNG_START:
        raise Malformed("no PNG")
    while at + 12 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        end = at + 12 + size
        if end > len(data):
            break
        if kind in _PNG_KEPT or (keep_icc and kind == b"iCCP"):
            kept.append(data[at:end])
        if kind == b"IEND":
            return b"".join(kept)
        at = end
    raise Malformed("a PNG chunk is broken")


def _strip_webp(data: bytes, *, keep_icc: bool) -> bytes:
    kept: list[bytes] = []
    at, end = 12, 8 + int.from_bytes(data[4:8], "little")
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or end > len(data):
        raise Malformed("no WebP")
    while at + 8 <= end:
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        behind = at + 8 + size + size % 2
        if at + 8 + size > end:
            raise Malformed("a WebP chunk is broken")
        chunk = data[at:behind]
        if kind == b"VP8X" and size >= 10:
            flags = chunk[8] & ~(_EXIF | _XMP | (0 if keep_icc else _ICC))
            chunk = chunk[:8] + bytes([flags]) + chunk[9:]
        if kind in _WEBP_KEPT or (keep_icc and kind == b"ICCP"):
            kept.append(chunk)
        at = behind
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + len(body).to_bytes(4, "little") + body
