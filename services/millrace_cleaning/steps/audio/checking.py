"""Judging audio: duration, channels, rate, clipping, silence, loudness and offset, measured in one pass over blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import soundfile

from millrace_cleaning.convert import storage_type
from millrace_cleaning.steps.audio.decoding import Fault, Floats, blocks, open_audio, recordings_of, span_levels_db
from millrace_cleaning.steps.audio.loudness import LoudnessMeter
from millrace_cleaning.steps.audio.settings import CheckAudio
from millrace_cleaning.steps.findings import Findings, Outcome, Scratch

_FULL_SCALE = 1 - 2**-11  # clipped material is often a little below it, after a change of format


@dataclass(frozen=True, slots=True)
class Measures:
    """What a recording measures. Loudness is minus infinity below its gate; dc_offset is of the worst channel."""

    duration_s: float
    sample_rate: int
    channels: int
    loudness_lufs: float
    clipping_share: float
    silence_share: float
    dc_offset: float


def apply(batch: pa.RecordBatch, config: CheckAudio, scratch: Scratch) -> Outcome:  # noqa: ARG001  # every step's form
    """Judge the recordings of a column, and append the measures asked for; nulls keep every rule."""
    found: dict[str, list[tuple[int, Fault]]] = {}
    measured: dict[int, Measures] = {}
    for row, data in recordings_of(batch.column(config.column)):
        measures = measure(data, config)
        if isinstance(measures, Fault):
            found.setdefault(measures.rule, []).append((row, measures))
            continue
        measured[row] = measures
        for fault in _faults(measures, config):
            found.setdefault(fault.rule, []).append((row, fault))
    findings = Findings()
    for rule, faults in sorted(found.items()):
        findings.add(
            np.array([row for row, _ in faults]), action="removed" if config.action == "remove" else "flagged",
            rule=rule, column=config.column, values=[fault.value for _, fault in faults], limit=faults[0][1].limit,
            details=[fault.detail for _, fault in faults],
        )  # fmt: skip
    for measure_, (name, type_, _) in zip(config.add, config.added_columns(), strict=True):
        values = [getattr(measured[row], measure_) if row in measured else None for row in range(batch.num_rows)]
        finite = [v if v is not None and math.isfinite(v) else None for v in values]
        batch = batch.append_column(name, pa.array(finite, storage_type(type_, None)))
    return Outcome(batch, findings)


def measure(data: bytes, config: CheckAudio) -> Measures | Fault:
    """Decode a recording once and measure it, or say why it cannot be."""
    file = open_audio(data, max_duration_s=config.max_duration_s)
    if isinstance(file, Fault):
        return file
    with file:
        try:
            return _measured(file, config)
        except ValueError as error:
            return Fault("undecodable", detail=str(error))


def _measured(file: soundfile.SoundFile, config: CheckAudio) -> Measures:
    wants_loudness = (
        config.min_loudness_lufs is not None or config.max_loudness_lufs is not None or "loudness_lufs" in config.add
    )
    meter = LoudnessMeter(sample_rate=file.samplerate, num_channels=file.channels)
    span = max(1, round(file.samplerate / 50))
    rest: Floats = np.empty((0, file.channels))
    total = np.zeros(file.channels)
    num_frames = num_silent = num_spans = num_clipped = 0
    edge: Floats = np.empty((0, file.channels))
    for block in blocks(file):
        num_frames += len(block)
        total += block.sum(axis=0)
        with_edge = np.concatenate([edge, block])
        num_clipped += _num_clipped(with_edge)
        edge = with_edge[-2:]
        joined = np.concatenate([rest, block])
        whole = len(joined) // span * span
        levels = span_levels_db(joined[:whole], sample_rate=file.samplerate)
        num_silent += int((levels < config.silence_db).sum())
        num_spans += len(levels)
        rest = joined[whole:]
        if wants_loudness:
            meter.add(block)
    if len(rest):
        num_silent += int((span_levels_db(rest, sample_rate=file.samplerate) < config.silence_db).sum())
        num_spans += 1
    return Measures(
        duration_s=num_frames / file.samplerate, sample_rate=file.samplerate, channels=file.channels,
        loudness_lufs=meter.integrated_lufs(), clipping_share=num_clipped / (num_frames * file.channels),
        silence_share=num_silent / num_spans, dc_offset=float(np.abs(total / num_frames).max()),
    )  # fmt: skip


def _num_clipped(samples: Floats) -> int:
    """Count samples that stand at full scale after two others: one loud peak alone is no clipping."""
    runs = [at[2:] & at[1:-1] & at[:-2] for at in (samples >= _FULL_SCALE, samples <= -_FULL_SCALE)]
    return sum(int(run.sum()) for run in runs)


def _faults(found: Measures, config: CheckAudio) -> Iterator[Fault]:
    if config.channels and found.channels not in config.channels:
        yield Fault("channels", found.channels, detail=f"expected {', '.join(map(str, config.channels))}")
    at_least = {"min_duration_s": found.duration_s, "min_sample_rate": found.sample_rate,
                "min_loudness_lufs": found.loudness_lufs}  # fmt: skip
    at_most = {
        "max_clipping_share": found.clipping_share, "max_silence_share": found.silence_share,
        "max_loudness_lufs": found.loudness_lufs, "max_dc_offset": found.dc_offset,
    }  # fmt: skip
    for rule, value in at_least.items():
        limit = getattr(config, rule)
        if limit is not None and value < limit:
            is_heard = math.isfinite(value)
            yield Fault(rule, value if is_heard else math.nan, limit, "" if is_heard else "nothing is above the gate")
    for rule, value in at_most.items():
        limit = getattr(config, rule)
        if limit is not None and value > limit:
            yield Fault(rule, value, limit)
