"""What counting and compressing reach on the same tail: an interpolated Kneser-Ney 5-gram, and xz primed with the text before."""

from __future__ import annotations

import lzma
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from examples.comparing import MODEL, Comparison, read_split

ORDER = 5
_UNSEEN_BITS = math.log2(0x110000)  # to name a character that training never had
_XZ = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]


def compare(dataset: Path, predictions: Path) -> Comparison:
    """Return bits per character on the test split.

    The baselines need no validation split, so they read it with the train split: everything before the tail.

    Args:
        dataset: Directory of the run's data set artifact.
        predictions: The report's `predictions.parquet`.
    """
    before = [text for name in ("train", "validation") for text in read_split(dataset, name)["text"].to_pylist()]
    tail = read_split(dataset, "test")
    texts = tail["text"].to_pylist()
    counts = KneserNey(before, order=ORDER)
    bits = {
        MODEL: _bits_of(predictions, tail["row_id"].to_pylist()),
        f"kneser_ney_{ORDER}gram": [counts.bits(text) for text in texts],
        "primed_xz": _primed_xz_bits("".join(before), texts),
    }
    return Comparison(
        metric="bits_per_character",
        goal="low",
        row_ids=tail["row_id"].to_pylist(),
        sizes=np.array([len(text) for text in texts], dtype=np.float64),
        points={method: np.array(given, dtype=np.float64) for method, given in bits.items()},
    )


class KneserNey:
    """Interpolated Kneser-Ney over characters, one discount an order (Chen and Goodman 1999, equations 14 and 27)."""

    def __init__(self, texts: list[str], *, order: int) -> None:
        self.order = order
        self.num_symbols = len(set("".join(texts))) + 1  # and one for all that were not seen
        self._known = set("".join(texts))
        counts = Counter(t[i : i + order] for t in texts for i in range(len(t) - order + 1))
        self._grams: list[Counter[str]] = [counts]
        for _ in range(order - 1):  # lower orders count in how many contexts a gram stands, not how often
            counts = Counter(gram[1:] for gram in counts)
            self._grams.insert(0, counts)
        self._totals: list[Counter[str]] = []
        self._followers: list[Counter[str]] = []
        self._discounts: list[float] = []
        for grams in self._grams:
            totals: Counter[str] = Counter()
            for gram, count in grams.items():
                totals[gram[:-1]] += count
            self._totals.append(totals)
            self._followers.append(Counter(gram[:-1] for gram in grams))
            ones, twos = (sum(1 for c in grams.values() if c == n) for n in (1, 2))
            self._discounts.append(ones / (ones + 2 * twos) if ones else 0.5)

    def bits(self, text: str) -> float:
        """Bits to encode a text, each character given the order - 1 before it."""
        total = 0.0
        for i, character in enumerate(text):
            total -= math.log2(self.probability(text[max(0, i - self.order + 1) : i], character))
            total += 0.0 if character in self._known else _UNSEEN_BITS
        return total

    def probability(self, context: str, character: str) -> float:
        """Of a character after a context of at most order - 1 characters; sums to 1 over all symbols."""
        probability = 1 / self.num_symbols
        for length in range(len(context) + 1):
            history = context[len(context) - length :]
            total = self._totals[length][history]
            if not total:
                break
            discount = self._discounts[length]
            kept = max(self._grams[length][history + character] - discount, 0.0)
            probability = (kept + discount * self._followers[length][history] * probability) / total
        return probability


def _primed_xz_bits(before: str, texts: list[str]) -> list[int]:
    """Bits that each text adds to what xz needs for all that stands before it."""
    read = before
    sizes = [_xz_bytes(read)]
    for text in texts:
        read += text
        sizes.append(_xz_bytes(read))
    return [8 * (size - last) for last, size in pairwise(sizes)]


def _xz_bytes(text: str) -> int:
    return len(lzma.compress(text.encode(), format=lzma.FORMAT_RAW, filters=_XZ))


def _bits_of(predictions: Path, row_ids: list[str]) -> list[float]:
    """What the model needed for each text: the sum over its windows."""
    table = pq.read_table(predictions, columns=["row_id", "bits"])
    totals: Counter[str] = Counter()
    for row_id, bits in zip(table["row_id"].to_pylist(), table["bits"].to_pylist(), strict=True):
        totals[row_id] += bits
    return [totals[row_id] for row_id in row_ids]
