"""How loud a recording is: integrated loudness in LUFS, gathered block by block.

Source:
    ITU-R BS.1770-4, annex 1: K-weighting, mean squares of 400 ms that overlap by 75%, an absolute and a relative gate.
    Its filters are given for 48 kHz; for other rates they are designed anew from the analog prototypes that those
    coefficients come from (Brecht De Man 2014, "Evaluation of implementations of the EBU R128 loudness measurement").
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_HOPS_PER_GATE = 4  # 100 ms hops make up 400 ms
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0
_OFFSET = -0.691
_WEIGHTS = (1.0, 1.0, 1.0, 0.0, 1.41, 1.41)  # left, right, centre, LFE, surrounds: the order of WAV and FLAC
_TAIL_S = 0.1  # by then the filters' answer to an impulse is down by more than 180 dB


class LoudnessMeter:
    """Takes (frames, channels) blocks of samples from -1 to 1, in order."""

    def __init__(self, *, sample_rate: int, num_channels: int) -> None:
        self._filter = _k_weighting(sample_rate)
        self._hop = max(1, round(sample_rate / 10))
        self._past: Floats = np.zeros((len(self._filter) - 1, num_channels))
        self._rest: Floats = np.empty((0, num_channels))
        self._hops: list[Floats] = []  # sums of squares of whole hops: (hops, channels)
        self._weights = np.array([_WEIGHTS[i] if 2 < num_channels <= 6 else 1.0 for i in range(num_channels)])

    def add(self, block: Floats) -> None:
        """Filter a block by convolution, as recursion sample by sample is slow in numpy, and sum squares by hops."""
        padded = np.concatenate([self._past, block])
        self._past = padded[len(padded) - len(self._past) :]
        size = 1 << (len(padded) + len(self._filter) - 2).bit_length()
        spectrum = np.fft.rfft(padded, size, axis=0) * np.fft.rfft(self._filter, size)[:, None]
        filtered = np.fft.irfft(spectrum, size, axis=0)[len(self._past) : len(padded)]
        samples = np.concatenate([self._rest, filtered])
        whole = len(samples) // self._hop * self._hop
        hops = samples[:whole].reshape(-1, self._hop, samples.shape[1])
        self._hops.append(np.square(hops).sum(axis=1))
        self._rest = samples[whole:]

    def integrated_lufs(self) -> float:
        """Return the loudness of all blocks so far; minus infinity if nothing passes the gate, as in less than 400 ms."""
        hops = np.concatenate([np.empty((0, len(self._weights))), *self._hops])
        if len(hops) < _HOPS_PER_GATE:
            return -math.inf
        sums = np.lib.stride_tricks.sliding_window_view(hops, _HOPS_PER_GATE, axis=0).sum(axis=-1)
        power = (sums / (_HOPS_PER_GATE * self._hop)) @ self._weights
        power = power[_lufs(power) > _ABSOLUTE_GATE_LUFS]
        if not power.size:
            return -math.inf
        gate = _lufs(power.mean(keepdims=True)) + _RELATIVE_GATE_LU
        return float(_lufs(power[_lufs(power) > gate].mean(keepdims=True))[0])


def _lufs(power: Floats) -> Floats:
    return _OFFSET + 10 * np.log10(np.maximum(power, 1e-30))


@lru_cache(maxsize=8)
def _k_weighting(sample_rate: int) -> Floats:
    """Impulse response of the shelf and the high pass in a row."""
    signal = np.zeros(max(2, round(_TAIL_S * sample_rate)))
    signal[0] = 1.0
    for numerator, denominator in (_shelf(sample_rate), _high_pass(sample_rate)):
        signal = _filtered(signal, numerator, denominator)
    return signal


def _shelf(sample_rate: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    gain, quality, frequency = 3.999843853973347, 0.7071752369554196, 1681.974450955533
    k = math.tan(math.pi * min(frequency / sample_rate, 0.499))
    high = 10 ** (gain / 20)
    band = high**0.4996667741545416
    a0 = 1 + k / quality + k * k
    b = ((high + band * k / quality + k * k) / a0, 2 * (k * k - high) / a0, (high - band * k / quality + k * k) / a0)
    return b, (2 * (k * k - 1) / a0, (1 - k / quality + k * k) / a0)


def _high_pass(sample_rate: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    quality, frequency = 0.5003270373238773, 38.13547087602444
    k = math.tan(math.pi * frequency / sample_rate)
    a0 = 1 + k / quality + k * k
    return (1.0, -2.0, 1.0), (2 * (k * k - 1) / a0, (1 - k / quality + k * k) / a0)


def _filtered(signal: Floats, numerator: tuple[float, ...], denominator: tuple[float, ...]) -> Floats:
    """A biquad by its recursion; slow, and done once a sample rate."""
    b0, b1, b2 = numerator
    a1, a2 = denominator
    out = np.empty_like(signal)
    x1 = x2 = y1 = y2 = 0.0
    for i, x in enumerate(signal.tolist()):
        y = b0 * x + b1 * x1 + b2 * x2 - a1 * y1 - a2 * y2
        x2, x1, y2, y1 = x1, x, y1, y
        out[i] = y
    return out
