"""Perceptual hashes of images, in whole numbers throughout: equal pictures have equal hashes on every machine.

Sources:
    Zauner 2010, section 3.2.1 (pHash: signs of the lowest 8 x 8 frequencies of 32 x 32 grey values against their median);
    Krawetz 2013, "Kind of like that" (dHash: signs of horizontal gradients).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

from millrace_cleaning.steps.findings import Findings, Outcome, Scratch
from millrace_cleaning.steps.images.decoding import Fault, images_of, load, opaque, open_image, quiet
from millrace_cleaning.steps.images.settings import MAX_PIXELS, HashImages

UInt64s = npt.NDArray[np.uint64]
_SIDE, _LOW = 32, 8
_SCALE = 2**14  # of the transform's whole-numbered cosines


def apply(batch: pa.RecordBatch, config: HashImages, scratch: Scratch) -> Outcome:  # noqa: ARG001  # every step's form
    """Append the hash of each image, as the signed integer of its 64 bits; null where none decodes."""
    hashes, valid = hash_column(batch.column(config.column), algorithm=config.algorithm, max_pixels=config.max_pixels)
    findings = Findings()
    missing = np.flatnonzero(~valid & batch.column(config.column).is_valid().to_numpy(zero_copy_only=False))
    findings.add(missing, action="flagged", rule="unhashed", column=config.column)
    name = config.added_columns()[0][0]
    return Outcome(batch.append_column(name, pa.array(hashes.view(np.int64), mask=~valid)), findings)


def signatures(images: pa.Array) -> pa.RecordBatch:
    """Return the column `hash` of a batch's pictures, by which lookalikes are found; null where none decodes."""
    hashes, valid = hash_column(images, algorithm="phash", max_pixels=MAX_PIXELS)
    return pa.record_batch({"hash": pa.array(hashes, mask=~valid)})


def hash_column(array: pa.Array, *, algorithm: str, max_pixels: int) -> tuple[UInt64s, npt.NDArray[np.bool_]]:
    """Return the images' hashes and which of them there are."""
    width = _SIDE if algorithm == "phash" else _LOW + 1
    height = _SIDE if algorithm == "phash" else _LOW
    rows: list[int] = []
    pixels: list[npt.NDArray[np.uint8]] = []
    with quiet():
        for row, data in images_of(array):
            grey = _grey(data, size=(width, height), max_pixels=max_pixels)
            if grey is not None:
                rows.append(row)
                pixels.append(grey)
    hashes, valid = np.zeros(len(array), dtype=np.uint64), np.zeros(len(array), dtype=np.bool_)
    if rows:
        stack = np.stack(pixels)
        hashes[rows] = _phash(stack) if algorithm == "phash" else _dhash(stack)
        valid[rows] = True
    return hashes, valid


def _grey(data: bytes, *, size: tuple[int, int], max_pixels: int) -> npt.NDArray[np.uint8] | None:
    """Return the image as (height, width) grey values. A JPEG is decoded at an eighth where that is large enough."""
    image = open_image(data, max_pixels=max_pixels)
    if isinstance(image, Fault):
        return None
    if image.format == "JPEG" and image.mode in ("L", "RGB"):
        image.draft("L", (4 * _SIDE, 4 * _SIDE))
    if load(image) is not None:
        return None
    small = opaque(image).convert("L").resize(size, Image.Resampling.BOX)
    return np.asarray(small, dtype=np.uint8)


def _phash(grey: npt.NDArray[np.uint8]) -> UInt64s:
    """(n, 32, 32) grey values to hashes: a DCT-II in 64-bit integers, exact and so the same on every processor."""
    positions, frequencies = np.arange(_SIDE), np.arange(_LOW)[:, None]
    cosines = np.rint(np.cos(np.pi * frequencies * (2 * positions + 1) / (2 * _SIDE)) * _SCALE).astype(np.int64)
    lows = (cosines @ grey.astype(np.int64) @ cosines.T).reshape(len(grey), _LOW * _LOW)
    # The first is the mean brightness. It stands far above the rest, and its bit says nothing.
    medians = np.sort(lows[:, 1:], axis=1)[:, (_LOW * _LOW - 1) // 2, None]
    return _packed(lows > medians)


def _dhash(grey: npt.NDArray[np.uint8]) -> UInt64s:
    return _packed((grey[:, :, 1:] > grey[:, :, :-1]).reshape(len(grey), _LOW * _LOW))


def _packed(bits: npt.NDArray[np.bool_]) -> UInt64s:
    return np.packbits(bits, axis=1).view(">u8").reshape(-1).astype(np.uint64)
