"""Opening images that nobody vouches for: known formats alone, bounded before a pixel is decoded, faults as values."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

# No others: among Pillow's formats are some that start a program (EPS) or follow a path that the file names.
_FORMATS = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff",
            "AVIF": "avif"}  # fmt: skip
_PLUGINS = [name for name in _FORMATS if name != "MPO"]  # a JPEG of several pictures comes by the JPEG plug-in


@dataclass(frozen=True, slots=True)
class Fault:
    """Why bytes are not decoded.

    Attributes:
        rule: undecodable, or pixels.
        value, limit: Of pixels.
        detail: In our words: a decoder's own can hold memory addresses.
    """

    rule: str
    value: float = float("nan")
    limit: float | None = None
    detail: str = ""


def open_image(data: bytes, *, max_pixels: int) -> Image.Image | Fault:
    """Read an image's header. Nothing is decoded yet; bytes of any kind are answered, never raised about."""
    try:
        image = Image.open(io.BytesIO(data), formats=_PLUGINS)
    except Image.DecompressionBombError:  # more than twice Pillow's own bound
        return Fault("pixels", limit=max_pixels, detail="far more pixels than any bound allows")
    except MemoryError:
        raise
    except Exception:  # decoders of hostile bytes raise whatever their lines happen to: KeyError, struct.error, ...
        return Fault("undecodable", detail="no image of a known format" if data else "no bytes")
    num_pixels = image.width * image.height
    if num_pixels > max_pixels:
        return Fault("pixels", num_pixels, max_pixels)
    return image


def load(image: Image.Image) -> Fault | None:
    """Decode an opened image to its last byte, in place; return what is wrong with it."""
    try:
        image.load()
    except MemoryError:
        raise
    except Exception:  # as above
        return Fault("undecodable", detail="truncated or corrupt")
    return None


def format_of(image: Image.Image) -> str:
    return _FORMATS[image.format or ""]


def num_frames(image: Image.Image) -> int:
    """Return how many frames an animation has; 1 for a picture, and for a JPEG that carries previews."""
    if image.format == "MPO":
        return 1
    try:
        return int(getattr(image, "n_frames", 1))
    except MemoryError:
        raise
    except Exception:  # as above; what is wrong shows when it is decoded
        return 1


def opaque(image: Image.Image, *, background: str = "white") -> Image.Image:
    """Return the image without transparency or palette: mode L or RGB, laid over a background where it was transparent."""
    if image.mode in ("L", "RGB"):
        return image.convert("RGB") if "transparency" in image.info else image
    if image.mode in ("1", "I;16", "I", "F"):
        return _in_eight_bits(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    layers = image.convert("RGBA")
    ground = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(ground, layers).convert("RGB")


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits and more is scaled: Pillow's own conversion clips it, which leaves nothing but white."""
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "I;16":
        return image.convert("I").point(lambda value: value / 257).convert("L")
    low, high = image.convert("F").getextrema()
    scale = 255 / high if isinstance(high, float) and high > 255 and isinstance(low, float) and low >= 0 else 1.0
    return image.convert("F").point(lambda value: value * scale + 0).convert("L")


def images_of(array: pa.Array) -> Iterator[tuple[int, bytes]]:
    """Yield (row, bytes) of a column's images that are not null."""
    contents = pc.struct_field(array, "bytes")
    for row in range(len(contents)):
        content = contents[row].as_py()
        if content is not None:
            yield row, content


@contextmanager
def quiet() -> Iterator[None]:
    """Decoders warn of what we count: corrupt EXIF, sizes near their own bound."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
