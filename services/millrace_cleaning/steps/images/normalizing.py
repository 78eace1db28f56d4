"""Bringing images into one form, and taking out what their bytes say beside the picture."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageOps

from millrace_cleaning.steps.findings import Findings, Outcome, Scratch
from millrace_cleaning.steps.images.decoding import Fault, format_of, images_of, load, opaque, open_image, quiet
from millrace_cleaning.steps.images.metadata import Malformed, strip
from millrace_cleaning.steps.images.settings import NormalizeImages

_STRIPPABLE = ("jpeg", "png", "webp")
_STORABLE = {"jpeg": ("L", "RGB"), "png": ("L", "LA", "RGB", "RGBA"), "webp": ("RGB", "RGBA")}
_UPRIGHT = 1


@dataclass(frozen=True, slots=True)
class Change:
    """What was changed of one image: the value it had, what it was held against, and words."""

    rule: str
    value: float = float("nan")
    limit: float | None = None
    detail: str = ""


@dataclass(slots=True)
class Normal:
    """An image in its new form."""

    data: bytes
    changes: list[Change] = field(default_factory=list)


def apply(batch: pa.RecordBatch, config: NormalizeImages, scratch: Scratch) -> Outcome:  # noqa: ARG001  # every step's form
    """Rewrite the images of a column where they need it; one that does not decode is removed."""
    index = batch.schema.get_field_index(config.column)
    array = batch.column(index)
    contents = pc.struct_field(array, "bytes").to_pylist()
    found: dict[tuple[str, float | None], list[tuple[int, Change]]] = {}
    gone: dict[str, list[tuple[int, Fault]]] = {}
    with quiet():
        for row, data in images_of(array):
            made = normalize(data, config)
            if isinstance(made, Fault):
                gone.setdefault(made.rule, []).append((row, made))
                continue
            contents[row] = made.data
            for change in made.changes:
                found.setdefault((change.rule, change.limit), []).append((row, change))
    findings = Findings()
    for rule, faults in sorted(gone.items()):
        findings.add(
            np.array([row for row, _ in faults]), action="removed", rule=rule, column=config.column,
            values=[fault.value for _, fault in faults], limit=faults[0][1].limit,
            details=[fault.detail for _, fault in faults],
        )  # fmt: skip
    for (rule, limit), changes in sorted(found.items(), key=lambda item: item[0][0]):
        findings.add(
            np.array([row for row, _ in changes]), action="changed", rule=rule, column=config.column,
            values=[change.value for _, change in changes], limit=limit, details=[c.detail for _, c in changes],
        )  # fmt: skip
    new = pa.StructArray.from_arrays(
        [pa.array(contents, pa.binary()), pc.struct_field(array, "path")], fields=list(array.type), mask=array.is_null()
    )
    return Outcome(batch.set_column(index, batch.schema.field(index), new), findings)


def normalize(data: bytes, config: NormalizeImages) -> Normal | Fault:
    """Return the image as asked, or why it cannot be had."""
    image = open_image(data, max_pixels=config.max_pixels)
    fault = image if isinstance(image, Fault) else load(image)
    if fault is not None or isinstance(image, Fault):
        return fault or Fault("undecodable")
    was, wanted = format_of(image), _wanted_format(image, config)
    changes = _pixel_changes(image, config, wanted)
    if not changes and was in _STRIPPABLE:
        try:
            bare = strip(data, was, keep_icc=config.keep_icc)
        except Malformed:  # it decodes, so its pixels can be written into a file that has only them
            changes = [Change("rewritten", detail="parts of the file could not be told apart")]
        else:
            lost = len(data) - len(bare)
            return Normal(bare, [Change("metadata", lost, detail="bytes cut out")] if lost else [])
    return Normal(_written(_repainted(image, config, wanted), wanted, config, image), changes)


def _wanted_format(image: Image.Image, config: NormalizeImages) -> str:
    was = format_of(image)
    return config.format or (was if was in _STRIPPABLE else "png")


def _pixel_changes(image: Image.Image, config: NormalizeImages, wanted: str) -> list[Change]:
    """What cannot be had without writing pixels anew."""
    changes = []
    turn = _orientation(image)
    if turn != _UPRIGHT:
        changes.append(Change("orientation", turn, _UPRIGHT))
    if config.max_side is not None and max(image.size) > config.max_side:
        changes.append(Change("max_side", max(image.size), config.max_side))
    if config.mode and image.mode != config.mode:
        changes.append(Change("mode", detail=f"{image.mode} to {config.mode}"))
    if wanted != format_of(image):
        changes.append(Change("format", detail=f"{format_of(image)} to {wanted}"))
    return changes


def _orientation(image: Image.Image) -> int:
    """Return 1 to 8 as EXIF has it; what is unreadable is upright."""
    try:
        turn = image.getexif().get(0x0112, _UPRIGHT)
    except MemoryError:
        raise
    except Exception:  # a parser of hostile bytes, as in decoding.py
        return _UPRIGHT
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else _UPRIGHT


def _repainted(image: Image.Image, config: NormalizeImages, wanted: str) -> Image.Image:
    """Turn, convert and shrink. Shrinking comes last, in a mode whose pixels can be averaged."""
    if _orientation(image) != _UPRIGHT:
        image = ImageOps.exif_transpose(image)
    if config.mode:
        image = opaque(image, background=config.background).convert(config.mode)
    elif image.mode not in _STORABLE[wanted]:
        keeps = image.has_transparency_data and wanted != "jpeg"
        image = image.convert("RGBA") if keeps else opaque(image, background=config.background)
    if image.mode not in _STORABLE[wanted]:
        image = image.convert("RGB")  # WebP has no grey
    if config.max_side is not None and max(image.size) > config.max_side:
        scale = config.max_side / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return image


def _written(image: Image.Image, wanted: str, config: NormalizeImages, source: Image.Image) -> bytes:
    """Encode pixels alone: an encoder also takes from `info` what the source's file said."""
    profile = source.info.get("icc_profile") if config.keep_icc and source.mode == image.mode else None
    bare = image.copy()
    bare.info = {}
    out = io.BytesIO()
    if wanted == "png":
        bare.save(out, "PNG", icc_profile=profile)
    elif wanted == "webp":
        bare.save(out, "WEBP", quality=config.quality, method=4, icc_profile=profile or b"", exif=b"", xmp=b"")
    else:
        bare.save(
            out,
            "JPEG",
            quality=config.quality,
            icc_profile=profile,
            subsampling="4:4:4" if config.quality >= 95 else -1,
        )
    return out.getvalue()
