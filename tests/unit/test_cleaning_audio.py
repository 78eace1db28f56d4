"""Steps over audio: what is measured, what is removed, and the one form that recordings are brought into."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import soundfile

from cleaning_runs import clean
from millrace_cleaning.convert import BYTES_TYPE
from millrace_cleaning.steps.audio import checking, normalizing
from millrace_cleaning.steps.audio.loudness import LoudnessMeter
from millrace_cleaning.steps.audio.settings import CheckAudio, NormalizeAudio
from millrace_cleaning.steps.findings import Scratch

Floats = npt.NDArray[np.float64]


def sine(
    hz: float = 997.0, *, db: float = -20.0, seconds: float = 2.0, rate: int = 48_000, channels: int = 1
) -> Floats:
    wave = 10 ** (db / 20) * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1)


def recorded(samples: Floats, rate: int = 48_000, *, format_: str = "WAV", subtype: str | None = None) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=format_, subtype=subtype)
    return out.getvalue()


def column(*contents: bytes | None) -> pa.RecordBatch:
    rows = [None if data is None else {"bytes": data, "path": None} for data in contents]
    return pa.record_batch({"clip": pa.array(rows, BYTES_TYPE)})


def judged(*contents: bytes | None, **config: Any) -> list[tuple[int, str, str, float, float | None]]:
    outcome = checking.apply(column(*contents), CheckAudio(column="clip", **config), Scratch())
    return [(f["row"], f["action"], f["rule"], f["value"], f["limit"]) for f in outcome.findings.table().to_pylist()]


def normal(data: bytes, **config: Any) -> tuple[Floats, int, dict[str, tuple[float, float | None]]]:
    outcome = normalizing.apply(column(data), NormalizeAudio(column="clip", **config), Scratch())
    found = {f["rule"]: (f["value"], f["limit"]) for f in outcome.findings.table().to_pylist()}
    samples, rate = soundfile.read(io.BytesIO(outcome.batch["clip"][0].as_py()["bytes"]), always_2d=True)
    return samples, rate, found


def loudness(samples: Floats, rate: int, *, block: int = 1_000_000) -> float:
    meter = LoudnessMeter(sample_rate=rate, num_channels=samples.shape[1])
    for start in range(0, len(samples), block):
        meter.add(samples[start : start + block])
    return meter.integrated_lufs()


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 48_000, 96_000])
def test_a_sine_of_997_hz_is_as_loud_as_the_recommendation_says(rate: int) -> None:
    """BS.1770-4: at 0 dB in the left channel alone it reads -3.01 LUFS; EBU Tech 3341, case 1: -23 dB in both, -23 LUFS."""
    left = np.concatenate([sine(db=0, rate=rate), np.zeros((2 * rate, 1))], axis=1)
    assert loudness(left, rate) == pytest.approx(-3.01, abs=0.05)
    assert loudness(sine(db=-23, seconds=5, rate=rate, channels=2), rate) == pytest.approx(-23.0, abs=0.1)


def test_quiet_passages_are_gated_as_ebu_says() -> None:
    """EBU Tech 3341, case 3: 10 s at -36, 60 s at -23, 10 s at -36 dB reads -23 LUFS."""
    rate = 8_000
    parts = [(-36, 10), (-23, 60), (-36, 10)]
    both = np.concatenate([sine(db=db, seconds=s, rate=rate, channels=2) for db, s in parts])
    assert loudness(both, rate) == pytest.approx(-23.0, abs=0.15)


def test_loudness_does_not_depend_on_how_blocks_are_cut() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, (60_000, 2))
    assert loudness(noise, 24_000, block=1_777) == pytest.approx(loudness(noise, 24_000), abs=1e-9)


def biquad(signal: list[float], b: tuple[float, float, float], a: tuple[float, float]) -> list[float]:
    """Direct form I, sample by sample."""
    out: list[float] = []
    for n, x in enumerate(signal):
        past = [
            signal[n - 1] if n else 0.0,
            signal[n - 2] if n > 1 else 0.0,
            out[-1] if n else 0.0,
            out[-2] if n > 1 else 0.0,
        ]
        out.append(b[0] * x + b[1] * past[0] + b[2] * past[1] - a[0] * past[2] - a[1] * past[3])
    return out


def test_the_filter_agrees_with_the_coefficients_of_the_recommendation() -> None:
    """BS.1770-4, tables 1 and 2, which are for 48 kHz."""
    noise = np.random.default_rng(2).normal(0, 0.1, 96_000)
    shelf = (1.53512485958697, -2.69169618940638, 1.19839281085285), (-1.69065929318241, 0.73248077421585)
    high_pass = (1.0, -2.0, 1.0), (-1.99004745483398, 0.99007225036621)
    weighted = np.array(biquad(biquad(noise.tolist(), *shelf), *high_pass))
    expected = -0.691 + 10 * math.log10(np.square(weighted).mean())
    assert loudness(noise[:, None], 48_000) == pytest.approx(expected, abs=0.02)


def test_silence_and_less_than_400_ms_have_no_loudness() -> None:
    assert loudness(np.zeros((48_000, 1)), 48_000) == -math.inf
    assert loudness(sine(seconds=0.3), 48_000) == -math.inf


def test_a_sound_recording_and_a_null_have_no_finding() -> None:
    good = recorded(sine())
    limits = {"max_clipping_share": 0.01, "max_silence_share": 0.5, "min_loudness_lufs": -40, "max_dc_offset": 0.01}
    assert judged(good, None, min_duration_s=1, channels=[1], min_sample_rate=16_000, **limits) == []


@pytest.mark.parametrize("format_", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_what_is_no_whole_recording_is_undecodable(format_: str) -> None:
    good = recorded(sine(seconds=0.5), format_=format_)
    found = judged(b"", b"no audio", good[:30], good)
    assert [(row, action, rule) for row, action, rule, *_ in found] == [(i, "removed", "undecodable") for i in range(3)]


def test_each_limit_is_said_with_what_was_measured() -> None:
    clip = recorded(sine(db=-50, seconds=0.5, channels=2))
    assert judged(clip, min_duration_s=1, action="flag") == [(0, "flagged", "min_duration_s", 0.5, 1)]
    assert judged(clip, max_duration_s=0.4) == [(0, "removed", "max_duration_s", 0.5, 0.4)]
    assert judged(clip, min_sample_rate=50_000) == [(0, "removed", "min_sample_rate", 48_000, 50_000)]
    assert judged(clip, channels=[1])[0][2:4] == ("channels", 2)
    (found,) = judged(clip, min_loudness_lufs=-40)
    assert found[3] == pytest.approx(-50, abs=0.1)


def test_clipping_is_counted_and_a_single_peak_is_not() -> None:
    clipped = np.clip(sine(db=6, hz=100), -1, 1)
    share = float((np.abs(clipped) >= 1).mean())
    (found,) = judged(recorded(clipped), max_clipping_share=0.05)
    assert found[3] == pytest.approx(share, rel=0.02)
    assert judged(recorded(sine(db=0, hz=11_999)), max_clipping_share=0) == []


def test_silence_and_offset_are_measured() -> None:
    half = np.concatenate([np.zeros((24_000, 1)), sine(seconds=0.5)])
    assert judged(recorded(half), max_silence_share=0.25)[0][2:] == ("max_silence_share", 0.5, 0.25)
    (found,) = judged(recorded(sine(seconds=1) + 0.25), max_dc_offset=0.1)
    assert found[3] == pytest.approx(0.25, abs=1e-3)


def test_measures_are_appended_as_asked() -> None:
    config = CheckAudio(column="clip", add=("duration_s", "sample_rate", "loudness_lufs"))
    quiet = recorded(np.zeros((8_000, 1)), 8_000)
    batch = checking.apply(column(recorded(sine()), b"broken", quiet), config, Scratch()).batch
    assert batch["clip_duration_s"].to_pylist() == [2.0, None, 1.0]
    assert batch["clip_sample_rate"].to_pylist() == [48_000, None, 8_000]
    assert batch["clip_loudness_lufs"].is_null().to_pylist() == [False, True, True]
    assert [name for name, *_ in config.added_columns()] == batch.schema.names[1:]
    assert config.added_units() == {"clip_duration_s": "s", "clip_sample_rate": "Hz", "clip_loudness_lufs": "LUFS"}


def test_a_recording_gets_the_channels_the_rate_and_the_format_asked_for() -> None:
    data = recorded(sine(440, seconds=1, channels=2), format_="OGG")
    samples, rate, found = normal(data, sample_rate=16_000)
    assert (samples.shape, rate) == ((16_000, 1), 16_000)
    assert found["channels"] == (2, 1)
    assert found["sample_rate"] == (48_000, 16_000)
    assert "format" in found
    spectrum = np.abs(np.fft.rfft(samples[:, 0]))
    assert int(spectrum.argmax()) == 440


def test_a_lossless_recording_in_form_keeps_every_sample() -> None:
    ints = np.random.default_rng(3).integers(-(2**15), 2**15, (16_000, 1), dtype=np.int16)
    out = io.BytesIO()
    soundfile.write(out, ints, 16_000, format="FLAC")
    samples, _, found = normal(out.getvalue())
    assert found == {}
    assert np.array_equal(np.rint(samples * 2**15).astype(np.int16), ints)


def test_tags_go_with_the_old_form() -> None:
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", 16_000, 1, format="WAV") as file:
        file.title = "where I live"
        file.write(sine(rate=16_000))
    assert b"where I live" in out.getvalue()
    made = normalizing.apply(column(out.getvalue()), NormalizeAudio(column="clip", format="wav"), Scratch())
    assert b"where I live" not in made.batch["clip"][0].as_py()["bytes"]


def test_silence_at_the_ends_goes_and_within_it_stays() -> None:
    quiet, loud = np.zeros((16_000, 1)), sine(seconds=1, rate=16_000)
    data = recorded(np.concatenate([quiet, loud, quiet, loud, quiet]), 16_000)
    samples, _, found = normal(data, trim_silence=True)
    assert len(samples) == pytest.approx(3 * 16_000, abs=640)
    assert found["trimmed_s"][0] == pytest.approx(2, abs=0.04)


def test_loudness_is_brought_to_the_target_unless_peaks_forbid_it() -> None:
    samples, rate, found = normal(recorded(sine(db=-40)), loudness_lufs=-23, sample_rate=None)
    assert loudness(samples, rate) == pytest.approx(-23, abs=0.05)
    assert found["loudness_lufs"][1] == -23
    spiky = sine(db=-40)
    spiky[1000] = 0.9
    samples, _, found = normal(recorded(spiky), loudness_lufs=-14, sample_rate=None)
    assert "peak_limited_db" in found
    assert np.abs(samples).max() <= 0.9


def test_silence_alone_and_what_is_too_long_go() -> None:
    outcome = normalizing.apply(
        column(recorded(np.zeros((48_000, 1))), recorded(sine(seconds=2)), recorded(sine(seconds=0.5))),
        NormalizeAudio(column="clip", trim_silence=True, max_duration_s=1.0),
        Scratch(),
    )
    assert outcome.findings.removed(3).tolist() == [True, True, False]


@pytest.mark.parametrize("format_", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_damaged_bytes_never_raise(format_: str) -> None:
    data = recorded(sine(seconds=0.2), format_=format_)
    rng = np.random.default_rng(11)
    damaged = []
    for _ in range(30):
        copy = np.frombuffer(data, dtype=np.uint8).copy()
        copy[rng.integers(0, min(len(copy), 200), rng.integers(1, 6))] = rng.integers(0, 256)
        damaged.append(copy[: rng.integers(1, len(copy) + 1)].tobytes())
    judged(*damaged, add=["loudness_lufs"])
    normalizing.apply(column(*damaged), NormalizeAudio(column="clip", loudness_lufs=-23), Scratch())


def test_samples_that_are_no_numbers_are_undecodable() -> None:
    wave = sine(seconds=0.1)
    wave[7] = math.nan
    assert [f[2] for f in judged(recorded(wave, subtype="FLOAT"))] == ["undecodable"]


def test_a_folder_of_recordings_is_cleaned_by_a_recipe_that_names_no_column(tmp_path: Path) -> None:
    files = {f"a/{n}.wav": recorded(sine(300 + n)) for n in range(4)}
    files |= {"b/8.flac": recorded(sine(seconds=0.5), format_="FLAC"), "b/9.wav": b"RIFF...."}
    made = clean(
        tmp_path, files, on_bad_row="quarantine", steps=[{"step": "check_audio", "min_duration_s": 1.0}],
        split={"train": 0.5, "validation": 0.25, "test": 0.25},
    )  # fmt: skip
    assert (made.column("audio").type, made.rows("label")) == ("audio", ["a"] * 4)
    assert made.account["rule"].to_pylist() == ["min_duration_s"]
    assert made.quarantine["path"].to_pylist() == ["b/9.wav"]
