"""Opening audio that nobody vouches for: known formats alone, in blocks of bounded memory, faults as values."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import soundfile

Floats = npt.NDArray[np.float64]

FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "AIFF", "AU", "W64", "CAF")
MAX_CHANNELS = 32
MIN_RATE, MAX_RATE = 2_000, 768_000  # a damaged header names any; what we compute grows with it
BLOCK_SAMPLES = 1_000_000  # over all channels; with a filter's tail just below a power of two, for transforms


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a recording is not decoded: the rule it breaks, what was measured, the limit, and words of ours."""

    rule: str
    value: float = float("nan")
    limit: float | None = None
    detail: str = ""


class _Bytes(io.BytesIO):
    """Stands at its start when a damaged header sends it before that: an error in a callback would be printed."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError, OSError):
            return super().seek(0)


def open_audio(data: bytes, *, max_duration_s: float) -> soundfile.SoundFile | Fault:
    """Read a recording's header; bytes of any kind are answered, never raised about."""
    try:
        file = soundfile.SoundFile(_Bytes(data))
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, OSError):
        return Fault("undecodable", detail="no audio of a known format" if data else "no bytes")
    if file.format not in FORMATS:
        return Fault("undecodable", detail="no audio of a known format")
    if not 1 <= file.channels <= MAX_CHANNELS:
        return Fault("undecodable", file.channels, MAX_CHANNELS, "channels")
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        return Fault("undecodable", file.samplerate, MAX_RATE, "sample rate")
    if file.frames < 1:
        return Fault("undecodable", detail="no sample")
    if file.frames > max_duration_s * file.samplerate:
        return Fault("max_duration_s", file.frames / file.samplerate, max_duration_s)
    return file


def blocks(file: soundfile.SoundFile) -> Iterator[Floats]:
    """Yield (frames, channels) samples from -1 to 1 until the header's last frame.

    Raises:
        ValueError: It is truncated or corrupt, or a sample is not finite.
    """
    num_frames = max(1, BLOCK_SAMPLES // file.channels)
    left = int(file.frames)
    while left > 0:
        try:
            block = file.read(min(num_frames, left), dtype="float64", always_2d=True)
        except (soundfile.SoundFileError, RuntimeError, OSError) as error:
            raise ValueError("corrupt") from error
        if not len(block):
            raise ValueError("truncated")
        if not np.isfinite(block).all():
            raise ValueError("samples that are no numbers")
        left -= len(block)
        yield block


def recordings_of(array: pa.Array) -> Iterator[tuple[int, bytes]]:
    """Yield (row, bytes) of a column's recordings that are not null."""
    contents = pc.struct_field(array, "bytes")
    for row in range(len(contents)):
        content = contents[row].as_py()
        if content is not None:
            yield row, content


def span_levels_db(samples: npt.NDArray[np.floating[Any]], *, sample_rate: int) -> Floats:
    """Return the RMS of each span of 20 ms over all channels, in decibels below full scale; a rest counts as a span."""
    span = max(1, round(sample_rate / 50))
    num = -(-len(samples) // span)
    squares = np.square(samples).mean(axis=1, dtype=np.float64)
    padded = np.zeros(num * span)
    padded[: len(squares)] = squares
    sums = padded.reshape(num, span).sum(axis=1)
    sizes = np.full(num, span)
    sizes[-1:] = len(samples) - (num - 1) * span
    levels: Floats = 10 * np.log10(np.maximum(sums / sizes, 1e-20))
    return levels
