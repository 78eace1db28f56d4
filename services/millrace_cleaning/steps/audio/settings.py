"""What a user may ask of audio. Imports pydantic alone."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from millrace.contracts.schema import ColumnType, Role
from millrace_cleaning.steps.settings import StepConfig

Measure = Literal["duration_s", "sample_rate", "channels", "loudness_lufs", "clipping_share", "silence_share"]

_TYPES: dict[Measure, ColumnType] = {"sample_rate": "integer", "channels": "integer"}
_UNITS: dict[Measure, str] = {"duration_s": "s", "sample_rate": "Hz", "loudness_lufs": "LUFS"}


class CheckAudio(StepConfig):
    """Find recordings that do not decode, or that are too long, too quiet, clipped, silent or shifted.

    Loudness is integrated loudness by ITU-R BS.1770-4. Whatever is not asked for is not judged. A recording is decoded
    in blocks, so its length costs no memory.
    """

    runs_in = "millrace_cleaning.steps.audio.checking"
    extra = "media"
    column_types = ("audio",)
    example = "min_duration_s: 0.5, max_duration_s: 60, min_loudness_lufs: -50"

    step: Literal["check_audio"] = "check_audio"
    min_duration_s: float | None = Field(default=None, ge=0)
    max_duration_s: float = Field(default=3600.0, gt=0, description="Nothing beyond it is decoded.")
    channels: tuple[int, ...] = Field(default=(), description="Numbers of channels that may stay; default: all.")
    min_sample_rate: int | None = Field(default=None, ge=1, description="In Hz.")
    max_clipping_share: float | None = Field(
        default=None, ge=0, le=1, description="Of samples that stand at full scale after two others."
    )
    max_silence_share: float | None = Field(
        default=None, ge=0, le=1, description="Of spans of 20 ms below `silence_db`."
    )
    silence_db: float = Field(
        default=-60.0, lt=0, description="Level of silence: decibels of a span's RMS below full scale."
    )
    min_loudness_lufs: float | None = Field(
        default=None, description="Such as -40; a recording below the gate has none."
    )
    max_loudness_lufs: float | None = Field(default=None, description="Such as -8.")
    max_dc_offset: float | None = Field(default=None, ge=0, le=1, description="Mean of a channel, by full scale.")
    action: Literal["remove", "flag"] = "remove"
    add: tuple[Measure, ...] = Field(default=(), description="What to append as columns `<column>_<measure>`.")

    @model_validator(mode="after")
    def _ordered(self) -> CheckAudio:
        if self.min_duration_s is not None and self.min_duration_s > self.max_duration_s:
            raise ValueError(f"min_duration_s {self.min_duration_s} is above max_duration_s {self.max_duration_s}")
        low, high = self.min_loudness_lufs, self.max_loudness_lufs
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_loudness_lufs {low} is above max_loudness_lufs {high}")
        return self

    def added_columns(self) -> tuple[tuple[str, ColumnType, Role], ...]:
        return tuple((f"{self.column}_{name}", _TYPES.get(name, "number"), "ignore") for name in self.add)

    def added_units(self) -> dict[str, str]:
        return {f"{self.column}_{name}": _UNITS[name] for name in self.add if name in _UNITS}


class NormalizeAudio(StepConfig):
    """Write every recording in one form: channels, rate, loudness and format; tags go with the old form.

    A recording that does not decode, or that is longer than `max_duration_s`, goes.
    """

    runs_in = "millrace_cleaning.steps.audio.normalizing"
    extra = "media"
    column_types = ("audio",)
    is_changing = True
    example = "sample_rate: 16000"

    step: Literal["normalize_audio"] = "normalize_audio"
    mono: bool = Field(default=True, description="Whether channels are averaged into one.")
    sample_rate: int | None = Field(default=16_000, ge=1000, le=384_000, description="In Hz; null: as it is.")
    trim_silence: bool = Field(default=False, description="Whether silence at both ends goes.")
    silence_db: float = Field(
        default=-60.0, lt=0, description="Level of silence: decibels of 20 ms RMS below full scale."
    )
    loudness_lufs: float | None = Field(default=None, ge=-60, le=0, description="Such as -23 (EBU R 128).")
    peak_db: float = Field(
        default=-1.0,
        le=0,
        description="No sample gets above it when loudness is brought up, in decibels of full scale.",
    )
    format: Literal["flac", "wav"] = "flac"
    bits: Literal[16, 24] = 16
    max_duration_s: float = Field(
        default=600.0, gt=0, description="A longer one is not decoded: it stands in memory whole."
    )


STEPS = (CheckAudio, NormalizeAudio)
