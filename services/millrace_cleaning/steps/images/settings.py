"""What a user may ask of images. Imports pydantic alone."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from millrace.contracts.schema import ColumnType, Role
from millrace_cleaning.steps.settings import StepConfig

ImageFormat = Literal["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif"]
ImageMode = Literal["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"]

MAX_PIXELS = 64_000_000
"""What no photograph of a usual camera has more of; 256 MB once decoded."""


class CheckImages(StepConfig):
    """Find images that do not decode to their last byte, or that are not of the kind asked for."""

    runs_in = "millrace_cleaning.steps.images.checking"
    extra = "media"
    column_types = ("image",)
    example = "min_side: 64, max_aspect: 4, modes: [RGB, L]"

    step: Literal["check_images"] = "check_images"
    formats: tuple[ImageFormat, ...] = Field(
        default=("jpeg", "png", "webp", "gif", "bmp", "tiff"), min_length=1, description="Formats that may stay."
    )
    modes: tuple[ImageMode, ...] = Field(
        default=(), description="Pixel modes that may stay, such as RGB and L; default: all, CMYK and palettes too."
    )
    max_pixels: int = Field(
        default=MAX_PIXELS, ge=1, description="Read from the header: an image with more is never decoded."
    )
    min_side: int = Field(default=1, ge=1, description="Of the shorter side, in pixels.")
    max_side: int | None = Field(default=None, ge=1, description="Of the longer side, in pixels.")
    max_aspect: float | None = Field(default=None, ge=1, description="Longer side by shorter side.")
    max_frames: int = Field(default=1, ge=1, description="An animation has more than one.")
    action: Literal["remove", "flag"] = "remove"


class NormalizeImages(StepConfig):
    """Turn images upright, take out what their bytes say beside the picture, and bring them into one size and mode.

    Where no pixel has to change, metadata is cut out of JPEG, PNG and WebP and the picture's own bytes stay as they are.
    GIF, BMP and TIFF are written as PNG, their first frame. An image that does not decode goes: nobody could say what
    is hidden in it.
    """

    runs_in = "millrace_cleaning.steps.images.normalizing"
    extra = "media"
    column_types = ("image",)
    is_changing = True
    example = "max_side: 1024, mode: RGB, format: jpeg"

    step: Literal["normalize_images"] = "normalize_images"
    keep_icc: bool = Field(
        default=False, description="Whether the colour profile stays; other metadata (EXIF, GPS, XMP, IPTC) never does."
    )
    mode: Literal["", "RGB", "L"] = Field(
        default="", description="RGB or L (grey); default: as it is, but palettes and CMYK as RGB where pixels change."
    )
    background: str = Field(
        default="white",
        pattern=r"^([a-z]+|#[0-9a-fA-F]{6})$",
        description="What shows through where `mode` ends transparency.",
    )
    max_side: int | None = Field(
        default=None, ge=8, description="A longer side is brought to this, in pixels; nothing is ever enlarged."
    )
    format: Literal["", "jpeg", "png", "webp"] = Field(default="", description="Default: the format it came in.")
    quality: int = Field(default=90, ge=1, le=100, description="Of JPEG and WebP that are written anew.")
    max_pixels: int = Field(default=MAX_PIXELS, ge=1, description="An image with more is not decoded, and goes.")


class HashImages(StepConfig):
    """Append a 64-bit hash of what an image looks like: few bits differ between two pictures that look alike."""

    runs_in = "millrace_cleaning.steps.images.hashing"
    extra = "media"
    column_types = ("image",)
    example = "algorithm: phash"

    step: Literal["hash_images"] = "hash_images"
    algorithm: Literal["phash", "dhash"] = Field(
        default="phash", description="phash: signs of low frequencies, robust; dhash: signs of gradients, cheaper."
    )
    into: str = Field(
        default="", description="Name of the new column; default: the image column's, then `_` and algorithm."
    )
    max_pixels: int = Field(
        default=MAX_PIXELS, ge=1, description="An image with more is not decoded; its hash is null."
    )

    def added_columns(self) -> tuple[tuple[str, ColumnType, Role], ...]:
        return ((self.into or f"{self.column}_{self.algorithm}", "integer", "ignore"),)


STEPS = (CheckImages, NormalizeImages, HashImages)
