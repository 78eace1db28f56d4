"""What counting and compressing reach on the same tail: an interpolated Kneser-Ney 5-gram, and xz primed with the text before."""

from __future__ import annotations

import lzma
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

ORDER = 5
_UNSEEN_BITS = math.log2(0x110000)  # to name a character that training never had
_XZ = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]


def baseline(dataset: Path, predictions: Path | None = None) -> dict[str, Any]:
    """Return bits per character on the test split, of each baseline and of the model.

    The baselines need no validation split, so they read it with the train split: everything before the tail.

    Args:
        dataset: Directory of the run's data set artifact.
        predictions: The report's `predictions.parquet`; None leaves the model out.
    """
    before = [*_texts(dataset, "train"), *_texts(dataset, "validation")]
    tail = _texts(dataset, "test")
    num_characters = sum(map(len, tail))
    counts = KneserNey(before, order=ORDER)
    result: dict[str, Any] = {
        "characters": num_characters,
        "baselines": {
            f"kneser_ney_{ORDER}gram": {"bits_per_character": sum(map(counts.bits, tail)) / num_characters},
            "primed_xz": {"bits_per_character": _primed_xz_bits("".join(before), "".join(tail)) / num_characters},
        },
    }
    if predictions is not None:
        rows = pq.read_table(predictions, columns=["characters", "bits"])
        bits, characters = (sum(rows[name].to_pylist()) for name in ("bits", "characters"))
        result["model"] = {"bits_per_character": bits / characters}
    return result


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


def _primed_xz_bits(before: str, tail: str) -> int:
    """Bits that the tail adds to what xz needs for the text before it."""
    sizes = [len(lzma.compress(text.encode(), format=lzma.FORMAT_RAW, filters=_XZ)) for text in (before, before + tail)]
    return 8 * (sizes[1] - sizes[0])


def _texts(dataset: Path, split: str) -> list[str]:
    paths = sorted(dataset.glob(f"data/{split}-*.parquet"))
    return [text for path in paths for text in pq.read_table(path, columns=["text"])["text"].to_pylist()]
