"""The kernels agree with plain Python on any text."""

from __future__ import annotations

import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace_cleaning.near.minhash import NO_WORDS, band_keys
from millrace_cleaning.near.settings import NearDedupConfig
from millrace_cleaning.near.shingles import shingle_sets

MASK = 2**64 - 1
BASE = 0x9E3779B97F4A7C13
CONFIG = NearDedupConfig()
TEXTS = st.lists(st.none() | st.text(max_size=60) | st.lists(st.sampled_from([*"aAbéÜß7日ภๆ𝔘-’\0"])).map(" ".join))


def words_of(text: str) -> list[str]:
    """Runs of letters, marks and digits in lower case; each Han character and the like alone."""
    words = [""]
    for character in text:
        if unicodedata.category(character)[0] not in "LMN" or ord(character) >= 0x40000:
            words.append("")
        elif is_alone(character):
            words += [character, ""]
        else:
            words[-1] += character.lower()[0]
    return [word for word in words if word]


def is_alone(character: str) -> bool:
    code = ord(character)
    return (
        0xE00 <= code < 0xF00 or 0x1000 <= code < 0x10A0 or 0x1780 <= code < 0x1800 or 0x3040 <= code < 0x3100
        or 0x31F0 <= code < 0x3200 or 0x3400 <= code < 0x4DC0 or 0x4E00 <= code < 0xA000 or 0xF900 <= code < 0xFB00
        or 0x1B000 <= code < 0x1B170 or 0x20000 <= code < 0x40000
    )  # fmt: skip


def mix(value: int) -> int:
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


def hash_of(word: str) -> int:
    value = 0xCBF29CE484222325
    for character in word:
        code = ord(character) | (1 << 31 if is_alone(character) else 0)
        value = (value ^ code) * 0x100000001B3 & MASK
    return mix(value)


def shingles_of(text: str, width: int) -> set[int]:
    words = [hash_of(word) for word in words_of(text)]
    runs = [words[i : i + width] for i in range(max(len(words) - width + 1, 1))] if words else []
    found = set()
    for run in runs:
        value = 0
        for word in run:
            value = value * BASE + word & MASK
        found.add(mix(value) >> 32)
    return found


@settings(deadline=None)
@given(texts=TEXTS, width=st.integers(1, 6))
def test_shingle_sets_agree_with_plain_python(texts: list[str | None], width: int) -> None:
    found = shingle_sets(pa.array(texts, pa.string()), config=NearDedupConfig(words_per_shingle=width))
    assert [values.tolist() for values in found] == [sorted(shingles_of(text or "", width)) for text in texts]


@settings(deadline=None)
@given(texts=TEXTS, cut=st.integers(0, 5))
def test_band_keys_depend_on_the_text_alone(texts: list[str | None], cut: int) -> None:
    array = pa.array([*texts, "one two three"], pa.string())
    whole = band_keys(array, config=CONFIG)
    np.testing.assert_array_equal(whole[cut:], band_keys(array.slice(cut), config=CONFIG))
    np.testing.assert_array_equal(whole, band_keys(array.cast(pa.large_string()), config=CONFIG))


def test_texts_of_equal_shingles_have_equal_keys_and_those_without_words_none() -> None:
    keys = band_keys(pa.array(["A b, c", "a B c", "", None, "a c b"]), config=CONFIG)
    np.testing.assert_array_equal(keys[0], keys[1])
    assert (keys[0] != keys[4]).all()
    assert (keys[2:4] == NO_WORDS).all()
    assert (keys[[0, 1, 4]] != NO_WORDS).all()


def test_band_keys_stay_what_they_were() -> None:
    """Signatures of two runs can be compared, on any machine: a change of these numbers is a new format."""
    keys = band_keys(pa.array(["The quick brown fox jumps over the lazy dog"]), config=CONFIG)
    assert keys.shape == (1, 21)
    assert int(np.bitwise_xor.reduce(keys[0])) == 2326420387767697264


@pytest.mark.parametrize("similarity", [0.3, 0.6, 0.8, 0.9])
@pytest.mark.parametrize("num_words", [15, 60, 600])
def test_bands_collide_as_often_as_the_theory_says(similarity: float, num_words: int) -> None:
    """1 - (1 - s^rows)^bands, within four standard errors: the hashes of a text are as good as independent ones."""
    random = np.random.default_rng(0)
    bands, rows = CONFIG.bands
    config = NearDedupConfig(words_per_shingle=1)
    num_pairs = 1_500
    shared = round(2 * num_words * similarity / (1 + similarity))
    drawn = random.integers(10**9, size=(num_pairs, 2 * num_words - shared))
    texts = [" ".join(map(str, row)) for row in (*drawn[:, :num_words], *drawn[:, num_words - shared :])]
    keys = band_keys(pa.array(texts), config=config)
    exact = shared / (2 * num_words - shared)
    per_band = (keys[:num_pairs] == keys[num_pairs:]).mean()
    expected = exact**rows
    assert abs(per_band - expected) <= 4 * np.sqrt(expected * (1 - expected) / (num_pairs * bands))
    found = (keys[:num_pairs] == keys[num_pairs:]).any(axis=1).mean()
    expected = 1 - (1 - expected) ** bands
    assert abs(found - expected) <= 4 * np.sqrt(expected * (1 - expected) / num_pairs)
