"""Writing audio in one form: channels, sample rate, silence at the ends, loudness, format."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import soundfile
import soxr

from millrace_cleaning.steps.audio.decoding import (
    BLOCK_SAMPLES,
    Fault,
    blocks,
    open_audio,
    recordings_of,
    span_levels_db,
)
from millrace_cleaning.steps.audio.loudness import LoudnessMeter
from millrace_cleaning.steps.audio.settings import NormalizeAudio
from millrace_cleaning.steps.findings import Findings, Outcome, Scratch

Samples = npt.NDArray[np.float32]
_FLAC_CHANNELS = 8


@dataclass(frozen=True, slots=True)
class Change:
    """What was changed of one recording: the value it had, and what it has now."""

    rule: str
    value: float
    limit: float | None = None
    detail: str = ""


@dataclass(slots=True)
class Normal:
    """A recording in its new form."""

    data: bytes
    changes: list[Change] = field(default_factory=list)


def apply(batch: pa.RecordBatch, config: NormalizeAudio, scratch: Scratch) -> Outcome:  # noqa: ARG001  # every step's form
    """Rewrite the recordings of a column; one that does not decode, or is too long, is removed."""
    index = batch.schema.get_field_index(config.column)
    array = batch.column(index)
    contents = pc.struct_field(array, "bytes").to_pylist()
    found: dict[tuple[str, bool], list[tuple[int, Fault | Change]]] = {}
    for row, data in recordings_of(array):
        made = normalize(data, config)
        if isinstance(made, Fault):
            found.setdefault((made.rule, True), []).append((row, made))
            continue
        contents[row] = made.data
        for change in made.changes:
            found.setdefault((change.rule, False), []).append((row, change))
    findings = Findings()
    for (rule, is_fault), items in sorted(found.items()):
        findings.add(
            np.array([row for row, _ in items]), action="removed" if is_fault else "changed", rule=rule,
            column=config.column, values=[item.value for _, item in items], limit=items[0][1].limit,
            details=[item.detail for _, item in items],
        )  # fmt: skip
    new = pa.StructArray.from_arrays(
        [pa.array(contents, pa.binary()), pc.struct_field(array, "path")], fields=list(array.type), mask=array.is_null()
    )
    return Outcome(batch.set_column(index, batch.schema.field(index), new), findings)


def normalize(data: bytes, config: NormalizeAudio) -> Normal | Fault:
    """Return the recording as asked, or why it cannot be had."""
    file = open_audio(data, max_duration_s=config.max_duration_s)
    if isinstance(file, Fault):
        return file
    with file:
        num_channels, rate, was = int(file.channels), int(file.samplerate), str(file.format).lower()
        if config.format == "flac" and not config.mono and num_channels > _FLAC_CHANNELS:
            return Fault("channels", num_channels, _FLAC_CHANNELS, "FLAC holds no more")
        try:
            samples = _read(file, mono=config.mono)
        except ValueError as error:
            return Fault("undecodable", detail=str(error))
    changes = [] if was == config.format else [Change("format", math.nan, detail=f"{was} to {config.format}")]
    if config.mono and num_channels > 1:
        changes.append(Change("channels", num_channels, 1))
    if config.sample_rate is not None and rate != config.sample_rate:
        changes.append(Change("sample_rate", rate, config.sample_rate))
        samples, rate = soxr.resample(samples, rate, config.sample_rate, quality="HQ"), config.sample_rate
    if config.trim_silence:
        samples, lost_s = _trimmed(samples, rate, config)
        changes += [Change("trimmed_s", lost_s)] if lost_s else []
    if not len(samples):
        return Fault("silence", detail="no sample is left")
    if config.loudness_lufs is not None:
        samples, more = _levelled(samples, rate, config)
        changes += more
    return Normal(_written(samples, rate, config), changes)


def _read(file: soundfile.SoundFile, *, mono: bool) -> Samples:
    """Return all samples; channels are averaged on the way, so that many of them cost no memory."""
    mixed = (block.mean(axis=1, keepdims=True) if mono else block for block in blocks(file))
    return np.concatenate([block.astype(np.float32) for block in mixed])


def _trimmed(samples: Samples, rate: int, config: NormalizeAudio) -> tuple[Samples, float]:
    """Cut silent spans off both ends; return what is left and how many seconds went."""
    loud = np.flatnonzero(span_levels_db(samples, sample_rate=rate) >= config.silence_db)
    if not loud.size:
        return samples[:0], len(samples) / rate
    span = max(1, round(rate / 50))
    kept = samples[loud[0] * span : (loud[-1] + 1) * span]
    return kept, (len(samples) - len(kept)) / rate


def _levelled(samples: Samples, rate: int, config: NormalizeAudio) -> tuple[Samples, list[Change]]:
    """Scale to the loudness asked for, or as near as peaks allow; what is below the gate stays as it is."""
    assert config.loudness_lufs is not None
    meter = LoudnessMeter(sample_rate=rate, num_channels=samples.shape[1])
    for start in range(0, len(samples), BLOCK_SAMPLES):
        meter.add(samples[start : start + BLOCK_SAMPLES].astype(np.float64))
    loudness = meter.integrated_lufs()
    if not math.isfinite(loudness):
        return samples, []
    gain_db = config.loudness_lufs - loudness
    room_db = config.peak_db - 20 * math.log10(max(float(np.abs(samples).max()), 1e-10))
    changes = [Change("loudness_lufs", loudness, config.loudness_lufs)] if abs(gain_db) >= 0.05 else []
    if gain_db > max(room_db, 0.0):
        changes.append(Change("peak_limited_db", gain_db, None, "louder would clip"))
        gain_db = max(room_db, 0.0)
    return samples * np.float32(10 ** (gain_db / 20)), changes


def _written(samples: Samples, rate: int, config: NormalizeAudio) -> bytes:
    """Encode whole numbers made here: how a library rounds and clips is its own matter."""
    top = 2 ** (config.bits - 1)
    whole = np.clip(np.rint(samples.astype(np.float64) * top), -top, top - 1).astype(np.int32)
    out = io.BytesIO()
    soundfile.write(out, whole << (32 - config.bits), rate, format=config.format.upper(), subtype=f"PCM_{config.bits}")
    return out.getvalue()
