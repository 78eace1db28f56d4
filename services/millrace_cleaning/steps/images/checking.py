"""Judging images: whether they decode, and whether size, mode, format and frames are as asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from millrace_cleaning.steps.findings import Findings, Outcome, Scratch
from millrace_cleaning.steps.images.decoding import Fault, format_of, images_of, load, num_frames, open_image, quiet
from millrace_cleaning.steps.images.settings import CheckImages

_SUFFIXES = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp", ".gif": "gif", ".bmp": "bmp",
             ".tif": "tiff", ".tiff": "tiff", ".avif": "avif"}  # fmt: skip


@dataclass(slots=True)
class Seen:
    """Faults of one rule: rows, and of each the value and the detail."""

    limit: float | None
    rows: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    details: list[str] = field(default_factory=list)


def apply(batch: pa.RecordBatch, config: CheckImages, scratch: Scratch) -> Outcome:  # noqa: ARG001  # every step's form
    """Judge the images of a column; nulls keep every rule."""
    array = batch.column(config.column)
    paths = pc.struct_field(array, "path").to_pylist()
    seen: dict[str, Seen] = {}
    misnamed: defaultdict[str, list[int]] = defaultdict(list)
    with quiet():
        for row, data in images_of(array):
            image = open_image(data, max_pixels=config.max_pixels)
            if not isinstance(image, Fault):
                found = format_of(image)
                if _SUFFIXES.get(PurePosixPath(paths[row] or "").suffix.lower(), found) != found:
                    misnamed[found].append(row)
            for fault in [image] if isinstance(image, Fault) else _faults(image, config):
                about = seen.setdefault(fault.rule, Seen(fault.limit))
                about.rows.append(row)
                about.values.append(fault.value)
                about.details.append(fault.detail)
    findings = Findings()
    for rule, about in sorted(seen.items()):
        findings.add(
            np.array(about.rows), action="removed" if config.action == "remove" else "flagged", rule=rule,
            column=config.column, values=about.values, limit=about.limit, details=about.details,
        )  # fmt: skip
    for found, rows in sorted(misnamed.items()):
        findings.add(
            np.array(rows), action="flagged", rule="extension", column=config.column,
            details=[f"the bytes are {found}"] * len(rows),
        )  # fmt: skip
    return Outcome(batch, findings)


def _faults(image: Image.Image, config: CheckImages) -> Iterator[Fault]:
    """Yield what is wrong with an opened image; it is decoded only if the header passes."""
    short, long = sorted(image.size)
    from_header = [
        Fault("format", detail=format_of(image)) if format_of(image) not in config.formats else None,
        Fault("mode", detail=image.mode) if config.modes and image.mode not in config.modes else None,
        Fault("min_side", short, config.min_side) if short < config.min_side else None,
        Fault("max_side", long, config.max_side) if config.max_side is not None and long > config.max_side else None,
        _aspect(short, long, config),
        _frames(image, config),
    ]
    faults = [fault for fault in from_header if fault is not None]
    yield from faults
    broken = None if faults and config.action == "remove" else load(image)
    if broken is not None:
        yield broken


def _aspect(short: int, long: int, config: CheckImages) -> Fault | None:
    is_over = config.max_aspect is not None and long > config.max_aspect * short
    return Fault("max_aspect", long / max(short, 1), config.max_aspect) if is_over else None


def _frames(image: Image.Image, config: CheckImages) -> Fault | None:
    num = num_frames(image)
    return Fault("max_frames", num, config.max_frames) if num > config.max_frames else None
